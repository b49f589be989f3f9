"""What this runner makes of failures before the study's first success."""

from __future__ import annotations

from collections.abc import Collection

from studyflow.study import Study, TrialIndex, Verdict
from studyflow.study.first_failures import decisive, is_free, seconds_to_outlast, why_stopped
from studyflow.trial import Consequence
from studyflow.trial.record import TrialState
from studyflow.tuner.progress import TunerResult


class FirstFailures:
    """The failures of this run, as long as no trial has succeeded.

    Those of earlier runs do not count: the script may be fixed since.

    Args:
        study: The study, before this run has done anything.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._before = frozenset(r.number for r in study.records() if r.is_first_failure)

    def ending(self, trials: TrialIndex, barred_nodes: Collection[str]) -> TunerResult | None:
        """Return the end of a study whose script does not work; `None` to go on.

        Args:
            trials: The study's trials.
            barred_nodes: Nodes where no further trial goes: failing there says nothing of others.
        """
        failed = trials.first_failures(self._before)
        elsewhere = [record for record in failed if record.node not in barred_nodes]
        alike = decisive(elsewhere, self._study.spec)
        if not alike:
            return None
        return TunerResult(why_stopped(alike), is_finished=True, is_failure=True)

    def is_free(self, verdict: Verdict) -> bool:
        """Return whether a trial that ends so costs no budget."""
        trials = self._study.known_trials()
        return (
            verdict.state is TrialState.FAILED
            and verdict.cause.consequence is Consequence.FAIL
            and not trials.has_success
            and is_free(trials.first_failures(self._before), self._study.spec)
        )

    def seconds_to_outlast(self, trials: TrialIndex) -> float | None:
        """Return how long a script must run before others start beside it; `None` if they may."""
        failed = trials.first_failures(self._before)
        return seconds_to_outlast(failed) if failed else None

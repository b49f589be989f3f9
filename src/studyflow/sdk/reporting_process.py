"""Which of a trial's processes reports: the first of its tree, of rank 0."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from studyflow.sdk.console import print_error
from studyflow.sdk.outcome_file import Keep, OutcomeFile
from studyflow.trial import Cause, Outcome, Trial
from studyflow.trial.launchers import read_rank

_FORKED: Final = (
    "This process was forked from the one that first called studyflow.sdk, and only that one "
    "reports."
)


class ReportingProcess:
    """Whether this process reports. Made in the first one; those forked from it have a copy.

    Args:
        trial: The attempt; `None` outside a study.
        environment: Variables of the process, which tell its rank.
    """

    def __init__(self, trial: Trial | None, environment: Mapping[str, str]) -> None:
        self._trial = trial
        self._environment = environment
        self._pid = os.getpid()
        self._has_reported = False
        self._has_told_rank = False
        self._told_forked_in = 0
        """The forked process that has said that it is one."""

    @property
    def is_first(self) -> bool:
        """Whether this is the process that made this object, and none forked from it."""
        return os.getpid() == self._pid

    @property
    def reports(self) -> bool:
        """Whether this process is the one that reports.

        One that has reported goes on to: ranks that it sets afterwards are for others.
        """
        if not self.is_first:
            return False
        rank = read_rank(self._environment)
        return self._has_reported or rank is None or rank.number == 0

    def note_report(self) -> None:
        """Note that this process has reported."""
        self._has_reported = True

    def reports_or_says_why_not(self, result_of: str = "") -> bool:
        """Return `reports`; a process that does not report says why, once.

        Args:
            result_of: Name of the function that was called with what the study waits for; empty for
                another call. The trial then fails, unless the first process has given a result.
        """
        if self.reports:
            return True
        rank = read_rank(self._environment)
        if not self.is_first and (rank is None or rank.number == 0):
            self._say_forked(result_of)
        elif rank is not None and not self._has_told_rank and self.is_first:
            self._has_told_rank = True
            print_error(f"{rank.silence()}\n")
        return False

    def _say_forked(self, result_of: str) -> None:
        """Say that nothing comes of this call; else an earlier report would count as the result."""
        if self._told_forked_in != os.getpid():
            self._told_forked_in = os.getpid()
            print_error(f"studyflow: {_FORKED} Nothing reaches the study from here.\n")
        trial = self._trial
        if trial is None or trial.outcome_path is None or not result_of:
            return
        outcome = Outcome(
            trial.study,
            trial.number,
            trial.attempt,
            Cause.USER_ERROR,
            message=f"{result_of}() was called in another process than the first. {_FORKED}",
            hint="call sdk.finish(...) in the first process; or start the other one by spawn "
            "instead of fork.",
        )
        with contextlib.suppress(OSError):
            OutcomeFile(Path(trial.outcome_path), trial).write(
                outcome.to_json(trial.key).encode(), Keep.ANYTHING
            )

"""Decides when a study has seen enough: a target, no improvement, or failures that are alike.

The rules are kept up to date trial by trial, so that each turn of a runner costs what has changed.
"""

from __future__ import annotations

import bisect
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from studyflow.reasons import Code, Reason
from studyflow.spec import StudySpec
from studyflow.study.budget import by_end, has_its_trials, is_counted, n_trials_to_finish
from studyflow.study.ending import has_failed, numbers_text
from studyflow.study.front import Front
from studyflow.trial import Cause
from studyflow.trial.record import TrialRecord, TrialState

RATE_WINDOW: Final = 6
"""Of so many times `stop.alike_failures` latest trials, half failing alike ends the study, too. A
study whose failures are rarer than every fourth trial is ended by it no more often than by failures
in a row; with every second one failing, in whatever order, it is as good as certain."""

RECENT_WINDOW: Final = 2
"""The same must hold for so many times `stop.alike_failures` latest trials: what failed for a while
and works again goes on."""


@dataclass(frozen=True, slots=True)
class StopReason:
    """Why a study ends before its budget is spent."""

    reason: Reason

    @property
    def message(self) -> str:
        """The reason in words, with its hint."""
        return str(self.reason)

    @property
    def is_failure(self) -> bool:
        """Whether the study ends because its trials cannot work."""
        return self.reason.code is Code.FAILED_ALIKE


class StopRules:
    """What the stop rules say of the trials added so far.

    Args:
        spec: The study.
    """

    def __init__(self, spec: StudySpec) -> None:
        self._spec = spec
        self._finished: list[TrialRecord] = []
        """By when they ended."""
        self._front = Front(spec.directions)
        self._n_at_improvement = 0
        """How many trials were finished when the last one was an improvement."""
        self._at_target: TrialRecord | None = None
        """The first trial that reached the target."""

    def add(self, record: TrialRecord) -> None:
        """Take in a finished trial that counts towards the budget.

        Cheap in the order in which trials end; a trial that ended earlier than the newest has all
        of them gone through once more.
        """
        if not self._finished or by_end(self._finished[-1]) <= by_end(record):
            self._finished.append(record)
            self._take(record, len(self._finished))
            return
        bisect.insort(self._finished, record, key=by_end)
        self._front, self._n_at_improvement = Front(self._spec.directions), 0
        self._at_target = None
        for position, known in enumerate(self._finished, start=1):
            self._take(known, position)

    def _take(self, record: TrialRecord, position: int) -> None:
        if self._front.add(record):
            self._n_at_improvement = position
        if self._at_target is None and self._reaches_target(record):
            self._at_target = record

    def _reaches_target(self, record: TrialRecord) -> bool:
        target = self._spec.stop.target
        if target is None or not record.is_feasible or not record.values:
            return False
        sign = 1.0 if self._spec.directions[0] == "minimize" else -1.0
        return sign * record.values[0] <= sign * target

    def reason(
        self, finished_before: Collection[int] = (), barred_nodes: Collection[str] = ()
    ) -> StopReason | None:
        """Return why no further trial should be started, or `None` to go on.

        Args:
            finished_before: Those of the trials that were finished when this runner began. Their
                failures have stopped the last one; now the script may be fixed.
            barred_nodes: Nodes where no further trial goes: failing alike there says nothing of
                what follows.
        """
        return (
            self._target_reached()
            or self._no_improvement()
            or self._alike_in_a_row(finished_before, barred_nodes)
            or self._alike_in_half(finished_before, barred_nodes)
        )

    def _target_reached(self) -> StopReason | None:
        record, target = self._at_target, self._spec.stop.target
        if record is None or record.values is None or target is None:
            return None
        message = (
            f"Target {target:g} reached: trial {record.number} has "
            f"{self._spec.objectives[0].metric}={record.values[0]:g}."
        )
        return StopReason(Reason(Code.TARGET_REACHED, message))

    def _no_improvement(self) -> StopReason | None:
        patience = self._spec.stop.no_improvement_trials
        if patience is None or not self._front:
            return None
        if len(self._finished) - self._n_at_improvement < patience:
            return None
        message = f"No improvement in the last {patience} finished trials."
        return StopReason(Reason(Code.NO_IMPROVEMENT, message))

    def _alike_in_a_row(
        self, finished_before: Collection[int], barred_nodes: Collection[str]
    ) -> StopReason | None:
        latest = self._latest(self._spec.stop.alike_failures, finished_before)
        if latest is None:
            return None
        if not all(map(has_failed, latest)):
            return None
        if len({failure_signature(record) for record in latest}) > 1:
            return None
        if all(record.node in barred_nodes for record in latest):
            return None
        which = self._failing_with(latest[-1], finished_before)
        broken = "the script or its environment is broken, whatever the parameters; fix it and"
        return self._failed_alike(f"Trials {numbers_text(which)}", latest[-1], broken)

    def _alike_in_half(
        self, finished_before: Collection[int], barred_nodes: Collection[str]
    ) -> StopReason | None:
        """Return that half of the latest trials failed alike, if others succeeded between them.

        What is infeasible counts as a trial that did not: the sampler learns from it.
        """
        limit = self._spec.stop.alike_failures
        latest = self._latest(RATE_WINDOW * limit, finished_before)
        if latest is None:
            return None
        groups: dict[str, list[TrialRecord]] = {}
        for record in latest:
            if has_failed(record) and record.node not in barred_nodes:
                groups.setdefault(failure_signature(record), []).append(record)
        alike = max(groups.values(), key=len, default=[])
        if 2 * len(alike) < len(latest):
            return None
        recent = {record.number for record in latest[-RECENT_WINDOW * limit :]}
        if 2 * sum(record.number in recent for record in alike) < len(recent):
            return None
        numbers = numbers_text(record.number for record in alike)
        which = f"{len(alike)} of the last {len(latest)} trials ({numbers})"
        fix = (
            "fix the script or its environment, or leave out of the search space what it fails "
            "with, and"
        )
        return self._failed_alike(which, alike[-1], fix)

    def _failed_alike(self, which: str, last: TrialRecord, remedy: str) -> StopReason:
        again = _again(self._spec, len(self._finished))
        hint = f"{last.hint} Then {again}." if last.hint else f"{remedy} {again}."
        message = f"{which} failed alike ({last.cause}): {last.message}"
        return StopReason(Reason(Code.FAILED_ALIKE, message, hint))

    def _failing_with(self, last: TrialRecord, finished_before: Collection[int]) -> list[int]:
        """Return the numbers of all trials in a row that failed like the last one."""
        numbers: list[int] = []
        for record in reversed(self._finished):
            if record.number in finished_before:
                continue
            is_alike = failure_signature(record) == failure_signature(last)
            if not (has_failed(record) and is_alike):
                break
            numbers.append(record.number)
        return numbers

    def _latest(self, n: int, finished_before: Collection[int]) -> list[TrialRecord] | None:
        """Return the latest trials but those finished before; `None` if there are fewer."""
        if len(self._finished) - len(finished_before) < n:
            return None
        latest: list[TrialRecord] = []
        for record in reversed(self._finished):
            if len(latest) == n:
                break
            if record.number not in finished_before:
                latest.append(record)
        return latest[::-1] if len(latest) == n else None


def stop_reason(
    spec: StudySpec,
    records: Iterable[TrialRecord],
    finished_before: Collection[int] = (),
    barred_nodes: Collection[str] = (),
) -> StopReason | None:
    """Return why no further trial of a study should be started, or `None` to go on.

    Args:
        spec: The study.
        records: Its trials in any order and state.
        finished_before: See `StopRules.reason`.
        barred_nodes: See `StopRules.reason`.
    """
    rules = StopRules(spec)
    for record in sorted(filter(is_counted, records), key=by_end):
        rules.add(record)
    return rules.reason(finished_before, barred_nodes)


def needs_no_runner(spec: StudySpec, records: Sequence[TrialRecord]) -> bool:
    """Return whether a study has come to its end: it has its trials, or a stop rule holds."""
    is_spent = has_its_trials(n_trials_to_finish(spec), sum(map(is_counted, records)))
    return is_spent or stop_reason(spec, records) is not None


def why_fruitless(
    spec: StudySpec, records: Sequence[TrialRecord], *, time_is_up: bool = False
) -> Reason:
    """Return why a study whose budget is spent has no feasible trial.

    Args:
        spec: The study.
        records: Its trials in any order and state.
        time_is_up: Whether the budget is the time's, not that of trials.
    """
    finished = [record for record in records if is_counted(record)]
    if not finished:
        return Reason(
            Code.TIME_SPENT,
            f"{describe_time_limit(spec)} before any trial was finished.",
            "raise it, or run the study again.",
        )
    kinds = Counter(_ending(record) for record in finished)
    ending, n = kinds.most_common(1)[0]
    example = next(r for r in finished if _ending(r) == ending)
    if example.cause is not None and example.cause.is_infrastructure:
        hint = "fix the place where trials run."
    elif example.cause is Cause.PRUNED:
        hint = "is the pruner too strict, or its warm-up too short?"
    elif example.state is TrialState.COMPLETE:
        hint = "are the constraints' bounds too tight?"
    else:
        hint = "fix the script or the search space."
    message = f": {example.message.rstrip('.')}" if example.message else ""
    ended = (
        f"{describe_time_limit(spec)} and none of {len(finished)} finished trials"
        if time_is_up
        else f"All {len(finished)} trials are finished and none"
    )
    return Reason(
        Code.NOTHING_FEASIBLE,
        f"{ended} gave a feasible value; {n} of them ended as {ending}{message}.",
        f"{example.hint or hint} Then {_again(spec, len(finished))}.",
    )


def describe_time_limit(spec: StudySpec) -> str:
    """Return that a study's time is up, without a full stop."""
    return f"The time budget of {spec.budget.timeout_seconds:g} s is spent (budget.timeout_seconds)"


def _ending(record: TrialRecord) -> str:
    """Return in one word how a trial without a feasible value ended."""
    if record.state is TrialState.COMPLETE:
        return "infeasible"
    return str(record.cause or record.state.value)


def _again(spec: StudySpec, n_finished: int) -> str:
    """Return how a study goes on: failed trials have used up budget too."""
    wanted, budget = n_trials_to_finish(spec), spec.budget.n_trials
    if not has_its_trials(wanted, n_finished):
        return "run the study again"
    if budget is None or wanted != budget:  # a grid has no further points
        return "run the study under another name"
    return f"run the study with --n-trials {n_finished + budget}"


def failure_signature(record: TrialRecord) -> str:
    """Return what failures of one kind have in common: cause and message without its numbers.

    A script's own words are all that tells one of its errors from another.
    """
    return f"{record.cause}: {re.sub(r'[0-9][0-9.e+-]*', '#', record.message)}"

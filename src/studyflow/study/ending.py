"""What a study whose budget is spent has come to, in one sentence. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

from studyflow.reasons import Code, Reason
from studyflow.spec import StudySpec
from studyflow.study.budget import by_end, is_counted
from studyflow.trial import Consequence
from studyflow.trial.record import TrialRecord, TrialState

LATEST_WINDOW: Final = 2
"""Of so many times `stop.alike_failures` latest trials, more than half failing leaves the study
with a result and a script that does not work: what failed early and was fixed is forgiven."""

MAX_LISTED: Final = 10
"""Most trials that are named one by one; of more, numbers in a row are joined."""


def describe_finished(spec: StudySpec, records: Iterable[TrialRecord]) -> Reason:
    """Return that a study's budget is spent, how its trials ended, and where to look if any failed.

    Its code is `Code.MOSTLY_FAILED` when more than half of the latest trials failed by their script
    or its environment, and `Code.BUDGET_SPENT` otherwise.

    Args:
        spec: The study.
        records: Its trials in any order and state.
    """
    records = tuple(records)
    counted = sorted(filter(is_counted, records), key=by_end)
    n_taken = sum(record.is_taken_over for record in records)
    new, taken = (" new", f" ({n_taken} were taken over)") if n_taken else ("", "")
    whole = f"All {len(counted)}{new} trials are finished{taken}"
    failed = [record for record in counted if record.state is TrialState.FAILED]
    if not failed:
        return Reason(Code.BUDGET_SPENT, f"{whole}.")
    broken = [record for record in failed if has_failed(record)]
    shown = (broken or failed)[-1]
    hint = f"studyflow logs {spec.name} {shown.number} prints the log of the last one."
    return Reason(
        Code.MOSTLY_FAILED if is_mostly_failed(spec, counted) else Code.BUDGET_SPENT,
        f"{whole}: {_counts(counted)} ({_why(failed, shown)}).",
        hint,
    )


def is_mostly_failed(spec: StudySpec, by_end: Sequence[TrialRecord]) -> bool:
    """Return whether more than half of the latest trials failed by their script.

    Args:
        spec: The study.
        by_end: Its finished trials that count, by when they ended.
    """
    latest = by_end[-LATEST_WINDOW * spec.stop.alike_failures :]
    return 2 * sum(map(has_failed, latest)) > len(latest)


def has_failed(record: TrialRecord) -> bool:
    """Return whether script or environment is to blame for a trial's end."""
    return record.cause is not None and record.cause.consequence is Consequence.FAIL


def numbers_text(numbers: Iterable[int]) -> str:
    """Return trial numbers as a sentence names them: all, and many as `0 to 8, 11`."""
    ordered = sorted(numbers)
    if len(ordered) <= MAX_LISTED:
        return ", ".join(map(str, ordered))
    runs: list[list[int]] = [[ordered[0]]]
    for before, number in pairwise(ordered):
        if number == before + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(
        f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs
    )


def _counts(finished: Sequence[TrialRecord]) -> str:
    states = Counter(record.state for record in finished)
    order = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED)
    return ", ".join(f"{states[state]} {state.value}" for state in order if states[state])


def _why(failed: Sequence[TrialRecord], shown: TrialRecord) -> str:
    """Return the causes of failed trials, the most frequent first, and one message."""
    causes = Counter(record.cause for record in failed if record.cause is not None)
    message = shown.message.rstrip(".")
    if len(causes) == 1:
        return f"{shown.cause}: {message}" if message else f"{shown.cause}"
    listed = ", ".join(f"{n} {cause}" for cause, n in causes.most_common())
    return f"{listed}; trial {shown.number}: {message}" if message else listed

"""Decides what an attempt's outcome means for its trial, and when a study has seen enough. Pure."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from studyflow.reasons import Code, Reason
from studyflow.spec import StudySpec
from studyflow.trial import Cause, Consequence, Outcome, code_of
from studyflow.trial.record import TrialRecord, TrialState


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a trial."""

    cause: Cause
    state: TrialState | None
    """The final state; `None` when the same trial is attempted again."""
    message: str = ""
    values: tuple[float, ...] | None = None
    """One value per objective when the state is complete."""
    constraints: Mapping[str, float] = field(default_factory=dict)
    """Violation of each bound; at most 0 is feasible."""
    hint: str | None = None
    """The way out; `None` when there is nothing to do."""
    code: Code | None = None
    """The cause more exactly, if it is known."""

    @classmethod
    def because(cls, cause: Cause, state: TrialState | None, reason: Reason) -> Verdict:
        """Return the verdict that carries a reason."""
        return cls(cause, state, reason.message, hint=reason.hint, code=reason.code)

    @property
    def reason(self) -> Reason:
        """Why: code, message and way out."""
        return Reason(self.code or code_of(self.cause), self.message, self.hint)


def judge(spec: StudySpec, outcome: Outcome, n_waits: int = 0) -> Verdict:
    """Return what an ended attempt means for its trial.

    A trial counts as complete only with a finite value for every objective and every constraint;
    NaN and infinities make it infeasible, so no model ever sees them as values.

    Args:
        spec: The study.
        outcome: How the attempt ended.
        n_waits: Attempts of the trial that found no place, this one too: nothing of them ran, so
            they are none of `retry.max_attempts`.
    """
    n_attempts = outcome.attempt - n_waits
    match outcome.cause.consequence:
        case Consequence.TELL if outcome.cause is Cause.PRUNED:
            return Verdict.because(Cause.PRUNED, TrialState.PRUNED, outcome.reason)
        case Consequence.TELL:
            return _judge_metrics(spec, outcome)
        case Consequence.RETRY | Consequence.WAIT if n_attempts < spec.retry.max_attempts:
            return Verdict.because(outcome.cause, None, outcome.reason)
        case Consequence.RETRY | Consequence.WAIT:
            return Verdict(
                outcome.cause,
                TrialState.FAILED,
                f"Given up after {n_attempts} attempts (retry.max_attempts); "
                f"the last one: {outcome.message or outcome.cause}",
                hint=outcome.hint,
                code=Code.ATTEMPTS_SPENT,
            )
        case _:
            return Verdict.because(outcome.cause, TrialState.FAILED, outcome.reason)


def _judge_metrics(spec: StudySpec, outcome: Outcome) -> Verdict:
    missing = [name for name in spec.metrics if name not in outcome.metrics]
    if missing:
        given = ", ".join(sorted(outcome.metrics)) or "none"
        return Verdict(
            Cause.BAD_METRIC,
            TrialState.FAILED,
            f"Trial {outcome.number} ended without {', '.join(missing)} (it gave: {given}).",
            hint=f"call sdk.finish({', '.join(f'{name}=...' for name in missing)}).",
            code=Code.METRIC_MISSING,
        )
    broken = [n for n in spec.metrics if not math.isfinite(outcome.metrics[n])]
    if broken:
        shown = ", ".join(f"{name}={outcome.metrics[name]:g}" for name in broken)
        return Verdict(Cause.NAN, TrialState.FAILED, f"The training diverged: {shown}.")
    constraints: dict[str, float] = {}
    for constraint in spec.constraints:
        constraints |= constraint.violations(outcome.metrics[constraint.metric])
    return Verdict(
        Cause.OK,
        TrialState.COMPLETE,
        outcome.message,
        hint=outcome.hint,
        values=tuple(outcome.metrics[objective.metric] for objective in spec.objectives),
        constraints=constraints,
    )


def is_counted(record: TrialRecord) -> bool:
    """Whether a trial is finished and uses up one of `budget.n_trials`.

    Cancelled trials and those taken over from another study do not.
    """
    return (
        record.state.is_finished
        and record.cause is not Cause.CANCELLED
        and not record.is_taken_over
    )


def n_trials_to_finish(spec: StudySpec) -> int:
    """Return how many trials end a study: the budget, or a grid's size if that is less."""
    budget = spec.budget.n_trials
    if spec.sampler.type != "grid":
        return budget
    return min(budget, spec.space.cardinality or budget)


@dataclass(frozen=True, slots=True)
class StopReason:
    """Why a study ends before its budget is spent."""

    reason: Reason

    @property
    def message(self) -> str:
        """The reason in words, with the way out."""
        return str(self.reason)

    @property
    def is_failure(self) -> bool:
        """Whether the study ends because its trials cannot work."""
        return self.reason.code is Code.FAILED_ALIKE


def stop_reason(
    spec: StudySpec,
    records: Sequence[TrialRecord],
    finished_before: Collection[int] = (),
    barred_nodes: Collection[str] = (),
) -> StopReason | None:
    """Return why no further trial should be started, or `None` to go on.

    Args:
        spec: The study.
        records: Its trials in any order and state.
        finished_before: Trials that were finished when this runner began. Their failures have
            stopped the last one; now the script may be mended.
        barred_nodes: Nodes where no further trial goes: failing alike there says nothing of what
            follows.
    """
    finished = sorted(
        (record for record in records if is_counted(record)),
        key=lambda record: (record.finished_at or 0.0, record.number),
    )
    return (
        _target_reached(spec, finished)
        or _no_improvement(spec, finished)
        or _alike_failures(
            spec,
            [r for r in finished if r.number not in finished_before],
            again=_again(spec, len(finished)),
            barred_nodes=barred_nodes,
        )
    )


def needs_no_runner(spec: StudySpec, records: Sequence[TrialRecord]) -> bool:
    """Return whether a study has come to its end: its budget is spent, or a stop rule holds."""
    is_spent = sum(map(is_counted, records)) >= n_trials_to_finish(spec)
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
        hint = "mend the place where trials run."
    elif example.cause is Cause.PRUNED:
        hint = "is the pruner too strict, or its warm-up too short?"
    elif example.state is TrialState.COMPLETE:
        hint = "are the constraints' bounds too tight?"
    else:
        hint = "mend the script or the search space."
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
    if n_finished < n_trials_to_finish(spec):
        return "run the study again"
    if n_trials_to_finish(spec) < spec.budget.n_trials:  # a grid has no further points
        return "run the study under another name"
    return f"run the study with --n-trials {n_finished + spec.budget.n_trials}"


def _target_reached(spec: StudySpec, finished: Sequence[TrialRecord]) -> StopReason | None:
    target = spec.stop.target
    if target is None:
        return None
    sign = 1.0 if spec.directions[0] == "minimize" else -1.0
    for record in finished:
        if record.is_feasible and record.values and sign * record.values[0] <= sign * target:
            message = (
                f"Target {target:g} reached: trial {record.number} has "
                f"{spec.objectives[0].metric}={record.values[0]:g}."
            )
            return StopReason(Reason(Code.TARGET_REACHED, message))
    return None


def _no_improvement(spec: StudySpec, finished: Sequence[TrialRecord]) -> StopReason | None:
    patience = spec.stop.no_improvement_trials
    if patience is None:
        return None
    signs = [1.0 if direction == "minimize" else -1.0 for direction in spec.directions]
    front: list[tuple[float, ...]] = []
    last_improvement = 0
    for position, record in enumerate(finished, start=1):
        if not record.is_feasible or record.values is None:
            continue
        cost = tuple(s * v for s, v in zip(signs, record.values, strict=True))
        if not any(all(o <= c for o, c in zip(other, cost, strict=True)) for other in front):
            front.append(cost)
            last_improvement = position
    if len(finished) - last_improvement < patience or not front:
        return None
    message = f"No improvement in the last {patience} finished trials."
    return StopReason(Reason(Code.NO_IMPROVEMENT, message))


def _alike_failures(
    spec: StudySpec,
    finished: Sequence[TrialRecord],
    *,
    again: str,
    barred_nodes: Collection[str],
) -> StopReason | None:
    latest = finished[-spec.stop.alike_failures :]
    if len(latest) < spec.stop.alike_failures:
        return None
    if any(r.cause is None or r.cause.consequence is not Consequence.FAIL for r in latest):
        return None
    if len({failure_signature(record) for record in latest}) > 1:
        return None
    if all(record.node in barred_nodes for record in latest):
        return None
    numbers = ", ".join(str(record.number) for record in latest)
    last = latest[-1]
    hint = (
        f"{last.hint} Then {again}."
        if last.hint
        else "the script or its environment is broken, whatever the parameters; mend it and "
        f"{again}."
    )
    message = f"Trials {numbers} failed alike ({last.cause}): {last.message}"
    return StopReason(Reason(Code.FAILED_ALIKE, message, hint))


def failure_signature(record: TrialRecord) -> str:
    """Return what failures of one kind have in common: cause and message without its numbers.

    A script's own words are all that tells one of its errors from another.
    """
    return f"{record.cause}: {re.sub(r'[0-9][0-9.e+-]*', '#', record.message)}"

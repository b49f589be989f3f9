"""Decides what an attempt's outcome means for its trial. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from studyflow.reasons import Code, Reason, ReasonCode
from studyflow.spec import StudySpec
from studyflow.spec.problems import suggest_name
from studyflow.study.attempt_count import AttemptCount
from studyflow.trial import Cause, Consequence, Outcome, code_of
from studyflow.trial.record import TrialState


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a trial."""

    cause: Cause
    state: TrialState | None
    """The final state; `None` when the same trial is attempted again, or paused."""
    message: str = ""
    values: tuple[float, ...] | None = None
    """One value per objective when the state is complete."""
    constraints: Mapping[str, float] = field(default_factory=dict)
    """Violation of each bound; at most 0 is feasible."""
    hint: str | None = None
    """The way out; `None` when there is nothing to do."""
    code: ReasonCode | None = None
    """The cause more exactly, if it is known."""
    is_first_failure: bool = False
    """Whether it fails before any trial has succeeded, and costs no budget."""

    @classmethod
    def because(cls, cause: Cause, state: TrialState | None, reason: Reason) -> Verdict:
        """Return the verdict that carries a reason."""
        return cls(cause, state, reason.message, hint=reason.hint, code=reason.code)

    @property
    def reason(self) -> Reason:
        """Why: code, message and way out."""
        return Reason(self.code or code_of(self.cause), self.message, self.hint)


def judge(spec: StudySpec, outcome: Outcome, count: AttemptCount | None = None) -> Verdict:
    """Return what an ended attempt means for its trial.

    A trial counts as complete only with a finite value for every objective and every constraint;
    NaN and infinities make it infeasible, so no model ever sees them as values.

    Args:
        spec: The study.
        outcome: How the attempt ended.
        count: What counts of its attempts towards `retry.max_attempts`, this one included; all of
            them by default.
    """
    count = count or AttemptCount(outcome.attempt)
    match outcome.cause.consequence:
        case Consequence.TELL if outcome.cause is Cause.PRUNED:
            return Verdict.because(Cause.PRUNED, TrialState.PRUNED, outcome.reason)
        case Consequence.TELL:
            return _judge_metrics(spec, outcome)
        case Consequence.PAUSE:
            return Verdict.because(outcome.cause, None, outcome.reason)
        case Consequence.RETRY | Consequence.WAIT if count.n < spec.retry.max_attempts:
            return Verdict.because(outcome.cause, None, outcome.reason)
        case Consequence.RETRY | Consequence.WAIT:
            return Verdict(
                outcome.cause,
                TrialState.FAILED,
                f"Given up after {count.n} attempts (retry.max_attempts){_counted_from(count)}; "
                f"the last one: {outcome.message or outcome.cause}",
                hint=outcome.hint,
                code=Code.ATTEMPTS_SPENT,
            )
        case _:
            return Verdict.because(outcome.cause, TrialState.FAILED, outcome.reason)


def _counted_from(count: AttemptCount) -> str:
    if count.step is None:
        return ""
    return f" since attempt {count.since}, which had brought it to step {count.step}"


def _judge_metrics(spec: StudySpec, outcome: Outcome) -> Verdict:
    missing = [name for name in spec.metrics if name not in outcome.metrics]
    if missing:
        given = ", ".join(sorted(outcome.metrics)) or "none"
        close = suggest_name(missing[0], outcome.metrics)
        same = "the study file and the script must use the same name"
        call = f"call sdk.finish({', '.join(f'{name}=...' for name in missing)})."
        return Verdict(
            Cause.BAD_METRIC,
            TrialState.FAILED,
            f"Trial {outcome.number} ended without {', '.join(missing)} (it gave: {given}).",
            hint=call if close is None else f"did you mean {close!r}? {same}: {call}",
            code=Code.METRIC_MISNAMED if outcome.metrics else Code.METRIC_MISSING,
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

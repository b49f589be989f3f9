"""Judges an attempt by what it reported, whatever its outcome says. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from studyflow.reasons import Reason
from studyflow.spec import StudySpec
from studyflow.trial import Cause, Consequence, MetricPoint, Outcome
from studyflow.trial.record import TrialRecord, TrialState


@dataclass(frozen=True, slots=True)
class Curve:
    """An attempt's reports of the first objective, as far as its end depends on them."""

    first_step: int | None = None
    """Lowest step reported, by an earlier attempt too as far as known; `None` before the first."""
    last_step: int | None = None
    """Highest step reported, also beyond those that the storage keeps."""
    diverged_steps: tuple[int, ...] = ()
    """Steps of the newest reports in a row that are not finite; once there are as many as
    `trial.nan_reports`, they stay, whatever is reported next."""

    def extended(self, points: Iterable[MetricPoint], spec: StudySpec) -> Curve:
        """Return the curve with further reports, in the order in which they were made.

        Args:
            points: Reports; those of other metrics are left out.
            spec: The study.
        """
        first, last, steps = self.first_step, self.last_step, self.diverged_steps
        limit = spec.trial.nan_reports
        for point in points:
            if point.name != spec.objectives[0].metric:
                continue
            first = point.step if first is None else min(first, point.step)
            last = point.step if last is None else max(last, point.step)
            if limit is None or len(steps) >= limit:
                continue
            steps = () if math.isfinite(point.value) else (*steps, point.step)
        return Curve(first, last, steps)

    def begun_at(self, first_step: int | None) -> Curve:
        """Return the curve of an attempt that goes on where an earlier one was lost.

        Args:
            first_step: Lowest step that any attempt of the trial reported.
        """
        if first_step is None or self.first_step is None:
            return self
        return replace(self, first_step=min(first_step, self.first_step))

    def has_diverged(self, spec: StudySpec) -> bool:
        """Whether `trial.nan_reports` reports in a row were not finite."""
        limit = spec.trial.nan_reports
        return limit is not None and len(self.diverged_steps) >= limit

    def has_every_step(self, budget: int | None) -> bool:
        """Whether the last step of `trial.budget` was certainly reported; never without a budget.

        Steps count from 0, or from 1 in a script that never reports a step 0.
        """
        if budget is None or self.first_step is None or self.last_step is None:
            return False
        return self.last_step >= (budget - 1 if self.first_step == 0 else budget)


def last_step_reported(records: Iterable[TrialRecord]) -> int | None:
    """Return the highest step that a complete one of some trials has reported; `None` without."""
    return max(
        (max(r.intermediate) for r in records if r.state is TrialState.COMPLETE and r.intermediate),
        default=None,
    )


def last_step_of(spec: StudySpec, last_reported: int | None) -> int | None:
    """Return the step from which a trial is left to finish; `None` while that is not known.

    The last step of `trial.budget`, or the last one that a complete trial ever reported if that is
    lower: a script may report every fifth step, or have no budget.

    Args:
        spec: The study.
        last_reported: See `last_step_reported`.
    """
    last_of_budget = None if spec.trial.budget is None else spec.trial.budget - 1
    known = [step for step in (last_of_budget, last_reported) if step is not None]
    return min(known, default=None)


def why_diverged(spec: StudySpec, curve: Curve) -> Reason:
    """Return why a trial of this curve ends as `nan`."""
    steps, metric = curve.diverged_steps, spec.objectives[0].metric
    count = "1 report" if len(steps) == 1 else f"{len(steps)} reports in a row"
    at = f"at step {steps[0]}" if len(set(steps)) == 1 else f"from step {steps[0]} to {steps[-1]}"
    return Reason(
        Cause.NAN,
        f"The training diverged: {metric} was NaN or infinite in {count}, {at}.",
        "if that is no divergence, report only steps with a value, or raise trial.nan_reports.",
    )


def apply_curve(spec: StudySpec, outcome: Outcome, curve: Curve) -> Outcome:
    """Return the outcome that an attempt has by its reports.

    A curve that has diverged makes it `nan`, whether or not the runner came in time to stop it; an
    attempt that was lost, found no room or was cancelled keeps its outcome. A pruned attempt that
    reported its last step all the same, and gave its result, is not pruned.
    """
    cause = outcome.cause
    is_of_script = cause.consequence not in (
        Consequence.RETRY,
        Consequence.WAIT,
        Consequence.END,
    )
    if is_of_script and curve.has_diverged(spec):
        return replace(outcome, metrics={}).because(Cause.NAN, why_diverged(spec, curve))
    if cause is not Cause.PRUNED:
        return outcome
    has_result = all(name in outcome.metrics for name in spec.metrics)
    if has_result and curve.has_every_step(spec.trial.budget):
        told = f"It had no step left when it was told to stop. {outcome.message}".strip()
        return outcome.because(Cause.OK, Reason(Cause.OK, told, outcome.hint))
    return replace(outcome, metrics={})

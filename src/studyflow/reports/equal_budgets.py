"""Two studies of one question, judged where both had used up as much: trials, time, GPU-hours."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass

from studyflow.ledger.rows import all_rows, rows_of
from studyflow.reports import svg, wording
from studyflow.reports.axis import number_axis, objective_axis
from studyflow.reports.chart import NARROW, Drawing, Frame, Key, Panel
from studyflow.reports.comparison import best_so_far
from studyflow.reports.data import StudyData
from studyflow.reports.objective_scale import ObjectiveScale
from studyflow.reports.svg import Canvas, Shape
from studyflow.trial.cost import AttemptCost

_CLASSES = ("complete", "target")
_MARKS: tuple[Shape, ...] = ("dot", "square")


class Measure(enum.StrEnum):
    """What two studies are held against."""

    TRIALS = "trials"
    """Finished trials."""
    SECONDS = "seconds"
    """Time since the study's first trial started."""
    HOURS = "hours"
    """GPU-hours of all attempts that had ended, or slot-hours where no GPU is asked for."""


@dataclass(frozen=True)
class Judgement:
    """Two studies at an equal budget."""

    measure: Measure
    at: float
    """The budget: what the study that used less of it has used."""
    a: float | None
    """Best value of the first study within it; `None` without any."""
    b: float | None
    winner: str | None
    """Name of the better study; `None` for a tie, or where neither has a value."""
    curves: tuple[tuple[tuple[float, float], ...], tuple[tuple[float, float], ...]]
    """Of each study: what was used, and the best value by then, after each finished trial."""


def judge_equal_budgets(a: StudyData, b: StudyData) -> tuple[Judgement, ...]:
    """Return who is better at equal trials, time and hours, as far as both studies know them.

    Args:
        a: One study, with a single objective.
        b: Another one with the same objective.
    """
    found = []
    for measure in Measure:
        if measure is Measure.HOURS and a.statement.unit != b.statement.unit:
            continue  # hours of GPUs and hours of places are no equal budget
        first, second = best_by(a, measure), best_by(b, measure)
        at = min((curve[-1][0] if curve else 0.0) for curve in (first, second))
        if at <= 0:
            continue
        left, right = _at(first, at), _at(second, at)
        winner = _winner(a, b, left, right)
        found.append(Judgement(measure, at, left, right, winner, (first, second)))
    return tuple(found)


def best_by(data: StudyData, measure: Measure) -> tuple[tuple[float, float], ...]:
    """Return what a study had used and its best value by then, NaN for none, trial by trial.

    Empty where a trial's end is not known, and nothing can be said.
    """
    own = data.counted
    best = [float(value) for value in best_so_far(data, len(own))]
    if measure is Measure.TRIALS:
        return tuple((float(n), value) for n, value in enumerate(best, start=1))
    starts = [record.started_at for record in own if record.started_at is not None]
    ends = [record.finished_at for record in own if record.finished_at is not None]
    if not starts or len(ends) < len(own):
        return ()
    if measure is Measure.SECONDS:
        used = [end - min(starts) for end in ends]
    else:
        gpus = data.spec.trial.resources.gpu
        # An attempt of which nobody knows when it ended counts from the beginning.
        paid = [(_recorded_at(r), r.unit_seconds) for r in all_rows(data.records, gpus)]
        # A row is recorded a moment after the end that it is about.
        known = [
            max(end, *map(_recorded_at, rows_of(record, gpus)), -math.inf)
            for record, end in zip(own, ends, strict=True)
        ]
        used = [sum(cost for at, cost in paid if at <= end) / 3600 for end in known]
    return tuple(sorted(zip(used, best, strict=True), key=lambda point: point[0]))


def _recorded_at(row: AttemptCost) -> float:
    return -math.inf if row.recorded_at is None else row.recorded_at


def _at(curve: Sequence[tuple[float, float]], used: float) -> float | None:
    values = [value for at, value in curve if at <= used and not math.isnan(value)]
    return values[-1] if values else None


def _winner(a: StudyData, b: StudyData, left: float | None, right: float | None) -> str | None:
    if left == right:
        return None
    if left is None or right is None:
        return (b if left is None else a).spec.name
    return (a if (left < right) == (a.spec.directions[0] == "minimize") else b).spec.name


def draw_equal_budgets(a: StudyData, b: StudyData) -> Drawing:
    """Return the best value so far of two studies by trials, time and hours, a panel for each."""
    judged = judge_equal_budgets(a, b)
    names = (a.spec.name, b.spec.name)
    told = [f"at equal {one.measure.value}: {one.winner or 'a tie'}" for one in judged]
    metric, direction = a.metrics[0], a.spec.directions[0]
    values = [v for one in judged for curve in one.curves for _, v in curve if not math.isnan(v)]
    scale = ObjectiveScale(values, direction)
    unit = a.statement.unit
    return Drawing(
        title=f"Better {', '.join(told)}" if told else "Nothing can be compared yet",
        note=f"{direction} {metric} · the broken line: where the study that used less has ended",
        alt=f"The best {metric} so far of {' and '.join(names)}. Better {', '.join(told)}.",
        panels=tuple(_panel(one, scale, metric, unit) for one in judged),
        keys=tuple(
            Key(name, mark, cls) for name, mark, cls in zip(names, _MARKS, _CLASSES, strict=True)
        ),
    )


def _panel(judged: Judgement, scale: ObjectiveScale, metric: str, unit: str) -> Panel:
    heads = {
        Measure.TRIALS: "trials finished",
        Measure.SECONDS: "seconds since the first start",
        Measure.HOURS: unit,
    }
    last = max(curve[-1][0] for curve in judged.curves)
    canvas = Canvas(NARROW, 300)
    x = number_axis(heads[judged.measure], 0.0, last, most=5)
    frame = Frame(canvas, x, objective_axis(f"best {metric} so far", scale), grid="both")
    canvas.line(
        *frame.at(judged.at, scale.low), *frame.at(judged.at, scale.high), "quiet stroke dash"
    )
    for curve, cls, mark in zip(judged.curves, _CLASSES, _MARKS, strict=True):
        points = [
            frame.at(used, min(max(value, scale.low), scale.high))
            for used, value in curve
            if not math.isnan(value)
        ]
        if points:
            canvas.add("path", cls=f"{cls} stroke", d=svg.steps(points))
            canvas.mark(mark, *points[-1], 4.5, cls)
    at = wording.number(judged.at)
    return Panel(canvas, f"{heads[judged.measure]}, {at}: {judged.winner or 'a tie'}.")

"""Every trial's value in order, and the best so far.

Optuna's `plot_optimization_history` shows complete trials only. This one shows pruned, failed and
infeasible trials too, the target, and the hypervolume of several objectives; far outliers do not
stretch its axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from studyflow.reports import chart, svg, wording
from studyflow.reports.axis import Axis, number_axis, objective_axis
from studyflow.reports.chart import Drawing, Frame, Key, Panel
from studyflow.reports.data import Omitted, StudyData
from studyflow.reports.figures.hypervolume import MAX_OBJECTIVES, hypervolume
from studyflow.reports.objective_scale import ObjectiveScale
from studyflow.reports.summary import headline
from studyflow.reports.svg import Canvas
from studyflow.reports.tables import improvements
from studyflow.trial.record import TrialRecord, TrialState

__all__ = ["convergence", "hypervolume", "last_value", "running_best"]

_NAMED_UP_TO: Final = 12
"""Trials of a Pareto front up to which each carries its number."""


def convergence(data: StudyData) -> Drawing | Omitted:
    """Return values by trial with the running best; for several objectives one panel for each.

    Two objectives get their Pareto front instead; up to three the dominated hypervolume too.
    """
    if not data.complete:
        return Omitted("no trial has returned a value yet")
    wide: list[Panel] = []
    narrow: list[Panel] = []
    for panels, width in ((wide, chart.WIDE), (narrow, chart.NARROW)):
        if len(data.metrics) == 2:
            panels.append(_front(data, width))
        else:
            panels += [_values(data, i, width) for i in range(len(data.metrics))]
        if 2 <= len(data.metrics) <= MAX_OBJECTIVES:
            panels.append(_volume(data, width))
    return Drawing(
        title=_title(data),
        note=_note(data),
        alt=f"Values of {len(data.complete)} complete trials. {headline(data)}",
        panels=tuple(wide),
        narrow=tuple(narrow),
        keys=_front_keys(data) if len(data.metrics) == 2 else _keys(data),
    )


def running_best(data: StudyData, objective: int = 0) -> tuple[list[int], list[float]]:
    """Return the numbers of feasible trials and the best value of one objective up to each."""
    better = min if data.spec.directions[objective] == "minimize" else max
    numbers: list[int] = []
    values: list[float] = []
    for record in data.complete:
        if record.is_feasible and record.values is not None:
            value = record.values[objective]
            values.append(better(values[-1], value) if values else value)
            numbers.append(record.number)
    return numbers, values


def last_value(record: TrialRecord) -> float | None:
    """Return the last value that a pruned trial reported."""
    if record.state is not TrialState.PRUNED or not record.intermediate:
        return None
    last = record.intermediate[max(record.intermediate)]
    return last if math.isfinite(last) else None


def trial_axis(data: StudyData, width: float) -> Axis:
    """Return the axis of all trials by number."""
    first, last = data.trials[0].number, data.trials[-1].number
    most = 10 if width > 500 else 6
    return number_axis("trial", first, last, most=most, room=0.02, is_whole=True)


def _title(data: StudyData) -> str:
    """Return how the best came about; the result itself stands at the page's head."""
    found = sorted(improvements(data))
    if data.is_multi_objective or len(found) < 2:
        return headline(data).rstrip(".")
    times = "once," if len(found) == 2 else f"{len(found) - 1} times, the last time"
    return f"The first result was improved {times} at trial {found[-1]} of {len(data.trials)}"


def _note(data: StudyData) -> str:
    parts = []
    if len(data.metrics) == 1:
        parts.append(f"objective: {data.metrics[0]}, {data.spec.directions[0]}")
    parts.append(", ".join(f"{count} {state.value}" for state, count in data.states.items()))
    if n_beyond := _n_beyond(data):
        verb = "lies" if n_beyond == 1 else "lie"
        parts.append(f"{wording.plural(n_beyond, 'trial')} {verb} beyond the axis (arrows)")
    return " · ".join(parts)


def _n_beyond(data: StudyData) -> int:
    scales = [_scale(data, i) for i in range(len(data.metrics))]
    return sum(
        any(scale.is_outside(data.value(r, i)) for i, scale in enumerate(scales))
        for r in data.complete
    )


def _target(data: StudyData, objective: int) -> float | None:
    return data.spec.stop.target if objective == 0 and len(data.metrics) == 1 else None


def _scale(data: StudyData, objective: int) -> ObjectiveScale:
    known = [data.value(r, objective) for r in data.complete]
    if objective == 0 and len(data.metrics) != 2:
        known += [last for r in data.trials if (last := last_value(r)) is not None]
    target = _target(data, objective)
    known += [] if target is None else [target]
    return ObjectiveScale(known, data.spec.directions[objective])


def _keys(data: StudyData) -> tuple[Key, ...]:
    keys = [Key("complete", "dot", "complete")]
    if data.best and not data.is_multi_objective:
        keys.append(Key(f"best (trial {data.best[0].number})", "star", "best"))
    keys.append(Key("best so far", "line", "best"))
    if any(not r.is_feasible for r in data.complete):
        keys.append(Key("infeasible", "ring", "infeasible"))
    if any(last_value(r) is not None for r in data.trials):
        keys.append(Key("pruned (last value)", "down", "pruned"))
    if data.states.get(TrialState.FAILED):
        keys.append(Key("failed", "cross", "failed"))
    if any(r.number in data.enqueued for r in data.complete):
        keys.append(Key("enqueued", "square", "enqueued"))
    if (target := _target(data, 0)) is not None:
        beyond = " (off the axis)" if _scale(data, 0).is_outside(target) else ""
        keys.append(Key(f"target {wording.number(target)}{beyond}", "dash", "target"))
    return tuple(keys)


def _values(data: StudyData, objective: int, width: float) -> Panel:
    metric = data.metrics[objective]
    scale = _scale(data, objective)
    canvas = Canvas(width, (320 if width > 500 else 250) if len(data.metrics) == 1 else 220)
    frame = Frame(canvas, trial_axis(data, width), objective_axis(metric, scale))
    if (target := _target(data, objective)) is not None and not scale.is_outside(target):
        frame.horizontal(target, "target stroke dash")
    numbers, best = running_best(data, objective)
    if numbers:
        ends = [*zip(numbers, best, strict=True), (data.trials[-1].number, best[-1])]
        canvas.add("path", cls="best stroke", d=svg.steps(frame.at(n, v) for n, v in ends))
    _draw_marks(data, frame, objective)
    _, values = running_best(data, objective)
    found = f"; the best is {wording.number(values[-1])}" if values else ""
    return Panel(canvas, f"{metric} of each trial in order, with the best so far{found}.")


def _draw_marks(data: StudyData, frame: Frame, objective: int) -> None:
    size = chart.radius(len(data.trials))
    place = frame.x.share
    if len(data.trials) > chart.MANY:
        points = [frame.at(r.number, data.value(r, objective)) for r in data.complete]
        frame.canvas.dots(points, size, "complete")
    for record in data.trials:
        n = record.number
        if record.state is TrialState.FAILED:
            low = frame.box.top + frame.box.height - 7
            frame.canvas.mark("cross", frame.across(place(n)), low, size, "failed", n)
        elif objective == 0 and (last := last_value(record)) is not None:
            frame.mark("down", place(n), last, size, "pruned", n)
    few = len(data.trials) <= chart.MANY
    for record in data.complete:
        n, value = record.number, data.value(record, objective)
        is_best = n in data.best_numbers and not data.is_multi_objective
        if is_best:
            frame.mark("star", place(n), value, size + 2, "best", n)
        elif few and record.is_feasible:
            frame.mark("dot", place(n), value, size, "complete", n)
        elif few:
            frame.mark("ring", place(n), value, size, "infeasible", n)
        if n in data.enqueued:
            frame.mark("square", place(n), value, size + 4, "enqueued", n)


def _front_keys(data: StudyData) -> tuple[Key, ...]:
    keys = [
        Key("Pareto front", "star", "best"),
        Key("early", "dot", "t0"),
        Key("late", "dot", "t5"),
    ]
    if any(not r.is_feasible for r in data.complete):
        keys.append(Key("infeasible", "ring", "infeasible"))
    return tuple(keys)


def _front(data: StudyData, width: float) -> Panel:
    scales = [_scale(data, i) for i in range(2)]
    names = [f"{m} ({d})" for m, d in zip(data.metrics, data.spec.directions, strict=True)]
    canvas = Canvas(width, 380 if width > 500 else 300)
    x = objective_axis(names[0], scales[0], 8 if width > 500 else 4)
    frame = Frame(canvas, x, objective_axis(names[1], scales[1]), grid="both")
    size = chart.radius(len(data.complete))
    first, last = data.trials[0].number, data.trials[-1].number

    def draw(record: TrialRecord, shape: svg.Shape, radius: float, cls: str) -> None:
        across = x.share(data.value(record, 0))
        inside = min(max(across, 0.0), 1.0)
        if inside != across:
            cls += " beyond"
            shape = "right" if across > 1.0 else "left"
        frame.mark(shape, inside, data.value(record, 1), radius, cls, record.number)

    for record in data.complete:
        if record.number in data.best_numbers:
            continue
        if record.is_feasible:
            draw(record, "dot", size, chart.order_class(record.number, first, last))
        else:
            draw(record, "ring", size, "infeasible")
    front = sorted(data.best, key=lambda r: r.values or ())
    points = [frame.at(data.value(r, 0), data.value(r, 1)) for r in front]
    canvas.add("path", cls="best stroke thin", d=_stairs(points, data.spec.directions))
    for record, (left, top) in zip(front, points, strict=True):
        draw(record, "star", size + 2, "best")
        if len(front) <= _NAMED_UP_TO:
            canvas.text(left + 8, top - 7, str(record.number))
    alt = f"{names[1]} against {names[0]}; {len(front)} trials are on the Pareto front."
    return Panel(canvas, alt)


def _stairs(points: Sequence[tuple[float, float]], directions: Sequence[str]) -> str:
    """Return the border of what a front dominates: its corners lie on the worse side."""
    if not points:
        return ""
    if directions[0] == "minimize":
        return svg.steps(points)
    path = f"M{svg.number(points[0][0])} {svg.number(points[0][1])}"
    for x, y in points[1:]:
        path += f"V{svg.number(y)}H{svg.number(x)}"
    return path


def _volume(data: StudyData, width: float) -> Panel:
    numbers, volumes = hypervolume(data)
    canvas = Canvas(width, 170)
    top = max([*volumes, 0.1])
    y = number_axis("dominated hypervolume", 0.0, top, most=4)
    frame = Frame(canvas, trial_axis(data, width), y)
    points = list(zip(numbers, volumes, strict=True))
    if points:
        points.append((data.trials[-1].number, volumes[-1]))
    canvas.add("path", cls="best stroke", d=svg.steps(frame.at(n, v) for n, v in points))
    grown = wording.number(volumes[-1], 3) if volumes else "0"
    return Panel(canvas, f"Share of the objectives' box that the front dominates; at last {grown}.")

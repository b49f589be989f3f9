"""The objective against each parameter, coloured by the order of the trials.

Optuna's `plot_slice` puts all parameters in one row, which cannot be read from about six on, and
leaves failed trials out.
"""

from __future__ import annotations

from studyflow.reports import chart, wording
from studyflow.reports.axis import ParameterAxis, objective_axis
from studyflow.reports.chart import Drawing, Frame, Key, Panel
from studyflow.reports.data import Omitted, StudyData
from studyflow.reports.figures.branches import branch
from studyflow.reports.objective_scale import ObjectiveScale
from studyflow.reports.svg import Canvas
from studyflow.trial.record import TrialRecord, TrialState


def slices(data: StudyData) -> Drawing | Omitted:
    """Return one small scatter plot for each parameter; failed trials stand below as crosses.

    With several objectives each has its own panels.
    """
    if not data.complete:
        return Omitted("no trial has returned a value yet")
    names = [name for name in data.space if any(name in data.searched(r) for r in data.complete)]
    several = data.is_multi_objective
    scales = [
        ObjectiveScale([data.value(r, i) for r in data.complete], data.spec.directions[i])
        for i in range(len(data.metrics))
    ]
    panels = [
        _panel(data, name, i, scale, (metric if several else "") or branch(data, name))
        for i, (metric, scale) in enumerate(zip(data.metrics, scales, strict=True))
        for name in names
    ]
    keys = [Key("early", "dot", "t0"), Key("late", "dot", "t5"), Key("best", "star", "best")]
    if data.states.get(TrialState.FAILED):
        keys.append(Key("failed", "cross", "failed"))
    if any(s.is_outside(data.value(r, i)) for i, s in enumerate(scales) for r in data.complete):
        keys.append(Key("beyond the axis", "up", "t5"))
    absent = [wording.one_line(name, 40) for name in data.space if name not in names]
    metrics = " and ".join(data.metrics[:3])
    return Drawing(
        title=f"{metrics} along each of {wording.plural(len(names), 'parameter')}",
        note=f"in no complete trial: {', '.join(absent)}" if absent else "",
        alt=f"A scatter plot of {metrics} for each of {len(names)} parameters and "
        f"{len(data.complete)} trials.",
        panels=tuple(panels),
        keys=tuple(keys),
    )


def _panel(data: StudyData, name: str, objective: int, scale: ObjectiveScale, group: str) -> Panel:
    metric = data.metrics[objective]
    x = ParameterAxis(name, data.space[name], 4)
    canvas = Canvas(chart.SMALL, 210)
    frame = Frame(canvas, x.axis, objective_axis(metric, scale, 5))
    size = chart.radius(len(data.complete)) * 0.9
    first, last = data.trials[0].number, data.trials[-1].number
    places = {
        r.number: x.share(params[name]) for r in data.trials if name in (params := data.searched(r))
    }
    shown = [r for r in data.complete if r.number in places]
    if len(data.trials) * len(data.space) > 4 * chart.MANY:
        _draw_many(data, frame, objective, shown, places)
    else:
        for record in shown:
            n = record.number
            shape, cls = ("dot", chart.order_class(n, first, last))
            if not record.is_feasible:
                shape, cls = "ring", "infeasible"
            if n not in data.best_numbers:
                frame.mark(shape, places[n], data.value(record, objective), size, cls, n)  # type: ignore[arg-type]
        for record in data.trials:
            if record.state is TrialState.FAILED and record.number in places:
                low = frame.box.top + frame.box.height - 5
                across = frame.across(places[record.number])
                canvas.mark("cross", across, low, size * 0.9, "failed", record.number)
    for record in shown:
        if record.number in data.best_numbers:
            value = data.value(record, objective)
            frame.mark("star", places[record.number], value, size + 2, "best", record.number)
    return Panel(canvas, f"{metric} against {name} for {len(shown)} trials.", group)


def _draw_many(
    data: StudyData,
    frame: Frame,
    objective: int,
    shown: list[TrialRecord],
    places: dict[int, float],
) -> None:
    first, last = data.trials[0].number, data.trials[-1].number
    by_class: dict[str, list[tuple[float, float]]] = {}
    for record in shown:
        height = frame.y.share(data.value(record, objective))
        at = frame.across(places[record.number]), frame.up(min(max(height, 0.0), 1.0))
        by_class.setdefault(chart.order_class(record.number, first, last), []).append(at)
    for cls, points in by_class.items():
        frame.canvas.dots(points, chart.radius(len(shown)) * 0.9, cls)

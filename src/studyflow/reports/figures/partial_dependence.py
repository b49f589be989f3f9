"""What a model of the trials expects along each parameter.

Optuna's contours interpolate between trials as if there were no other parameters. This one shows
what a model of all parameters expects, averaged over the others.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from studyflow.reports import chart, surrogate, svg, wording
from studyflow.reports.axis import Axis, ParameterAxis, log_axis, number_axis
from studyflow.reports.chart import Drawing, Frame, Key, Panel
from studyflow.reports.data import Omitted, StudyData
from studyflow.reports.figures.branches import branch
from studyflow.reports.figures.importances import ranked_parameters, rough
from studyflow.reports.objective_scale import ObjectiveScale
from studyflow.reports.svg import Canvas
from studyflow.spec.parameters import CategoricalParameter

READ_WITH_CARE: Final = 0.1
"""Share of variance explained at trials left out below which the model answers nothing."""

MAX_PARAMETERS: Final = 12


def no_model(data: StudyData, objective: int = 0) -> Omitted | None:
    """Return why there can be no model of an objective; `None` where there can."""
    count = len(data.complete)
    if count < surrogate.MIN_TRIALS:
        verb = "is" if count == 1 else "are"
        return Omitted(
            f"a model needs {surrogate.MIN_TRIALS} complete trials; there {verb} {count}"
        )
    observed = [data.value(r, objective) for r in data.complete]
    if min(observed) == max(observed):
        return Omitted("all trials returned the same value, so there is nothing to model")
    return None


def shown_parameters(data: StudyData, most: int) -> tuple[str, ...]:
    """Return the parameters that vary, in the space's order: the most important ones."""
    varied = [n for n in ranked_parameters(data) if data.space[n].cardinality != 1]
    chosen = set(varied[:most])
    return tuple(name for name in data.space if name in chosen)


def partial_dependence(data: StudyData, objective: int = 0) -> Drawing | Omitted:
    """Return one panel for each parameter: the expected objective along it."""
    if (why := no_model(data, objective)) is not None:
        return why
    names = shown_parameters(data, MAX_PARAMETERS)
    if not names:
        return Omitted("no parameter has more than one value")
    model, scale = surrogate.fitted(data, objective)
    curves = {}
    for name in names:
        units = surrogate.grid(data.space[name])
        found = model.dependence([list(data.space).index(name)], [units])
        curves[name] = (units, modelled(found, scale))
    metric = data.metrics[objective]
    y = _axis(f"expected {metric}", [v for _, curve in curves.values() for v in curve], scale)
    varied = sum(parameter.cardinality != 1 for parameter in data.space.values())
    quality = f"explains {wording.percent(model.explained)} of the variance of trials left out"
    if model.explained < READ_WITH_CARE:
        quality = "predicts trials left out hardly better than their mean: read with care"
    note = f"Gaussian process on {wording.plural(len(model.points), 'trial')}; it {quality}"
    if len(names) < varied:
        note += f" · {len(names)} of {varied} parameters"
    title = _no_answer(data, objective, len(model.points))
    if model.explained >= READ_WITH_CARE:
        title = _title(data, objective, curves, is_log=scale.is_log)
    return Drawing(
        title=title,
        note=note,
        alt=f"The {metric} that a Gaussian process expects along each of {', '.join(names)}.",
        panels=tuple(_panel(data, name, *curves[name], y) for name in names),
        keys=(Key("expected", "line", "complete"), Key("best", "dash", "best")),
    )


def modelled(values: surrogate.FloatArray, scale: ObjectiveScale) -> surrogate.FloatArray:
    """Return what a process predicts in the objective's units."""
    if not scale.is_log:
        return values
    bound = np.log(scale.LIMIT)
    result: surrogate.FloatArray = np.exp(np.clip(values, -bound, bound))
    return result


def _axis(name: str, values: list[surrogate.FloatArray], scale: ObjectiveScale) -> Axis:
    low, high = float(min(values)), float(max(values))
    if scale.is_log and 0.0 < low < high:
        room = (high / low) ** 0.06
        return log_axis(name, low / room, high * room, most=4)
    return number_axis(name, low, high, most=5, room=0.06)


def _panel(
    data: StudyData,
    name: str,
    units: surrogate.FloatArray,
    curve: surrogate.FloatArray,
    y: Axis,
) -> Panel:
    parameter = data.space[name]
    along = ParameterAxis(name, parameter, 4)
    canvas = Canvas(chart.SMALL, 200)
    frame = Frame(canvas, along.axis, y)
    if len(data.best) <= 5:
        for record in data.best:
            if name in (params := data.searched(record)):
                frame.vertical(along.share(params[name]), "best stroke dash thin")
    heights = [frame.up(min(max(y.share(float(v)), 0.0), 1.0)) for v in curve]
    if isinstance(parameter, CategoricalParameter):
        count = len(parameter.choices)
        for i, height in enumerate(heights):
            canvas.mark("dot", frame.across((i + 0.5) / count), height, 5, "complete")
    else:
        across = [frame.across(along.share_of_unit(float(u))) for u in units]
        path = svg.polyline(zip(across, heights, strict=True))
        canvas.add("path", cls="complete stroke", d=path)
    low, high = wording.number(float(curve.min())), wording.number(float(curve.max()))
    return Panel(canvas, f"{y.name} along {name}: between {low} and {high}.", branch(data, name))


def _title(
    data: StudyData,
    objective: int,
    curves: dict[str, tuple[surrogate.FloatArray, surrogate.FloatArray]],
    *,
    is_log: bool,
) -> str:
    lowest = data.spec.directions[objective] == "minimize"
    spread = {
        name: float(np.ptp(np.log(curve) if is_log else curve))
        for name, (_, curve) in curves.items()
        if not data.space[name].conditions  # it need not exist where the others are best
    }
    parts = []
    for name in sorted(spread, key=lambda name: -spread[name])[:2]:
        units, curve = curves[name]
        at = int(np.argmin(curve) if lowest else np.argmax(curve))
        parameter = data.space[name]
        shown = wording.one_line(name, 40)
        if isinstance(parameter, CategoricalParameter):
            parts.append(f"{shown} = {wording.one_line(wording.value(parameter.choices[at]), 16)}")
        else:
            parts.append(f"{shown} near {rough(float(parameter.from_unit(float(units[at]))))}")
    metric = data.metrics[objective]
    return f"{'Lowest' if lowest else 'Highest'} {metric} is expected at {' and '.join(parts)}"


def _no_answer(data: StudyData, objective: int, count: int) -> str:
    word = "lowest" if data.spec.directions[objective] == "minimize" else "highest"
    return f"{wording.plural(count, 'trial')} do not tell where {data.metrics[objective]} is {word}"

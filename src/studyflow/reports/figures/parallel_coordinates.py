"""Every trial as a line across all parameters to its objectives.

Optuna's `plot_parallel_coordinate` leaves out trials that lack a conditional parameter and does not
mark the best trial; the labels of its axes cover each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from studyflow.reports import chart, svg, wording
from studyflow.reports.axis import ParameterAxis, objective_axis
from studyflow.reports.chart import Drawing, Key, Panel
from studyflow.reports.data import Omitted, StudyData
from studyflow.reports.figures.importances import parameter_importances, ranked_parameters
from studyflow.reports.objective_scale import ObjectiveScale
from studyflow.reports.svg import Canvas
from studyflow.spec.parameters import CategoricalParameter
from studyflow.trial.record import TrialRecord

MAX_PARAMETERS: Final = 12
MAX_NARROW: Final = 5
"""Parameters on a narrow screen, the most important ones."""
MAX_LINES: Final = 400
"""Most lines; of more trials the best and evenly spaced others are shown."""
_ABSENT: Final = -0.13
"""Where lines cross the axis of a parameter that their trial lacks: below its low end."""


@dataclass(frozen=True)
class _Column:
    """One upright axis."""

    name: str
    ticks: tuple[tuple[float, str], ...]
    can_be_absent: bool = False


def parallel_coordinates(data: StudyData) -> Drawing | Omitted:
    """Return complete trials as lines, the better the darker.

    Where a trial lacks a parameter its line crosses that axis at "absent".
    """
    if not data.complete:
        return Omitted("no trial has returned a value yet")
    ranked = ranked_parameters(data)
    records = _drawn(data)
    names = _in_order(data, ranked[:MAX_PARAMETERS])
    few = _in_order(data, ranked[:MAX_NARROW])
    parts = [wording.plural(len(records), "complete trial")]
    if len(records) < len(data.complete):
        parts = [f"{len(records)} lines of {wording.plural(len(data.complete), 'trial')}"]
    parts.append(f"the better its {data.metrics[0]}, the stronger a line's colour")
    if len(names) < len(data.space):
        is_known = not isinstance(parameter_importances(data), Omitted)
        which = f"the {len(names)} most important" if is_known else str(len(names))
        parts.append(f"{which} of {len(data.space)} parameters")
    title = "Parameters of all complete trials"
    if data.best:
        word = "Pareto front" if data.is_multi_objective else "Best trial"
        title = f"{word} across all parameters"
        title += "" if data.is_multi_objective else f": trial {data.best[0].number}"
    return Drawing(
        title=title,
        note=" · ".join(parts),
        alt=f"A line for each of {len(records)} trials across {', '.join(names)} and "
        f"{', '.join(data.metrics)}; stronger lines have better values.",
        panels=(_panel(data, records, names, chart.WIDE),),
        narrow=(_panel(data, records, few, chart.NARROW),),
        keys=(Key("best", "line", "best"), Key("better", "line", "v8"), Key("worse", "line", "v2")),
    )


def _in_order(data: StudyData, chosen: Sequence[str]) -> list[str]:
    return [name for name in data.space if name in chosen]


def _drawn(data: StudyData) -> list[TrialRecord]:
    """Return the trials that get a line, the best last, on top of the others."""
    records = list(data.complete)
    if len(records) > MAX_LINES:
        stride = -(-len(records) // (MAX_LINES - 20))
        kept = {r.number for r in records[::stride]} | {r.number for r in data.best[:20]}
        records = [r for r in records if r.number in kept]
    sign = 1.0 if data.spec.directions[0] == "minimize" else -1.0
    return sorted(
        records,
        key=lambda r: (r.number in data.best_numbers, -sign * data.value(r, 0), r.number),
    )


def _panel(
    data: StudyData, records: Sequence[TrialRecord], names: Sequence[str], width: float
) -> Panel:
    along = {name: ParameterAxis(name, data.space[name], 5) for name in names}
    scales = [
        ObjectiveScale([data.value(r, i) for r in records], direction)
        for i, direction in enumerate(data.spec.directions)
    ]
    columns = [
        _Column(name, along[name].axis.ticks, bool(data.space[name].conditions)) for name in names
    ]
    columns += [
        _Column(metric, objective_axis(metric, scale, 5).ticks)
        for metric, scale in zip(data.metrics, scales, strict=True)
    ]
    has_absent = any(column.can_be_absent for column in columns)
    canvas = Canvas(width, 340)
    left, right, top = 58.0, 16.0, 42.0
    h = canvas.height - top - (48 if has_absent else 16)
    gap = (width - left - right) / max(len(columns) - 1, 1)
    xs = [left + gap * i for i in range(len(columns))]

    def up(share: float) -> float:
        return top + h * (1.0 - min(max(share, _ABSENT), 1.0))

    for rank, record in enumerate(records):
        shift = (rank + 0.5) / len(records) - 0.5
        places = _places(data, record, along, scales, shift)
        is_best = record.number in data.best_numbers
        worth = 1.0 - scales[0].unit(data.value(record, 0))
        if data.spec.directions[0] == "maximize":
            worth = 1.0 - worth
        cls = "best stroke thick" if is_best else f"{chart.worth_class(worth)} stroke thin"
        path = svg.polyline((x, up(place)) for x, place in zip(xs, places, strict=True))
        units = ",".join(f"{place:.3f}" for place in places)
        canvas.add("path", cls=cls, d=path, data_n=record.number, data_u=units)
    for i, (x, column) in enumerate(zip(xs, columns, strict=True)):
        _draw_column(canvas, i, x, column, (top, h, gap), up)
    listed = ", ".join(column.name for column in columns)
    return Panel(canvas, f"Lines of {len(records)} trials across {listed}.")


def _places(
    data: StudyData,
    record: TrialRecord,
    along: dict[str, ParameterAxis],
    scales: Sequence[ObjectiveScale],
    shift: float,
) -> list[float]:
    """Return where the line crosses each axis, from 0 to 1, or below where it lacks a parameter.

    Within a category lines are spread a little, so that they can be told apart.
    """
    params = data.searched(record)
    places = []
    for name, axis in along.items():
        if name not in params:
            places.append(_ABSENT + 0.03 * shift)
            continue
        spread = 0.0
        if isinstance(axis.parameter, CategoricalParameter):
            spread = 0.35 * shift / len(axis.parameter.choices)
        places.append(axis.share(params[name]) + spread)
    for scale, value in zip(scales, record.values or (), strict=True):
        places.append(scale.unit(value))
    return places


def _draw_column(
    canvas: Canvas,
    index: int,
    x: float,
    column: _Column,
    size: tuple[float, float, float],
    up: Callable[[float], float],
) -> None:
    top, h, gap = size
    canvas.line(x, top, x, top + h, "axis")
    is_low = index % 2 == 1 and gap < 90
    anchor = "start" if x < 60 else "end" if x > canvas.width - 40 else "middle"
    at = 2.0 if anchor == "start" else canvas.width - 2 if anchor == "end" else x
    name = svg.cut(column.name, max((2 if gap < 90 else 1) * gap - 8, 50))
    canvas.text(at, 12.0 if is_low else 28.0, name, "name", anchor)
    for place, text in column.ticks:
        label = svg.cut(text, min(gap - 10, 90))
        canvas.add("text", label, cls="tick halo", x=x - 5, y=up(place) + 4, text_anchor="end")
    if column.can_be_absent:
        height = up(_ABSENT)
        canvas.add("text", "absent", cls="quiet halo", x=x - 5, y=height + 4, text_anchor="end")
        canvas.line(x - 3, height, x + 3, height, "axis")
    canvas.add(
        "rect",
        cls="handle",
        x=x - 10,
        y=top,
        width=20,
        height=up(_ABSENT if column.can_be_absent else 0.0) - top + 6,
        data_axis=index,
        data_top=top,
        data_length=h,
        data_name=column.name,
    )

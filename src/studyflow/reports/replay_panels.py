"""The two panels of a replay's frame: what the model expects, and the acquisition."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from studyflow.reports import svg, wording
from studyflow.reports.axis import Axis, ParameterAxis, objective_axis
from studyflow.reports.chart import Frame, Panel
from studyflow.reports.maps import draw_map
from studyflow.reports.objective_scale import ObjectiveScale
from studyflow.reports.svg import Canvas
from studyflow.spec.parameters import CategoricalParameter

if TYPE_CHECKING:
    from studyflow.samplers.arrays import FloatArray
    from studyflow.samplers.model_surface import ModelSurface

LEAST_SHARE: Final = 1e-6
"""Smallest acquisition that is told from nothing, as a share of the largest in the space."""

_WIDTH: Final = 400.0
_SHARES: Final = (1.0, 1e-2, 1e-4, 1e-6)

Place = tuple[float, ...]
"""Shares along the parameters' axes; along a single one, the trial's value follows, if known."""


@dataclass(frozen=True)
class Marks:
    """Where the trials of a moment stand."""

    done: Sequence[Place]
    running: Sequence[Place]
    best: Sequence[Place]
    following: Sequence[Place]
    """The trial that was suggested then, if any."""


def draw_panels(
    axes: Sequence[ParameterAxis],
    metric: str,
    scale: ObjectiveScale,
    units: Sequence[FloatArray],
    seen: ModelSurface,
    marks: Marks,
) -> tuple[Panel, Panel]:
    """Return what the model expected at a moment, and what a trial promised.

    Args:
        axes: Of the one or two parameters.
        metric: Name of the objective.
        scale: Its scale, the same for all moments.
        units: Where the model was asked, along each parameter.
        seen: What it said there.
        marks: The trials of the moment.
    """
    names = (f"expected {metric}", _promised(seen))
    if len(axes) == 2:
        both = (axes[0], axes[1])
        shape = (len(units[0]), len(units[1]))
        worth = np.array([_goodness(scale, float(v)) for v in seen.mean]).reshape(shape)
        shares = _shares(seen).reshape(shape)
        return (
            _map(both, names[0], units, worth, marks),
            _map(both, names[1], units, 1.0 + np.log10(shares) / 6.0, marks),
        )
    return (
        _curve(axes[0], names[0], scale, units[0], seen, marks),
        _promise(axes[0], names[1], units[0], _shares(seen), marks),
    )


def _goodness(scale: ObjectiveScale, value: float) -> float:
    share = scale.unit(max(value, scale.low) if scale.is_log else value)
    return 1.0 - share if scale.direction == "minimize" else share


def _shares(seen: ModelSurface) -> FloatArray:
    """Return the acquisition as a share of the largest in the space, `m`."""
    share = np.exp(seen.acquisition - seen.acquisition.max())
    return np.asarray(np.clip(share, LEAST_SHARE, 1.0))


def _map(
    axes: tuple[ParameterAxis, ParameterAxis],
    name: str,
    units: Sequence[FloatArray],
    goodness: FloatArray,
    marks: Marks,
) -> Panel:
    canvas = Canvas(_WIDTH, 340)
    canvas.text(2, 13, svg.cut(name, _WIDTH - 4), "name")
    up = Axis("", axes[1].axis.share, axes[1].axis.ticks)
    frame = Frame(canvas, axes[0].axis, up, top=44, grid="none")
    canvas.text(2, 34, svg.cut(axes[1].axis.name, _WIDTH - 4), "name")
    draw_map(frame, axes, units, np.clip(goodness, 0.0, 0.9999))
    for places, shape, size, cls in (
        (marks.done, "dot", 3.4, "on-map"),
        (marks.running, "ring", 4.5, "running"),
        (marks.best, "star", 6.5, "best on-best"),
        (marks.following, "diamond", 7.0, "chosen"),
    ):
        for x, y, *_ in places:
            canvas.mark(shape, frame.across(x), frame.up(y), size, cls)  # type: ignore[arg-type]
    return Panel(canvas, f"{name} over {axes[0].axis.name} and {axes[1].axis.name}.")


def _curve(
    axis: ParameterAxis,
    name: str,
    scale: ObjectiveScale,
    units: FloatArray,
    seen: ModelSurface,
    marks: Marks,
) -> Panel:
    canvas = Canvas(_WIDTH, 260)
    frame = Frame(canvas, axis.axis, objective_axis(f"{name}, ± 2 sd", scale, 5))
    across = [frame.across(x) for x in _places(axis, units)]

    def heights(values: FloatArray) -> list[float]:
        clipped = (min(max(float(v), scale.low), scale.high) for v in values)
        return [frame.up(scale.unit(v)) for v in clipped]

    low, high = heights(seen.mean - 2 * seen.sd), heights(seen.mean + 2 * seen.sd)
    middle = heights(seen.mean)
    if isinstance(axis.parameter, CategoricalParameter):
        for x, start, end, y in zip(across, low, high, middle, strict=True):
            canvas.line(x, start, x, end, "complete stroke faint")
            canvas.mark("square", x, y, 5, "complete")
    else:
        edge = [*zip(across, low, strict=True), *reversed(list(zip(across, high, strict=True)))]
        canvas.add("path", cls="complete band", d=svg.polyline(edge) + "z")
        path = svg.polyline(zip(across, middle, strict=True))
        canvas.add("path", cls="complete stroke", d=path)
    _draw_lines(frame, marks)
    for places, shape, size, cls in (
        (marks.done, "dot", 3.4, "ink"),
        (marks.best, "star", 6.5, "best"),
    ):
        for x, value in (place for place in places if len(place) == 2):
            frame.mark(shape, x, value, size, cls)  # type: ignore[arg-type]
    return Panel(canvas, f"{name} along {axis.axis.name}, with twice its standard deviation.")


def _promise(
    axis: ParameterAxis, name: str, units: FloatArray, shares: FloatArray, marks: Marks
) -> Panel:
    canvas = Canvas(_WIDTH, 200)
    ticks = tuple((1.0 + math.log10(v) / 6.0, wording.number(v)) for v in _SHARES)
    up = Axis(name, lambda v: 1.0 + math.log10(v) / 6.0, ticks)
    frame = Frame(canvas, axis.axis, up)
    points = [
        (frame.across(x), frame.up(up.share(float(v))))
        for x, v in zip(_places(axis, units), shares, strict=True)
    ]
    if isinstance(axis.parameter, CategoricalParameter):
        bottom = frame.up(0.0)
        for x, y in points:
            canvas.add("rect", cls="target", x=x - 12, y=y, width=24, height=bottom - y)
    else:
        canvas.add("path", cls="target stroke", d=svg.polyline(points))
    _draw_lines(frame, marks)
    return Panel(canvas, f"{name} along {axis.axis.name}.")


def _draw_lines(frame: Frame, marks: Marks) -> None:
    for places, cls in (
        (marks.running, "running stroke dot-line thin"),
        (marks.following, "best stroke dash thin"),
    ):
        for x, *_ in places:
            frame.vertical(x, cls)


def _places(axis: ParameterAxis, units: FloatArray) -> list[float]:
    """Return the places of points along an axis."""
    if isinstance(axis.parameter, CategoricalParameter):
        return [(float(u) + 0.5) / len(axis.parameter.choices) for u in units]
    return [axis.share_of_unit(float(u)) for u in units]


def _promised(seen: ModelSurface) -> str:
    """Return what the acquisition function measures, in words."""
    if "feasibility" in seen.acquisition_name:
        what = "probability of being feasible"
    else:
        what = "expected improvement"
    return f"{what}, as a share of the largest"

"""Maps of two parameters: areas of equal worth, for figures that show what a model says."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from studyflow.reports import chart, svg
from studyflow.reports.axis import ParameterAxis
from studyflow.reports.chart import Frame
from studyflow.spec.parameters import CategoricalParameter, Parameter

FloatArray = npt.NDArray[np.float64]
Axes = tuple[ParameterAxis, ParameterAxis]

LEVELS: Final = 10


def map_units(parameter: Parameter, cells: int) -> FloatArray:
    """Return where a map asks about a parameter: all categories by number, or points in [0, 1]."""
    if isinstance(parameter, CategoricalParameter):
        return np.arange(len(parameter.choices), dtype=np.float64)
    return np.linspace(0.0, 1.0, cells)


def draw_map(
    frame: Frame,
    axes: Axes,
    units: Sequence[FloatArray],
    goodness: FloatArray,
    possible: npt.NDArray[np.bool_] | None = None,
) -> None:
    """Colour a frame by worth.

    Args:
        frame: Has the two axes.
        axes: The same, of the parameters.
        units: As of `map_units`, along each, `m` and `n`.
        goodness: Worth in [0, 1), `m x n`.
        possible: Which places can occur, `m x n`; `None` for all.
    """
    if any(isinstance(axis.parameter, CategoricalParameter) for axis in axes):
        _draw_cells(frame, axes, units, goodness, possible)
    else:
        _draw_contours(frame, axes, units, goodness)


def _draw_contours(
    frame: Frame,
    axes: Axes,
    units: Sequence[FloatArray],
    goodness: FloatArray,
) -> None:
    from contourpy import FillType, contour_generator

    x, y = (
        np.array([place(axis.share_of_unit(float(u))) for u in along])
        for axis, along, place in zip(axes, units, (frame.across, frame.up), strict=True)
    )
    canvas = frame.canvas
    left, right, top, bottom = x[0], x[-1], y[-1], y[0]
    cls = chart.worth_class(0.0)
    canvas.add("rect", cls=cls, x=left, y=top, width=right - left, height=bottom - top)
    lines = contour_generator(x, y, goodness.T, fill_type=FillType.OuterOffset)
    for level in range(1, LEVELS):
        # Each area covers those of all better levels, so that no gap shows between them.
        found: Any = lines.filled(level / LEVELS, 2.0)
        areas, offsets = found
        path = "".join(
            svg.polyline((float(a), float(b)) for a, b in points[start:end]) + "z"
            for points, ends in zip(areas, offsets, strict=True)
            for start, end in itertools.pairwise(int(i) for i in ends)
        )
        if path:
            canvas.add("path", cls=f"v{level}", d=path, fill_rule="evenodd")


def _draw_cells(
    frame: Frame,
    axes: Axes,
    units: Sequence[FloatArray],
    goodness: FloatArray,
    possible: npt.NDArray[np.bool_] | None,
) -> None:
    """Draw a rectangle for each run of cells of one colour."""
    edges = [_edges(axis, along) for axis, along in zip(axes, units, strict=True)]
    levels = (goodness * LEVELS).astype(int)
    for j in range(len(units[1])):
        row = [
            -1 if possible is not None and not possible[i, j] else int(levels[i, j])
            for i in range(len(units[0]))
        ]
        start = 0
        for level, run in itertools.groupby(row):
            end = start + len(list(run))
            if level >= 0:
                left, right = frame.across(edges[0][start]), frame.across(edges[0][end])
                bottom, top = frame.up(edges[1][j]), frame.up(edges[1][j + 1])
                frame.canvas.add(
                    "rect",
                    cls=f"v{level}",
                    x=left,
                    y=top,
                    width=right - left,
                    height=bottom - top,
                    shape_rendering="crispEdges",
                )
            start = end


def _edges(axis: ParameterAxis, units: FloatArray) -> list[float]:
    """Return the borders of cells along an axis, one more than there are cells."""
    count = len(units)
    if isinstance(axis.parameter, CategoricalParameter):
        return [i / count for i in range(count + 1)]
    return [axis.share_of_unit(i / count) for i in range(count + 1)]

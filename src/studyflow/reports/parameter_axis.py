"""The axis of one parameter: where its values stand, its limits and its ticks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from studyflow.reports import wording
from studyflow.reports.style import label
from studyflow.reports.ticks import linear_ticks, log_ticks
from studyflow.spec.parameters import CategoricalParameter, FloatParameter, IntParameter, Parameter
from studyflow.trial import ParamValue

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def position(parameter: Parameter, given: ParamValue) -> float:
    """Return where a value stands on its parameter's axis; categories are numbered.

    Raises:
        ValueError: The parameter is numeric and the value is no number.
    """
    if isinstance(parameter, CategoricalParameter):
        return float(parameter.index(given))
    if not isinstance(given, int | float):
        raise ValueError(f"{given!r} is no number.")
    return parameter.to_unit(given) if _is_extreme(parameter) else float(given)


def at_unit(parameter: Parameter, unit: float) -> float:
    """Return the position on a parameter's axis at a coordinate in [0, 1], off any grid."""
    if isinstance(parameter, CategoricalParameter):
        return unit * len(parameter.choices) - 0.5
    if _is_extreme(parameter):
        return unit
    low, high = float(parameter.low), float(parameter.high)
    return low * (high / low) ** unit if parameter.log else low + unit * (high - low)


def limits(parameter: Parameter) -> tuple[float, float]:
    """Return the ends of a parameter's axis, with a little room beyond its bounds."""
    if isinstance(parameter, CategoricalParameter):
        return -0.6, len(parameter.choices) - 0.4
    if _is_extreme(parameter):
        return -0.05, 1.05
    low, high = float(parameter.low), float(parameter.high)
    if low == high:
        room = abs(low) * 0.5 or 0.5
        return low - room, high + room
    if parameter.log:
        room = (high / low) ** 0.05
        return low / room, high * room
    room = 0.05 * (high - low)
    return low - room, high + room


def is_log(parameter: Parameter) -> bool:
    """Whether the parameter's axis is logarithmic."""
    return (
        not isinstance(parameter, CategoricalParameter)
        and parameter.log
        and parameter.low < parameter.high
        and not _is_extreme(parameter)
    )


def ticks(parameter: Parameter, most: int = 5) -> tuple[list[float], list[str]]:
    """Return the positions of ticks on a parameter's axis and their labels."""
    if isinstance(parameter, CategoricalParameter):
        n = len(parameter.choices)
        shown = range(0, n, max(math.ceil(n / max(2 * most, 8)), 1))
        return [float(i) for i in shown], [
            label(wording.value(parameter.choices[i]), 12) for i in shown
        ]
    values = tick_values(parameter, most)
    return [position(parameter, v) for v in values], [wording.number(v, 6) for v in values]


def tick_values(parameter: FloatParameter | IntParameter, most: int = 5) -> list[float]:
    """Return the values at which ticks of a numeric parameter stand."""
    low, high = float(parameter.low), float(parameter.high)
    if low == high:
        return [low]
    if _is_extreme(parameter):
        return [float(f"{parameter.from_unit(unit):.3g}") for unit in (0.0, 0.5, 1.0)]
    if parameter.log:
        return log_ticks(low, high, most)
    return linear_ticks(low, high, most, whole=parameter.type == "int")


def set_parameter(
    axes: Axes, which: Literal["x", "y"], parameter: Parameter, *, most: int = 5
) -> None:
    """Scale one axis for a parameter and label its ticks."""
    positions, labels = ticks(parameter, most)
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log" if is_log(parameter) else "linear")
    axis.set_ticks(positions, labels)
    axis.set_ticks([], minor=True)
    (axes.set_xlim if which == "x" else axes.set_ylim)(*limits(parameter))
    if which == "x" and sum(len(text) + 2 for text in labels) > 5.5 * max(most, 3):
        for text in axis.get_ticklabels():
            text.set(rotation=35, ha="right", rotation_mode="anchor")


def _is_extreme(parameter: Parameter) -> bool:
    """Whether Matplotlib cannot compute with a parameter's range: its axis then is the unit one."""
    if isinstance(parameter, CategoricalParameter) or parameter.low == parameter.high:
        return False
    low, high = float(parameter.low), float(parameter.high)
    least, largest = (low, high) if parameter.log else (high - low, max(abs(low), abs(high)))
    return least < 1e-150 or largest > 1e150

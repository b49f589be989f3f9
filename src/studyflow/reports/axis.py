"""One axis of a chart: where values stand on it, and the labels along it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from studyflow.reports import wording
from studyflow.reports.objective_scale import ObjectiveScale
from studyflow.reports.ticks import linear_ticks, log_ticks
from studyflow.spec.parameters import CategoricalParameter, FloatParameter, IntParameter, Parameter
from studyflow.trial import ParamValue


@dataclass(frozen=True)
class Axis:
    """An axis. Positions along it are shares: 0 at its low end, 1 at its high one."""

    name: str
    share: Callable[[float], float]
    """From a number to its place; beyond [0, 1] for what lies beyond the axis."""
    ticks: tuple[tuple[float, str], ...]
    """Places with their labels."""


def objective_axis(name: str, scale: ObjectiveScale, most: int = 6) -> Axis:
    """Return the axis of an objective; values beyond its scale lie beyond the axis."""

    def share(value: float) -> float:
        if value < scale.low:
            return -1.0
        return 2.0 if value > scale.high else scale.unit(value)

    ticks = tuple((scale.unit(v), wording.number(v, 6)) for v in scale.ticks(most))
    return Axis(name, share, ticks)


def number_axis(
    name: str,
    low: float,
    high: float,
    *,
    most: int = 8,
    room: float = 0.0,
    is_whole: bool = False,
    text: Callable[[float], str] = wording.number,
) -> Axis:
    """Return the axis of plain numbers, with room beyond both ends as a share of its length."""
    if not high > low:
        low, high = low - 0.5, high + 0.5
    span = high - low
    start, length = low - room * span, span * (1 + 2 * room)
    found = linear_ticks(low, high, most, whole=is_whole)
    ticks = tuple(((v - start) / length, text(int(v) if is_whole else v)) for v in found)
    return Axis(name, lambda value: (value - start) / length, ticks)


def log_axis(
    name: str, low: float, high: float, ticks: Sequence[float] = (), most: int = 6
) -> Axis:
    """Return a logarithmic axis between two positive numbers."""

    def share(value: float) -> float:
        return math.log(value / low) / math.log(high / low)

    found = ticks or log_ticks(low, high, most)
    return Axis(name, share, tuple((share(v), wording.number(v)) for v in found))


class ParameterAxis:
    """The axis of one parameter, with a little room beyond its bounds.

    Args:
        name: The parameter's name.
        parameter: The parameter.
        most: About how many ticks it has.
    """

    def __init__(self, name: str, parameter: Parameter, most: int = 5) -> None:
        self.parameter = parameter
        if isinstance(parameter, CategoricalParameter):
            count = len(parameter.choices)
            self._low, self._high = 0.0, 1.0
            stride = -(-count // 12)
            ticks = [
                ((i + 0.5) / count, wording.value(choice))
                for i, choice in enumerate(parameter.choices)
                if i % stride == 0
            ]
        else:
            self._low, self._high = -0.045, 1.045
            ticks = [
                (self._place(_unit(parameter, v)), wording.number(v, 6))
                for v in tick_values(parameter, most)
            ]
        self.axis = Axis(name, self._place, tuple(ticks))

    def _place(self, unit: float) -> float:
        return (unit - self._low) / (self._high - self._low)

    def share(self, value: ParamValue) -> float:
        """Return the place of a value."""
        if isinstance(self.parameter, CategoricalParameter):
            return (self.parameter.index(value) + 0.5) / len(self.parameter.choices)
        return self._place(_unit(self.parameter, value))

    def share_of_unit(self, unit: float) -> float:
        """Return the place of a coordinate in [0, 1] of a numeric parameter."""
        return self._place(unit)


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


def _is_extreme(parameter: FloatParameter | IntParameter) -> bool:
    """Whether round numbers between a parameter's bounds cannot be computed with floats."""
    low, high = float(parameter.low), float(parameter.high)
    least, largest = (low, high) if parameter.log else (high - low, max(abs(low), abs(high)))
    return least < 1e-150 or largest > 1e150


def _unit(parameter: Parameter, value: ParamValue) -> float:
    """Return a numeric parameter's value in [0, 1]; the middle where it has one value only."""
    assert not isinstance(parameter, CategoricalParameter), "has numbers"
    if parameter.low == parameter.high:
        return 0.5
    return parameter.to_unit(value)

"""The search space: which parameters a study searches, over what, and under which conditions.

A space is a tree. A parameter with `when` exists only where its parents have one of the named
values; everything here treats an inactive parameter as absent, never as a default.

Two encodings are offered: Optuna's distributions, for samplers, and the unit cube, for models and
pictures. Both keep log scales and grids exact.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict, model_validator
from pydantic_core import PydanticCustomError

from studyflow.errors import SpaceError
from studyflow.trial import ParamValue

if TYPE_CHECKING:
    import optuna

Scalar = bool | int | float | str | None
Conditions = Mapping[str, tuple[Scalar, ...]]

# Pydantic alone would take `true` for 1 and "16" for 16: in a study file both are mistakes.
Whole = Annotated[int, Strict()]
Real = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Truth = Annotated[bool, Strict()]

LARGEST_WHOLE: Final = 2**53
"""Largest whole number a parameter can take: Optuna stores every value as a double, and beyond
this bound neighbouring numbers become one."""

MOST_STEPS: Final = 10_000_000
"""Most steps of a float from zero to its bounds. With more, rounding errors exceed
`GRID_TOLERANCE`, and Optuna would refuse values that it suggested itself."""

GRID_TOLERANCE: Final = 1e-8
"""How far, in steps, a float may lie off its grid and still count as on it: rounding of
decimals. Optuna allows the same."""


def broken_rule(message: str, hint: str) -> PydanticCustomError:
    """Return the error for a validator to raise; the way out stays apart from rule and value."""
    return PydanticCustomError(
        "broken_rule", "{message} ({hint})", {"message": message, "hint": hint}
    )


def same_scalar(a: Scalar, b: Scalar) -> bool:
    """Whether two scalars are the same choice; `1`, `1.0` and `True` are three different ones."""
    return type(a) is type(b) and a == b


@dataclass(frozen=True)
class FloatGrid:
    """The points low, low + step, low + 2 step, … of a float, in decimals as written.

    All code that counts, compares or draws values of a float with a step does it by this class, so
    that what one part suggests is a point for every other.

    A range that is a whole number of steps, to within `GRID_TOLERANCE` of a step, is divided evenly
    and ends exactly on `high`: 1/11 is printed as 0.09090909090909091, eleven of which are a little
    more than 1, and seven times 1/7 as printed is not enough from -1 to 0. Another range ends on
    the last point below `high`.
    """

    low: float
    high: float
    step: float

    @cached_property
    def _steps_in_range(self) -> Fraction:
        return (_exact(self.high) - _exact(self.low)) / _exact(self.step)

    @cached_property
    def is_whole(self) -> bool:
        """Whether the range is a whole number of steps."""
        return abs(self._steps_in_range - round(self._steps_in_range)) <= GRID_TOLERANCE

    @cached_property
    def n_steps(self) -> int:
        """How many steps fit into the range."""
        return round(self._steps_in_range) if self.is_whole else math.floor(self._steps_in_range)

    @cached_property
    def _spacing(self) -> Fraction:
        """The step that is meant."""
        if not self.is_whole or self.n_steps == 0:
            return _exact(self.step)
        return (_exact(self.high) - _exact(self.low)) / self.n_steps

    @property
    def size(self) -> int:
        """How many points there are."""
        return self.n_steps + 1

    @property
    def last(self) -> float:
        """The largest point."""
        return self.value(self.n_steps)

    def value(self, index: int) -> float:
        """Return the point at a position, from 0: of 0.1 the third is 0.3, not 0.1 * 3."""
        if index == self.n_steps and self.is_whole:
            return self.high
        if index not in self._known:
            point = _exact(self.low) + index * self._spacing
            self._known[index] = min(float(point), self.high)
        return self._known[index]

    @cached_property
    def _known(self) -> dict[int, float]:
        """Points that were asked for: fractions are slow, and reports ask for the same often."""
        return {}

    def nearest(self, value: float) -> int:
        """Return the position of the point nearest to a value."""
        return min(max(round((value - self.low) / self.step), 0), self.n_steps)

    def index(self, value: float) -> int | None:
        """Return the position of a value, `None` if it is more than rounding off every point."""
        margin = GRID_TOLERANCE * self.step
        if not self.low - margin <= value <= self.high + margin:
            return None
        index = self.nearest(value)
        return index if abs(value - self.value(index)) <= margin else None

    @cached_property
    def optuna_range(self) -> tuple[float, float, float | None]:
        """Bounds and step by which Optuna takes all these points, and none between them.

        Optuna counts steps in decimals: it cuts off the end of a range that is no whole number of
        them, when a distribution is made and again whenever it is read from the storage. A grid
        that is not whole in decimals is given to it with a step larger by some 1e-15 and an end to
        match; samplers then suggest points of ours to within rounding, and `SearchSpace.on_grid`
        removes that. The step is `None` where so many points leave no room for that: Optuna
        then knows a continuum.
        """
        exact_last = _exact(self.low) + self.n_steps * _exact(self.step)
        if _exact(self.last) == exact_last:
            return self.low, self.last, self.step
        for digits in (16, 15):  # 16 are exact for most doubles, 15 for all
            found = self._stretched(digits)
            if found is not None:
                return found
        return self.low, self.last, None

    def _stretched(self, digits: int) -> tuple[float, float, float] | None:
        """Return the narrowest range of so many digits that holds the grid and divides evenly."""
        largest = max(abs(self.low), abs(self.last))
        unit = Fraction(10) ** (math.floor(math.log10(largest)) + 1 - digits)
        low = math.floor(_exact(self.low) / unit) * unit
        step = math.ceil((_exact(self.last) - low) / (self.n_steps * unit)) * unit
        decimals = (low, low + self.n_steps * step, step)
        floats = (float(low), float(low + self.n_steps * step), float(step))
        if any(_exact(f) != d for f, d in zip(floats, decimals, strict=True)):
            return None
        for index in {0, 1, self.n_steps - 1, self.n_steps}:
            steps = (self.value(index) - floats[0]) / floats[2]
            if abs(steps - index) > GRID_TOLERANCE / 2:
                return None
        return floats


def _exact(value: float) -> Fraction:
    """Return the number that a float is written as: 0.1 is a tenth."""
    return Fraction(repr(float(value)))


class _Parameter(BaseModel):
    """What all kinds of parameter share."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    when: dict[str, list[Scalar] | Scalar] = Field(
        default_factory=dict,
        description="The parameter exists only where each named parent has this value, or one of "
        "these values.",
        examples=[{"optimizer": "sgd"}],
    )

    @cached_property
    def conditions(self) -> Conditions:
        """`when` with every parent's values as a tuple."""
        return {
            parent: tuple(values) if isinstance(values, list) else (values,)
            for parent, values in self.when.items()
        }


class FloatParameter(_Parameter):
    """A real number between two bounds, both included."""

    type: Literal["float"] = Field(description="A real number.")
    low: Real = Field(description="Smallest value.", examples=[1.0e-4])
    high: Real = Field(description="Largest value.", examples=[1.0e-1])
    log: Truth = Field(default=False, description="Search orders of magnitude evenly.")
    step: Real | None = Field(
        default=None, gt=0, description="Only low, low + step, low + 2 step, …"
    )

    @model_validator(mode="after")
    def _check(self) -> FloatParameter:
        _check_range(self.low, self.high, self.log, self.step)
        return self

    @cached_property
    def grid(self) -> FloatGrid | None:
        """The points; `None` for a continuum."""
        return None if self.step is None else FloatGrid(self.low, self.high, self.step)

    @property
    def last(self) -> float:
        """The largest value: below `high` where the range is no whole number of steps."""
        return self.high if self.grid is None else self.grid.last

    @property
    def cardinality(self) -> int | None:
        """How many values there are; `None` for a continuum."""
        if self.low == self.high:
            return 1
        return None if self.grid is None else self.grid.size

    def contains(self, value: Any) -> bool:
        """Whether the value lies in range, and on the grid up to rounding; see `FloatGrid`."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if self.grid is None:
            return self.low <= value <= self.high
        return self.grid.index(value) is not None

    def on_grid(self, value: Any) -> Any:
        """Return the point that a value is up to rounding; any other value unchanged."""
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if self.grid is None or not is_number or (index := self.grid.index(value)) is None:
            return value
        return self.grid.value(index)

    def to_unit(self, value: Any) -> float:
        """Return where in [0, 1] the value lies, on the log scale if there is one."""
        return _to_unit(float(value), self.low, self.high, self.log)

    def from_unit(self, unit: float) -> float:
        """Return the value at a place in [0, 1], on the grid if there is one."""
        value = _from_unit(unit, self.low, self.high, self.log)
        if self.grid is not None:
            value = self.grid.value(self.grid.nearest(value))
        return min(max(value, self.low), self.high)

    def distribution(self) -> optuna.distributions.FloatDistribution:
        """Return the parameter as Optuna knows it; see `FloatGrid.optuna_range`."""
        from optuna.distributions import FloatDistribution

        if self.grid is None:
            return FloatDistribution(self.low, self.high, log=self.log)
        low, high, step = self.grid.optuna_range
        return FloatDistribution(low, high, step=step)


class IntParameter(_Parameter):
    """A whole number between two bounds, both included."""

    type: Literal["int"] = Field(description="A whole number.")
    low: Whole = Field(
        ge=-LARGEST_WHOLE, le=LARGEST_WHOLE, description="Smallest value.", examples=[16]
    )
    high: Whole = Field(
        ge=-LARGEST_WHOLE, le=LARGEST_WHOLE, description="Largest value.", examples=[128]
    )
    log: Truth = Field(default=False, description="Search orders of magnitude evenly.")
    step: Whole = Field(
        default=1, ge=1, le=LARGEST_WHOLE, description="Only low, low + step, low + 2 step, …"
    )

    @model_validator(mode="after")
    def _check(self) -> IntParameter:
        _check_range(self.low, self.high, self.log, None if self.step == 1 else self.step)
        return self

    @property
    def cardinality(self) -> int:
        """How many values there are."""
        return (self.high - self.low) // self.step + 1

    @property
    def last(self) -> int:
        """The largest value: below `high` where the range is no whole number of steps."""
        return self.low + (self.cardinality - 1) * self.step

    def contains(self, value: Any) -> bool:
        """Whether the value lies in range and on the grid."""
        if isinstance(value, bool) or not isinstance(value, int):
            return False
        return self.low <= value <= self.high and (value - self.low) % self.step == 0

    def to_unit(self, value: Any) -> float:
        """Return where in [0, 1] the value lies, on the log scale if there is one."""
        return _to_unit(float(value), self.low, self.high, self.log)

    def from_unit(self, unit: float) -> int:
        """Return the grid value nearest to a place in [0, 1]."""
        value = _from_unit(unit, self.low, self.high, self.log)
        steps = min(round((value - self.low) / self.step), self.cardinality - 1)
        return self.low + max(steps, 0) * self.step

    def distribution(self) -> optuna.distributions.IntDistribution:
        """Return the parameter as Optuna knows it."""
        from optuna.distributions import IntDistribution

        # Optuna warns, and then does the same, when the last step does not end on `high`.
        return IntDistribution(self.low, self.last, log=self.log, step=self.step)


class CategoricalParameter(_Parameter):
    """One of several values without an order."""

    type: Literal["categorical"] = Field(description="One of several values.")
    choices: tuple[Scalar, ...] = Field(
        min_length=1, description="The values to choose from.", examples=[["adam", "sgd"]]
    )

    @model_validator(mode="after")
    def _check(self) -> CategoricalParameter:
        for i, choice in enumerate(self.choices):
            if isinstance(choice, float) and not math.isfinite(choice):
                raise broken_rule(
                    f"choices must be finite, but {show_scalar(choice)} is among them",
                    "use a text such as 'none' for the special case",
                )
            for twin in (other for other in self.choices[:i] if other == choice):
                # Optuna looks choices up by equality, so it would store one for the other.
                raise broken_rule(
                    f"choices must differ, but {show_scalar(choice)} equals {show_scalar(twin)}",
                    "drop one of them, or quote both to make them texts",
                )
        return self

    @property
    def cardinality(self) -> int:
        """How many values there are."""
        return len(self.choices)

    def index(self, value: Any) -> int:
        """Return the position of a value among the choices; `-1` when it is none of them."""
        return next((i for i, c in enumerate(self.choices) if same_scalar(c, value)), -1)

    def contains(self, value: Any) -> bool:
        """Whether the value is one of the choices, of the same type."""
        return self.index(value) >= 0

    def to_unit(self, value: Any) -> float:
        """Return the middle of the choice's share of [0, 1]."""
        return (self.index(value) + 0.5) / len(self.choices)

    def from_unit(self, unit: float) -> Scalar:
        """Return the choice whose share of [0, 1] holds the place."""
        return self.choices[min(max(int(unit * len(self.choices)), 0), len(self.choices) - 1)]

    def distribution(self) -> optuna.distributions.CategoricalDistribution:
        """Return the parameter as Optuna knows it."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.choices)


Parameter = Annotated[
    FloatParameter | IntParameter | CategoricalParameter, Field(discriminator="type")
]


class SearchSpace(Mapping[str, FloatParameter | IntParameter | CategoricalParameter]):
    """The parameters by name, parents before their children, otherwise in the order given.

    Args:
        parameters: Parameters by name.

    Raises:
        SpaceError: A condition names an unknown parent or an impossible value, or conditions form
            a circle.
    """

    def __init__(
        self, parameters: Mapping[str, FloatParameter | IntParameter | CategoricalParameter]
    ) -> None:
        problems = condition_problems(parameters)
        if problems:
            raise SpaceError("; ".join(f"{p.name}: {p.message} ({p.hint})" for p in problems))
        self._parameters: dict[str, FloatParameter | IntParameter | CategoricalParameter] = {}
        waiting = dict(parameters)
        while waiting:
            for name in [n for n, p in waiting.items() if not p.conditions.keys() & waiting.keys()]:
                self._parameters[name] = waiting.pop(name)

    def __getitem__(self, name: str) -> FloatParameter | IntParameter | CategoricalParameter:
        return self._parameters[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __len__(self) -> int:
        return len(self._parameters)

    def __repr__(self) -> str:
        return f"SearchSpace({self._parameters!r})"

    @property
    def cardinality(self) -> int | None:
        """How many different points there are; `None` when a parameter is a continuum.

        Conditional branches are counted, not multiplied out: a child multiplies only the values of
        its parent under which it exists.
        """
        if any(parameter.cardinality is None for parameter in self.values()):
            return None
        return math.prod(self._count(family) for family in self._families())

    def _families(self) -> list[list[str]]:
        """Return the names in groups that no condition connects, parents before children."""
        families: list[list[str]] = []
        for name, parameter in self.items():
            kin = [f for f in families if any(parent in f for parent in parameter.conditions)]
            families = [f for f in families if f not in kin]
            families.append([*(n for n in self if any(n in f for f in kin)), name])
        return families

    def _count(self, family: list[str]) -> int:
        """Count the points of one family.

        Walks it from parents to children and keeps, instead of every partial point, how many of
        them leave the same later parameters without a chance to exist.
        """
        counts: Counter[frozenset[str]] = Counter({frozenset(): 1})
        for name in family:
            parameter = self[name]
            children = {n: self[n].conditions[name] for n in family if name in self[n].conditions}
            named = {value for values in children.values() for value in values}
            ends: Counter[frozenset[str]] = Counter()
            for value in named:
                ends[frozenset(n for n, values in children.items() if value not in values)] += 1
            ends[frozenset(children)] += (parameter.cardinality or 1) - len(named)
            after: Counter[frozenset[str]] = Counter()
            for ended, count in counts.items():
                if name in ended:
                    after[(ended - {name}) | frozenset(children)] += count
                else:
                    for more, n_values in ends.items():
                        after[ended | more] += count * n_values
            counts = after
        return counts.total()

    def _holds(self, name: str, params: Mapping[str, Any]) -> bool:
        return all(
            parent in params and any(same_scalar(params[parent], value) for value in values)
            for parent, values in self[name].conditions.items()
        )

    def active(self, params: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names of the parameters that exist given the values of the others.

        Names in `params` that do not exist there are ignored, so a full set may be passed too.
        """
        active: dict[str, Any] = {}
        for name in self:
            if self._holds(name, active):
                active[name] = params.get(name, _Missing)
        return tuple(active)

    def problems(self, params: Mapping[str, Any]) -> tuple[str, ...]:
        """Return what keeps `params` from being one complete point of this space, a line each."""
        active = self.active(params)
        lines = []
        for name in active:
            if name not in params:
                lines.append(f"{name} is missing")
            elif not self[name].contains(params[name]):
                value = show_scalar(params[name])
                lines.append(f"{name}={value} is not in {describe(self[name])}")
        for name in params:
            if name not in self:
                lines.append(f"{name} is not a parameter of this search space")
            elif name not in active:
                parents = ", ".join(self[name].conditions)
                lines.append(f"{name} does not exist under these values of {parents}")
        return tuple(lines)

    def on_grid(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the same values, with floats that are points of a grid up to rounding exactly so.

        Names that are no parameters keep their values.
        """
        found = dict(params)
        for name, parameter in self.items():
            if name in found and isinstance(parameter, FloatParameter):
                found[name] = parameter.on_grid(found[name])
        return found

    def nearest(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the same values, with floats that have a step moved to the nearest point."""
        found = dict(params)
        for name, parameter in self.items():
            if name in found and isinstance(parameter, FloatParameter) and parameter.grid:
                found[name] = parameter.grid.value(parameter.grid.nearest(found[name]))
        return found

    def suggest(self, trial: optuna.Trial) -> dict[str, ParamValue]:
        """Draw one point from an Optuna trial, parents first, and return it.

        A parameter that the trial already has is not drawn again.
        """
        params: dict[str, ParamValue] = {}
        for name in self:
            if self._holds(name, params):
                params[name] = plain(trial._suggest(name, self[name].distribution()))
        return params

    def distributions(self) -> dict[str, optuna.distributions.BaseDistribution]:
        """Return every parameter as Optuna knows it, conditional ones too."""
        return {name: parameter.distribution() for name, parameter in self.items()}

    def to_unit(self, params: Mapping[str, Any]) -> list[float]:
        """Return the point in the unit cube, one coordinate a parameter, 0.5 where inactive."""
        active = self.active(params)
        return [self[n].to_unit(params[n]) if n in active else 0.5 for n in self]

    def from_unit(self, unit: Sequence[float]) -> dict[str, ParamValue]:
        """Return the point at a place in the unit cube, with its active parameters only."""
        params: dict[str, ParamValue] = {}
        for name, coordinate in zip(self, unit, strict=True):
            if self._holds(name, params):
                params[name] = self[name].from_unit(coordinate)
        return params


class _Missing:
    """Stands for the value of an active parameter that was not given; equal to no condition."""


@dataclass(frozen=True, slots=True)
class ConditionProblem:
    """A condition that can never be met."""

    name: str
    """The parameter that has the condition."""
    parent: str
    """The parent that the condition names."""
    message: str
    hint: str


def condition_problems(
    parameters: Mapping[str, FloatParameter | IntParameter | CategoricalParameter],
) -> tuple[ConditionProblem, ...]:
    """Return every condition that cannot be met."""
    problems = []
    parents = {n: {c for c in p.conditions if c in parameters} for n, p in parameters.items()}
    for name, parameter in parameters.items():
        for parent, values in parameter.conditions.items():
            if parent == name:
                message = "when must name another parameter, but it names the parameter itself"
                hint = "name the parameter that this one depends on"
            elif parent not in parameters:
                others = ", ".join(n for n in parameters if n != name) or "no other"
                message = f"when must name a searched parameter, but there is no {parent!r}"
                hint = f"there are: {others}"
            elif isinstance(parameters[parent], FloatParameter):
                # Whether a float equals a value is a matter of rounding, and of luck without step.
                message = f"when must name an int or categorical parameter, but {parent} is a float"
                hint = f"add a categorical parameter that decides, or make {parent} one"
            elif not values:
                message = f"when must name a value of {parent}, but the list is empty"
                hint = f"name values out of {describe(parameters[parent])}, or drop the condition"
            elif wrong := [v for v in values if not parameters[parent].contains(v)]:
                domain = describe(parameters[parent])
                value = show_scalar(wrong[0])
                message = f"when must name values of {parent}, but {value} is not in {domain}"
                hint = "the type counts too: 1, 1.0, true and '1' are four different values"
            elif name == next(iter(circle := _circle(name, parents)), None) and parent in circle:
                # One problem for each circle, not one for each of its members.
                message = f"conditions must not form a circle, but {' and '.join(circle)} do"
                hint = "drop the condition of one of them"
            else:
                continue
            problems.append(ConditionProblem(name, parent, message, hint))
    return tuple(problems)


def _circle(name: str, parents: Mapping[str, set[str]]) -> list[str]:
    """Return the parameters that depend on this one and that it depends on, in their order."""
    above = _ancestors(name, parents)
    return [n for n in parents if n in above and name in _ancestors(n, parents)]


def _ancestors(name: str, parents: Mapping[str, set[str]]) -> set[str]:
    """Return all that a parameter depends on; itself only when it stands in a circle."""
    seen: set[str] = set()
    waiting = [*parents[name]]
    while waiting:
        if (above := waiting.pop()) not in seen:
            seen.add(above)
            waiting.extend(parents[above])
    return seen


def describe(parameter: FloatParameter | IntParameter | CategoricalParameter) -> str:
    """Return the parameter's domain in a few characters, such as `[0.0001, 0.01] log`."""
    if isinstance(parameter, CategoricalParameter):
        return "{" + ", ".join(show_scalar(choice) for choice in parameter.choices) + "}"
    text = f"[{show_number(parameter.low)}, {show_number(parameter.high)}]"
    if parameter.log:
        text += " log"
    if parameter.step is not None and parameter.step != 1:
        text += f" step {show_number(parameter.step)}"
    return text


def show_number(value: float) -> str:
    """Return a number in six digits where they are all it has, else with every digit."""
    text = f"{value:g}"
    return text if float(text) == value else repr(value)


def show_scalar(value: Any) -> str:
    """Return a value as YAML and JSON write it: `true` rather than `True`."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def plain(value: Any) -> ParamValue:
    """Return a NumPy scalar as the Python value it stands for; anything else unchanged."""
    item = getattr(value, "item", None)
    result: ParamValue = item() if callable(item) else value
    return result


def _check_range(low: float, high: float, log: bool, step: float | None) -> None:
    if low > high:
        raise broken_rule(
            f"low must not be above high, but low={show_number(low)} and high={show_number(high)}",
            "did you swap them?",
        )
    if not math.isfinite(high - low):
        raise broken_rule(
            "high - low must be a finite number, but "
            f"low={show_number(low)} and high={show_number(high)}",
            "narrow the range, or use a log scale of the magnitude",
        )
    if log and low <= 0:
        raise broken_rule(
            f"a log scale needs low above 0, but low={show_number(low)}",
            "give low the smallest value that makes a difference, or drop log",
        )
    if step is None:
        return
    if log:
        raise broken_rule(
            f"log and step exclude each other, but step={show_number(step)} and log=true",
            "drop one of them",
        )
    n_steps = (
        FloatGrid(low, high, step).n_steps if isinstance(step, float) else (high - low) // step
    )
    if n_steps == 0 and low < high:
        raise broken_rule(
            f"step must not be above high - low = {high - low:g}, but step={show_number(step)}",
            "make the step smaller or the range wider",
        )
    if isinstance(step, float) and max(abs(low), abs(high)) > MOST_STEPS * step:
        raise broken_rule(
            f"step must be at least a {MOST_STEPS:,}th of the largest value, but "
            f"step={show_number(step)} between low={show_number(low)} and "
            f"high={show_number(high)} is lost in rounding",
            "make the step larger, or drop it: so fine a grid is a continuum",
        )


def _to_unit(value: float, low: float, high: float, log: bool) -> float:
    if low == high:
        return 0.5
    if log:
        return (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))
    return (value - low) / (high - low)


def _from_unit(unit: float, low: float, high: float, log: bool) -> float:
    unit = min(max(unit, 0.0), 1.0)
    if log:
        return math.exp(math.log(low) + unit * (math.log(high) - math.log(low)))
    return low + unit * (high - low)

"""The three kinds of parameters: float, int and categorical."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from studyflow.spec.float_grid import MOST_STEPS, FloatGrid
from studyflow.spec.prior import Prior, check_choice_prior, check_number_prior
from studyflow.spec.values import (
    LARGEST_WHOLE,
    Conditions,
    Real,
    Scalar,
    Truth,
    Whole,
    broken_rule,
    same_scalar,
    show_number,
    show_scalar,
)

if TYPE_CHECKING:
    import optuna


class _Parameter(BaseModel):
    """What all kinds of parameter share."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    when: dict[str, list[Scalar] | Scalar] = Field(
        default_factory=dict,
        description="The parameter exists only where each named parent has this value, or one of "
        "these values.",
        examples=[{"optimizer": "sgd"}],
    )

    prior: Prior | None = Field(
        default=None,
        description="Where good values are believed to be; only sampler botorch uses it, and the "
        "more trials finish the less.",
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
        check_number_prior(self.prior, self.low, self.high)
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
        check_number_prior(self.prior, self.low, self.high)
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
        check_choice_prior(self.prior, self.choices)
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

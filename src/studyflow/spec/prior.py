"""What somebody believes of a parameter before the study: where its good values are."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict, Field, model_validator

from studyflow.spec.values import Real, Scalar, broken_rule, show_number, show_scalar

_FORMS: Final = "write `{mean: 3.0e-4, sd: 0.5}`, or `{good: [1.0e-4, 1.0e-3]}`"


class Prior(BaseModel):
    """Where good values of a parameter are believed to be: around a mean, a range, or choices."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    mean: Real | None = Field(
        default=None, description="The value believed to be best.", examples=[3.0e-4]
    )
    sd: Real | None = Field(
        default=None,
        gt=0,
        description="How far off it may well be: in the parameter's units, on a log scale in "
        "powers of ten.",
        examples=[0.5],
    )
    good: tuple[Scalar, ...] = Field(
        default=(),
        description="Of a number the two ends of the range believed to be good, of a categorical "
        "parameter the choices.",
        examples=[[1.0e-4, 1.0e-3]],
    )

    @model_validator(mode="after")
    def _check(self) -> Prior:
        is_bell = self.mean is not None and self.sd is not None
        is_half = (self.mean is None) != (self.sd is None)
        if is_half or is_bell == bool(self.good):
            given = [n for n in ("mean", "sd", "good") if getattr(self, n) not in (None, ())]
            raise broken_rule(
                "a prior has mean and sd, or good, "
                f"but this one has {' and '.join(given) or 'none of them'}",
                _FORMS,
            )
        return self


def check_number_prior(prior: Prior | None, low: float, high: float) -> None:
    """Return if a prior fits a parameter that is a number.

    Args:
        prior: `None` fits.
        low: The parameter's smallest value.
        high: Its largest.

    Raises:
        PydanticCustomError: It does not.
    """
    if prior is None:
        return
    bounds = f"between low={show_number(low)} and high={show_number(high)}"
    if prior.mean is not None and not low <= prior.mean <= high:
        raise broken_rule(
            f"prior.mean must lie {bounds}, but it is {show_number(prior.mean)}",
            "move it inside, or widen the range: values outside are never tried",
        )
    if not prior.good:
        return
    numbers = [v for v in prior.good if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(prior.good) != 2 or len(numbers) != 2 or not low <= numbers[0] < numbers[1] <= high:
        shown = ", ".join(show_scalar(value) for value in prior.good)
        raise broken_rule(
            f"prior.good of a number must be two rising numbers {bounds}, but it is [{shown}]",
            "give the smallest and the largest value that you believe to be good",
        )


def check_choice_prior(prior: Prior | None, choices: tuple[Scalar, ...]) -> None:
    """Return if a prior fits a categorical parameter.

    Args:
        prior: `None` fits.
        choices: The parameter's.

    Raises:
        PydanticCustomError: It does not.
    """
    if prior is None:
        return
    if prior.mean is not None:
        raise broken_rule(
            "choices have no order, so prior.mean says nothing of them, but it is "
            f"{show_number(prior.mean)}",
            "name the choices you believe in: `prior: {good: [...]}`",
        )
    known = {(type(choice), choice) for choice in choices}
    unknown = [show_scalar(v) for v in prior.good if (type(v), v) not in known]
    if unknown:
        raise broken_rule(
            f"prior.good must name choices, but {', '.join(unknown)} is none",
            f"there are: {', '.join(show_scalar(choice) for choice in choices)}",
        )

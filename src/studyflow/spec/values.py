"""Values of parameters: which there are, when two are the same, and how they are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import Field, Strict
from pydantic_core import PydanticCustomError

from studyflow.trial import ParamValue

Scalar = bool | int | float | str | None
Conditions = Mapping[str, tuple[Scalar, ...]]

# Pydantic alone would take `true` for 1 and "16" for 16: in a study file both are mistakes.
Whole = Annotated[int, Strict()]
Real = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Truth = Annotated[bool, Strict()]

LARGEST_WHOLE: Final = 2**53
"""Largest whole number a parameter can take: Optuna stores every value as a double, and beyond
this bound neighbouring numbers become one."""


def broken_rule(message: str, hint: str) -> PydanticCustomError:
    """Return the error for a validator to raise; the hint stays apart from rule and value."""
    return PydanticCustomError(
        "broken_rule", "{message} ({hint})", {"message": message, "hint": hint}
    )


def same_scalar(a: Scalar, b: Scalar) -> bool:
    """Whether two scalars are the same choice; `1`, `1.0` and `True` are three different ones."""
    return type(a) is type(b) and a == b


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

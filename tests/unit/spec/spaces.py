"""Parameters in a few words."""

from __future__ import annotations

from typing import Any

from studyflow.spec.parameters import CategoricalParameter, FloatParameter, IntParameter


def floats(low: float, high: float, **more: Any) -> FloatParameter:
    """Return a float parameter."""
    return FloatParameter(type="float", low=low, high=high, **more)


def ints(low: int, high: int, **more: Any) -> IntParameter:
    """Return an int parameter."""
    return IntParameter(type="int", low=low, high=high, **more)


def choices(*values: Any, **more: Any) -> CategoricalParameter:
    """Return a categorical parameter."""
    return CategoricalParameter(type="categorical", choices=values, **more)

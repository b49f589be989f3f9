"""Checks what training code passes as metrics, and says clearly what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from studyflow.trial import NAME_LIMIT_CHARS

_NAME: Final = re.compile(r"[\w\-. :/]+", re.ASCII)
"""What MLflow takes for a key everywhere."""


def read_metrics(function: str, metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics as plain floats.

    Args:
        function: Name of the SDK function, for messages.
        metrics: Anything that user code passed by name.

    Raises:
        TypeError: A value is not one number. Booleans and strings are refused, too: they get here
            by mistake.
        ValueError: A name is empty, too long or of other characters than MLflow takes.
    """
    return {_read_name(function, name): _read(function, name, v) for name, v in metrics.items()}


def shorten(value: Any, limit: int = 60) -> str:
    """Return what a value looks like in a message: type and beginning."""
    try:
        # Python refuses to write integers of more than 4,300 digits.
        shown = hex(value) if isinstance(value, int) and abs(value) >> 4096 else repr(value)
    except Exception:  # noqa: BLE001 - user code, and only a message is at stake
        shown = "<no repr>"
    shown = " ".join(shown.split())
    if len(shown) > limit:
        shown = shown[: limit - 1] + "…"
    return f"{shown} ({type(value).__name__})"


def _read_name(function: str, name: str) -> str:
    if len(name) > NAME_LIMIT_CHARS:
        raise ValueError(
            f"{function}: a metric's name has at most {NAME_LIMIT_CHARS} characters; this one has "
            f"{len(name)}: {name[:40]!r}…"
        )
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{function}: a metric's name consists of letters, digits, spaces and _ - . : / only, "
            f"not {name[:60]!r}."
        )
    return name


def _read(function: str, name: str, value: Any) -> float:
    # Tensor libraries raise what they like: for several elements, for a tensor without data.
    try:
        element = _only_element(value)
        # numpy's and torch's truth values turn into numbers as willingly as Python's.
        is_truth = isinstance(element, bool) or type(element).__name__ in ("bool_", "bool")
        if not is_truth and not isinstance(element, str | bytes | bytearray):
            return float(element)
    except OverflowError as error:
        raise TypeError(
            f"{function}: {name} must be a number within the range of floats, up to 1.8e308, not "
            f"{shorten(value)}."
        ) from error
    except Exception as error:
        raise TypeError(_message(function, name, value)) from error
    raise TypeError(_message(function, name, value))


def _only_element(value: Any) -> Any:
    """Return the element of an array or tensor with one, of any shape; other values as they are.

    Arrays of one element turn into floats only without a shape (numpy from 2.4 on), and complex
    ones lose half of themselves on the way.
    """
    mask = getattr(value, "mask", None)
    if mask is not None and not callable(mask) and bool(mask.any()):
        raise TypeError("a masked element has no value")
    if hasattr(value, "shape") and callable(item := getattr(value, "item", None)):
        return item()
    return value


def _message(function: str, name: str, value: Any) -> str:
    return f"{function}: {name} must be a number or a tensor of one element, not {shorten(value)}."

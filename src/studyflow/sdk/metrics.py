"""Checks what training code passes as metrics, and says clearly what is wrong with it."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from typing import Any, Final

from studyflow.sdk.console import text_of
from studyflow.trial import NAME_LIMIT_CHARS

_NAME: Final = re.compile(r"[\w\-. :/]+", re.ASCII)
"""What MLflow takes for a key everywhere."""

STEP_LIMIT: Final = 2**63
"""Steps from here on are no numbers of 64 bits: neither MLflow nor a database stores them."""


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


def name_value(
    value: Any, metrics: Mapping[str, Any], expected: tuple[str, ...] | None
) -> Mapping[str, Any]:
    """Return the metrics of `finish` by name, the positional value among them.

    Args:
        value: The positional value; `None` for none.
        metrics: Those that were passed by name.
        expected: Names that the study expects; `None` outside a study.

    Raises:
        TypeError: There is no value at all, it is not clear which metric it is, or it is given
            twice.
    """
    if value is None:
        if not metrics and expected is not None:
            raise TypeError(
                "finish: no value was given (None counts as none). "
                f"The study expects {list_names(list(expected)) or 'a metric'}."
            )
        return metrics
    names = expected or ("value",)
    if len(names) != 1:
        raise TypeError(
            f"finish: the study expects {list_names(list(names))}: pass them by name instead of "
            f"{shorten(value)}."
        )
    if names[0] in metrics:
        raise TypeError(f"finish: {names[0]!r} is given twice, without and with its name.")
    return {names[0]: value, **metrics}


def read_step(step: Any, function: str = "report") -> int:
    """Return a step as an integer.

    Args:
        step: What user code passed.
        function: Name of the SDK function, for messages.

    Raises:
        TypeError: It is none.
        ValueError: It is negative, or does not fit into 64 bits.
    """
    number = _read_whole(f"{function}: the step", step)
    if number < 0:
        raise ValueError(f"{function}: the step must be 0 or more, not {shorten(number)}.")
    if number >= STEP_LIMIT:
        raise ValueError(f"{function}: the step must be below 2**63, not {shorten(number)}.")
    return number


def read_keep(keep: Any) -> int:
    """Return how many checkpoints are to stay.

    Raises:
        TypeError: It is no integer.
        ValueError: It is below 1.
    """
    number = _read_whole("checkpoint: keep", keep)
    if number < 1:
        raise ValueError(f"checkpoint: keep must be 1 or more, not {shorten(number)}.")
    return number


def _read_whole(what: str, value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError(f"{what} must be an integer, not {value!r}.")
    try:
        return operator.index(value)
    except TypeError as error:
        raise TypeError(f"{what} must be an integer, not {shorten(value)}.") from error


def list_names(names: list[str], limit: int = 8) -> str:
    """Return names as a list in a sentence; of many, the first ones."""
    shown = ", ".join(repr(name) for name in names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown


def shorten(value: Any, limit: int = 60) -> str:
    """Return what a value looks like in a message: type and beginning."""
    # Python refuses to write integers of more than 4,300 digits in decimal.
    is_huge = isinstance(value, int) and abs(value) >> 4096
    shown = " ".join(text_of(value, hex if is_huge else repr, "<no repr>").split())
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

"""Values of parameters as the cells of a table, written so that reading gives the same value.

A cell holds text only: `1` may be a number or a text, and an empty cell null or an empty text. What
a text alone would leave open is written as JSON: a text in double quotes, any other value in
brackets, as in `"1"` and `[1]`. Every table that studyflow writes or reads keeps to this.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Final

from studyflow.spec.values import Scalar

_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_NOT_FINITE: Final = re.compile(r"[+-]?(nan|inf|infinity)", re.ASCII | re.IGNORECASE)
_WHOLE: Final = re.compile(r"[+-]?\d{1,4000}", re.ASCII)  # Python refuses to read longer ones
_COMMA_NUMBER: Final = re.compile(r"[+-]?(?=.*\d)[\d.' ]*,[\d.,' ]*([eE][+-]?\d+)?", re.ASCII)
_IN_BRACKETS: Final = re.compile(r"\[([^\[\]]*)\]")

_NULLS: Final = ("null", "none")
_OTHER_NULLS: Final = frozenset(
    ("na", "n/a", "#n/a", "#n/a n/a", "#na", "<na>", "nan", "1.#ind", "1.#qnan")
)
"""What pandas reads as a missing value beside an empty cell, in small letters."""


def write_cell(value: Scalar, choices: Sequence[Scalar] = ()) -> str:
    """Return the cell of a value.

    Args:
        value: A parameter's value.
        choices: All values of a categorical parameter: the cell means this one of them only.
    """
    if isinstance(value, str):
        plain, marked = value, json.dumps(value, ensure_ascii=not value.isprintable())
        is_plain = not _is_special(value)
    else:
        plain = _bare(value)
        marked, is_plain = f"[{plain}]", True
    is_clear = not choices or len(meanings(plain, choices)) == 1
    return plain if is_plain and is_clear else marked


def meanings(text: str, choices: Sequence[Scalar]) -> tuple[Scalar, ...]:
    """Return all choices that a cell may stand for: none, one, or several that look alike.

    Besides what `write_cell` writes, it reads what Python and pandas make of a value: an empty cell
    or `None` for null, `True`, `2.0` for 2, a text as it is.
    """
    marked = _marked(text.strip())
    if marked is not None:
        named = tuple(choice for choice in choices if _is_same(choice, marked[0]))
        if named:
            return named
    return tuple(choice for choice in choices if _may_mean(text, choice))


def read_number(text: str) -> int | float:
    """Return the number that a cell holds, written with a decimal point or not finite.

    Raises:
        ValueError: It holds none.
    """
    if _WHOLE.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text) or _NOT_FINITE.fullmatch(text):
        return float(text)
    raise ValueError(text)


def is_comma_number(text: str) -> bool:
    """Whether a cell looks like a number with a decimal comma, or with commas for thousands."""
    return _COMMA_NUMBER.fullmatch(text) is not None


def show_cell(text: str) -> str:
    """Return the beginning of a cell for a sentence."""
    text = text[:40]
    return text if text.isprintable() else repr(text)[1:-1]


def _bare(value: Scalar) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return repr(value)


def _is_special(text: str) -> bool:
    """Whether a text would be taken for something else, by us, by pandas or by a spreadsheet."""
    word = text.strip().lower()
    return (
        text != text.strip()
        or not text.isprintable()
        or text.startswith(('"', "[", "=", "+", "-", "@", "'"))
        or word in ("", "true", "false", *_NULLS)
        or word in _OTHER_NULLS
        or is_comma_number(text)
        or _is_number_to_python(text)
    )


def _is_number_to_python(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _marked(text: str) -> tuple[Scalar] | None:
    """Return the value of a cell in JSON's quotes or in brackets."""
    if text.startswith('"'):
        try:
            value = json.loads(text)
        except ValueError:
            return None
        return (value,) if isinstance(value, str) else None
    inside = _IN_BRACKETS.fullmatch(text)
    if inside is None:
        return None
    word = inside[1].strip()
    if word in ("null", "true", "false"):
        scalar: Scalar = json.loads(word)
        return (scalar,)
    try:
        return (read_number(word),)
    except ValueError:
        return None


def _is_same(a: Scalar, b: Scalar) -> bool:
    kinds = [(isinstance(v, bool), isinstance(v, str), v is None) for v in (a, b)]
    return kinds[0] == kinds[1] and a == b


def _may_mean(text: str, choice: Scalar) -> bool:
    word = text.strip()
    if isinstance(choice, str):
        return choice in (text, word)
    if choice is None:
        return word == "" or word.lower() in _NULLS
    if isinstance(choice, bool):
        return word.lower() == _bare(choice)
    try:
        number = read_number(word)
    except ValueError:
        return False
    return number == choice and math.isfinite(choice)

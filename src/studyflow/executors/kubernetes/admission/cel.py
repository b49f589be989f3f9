"""How the conditions of an admission policy are written, in the Common Expression Language."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple


class Validation(NamedTuple):
    """What must hold of a pod."""

    expression: str
    """The condition, in CEL."""
    message: str
    """What is told to whoever creates a pod that does not meet it."""


def escaped(text: str) -> str:
    """Return the pattern of a text."""
    return re.escape(text).replace(r"\-", "-")


def any_of(texts: Iterable[str]) -> str:
    """Return the pattern of any of some texts."""
    return f"({'|'.join(map(escaped, texts))})"


def literal(text: str) -> str:
    """Return a text as CEL writes it."""
    quoted = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{quoted}'"


def listed(texts: Iterable[str]) -> str:
    """Return texts as a list of CEL's."""
    return f"[{', '.join(map(literal, texts))}]"


def all_of(each: str, condition: str, of: str) -> str:
    """Return the condition that holds for all entries of a list of a pod's."""
    return f"variables.{of}.all({each}, {condition})"


def unset_or(path: str, condition: str) -> str:
    """Return the condition that a field has no value, or one that meets a condition."""
    return f"!has({path}) || {condition}"

"""Reads what documents of trials hold, and trusts none of it: they come from user code.

Size, depth, types and names are checked. What is wrong is a `ValueError`, `TypeError` or `KeyError`
that names the value; whoever reads a whole document makes one `DocumentError` of it.

Standard library only: this module is part of every trial image.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from studyflow.errors import DocumentError

DOCUMENT_VERSION: Final = 1
"""Version written into both documents; readers accept this one and every older one they know."""

BEGINNING_BYTES: Final = 60
"""How much of a refused outcome its message shows."""

NAME_LIMIT_CHARS: Final = 250
"""Longest metric name: MLflow's limit for a key."""

ParamValue = bool | int | float | str | None
"""What one parameter can be: a JSON scalar."""

_FLOAT_NAMES: Final = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def encode_float(value: float) -> float | str:
    """Return a JSON value for any float: JSON itself has no NaN and no infinities."""
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return float(value)


def decode_float(value: Any) -> float:
    """Return the float that `encode_float` made a JSON value of.

    Raises:
        TypeError: The value is no number and no text.
        ValueError: It is a text that names none.
    """
    if isinstance(value, str):
        if value not in _FLOAT_NAMES:
            raise ValueError(f"not a number: {value[:40]!r}")
        return _FLOAT_NAMES[value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"not a number: {str(value)[:40]!r}")
    try:
        return float(value)
    except OverflowError:  # Only a whole number can be this long; JSON's 1e999 is read as infinity.
        return math.inf if value > 0 else -math.inf


def int64(value: Any) -> int:
    """Return the value if it is a whole number that databases can store.

    Raises:
        ValueError: It is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**63) <= value < 2**63:
        raise ValueError(f"not a whole number of 64 bits: {str(value)[:40]!r}")
    return value


def metric_name(name: Any) -> str:
    """Return the name if MLflow and the storage can keep a metric by it.

    Raises:
        ValueError: It is empty, too long or holds what cannot be stored.
    """
    if not isinstance(name, str) or not 0 < len(name) <= NAME_LIMIT_CHARS:
        raise ValueError(
            f"a metric's name has 1 to {NAME_LIMIT_CHARS} characters: {str(name)[:40]!r}"
        )
    if storable(name) != name:
        raise ValueError(f"a metric's name holds only characters that can be stored: {name[:40]!r}")
    return name


def storable(text: str) -> str:
    """Return the text without what PostgreSQL (NUL) and UTF-8 (half surrogate pairs) refuse."""
    return text.replace("\0", "?").encode(errors="replace").decode()


def scalars(params: Mapping[str, Any]) -> dict[str, ParamValue]:
    """Return the parameters if each is a JSON scalar.

    Raises:
        TypeError: One is not; the message names it.
    """
    for name, value in params.items():
        if not isinstance(value, bool | int | float | str | None):
            raise TypeError(f"{name[:40]} must be a JSON scalar, not {type(value).__name__}")
    return dict(params)


def valid_key(text: str | None) -> str | None:
    """Return the key of an attempt if it can be one.

    Raises:
        ValueError: It cannot.
    """
    if text is not None and not 0 < len(bytes.fromhex(text)) <= 64:
        raise ValueError("a key has 1 to 64 bytes in hexadecimal")
    return text


def read_object(text: str, what: str) -> dict[str, Any]:
    """Return a document of the version that is read here.

    Args:
        text: The document.
        what: What it is, for messages, such as `outcome`.

    Raises:
        DocumentError: It is no JSON object, holds a key twice, or is of another version.
    """
    try:
        document = json.loads(text, object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"The {what} document is not JSON ({str(error)[:100]}).") from error
    if not isinstance(document, dict):
        raise DocumentError(f"The {what} document is not a JSON object.")
    version = document.get("version")
    if type(version) is not int or version != DOCUMENT_VERSION:  # `true` equals 1 in Python
        raise DocumentError(
            f"The {what} document is of version {str(version)[:20]!r}; "
            f"this studyflow reads version {DOCUMENT_VERSION}.",
            hint="install the same studyflow in the trial's environment and beside the runner.",
        )
    return document


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON, for `json.loads`, which would keep the last of two alike.

    Raises:
        ValueError: A key stands twice.
    """
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key stands twice")
    return document


def with_beginning(error: DocumentError, raw: bytes) -> DocumentError:
    """Return the error with the beginning of the document that was refused."""
    beginning = raw[:BEGINNING_BYTES].decode(errors="replace")
    return DocumentError(f"{error.message} It begins {beginning!r}.", hint=error.hint)


def typed(document: Any, key: str, kind: type[Any]) -> Any:
    """Return a field that must be there, if it is of a type.

    Raises:
        KeyError: There is none.
        TypeError: It is of another type, or stands in no object.
    """
    if not isinstance(document, Mapping):
        raise TypeError(f"{key} must stand in an object, not {type(document).__name__}")
    value = document[key]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"{key} must be {kind.__name__}, not {type(value).__name__}")
    return value


def optional(document: Mapping[str, Any], key: str, kind: type[Any]) -> Any:
    """Return a field, if it is of a type; `None` without one.

    Raises:
        TypeError: It is of another type.
    """
    return None if document.get(key) is None else typed(document, key, kind)

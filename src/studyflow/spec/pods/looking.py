"""Looks into manifests of any form: what is missing, or of another form, is nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def field_of(value: Any, *keys: str) -> Any:
    """Return what stands below these keys; `None` where nothing does."""
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def entries_of(value: Any) -> Sequence[Any]:
    """Return the entries of a list; none of anything else."""
    return value if isinstance(value, list | tuple) else ()

"""What differs between two studies of one name, so that their trials cannot be compared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final


def describe_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a line for every difference between two `StudySpec.identity()`.

    A line is such as `search_space.lr.high: 0.01 → 0.1`; none means that the study may continue.
    """
    return tuple(_differences(old, new, ""))


_MISSING: Final = object()


def _differences(old: Any, new: Any, path: str) -> list[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        lines = []
        for key in dict.fromkeys((*old, *new)):
            below = f"{path}.{key}" if path else str(key)
            lines += _differences(old.get(key, _MISSING), new.get(key, _MISSING), below)
        return lines
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [
            line
            for i, (o, n) in enumerate(zip(old, new, strict=True))
            for line in _differences(o, n, f"{path}[{i}]")
        ]
    # `True` equals 1 in Python, yet they are two choices.
    if old == new and isinstance(old, bool) is isinstance(new, bool):
        return []
    return [f"{path}: {_side(old)} → {_side(new)}"]


def _side(value: Any) -> str:
    return "nothing" if value is _MISSING else json.dumps(value, ensure_ascii=False)

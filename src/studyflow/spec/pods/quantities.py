"""Amounts as Kubernetes writes them: `500m`, `16Gi`, `2e3`."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Final

_QUANTITY: Final = re.compile(
    r"(?P<number>\d{1,20}(?:\.\d{0,12})?|\.\d{1,12})"
    r"(?P<unit>n|u|m|k|[MGTPE]|[KMGTPE]i|[eE][-+]?\d{1,2})?\Z"
)
_UNITS: Final = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal(10**3),
    **{unit: Decimal(10 ** (3 * i)) for i, unit in enumerate("MGTPE", 2)},
    **{f"{unit}i": Decimal(1024**i) for i, unit in enumerate("KMGTPE", 1)},
}


def amount(quantity: Any) -> Decimal | None:
    """Return what a quantity stands for, in cores, bytes or pieces; `None` when it is none.

    Negative amounts are none.
    """
    if isinstance(quantity, bool) or not isinstance(quantity, int | float | str):
        return None
    match = _QUANTITY.match(str(quantity))
    if match is None:
        return None
    unit = match["unit"] or ""
    factor = _UNITS[unit] if unit in _UNITS else Decimal(f"1{unit}")
    return Decimal(match["number"]) * factor

"""What a study has spent, for its report: a table of the budget and a bar for each cause."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from studyflow.reports.data import StudyData
from studyflow.trial import Consequence

_LONGEST_BAR: Final = 340


@dataclass(frozen=True, slots=True)
class CauseBar:
    """The hours of attempts that ended alike."""

    name: str
    width: float
    opacity: float
    """Lower for hours that brought no result."""
    text: str


@dataclass(frozen=True, slots=True)
class SpendingTable:
    """The section about GPU-hours."""

    title: str
    rows: tuple[tuple[str, str], ...]
    causes: tuple[CauseBar, ...]
    alt: str
    """The bars in words."""


def spending_table(data: StudyData) -> SpendingTable | None:
    """Return the section about GPU-hours; `None` for a study that no attempt has run of."""
    statement = data.statement
    total, unit = statement.total, statement.unit
    if not total.unit_seconds and not statement.balances:
        return None
    longest = max(total.by_cause.values(), default=0.0)
    bars = tuple(
        CauseBar(
            cause.value,
            round(_LONGEST_BAR * seconds / longest, 1),
            0.75 if cause.consequence is Consequence.TELL else 0.35,
            f"{seconds / 3600:.3g} ({seconds / total.unit_seconds:.0%})",
        )
        for cause, seconds in total.by_cause.items()
        if seconds > 0
    )
    alt = f"{unit} by cause: " + ", ".join(f"{bar.name} {bar.text}" for bar in bars)
    return SpendingTable(unit[0].upper() + unit[1:], statement.rows(), bars, alt)

"""What a study has spent, for its report: a table, a bar for each cause, and a chart over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from studyflow.ledger.statement import Statement
from studyflow.reports import svg
from studyflow.reports.chart import NARROW, Panel
from studyflow.reports.data import StudyData
from studyflow.reports.spending_chart import draw_spending, spending_curve
from studyflow.reports.svg import Canvas
from studyflow.trial import Consequence

_WIDE: Final = 600.0
_ROW: Final = 26.0


@dataclass(frozen=True, slots=True)
class SpendingTable:
    """The section about GPU-hours."""

    title: str
    rows: tuple[tuple[str, str], ...]
    bars: tuple[Panel, ...]
    """A bar for each cause, on a wide screen and on a narrow one; empty before an attempt ended."""
    over_time: tuple[Panel, ...] = ()
    """What was spent over time, on both; empty before two attempts ended."""


def spending_table(data: StudyData) -> SpendingTable | None:
    """Return the section about GPU-hours; `None` for a study that no attempt has run of."""
    statement = data.statement
    unit, has_spent = statement.unit, any(s > 0 for s in statement.total.by_cause.values())
    if not statement.total.unit_seconds and not statement.balances:
        return None
    bars = tuple(_bars(statement, width) for width in (_WIDE, NARROW)) if has_spent else ()
    curve = spending_curve(data)
    widths = () if curve is None else (_WIDE, NARROW)
    over_time = tuple(draw_spending(curve, unit, width) for width in widths if curve is not None)
    return SpendingTable(unit[0].upper() + unit[1:], statement.rows(), bars, over_time)


def _bars(statement: Statement, width: float) -> Panel:
    """Draw the hours of attempts that ended alike; those that brought no result are paler."""
    total = statement.total
    causes = {cause: seconds for cause, seconds in total.by_cause.items() if seconds > 0}
    texts = {c: f"{s / 3600:.3g} ({s / total.unit_seconds:.0%})" for c, s in causes.items()}
    left = 12.0 + max(svg.width_of(cause.value) for cause in causes)
    room = width - left - 10.0 - max(svg.width_of(text) for text in texts.values())
    canvas = Canvas(width, _ROW * len(causes))
    for row, (cause, seconds) in enumerate(causes.items()):
        top, length = _ROW * row, room * seconds / max(causes.values())
        has_result = cause.consequence is Consequence.TELL
        cls = "complete" if has_result else "infeasible"
        canvas.text(left - 8, top + 17, cause.value, "tick", "end")
        canvas.add("rect", cls=cls, x=left, y=top + 4, width=length, height=17, rx=2)
        canvas.text(left + length + 6, top + 17, texts[cause], "tick")
    listed = ", ".join(f"{cause.value} {text}" for cause, text in texts.items())
    return Panel(canvas, f"{statement.unit} by cause: {listed}")

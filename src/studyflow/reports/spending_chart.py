"""What a study has spent over time, with what it is expected to spend and what it may."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from studyflow.ledger.limits import Balance, LimitKind
from studyflow.ledger.rows import all_rows
from studyflow.reports import svg, wording
from studyflow.reports.axis import number_axis
from studyflow.reports.chart import Frame, Panel
from studyflow.reports.data import StudyData
from studyflow.reports.svg import Canvas


@dataclass(frozen=True, slots=True)
class SpendingCurve:
    """Hours of GPUs, or of places, that ended attempts had cost, over the hours of the study."""

    points: tuple[tuple[float, float], ...]
    """(Hours since the study began, hours spent by then), as attempts ended; from (0, 0)."""
    forecast: tuple[float, float] | None = None
    """The same in the end, at the rate so far; `None` if nothing more is expected."""
    limit: float | None = None
    """`budget.gpu_hours`; `None` without."""


def spending_curve(data: StudyData) -> SpendingCurve | None:
    """Return what a study has spent over time; `None` before two of its attempts have ended.

    Attempts of which nobody knows when they ended are counted from the beginning.
    """
    rows = all_rows(data.records, data.spec.trial.resources.gpu)
    paid = [row for row in rows if row.unit_seconds > 0]
    ended = sorted((r.recorded_at, r.unit_seconds) for r in paid if r.recorded_at is not None)
    if len(ended) < 2:
        return None
    start = min(ended[0][0] if data.started_at is None else data.started_at, ended[0][0])
    spent = sum(row.unit_seconds for row in paid if row.recorded_at is None)
    points = [(0.0, spent / 3600)]
    for at, seconds in ended:
        spent += seconds
        points.append(((at - start) / 3600, spent / 3600))
    balance = next((b for b in data.statement.balances if b.kind is LimitKind.GPU_HOURS), None)
    limit = None if balance is None else balance.limit
    return SpendingCurve(tuple(points), _forecast(points, balance), limit)


def draw_spending(curve: SpendingCurve, unit: str, width: float) -> Panel:
    """Draw it: what is spent as steps, the forecast and the limit as broken lines.

    Args:
        curve: What to draw.
        unit: What is counted, such as `GPU-hours`.
        width: Natural width of the picture.
    """
    ends = [curve.points[-1], *([curve.forecast] if curve.forecast else [])]
    highest = max(*(y for _, y in ends), curve.limit or 0.0)
    canvas = Canvas(width, 250)
    x = number_axis("hours since the study began", 0.0, max(x for x, _ in ends))
    frame = Frame(canvas, x, number_axis(f"{unit} spent", 0.0, highest * 1.05))
    told = f"{unit[0].upper()}{unit[1:]} spent over time: {wording.number(curve.points[-1][1], 3)}"
    if curve.limit is not None:
        frame.horizontal(curve.limit, "target stroke dash")
        left, height = frame.at(0.0, curve.limit)
        canvas.text(left + 4, height - 5, f"limit {curve.limit:g}", "tick halo")
        told += f" of {curve.limit:g}"
    if curve.forecast is not None:
        canvas.line(*frame.at(*curve.points[-1]), *frame.at(*curve.forecast), "quiet stroke dash")
        across, height = frame.at(*curve.forecast)
        text = f"forecast {wording.number(curve.forecast[1], 3)}"
        canvas.text(across, height + 16, text, "tick halo", "end")
        told += f", {text}"
    path = svg.steps(frame.at(*point) for point in curve.points)
    canvas.add("path", cls="complete stroke", d=path)
    return Panel(canvas, f"{told}.")


def _forecast(
    points: Sequence[tuple[float, float]], balance: Balance | None
) -> tuple[float, float] | None:
    """Return when a study will have spent how much, if it goes on as it did; `None` for no more."""
    hours, spent = points[-1]
    if balance is None or hours <= 0 or spent <= 0:
        return None
    more = balance.forecast - spent
    if more <= spent * 1e-6 or not math.isfinite(more):
        return None
    return hours * balance.forecast / spent, balance.forecast

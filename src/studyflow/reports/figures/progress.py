"""How soon good values came: by time, by what was spent, and how many trials reached them.

Optuna draws an empirical distribution; neither time nor GPU-hours.
"""

from __future__ import annotations

from collections.abc import Callable

from studyflow.ledger.rows import rows_of
from studyflow.reports import chart, svg, wording
from studyflow.reports.axis import number_axis, objective_axis
from studyflow.reports.chart import Drawing, Frame, Key, Panel
from studyflow.reports.data import Omitted, StudyData
from studyflow.reports.objective_scale import ObjectiveScale
from studyflow.reports.svg import Canvas
from studyflow.trial.record import TrialRecord

MIN_TRIALS = 3
"""Feasible trials below which there is no course to speak of."""


def progress(data: StudyData) -> Drawing | Omitted:
    """Return the best value by wall time and by hours spent, and the values' distribution."""
    if data.is_multi_objective:
        return Omitted("with several objectives there is no best value by time")
    feasible = [r for r in data.complete if r.is_feasible]
    timed = [r for r in feasible if r.finished_at is not None]
    if len(timed) < MIN_TRIALS:
        return Omitted(f"it takes {MIN_TRIALS} complete trials; there are {len(timed)}")
    origin = data.started_at or 0.0
    unit = data.statement.unit
    spent = _spent_by_end(data)
    elapsed, divisor = _unit_of((data.finished_at or origin) - origin)
    panels = [
        _best_by(data, timed, f"{elapsed} since the start", lambda r: (_end(r) - origin) / divisor)
    ]
    if max(spent.values(), default=0.0) > 0.0:
        panels.append(_best_by(data, timed, f"{unit} spent", lambda r: spent[r.number]))
    panels.append(_distribution(data, feasible))
    return Drawing(
        title=_title(data, timed, origin, spent, unit),
        note="lines: best so far; last panel: share of trials at least as good",
        alt=f"The best {data.metrics[0]} by time and by {unit}, and the share of trials that "
        "reached each value.",
        panels=tuple(panels),
        keys=(Key("best so far", "line", "best"), Key("share of trials", "line", "complete")),
    )


def _end(record: TrialRecord) -> float:
    return record.finished_at or 0.0


def _spent_by_end(data: StudyData) -> dict[int, float]:
    """Return the hours that all trials had spent when each one ended, by number."""
    gpus = data.spec.trial.resources.gpu
    in_order = sorted(
        (r for r in data.trials if r.finished_at is not None), key=lambda r: (_end(r), r.number)
    )
    total, found = 0.0, {}
    for record in in_order:
        total += sum(row.unit_seconds for row in rows_of(record, gpus)) / 3600.0
        found[record.number] = total
    return found


def _title(
    data: StudyData, timed: list[TrialRecord], origin: float, spent: dict[int, float], unit: str
) -> str:
    best = data.best[0]
    if best.finished_at is None:
        return "How soon the best value was found is not known"
    when = wording.seconds(_end(best) - origin)
    whole = wording.seconds(max(_end(r) for r in timed) - origin)
    title = f"The best value came after {when} of {whole}"
    total = max(spent.values(), default=0.0)
    if total > 0.0:
        title += (
            f", and {wording.number(spent[best.number], 3)} of {wording.number(total, 3)} {unit}"
        )
    return title


def _best_by(
    data: StudyData, timed: list[TrialRecord], name: str, at: Callable[[TrialRecord], float]
) -> Panel:
    sign = 1.0 if data.spec.directions[0] == "minimize" else -1.0
    ordered = sorted(timed, key=at)
    best, points = ordered[0], []
    for record in ordered:
        best = min(best, record, key=lambda r: sign * data.value(r, 0))
        points.append((at(record), data.value(best, 0)))
    # Without an outlier: the first value is where the course begins.
    scale = ObjectiveScale([v for _, v in points], data.spec.directions[0], room=1e9)
    canvas = Canvas(chart.SMALL, 220)
    x = number_axis(name, 0.0, points[-1][0], most=5)
    frame = Frame(canvas, x, objective_axis(f"best {data.metrics[0]}", scale, 5))
    canvas.add("path", cls="best stroke", d=svg.steps(frame.at(t, v) for t, v in points))
    last = wording.number(points[-1][1])
    return Panel(canvas, f"The best {data.metrics[0]} by {name}: at last {last}.")


def _distribution(data: StudyData, feasible: list[TrialRecord]) -> Panel:
    is_minimised = data.spec.directions[0] == "minimize"
    values = sorted((data.value(r, 0) for r in feasible), reverse=not is_minimised)
    scale = ObjectiveScale(values, data.spec.directions[0])
    canvas = Canvas(chart.SMALL, 220)
    x = objective_axis(data.metrics[0], scale, 5)
    y = number_axis("share at least as good", 0.0, 1.0, most=6, text=lambda v: f"{100 * v:.0f} %")
    frame = Frame(canvas, x, y)
    n = len(values)
    points = [frame.at(v, (i + 1) / n) for i, v in enumerate(values)]
    canvas.add("path", cls="complete stroke", d=svg.steps([frame.at(values[0], 0.0), *points]))
    middle = wording.number(values[n // 2])
    return Panel(canvas, f"Share of trials by {data.metrics[0]}; half of them reach {middle}.")


def _unit_of(span: float) -> tuple[str, float]:
    for name, length in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if span >= 2 * length:
            return name, length
    return "seconds", 1.0

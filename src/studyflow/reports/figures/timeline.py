"""When each trial ran, and how it ended.

Optuna's `plot_timeline` has one row for each trial. This one has a row for each slot, so that idle
slots are seen and a thousand trials fit, and names the causes of failures.
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from studyflow.reports import style, wording
from studyflow.reports.data import Omitted, StudyData, failed_by_parameters
from studyflow.trial import Cause
from studyflow.trial.record import TrialRecord, TrialState

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NUMBERS_UP_TO: Final = 120
"""Trials up to which every bar carries its number, where it fits."""
_COLOURS: Final = {
    "complete": style.COMPLETE,
    "pruned": style.PRUNED,
    "running": style.RUNNING,
    "parameters": "#4a4a4a",
    "script": style.BEST,
    "infrastructure": style.ENQUEUED,
    "unknown": style.INFEASIBLE,
}


def timeline(data: StudyData) -> Figure | Omitted:
    """Return a bar for every trial, in the slot where it ran, coloured by how it ended."""
    started = [r for r in data.trials if r.started_at is not None]
    if not started:
        return Omitted("no trial has been started yet")
    origin = data.started_at or 0.0
    last = max([data.finished_at or origin, *(r.started_at or origin for r in started)])
    if any(not r.state.is_finished for r in started):
        last += 0.04 * (last - origin) or 1.0  # a trial that has just begun is seen too
    unit, divisor = _unit(last - origin)
    spans = {r.number: ((r.started_at or origin) - origin, _end(r, last) - origin) for r in started}
    slots = _slots(spans)
    count = max(slots.values()) + 1
    figure = style.new_figure(9.5, 1.55 + min(max(0.34 * count, 0.7), 7.0))
    axes = figure.subplots()
    style.dress(axes, grid="x")
    groups: dict[_Ending, list[TrialRecord]] = {}
    for record in started:
        groups.setdefault(_ending(record), []).append(record)
    width = max(last - origin, 1e-9) / divisor
    for ending in sorted(groups, key=lambda e: list(_COLOURS).index(e.kind)):
        records = groups[ending]
        hatches = {
            Cause.NAN: "xxx",
            Cause.TIMEOUT: "---",
            Cause.HOST_OOM: "..",
            Cause.BAD_METRIC: "xxx",
        }
        hatch = next((h for c, h in hatches.items() if c.value == ending.cause), None)
        label: str | None = f"{ending.words} ({len(records)})"
        for slot in sorted({slots[r.number] for r in records}):
            bars = [spans[r.number] for r in records if slots[r.number] == slot]
            axes.broken_barh(
                [(a / divisor, max((b - a) / divisor, width * 0.001)) for a, b in bars],
                (slot - 0.39, 0.78),
                facecolor=_COLOURS[ending.kind],
                alpha=0.45 if ending.kind == "running" else 0.95,
                hatch=hatch,
                edgecolor="white",
                linewidth=0.6 if len(started) < 600 else 0.1,
                label=label,
            )
            label = None
    best = next(iter(data.best_numbers)) if len(data.best_numbers) == 1 else None
    if len(started) <= _NUMBERS_UP_TO:
        for record in started:
            start, end = (t / divisor for t in spans[record.number])
            text = f"★{record.number}" if record.number == best else str(record.number)
            if (end - start) / width * 78 > len(text) + 0.6:
                light = _ending(record).kind in ("pruned", "running", "infrastructure")
                axes.text(
                    (start + end) / 2,
                    slots[record.number],
                    text,
                    ha="center",
                    va="center",
                    size=style.NOTE_SIZE,
                    weight="bold" if record.number == best else "normal",
                    color=style.INK if light else "white",
                    clip_on=True,
                )
    axes.set_xlim(-0.01 * width, width * 1.01)
    axes.set_ylim(count - 0.4, -0.6)
    axes.set_yticks(range(0, count, -(-count // 12)))
    axes.set_yticklabels([str(i + 1) for i in range(0, count, -(-count // 12))])
    axes.set_ylabel("slot", size=style.LABEL_SIZE, color=style.INK)
    since = wording.utc(origin)
    axes.set_xlabel(f"{unit} since {since}", size=style.LABEL_SIZE, color=style.INK)
    style.legend(axes, loc="upper left", bbox_to_anchor=(1.005, 1.0), borderaxespad=0.0)
    total = last - origin
    busy = sum(end - start for start, end in spans.values())
    use = f" · slots busy {100 * busy / (total * count):.0f} % of the time" if total > 0 else ""
    tries = sum(max(r.attempt - 1, 0) for r in started)
    lost = f" · {wording.plural(tries, 'attempt')} repeated" if tries else ""
    style.set_title(
        figure,
        f"{wording.plural(len(started), 'trial')} in {wording.seconds(total)}, "
        f"at most {count} at once",
        f"{wording.seconds(busy)} of trial time{use}{lost}",
    )
    endings = Counter(_ending(r).words for r in started)
    style.describe(
        figure,
        f"A bar for each of {len(started)} trials over {wording.seconds(total)}, by slot: "
        + ", ".join(f"{n} {words}" for words, n in endings.items())
        + ".",
    )
    return figure


@dataclass(frozen=True)
class _Ending:
    """How a trial ended."""

    kind: str
    """A key of `_COLOURS`."""
    cause: str | None = None
    """Of a failure, its cause's name; `failed` where none is known."""

    @property
    def words(self) -> str:
        return self.cause or self.kind


def _ending(record: TrialRecord) -> _Ending:
    """Return how a trial ended, or that it has not."""
    if record.state in (TrialState.COMPLETE, TrialState.PRUNED):
        return _Ending(record.state.value)
    if not record.state.is_finished:
        return _Ending("running")
    if record.cause is None:
        return _Ending("unknown", "failed")
    if failed_by_parameters(record):
        return _Ending("parameters", record.cause.value)
    if record.cause.is_infrastructure or record.cause in (Cause.CANCELLED, Cause.BUDGET):
        return _Ending("infrastructure", record.cause.value)
    return _Ending("script", record.cause.value)


def _end(record: TrialRecord, last: float) -> float:
    end = last if record.finished_at is None else record.finished_at
    return max(end, record.started_at or end)


def _slots(spans: dict[int, tuple[float, float]]) -> dict[int, int]:
    """Return the lowest free slot of each trial, so that no two bars overlap."""
    slots: dict[int, int] = {}
    free: list[int] = []
    busy: list[tuple[float, int]] = []
    used = 0
    for number, (start, end) in sorted(spans.items(), key=lambda item: (item[1], item[0])):
        while busy and busy[0][0] <= start:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if free:
            slot = heapq.heappop(free)
        else:
            slot, used = used, used + 1
        slots[number] = slot
        heapq.heappush(busy, (end, slot))
    return slots


def _unit(span: float) -> tuple[str, float]:
    for name, length in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if span >= 2 * length:
            return name, length
    return "seconds", 1.0

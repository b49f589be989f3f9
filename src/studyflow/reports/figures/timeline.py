"""When each trial ran, in as many slices as it was paused, and how it ended.

Optuna's `plot_timeline` has one row for each trial. This one has a row for each slot, so that idle
slots are seen and a thousand trials fit, and names the causes of failures.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from studyflow.reports import chart, svg, wording
from studyflow.reports.axis import Axis, number_axis
from studyflow.reports.chart import Drawing, Frame, Key, Panel
from studyflow.reports.data import Omitted, StudyData, failed_by_parameters
from studyflow.reports.svg import Canvas
from studyflow.trial import Cause
from studyflow.trial.record import TrialRecord, TrialState

_NUMBERS_UP_TO: Final = 120
"""Trials up to which every bar carries its number, where it fits."""
Slice = tuple[int, int]
"""Number of a trial, and of one of the times that it ran, from 0."""

_CLASSES: Final = {
    "complete": "complete",
    "pruned": "pruned",
    "running": "running",
    "paused": "target",
    "parameters": "failed",
    "script": "best",
    "infrastructure": "enqueued",
    "unknown": "infeasible",
}
"""Classes of bars by the kind of their trials' ends."""


def timeline(data: StudyData) -> Drawing | Omitted:
    """Return a bar for every trial, in the slot where it ran, coloured by how it ended."""
    started = [r for r in data.trials if r.started_at is not None]
    if not started:
        return Omitted("no trial has been started yet")
    origin = data.started_at or 0.0
    last = max([data.finished_at or origin, *(r.started_at or origin for r in started)])
    if any(not r.state.is_finished for r in started):
        last += 0.04 * (last - origin) or 1.0  # a trial that has just begun is seen too
    spans = {
        (record.number, i): (start - origin, end - origin)
        for record in started
        for i, (start, end) in enumerate(slices(record, last))
    }
    slots = _slots(spans)
    count = max(slots.values()) + 1
    total = last - origin
    wide, narrow = chart.wide_and_narrow(
        lambda width: _panel(data, started, spans, slots, total, width)
    )
    busy = sum(end - start for start, end in spans.values())
    use = f" · slots busy {100 * busy / (total * count):.0f} % of the time" if total > 0 else ""
    tries = sum(max(r.attempt - 1 - len(r.resumptions), 0) for r in started)
    n_pauses = sum(len(r.pauses) for r in started)
    pauses = f" · {wording.plural(n_pauses, 'pause')}" if n_pauses else ""
    lost = f" · {wording.plural(tries, 'attempt')} repeated" if tries else ""
    endings = Counter(_ending(r) for r in started)
    ordered = sorted(endings, key=lambda e: (list(_CLASSES).index(e.kind), e.words))
    return Drawing(
        title=f"{wording.plural(len(started), 'trial')} in {wording.seconds(total)}, "
        f"at most {count} at once",
        note=f"{wording.seconds(busy)} of trial time{use}{lost}{pauses}",
        alt=f"A bar for each of {len(started)} trials over {wording.seconds(total)}, by slot: "
        + ", ".join(f"{endings[ending]} {ending.words}" for ending in ordered)
        + ".",
        panels=wide,
        narrow=narrow,
        keys=tuple(
            Key(f"{ending.words} ({endings[ending]})", "band", _CLASSES[ending.kind])
            for ending in ordered
        ),
    )


def _panel(
    data: StudyData,
    started: Sequence[TrialRecord],
    spans: Mapping[Slice, tuple[float, float]],
    slots: Mapping[Slice, int],
    total: float,
    width: float,
) -> Panel:
    unit, divisor = _unit(total)
    count = max(slots.values()) + 1
    row = max(min(24.0, 420.0 / count), 1.5)
    canvas = Canvas(width, 66 + max(row * count, 24))
    since = wording.utc(data.started_at)
    most = 10 if width > 500 else 5
    name = f"{unit} since {since}" if width > 500 else f"{unit} since the start"
    x = number_axis(name, 0.0, max(total, 1e-9) / divisor, most=most)
    stride = -(-count // 12)
    ticks = tuple((1 - (i + 0.5) / count, str(i + 1)) for i in range(0, count, stride))
    frame = Frame(canvas, x, Axis("slot", lambda slot: 1 - (slot + 0.5) / count, ticks), grid="x")
    best = next(iter(data.best_numbers)) if len(data.best_numbers) == 1 else None
    height = frame.box.height / count
    by_number = {record.number: record for record in started}
    for key, span in spans.items():
        record = by_number[key[0]]
        start, end = (frame.across(x.share(t / divisor)) for t in span)
        top = frame.box.top + height * slots[key]
        ending = _ending(record)
        canvas.add(
            "rect",
            cls=f"bar {_CLASSES[ending.kind]}",
            x=start,
            y=top + 0.08 * height,
            width=max(end - start, 0.8),
            height=0.84 * height,
            rx=2 if height > 8 else None,
            data_n=record.number,
        )
        text = f"★{record.number}" if record.number == best else str(record.number)
        if len(started) <= _NUMBERS_UP_TO and height >= 14 and end - start > svg.width_of(text) + 4:
            middle = top + height / 2 + 4
            canvas.text((start + end) / 2, middle, text, "on-bar", "middle")
    return Panel(canvas, f"A bar for each of {len(started)} trials over {wording.seconds(total)}.")


@dataclass(frozen=True)
class _Ending:
    """How a trial ended."""

    kind: str
    """A key of `_CLASSES`."""
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
        return _Ending("paused" if record.is_paused else "running")
    if record.cause is None:
        return _Ending("unknown", "failed")
    if failed_by_parameters(record):
        return _Ending("parameters", record.cause.value)
    if record.cause.is_infrastructure or record.cause in (Cause.CANCELLED, Cause.BUDGET):
        return _Ending("infrastructure", record.cause.value)
    return _Ending("script", record.cause.value)


def slices(record: TrialRecord, last: float) -> list[tuple[float, float]]:
    """Return when a trial ran: from its start to its end, without the pauses between.

    Args:
        record: A trial that has started.
        last: The end of what still runs, in seconds since the epoch.
    """
    end = last if record.finished_at is None else record.finished_at
    began = end if record.started_at is None else record.started_at
    resumed = {one.attempt: one.at for one in record.resumptions}
    found = []
    for pause in record.pauses:
        paused_at = began if pause.ended_at is None else pause.ended_at
        found.append((began, max(paused_at, began)))
        taken_up = resumed.get(pause.attempt + 1)
        if taken_up is None:
            return found  # it is paused, or ended so
        began = max(taken_up, paused_at)
    return [*found, (began, max(end, began))]


def _slots(spans: dict[Slice, tuple[float, float]]) -> dict[Slice, int]:
    """Return the lowest free slot of each slice, so that no two bars overlap."""
    slots: dict[Slice, int] = {}
    free: list[int] = []
    busy: list[tuple[float, int]] = []
    used = 0
    for key, (start, end) in sorted(spans.items(), key=lambda item: (item[1], item[0])):
        while busy and busy[0][0] <= start:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if free:
            slot = heapq.heappop(free)
        else:
            slot, used = used, used + 1
        slots[key] = slot
        heapq.heappush(busy, (end, slot))
    return slots


def _unit(span: float) -> tuple[str, float]:
    for name, length in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if span >= 2 * length:
            return name, length
    return "seconds", 1.0

"""The first objective while the trials ran.

Optuna's `plot_intermediate_values` draws all trials alike. This one shows which were pruned, which
failed and which is the best; lines far out do not stretch its axis.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from studyflow.reports import chart, svg, wording
from studyflow.reports.axis import number_axis, objective_axis
from studyflow.reports.chart import Drawing, Frame, Key, Panel
from studyflow.reports.data import Omitted, StudyData
from studyflow.reports.objective_scale import ObjectiveScale
from studyflow.reports.svg import Canvas
from studyflow.trial.record import TrialRecord, TrialState

Curves = Mapping[int, Sequence[tuple[int, float]]]

MAX_LINES: Final = 300
MAX_POINTS: Final = 200
"""Points of one line; of more, evenly spaced ones."""

_STYLES: Final[Mapping[TrialState, tuple[str, str]]] = {
    TrialState.COMPLETE: ("complete", "stroke thin faint"),
    TrialState.PRUNED: ("pruned", "stroke thin dash"),
    TrialState.FAILED: ("failed", "stroke thin dot-line"),
    TrialState.RUNNING: ("running", "stroke"),
    TrialState.WAITING: ("running", "stroke"),
}


def intermediate_values(data: StudyData) -> Drawing | Omitted:
    """Return learning curves: pruned ones dashed, failed ones dotted, the best thick.

    A curve that diverged does not squeeze the others: it leaves the axis where an arrow stands.
    """
    curves = {r.number: points for r in data.trials if (points := _points(r))}
    if not curves:
        return Omitted("no trial reported values while it ran")
    records = [r for r in data.trials if r.number in curves]
    stride = -(-len(records) // MAX_LINES)
    chosen = {r.number for r in records[::stride]} | (data.best_numbers & curves.keys())
    shown = [r for r in records if r.number in chosen]
    scale = _scale(shown, curves, data.spec.directions[0])
    beyond = {r.number for r in shown if any(scale.is_outside(v) for _, v in curves[r.number])}
    wide, narrow = chart.wide_and_narrow(lambda width: _panel(data, shown, curves, scale, width))
    pruned = data.states.get(TrialState.PRUNED, 0)
    title = f"Pruning stopped {pruned} of {wording.plural(len(data.trials), 'trial')}"
    if not pruned:
        title = f"Learning curves of {wording.plural(len(records), 'trial')}"
    note = f"{data.metrics[0]} as reported while the trials ran"
    if len(shown) < len(records):
        note += f" · {len(shown)} of {len(records)} curves"
    if beyond:
        verb = "goes" if len(beyond) == 1 else "go"
        note += f" · {wording.plural(len(beyond), 'curve')} {verb} beyond the axis (arrows)"
    some = f" Of {len(beyond)} of them some values lie beyond the axis." if beyond else ""
    return Drawing(
        title=title,
        note=note,
        alt=f"{data.metrics[0]} by step for {len(records)} trials, of which {pruned} were pruned "
        f"and end early.{some}",
        panels=wide,
        narrow=narrow,
        keys=_keys(data, shown, has_arrows=bool(beyond)),
    )


def _keys(data: StudyData, shown: Sequence[TrialRecord], *, has_arrows: bool) -> tuple[Key, ...]:
    keys = []
    if any(r.number in data.best_numbers for r in shown):
        keys.append(Key("Pareto front" if data.is_multi_objective else "best", "line", "best"))
    states = {r.state for r in shown if r.number not in data.best_numbers}
    for state, (cls, style) in _STYLES.items():
        if state in states:
            keys.append(
                Key(state.value, "dash" if "-" in style or "dash" in style else "line", cls)
            )
    if has_arrows:
        keys.append(Key("beyond the axis", "up", "failed"))
    return tuple(keys)


def _panel(
    data: StudyData,
    shown: Sequence[TrialRecord],
    curves: Curves,
    scale: ObjectiveScale,
    width: float,
) -> Panel:
    steps = [step for r in shown for step, _ in curves[r.number]]
    canvas = Canvas(width, 320 if width > 500 else 250)
    most = 10 if width > 500 else 5
    x = number_axis("step", min(steps), max(steps), most=most, room=0.015, is_whole=True)
    frame = Frame(canvas, x, objective_axis(data.metrics[0], scale))
    last_first = sorted(shown, key=lambda r: r.number in data.best_numbers)
    for record in last_first:
        points = curves[record.number]
        is_best = record.number in data.best_numbers
        cls, style = ("best", "stroke thick") if is_best else _STYLES[record.state]
        places = [frame.at(step, value) for step, value in points]
        if len(places) == 1:
            canvas.mark("dot", *places[0], 3, cls, record.number)
        else:
            path = svg.polyline(places)
            canvas.add("path", cls=f"{cls} {style}", d=path, data_n=record.number)
        if record.state is TrialState.PRUNED and not scale.is_outside(points[-1][1]):
            canvas.mark("down", *places[-1], 4, "pruned", record.number)
        exits = next(((s, v) for s, v in points if scale.is_outside(v)), None)
        if exits is not None:
            frame.mark("up", x.share(exits[0]), exits[1], 4, "failed", record.number)
    return Panel(canvas, f"{data.metrics[0]} by step, a line for each of {len(shown)} trials.")


def _scale(records: Sequence[TrialRecord], curves: Curves, direction: str) -> ObjectiveScale:
    """Return an axis for the curves of trials that did not diverge, if there are any.

    Left out are failed trials, and curves whose worst value is an outlier among those of all.
    """
    worst_of = max if direction == "minimize" else min
    sound = [r for r in records if r.state is not TrialState.FAILED] or records
    worst = {r.number: worst_of(value for _, value in curves[r.number]) for r in sound}
    among = ObjectiveScale(list(worst.values()), direction, room=10.0)
    chosen = [number for number, value in worst.items() if not among.is_outside(value)] or worst
    values = [value for number in chosen for _, value in curves[number]]
    return ObjectiveScale(values, direction, room=10.0)


def _points(record: TrialRecord) -> list[tuple[int, float]]:
    points = [(s, v) for s, v in sorted(record.intermediate.items()) if math.isfinite(v)]
    stride = -(-len(points) // MAX_POINTS)
    return points[:: stride or 1] + (points[-1:] if stride > 1 else [])

"""The first objective while the trials ran.

Optuna's `plot_intermediate_values` draws all trials alike. This one shows which were pruned, which
failed and which is the best; lines far out do not stretch its axis.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from studyflow.reports import style, wording
from studyflow.reports.data import Omitted, StudyData
from studyflow.reports.objective_scale import ObjectiveScale
from studyflow.trial.record import TrialRecord, TrialState

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_LINES: Final = 300
MAX_POINTS: Final = 400
"""Points of one line; of more, evenly spaced ones."""


def intermediate_values(data: StudyData) -> Figure | Omitted:
    """Return learning curves: pruned ones dashed, failed ones dotted, the best thick.

    A curve that diverged does not squeeze the others: it leaves the axis where an arrow stands.
    """
    curves = {r.number: points for r in data.trials if (points := _points(r))}
    if not curves:
        return Omitted("no trial reported values while it ran")
    figure = style.new_figure(9.0, 4.6)
    axes = figure.subplots()
    style.dress(axes, grid="y")
    records = [r for r in data.trials if r.number in curves]
    stride = -(-len(records) // MAX_LINES)
    chosen = {r.number for r in records[::stride]} | (data.best_numbers & curves.keys())
    shown = [r for r in records if r.number in chosen]
    scale = _scale(shown, curves, data.spec.directions[0])
    scale.apply(axes)
    styles = {
        TrialState.COMPLETE: (style.COMPLETE, "-", "complete"),
        TrialState.PRUNED: (style.PRUNED, "--", "pruned"),
        TrialState.FAILED: (style.FAILED, ":", "failed"),
        TrialState.RUNNING: (style.RUNNING, "-.", "running"),
        TrialState.WAITING: (style.RUNNING, "-.", "waiting"),
    }
    named: set[str] = set()
    opacity = 0.6 * style.alpha(len(shown))
    for record in shown:
        colour, dash, name = styles[record.state]
        steps, values = zip(*curves[record.number], strict=True)
        is_best = record.number in data.best_numbers
        label = f"best (trial {record.number})" if is_best and len(data.best) == 1 else name
        if is_best and len(data.best) > 1:
            label = "Pareto front"
        axes.plot(
            steps,
            [_drawn(scale, value) for value in values],
            color=style.BEST if is_best else colour,
            linestyle="-" if is_best else dash,
            linewidth=2.6 if is_best else 1.2,
            alpha=1.0 if is_best or record.state is TrialState.PRUNED else opacity,
            marker="o" if len(steps) == 1 else None,
            markersize=3.5,
            zorder=4 if is_best else 2,
            label=None if label in named else label,
            rasterized=len(shown) > 100,
        )
        named.add(label)
        ends_inside = not scale.is_outside(values[-1])
        if record.state is TrialState.PRUNED and ends_inside:
            axes.plot(steps[-1:], values[-1:], "v", color=style.PRUNED, markersize=5, zorder=3)
    n_beyond = _mark_exits(axes, scale, {r.number: curves[r.number] for r in shown})
    axes.set_xlabel("step", size=style.LABEL_SIZE, color=style.INK)
    style.whole_numbers(axes.xaxis)
    axes.set_ylabel(style.label(data.metrics[0]), size=style.LABEL_SIZE, color=style.INK)
    style.legend(axes, loc="upper left", bbox_to_anchor=(1.005, 1.0), borderaxespad=0.0)
    pruned = data.states.get(TrialState.PRUNED, 0)
    title = f"Pruning stopped {pruned} of {wording.plural(len(data.trials), 'trial')}"
    if not pruned:
        title = f"Learning curves of {wording.plural(len(records), 'trial')}"
    note = f"{style.label(data.metrics[0])} as reported while the trials ran"
    if len(shown) < len(records):
        note += f" · {len(shown)} of {len(records)} curves"
    if n_beyond:
        verb = "goes" if n_beyond == 1 else "go"
        note += f" · {wording.plural(n_beyond, 'curve')} {verb} beyond the axis (arrows)"
    style.set_title(figure, title, note)
    beyond = f" Of {n_beyond} of them some values lie beyond the axis." if n_beyond else ""
    style.describe(
        figure,
        f"{data.metrics[0]} by step for {len(records)} trials, of which {pruned} were pruned and "
        f"end early.{beyond}",
    )
    return figure


def _scale(
    records: Sequence[TrialRecord],
    curves: Mapping[int, Sequence[tuple[int, float]]],
    direction: str,
) -> ObjectiveScale:
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


def _drawn(scale: ObjectiveScale, value: float) -> float:
    """Return a value, or a position beyond the axis' end for one far out: no line is too steep."""
    if not scale.is_outside(value):
        return value
    return scale.at(1.1 if value > scale.high else -0.1)


def _mark_exits(
    axes: Axes,
    scale: ObjectiveScale,
    curves: Mapping[int, Sequence[tuple[int, float]]],
) -> int:
    """Draw an arrow at the axis' end where each curve leaves it; return how many curves do."""
    exits = {
        number: next(((s, v > scale.high) for s, v in points if scale.is_outside(v)), None)
        for number, points in curves.items()
    }
    has_upward = any(found and found[1] for found in exits.values())
    for is_above, marker, height in ((True, "^", 0.985), (False, "v", 0.015)):
        steps = [found[0] for found in exits.values() if found and found[1] is is_above]
        if steps:
            axes.scatter(
                steps,
                [height] * len(steps),
                transform=axes.get_xaxis_transform(),
                marker=marker,
                s=26,
                color=style.FAILED,
                label=None if marker == "v" and has_upward else "beyond the axis",
                zorder=5,
            )
    return sum(found is not None for found in exits.values())


def _points(record: TrialRecord) -> list[tuple[int, float]]:
    points = [(s, v) for s, v in sorted(record.intermediate.items()) if math.isfinite(v)]
    stride = -(-len(points) // MAX_POINTS)
    return points[:: stride or 1] + (points[-1:] if stride > 1 else [])

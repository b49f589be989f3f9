"""The first objective while the trials ran."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from studyflow.record import TrialRecord, TrialState
from studyflow.reports import style, wording
from studyflow.reports.data import Omitted, StudyData

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_LINES: Final = 300
MAX_POINTS: Final = 400
"""Points of one line; of more, evenly spaced ones."""


def intermediate_values(data: StudyData) -> Figure | Omitted:
    """Return learning curves: pruned ones dashed, failed ones dotted, the best thick."""
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
    everything = [value for r in shown for _, value in curves[r.number]]
    scale = style.ObjectiveScale(everything, data.spec.directions[0], room=10.0)
    scale.apply(axes)
    looks = {
        TrialState.COMPLETE: (style.COMPLETE, "-", "complete"),
        TrialState.PRUNED: (style.PRUNED, "--", "pruned"),
        TrialState.FAILED: (style.FAILED, ":", "failed"),
        TrialState.RUNNING: (style.RUNNING, "-.", "running"),
        TrialState.WAITING: (style.RUNNING, "-.", "waiting"),
    }
    named: set[str] = set()
    opacity = 0.6 * style.alpha(len(shown))
    for record in shown:
        colour, dash, name = looks[record.state]
        steps, values = zip(*curves[record.number], strict=True)
        is_best = record.number in data.best_numbers
        label = f"best (trial {record.number})" if is_best and len(data.best) == 1 else name
        if is_best and len(data.best) > 1:
            label = "Pareto front"
        axes.plot(
            steps,
            values,
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
        if record.state is TrialState.PRUNED:
            axes.plot(steps[-1:], values[-1:], "v", color=style.PRUNED, markersize=5, zorder=3)
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
    style.set_title(figure, title, note)
    style.describe(
        figure,
        f"{data.metrics[0]} by step for {len(records)} trials, of which {pruned} were pruned and "
        "end early.",
    )
    return figure


def _points(record: TrialRecord) -> list[tuple[int, float]]:
    points = [(s, v) for s, v in sorted(record.intermediate.items()) if math.isfinite(v)]
    stride = -(-len(points) // MAX_POINTS)
    return points[:: stride or 1] + (points[-1:] if stride > 1 else [])

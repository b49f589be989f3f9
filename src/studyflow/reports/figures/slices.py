"""The objective against each parameter, coloured by the order of the trials.

Optuna's `plot_slice` puts all parameters in one row, which cannot be read from about six on, and
leaves failed trials out.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from studyflow.reports import parameter_axis, style, wording
from studyflow.reports.data import Omitted, StudyData
from studyflow.reports.objective_scale import ObjectiveScale
from studyflow.trial.record import TrialState

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection
    from matplotlib.figure import Figure

COLUMNS: Final = 4


def slices(data: StudyData) -> Figure | Omitted:
    """Return one small scatter plot for each parameter; failed trials stand below as crosses.

    With several objectives there is one block of rows for each.
    """
    if not data.complete:
        return Omitted("no trial has returned a value yet")
    names = list(data.space)
    columns = min(len(names), COLUMNS)
    rows = math.ceil(len(names) / columns)
    blocks = len(data.metrics)
    figure = style.new_figure(
        max(2.75 * columns + 0.9, 6.0), 0.75 + (2.5 if rows * blocks > 1 else 3.2) * rows * blocks
    )
    grid = figure.subplots(rows * blocks, columns, squeeze=False, sharey="row")
    points: PathCollection | None = None
    for block in range(blocks):
        values = [data.value(r, block) for r in data.complete]
        scale = ObjectiveScale(values, data.spec.directions[block])
        for i in range(rows * columns):
            axes = grid[block * rows + i // columns][i % columns]
            if i >= len(names):
                axes.set_visible(False)
                continue
            points = _slice(data, axes, names[i], block, scale) or points
            if i % columns == 0:
                axes.set_ylabel(
                    style.label(data.metrics[block]), size=style.LABEL_SIZE, color=style.INK
                )
    if points is not None and len(data.trials) > 1:
        style.colour_bar(figure, points, "trial", ax=grid, pad=0.01, aspect=40, fraction=0.03)
    metrics = " and ".join(style.label(name) for name in data.metrics[:3])
    failed = data.states.get(TrialState.FAILED, 0)
    note = "later trials darker · star: best" + (" · cross: failed" if failed else "")
    style.set_title(
        figure, f"{metrics} along each of {wording.plural(len(names), 'parameter')}", note
    )
    style.describe(
        figure,
        f"One scatter plot for each of {len(names)} parameters: its value across, the objective "
        f"{' and '.join(data.metrics)} up, for {len(data.complete)} trials; later are darker.",
    )
    return figure


def _slice(
    data: StudyData, axes: Axes, name: str, objective: int, scale: ObjectiveScale
) -> PathCollection | None:
    parameter = data.space[name]
    style.dress(axes)
    scale.apply(axes, most=5)
    parameter_axis.set_parameter(axes, "x", parameter, most=4)
    axes.tick_params(labelleft=axes.get_subplotspec().is_first_col())  # type: ignore[union-attr]
    axes.set_xlabel(style.axis_name(name, 2.6), size=style.LABEL_SIZE, color=style.INK)
    known = [(r, data.searched(r)) for r in data.complete]
    shown = [(r, p) for r, p in known if name in p]
    points = None
    if shown:
        points = axes.scatter(
            [parameter_axis.position(parameter, p[name]) for _, p in shown],
            [scale.clip(data.value(r, objective)) for r, _ in shown],
            c=[r.number for r, _ in shown],
            cmap=style.ORDER_MAP,
            vmin=data.trials[0].number,
            vmax=max(data.trials[-1].number, data.trials[0].number + 1),
            s=0.75 * style.size(len(shown)),
            alpha=style.alpha(len(shown)),
            linewidth=0.4,
            edgecolor=style.INK if len(shown) < 200 else "none",
            rasterized=len(shown) > 1000,
        )
    failed = [
        parameter_axis.position(parameter, params[name])
        for r in data.trials
        if r.state is TrialState.FAILED and name in (params := data.searched(r))
    ]
    if failed:
        axes.scatter(
            failed,
            [0.03] * len(failed),
            transform=axes.get_xaxis_transform(),
            marker="x",
            color=style.FAILED,
            s=0.6 * style.size(len(failed)),
            linewidth=1.0,
            alpha=0.6,
        )
    best = [(r, p) for r, p in shown if r.number in data.best_numbers]
    axes.scatter(
        [parameter_axis.position(parameter, p[name]) for _, p in best],
        [scale.clip(data.value(r, objective)) for r, _ in best],
        marker="*",
        s=110 if len(best) < 10 else 50,
        color=style.BEST,
        edgecolor="white",
        linewidth=0.6,
        zorder=4,
    )
    if not shown:
        axes.text(
            0.5, 0.5, "never active", transform=axes.transAxes, ha="center", color=style.QUIET
        )
    return points

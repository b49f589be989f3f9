"""Where in the space the trials lie: histograms, and every pair of parameters.

Optuna's `plot_rank` draws every pair twice and no histograms; its labels cover each other from
about four parameters on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from studyflow.reports import parameter_axis, style, wording
from studyflow.reports.data import Omitted, StudyData
from studyflow.reports.figures.matrix import corner, cut_note, lower_triangle, shown_parameters
from studyflow.spec.parameters import CategoricalParameter
from studyflow.trial.record import TrialState

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def evaluations(data: StudyData) -> Figure | Omitted:
    """Return the evaluated points, later trials darker; failed ones as crosses, the best a star."""
    tried = [r for r in data.trials if r.state is not TrialState.WAITING and data.searched(r)]
    if not tried:
        return Omitted("no trial has been started yet")
    names = shown_parameters(data)
    if not names:
        return Omitted("no parameter has more than one value")
    figure, panels = lower_triangle(data, names)
    params = {r.number: data.searched(r) for r in tried}
    failed = {r.number for r in tried if r.state is TrialState.FAILED}

    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    norm = Normalize(tried[0].number, max(tried[-1].number, tried[0].number + 1))
    for (row, column), axes in panels.items():
        if row == column:
            _histogram(
                data, axes, names[row], [p[names[row]] for p in params.values() if names[row] in p]
            )
            continue
        across, up = names[column], names[row]
        both = [n for n, p in params.items() if across in p and up in p]
        x = {n: parameter_axis.position(data.space[across], params[n][across]) for n in both}
        y = {n: parameter_axis.position(data.space[up], params[n][up]) for n in both}
        axes.grid(visible=True, color=style.GRID, linewidth=0.6)
        size = 0.55 * style.size(len(both))
        fine = [n for n in both if n not in failed]
        axes.scatter(
            [x[n] for n in fine],
            [y[n] for n in fine],
            c=fine,
            cmap=style.ORDER_MAP,
            norm=norm,
            s=size,
            alpha=style.alpha(len(fine)),
            linewidth=0,
            rasterized=len(fine) > 500,
        )
        wrong = [n for n in both if n in failed]
        axes.scatter(
            [x[n] for n in wrong],
            [y[n] for n in wrong],
            marker="x",
            color=style.FAILED,
            s=size,
            linewidth=1.0,
            alpha=0.7,
        )
        best = [n for n in both if n in data.best_numbers]
        axes.scatter(
            [x[n] for n in best],
            [y[n] for n in best],
            marker="*",
            s=95 if len(best) < 10 else 45,
            color=style.BEST,
            edgecolor="white",
            linewidth=0.7,
            zorder=4,
        )
    if len(names) > 1 and len(tried) > 1:
        bar = figure.add_axes(corner(figure, panels))
        style.colour_bar(figure, ScalarMappable(norm, style.ORDER_MAP), "trial", cax=bar)
    parts = ["later trials darker", "star: best"] + (["cross: failed"] if failed else [])
    parts += [note] if (note := cut_note(data, names)) else []
    style.set_title(
        figure, f"Where {wording.plural(len(tried), 'trial')} looked", " · ".join(parts)
    )
    style.describe(
        figure,
        f"Matrix for {', '.join(names)}: histograms of {len(tried)} trials on the diagonal, and "
        "the trials as dots for every pair of parameters below it.",
    )
    return figure


def _histogram(data: StudyData, axes: Axes, name: str, values: list[object]) -> None:
    parameter = data.space[name]
    if isinstance(parameter, CategoricalParameter):
        positions = np.arange(len(parameter.choices))
        counts = np.array([sum(parameter.index(v) == i for v in values) for i in positions])
        axes.bar(positions, counts, width=0.7, color=style.COMPLETE)
    else:
        bins = min(parameter.cardinality or 12, 12)
        edges = [
            parameter_axis.at_unit(parameter, float(u)) for u in np.linspace(0.0, 1.0, bins + 1)
        ]
        found = [parameter_axis.position(parameter, v) for v in values]  # type: ignore[arg-type]
        counts, _ = np.histogram(found, bins=edges)
        axes.bar(
            edges[:-1],
            counts,
            width=np.diff(edges),
            align="edge",
            color=style.COMPLETE,
            edgecolor="white",
            linewidth=0.6,
        )
    top = max(int(counts.max()) if len(counts) else 1, 1)
    axes.set_ylim(0, top * 1.08)
    axes.yaxis.set_ticks([top], [str(top)])
    axes.yaxis.tick_right()
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)

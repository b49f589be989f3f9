"""Every trial as a line across all parameters to its objectives.

Optuna's `plot_parallel_coordinate` leaves out trials that lack a conditional parameter and does not
mark the best trial; the labels of its axes cover each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from studyflow.reports import parameter_axis, style, wording
from studyflow.reports.data import Omitted, StudyData
from studyflow.reports.figures.importances import parameter_importances, ranked_parameters
from studyflow.reports.objective_scale import ObjectiveScale
from studyflow.spec.parameters import CategoricalParameter
from studyflow.trial.record import TrialRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_PARAMETERS: Final = 12
MAX_LINES: Final = 500
"""Most lines; of more trials the best and evenly spaced others are shown."""


def parallel_coordinates(data: StudyData) -> Figure | Omitted:
    """Return complete trials as lines, the better the darker.

    A line breaks where a parameter is inactive.
    """
    if not data.complete:
        return Omitted("no trial has returned a value yet")
    chosen = set(ranked_parameters(data)[:MAX_PARAMETERS])
    names = [name for name in data.space if name in chosen]
    records = _drawn(data)
    sign = 1.0 if data.spec.directions[0] == "minimize" else -1.0
    ranked = sorted(records, key=lambda r: (-sign * data.value(r, 0), r.number))
    scales = [
        ObjectiveScale([data.value(r, i) for r in records], direction)
        for i, direction in enumerate(data.spec.directions)
    ]
    count = len(names) + len(scales)
    figure = style.new_figure(min(max(1.25 * count + 1.0, 7.5), 15.0), 5.2)

    from matplotlib import colormaps
    from matplotlib.collections import LineCollection

    axes = figure.subplots()
    colours = colormaps[style.value_map(data.spec.directions[0])]
    lines: list[list[tuple[float, float]]] = []
    stars: list[list[tuple[float, float]]] = []
    tints: list[Any] = []
    dots: list[tuple[float, float, Any]] = []
    for rank, record in enumerate(ranked):
        shift = (rank + 0.5) / len(ranked) - 0.5
        heights = _heights(data, record, names, scales, shift)
        tint: Any = colours(0.97 * scales[0].unit(data.value(record, 0)))
        is_best = record.number in data.best_numbers
        for piece in _pieces(heights):
            if len(piece) == 1:
                dots.append((piece[0][0], piece[0][1], style.BEST if is_best else tint))
            elif is_best:
                stars.append(piece)
            else:
                lines.append(piece)
                tints.append(tint)
    axes.add_collection(
        LineCollection(
            lines,
            colors=tints,
            linewidths=1.2 if len(lines) < 150 else 0.7,
            alpha=0.75 if len(lines) < 150 else 0.4,
            rasterized=len(lines) > 200,
        )
    )
    axes.add_collection(LineCollection(stars, colors=style.BEST, linewidths=2.4, zorder=4))
    for x, y, tint in dots:
        axes.scatter([x], [y], color=[tint], s=16, zorder=5)
    _axes(data, figure, names, scales)
    parts = [
        f"{wording.plural(len(records), 'line')} of {wording.plural(len(data.complete), 'trial')}"
        if len(records) < len(data.complete)
        else wording.plural(len(records), "complete trial"),
        f"darker: better {style.label(data.metrics[0])}",
    ]
    if len(names) < len(data.space):
        is_known = not isinstance(parameter_importances(data), Omitted)
        which = f"the {len(names)} most important" if is_known else str(len(names))
        parts.append(f"{which} of {len(data.space)} parameters")
    if any(parameter.conditions for parameter in data.space.values()):
        parts.append("a line breaks where a parameter is inactive")
    word = "Pareto front" if data.is_multi_objective else "Best trial"
    if data.best:
        title = f"{word} in orange" + (
            "" if data.is_multi_objective else f": trial {data.best[0].number}"
        )
    else:
        title = "Parameters of all complete trials"
    style.set_title(figure, title, " · ".join(parts))
    style.describe(
        figure,
        f"Parallel coordinates: a line for each of {len(records)} trials across {', '.join(names)} "
        f"and {', '.join(data.metrics)}; darker lines have better values.",
    )
    return figure


def _drawn(data: StudyData) -> list[TrialRecord]:
    records = list(data.complete)
    if len(records) <= MAX_LINES:
        return records
    stride = -(-len(records) // (MAX_LINES - 20))
    kept = {r.number for r in records[::stride]} | {r.number for r in data.best[:20]}
    return [r for r in records if r.number in kept]


def _heights(
    data: StudyData,
    record: TrialRecord,
    names: list[str],
    scales: list[ObjectiveScale],
    shift: float,
) -> list[float | None]:
    """Return where the line crosses each axis, from 0 to 1; `None` where it does not.

    Within a category lines are spread a little, so that they can be told apart.
    """
    params = data.searched(record)
    heights: list[float | None] = []
    for name in names:
        parameter = data.space[name]
        if name not in params:
            heights.append(None)
        elif isinstance(parameter, CategoricalParameter):
            heights.append(parameter.to_unit(params[name]) + 0.35 * shift / len(parameter.choices))
        else:
            heights.append(parameter.to_unit(params[name]))
    for scale, value in zip(scales, record.values or (), strict=True):
        heights.append(scale.unit(value))
    return heights


def _pieces(heights: list[float | None]) -> list[list[tuple[float, float]]]:
    """Return the unbroken parts of a line."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for x, y in enumerate(heights):
        if y is None:
            pieces.append([])
        else:
            pieces[-1].append((float(x), y))
    return [piece for piece in pieces if piece]


def _axes(data: StudyData, figure: Figure, names: list[str], scales: list[ObjectiveScale]) -> None:
    axes = figure.axes[0]
    count = len(names) + len(scales)
    axes.set_xlim(-0.35, count - 0.55)
    axes.set_ylim(-0.04, 1.04)
    axes.yaxis.set_visible(False)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.tick_params(length=0, labelsize=style.LABEL_SIZE, labelcolor=style.INK, pad=8)
    longest = max(len(name) for name in (*names, *data.metrics))
    limit = style.NAME_LIMIT
    axes.set_xticks(range(count), [style.label(name, limit) for name in (*names, *data.metrics)])
    inches = figure.get_figwidth() / count
    if min(longest, limit) * 0.085 > inches:
        for text in axes.get_xticklabels():
            text.set(rotation=25, ha="right", rotation_mode="anchor")
    for x in range(count):
        axes.axvline(x, 0.037, 0.963, color=style.QUIET, linewidth=1.0, zorder=2.5)
        if x < len(names):
            parameter = data.space[names[x]]
            positions, labels = parameter_axis.ticks(parameter, 5)
            if isinstance(parameter, CategoricalParameter):
                units = [(p + 0.5) / len(parameter.choices) for p in positions]
            else:
                units = [parameter.to_unit(v) for v in parameter_axis.tick_values(parameter, 5)]
        else:
            scale = scales[x - len(names)]
            marks = scale.ticks(6)
            units, labels = [scale.unit(m) for m in marks], [wording.number(m, 6) for m in marks]
        for unit, text_ in zip(units, labels, strict=True):
            axes.plot([x - 0.02, x], [unit, unit], color=style.QUIET, linewidth=1.0, zorder=2.5)
            axes.text(
                x - 0.04,
                unit,
                text_,
                ha="right",
                va="center",
                size=style.NOTE_SIZE,
                color=style.INK,
                zorder=6,
                bbox={"facecolor": "white", "alpha": 0.72, "edgecolor": "none", "pad": 0.8},
            )

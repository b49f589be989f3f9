"""What a model of the trials expects along each parameter and each pair of parameters.

Optuna's `plot_contour` interpolates between trials pair by pair as if there were no other
parameters, and draws every pair twice. This one shows what a model of all parameters expects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from studyflow.reports import parameter_axis, style, surrogate, wording
from studyflow.reports.data import Omitted, StudyData
from studyflow.reports.figures.matrix import corner, cut_note, lower_triangle, shown_parameters
from studyflow.reports.objective_scale import ObjectiveScale
from studyflow.reports.ticks import linear_ticks, log_ticks
from studyflow.spec.parameters import CategoricalParameter, Parameter
from studyflow.spec.values import same_scalar

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


READ_WITH_CARE: Final = 0.1
"""Share of variance explained at trials left out below which the model answers nothing."""


def partial_dependence(data: StudyData, objective: int = 0) -> Figure | Omitted:
    """Return curves on the diagonal and maps below it; trials on top, the best as a star."""
    if len(data.complete) < surrogate.MIN_TRIALS:
        return Omitted(
            f"a model needs {surrogate.MIN_TRIALS} complete trials; there "
            f"{'is' if len(data.complete) == 1 else 'are'} {len(data.complete)}"
        )
    observed = [data.value(r, objective) for r in data.complete]
    if min(observed) == max(observed):
        return Omitted("all trials returned the same value, so there is nothing to model")
    names = shown_parameters(data, objective)
    if not names:
        return Omitted("no parameter has more than one value")
    model, scale = surrogate.fitted(data, objective)
    columns = [list(data.space).index(name) for name in names]
    units = [surrogate.grid(data.space[name]) for name in names]
    curves = [
        _values(model.dependence([c], [u]), scale) for c, u in zip(columns, units, strict=True)
    ]
    maps = {
        (row, column): _values(
            model.dependence([columns[row], columns[column]], [units[row], units[column]]), scale
        )
        for row in range(len(names))
        for column in range(row)
    }
    everything = np.concatenate([a.ravel() for a in (*curves, *maps.values())])
    low, high = float(everything.min()), float(everything.max())
    if not high > low:
        low, high = low - (abs(low) or 1.0) * 0.01, high + (abs(high) or 1.0) * 0.01

    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm, Normalize

    norm = LogNorm(low, high) if scale.is_log and low > 0 else Normalize(low, high)
    colours = style.value_map(data.spec.directions[objective])
    figure, panels = lower_triangle(data, names)
    for (row, column), axes in panels.items():
        if row == column:
            _curve(data, axes, names[row], units[row], curves[row], norm)
        else:
            pair = (names[column], names[row])
            _map(data, axes, pair, (units[column], units[row]), maps[row, column], norm, colours)
    metric = style.label(data.metrics[objective])
    if maps:
        bar = figure.add_axes(corner(figure, panels))
        style.colour_bar(figure, ScalarMappable(norm, colours), f"expected {metric}", cax=bar)
        if norm.__class__ is LogNorm:
            positions = log_ticks(low, high, 5)
            bar.yaxis.set_ticks(positions, [wording.number(p, 6) for p in positions])
            bar.yaxis.set_ticks([], minor=True)
    style.set_title(
        figure,
        _title(data, objective, names, units, curves, is_log=scale.is_log)
        if model.explained >= READ_WITH_CARE
        else _no_answer(data, objective, len(model.points)),
        _note(data, model, names),
    )
    listed = ", ".join(names)
    style.describe(
        figure,
        f"Matrix of panels for {listed}: on the diagonal the {data.metrics[objective]} a Gaussian "
        "process expects along each parameter, below it maps for each pair, with the evaluated "
        "trials as dots and the best as a star.",
    )
    return figure


def _positions(parameter: Parameter, units: surrogate.FloatArray) -> surrogate.FloatArray:
    if isinstance(parameter, CategoricalParameter):
        return units
    return np.array([parameter_axis.at_unit(parameter, float(u)) for u in units])


def _values(modelled: surrogate.FloatArray, scale: ObjectiveScale) -> surrogate.FloatArray:
    if not scale.is_log:
        return modelled
    bound = np.log(scale.LIMIT)
    result: surrogate.FloatArray = np.exp(np.clip(modelled, -bound, bound))
    return result


def _curve(
    data: StudyData,
    axes: Axes,
    name: str,
    units: surrogate.FloatArray,
    curve: surrogate.FloatArray,
    norm: object,
) -> None:
    parameter = data.space[name]
    positions = _positions(parameter, units)
    if isinstance(parameter, CategoricalParameter):
        axes.scatter(positions, curve, color=style.COMPLETE, s=30, zorder=3)
    else:
        axes.plot(positions, curve, color=style.COMPLETE, linewidth=1.8)
    low, high = float(norm.vmin), float(norm.vmax)  # type: ignore[attr-defined]
    is_log = type(norm).__name__ == "LogNorm"
    axes.set_yscale("log" if is_log else "linear")
    room = (high / low) ** 0.06 if is_log else 0.06 * (high - low)
    axes.set_ylim((low / room, high * room) if is_log else (low - room, high + room))
    ticks = log_ticks(low, high, 3) if is_log else linear_ticks(low, high, 4)
    axes.yaxis.set_ticks(ticks, [wording.number(t, 3) for t in ticks])
    axes.yaxis.set_ticks([], minor=True)
    axes.yaxis.tick_right()
    axes.spines["right"].set(visible=True, color=style.QUIET, linewidth=0.8)
    axes.spines["left"].set_visible(False)
    for record in data.best if len(data.best) <= 5 else ():
        params = data.searched(record)
        if name in params:
            axes.axvline(
                parameter_axis.position(parameter, params[name]),
                color=style.BEST,
                linestyle=":",
                linewidth=1.3,
            )


def _map(
    data: StudyData,
    axes: Axes,
    pair: tuple[str, str],
    units: tuple[surrogate.FloatArray, surrogate.FloatArray],
    values: surrogate.FloatArray,
    norm: object,
    colours: str,
) -> None:
    across, up = (data.space[name] for name in pair)
    x, y = _positions(across, units[0]), _positions(up, units[1])
    shown = np.where(_possible(data, pair, units), values, np.nan)
    smooth = not isinstance(across, CategoricalParameter) and not isinstance(
        up, CategoricalParameter
    )
    axes.pcolormesh(
        x if smooth else _edges(across, x),
        y if smooth else _edges(up, y),
        np.ma.masked_invalid(shown),
        shading="gouraud" if smooth else "flat",
        norm=norm,  # type: ignore[arg-type]
        cmap=colours,
        rasterized=True,
    )
    known = [data.searched(r) for r in data.complete]
    both = [p for p in known if pair[0] in p and pair[1] in p]
    axes.scatter(
        [parameter_axis.position(across, p[pair[0]]) for p in both],
        [parameter_axis.position(up, p[pair[1]]) for p in both],
        s=9 if len(both) < 200 else 3,
        color="white",
        edgecolor="black",
        linewidth=0.5 if len(both) < 200 else 0.2,
        alpha=0.9 if len(both) < 200 else 0.5,
    )
    best = [p for p in map(data.searched, data.best) if pair[0] in p and pair[1] in p]
    axes.scatter(
        [parameter_axis.position(across, p[pair[0]]) for p in best],
        [parameter_axis.position(up, p[pair[1]]) for p in best],
        marker="*",
        s=95 if len(best) < 10 else 45,
        color=style.BEST,
        edgecolor="white",
        linewidth=0.7,
        zorder=4,
    )


def _possible(
    data: StudyData,
    pair: tuple[str, str],
    units: tuple[surrogate.FloatArray, surrogate.FloatArray],
) -> npt.NDArray[np.bool_]:
    """Return which cells of a map can occur: a child needs the right choice of its parent."""
    possible = np.ones((len(units[1]), len(units[0])), dtype=np.bool_)
    for axis, (child, parent) in enumerate((pair, pair[::-1])):
        above = data.space[parent]
        allowed = data.space[child].conditions.get(parent)
        if allowed is not None and isinstance(above, CategoricalParameter):
            fits = np.array([any(same_scalar(c, v) for v in allowed) for c in above.choices])
            possible &= fits[:, None] if axis == 0 else fits[None, :]
    return possible


def _edges(parameter: Parameter, positions: surrogate.FloatArray) -> surrogate.FloatArray:
    """Return the borders of cells around positions."""
    if isinstance(parameter, CategoricalParameter):
        return np.append(positions - 0.5, positions[-1] + 0.5)
    bounds = np.linspace(0.0, 1.0, len(positions) + 1)
    return np.array([parameter_axis.at_unit(parameter, float(u)) for u in bounds])


def _title(
    data: StudyData,
    objective: int,
    names: tuple[str, ...],
    units: list[surrogate.FloatArray],
    curves: list[surrogate.FloatArray],
    *,
    is_log: bool,
) -> str:
    lowest = data.spec.directions[objective] == "minimize"
    parts = []
    spread = {i: float(np.ptp(np.log(c) if is_log else c)) for i, c in enumerate(curves)}
    for i in sorted(spread, key=lambda i: -spread[i])[:2]:
        name = names[i]
        at = int(np.argmin(curves[i]) if lowest else np.argmax(curves[i]))
        parameter = data.space[name]
        if isinstance(parameter, CategoricalParameter):
            parts.append(
                f"{style.label(name)} = {style.label(wording.value(parameter.choices[at]), 16)}"
            )
        else:
            position = float(parameter.from_unit(float(units[i][at])))
            parts.append(f"{style.label(name)} near {_rough(position)}")
    metric = style.label(data.metrics[objective])
    return f"{'Lowest' if lowest else 'Highest'} {metric} is expected at {' and '.join(parts)}"


def _no_answer(data: StudyData, objective: int, count: int) -> str:
    word = "lowest" if data.spec.directions[objective] == "minimize" else "highest"
    metric = style.label(data.metrics[objective])
    return f"{wording.plural(count, 'trial')} do not tell where {metric} is {word}"


def _rough(position: float) -> str:
    """Return a number to two digits; whole numbers stay whole."""
    return str(round(position)) if 100 <= abs(position) < 1e7 else wording.number(position, 2)


def _note(data: StudyData, model: surrogate.Surrogate, names: tuple[str, ...]) -> str:
    if model.explained < READ_WITH_CARE:
        quality = "predicts trials left out hardly better than their mean: read with care"
    else:
        quality = f"explains {100 * model.explained:.0f} % of the variance of trials left out"
    parts = [f"Gaussian process on {wording.plural(len(model.points), 'trial')}; it {quality}"]
    parts += [note] if (note := cut_note(data, names)) else []
    return " · ".join(parts)

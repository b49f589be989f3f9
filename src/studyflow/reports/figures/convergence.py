"""Every trial's value in order, and the best so far.

Optuna's `plot_optimization_history` shows complete trials only. This one shows pruned, failed and
infeasible trials too, the target, and the hypervolume of several objectives; far outliers do not
stretch its axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from studyflow.reports import style, wording
from studyflow.reports.data import Omitted, StudyData
from studyflow.reports.objective_scale import ObjectiveScale
from studyflow.reports.summary import headline
from studyflow.trial.record import TrialRecord, TrialState

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RASTER_FROM: Final = 1000


def convergence(data: StudyData) -> Figure | Omitted:
    """Return values by trial with the running best; for several objectives one panel for each.

    Two objectives get their Pareto front instead, with the dominated hypervolume below it.
    """
    if not data.complete:
        return Omitted("no trial has returned a value yet")
    if len(data.metrics) == 2:
        return _pareto(data)
    count = len(data.metrics)
    figure = style.new_figure(9.0, 4.6 if count == 1 else 0.8 + 2.6 * count)
    panels = figure.subplots(count, 1, squeeze=False, sharex=True)[:, 0]
    for i, axes in enumerate(panels):
        _panel(data, axes, i)
    panels[-1].set_xlabel("trial", size=style.LABEL_SIZE, color=style.INK)
    style.legend(panels[0], loc="upper left", bbox_to_anchor=(1.005, 1.0), borderaxespad=0.0)
    style.set_title(figure, style.label(headline(data).rstrip("."), 110), _note(data))
    style.describe(
        figure,
        f"Objective values of {len(data.complete)} complete trials in the order of their numbers, "
        f"with the best value so far as a falling or rising line. {headline(data)}",
    )
    return figure


def running_best(data: StudyData, objective: int = 0) -> tuple[list[int], list[float]]:
    """Return the numbers of feasible trials and the best value of one objective up to each."""
    better = min if data.spec.directions[objective] == "minimize" else max
    numbers: list[int] = []
    values: list[float] = []
    for record in data.complete:
        if record.is_feasible and record.values is not None:
            value = record.values[objective]
            values.append(better(values[-1], value) if values else value)
            numbers.append(record.number)
    return numbers, values


def hypervolume(data: StudyData) -> tuple[list[int], list[float]]:
    """Return the numbers of feasible trials and the hypervolume dominated up to each.

    The box of all feasible values is scaled to the unit square, its worst corner is the reference.
    Two objectives only.
    """
    signs = [1.0 if d == "minimize" else -1.0 for d in data.spec.directions]
    feasible = [r for r in data.complete if r.is_feasible and r.values is not None]
    costs = [tuple(s * v for s, v in zip(signs, r.values or (), strict=True)) for r in feasible]
    scaled = list(zip(*(_scaled([c[i] for c in costs]) for i in range(2)), strict=True))
    front: list[tuple[float, ...]] = []
    volumes: list[float] = []
    for point in scaled:
        if not any(o[0] <= point[0] and o[1] <= point[1] for o in front):
            front = [o for o in front if not (point[0] <= o[0] and point[1] <= o[1])]
            front.append(point)
        volume, ceiling = 0.0, 1.0
        for x, y in sorted(front):
            volume += (1.0 - x) * (ceiling - y)
            ceiling = y
        volumes.append(volume)
    return [record.number for record in feasible], volumes


def _scaled(column: Sequence[float]) -> list[float]:
    low, high = min(column, default=0.0), max(column, default=0.0)
    if high - low == math.inf:  # halves of floats differ by a float
        return _scaled([v / 2 for v in column])
    return [(v - low) / (high - low) if high > low else 0.0 for v in column]


def _note(data: StudyData) -> str:
    parts = []
    if len(data.metrics) == 1:
        parts.append(f"objective: {style.label(data.metrics[0])}, {data.spec.directions[0]}")
    counts = ", ".join(f"{count} {state.value}" for state, count in data.states.items())
    return " · ".join([*parts, counts])


def _panel(data: StudyData, axes: Axes, objective: int) -> None:
    style.dress(axes, grid="y")
    records = data.complete
    values = {r.number: r.values[objective] for r in records if r.values is not None}
    pruned = {
        r.number: last
        for r in data.trials
        if objective == 0
        and r.state is TrialState.PRUNED
        and r.intermediate
        and math.isfinite(last := r.intermediate[max(r.intermediate)])
    }
    target = data.spec.stop.target if objective == 0 and len(data.metrics) == 1 else None
    known = [*values.values(), *pruned.values(), *([] if target is None else [target])]
    scale = ObjectiveScale(known, data.spec.directions[objective])
    scale.apply(axes)
    options: dict[str, Any] = {
        "s": style.size(len(data.trials)),
        "rasterized": len(data.trials) > RASTER_FROM,
    }
    _marks(
        axes,
        [r for r in records if r.is_feasible],
        values,
        scale,
        {"color": style.COMPLETE, "alpha": style.alpha(len(records)), **options},
        "complete",
    )
    _marks(
        axes,
        [r for r in records if not r.is_feasible],
        values,
        scale,
        {"edgecolor": style.INFEASIBLE, "facecolor": "none", **options},
        "infeasible",
    )
    _marks(
        axes,
        [r for r in data.trials if r.number in pruned],
        pruned,
        scale,
        {"color": style.PRUNED, "marker": "v", "alpha": 0.85, **options},
        "pruned (last value)",
    )
    failed = [r.number for r in data.trials if r.state is TrialState.FAILED]
    if failed:
        axes.scatter(
            failed,
            [0.02] * len(failed),
            transform=axes.get_xaxis_transform(),
            marker="x",
            color=style.FAILED,
            linewidth=1.2,
            label="failed",
            clip_on=False,
            **options,
        )
    enqueued = [r for r in records if r.number in data.enqueued]
    if enqueued:
        axes.scatter(
            [r.number for r in enqueued],
            [scale.clip(values[r.number]) for r in enqueued],
            s=2.6 * options["s"],
            marker="s",
            facecolor="none",
            edgecolor=style.ENQUEUED,
            linewidth=1.4,
            label="enqueued",
        )
    numbers, best = running_best(data, objective)
    if numbers:
        last = max(r.number for r in data.trials)
        axes.step(
            [*numbers, last],
            [*best, best[-1]],
            where="post",
            color=style.BEST,
            linewidth=1.8,
            label="best so far",
            zorder=3,
        )
    if target is not None and not scale.is_outside(target):
        axes.axhline(target, color=style.TARGET, linestyle="--", linewidth=1.3, label="target")
    elif target is not None:
        axes.plot([], [], color=style.TARGET, linestyle="--", label=f"target {target:g} (off axis)")
    for record in data.best if len(data.metrics) == 1 else ():
        axes.scatter(
            [record.number],
            [values[record.number]],
            marker="*",
            s=190,
            color=style.BEST,
            edgecolor="white",
            linewidth=0.8,
            zorder=4,
            label=f"best (trial {record.number})",
        )
    first, last = data.trials[0].number, data.trials[-1].number
    room = max(0.02 * (last - first), 0.6)
    axes.set_xlim(first - room, last + room)
    style.whole_numbers(axes.xaxis)
    axes.set_ylabel(style.label(data.metrics[objective]), size=style.LABEL_SIZE, color=style.INK)


def _marks(
    axes: Axes,
    records: Sequence[TrialRecord],
    values: dict[int, float],
    scale: ObjectiveScale,
    options: dict[str, Any],
    name: str,
) -> None:
    """Draw one kind of trial; values beyond the axis become arrows at its edge."""
    inside = [r.number for r in records if not scale.is_outside(values[r.number])]
    if inside:
        axes.scatter(
            inside, [values[n] for n in inside], linewidth=1.0, label=name, zorder=2, **options
        )
    outside = [r.number for r in records if scale.is_outside(values[r.number])]
    if outside:
        above = scale.direction == "minimize"
        axes.scatter(
            outside,
            [0.985 if above else 0.015] * len(outside),
            transform=axes.get_xaxis_transform(),
            label=f"{name}, beyond the axis",
            **{**options, "marker": "^" if above else "v"},
        )


def _pareto(data: StudyData) -> Figure:
    figure = style.new_figure(9.0, 6.6)
    front_axes, volume_axes = figure.subplots(2, 1, height_ratios=(2.4, 1))
    style.dress(front_axes)
    scales = []
    for i, which in enumerate(("x", "y")):
        column = [r.values[i] for r in data.complete if r.values is not None]
        scale = ObjectiveScale(column, data.spec.directions[i])
        scale.apply(front_axes, "x" if which == "x" else "y")
        scales.append(scale)
    front_axes.set_xlabel(
        f"{style.label(data.metrics[0])} ({data.spec.directions[0]})", size=style.LABEL_SIZE
    )
    front_axes.set_ylabel(
        f"{style.label(data.metrics[1])} ({data.spec.directions[1]})", size=style.LABEL_SIZE
    )
    size = style.size(len(data.complete))

    def positions(records: Sequence[TrialRecord]) -> tuple[list[float], list[float]]:
        x, y = ([s.clip(data.value(r, i)) for r in records] for i, s in enumerate(scales))
        return x, y

    others = [r for r in data.complete if r.is_feasible and r.number not in data.best_numbers]
    points = front_axes.scatter(
        *positions(others),
        c=[r.number for r in others],
        cmap=style.ORDER_MAP,
        vmin=data.trials[0].number,
        vmax=max(data.trials[-1].number, data.trials[0].number + 1),
        s=size,
        alpha=style.alpha(len(others)),
        label="dominated",
        rasterized=len(others) > RASTER_FROM,
    )
    infeasible = [r for r in data.complete if not r.is_feasible]
    if infeasible:
        front_axes.scatter(
            *positions(infeasible),
            s=size,
            facecolor="none",
            edgecolor=style.INFEASIBLE,
            label="infeasible",
        )
    front = sorted(data.best, key=lambda r: r.values or ())
    x, y = positions(front)
    if front:
        where = (
            "post" if data.spec.directions[1] == data.spec.directions[0] == "minimize" else "pre"
        )
        if data.spec.directions[0] != data.spec.directions[1]:
            where = "pre" if data.spec.directions[0] == "maximize" else "post"
        front_axes.step(x, y, where=where, color=style.BEST, linewidth=1.3, alpha=0.7)
        front_axes.scatter(
            x,
            y,
            marker="*",
            s=150,
            color=style.BEST,
            edgecolor="white",
            linewidth=0.7,
            zorder=4,
            label="Pareto front",
        )
    beyond = sum(
        any(scale.is_outside(data.value(r, i)) for i, scale in enumerate(scales))
        for r in data.complete
    )
    if len(front) <= 12:
        for record, left, low in zip(front, x, y, strict=True):
            front_axes.annotate(
                str(record.number),
                (left, low),
                xytext=(6, 5),
                textcoords="offset points",
                size=style.NOTE_SIZE,
                color=style.INK,
            )
    if others:
        style.colour_bar(figure, points, "trial", ax=front_axes, pad=0.01, aspect=30)
    style.legend(front_axes, loc="best")

    style.dress(volume_axes, grid="y")
    numbers, volumes = hypervolume(data)
    if numbers:
        volume_axes.step(numbers, volumes, where="post", color=style.BEST, linewidth=1.8)
    volume_axes.set_ylim(0.0, max([*volumes, 0.1]) * 1.08)
    volume_axes.set_ylabel("hypervolume", size=style.LABEL_SIZE, color=style.INK)
    volume_axes.set_xlabel("trial", size=style.LABEL_SIZE, color=style.INK)
    style.whole_numbers(volume_axes.xaxis)
    note = _note(data)
    if beyond:
        verb = "lies" if beyond == 1 else "lie"
        note += f" · {wording.plural(beyond, 'trial')} {verb} beyond the axes, shown at their ends"
    style.set_title(figure, style.label(headline(data).rstrip("."), 110), note)
    grown = wording.number(volumes[-1], 3) if volumes else "0"
    style.describe(
        figure,
        f"Above, the {len(data.complete)} complete trials by both objectives with the Pareto front "
        f"marked; below, the share of the box that the front dominates, by trial, at last {grown}. "
        f"{headline(data)}",
    )
    return figure

"""How well the sampler's model knew what it suggested: predictions v. truth, and its lengthscales.

Optuna draws neither: its figures fit a model afterwards, and know nothing of what a suggestion
promised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from studyflow.reports import style, surrogate
from studyflow.reports.data import Omitted, StudyData
from studyflow.reports.objective_scale import ObjectiveScale
from studyflow.reports.predictions import (
    MIN_JUDGED,
    RELEVANCE,
    Calibration,
    Prediction,
    calibration,
    lengthscales,
    predictions,
    prior_lengthscale,
)
from studyflow.samplers.models.hyperparameters import LENGTHSCALE_BOUNDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


MAX_OBJECTIVES: Final = 3
MAX_BARS: Final = 16
RECENT: Final = 10
"""Suggestions whose lengthscales are shown behind the newest."""


def model_predictions(data: StudyData) -> Figure | Omitted:
    """Return predictions against truth, one step ahead and left out, and the lengthscales."""
    found = [predictions(data, i) for i in range(len(data.metrics))][:MAX_OBJECTIVES]
    hindsight = [_left_out_pairs(data, i) for i in range(len(found))]
    if not any(found) and not any(hindsight):
        return Omitted(
            f"no trial that a model suggested has finished, and fewer than {surrogate.MIN_TRIALS} "
            "different results are there to leave one out"
        )
    newest = [_newest(data, i) for i in range(len(found))]
    bars = max((min(len(scales[-1]), MAX_BARS) for scales in newest if scales), default=0)
    low_row = 0.0 if not any(found) else max(1.9, 0.9 + 0.21 * bars)
    block = 3.7 + low_row
    figure = style.new_figure(9.0, 0.8 + block * len(found))
    heights = [3.7, low_row] if low_row else [3.7]
    grid = figure.subplots(
        len(heights) * len(found),
        2,
        squeeze=False,
        gridspec_kw={"height_ratios": heights * len(found)},
    )
    for i, ahead in enumerate(found):
        row = grid[i * len(heights)]
        scale = _scale(data, i, ahead)
        _draw_ahead(data, row[0], i, ahead, scale)
        _draw_left_out(data, row[1], i, hindsight[i])
        if low_row:
            _draw_surprises(grid[i * 2 + 1][0], ahead)
            _draw_lengthscales(grid[i * 2 + 1][1], newest[i])
    judged = calibration(found[0])
    if judged.count:
        title = f"{judged.sentence}: {judged.verdict}"
        if judged.count < MIN_JUDGED:
            title = f"{judged.sentence} ({judged.verdict})"
    elif hindsight[0] is None:
        title = f"Too few results that differ to judge a model of {style.label(data.metrics[0])}"
    else:
        explained = surrogate.fitted(data, 0)[0].explained
        title = f"A Gaussian process explains {100 * max(explained, 0.0):.0f} % of trials left out"
    style.set_title(figure, title, _note(data, judged, found))
    style.describe(figure, _words(data, found, hindsight))
    return figure


def _note(data: StudyData, judged: Calibration, found: Sequence[Sequence[Prediction]]) -> str:
    parts = []
    if judged.count:
        parts.append(
            f"a well-calibrated model would have about {0.95 * judged.count:.0f} of "
            f"{judged.count} within 2 sd and {0.68 * judged.count:.0f} within 1 sd "
            f"(here {judged.within_1_sd})"
        )
    else:
        parts.append("no trial that a model suggested has finished")
    if len(data.metrics) > 1:
        parts.append(f"title: {style.label(data.metrics[0])}")
    if len(data.metrics) > len(found):
        parts.append(f"the first {len(found)} of {len(data.metrics)} objectives")
    return " · ".join(parts)


def _words(
    data: StudyData,
    found: Sequence[Sequence[Prediction]],
    hindsight: Sequence[tuple[surrogate.FloatArray, surrogate.FloatArray] | None],
) -> str:
    parts = []
    for i, ahead in enumerate(found):
        judged = calibration(ahead)
        if judged.count:
            parts.append(
                f"{data.metrics[i]}: {judged.sentence} made before the trial ran, "
                f"{judged.within_1_sd} within 1 sd"
            )
        if hindsight[i] is not None:
            explained = surrogate.fitted(data, i)[0].explained
            parts.append(
                f"{data.metrics[i]}: trials left out are predicted with "
                f"{100 * max(explained, 0.0):.0f} % of the variance explained"
            )
    return "Predictions against results. " + "; ".join(parts) + "."


def _scale(data: StudyData, objective: int, found: Sequence[Prediction]) -> ObjectiveScale:
    values = [data.value(r, objective) for r in data.complete]
    scale = ObjectiveScale(values, data.spec.directions[objective])
    inside = [p.mean for p in found if not scale.is_log or p.mean > 0.0]
    wider = [m for m in inside if abs(m) < 10 * max(abs(scale.low), abs(scale.high))]
    shown = [v for v in values if not scale.is_outside(v)]
    return ObjectiveScale([*shown, *wider] or values, data.spec.directions[objective], room=1e9)


def _diagonal(axes: Axes, scale: ObjectiveScale, metric: str) -> None:
    style.dress(axes)
    scale.apply(axes, "x", most=5)
    scale.apply(axes, "y", most=5)
    axes.plot(
        [scale.low, scale.high], [scale.low, scale.high], color=style.QUIET, linewidth=1.0, zorder=1
    )
    axes.set_xlabel(
        f"{style.label(metric)}: what came true", size=style.LABEL_SIZE, color=style.INK
    )


def _draw_ahead(
    data: StudyData,
    axes: Axes,
    objective: int,
    found: Sequence[Prediction],
    scale: ObjectiveScale,
) -> None:
    _diagonal(axes, scale, data.metrics[objective])
    axes.set_title("predicted when suggested, ± 2 sd", size=style.LABEL_SIZE, color=style.INK)
    axes.set_ylabel("predicted", size=style.LABEL_SIZE, color=style.INK)
    if not found:
        _say(axes, "no trial that a model\nsuggested has finished")
    for is_inside, colour, marker, words in (
        (True, style.COMPLETE, "o", "truth within 2 sd"),
        (False, style.BEST, "D", "truth further off"),
    ):
        some = [p for p in found if (abs(p.surprise) <= 2.0) is is_inside]
        if not some:
            continue
        across = [scale.clip(p.truth) for p in some]
        for x, p in zip(across, some, strict=True):
            ends = [_clamp(scale, p.mean - 2 * p.sd), _clamp(scale, p.mean + 2 * p.sd)]
            axes.plot(
                [x, x], ends, color=colour, linewidth=1.2, alpha=style.alpha(len(found)) * 0.7
            )
        axes.scatter(
            across,
            [scale.clip(p.mean) for p in some],
            color=colour,
            marker=marker,
            s=style.size(len(found)),
            edgecolor=style.INK,
            linewidth=0.5,
            alpha=style.alpha(len(found)),
            zorder=3,
            label=words,
        )
    style.legend(axes, loc="best")


def _clamp(scale: ObjectiveScale, value: float) -> float:
    return min(max(value, scale.low), scale.high)


def _left_out_pairs(
    data: StudyData, objective: int
) -> tuple[surrogate.FloatArray, surrogate.FloatArray] | None:
    """Return results and their predictions from all others, in the objective's units."""
    count = len(data.complete)
    values = [data.value(r, objective) for r in data.complete]
    if not surrogate.MIN_TRIALS <= count <= surrogate.MAX_TRIALS or min(values) == max(values):
        return None
    process, scale = surrogate.fitted(data, objective)
    clipped = np.array([scale.clip(v) for v in values])
    found = surrogate.left_out(process, np.log(clipped) if scale.is_log else clipped)
    return clipped, np.exp(np.clip(found, -500.0, 500.0)) if scale.is_log else found


def _draw_left_out(
    data: StudyData,
    axes: Axes,
    objective: int,
    pairs: tuple[surrogate.FloatArray, surrogate.FloatArray] | None,
) -> None:
    # The process was fitted to values clipped to this scale, so its axes end there.
    values = [data.value(r, objective) for r in data.complete]
    scale = ObjectiveScale(values, data.spec.directions[objective])
    _diagonal(axes, scale, data.metrics[objective])
    axes.set_title(
        "predicted from all other trials (report's own model)",
        size=style.LABEL_SIZE,
        color=style.INK,
    )
    if pairs is None:
        if len(data.complete) > surrogate.MAX_TRIALS:
            _say(axes, f"not drawn above {surrogate.MAX_TRIALS} trials")
        else:
            _say(axes, f"needs {surrogate.MIN_TRIALS} trials\nthat differ")
        return
    truth, guess = pairs
    axes.scatter(
        [scale.clip(float(v)) for v in truth],
        [scale.clip(float(v)) for v in guess],
        color=style.TARGET,
        marker="s",
        s=style.size(len(truth)) * 0.8,
        edgecolor=style.INK,
        linewidth=0.5,
        alpha=style.alpha(len(truth)),
        zorder=3,
        label=f"explains {100 * max(surrogate.fitted(data, objective)[0].explained, 0):.0f} %",
    )
    style.legend(axes, loc="best")


def _draw_surprises(axes: Axes, found: Sequence[Prediction]) -> None:
    style.dress(axes, grid="x")
    axes.set_title("how far off, trial by trial", size=style.LABEL_SIZE, color=style.INK)
    axes.set_xlabel("trial", size=style.LABEL_SIZE, color=style.INK)
    axes.set_ylabel("sd above prediction", size=style.LABEL_SIZE, color=style.INK)
    for reach in (2.0, 1.0):
        axes.axhspan(-reach, reach, color=style.RUNNING, alpha=0.16, linewidth=0)
    axes.axhline(0.0, color=style.QUIET, linewidth=1.0)
    axes.set_ylim(-5.3, 5.3)
    axes.set_yticks([-4, -2, 0, 2, 4])
    if not found:
        return
    inside = [abs(p.surprise) <= 2.0 for p in found]
    for is_inside, colour, marker in ((True, style.COMPLETE, "o"), (False, style.BEST, "D")):
        some = [p for p, flag in zip(found, inside, strict=True) if flag is is_inside]
        axes.scatter(
            [p.trial for p in some],
            [min(max(p.surprise, -5.0), 5.0) for p in some],
            color=colour,
            marker=marker,
            s=style.size(len(found)),
            edgecolor=style.INK,
            linewidth=0.5,
            alpha=style.alpha(len(found)),
            zorder=3,
        )
    style.whole_numbers(axes.xaxis)


def _newest(data: StudyData, objective: int) -> list[dict[str, float]]:
    """Return the lengthscales of the last suggestions by a model, oldest first."""
    known = [lengthscales(record, objective) for record in data.trials]
    return [scales for scales in known if scales][-RECENT:]


def _draw_lengthscales(axes: Axes, recent: Sequence[Mapping[str, float]]) -> None:
    style.dress(axes, grid="x")
    axes.set_title("lengthscales: short ones matter", size=style.LABEL_SIZE, color=style.INK)
    axes.set_xscale("log")
    low, high = LENGTHSCALE_BOUNDS
    axes.set_xlim(low / 1.5, high * 1.5)
    axes.set_xticks([0.02, 0.1, 0.5, 1.5, 5.0, 50.0], ["0.02", "0.1", "0.5", "1.5", "5", "50"])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("in units of the parameter's range", size=style.LABEL_SIZE, color=style.INK)
    if not recent:
        axes.set_yticks([])
        _say(axes, "no model was asked yet")
        return
    latest = recent[-1]
    names = list(latest)[:MAX_BARS]
    axes.axvspan(RELEVANCE[-1][0], high, color=style.GRID, alpha=0.7, linewidth=0)
    for bound in LENGTHSCALE_BOUNDS:
        axes.axvline(bound, color=style.BEST, linewidth=1.4, linestyle="--")
    mode = prior_lengthscale(len(latest))
    axes.axvline(mode, color=style.QUIET, linewidth=1.0, linestyle=":")
    for row, name in enumerate(names):
        past = [scales[name] for scales in recent if name in scales]
        axes.plot([min(past), max(past)], [row, row], color=style.RUNNING, linewidth=3.0, alpha=0.6)
        at_bound = not low * 1.05 < latest[name] < high / 1.05
        axes.scatter(
            [latest[name]],
            [row],
            color=style.BEST if at_bound else style.COMPLETE,
            marker="D" if at_bound else "o",
            s=40,
            edgecolor=style.INK,
            linewidth=0.5,
            zorder=3,
        )
    axes.set_yticks(range(len(names)), [style.label(name, 18) for name in names])
    axes.set_ylim(len(names) - 0.1, -0.6)
    top = axes.get_xaxis_transform()
    for position, words, side in (
        (mode, "prior", "center"),
        (low, "bound", "left"),
        (high, "bound", "right"),
        (15.8, "no difference", "center"),
    ):
        axes.text(
            position,
            0.01 if words == "no difference" else 0.985,
            f" {words} ",
            transform=top,
            ha=side,
            va="bottom" if words == "no difference" else "top",
            size=style.NOTE_SIZE - 1,
            color=style.QUIET,
        )


def _say(axes: Axes, text: str) -> None:
    axes.text(
        0.5,
        0.5,
        text,
        transform=axes.transAxes,
        ha="center",
        va="center",
        size=style.LABEL_SIZE,
        color=style.QUIET,
    )

"""How well the sampler's model knew what it suggested: predictions v. truth, and its lengthscales.

A suggestion stores what the model expected of it (`TrialRecord.suggestion`), so the truth that came
later is an honest test: one step ahead, nothing fitted to it. Sampling points where the model is
unsure, and stopping at a good one, both bias such a test a little; it still tells a model that is
sure of nonsense from one that can be believed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from studyflow.reports import style, surrogate
from studyflow.reports.data import Omitted, StudyData
from studyflow.samplers.levels import MODEL_LEVELS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from studyflow.trial.record import TrialRecord

LENGTHSCALE_BOUNDS: Final = (0.02, 50.0)
"""Between which the sampler looks for lengthscales; as in `studyflow.samplers.hyperparameters`."""
MIN_JUDGED: Final = 5
"""Truths below which nothing is said about calibration."""
MAX_OBJECTIVES: Final = 3
MAX_BARS: Final = 16
RECENT: Final = 10
"""Suggestions whose lengthscales are shown behind the newest."""

_RELEVANCE: Final = ((0.5, "matters a lot"), (1.5, "matters"), (5.0, "matters little"))
_NO_RELEVANCE: Final = "made no difference so far"


@dataclass(frozen=True)
class Prediction:
    """What the model expected of one measurement, and what came true; in the objective's units."""

    trial: int
    mean: float
    sd: float
    """Of the measurement: the model's doubt about the function and the noise together."""
    truth: float

    @property
    def surprise(self) -> float:
        """How far the truth lay above the expected value, in standard deviations."""
        return (self.truth - self.mean) / self.sd


@dataclass(frozen=True)
class Calibration:
    """How often the truth lay where the model expected it."""

    count: int
    within_1_sd: int
    within_2_sd: int

    @property
    def verdict(self) -> str:
        """One clause: whether the model's error bars can be believed."""
        if self.count < MIN_JUDGED:
            return "too few to judge"
        if self.within_2_sd < 0.8 * self.count:
            return "the model is too sure of itself"
        if self.count >= 2 * MIN_JUDGED and self.within_1_sd > 0.9 * self.count:
            return "the model is more careful than it need be"
        return "about as it should be"

    @property
    def sentence(self) -> str:
        """One sentence: such as `15 of 18 results lay within 2 sd of their prediction`."""
        results = "result" if self.count == 1 else "results"
        return f"{self.within_2_sd} of {self.count} {results} lay within 2 sd of the prediction"


def predicted(record: TrialRecord, objective: int) -> tuple[float, float] | None:
    """Return mean and standard deviation of the measurement that a trial's suggestion promised.

    `None` unless a model made the suggestion and stored both.
    """
    entry = objective_entry(record, objective)
    if entry is None:
        return None
    mean, sd, noise = (
        _number(entry.get(key)) for key in ("predicted_mean", "predicted_sd", "noise_sd")
    )
    if mean is None or sd is None:
        return None
    total = math.hypot(sd, noise or 0.0)
    return (mean, total) if 0.0 < total < math.inf else None


def level_of(record: TrialRecord) -> str | None:
    """Return the level of the sampler's fallback chain that gave a trial.

    A newer version may have stored one that is no `SuggestionLevel`.

    Returns:
        `None` where none is stored.
    """
    found = (record.suggestion or {}).get("rung")
    return found if isinstance(found, str) else None


def objective_entry(record: TrialRecord, objective: int) -> Mapping[str, Any] | None:
    """Return what the model of one objective said of a trial; `None` if no model was asked."""
    suggestion = record.suggestion
    if suggestion is None or level_of(record) not in MODEL_LEVELS:
        return None
    entries = suggestion.get("objectives")
    if not isinstance(entries, list | tuple) or not 0 <= objective < len(entries):
        return None
    entry = entries[objective]
    return entry if isinstance(entry, Mapping) else None


def predictions(data: StudyData, objective: int = 0) -> tuple[Prediction, ...]:
    """Return every prediction that has come true or not, by trial."""
    found = []
    for record in data.complete:
        promise = None if record.is_taken_over else predicted(record, objective)
        if promise is not None:
            found.append(Prediction(record.number, *promise, data.value(record, objective)))
    return tuple(found)


def calibration(found: Sequence[Prediction]) -> Calibration:
    """Return how often the truth lay within one and two standard deviations."""
    return Calibration(
        len(found),
        sum(abs(p.surprise) <= 1.0 for p in found),
        sum(abs(p.surprise) <= 2.0 for p in found),
    )


def lengthscales(record: TrialRecord, objective: int = 0) -> dict[str, float]:
    """Return a suggestion's lengthscales, the shortest first; empty if no model was asked."""
    entry = objective_entry(record, objective) or {}
    stored = entry.get("lengthscales")
    if not isinstance(stored, Mapping):
        return {}
    known = {str(name): _number(value) for name, value in stored.items()}
    positive = {name: value for name, value in known.items() if value is not None and value > 0.0}
    return dict(sorted(positive.items(), key=lambda item: item[1]))


def relevance(lengthscale: float) -> str:
    """Return what a lengthscale, in units of the parameter's range, says about the parameter."""
    for limit, words in _RELEVANCE:
        if lengthscale <= limit:
            return words
    return _NO_RELEVANCE


def prior_lengthscale(dimension: int) -> float:
    """Return the sampler's most probable lengthscale before any data, for so many parameters."""
    return math.exp(math.sqrt(2.0) + 0.5 * math.log(dimension) - 3.0)


def left_out(model: surrogate.Surrogate, values: np.ndarray[Any, Any]) -> surrogate.FloatArray:
    """Return each training value as the report's own process predicts it from all the others.

    Args:
        model: Fitted to these values.
        values: On the scale that the process models, `n`.
    """
    correlation = np.ones((len(values), len(values)))
    for column, lengthscale in enumerate(model.length_scales):
        at = model.points[:, column]
        gaps = np.abs(at[:, None] - at[None, :])
        if model.is_category[column]:
            gaps = (gaps > 0.5).astype(np.float64)
        root = math.sqrt(5.0) * gaps / lengthscale
        correlation *= (1.0 + root + root**2 / 3.0) * np.exp(-root)
    # The weights w solve (C + ratio I) w = values - mean; that gives noise over outputscale.
    residual = values - model.mean - correlation @ model.weights
    power = float(model.weights @ model.weights)
    ratio = max(float(residual @ model.weights) / power, 1e-9) if power > 0.0 else 1.0
    inverse = np.linalg.inv(correlation + ratio * np.eye(len(values)))
    result: surrogate.FloatArray = values - (inverse @ (values - model.mean)) / np.diag(inverse)
    return result


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
            f"a model that is right about its doubts has about {0.95 * judged.count:.0f} of "
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


def _scale(data: StudyData, objective: int, found: Sequence[Prediction]) -> style.ObjectiveScale:
    values = [data.value(r, objective) for r in data.complete]
    scale = style.ObjectiveScale(values, data.spec.directions[objective])
    inside = [p.mean for p in found if not scale.is_log or p.mean > 0.0]
    wider = [m for m in inside if abs(m) < 10 * max(abs(scale.low), abs(scale.high))]
    shown = [v for v in values if not scale.is_outside(v)]
    return style.ObjectiveScale(
        [*shown, *wider] or values, data.spec.directions[objective], room=1e9
    )


def _diagonal(axes: Axes, scale: style.ObjectiveScale, metric: str) -> None:
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
    scale: style.ObjectiveScale,
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


def _clamp(scale: style.ObjectiveScale, value: float) -> float:
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
    found = left_out(process, np.log(clipped) if scale.is_log else clipped)
    return clipped, np.exp(np.clip(found, -500.0, 500.0)) if scale.is_log else found


def _draw_left_out(
    data: StudyData,
    axes: Axes,
    objective: int,
    pairs: tuple[surrogate.FloatArray, surrogate.FloatArray] | None,
) -> None:
    # The process was fitted to values clipped to this scale, so its axes end there.
    values = [data.value(r, objective) for r in data.complete]
    scale = style.ObjectiveScale(values, data.spec.directions[objective])
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
    axes.axvspan(_RELEVANCE[-1][0], high, color=style.GRID, alpha=0.7, linewidth=0)
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
    for place, words, side in (
        (mode, "prior", "center"),
        (low, "bound", "left"),
        (high, "bound", "right"),
        (15.8, "no difference", "center"),
    ):
        axes.text(
            place,
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


def _number(value: Any) -> float | None:
    """Return a finite number, or `None` for anything else a document may hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None

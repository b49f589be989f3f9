"""How well the sampler's model knew what it suggested: predictions v. truth, and its lengthscales.

Optuna draws neither: its figures fit a model afterwards, and know nothing of what a suggestion
promised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from studyflow.reports import chart, surrogate, svg, wording
from studyflow.reports.axis import Axis, log_axis, number_axis, objective_axis
from studyflow.reports.chart import Drawing, Frame, Key, Panel
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
from studyflow.reports.svg import Canvas
from studyflow.samplers.models.hyperparameters import LENGTHSCALE_BOUNDS

MAX_OBJECTIVES: Final = 3
MAX_BARS: Final = 16
RECENT: Final = 10
"""Suggestions whose lengthscales are shown behind the newest."""


def model_predictions(data: StudyData) -> Drawing | Omitted:
    """Return predictions against truth, one step ahead and left out, and the lengthscales."""
    found = [predictions(data, i) for i in range(len(data.metrics))][:MAX_OBJECTIVES]
    hindsight = [_left_out_pairs(data, i) for i in range(len(found))]
    if not any(found) and not any(hindsight):
        return Omitted(
            f"no trial that a model suggested has finished, and fewer than {surrogate.MIN_TRIALS} "
            "different results are there to leave one out"
        )
    panels: list[Panel] = []
    for i, ahead in enumerate(found):
        group = data.metrics[i] if len(found) > 1 else ""
        if ahead:
            panels.append(_ahead(data, i, ahead, group))
        if hindsight[i] is not None:
            panels.append(_left_out(data, i, hindsight[i], group))
        if ahead:
            panels.append(_surprises(ahead, group))
        if recent := _newest(data, i):
            panels.append(_lengthscales(recent, group))
    judged = calibration(found[0])
    if judged.count:
        title = f"{judged.sentence}: {judged.verdict}"
        if judged.count < MIN_JUDGED:
            title = f"{judged.sentence} ({judged.verdict})"
    elif hindsight[0] is None:
        title = f"Too few results that differ to judge a model of {data.metrics[0]}"
    else:
        explained = surrogate.fitted(data, 0)[0].explained
        title = f"A Gaussian process explains {100 * max(explained, 0.0):.0f} % of trials left out"
    keys = [Key("truth within 2 sd", "dot", "complete"), Key("further off", "diamond", "best")]
    return Drawing(
        title=title,
        note=_note(data, judged, found),
        alt=_words(data, found, hindsight),
        panels=tuple(panels),
        keys=tuple(keys) if any(found) else (),
    )


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
        parts.append(f"title: {data.metrics[0]}")
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


def _diagonal(data: StudyData, objective: int, scale: ObjectiveScale, name: str) -> Frame:
    metric = data.metrics[objective]
    canvas = Canvas(chart.SMALL, 270)
    x = objective_axis(f"{metric}: what came true", scale, 5)
    frame = Frame(canvas, x, objective_axis(name, scale, 5), grid="both")
    start, end = frame.at(scale.low, scale.low), frame.at(scale.high, scale.high)
    canvas.line(*start, *end, "axis")
    return frame


def _ahead(data: StudyData, objective: int, found: Sequence[Prediction], group: str) -> Panel:
    scale = _scale(data, objective, found)
    frame = _diagonal(data, objective, scale, "predicted when suggested, ± 2 sd")
    size = chart.radius(len(found))
    for p in found:
        is_inside = abs(p.surprise) <= 2.0
        cls = "complete" if is_inside else "best"
        low, high = (min(max(p.mean + s * p.sd, scale.low), scale.high) for s in (-2.0, 2.0))
        start, end = frame.at(p.truth, low), frame.at(p.truth, high)
        frame.canvas.line(*start, *end, f"{cls} stroke thin faint")
        across = min(max(frame.x.share(p.truth), 0.0), 1.0)
        shape: svg.Shape = "dot" if is_inside else "diamond"
        frame.mark(shape, across, p.mean, size, cls, p.trial)
    inside = sum(abs(p.surprise) <= 2.0 for p in found)
    alt = f"Predicted against true {data.metrics[objective]}: {inside} of {len(found)} within 2 sd."
    return Panel(frame.canvas, alt, group)


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


def _left_out(
    data: StudyData,
    objective: int,
    pairs: tuple[surrogate.FloatArray, surrogate.FloatArray] | None,
    group: str,
) -> Panel:
    assert pairs is not None, "the caller has looked"
    # The process was fitted to values clipped to this scale, so its axes end there.
    values = [data.value(r, objective) for r in data.complete]
    scale = ObjectiveScale(values, data.spec.directions[objective])
    frame = _diagonal(data, objective, scale, "predicted from all other trials")
    for record, truth, guess in zip(data.complete, *pairs, strict=True):
        across = frame.x.share(scale.clip(float(truth)))
        height = scale.clip(float(guess))
        frame.mark("dot", across, height, chart.radius(len(values)), "target", record.number)
    explained = wording.percent(max(surrogate.fitted(data, objective)[0].explained, 0.0))
    alt = (
        f"Each {data.metrics[objective]} as predicted from all other trials: {explained} explained."
    )
    return Panel(frame.canvas, alt, group)


def _surprises(found: Sequence[Prediction], group: str) -> Panel:
    canvas = Canvas(chart.SMALL, 220)
    x = number_axis("trial", found[0].trial, found[-1].trial, most=5, room=0.04, is_whole=True)
    y = number_axis("sd above the prediction", -5.0, 5.0, most=6)
    frame = Frame(canvas, x, y, grid="none")
    left, right = frame.box.left, frame.box.left + frame.box.width
    for reach in (2.0, 1.0):
        top, bottom = frame.at(0, reach)[1], frame.at(0, -reach)[1]
        canvas.add(
            "rect", cls="running band", x=left, y=top, width=right - left, height=bottom - top
        )
    frame.horizontal(0.0, "axis")
    for p in found:
        is_inside = abs(p.surprise) <= 2.0
        cls, shape = ("complete", "dot") if is_inside else ("best", "diamond")
        place = x.share(p.trial)
        frame.mark(shape, place, p.surprise, chart.radius(len(found)), cls, p.trial)  # type: ignore[arg-type]
    return Panel(canvas, f"How far off each of {len(found)} predictions was, by trial.", group)


def _newest(data: StudyData, objective: int) -> list[dict[str, float]]:
    """Return the lengthscales of the last suggestions by a model, oldest first."""
    known = [lengthscales(record, objective) for record in data.trials]
    return [scales for scales in known if scales][-RECENT:]


def _lengthscales(recent: Sequence[Mapping[str, float]], group: str) -> Panel:
    latest = recent[-1]
    names = list(latest)[:MAX_BARS]
    low, high = LENGTHSCALE_BOUNDS
    marks = (0.02, 0.1, 0.5, 1.5, 5.0, 50.0)
    x = log_axis("lengthscale, in ranges of the parameter", low / 1.5, high * 1.5, marks)
    count = len(names)
    ticks = tuple((1 - (i + 0.5) / count, svg.cut(n, 100)) for i, n in enumerate(names))
    y = Axis("short ones matter", lambda row: 1 - (row + 0.5) / count, ticks)
    canvas = Canvas(chart.SMALL, 66 + max(20.0 * count, 60.0))
    frame = Frame(canvas, x, y, grid="x")
    edge = frame.across(x.share(RELEVANCE[-1][0]))
    width = frame.box.left + frame.box.width - edge
    canvas.add(
        "rect", cls="quiet band", x=edge, y=frame.box.top, width=width, height=frame.box.height
    )
    for bound in LENGTHSCALE_BOUNDS:
        frame.vertical(x.share(bound), "best stroke dash thin")
    frame.vertical(x.share(prior_lengthscale(len(latest))), "quiet stroke dot-line thin")
    for row, name in enumerate(names):
        past = [scales[name] for scales in recent if name in scales]
        start, end = frame.at(min(past), row), frame.at(max(past), row)
        canvas.line(*start, *end, "running stroke thick faint")
        at_bound = not low * 1.05 < latest[name] < high / 1.05
        shape: svg.Shape = "diamond" if at_bound else "dot"
        canvas.mark(shape, *frame.at(latest[name], row), 4.5, "best" if at_bound else "complete")
    shortest = names[0]
    alt = f"Lengthscales of the newest model; the shortest is {shortest}'s. Grey: no difference."
    return Panel(canvas, alt, group)

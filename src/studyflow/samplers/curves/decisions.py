"""Whether a running trial goes on, and what a free slot goes to, by what GPU-time buys.

The value of an option is the improvement that is expected of its trial's end, over the seconds that
it still takes; a trial that is paused or new pays the restart as well. What is improved on is the
best end so far, or what another running trial promises if that is more. A new trial has to improve
on what the paused ones promise too: else the next unknown point looks better than finishing a good
trial, for ever. All is on the model's scale: expected improvements are in spreads of the finals.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from studyflow.samplers.acquisition.improvement import log_h
from studyflow.samplers.arrays import FloatArray, IntArray
from studyflow.samplers.curves.improvement import NewTrialImprovement, believing
from studyflow.samplers.curves.model import CurveModel

MIN_BEGUN: Final = 6
"""Trials that are begun before any slot goes to a paused one."""


class OptionKind(enum.StrEnum):
    """What GPU-time may be spent on."""

    GO_ON = "go-on"
    """The running trial that is asked about."""
    RESUME = "resume"
    START = "start"
    """A trial with new parameters."""


@dataclass(frozen=True)
class Option:
    """One thing that GPU-time may be spent on, with what it is worth."""

    kind: OptionKind
    trial: int | None
    """Row of the trial among the curves; `None` for a new one."""
    improvement: float
    """Expected improvement, in spreads of the finals."""
    incumbent: float
    """What is improved on, in objective units, larger is better."""
    seconds: float
    """What it takes to the trial's end, the restart included."""

    @property
    def value(self) -> float:
        """Expected improvement per second."""
        return self.improvement / self.seconds


@dataclass(frozen=True)
class Judgement:
    """What becomes of the option that was asked about, and what it was compared with."""

    chosen: Option | None
    """`None`: nothing is worth anything, or nothing is known yet."""
    options: tuple[Option, ...]
    """All that were compared, the best first."""


@dataclass(frozen=True)
class Slots:
    """What runs, what waits, and what time it takes."""

    running: IntArray
    """Rows of the running trials."""
    paused: IntArray
    """Rows of the paused trials that can be taken up."""
    steps_done: IntArray
    """Steps that each trial of the study keeps if it goes on, `n`."""
    step_seconds: float
    """Of one step."""
    restart_seconds: float
    """From the start of an attempt until it trains."""
    candidates: FloatArray
    """Features of parameters that a new trial might have, `c x f`; none if none may start."""


def judge_running(model: CurveModel, slots: Slots, trial: int) -> Judgement:
    """Return what a running trial's slot is worth most for; `GO_ON` is for itself.

    A trial that is lost has no option of its own.

    Args:
        model: Of all curves.
        slots: What runs and waits, the trial among the running ones.
        trial: Its row.
    """
    return _best_of(_options(model, slots, asked=trial))


def fill_slot(model: CurveModel, slots: Slots) -> Judgement:
    """Return what a free slot is worth most for: a paused trial or a new one.

    Args:
        model: Of all curves.
        slots: What runs and waits.
    """
    judgement = _best_of(_options(model, slots, asked=None))
    if len(model.curves.reached) >= MIN_BEGUN:
        return judgement
    start = next((o for o in judgement.options if o.kind is OptionKind.START), judgement.chosen)
    return Judgement(start, judgement.options)


def _best_of(options: list[Option]) -> Judgement:
    # Of equal values the first: the trial itself, then paused ones by number, then a new one.
    ranked = tuple(sorted(options, key=lambda option: -option.value))
    return Judgement(ranked[0] if ranked else None, ranked)


def _options(model: CurveModel, slots: Slots, asked: int | None) -> list[Option]:
    curves = model.curves
    hopeful = ~curves.lost & ~curves.ended
    others = slots.running[hopeful[slots.running] & (slots.running != asked)]
    open_trials = [int(t) for t in slots.paused if hopeful[t]]
    if asked is not None and hopeful[asked]:
        open_trials.insert(0, asked)
    best = max([best_end(model), *_ends(model, others)[0].tolist()])
    means, deviations = _ends(model, np.array(open_trials, dtype=np.int64))
    options = []
    for trial, mean, deviation in zip(open_trials, means, deviations, strict=True):
        seconds = (curves.steps - int(slots.steps_done[trial])) * slots.step_seconds
        is_running = trial == asked
        options.append(
            Option(
                OptionKind.GO_ON if is_running else OptionKind.RESUME,
                trial,
                float(deviation * np.exp(log_h(np.array([(mean - best) / deviation])))[0]),
                curves.scale.final(best),
                max(seconds + (0.0 if is_running else slots.restart_seconds), 1e-9),
            )
        )
    if len(slots.candidates):
        promised = max([best, *means.tolist()])
        seen = believing(model, others)
        values = NewTrialImprovement(seen, incumbent=promised).value(slots.candidates)
        seconds = curves.steps * slots.step_seconds + slots.restart_seconds
        value = float(np.max(values, initial=-math.inf))
        options.append(
            Option(
                OptionKind.START,
                None,
                math.exp(value) if math.isfinite(value) else 0.0,
                curves.scale.final(promised),
                max(seconds, 1e-9),
            )
        )
    return options


def best_end(model: CurveModel) -> float:
    """Return the best end so far, less its share of noise, on the model's scale."""
    is_end = (model.rows.progress == 1.0) & model.curves.ended[model.rows.trials]
    return float((model.targets - model.theta.noise * model.weights)[is_end].max())


def _ends(model: CurveModel, trials: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return mean and standard deviation of some trials' ends without noise, both `t`."""
    if not len(trials):
        return np.empty(0), np.empty(0)
    mean, variance = model.posterior(model.ends_of(trials))
    return mean, np.sqrt(np.maximum(variance - model.theta.noise * model.inflation, 1e-12))

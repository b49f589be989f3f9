"""The pruner `curve`: a study's trials as learning curves, and decisions about them as moves.

`studyflow.samplers.curves` decides; this translates. It remembers nothing but the last model, which
equal reports give again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Final

import numpy as np

from studyflow.errors import MissingExtra
from studyflow.samplers.arrays import FloatArray, IntArray
from studyflow.samplers.candidates import perturb
from studyflow.samplers.curves.decisions import (
    Judgement,
    Option,
    OptionKind,
    Slots,
    fill_slot,
    judge_running,
)
from studyflow.samplers.curves.model import CurveModel, model_of, new_trials
from studyflow.samplers.curves.reports import read_curves
from studyflow.samplers.curves.rungs import rungs
from studyflow.samplers.isolation import thread_pools
from studyflow.samplers.sobol import sobol
from studyflow.samplers.space.encoding import Encoding, make_encoding
from studyflow.spec import StudySpec
from studyflow.spec.parameters import FloatParameter
from studyflow.study.pausing import Decision, Move, Stage, Standing, TrialStanding
from studyflow.trial.cost import Why

N_SPREAD: Final = 256
"""Points of the space that a new trial might have; what the sampler will suggest is not known."""
NEGLIGIBLE: Final = 1e-6
"""Expected improvements below this share of the spread of finals are not told as numbers."""

N_NEAR: Final = 16
"""Points near each of the eight best trials."""
LEAST_IMPROVEMENT: Final = 1e-3
"""When no further trial may start: spreads of the finals that a paused trial must promise to be
taken up."""


class CurvePolicy:
    """A pause policy by forecasts. Until three trials have gone to their end none is paused.

    Args:
        spec: A study with one objective and `trial.budget`.

    Raises:
        MissingExtra: The sampler's packages are not installed.
    """

    stops_without_checkpoints: ClassVar[bool] = True

    def __init__(self, spec: StudySpec) -> None:
        assert spec.trial.budget is not None, "the rules ask for it"
        self._steps = int(spec.trial.budget)
        self._is_maximized = spec.directions[0] == "maximize"
        self._metric = spec.objectives[0].metric
        self._encoding = _encoding_of(spec)
        try:
            thread_pools()
        except ModuleNotFoundError as error:
            raise MissingExtra("The pruner 'curve'", "botorch") from error
        self._last: tuple[object, CurveModel | None] | None = None

    def judge(self, standing: Standing, number: int) -> Decision:
        """Pause a trial that has come to a rung if its slot is worth more for another one."""
        with thread_pools().limit(limits=1):
            return self._judge(standing, number)

    def choose(self, standing: Standing) -> Decision:
        """Take up the paused trial that promises most for its time, or start a new one."""
        with thread_pools().limit(limits=1):
            return self._choose(standing)

    def _judge(self, standing: Standing, number: int) -> Decision:
        trial = standing.trial(number)
        cleared, done = trial.cleared_step + 1, trial.last_step + 1
        if not any(cleared < rung <= done for rung in rungs(self._steps)):
            return Decision(Move.GO_ON, number=number)
        read = self._read(standing)
        if read is None:
            return Decision(Move.GO_ON, number=number)
        model, slots, trials = read
        row = next(i for i, other in enumerate(trials) if other.number == number)
        if model.curves.lost[row]:
            return Decision(Move.STOP, Why("Its reports are far worse than all others."), number)
        judgement = judge_running(model, slots, row)
        if judgement.chosen is None or judgement.chosen.kind is OptionKind.GO_ON:
            return Decision(Move.GO_ON, number=number)
        own = next(o for o in judgement.options if o.kind is OptionKind.GO_ON)
        return Decision(Move.PAUSE, self._why(judgement, trials, own), number)

    def _choose(self, standing: Standing) -> Decision:
        read = self._read(standing)
        if read is None:
            return self._choose_without_model(standing)
        model, slots, trials = read
        judgement = fill_slot(model, slots)
        best = judgement.chosen
        if best is None:
            return Decision(Move.START if standing.may_start else Move.WAIT)
        why = self._why(judgement, trials, best)
        if best.kind is OptionKind.START:
            return Decision(Move.START, why)
        if not standing.may_start and best.improvement < LEAST_IMPROVEMENT:
            return Decision(Move.WAIT)
        assert best.trial is not None, "only a new trial has no row"
        return Decision(Move.RESUME, why, trials[best.trial].number)

    def _choose_without_model(self, standing: Standing) -> Decision:
        for trial in standing.trials:
            if trial.stage is Stage.PAUSED and trial.can_resume:
                why = Why("Until three trials have come to their end, all go on.")
                return Decision(Move.RESUME, why, trial.number)
        return Decision(Move.START if standing.may_start else Move.WAIT)

    def _read(self, standing: Standing) -> tuple[CurveModel, Slots, Sequence[TrialStanding]] | None:
        """Return the model, what runs and waits, and the trial of each row."""
        trials = [t for t in standing.trials if t.curve or t.stage in (Stage.RUNNING, Stage.PAUSED)]
        reports = [{step + 1: value for step, value in t.curve.items()} for t in trials]
        key = tuple(
            (t.number, t.stage is Stage.COMPLETE, tuple(r.items()))
            for t, r in zip(trials, reports, strict=True)
        )
        if self._last is None or self._last[0] != key:
            self._last = key, self._model(trials, reports)
        model = self._last[1]
        if model is None:
            return None
        return model, self._slots(model, standing, trials), trials

    def _model(
        self, trials: Sequence[TrialStanding], reports: Sequence[Mapping[int, float]]
    ) -> CurveModel | None:
        encoding = self._encoding
        if not trials or not encoding.dimensions:
            return None
        codes = encoding.mask(encoding.encode_all([dict(t.params) for t in trials]))
        curves = read_curves(
            encoding.features(codes),
            encoding.groups,
            reports,
            [t.curve[t.last_step] if t.stage is Stage.COMPLETE else None for t in trials],
            steps=self._steps,
            maximize=self._is_maximized,
        )
        return model_of(curves)

    def _slots(
        self, model: CurveModel, standing: Standing, trials: Sequence[TrialStanding]
    ) -> Slots:
        steps_done = [
            (-1 if t.checkpoint_step is None else t.checkpoint_step) + 1
            if t.stage is Stage.PAUSED
            else min(t.last_step + 1, self._steps)
            for t in trials
        ]
        return Slots(
            running=_rows(t.stage is Stage.RUNNING for t in trials),
            paused=_rows(t.stage is Stage.PAUSED and t.can_resume for t in trials),
            steps_done=np.array(steps_done, dtype=np.int64),
            step_seconds=standing.step_seconds or 1.0,
            restart_seconds=standing.startup_seconds or 0.0,
            candidates=self._candidates(model, trials) if standing.may_start else _none(model),
        )

    def _candidates(self, model: CurveModel, trials: Sequence[TrialStanding]) -> FloatArray:
        """Return features of points all over the space and of some near the best trials."""
        encoding = self._encoding
        spread = encoding.from_unit(sobol(len(encoding.dimensions), N_SPREAD, seed=len(trials)))
        mean, _ = model.posterior(new_trials(model.curves.features))
        best = [dict(trials[i].params) for i in np.argsort(-mean, kind="stable")[:8]]
        near = perturb(
            encoding,
            np.repeat(encoding.mask(encoding.encode_all(best)), N_NEAR, axis=0),
            np.random.default_rng(len(trials)),
        )
        return encoding.features(encoding.snap(np.concatenate([spread, near])))

    def _why(self, judgement: Judgement, trials: Sequence[TrialStanding], about: Option) -> Why:
        """Return what an option promised, beside the best of the others."""
        rival = next((o for o in judgement.options if o is not about), None)
        sign = 1.0 if self._is_maximized else -1.0
        numbers = {
            "expected_improvement": about.improvement,
            "seconds": about.seconds,
            "incumbent": sign * about.incumbent,
        }
        text = f"{self._promise(about, trials)} over {self._metric}={numbers['incumbent']:g}"
        if rival is not None:
            numbers |= {
                "other_expected_improvement": rival.improvement,
                "other_seconds": rival.seconds,
            }
            text += f"; {self._promise(rival, trials)}"
        finite = {name: value for name, value in numbers.items() if math.isfinite(value)}
        return Why(f"{text[0].upper()}{text[1:]}. Improvements are in spreads of finals.", finite)

    def _promise(self, option: Option, trials: Sequence[TrialStanding]) -> str:
        who = "a new trial" if option.trial is None else f"trial {trials[option.trial].number}"
        is_some = option.improvement >= NEGLIGIBLE
        what = f"{option.improvement:.2g}" if is_some else "next to nothing"
        return f"{who} promises {what} in {option.seconds:.3g} s"


def _rows(flags: Iterable[bool]) -> IntArray:
    return np.flatnonzero(np.array(list(flags), dtype=np.bool_))


def _none(model: CurveModel) -> FloatArray:
    return np.empty((0, model.curves.features.shape[1]))


def _encoding_of(spec: StudySpec) -> Encoding:
    """Return the study's search space as the sampler's model sees it."""
    return make_encoding(
        spec.space.distributions(),
        {name: dict(p.conditions) for name, p in spec.space.items() if p.conditions},
        {
            name: p.grid
            for name, p in spec.space.items()
            if isinstance(p, FloatParameter) and p.grid is not None
        },
    )

"""Asynchronous successive halving that pauses and promotes (Li et al. 2020, arXiv 1810.05934).

A trial that comes to a rung is paused unless it is to be promoted at once. A free slot goes to the
best paused trial of the highest rung that has one among its best `1 / reduction_factor`; if there
is none, a new trial starts. So no trial is lost that looks bad beside the first few: it is taken up
once it belongs to the best of all that have come as far. That is `ASHA(type="promotion")` of Syne
Tune, with the same rungs as Optuna's `SuccessiveHalvingPruner`.

Two things are added to the paper's. A trial that would be promoted at once goes on without a pause:
a restart would buy nothing. And when no further trial may start, none runs, and none has come to
its end, the best paused trial of the highest rung goes on, so that every study has a result.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from studyflow.spec import StudySpec
from studyflow.spec.arguments import AshaArguments
from studyflow.study.pausing.policy import Decision, Move
from studyflow.study.pausing.standing import Stage, Standing, TrialStanding
from studyflow.trial.cost import Why

DEFAULT_SHARE: Final = 100
"""A `min_resource` of `auto` is one in so many steps of `trial.budget`, as in Optuna."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """One trial at a rung."""

    trial: TrialStanding
    value: float
    """Its value there, smaller is better; infinite where it is not finite."""

    @property
    def key(self) -> tuple[float, int]:
        return self.value, self.trial.number


@dataclass(frozen=True, slots=True)
class Promotion:
    """The policy. See the module's text."""

    stops_without_checkpoints: ClassVar[bool] = False

    min_resource: int
    """Step of the first rung, before `min_early_stopping_rate`."""
    reduction_factor: int = 4
    """One in so many of a rung is promoted; the next rung is so many times as far."""
    min_early_stopping_rate: int = 0
    """Moves the first rung by powers of the reduction factor."""
    bootstrap_count: int = 0
    """How many must have come to a rung before any of it is promoted."""
    is_minimized: bool = True
    metric: str = "the objective"
    """Name of the first objective, for sentences."""

    def judge(self, standing: Standing, number: int) -> Decision:
        """Pause a trial that has come to a further rung, unless it is the next to be promoted."""
        trial = standing.trial(number)
        rung = self._rung(trial.last_step)
        is_last = standing.last_step is not None and trial.last_step >= standing.last_step
        if rung is None or is_last or self._step(rung) <= trial.cleared_step:
            return Decision(Move.GO_ON, number=number)
        found = next(self._promotable(standing, candidate=number), None)
        if found is not None and found[1].trial.number == number:
            return Decision(Move.GO_ON, self._why(standing, *found), number)
        if found is None and self._is_needed(standing, trial, rung):
            why = Why("No other trial runs, waits or may start, and none has come to its end.")
            return Decision(Move.GO_ON, why, number)
        return Decision(Move.PAUSE, self._why_paused(standing, trial, rung), number)

    def choose(self, standing: Standing) -> Decision:
        """Promote the best trial of the highest rung that has any to promote, or start one."""
        for rung, entry in self._promotable(standing):
            if entry.trial.can_resume:
                return Decision(Move.RESUME, self._why(standing, rung, entry), entry.trial.number)
        if standing.may_start:
            return Decision(Move.START, Why("No paused trial is among the best of its rung."))
        best = self._best_paused(standing)
        if best is not None and _has_no_other_result(standing):
            return Decision(Move.RESUME, self._why_last(best), best.number)
        return Decision(Move.WAIT)

    # ---- rungs ------------------------------------------------------------------------------

    def _step(self, rung: int) -> int:
        return int(
            self.min_resource * self.reduction_factor ** (self.min_early_stopping_rate + rung)
        )

    def _rung(self, step: int) -> int | None:
        """Return the highest rung that a step has come to; `None` before the first."""
        if step < self._step(0):
            return None
        rung = 0
        while self._step(rung + 1) <= step:
            rung += 1
        return rung

    def _at(self, standing: Standing, rung: int) -> list[_Entry]:
        """Return the trials that have come to a rung, the best first."""
        step = self._step(rung)
        entries = [
            _Entry(trial, self._value(trial, step))
            for trial in standing.trials
            if trial.last_step >= step
        ]
        return sorted(entries, key=lambda entry: entry.key)

    def _value(self, trial: TrialStanding, step: int) -> float:
        """Return what a trial had reported when it came to a step, smaller is better."""
        value = _value_at(trial, step)
        return value if self.is_minimized or not math.isfinite(value) else -value

    def _n_promoted(self, entries: Sequence[_Entry]) -> int:
        if len(entries) <= self.bootstrap_count:
            return 0
        return len(entries) // self.reduction_factor

    def _promotable(
        self, standing: Standing, candidate: int | None = None
    ) -> Iterator[tuple[int, _Entry]]:
        """Yield what may be promoted, in the order in which it is, with its rung.

        Args:
            standing: The study.
            candidate: A running trial that is taken for paused.
        """
        waiting = {
            trial.number: self._rung(trial.last_step)
            for trial in standing.trials
            if trial.stage is Stage.PAUSED or trial.number == candidate
        }
        for rung in sorted({rung for rung in waiting.values() if rung is not None}, reverse=True):
            entries = self._at(standing, rung)
            for entry in entries[: self._n_promoted(entries)]:
                if waiting.get(entry.trial.number) == rung and math.isfinite(entry.value):
                    yield rung, entry

    def _best_paused(self, standing: Standing) -> TrialStanding | None:
        paused = [t for t in standing.trials if t.stage is Stage.PAUSED and t.can_resume]
        return min(paused, key=self._from_best, default=None)

    def _from_best(self, trial: TrialStanding) -> tuple[float, float, int]:
        rung = self._rung(trial.last_step)
        value = math.inf if rung is None else self._value(trial, self._step(rung))
        return (-math.inf if rung is None else -rung, value, trial.number)

    def _is_needed(self, standing: Standing, trial: TrialStanding, rung: int) -> bool:
        """Return whether a running trial would be taken up at once if it were paused."""
        others = [t for t in standing.trials if t.number != trial.number]
        if standing.may_start or any(t.stage in (Stage.RUNNING, Stage.COMPLETE) for t in others):
            return False
        best = self._best_paused(standing)
        own = (-rung, self._value(trial, self._step(rung)), trial.number)
        return best is None or own < self._from_best(best)

    # ---- reasons ----------------------------------------------------------------------------

    def _why(self, standing: Standing, rung: int, entry: _Entry) -> Why:
        numbers = self._numbers(standing, entry.trial, rung)
        return Why(
            f"Promoted from step {numbers['rung_step']}: {numbers['rank']} of {numbers['n']} there "
            f"with {self.metric}={numbers['value']:g}; {_who_goes_on(numbers['n_promoted'])}.",
            numbers,
        )

    def _why_paused(self, standing: Standing, trial: TrialStanding, rung: int) -> Why:
        numbers = self._numbers(standing, trial, rung)
        at = f"{numbers['rank']} of {numbers['n']} there with {self.metric}={numbers['value']:g}"
        goes_on = numbers["n_promoted"]
        rest = _who_goes_on(goes_on)
        if not goes_on:
            rest = f"one in {self.reduction_factor} goes on"
        elif numbers["rank"] <= goes_on:
            rest = "another trial is promoted before it"
        return Why(f"Paused at step {numbers['rung_step']}: {at}; {rest}.", numbers)

    def _why_last(self, trial: TrialStanding) -> Why:
        numbers = {"last_step": trial.last_step}
        return Why(
            "No trial has come to its end and no further one may start: this is the best of those "
            f"that came as far, to step {trial.last_step}.",
            numbers,
        )

    def _numbers(
        self, standing: Standing, trial: TrialStanding, rung: int
    ) -> dict[str, float | int]:
        entries = self._at(standing, rung)
        rank = next(i for i, e in enumerate(entries, 1) if e.trial.number == trial.number)
        step = self._step(rung)
        return {
            "rung": rung,
            "rung_step": step,
            "value": _value_at(trial, step),
            "rank": rank,
            "n": len(entries),
            "n_promoted": self._n_promoted(entries),
        }


def _who_goes_on(n: float) -> str:
    return f"the first {n} go on" if n > 1 else "only the first goes on"


def _value_at(trial: TrialStanding, step: int) -> float:
    """Return the first finite value that a trial reported from a step on; infinite without one."""
    finite = [s for s, value in trial.curve.items() if s >= step and math.isfinite(value)]
    return trial.curve[min(finite)] if finite else math.inf


def _has_no_other_result(standing: Standing) -> bool:
    return not any(t.stage in (Stage.RUNNING, Stage.COMPLETE) for t in standing.trials)


def promotion_of(spec: StudySpec) -> Promotion | None:
    """Return the policy of a study file whose pruner is `asha` with `variant: promotion`."""
    if spec.pruner.type != "asha" or spec.pruner.arguments.get("variant") != "promotion":
        return None
    arguments = AshaArguments.model_validate(spec.pruner.arguments)
    auto = max((spec.trial.budget or 1) // DEFAULT_SHARE, 1)
    return Promotion(
        min_resource=auto if arguments.min_resource == "auto" else arguments.min_resource,
        reduction_factor=arguments.reduction_factor,
        min_early_stopping_rate=arguments.min_early_stopping_rate,
        bootstrap_count=arguments.bootstrap_count,
        is_minimized=spec.directions[0] == "minimize",
        metric=spec.objectives[0].metric,
    )

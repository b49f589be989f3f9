"""Our sampler where slots would wait for it: each suggestion is older than its trial.

The simulated clock of `runner` has no time for a suggestion. So each is made before the trial ended
whose slot it fills, and is used as it is.
"""

from __future__ import annotations

from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from studyflow.samplers.ahead.chain import Chain
from studyflow.samplers.ahead.documents import Setup, Update, as_sampler_sees
from studyflow.samplers.ahead.policy import Plan
from studyflow.samplers.botorch import BoTorchSampler
from studyflow.samplers.forwarding import ForwardingSampler


class StaleSampler(ForwardingSampler):
    """Suggestions that miss the newest results.

    Args:
        seed: The sampler's.
        is_saturated: Whether there is time for one suggestion a trial only, with a short search:
            each misses two results. Otherwise all that are ready are made anew after each result,
            and each misses one.
    """

    def __init__(self, seed: int, *, is_saturated: bool) -> None:
        sampler = BoTorchSampler(seed=seed)
        super().__init__(sampler)
        self._ours = sampler
        self._is_saturated = is_saturated
        self._chain = Chain(Setup(sampler.strategy, sampler.ask_seconds))
        self._ready: dict[int, Any] = {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        prepared = self._ready.pop(trial.number, None)
        if prepared is None or prepared.suggested.params.keys() != search_space.keys():
            params = super().sample_relative(study, trial, search_space)
        else:
            self._ours.publish(study, trial, search_space, prepared.suggested, 0.0)
            params = prepared.suggested.params
        if params:
            self._prepare(study, trial.number + 1)
        return params

    def _prepare(self, study: optuna.Study, next_number: int) -> None:
        trials = study.get_trials(deepcopy=False)
        n_finished = sum(t.state.is_finished() for t in trials)
        if not any(t.state is TrialState.COMPLETE for t in trials):
            return
        plan = Plan(2, takes_stale=True, is_search_short=self._is_saturated)
        seen = tuple(as_sampler_sees(t, {}) for t in trials)
        directions = tuple(study.directions)
        self._chain.update(Update(seen, directions, n_finished, next_number, plan))
        for _ in range(1 if self._is_saturated else 8):
            if (number := self._chain.next_number) is None:
                break
            self._ready = {n: r for n, r in self._ready.items() if n < number}
            self._ready[number] = self._chain.make(number)

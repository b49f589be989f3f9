"""Suggestions of Optuna's samplers, put exactly on the grids of the study file.

Optuna computes a point of a grid as `low + i * step` in floats, and knows a grid that is not whole
in decimals only up to rounding; see `studyflow.spec.space.FloatGrid.optuna_range`. Without this the
upper bound 1.0 might be tried as 1.000000000000001, and 0.3 as 0.30000000000000004.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from studyflow.spec.space import SearchSpace


class RoundingSampler(optuna.samplers.BaseSampler):
    """Another sampler, whose floats are points of their grids to the last digit.

    Args:
        sampler: The sampler whose suggestions are rounded.
        space: The search space, with the grids.
    """

    def __init__(self, sampler: optuna.samplers.BaseSampler, space: SearchSpace) -> None:
        self.sampler = sampler
        self._space = space

    def reseed_rng(self) -> None:
        """Give the sampler other random numbers, as `study.optimize(n_jobs=...)` asks for."""
        self.sampler.reseed_rng()

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return what the sampler suggests together."""
        return self.sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the sampler's suggestion, on the grids."""
        return self._space.nearest(self.sampler.sample_relative(study, trial, search_space))

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Return the sampler's value of one parameter, on its grid."""
        value = self.sampler.sample_independent(study, trial, param_name, param_distribution)
        return self._space.nearest({param_name: value})[param_name]

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Let the sampler prepare itself."""
        self.sampler.before_trial(study, trial)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Let the sampler take in a result."""
        self.sampler.after_trial(study, trial, state, values)

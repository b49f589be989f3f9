"""Suggestions of Optuna's samplers, put exactly on the grids of the study file.

Optuna computes a point of a grid as `low + i * step` in floats, and knows a grid that is not whole
in decimals only up to rounding; see `studyflow.spec.space.FloatGrid.optuna_range`. Without this the
upper bound 1.0 might be tried as 1.000000000000001, and 0.3 as 0.30000000000000004.
"""

from __future__ import annotations

from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from studyflow.samplers.forwarding import ForwardingSampler
from studyflow.spec.space import SearchSpace


class RoundingSampler(ForwardingSampler):
    """Another sampler, whose floats are points of their grids to the last digit.

    Args:
        sampler: The sampler whose suggestions are rounded.
        space: The search space, with the grids.
    """

    def __init__(self, sampler: optuna.samplers.BaseSampler, space: SearchSpace) -> None:
        super().__init__(sampler)
        self._space = space

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the sampler's suggestion, on the grids."""
        return self._space.nearest(super().sample_relative(study, trial, search_space))

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Return the sampler's value of one parameter, on its grid."""
        value = super().sample_independent(study, trial, param_name, param_distribution)
        return self._space.nearest({param_name: value})[param_name]

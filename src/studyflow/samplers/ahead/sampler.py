"""Hands suggestions that are ready to Optuna."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from studyflow.samplers.ahead.source import SuggestionsAhead
from studyflow.samplers.botorch import BoTorchSampler
from studyflow.samplers.forwarding import ForwardingSampler
from studyflow.samplers.history import FIXED_ATTR


class SamplerAhead(ForwardingSampler):
    """Our sampler, which takes a suggestion that is ready, and makes one where none is.

    An enqueued point, and a trial whose runner died while it asked, get theirs from the sampler.

    Args:
        sampler: Makes the others, in the thread that asks.
        ahead: Has those that are ready.
    """

    def __init__(self, sampler: BoTorchSampler, ahead: SuggestionsAhead) -> None:
        super().__init__(sampler)
        self._ours = sampler
        self._ahead = ahead

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return a value for every parameter of the space, inactive ones included."""
        is_fixed = bool(trial.system_attrs.get(FIXED_ATTR))
        prepared = None if is_fixed else self._ahead.take(trial.number)
        if prepared is None or prepared.suggested.params.keys() != search_space.keys():
            return super().sample_relative(study, trial, search_space)
        self._ours.publish(study, trial, search_space, prepared.suggested, prepared.seconds)
        return prepared.suggested.params

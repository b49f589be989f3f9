"""Opens what a study's runner needs to have suggestions made ahead.

Nothing of BoTorch is imported for studies that do not use it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import optuna

from studyflow.samplers.registry import make_sampler
from studyflow.spec import StudySpec

if TYPE_CHECKING:
    from studyflow.samplers.ahead.source import SuggestionsAhead
    from studyflow.samplers.ahead.worker import StartWorker

SamplerOf = Callable[[int, int], optuna.samplers.BaseSampler]
"""Makes a sampler from a study's seed and the number of its trials."""


@contextmanager
def suggestions_ahead(
    spec: StudySpec, start: StartWorker | None = None
) -> Iterator[tuple[SamplerOf, SuggestionsAhead | None]]:
    """Yield what makes a study's samplers, and the suggestions that are made ahead for them.

    Only our own sampler has any, and only with several trials at once: one trial after the other
    needs each result first. The process that makes them starts when the first one is wanted, and
    is killed when the block is left.

    Args:
        spec: The study.
        start: Starts who makes them; `None` for that process.

    Raises:
        MissingExtra: The sampler's packages are not installed.
    """

    def alone(seed: int, n_trials: int) -> optuna.samplers.BaseSampler:
        return make_sampler(spec, seed, n_trials)

    if spec.sampler.type != "botorch" or spec.budget.max_parallel_trials == 1:
        yield alone, None
        return
    alone(0, 0)  # says which packages are missing, if any
    from studyflow.samplers.ahead.sampler import SamplerAhead
    from studyflow.samplers.ahead.source import SuggestionsAhead
    from studyflow.samplers.ahead.worker import WorkerProcess
    from studyflow.samplers.botorch import BoTorchSampler

    ahead = SuggestionsAhead(start or WorkerProcess)

    def with_those_ahead(seed: int, n_trials: int) -> optuna.samplers.BaseSampler:
        sampler = alone(seed, n_trials)
        assert isinstance(sampler, BoTorchSampler), "the study file names it"
        ahead.follow(sampler.strategy, sampler.ask_seconds)
        return SamplerAhead(sampler, ahead)

    try:
        yield with_those_ahead, ahead
    finally:
        ahead.close()

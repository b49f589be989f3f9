"""Keeps a study going when one of Optuna's samplers fails or hangs.

That trial gets a quasi-random point.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from studyflow.background import Background, NoAnswer
from studyflow.errors import StudyflowError
from studyflow.samplers.forwarding import ForwardingSampler
from studyflow.samplers.levels import SuggestionLevel

T = TypeVar("T")

_log = logging.getLogger(__name__)

ASK_SECONDS: Final = 600.0
"""Time for one call of a sampler. Optuna's Gaussian process may need minutes after a thousand
trials, and is waited for; one that hangs is not."""


class FallbackSampler(ForwardingSampler):
    """Another sampler, and points of a Sobol sequence where that one raises or hangs.

    A Gaussian process that cannot be fitted or a covariance that is no longer positive ends an
    `ask`, and with it a study that has run for days. Here it costs one suggestion: the trial gets
    the point with its number in a scrambled Sobol sequence, and its explanation says why. A sampler
    that does not come back is left behind in its thread, and asked again once that has ended.

    `studyflow.samplers.BoTorchSampler` has a fallback chain of its own and needs none of this.

    Args:
        sampler: The sampler that is asked first.
        seed: Decides the sequence.
        ask_seconds: Longest time for one suggestion.
    """

    def __init__(
        self, sampler: optuna.samplers.BaseSampler, seed: int, *, ask_seconds: float = ASK_SECONDS
    ) -> None:
        super().__init__(sampler)
        self._seed = seed
        self._ask_seconds = ask_seconds
        self._left_behind: Background[Any] | None = None
        """The call that did not come back in time."""
        self._said: set[str] = set()

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return what the sampler suggests together; nothing when it fails."""

        def ask() -> dict[str, BaseDistribution]:
            return self.sampler.infer_relative_search_space(study, trial)

        return self._result(study, trial, ask, otherwise=dict)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the sampler's suggestion, else a point of the sequence."""

        def ask() -> dict[str, Any]:
            return self._in_time(lambda: self.sampler.sample_relative(study, trial, search_space))

        def otherwise() -> dict[str, Any]:
            return _sobol_point(search_space, trial.number, self._seed)

        return self._result(study, trial, ask, otherwise)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Return the sampler's value of one parameter, else that of a sequence of its own."""

        def sample() -> Any:
            return self.sampler.sample_independent(study, trial, param_name, param_distribution)

        def otherwise() -> Any:
            seed = self._seed ^ zlib.crc32(param_name.encode())
            return _sobol_point({param_name: param_distribution}, trial.number, seed)[param_name]

        return self._result(study, trial, lambda: self._in_time(sample), otherwise)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Let the sampler prepare itself."""

        def prepare() -> None:
            self.sampler.before_trial(study, trial)

        self._result(study, trial, prepare, otherwise=lambda: None)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Let the sampler take in a result; when it fails, the result is told all the same."""

        def take_in() -> None:
            super(FallbackSampler, self).after_trial(study, trial, state, values)

        def say(error: Exception) -> None:
            self._say(f"The sampler does not learn from trial {trial.number}", error)

        self._guarded(take_in, say)

    def _result(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        call: Callable[[], T],
        otherwise: Callable[[], T],
    ) -> T:
        """Return what the sampler gives, else what replaces it, noted on the trial.

        Raises:
            StudyflowError: Ours, such as a storage that is away.
            optuna.exceptions.StorageInternalError: The storage's.
        """

        def replace(error: Exception) -> T:
            self._note(study, trial, error)
            return otherwise()

        return self._guarded(call, replace)

    def _guarded(self, call: Callable[[], T], otherwise: Callable[[Exception], T]) -> T:
        """Return what the sampler gives, else what follows from its failure: the study goes on."""
        try:
            return call()
        except StudyflowError:
            raise
        except Exception as error:  # noqa: BLE001 - samplers are others' code, and each failure told
            return otherwise(error)

    def _in_time(self, call: Callable[[], T]) -> T:
        """Return what a call of the sampler returns; none begins beside one that was left behind.

        Raises:
            NoAnswer: It took too long, or the sampler has not come back yet.
        """
        if self._left_behind is not None and self._left_behind.is_running:
            raise NoAnswer("has not come back from an earlier trial")
        asked = Background("sampler", call)
        try:
            return asked.result(self._ask_seconds)
        except NoAnswer:
            self._left_behind = asked
            raise NoAnswer(f"gave no suggestion within {self._ask_seconds:g} s") from None

    def _note(self, study: optuna.Study, trial: FrozenTrial, error: Exception) -> None:
        """Keep with the trial why the sampler did not choose; the storage's own failures go on."""
        if isinstance(error, optuna.exceptions.StorageInternalError):
            raise error
        # Imported where a sampler has failed: most studies never need NumPy for it.
        from studyflow.samplers.explanation import Suggestion, encode_suggestion

        self._say(f"Trial {trial.number} is quasi-random", error)
        suggestion = Suggestion(SuggestionLevel.QUASI_RANDOM, reason=_describe(self.sampler, error))
        attrs: Mapping[str, str] = encode_suggestion(suggestion)
        for key, value in attrs.items():
            study._storage.set_trial_system_attr(trial._trial_id, key, value)

    def _say(self, what: str, error: Exception) -> None:
        """Tell of a failure, the first time that it happens."""
        told = _describe(self.sampler, error)
        if told not in self._said:
            self._said.add(told)
            _log.warning("%s: %s", what, told)


def _describe(sampler: optuna.samplers.BaseSampler, error: Exception) -> str:
    if isinstance(error, NoAnswer):
        return f"{type(sampler).__name__} {error}"
    message = str(error).partition("\n")[0][:300]
    return f"{type(sampler).__name__} failed with {type(error).__name__}: {message}"


def _sobol_point(
    search_space: Mapping[str, BaseDistribution], number: int, seed: int
) -> dict[str, Any]:
    """Return the element of a Sobol sequence that has a trial's number."""
    from studyflow.samplers.sobol import sobol
    from studyflow.samplers.space.dimension import make_dimension
    from studyflow.samplers.space.encoding import Encoding

    names = sorted(name for name in search_space if not search_space[name].single())
    if not names:
        return {}
    dimensions = tuple(make_dimension(name, search_space[name]) for name in names)
    point = Encoding(dimensions, ()).from_unit(sobol(len(names), 1, seed=seed, skip=number))[0]
    return {
        name: dimension.decode(float(code))
        for name, dimension, code in zip(names, dimensions, point, strict=True)
    }

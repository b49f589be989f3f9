"""From a study's trials to the parameters of the next one, as `BoTorchSampler` chooses them.

Nothing here writes to a storage or changes the process: equal trials, trial number and seed give
equal parameters, unless the time was up.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from studyflow.samplers.arrays import FloatArray
from studyflow.samplers.candidates import SearchEffort
from studyflow.samplers.cost import ExpectedCost, expected_cost
from studyflow.samplers.deadline import NEVER, Deadline
from studyflow.samplers.explanation import Suggestion
from studyflow.samplers.fallback_chain import first_result
from studyflow.samplers.fitted_models import fit_models
from studyflow.samplers.history import History, read_history, union_space
from studyflow.samplers.levels import SuggestionLevel
from studyflow.samplers.memory import Memory
from studyflow.samplers.model_surface import ModelSurface, surface_at
from studyflow.samplers.models.fitting import Structure
from studyflow.samplers.prior import space_prior
from studyflow.samplers.proposal import propose
from studyflow.samplers.refitting import later_numbers
from studyflow.samplers.request import ProposalRequest
from studyflow.samplers.space.conditions import Conditions, learn_conditions
from studyflow.samplers.space.dimension import make_dimension, single_value
from studyflow.samplers.space.encoding import Encoding, make_encoding
from studyflow.samplers.startup import startup_point
from studyflow.spec.float_grid import FloatGrid
from studyflow.spec.prior import Prior

_STRUCTURES: Final[Mapping[SuggestionLevel, Structure]] = {
    SuggestionLevel.MODEL: "ard",
    SuggestionLevel.ISOTROPIC: "isotropic",
    SuggestionLevel.PRIOR: "prior",
}


@dataclass(frozen=True)
class OpenTrial:
    """A trial whose parameters are asked for, and the study that it is part of."""

    number: int
    space: Mapping[str, BaseDistribution]
    """What to suggest: every parameter that any trial may have, by name."""
    directions: Sequence[StudyDirection]
    """One per objective."""
    trials: Sequence[FrozenTrial]
    """All trials of the study, any state."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Parameters that are decided already: those of an enqueued trial."""


@dataclass(frozen=True)
class Suggested:
    """Parameters for a trial, and how they came about."""

    params: dict[str, Any]
    """A valid value for every parameter of the space, inactive ones included."""
    explanation: Suggestion


@dataclass(frozen=True)
class Strategy:
    """The arguments of `BoTorchSampler` that decide a suggestion; described there."""

    seed: int
    n_startup_trials: int | None = None
    search_space: Mapping[str, BaseDistribution] | None = None
    conditions: Conditions | None = None
    grids: Mapping[str, FloatGrid] = field(default_factory=dict)
    priors: Mapping[str, Prior] = field(default_factory=dict)
    is_deterministic: bool = False
    device: str = "cpu"
    cost_budget: float | None = None

    def space_of(self, trials: Sequence[FrozenTrial]) -> dict[str, BaseDistribution]:
        """Return what to suggest, by name: declared or seen in any trial, with several values."""
        space = self.search_space or {}
        if self.search_space is None:
            space = union_space(trials)
        return {name: space[name] for name in sorted(space) if not space[name].single()}

    def suggest(
        self,
        trial: OpenTrial,
        deadline: Deadline,
        *,
        effort: SearchEffort | None = None,
        memory: Memory | None = None,
    ) -> Suggested:
        """Return parameters for the whole space, from the best level that works.

        Args:
            trial: Whose.
            deadline: When to take the best that is known.
            effort: How hard to search; `None` for what suits the acquisition function.
            memory: What the suggestions before have left; it changes none, but makes them cheaper.

        Raises:
            Exception: Not even an independent draw of each parameter is possible.
        """
        found = first_result(
            [
                *(
                    (level, partial(self._by_model, trial, level, deadline, effort, memory))
                    for level in _STRUCTURES
                ),
                (SuggestionLevel.SPACE_FILLING, partial(self._space_filling, trial)),
                (SuggestionLevel.RANDOM, partial(self._random, trial)),
            ]
        )
        explanation = found.result.explanation
        is_time_up = explanation.level != SuggestionLevel.STARTUP and deadline.is_over
        return replace(
            found.result,
            explanation=replace(explanation, reason=found.reason, is_time_up=is_time_up),
        )

    def independent_value(self, number: int, name: str, distribution: BaseDistribution) -> Any:
        """Return a uniform draw of one parameter for one trial, on the log scale if there is one.

        Args:
            number: The trial's.
            name: The parameter's.
            distribution: The parameter's.
        """
        if distribution.single():
            return single_value(distribution)
        dimension = make_dimension(name, distribution, self.grids.get(name))
        generator = np.random.default_rng(self.entropy(number, f"independent:{name}"))
        encoding = Encoding((dimension,), ())
        return dimension.decode(float(encoding.from_unit(generator.random((1, 1)))[0, 0]))

    def model_surface(
        self, trial: OpenTrial, points: Sequence[Mapping[str, Any]]
    ) -> ModelSurface | None:
        """Return what the model says of some points; `None` where no model is asked.

        Args:
            trial: Whose suggestion the model is for.
            points: Values of every parameter of the space, inactive ones too.

        Raises:
            LinAlgError: The model could not be fitted.
        """
        encoding, history = self._read(trial)
        if not self._is_model_due(history, trial.number, len(encoding.dimensions)):
            return None
        fitted = fit_models(
            history,
            encoding,
            replace(
                self._request(trial, encoding, NEVER), cost=self._cost(trial, encoding, history)
            ),
            structure="ard",
            early=self._read_early(trial, encoding),
        )
        return surface_at(
            fitted,
            encoding,
            encoding.encode_all(points),
            n_data=len(history.codes),
            n_pending=len(history.pending),
        )

    def entropy(self, number: int, purpose: str) -> np.random.SeedSequence:
        """Return the randomness of one purpose in one trial.

        From the trial's number, not from how often this was called: a restarted runner, or one of
        several, must neither repeat nor depend on what others did.
        """
        return np.random.SeedSequence([self.seed, number, zlib.crc32(purpose.encode())])

    def _by_model(
        self,
        trial: OpenTrial,
        level: SuggestionLevel,
        deadline: Deadline,
        effort: SearchEffort | None,
        memory: Memory | None,
    ) -> Suggested:
        """Return parameters by the model of a level, or of the start-up while no model is due."""
        encoding, history = self._read(trial, memory)
        if not self._is_model_due(history, trial.number, len(encoding.dimensions)):
            return self._by_design(trial, encoding, history, SuggestionLevel.STARTUP)
        request = replace(
            self._request(trial, encoding, deadline, memory),
            cost=self._cost(trial, encoding, history),
            fixed=_fixed_codes(trial, encoding),
            effort=effort,
        )
        proposal = propose(
            history,
            encoding,
            request,
            structure=_STRUCTURES[level],
            early=self._read_early(trial, encoding, memory),
        )
        explanation = Suggestion(
            level.value,
            objectives=proposal.objectives,
            acquisition=proposal.acquisition,
            acquisition_value=proposal.acquisition_value,
            n_data=len(history.codes),
            n_pending=len(history.pending),
            is_repeat=proposal.is_repeat,
            expected_cost=proposal.expected_cost,
            cost_power=None if request.cost is None else request.cost.power,
        )
        return Suggested(self._complete(trial, encoding, proposal.codes), explanation)

    def _space_filling(self, trial: OpenTrial) -> Suggested:
        return self._by_design(trial, *self._read(trial), SuggestionLevel.SPACE_FILLING)

    def _by_design(
        self, trial: OpenTrial, encoding: Encoding, history: History, level: SuggestionLevel
    ) -> Suggested:
        """Return the trial's point of the space-filling design."""
        codes = startup_point(
            encoding,
            trial.number,
            seed=int(self.entropy(0, "design").generate_state(1)[0]),
            tried=history.tried,
            fixed=_fixed_codes(trial, encoding),
            generator=np.random.default_rng(self.entropy(trial.number, "startup")),
            prior=space_prior(encoding, self.priors),
        )
        explanation = Suggestion(
            level.value, n_data=len(history.codes), n_pending=len(history.pending)
        )
        return Suggested(self._complete(trial, encoding, codes), explanation)

    def _random(self, trial: OpenTrial) -> Suggested:
        return Suggested(self._independent(trial), Suggestion(SuggestionLevel.RANDOM.value))

    def _read(self, trial: OpenTrial, memory: Memory | None = None) -> tuple[Encoding, History]:
        """Return the space as the model sees it, and what a trial of this number is based on."""
        conditions: Conditions = (
            learn_conditions(trial.space, _evidence(trial.trials, trial.space))
            if self.conditions is None
            else self.conditions
        )
        encoding = make_encoding(trial.space, conditions, self.grids)
        history = read_history(
            trial.trials,
            encoding,
            trial.space,
            trial.directions,
            for_trial=trial.number,
            memory=memory.histories if memory else None,
        )
        return encoding, history

    def _read_early(
        self, trial: OpenTrial, encoding: Encoding, memory: Memory | None = None
    ) -> History | None:
        """Return the history that hyperparameters are learnt from; `None` for all of it."""
        later = later_numbers(trial.trials)
        if not later:
            return None
        early = read_history(
            [t for t in trial.trials if t.state.is_finished() and t.number not in later],
            encoding,
            trial.space,
            trial.directions,
            for_trial=trial.number,
            memory=memory.histories if memory else None,
        )
        return early if early.n_completed else None

    def _request(
        self,
        trial: OpenTrial,
        encoding: Encoding,
        deadline: Deadline,
        memory: Memory | None = None,
    ) -> ProposalRequest:
        seeds = self.entropy(trial.number, "model").generate_state(2)
        return ProposalRequest(
            maximize=tuple(d is StudyDirection.MAXIMIZE for d in trial.directions),
            exact=self.is_deterministic,
            fixed={},
            fantasy_seed=int(seeds[0]),
            search_seed=int(seeds[1]),
            device=self.device,
            deadline=deadline,
            prior=space_prior(encoding, self.priors),
            memory=memory,
        )

    def _cost(self, trial: OpenTrial, encoding: Encoding, history: History) -> ExpectedCost | None:
        """Return what trials are expected to cost, if that counts."""
        if self.cost_budget is None:
            return None
        return expected_cost(trial.trials, encoding, history, self.cost_budget)

    def _complete(self, trial: OpenTrial, encoding: Encoding, codes: FloatArray) -> dict[str, Any]:
        """Return a valid value for every parameter of the space, active or not.

        A learnt condition may be wrong, and what Optuna then asks for should come from this draw.
        """
        params = self._independent(trial)
        for name, value in encoding.decode(codes).items():
            distribution = trial.space[name]
            if distribution._contains(distribution.to_internal_repr(value)):
                params[name] = value
        return params

    def _independent(self, trial: OpenTrial) -> dict[str, Any]:
        return {
            name: self.independent_value(trial.number, name, distribution)
            for name, distribution in trial.space.items()
        }

    def _is_model_due(self, history: History, number: int, dimension: int) -> bool:
        n_startup = self.n_startup_trials
        if n_startup is None:
            # A prior's mode comes before the design, not in the place of a part of it.
            n_startup = min(max(dimension + 1, 6), 20) + bool(self.priors)
        return number >= n_startup and history.n_completed >= max(4, (n_startup + 1) // 2)


def _fixed_codes(trial: OpenTrial, encoding: Encoding) -> dict[int, float]:
    """Return the codes of the parameters that are decided already, by index."""
    given = encoding.encode(trial.fixed)
    return {int(i): float(given[i]) for i in np.flatnonzero(~np.isnan(given))}


def _evidence(
    trials: Sequence[FrozenTrial], space: Mapping[str, BaseDistribution]
) -> list[dict[str, Any]]:
    """Return the parameters of trials that surely suggested all they ever would: completed ones."""
    return [
        {name: value for name, value in trial.params.items() if name in space}
        for trial in trials
        if trial.state is TrialState.COMPLETE
    ]

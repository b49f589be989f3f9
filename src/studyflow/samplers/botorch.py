"""`BoTorchSampler`: Bayesian optimisation for any `optuna.Study`.

    import optuna
    from studyflow.samplers.botorch import BoTorchSampler

    study = optuna.create_study(sampler=BoTorchSampler(seed=0))
    study.optimize(objective, n_trials=50, n_jobs=4)

This module is the edge: it reads the storage, asks `Strategy` for a point, publishes the point and
its explanation on the trial, and keeps every failure from reaching Optuna.
"""

from __future__ import annotations

import logging
import math
import secrets
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from studyflow.samplers.arguments import check_device, check_space, read_priors
from studyflow.samplers.deadline import Deadline
from studyflow.samplers.explanation import Suggestion, encode_suggestion
from studyflow.samplers.history import FIXED_ATTR, encode_draw, trials_before
from studyflow.samplers.isolation import isolated, thread_pools
from studyflow.samplers.memory import Memory
from studyflow.samplers.model_surface import ModelSurface
from studyflow.samplers.space.conditions import Conditions
from studyflow.samplers.strategy import OpenTrial, Strategy, Suggested
from studyflow.spec.float_grid import FloatGrid
from studyflow.spec.prior import Prior

_logger = logging.getLogger(__name__)


class BoTorchSampler(BaseSampler):
    """Suggests by a Gaussian process over the union of all parameters, conditional ones included.

    Guarantees:

    * Once constructed it does not raise: if a model cannot be fitted, a simpler one is, down to
      space-filling points; the level and the reason are stored on the trial and logged.
    * Running trials repel, whether or not they have suggested anything yet, and never count as
      data nor as finished start-up trials.
    * No point is evaluated twice while another one is left.
    * Equal trials in storage, trial number and seed give equal parameters, in any process, unless
      the time for a suggestion was up, which is stored on the trial.
    * It leaves no trace in global random state, thread counts or warning filters.

    Several objectives are searched by expected hypervolume improvement (more than four: ParEGO).
    Constraints set by `optuna.trial.Trial.set_constraint` are respected; trials without them are
    tolerated. Pruned trials count with imputed values. A failed trial marks its point as infeasible
    if its user attribute `cause` is one of `host-oom`, `cuda-oom`, `nan`, `timeout`; other failures
    only keep their points from being repeated. With one objective and no constraints a completed
    trial counts as failed if its value is a code for failure: not finite, or far out and equal to
    that of other trials.

    Args:
        seed: Decides everything random. `None` draws one now; it is then part of this sampler, so
            copies and pickles of it agree.
        n_startup_trials: How many space-filling points come before the model. The model takes over
            at the trial of this number, provided that half of them (at least 4) have *completed*:
            design points still running are waited for by adding more of the design. `None`: one
            more than there are parameters, at least 6, at most 20, and one more with `priors`.
        search_space: The union of all parameters that a trial may have. `None` learns it from the
            trials; declaring it lets the very first trial be part of the design and makes
            parameters modelled that no trial has had yet.
        conditions: Under which values of its parents a parameter exists: child to parent to allowed
            values; all parents must agree. `None` learns it from which trials had which parameters.
        grids: The exact points of floats with a step, which Optuna's distributions may know only
            up to rounding; see `studyflow.spec.space.FloatGrid`.
        priors: Where good values are believed to be, by parameter: `{"mean": 3e-4, "sd": 0.5}` (on
            a log scale `sd` counts powers of ten), or `{"good": [1e-4, 1e-3]}`, of a categorical
            parameter the good choices. The first trial is at its mode; it fades as trials finish,
            and at once if their outcomes contradict it.
        deterministic: The objective returns the same value for the same parameters, exactly.
        device: Where BoTorch computes acquisition functions of several objectives. The models of a
            tuning study are too small for a GPU to pay off elsewhere.
        cost_budget: What all trials together may cost, in seconds (times GPUs in studies). Trials
            that are expected to be cheap then come sooner: improvement counts per cost to a power
            that falls from 1 to 0 while the budget is spent. What a trial costs is learnt from
            those that are complete, and counts only if their parameters predict it. `None`: costs
            count for nothing.
        ask_seconds: How long a suggestion may take, from when its trials are read. Then the best
            point found so far is taken, or a space-filling one if no model is ready. A step that
            has begun is finished first.
        clock: Returns the time that `ask_seconds` is measured by, in seconds.

    Raises:
        ValueError: An argument is wrong; the message names the argument, the value and the rule.
    """

    def __init__(
        self,
        *,
        seed: int | None = None,
        n_startup_trials: int | None = None,
        search_space: Mapping[str, BaseDistribution] | None = None,
        conditions: Conditions | None = None,
        grids: Mapping[str, FloatGrid] | None = None,
        priors: Mapping[str, Prior | Mapping[str, Any]] | None = None,
        deterministic: bool = False,
        device: str = "cpu",
        cost_budget: float | None = None,
        ask_seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if seed is not None and seed < 0:
            raise ValueError(f"seed: must be 0 or more, but is {seed}.")
        if n_startup_trials is not None and n_startup_trials < 0:
            raise ValueError(f"n_startup_trials: must be 0 or more, but is {n_startup_trials}.")
        if math.isnan(ask_seconds) or ask_seconds <= 0:
            raise ValueError(f"ask_seconds: must be more than 0, but is {ask_seconds}.")
        if cost_budget is not None and not 0.0 < cost_budget < math.inf:
            raise ValueError(f"cost_budget: must be more than 0 and finite, but is {cost_budget}.")
        check_space(search_space, conditions)
        check_device(device)
        self._strategy = Strategy(
            seed=secrets.randbits(63) if seed is None else seed % 2**63,
            n_startup_trials=n_startup_trials,
            search_space=None if search_space is None else dict(search_space),
            conditions=None if conditions is None else _frozen(conditions),
            grids=dict(grids or {}),
            priors=read_priors(priors, search_space),
            is_deterministic=deterministic,
            device=device,
            cost_budget=cost_budget,
        )
        self._ask_seconds = float(ask_seconds)
        self._clock = clock
        self._memory = Memory()

    def __getstate__(self) -> dict[str, Any]:
        """Return what copies and pickles have: all but what was kept from earlier suggestions."""
        return {**self.__dict__, "_memory": Memory()}

    @property
    def seed(self) -> int:
        """The seed in use, also where none was given."""
        return self._strategy.seed

    @property
    def strategy(self) -> Strategy:
        """What decides each suggestion, as a value."""
        return self._strategy

    @property
    def ask_seconds(self) -> float:
        """How long a suggestion may take."""
        return self._ask_seconds

    def reseed_rng(self) -> None:
        """Do nothing: randomness depends on the trial's number, so workers differ already."""

    def infer_relative_search_space(
        self,
        study: Study,
        trial: FrozenTrial,  # noqa: ARG002  (Optuna's signature)
    ) -> dict[str, BaseDistribution]:
        """Return the union of all parameters, declared or seen in any trial."""
        trials = _all_trials(study)
        return self._strategy.space_of([t for t in trials if t.state is not TrialState.WAITING])

    def sample_relative(
        self,
        study: Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        """Return a value for every parameter of the space, inactive ones included.

        Optuna takes those that the trial then asks for. The draw and its explanation are stored on
        the trial before this returns.
        """
        if not search_space:
            return {}
        with isolated(int(self._strategy.entropy(trial.number, "torch").generate_state(1)[0])):
            asked = OpenTrial(
                number=trial.number,
                space=search_space,
                directions=study.directions,
                trials=_all_trials(study),
                fixed=trial.system_attrs.get(FIXED_ATTR) or {},
            )
            began, deadline = self._clock(), Deadline(self._ask_seconds, self._clock)
            suggested = self._strategy.suggest(asked, deadline, memory=self._memory)
            self.publish(study, trial, search_space, suggested, self._clock() - began)
        return suggested.params

    def publish(
        self,
        study: Study,
        trial: FrozenTrial,
        search_space: Mapping[str, BaseDistribution],
        suggested: Suggested,
        seconds: float,
    ) -> None:
        """Store a draw and its explanation on the trial that uses it.

        Args:
            study: The trial's.
            trial: It has no parameters yet.
            search_space: What was suggested.
            suggested: The draw.
            seconds: How long it took.
        """
        explanation = replace(suggested.explanation, milliseconds=1e3 * seconds)
        self._log(trial.number, explanation)
        attrs = {**encode_draw(suggested.params, search_space), **encode_suggestion(explanation)}
        for key, value in attrs.items():
            study._storage.set_trial_system_attr(trial._trial_id, key, value)

    def sample_independent(
        self,
        study: Study,  # noqa: ARG002  (Optuna's signature)
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Return a uniform draw, on the log scale if there is one.

        Used for parameters that no trial before this one had, and for values drawn under a range
        that has changed since.
        """
        return self._strategy.independent_value(trial.number, param_name, param_distribution)

    def model_surface(
        self,
        study: Study,
        points: Sequence[Mapping[str, Any]],
        *,
        before: int | None = None,
    ) -> ModelSurface | None:
        """Return what the model said of some points when a trial was suggested.

        It is found again from the study as it stood then: what finished later counts as running,
        and what started later is left out. At the trial's own parameters the acquisition is
        therefore the one that its explanation stores.

        Args:
            study: A study with one objective.
            points: Values of every parameter of the space, inactive ones too.
            before: Number of the trial; `None` for what the model says of the study as it is now.

        Returns:
            `None` where no model is asked: the trial is part of the start-up, or it would be.

        Raises:
            ValueError: The study has several objectives.
            LinAlgError: The model could not be fitted.
        """
        if len(study.directions) > 1:
            raise ValueError(
                "model_surface: needs a study with one objective; this one has "
                f"{len(study.directions)}."
            )
        trials = _all_trials(study)
        if before is not None:
            trials = trials_before(trials, before)
        asked = OpenTrial(
            number=len(trials) if before is None else before,
            space=self._strategy.space_of(trials),
            directions=study.directions,
            trials=trials,
        )
        with thread_pools().limit(limits=1):
            return self._strategy.model_surface(asked, points)

    def landscape(
        self, study: Study, points: Sequence[Mapping[str, Any]], *, before: int | None = None
    ) -> ModelSurface | None:
        """Return `model_surface`: its former name, for one version.

        Raises:
            ValueError: The study has several objectives.
        """
        warnings.warn(
            "BoTorchSampler.landscape is now `model_surface`.", DeprecationWarning, stacklevel=2
        )
        return self.model_surface(study, points, before=before)

    def _log(self, number: int, explanation: Suggestion) -> None:
        """Warn of a suggestion that is not what the model would give with all the time it needs."""
        if explanation.reason is not None:
            _logger.warning(
                "Trial %d: suggested by level %s of the sampler's fallback chain, because %s",
                number,
                explanation.level,
                explanation.reason,
            )
        elif explanation.is_time_up:
            _logger.warning(
                "Trial %d: the best point found in time, for the search was cut short by "
                "ask_seconds=%g",
                number,
                self._ask_seconds,
            )


def _frozen(conditions: Conditions) -> Conditions:
    """Return a copy of the conditions that does not change with the caller's."""
    return {
        child: {parent: tuple(values) for parent, values in parents.items()}
        for child, parents in conditions.items()
    }


def _all_trials(study: Study) -> list[FrozenTrial]:
    """Return every trial of the study, those too that its pruner hides.

    Under `HyperbandPruner` Optuna hands a sampler a study with the trials of one bracket.
    """
    return study._storage.get_all_trials(study._study_id, deepcopy=False)

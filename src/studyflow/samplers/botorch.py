"""`BoTorchSampler`: Bayesian optimisation for any `optuna.Study`.

    import optuna
    from studyflow.samplers.botorch import BoTorchSampler

    study = optuna.create_study(sampler=BoTorchSampler(seed=0))
    study.optimize(objective, n_trials=50, n_jobs=4)

This module is the edge: it reads the storage, asks the pure functions beside it for a point,
publishes the point and its explanation on the trial, and keeps every failure from reaching Optuna.
"""

from __future__ import annotations

import logging
import math
import threading
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from studyflow.samplers.arrays import FloatArray
from studyflow.samplers.conditions import Conditions, learn_conditions
from studyflow.samplers.deadline import NEVER, Deadline
from studyflow.samplers.dimension import make_dimension, single_value
from studyflow.samplers.encoding import Encoding, make_encoding
from studyflow.samplers.explanation import Suggestion, encode_suggestion
from studyflow.samplers.fitting import Structure
from studyflow.samplers.history import (
    FIXED_ATTR,
    History,
    encode_draw,
    read_history,
    trials_before,
    union_space,
)
from studyflow.samplers.ladder import Rung, descend
from studyflow.samplers.landscape import Landscape, landscape
from studyflow.samplers.proposal import Proposal, Request, believe, propose
from studyflow.samplers.startup import startup_point
from studyflow.spec.space import FloatGrid

_logger = logging.getLogger(__name__)

_LOCK: Final = threading.RLock()
"""Held from reading the trials to publishing the draw, so that the threads of one process (Optuna's
`n_jobs`) see each other's points. It also guards the process-wide thread and warning settings."""

_STRUCTURES: Final[tuple[tuple[Rung, Structure], ...]] = (
    (Rung.MODEL, "ard"),
    (Rung.ISOTROPIC, "isotropic"),
    (Rung.PRIOR, "prior"),
)


class BoTorchSampler(BaseSampler):
    """Suggests by a Gaussian process over the union of all parameters, conditional ones included.

    Guarantees:

    * Once constructed it does not raise: if a model cannot be fitted a simpler one is, down to
      space-filling points; the rung and the reason are stored on the trial and logged.
    * Running trials repel, whether or not they have suggested anything yet, and never count as
      data nor as finished start-up trials.
    * No point is evaluated twice while another one is left.
    * Equal trials in storage, trial number and seed give equal parameters, in any process, unless
      the time for a suggestion was up, which is stored on the trial.
    * It leaves no trace in global random state, thread counts or warning filters.

    Several objectives are searched by expected hypervolume improvement (more than four: ParEGO).
    Constraints set by `optuna.trial.Trial.set_constraint` are respected; trials without them are
    tolerated. Pruned trials count with imputed values. A failed trial teaches where not to go if
    its user attribute `cause` is one of `host-oom`, `cuda-oom`, `nan`, `timeout`, else nothing.
    With one objective and no constraints a completed trial teaches the same if its value is a code
    for failure: not finite, or far out and shared to the last digit with other trials.

    Args:
        seed: Decides everything random. `None` draws one now; it is then part of this sampler, so
            copies and pickles of it agree.
        n_startup_trials: How many space-filling points come before the model. The model takes over
            at the trial of this number, provided that half of them (at least 4) have *completed*:
            design points still running are waited for by adding more of the design. `None`: one
            more than there are parameters, at least 6, at most 20.
        search_space: The union of all parameters that a trial may have. `None` learns it from the
            trials; declaring it lets the very first trial be part of the design and makes
            parameters modelled that no trial has had yet.
        conditions: Under which values of its parents a parameter exists: child to parent to allowed
            values; all parents must agree. `None` learns it from which trials had which parameters.
        grids: The exact points of floats with a step, which Optuna's distributions may know only
            up to rounding; see `studyflow.spec.space.FloatGrid`.
        deterministic: The objective returns the same value for the same parameters, exactly.
        device: Where BoTorch computes acquisition functions of several objectives. The models of a
            tuning study are too small for a GPU to pay off elsewhere.
        ask_seconds: How long a suggestion may take, from when its trials are read. Then the best
            point found so far is taken, or a space-filling one if no model is ready. A step that
            has begun is finished first.
        clock: What that is measured by: seconds from any start.

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
        deterministic: bool = False,
        device: str = "cpu",
        ask_seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if seed is not None and seed < 0:
            raise ValueError(f"seed: must be 0 or more, but is {seed}.")
        if n_startup_trials is not None and n_startup_trials < 0:
            raise ValueError(f"n_startup_trials: must be 0 or more, but is {n_startup_trials}.")
        if math.isnan(ask_seconds) or ask_seconds <= 0:
            raise ValueError(f"ask_seconds: must be more than 0, but is {ask_seconds}.")
        _check_space(search_space, conditions)
        _check_device(device)
        drawn = np.random.SeedSequence().entropy if seed is None else seed
        assert isinstance(drawn, int)
        self._seed = drawn % 2**63
        self._n_startup_trials = n_startup_trials
        self._search_space = dict(search_space) if search_space is not None else None
        self._conditions = (
            None
            if conditions is None
            else {
                child: {parent: tuple(values) for parent, values in parents.items()}
                for child, parents in conditions.items()
            }
        )
        self._grids = dict(grids or {})
        self._deterministic = deterministic
        self._device = device
        self._ask_seconds = float(ask_seconds)
        self._clock = clock

    @property
    def seed(self) -> int:
        """The seed in use, also where none was given."""
        return self._seed

    def reseed_rng(self) -> None:
        """Does nothing: randomness depends on the trial's number, so workers differ already."""

    def infer_relative_search_space(
        self,
        study: Study,
        trial: FrozenTrial,  # noqa: ARG002  (Optuna's signature)
    ) -> dict[str, BaseDistribution]:
        """Return the union of all parameters, declared or seen in any trial."""
        space = dict(self._search_space or {})
        if self._search_space is None:
            trials = _all_trials(study)
            space = union_space([t for t in trials if t.state is not TrialState.WAITING])
        return {name: space[name] for name in sorted(space) if not space[name].single()}

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
        seed = int(self._entropy(trial.number, "torch").generate_state(1)[0])
        with _LOCK, _isolated(seed):
            trials = _all_trials(study)
            began, deadline = self._clock(), Deadline(self._ask_seconds, self._clock)
            params, suggestion = self._suggest(
                trials, trial, search_space, study.directions, deadline
            )
            suggestion["milliseconds"] = 1e3 * (self._clock() - began)
            explained = Suggestion(**suggestion)
            attrs = {**encode_draw(params, search_space), **encode_suggestion(explained)}
            for key, value in attrs.items():
                study._storage.set_trial_system_attr(trial._trial_id, key, value)
        return params

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
        if param_distribution.single():
            return single_value(param_distribution)
        dimension = make_dimension(param_name, param_distribution, self._grids.get(param_name))
        generator = np.random.default_rng(self._entropy(trial.number, f"independent:{param_name}"))
        encoding = Encoding((dimension,), ())
        return dimension.decode(float(encoding.from_unit(generator.random((1, 1)))[0, 0]))

    def landscape(
        self,
        study: Study,
        points: Sequence[Mapping[str, Any]],
        *,
        before: int | None = None,
    ) -> Landscape | None:
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
                f"landscape: needs a study with one objective; this one has {len(study.directions)}"
                "."
            )
        trials = _all_trials(study)
        if before is not None:
            trials = trials_before(trials, before)
        number = len(trials) if before is None else before
        space = dict(self._search_space or union_space(trials))
        space = {name: space[name] for name in sorted(space) if not space[name].single()}
        encoding, history = self._read(trials, number, space, study.directions)
        if not self._is_model_due(history, number, len(encoding.dimensions)):
            return None
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1):
            belief = believe(
                history, encoding, self._request(number, study.directions, {}), structure="ard"
            )
            return landscape(
                belief,
                encoding,
                encoding.encode_all(points),
                n_data=len(history.codes),
                n_pending=len(history.pending),
            )

    def _suggest(
        self,
        trials: Sequence[FrozenTrial],
        trial: FrozenTrial,
        space: Mapping[str, BaseDistribution],
        directions: Sequence[StudyDirection],
        deadline: Deadline,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return parameters for the whole space, and the fields of their explanation."""
        facts: dict[str, Any] = {"n_data": 0, "n_pending": 0}

        def attempt(structure: Structure | None) -> Callable[[], dict[str, Any]]:
            return lambda: self._params(
                trials, trial, space, directions, structure, facts, deadline
            )

        attempts: list[tuple[Rung, Callable[[], dict[str, Any]]]] = [
            (rung, attempt(structure)) for rung, structure in _STRUCTURES
        ]
        attempts.append((Rung.SPACE_FILLING, attempt(None)))
        attempts.append((Rung.RANDOM, lambda: self._independent(trial, space)))
        descent = descend(attempts)
        is_startup = facts.pop("startup", False)
        is_time_up = not is_startup and deadline.is_over
        if descent.reason is not None:
            _logger.warning(
                "Trial %d: suggested by rung %s of the sampler's ladder, because %s",
                trial.number,
                descent.rung.value,
                descent.reason,
            )
        elif is_time_up:
            _logger.warning(
                "Trial %d: the best point found in time, for the search was cut short by "
                "ask_seconds=%g",
                trial.number,
                self._ask_seconds,
            )
        rung = Rung.STARTUP if is_startup else descent.rung
        outcome = {"rung": rung.value, "reason": descent.reason, "is_time_up": is_time_up}
        return descent.result, {**facts, **outcome}

    def _params(
        self,
        trials: Sequence[FrozenTrial],
        trial: FrozenTrial,
        space: Mapping[str, BaseDistribution],
        directions: Sequence[StudyDirection],
        structure: Structure | None,
        facts: dict[str, Any],
        deadline: Deadline,
    ) -> dict[str, Any]:
        """Return parameters by the model of this structure, or space-filling ones for `None`."""
        encoding, history = self._read(trials, trial.number, space, directions)
        facts.update(n_data=len(history.codes), n_pending=len(history.pending))
        given = encoding.encode(trial.system_attrs.get(FIXED_ATTR) or {})
        fixed = {int(i): float(given[i]) for i in np.flatnonzero(~np.isnan(given))}

        facts["startup"] = structure is not None and not self._is_model_due(
            history, trial.number, len(encoding.dimensions)
        )
        generator = np.random.default_rng(self._entropy(trial.number, "startup"))
        filling = startup_point(
            encoding,
            trial.number,
            seed=int(self._entropy(0, "design").generate_state(1)[0]),
            tried=history.tried,
            fixed=fixed,
            generator=generator,
        )
        codes = filling
        if structure is not None and not facts["startup"]:
            request = self._request(trial.number, directions, fixed, deadline)
            proposal = propose(history, encoding, request, structure=structure)
            facts.update(_facts_of(proposal))
            codes = proposal.codes
        return self._complete(trial, encoding, codes, space)

    def _read(
        self,
        trials: Sequence[FrozenTrial],
        number: int,
        space: Mapping[str, BaseDistribution],
        directions: Sequence[StudyDirection],
    ) -> tuple[Encoding, History]:
        """Return the space as the model sees it, and what a trial of this number is based on."""
        conditions: Conditions = (
            learn_conditions(space, _evidence(trials, space))
            if self._conditions is None
            else self._conditions
        )
        encoding = make_encoding(space, conditions, self._grids)
        return encoding, read_history(trials, encoding, space, directions, for_trial=number)

    def _request(
        self,
        number: int,
        directions: Sequence[StudyDirection],
        fixed: Mapping[int, float],
        deadline: Deadline = NEVER,
    ) -> Request:
        seeds = self._entropy(number, "model").generate_state(2)
        return Request(
            maximize=tuple(d is StudyDirection.MAXIMIZE for d in directions),
            exact=self._deterministic,
            fixed=fixed,
            fantasy_seed=int(seeds[0]),
            search_seed=int(seeds[1]),
            device=self._device,
            deadline=deadline,
        )

    def _complete(
        self,
        trial: FrozenTrial,
        encoding: Encoding,
        codes: FloatArray,
        space: Mapping[str, BaseDistribution],
    ) -> dict[str, Any]:
        """Return a valid value for every parameter of the space, active or not.

        A learnt condition may be wrong, and what Optuna then asks for should come from this draw.
        """
        params = self._independent(trial, space)
        for name, value in encoding.decode(codes).items():
            if space[name]._contains(space[name].to_internal_repr(value)):
                params[name] = value
        return params

    def _independent(
        self, trial: FrozenTrial, space: Mapping[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {
            name: self.sample_independent(None, trial, name, distribution)  # type: ignore[arg-type]
            for name, distribution in space.items()
        }

    def _is_model_due(self, history: History, number: int, dimension: int) -> bool:
        n_startup = self._n_startup_trials
        if n_startup is None:
            n_startup = min(max(dimension + 1, 6), 20)
        return number >= n_startup and history.n_completed >= max(4, (n_startup + 1) // 2)

    def _entropy(self, number: int, purpose: str) -> np.random.SeedSequence:
        """Return the randomness of one purpose in one trial.

        From the trial's number, not from how often this object was called: a restarted runner, or
        one of several, must neither repeat nor depend on what others did.
        """
        return np.random.SeedSequence([self._seed, number, zlib.crc32(purpose.encode())])


def _evidence(
    trials: Sequence[FrozenTrial], space: Mapping[str, BaseDistribution]
) -> list[dict[str, Any]]:
    """Return the parameters of trials that surely suggested all they ever would: completed ones."""
    return [
        {name: value for name, value in trial.params.items() if name in space}
        for trial in trials
        if trial.state is TrialState.COMPLETE
    ]


def _facts_of(proposal: Proposal) -> dict[str, Any]:
    return {
        "objectives": proposal.objectives,
        "acquisition": proposal.acquisition,
        "acquisition_value": proposal.acquisition_value,
        "is_repeat": proposal.is_repeat,
    }


def _all_trials(study: Study) -> list[FrozenTrial]:
    """Return every trial of the study, those too that its pruner hides.

    Under `HyperbandPruner` Optuna hands a sampler a study with the trials of one bracket.
    """
    return study._storage.get_all_trials(study._study_id, deepcopy=False)


@contextmanager
def _isolated(seed: int) -> Iterator[None]:
    """Use one thread, a random state of our own and no warnings; leave all three as they were.

    One thread, because the matrices are small: handing them to a pool costs 6 to 12 times more than
    it saves, more so where a container's CPU limit is below the number of cores it sees
    (optuna/optuna#6230). BoTorch draws from torch's global state in places, when it prunes the
    baseline for one. The warnings are numerical advice; what matters is caught by the ladder.
    """
    import torch
    from threadpoolctl import threadpool_limits

    threads = torch.get_num_threads()
    try:
        with (
            threadpool_limits(1),
            torch.random.fork_rng(devices=()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            torch.set_num_threads(1)
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)


def _check_space(
    space: Mapping[str, BaseDistribution] | None, conditions: Conditions | None
) -> None:
    problems: list[str] = []
    for name, distribution in (space or {}).items():
        try:
            make_dimension(name, distribution)
        except ValueError as error:
            problems.append(f"search_space.{error}")
    if conditions and not problems:
        problems += _condition_problems(space, conditions)
    if problems:
        raise ValueError("\n".join(problems))


def _condition_problems(
    space: Mapping[str, BaseDistribution] | None, conditions: Conditions
) -> list[str]:
    if space is None:
        return ["conditions: need search_space, which declares the parameters they are about."]
    problems: list[str] = []
    for child, parents in conditions.items():
        problems += [
            f"conditions.{child}: {name!r} is not in search_space."
            for name in (child, *parents)
            if name not in space
        ]
        for parent, values in parents.items():
            distribution = space.get(parent)
            if distribution is None:
                continue
            dimension = make_dimension(parent, distribution)
            if dimension.size is None and not distribution.single():
                problems.append(
                    f"conditions.{child}: parent {parent!r} must have countable values, "
                    "but is a continuous float."
                )
                continue
            unknown = [v for v in values if np.isnan(dimension.encode(v))]
            if unknown:
                known = (
                    f"one of {list(distribution.choices)}"
                    if isinstance(distribution, CategoricalDistribution)
                    else "in its range"
                )
                problems.append(
                    f"conditions.{child}.{parent}: each value must be {known}, but got {unknown}."
                )
    if not problems:
        try:
            make_encoding(space, conditions)
        except ValueError as error:
            problems.append(f"conditions: {error}")
    return problems


def _check_device(device: str) -> None:
    if device == "cpu":
        return
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n", 1)[0]
        raise ValueError(f"device: {device!r} cannot be used here ({reason}).") from error

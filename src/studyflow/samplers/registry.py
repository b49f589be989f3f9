"""Samplers and pruners by the names that study files use.

All but `botorch` are Optuna's own, with its defaults unless a study file says otherwise. What
differs here: random numbers do not repeat after a restart, warnings meant for `study.optimize` are
silenced, and a sampler that raises costs one suggestion and not the study.
"""

from __future__ import annotations

import itertools
import logging
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Final

import optuna
from optuna.trial import FrozenTrial

from studyflow.errors import MissingExtra, SamplerError
from studyflow.samplers.fallback import FallbackSampler
from studyflow.samplers.pruner import StudyPruner
from studyflow.samplers.rounding import RoundingSampler
from studyflow.spec import PrunerSpec, StudySpec
from studyflow.spec.float_grid import FloatGrid
from studyflow.spec.parameters import CategoricalParameter, FloatParameter, IntParameter
from studyflow.spec.space import SearchSpace
from studyflow.spec.values import Scalar
from studyflow.trial import Cause

_log = logging.getLogger(__name__)


def make_sampler(spec: StudySpec, seed: int, n_trials: int) -> optuna.samplers.BaseSampler:
    """Return the sampler that a study file names.

    Args:
        spec: The study.
        seed: The study's seed.
        n_trials: Trials that the study has already. Optuna's samplers draw from one stream of
            random numbers; starting it anew after a restart would repeat the first suggestions.

    Raises:
        MissingExtra: The sampler's packages are not installed.
        SamplerError: The sampler refuses its arguments.
    """
    make = _SAMPLERS[spec.sampler.type]
    stream = seed if n_trials == 0 else (seed + 7919 * n_trials) % 2**32
    with warnings.catch_warnings():
        # Optuna marks some arguments, such as TPE's `group`, as experimental at every construction.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            sampler = make(spec, seed, stream)
        except (TypeError, ValueError) as error:
            raise SamplerError(f"The sampler {spec.sampler.type!r} refuses: {error}.") from error
    if spec.sampler.type in _FALLIBLE:
        sampler = FallbackSampler(sampler, seed)
    is_exact = spec.sampler.type == "botorch" or not _grids(spec.space)
    return sampler if is_exact else RoundingSampler(sampler, spec.space)


def make_pruner(spec: StudySpec) -> StudyPruner:
    """Return the pruner that a study file names.

    Raises:
        SamplerError: The pruner refuses its arguments.
    """
    try:
        return StudyPruner(_make_pruner(spec.pruner, spec.trial.budget))
    except (TypeError, ValueError) as error:
        raise SamplerError(f"The pruner {spec.pruner.type!r} refuses: {error}.") from error


def _make_pruner(spec: PrunerSpec, trial_budget: int | None) -> optuna.pruners.BasePruner:
    arguments = dict(spec.arguments)
    if spec.type == "asha":  # what pauses trials is no pruner: `studyflow.study.pausing`
        arguments.pop("variant", None)
    if spec.type == "hyperband" and trial_budget is not None:
        arguments.setdefault("max_resource", trial_budget)
    if spec.type == "patient":
        wrapped = arguments.pop("wrapped", None)
        inner = None if wrapped is None else PrunerSpec.model_validate(wrapped)
        arguments["wrapped_pruner"] = None if inner is None else _make_pruner(inner, trial_budget)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return _PRUNERS[spec.type](**arguments)


class AskTellGridSampler(optuna.samplers.BaseSampler):
    """Suggests each point of a grid once, in the order in which the study file names them.

    Optuna's own takes a trial's number for its place in the grid, so points tried first
    (`enqueue:`), taken over or cancelled make it leave out others; and it ends `study.optimize`,
    which raises outside of it.

    Args:
        space: What is enumerated; finite and without conditions.
        seed: Chooses the points that are tried again if more are asked for than there are.
    """

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self._space = space
        self._values = grid_values(space)
        self._rest = optuna.samplers.RandomSampler(seed=seed)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, optuna.distributions.BaseDistribution]:
        """Return nothing that counts: the grid is known without the study."""
        return {}

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: dict[str, optuna.distributions.BaseDistribution],
    ) -> dict[str, Any]:
        """Return nothing: values are given out one by one; see `sample_independent`."""
        return {}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: optuna.distributions.BaseDistribution,
    ) -> Any:
        """Return the parameter's value at the first untried point that fits what is given."""
        known = self._space.on_grid({**trial.system_attrs.get("fixed_params", {}), **trial.params})
        tried = {
            self._key(other.params)
            for other in study._storage.get_all_trials(study._study_id, deepcopy=False)
            if other.number != trial.number and not _was_cancelled(other)
        }
        choices = [[known[n]] if n in known else self._values[n] for n in self._values]
        for values in itertools.product(*choices):
            point = dict(zip(self._values, values, strict=True))
            if self._key(point) not in tried:
                return point[param_name]
        return self._rest.sample_independent(study, trial, param_name, param_distribution)

    def _key(self, params: Mapping[str, Any]) -> tuple[Any, ...]:
        exact = self._space.on_grid(params)
        return tuple(exact.get(name) for name in self._values)


class KnownSpaceQMCSampler(optuna.samplers.QMCSampler):
    """Optuna's quasi-random sampler over the parameters that every trial has.

    Optuna's own guesses them from past trials. In a conditional space its guess changes, and the
    sequence then begins anew with points that were tried already.
    """

    def __init__(self, space: SearchSpace, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._space = {
            name: parameter.distribution()
            for name, parameter in space.items()
            if not parameter.conditions and parameter.cardinality != 1
        }

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, optuna.distributions.BaseDistribution]:
        """Return the parameters without conditions."""
        return dict(self._space)


def _was_cancelled(trial: FrozenTrial) -> bool:
    return trial.user_attrs.get("cause") in (Cause.CANCELLED, Cause.BUDGET)


def _botorch(spec: StudySpec, seed: int, _stream: int) -> optuna.samplers.BaseSampler:
    try:
        from studyflow.samplers.botorch import BoTorchSampler
    except ModuleNotFoundError as error:
        raise MissingExtra("The sampler 'botorch'", "botorch") from error
    space, arguments = spec.space, dict(spec.sampler.arguments)
    limit = spec.budget.gpu_hours if arguments.pop("cost_aware", False) else None
    return BoTorchSampler(
        seed=seed,
        cost_budget=None if limit is None else 3600 * limit,
        search_space=space.distributions(),
        conditions={n: dict(p.conditions) for n, p in space.items() if p.conditions},
        grids=_grids(space),
        priors={n: p.prior for n, p in space.items() if p.prior is not None},
        **arguments,
    )


def _gp(spec: StudySpec, _seed: int, stream: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.GPSampler(
        seed=stream, warn_independent_sampling=False, **spec.sampler.arguments
    )


def _tpe(spec: StudySpec, _seed: int, stream: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.TPESampler(seed=stream, **spec.sampler.arguments)


def _cmaes(spec: StudySpec, _seed: int, stream: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.CmaEsSampler(
        seed=stream, warn_independent_sampling=False, **spec.sampler.arguments
    )


def _nsga2(spec: StudySpec, _seed: int, stream: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.NSGAIISampler(seed=stream, **spec.sampler.arguments)


def _qmc(spec: StudySpec, seed: int, stream: int) -> optuna.samplers.BaseSampler:
    # The sequence goes on by a counter in the study, so the seed itself must stay the same.
    # Conditional parameters are drawn by chance.
    return KnownSpaceQMCSampler(
        spec.space,
        seed=seed,
        independent_sampler=optuna.samplers.RandomSampler(seed=stream),
        warn_asynchronous_seeding=False,
        warn_independent_sampling=False,
        **{"scramble": True} | spec.sampler.arguments,
    )


def _random(_spec: StudySpec, _seed: int, stream: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.RandomSampler(seed=stream)


def _grid(spec: StudySpec, seed: int, _stream: int) -> optuna.samplers.BaseSampler:
    return AskTellGridSampler(spec.space, seed=seed)


def _grids(space: SearchSpace) -> dict[str, FloatGrid]:
    """Return the points of every float with a step."""
    return {
        name: parameter.grid
        for name, parameter in space.items()
        if isinstance(parameter, FloatParameter) and parameter.grid is not None
    }


def grid_values(space: SearchSpace) -> dict[str, list[Scalar]]:
    """Return every value of every parameter.

    Raises:
        SamplerError: A parameter is a continuum, or conditional.
    """
    values: dict[str, list[Scalar]] = {}
    for name, parameter in space.items():
        if parameter.cardinality is None or parameter.conditions:
            raise SamplerError(
                f"The grid sampler cannot enumerate {name}.", hint="give it a step, or no `when`."
            )
        if isinstance(parameter, CategoricalParameter):
            values[name] = list(parameter.choices)
        elif isinstance(parameter, IntParameter):
            values[name] = list(range(parameter.low, parameter.high + 1, parameter.step))
        else:
            grid = parameter.grid
            values[name] = (
                [parameter.low] if grid is None else [grid.value(i) for i in range(grid.size)]
            )
    return values


_Make = Callable[[StudySpec, int, int], optuna.samplers.BaseSampler]

_SAMPLERS: Final[Mapping[str, _Make]] = {
    "botorch": _botorch,
    "gp": _gp,
    "tpe": _tpe,
    "cmaes": _cmaes,
    "nsga2": _nsga2,
    "qmc": _qmc,
    "random": _random,
    "grid": _grid,
}

_FALLIBLE: Final = frozenset({"gp", "tpe", "cmaes", "nsga2"})
"""Those of Optuna's that learn from values, and may fail at it."""

_PRUNERS: Final[Mapping[str, Callable[..., optuna.pruners.BasePruner]]] = {
    "none": optuna.pruners.NopPruner,
    "median": optuna.pruners.MedianPruner,
    "percentile": optuna.pruners.PercentilePruner,
    "asha": optuna.pruners.SuccessiveHalvingPruner,
    "hyperband": optuna.pruners.HyperbandPruner,
    "threshold": optuna.pruners.ThresholdPruner,
    "patient": optuna.pruners.PatientPruner,
    "wilcoxon": optuna.pruners.WilcoxonPruner,
    # What pauses trials is no pruner: `studyflow.tuner.curve_policy`.
    "curve": optuna.pruners.NopPruner,
}

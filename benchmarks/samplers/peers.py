"""The samplers compared, each made from a seed."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Final

import optuna
from benchmarks.samplers.beliefs import believing
from benchmarks.samplers.declared import OPTIMIZERS, DeclaredSampler
from benchmarks.samplers.problems import Problem
from optuna.samplers import BaseSampler


def _ours(seed: int) -> BaseSampler:
    from studyflow.samplers.botorch import BoTorchSampler

    return BoTorchSampler(seed=seed)


def _stale(seed: int) -> BaseSampler:
    from benchmarks.samplers.ahead import StaleSampler

    return StaleSampler(seed, is_saturated=False)


def _saturated(seed: int) -> BaseSampler:
    from benchmarks.samplers.ahead import StaleSampler

    return StaleSampler(seed, is_saturated=True)


def _gp(seed: int) -> BaseSampler:
    return optuna.samplers.GPSampler(seed=seed)


def _tpe(seed: int) -> BaseSampler:
    return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)


def _random(seed: int) -> BaseSampler:
    return optuna.samplers.RandomSampler(seed=seed)


def _cmaes(seed: int) -> BaseSampler:
    return optuna.samplers.CmaEsSampler(seed=seed)


def _botorch(seed: int) -> BaseSampler:
    return _integration_sampler(seed, consider_running_trials=False)


def _botorch_running(seed: int) -> BaseSampler:
    return _integration_sampler(seed, consider_running_trials=True)


def _integration_sampler(seed: int, *, consider_running_trials: bool) -> BaseSampler:
    # Optional, and imported by name so that type checkers do not need it either.
    module: Any = importlib.import_module("optuna_integration")
    sampler = module.BoTorchSampler(seed=seed, consider_running_trials=consider_running_trials)
    assert isinstance(sampler, BaseSampler)
    return sampler


SAMPLERS: Final[dict[str, Callable[[int], BaseSampler]]] = {
    "ours": _ours,
    "ours-stale": _stale,
    "ours-saturated": _saturated,
    "gp": _gp,
    "tpe": _tpe,
    "botorch": _botorch,
    "botorch-running": _botorch_running,
    "cmaes": _cmaes,
    "random": _random,
}
"""`ours` is studyflow's, `ours-stale` and `ours-saturated` the same with suggestions made ahead;
the others are Optuna's, `botorch` that of optuna-integration
(`-running`: with `consider_running_trials`). Nobody is told the search space in advance: all are
used as the `sampler` of a plain Optuna study."""

BELIEVERS: Final[dict[str, bool | None]] = {
    "ours-declared": None,
    "ours-right-prior": True,
    "ours-wrong-prior": False,
}
"""Ours, told the space and a prior of each parameter: none, a right one, a wrong one."""

NAMES: Final = (*SAMPLERS, *BELIEVERS, *OPTIMIZERS)
"""All of them; those of `declared.py` are told the space."""


def make_sampler(name: str, seed: int, problem: Problem) -> BaseSampler:
    """Return a new sampler for one study of the problem."""
    if name in SAMPLERS:
        return SAMPLERS[name](seed)
    if name in BELIEVERS:
        return believing(seed, problem, is_right=BELIEVERS[name])
    return DeclaredSampler(OPTIMIZERS[name](problem.space, seed=seed), problem.space)

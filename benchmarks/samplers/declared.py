"""Peers that are no Optuna samplers, behind Optuna's interface: Ax and HEBO.

Both must be told the search space, which the other samplers find out as they go. They get the union
of all parameters, in one flat space: where a conditional parameter does not exist, theirs is
suggested and ignored, and they are told the whole suggestion again with the value. Both use the
settings they choose themselves.

Each is imported when it is made, in an environment of its own (see benchmarks/README.md).
"""

from __future__ import annotations

import importlib
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

Space = Mapping[str, BaseDistribution]


class Optimizer(Protocol):
    """Ask and tell over a declared space; minimises."""

    def ask(self) -> dict[str, Any]:
        """Return a value for every parameter of the space."""
        ...

    def tell(self, params: dict[str, Any], value: float) -> None:
        """Take the value of a suggestion; infinite if its training crashed."""
        ...


class DeclaredSampler(BaseSampler):
    """An optimizer as the sampler of one study.

    Args:
        optimizer: Made for this study.
        space: What it suggests.
    """

    # ruff: noqa: ARG002  (the interface is Optuna's)

    def __init__(self, optimizer: Optimizer, space: Space) -> None:
        self._optimizer = optimizer
        self._space = dict(space)
        self._suggested: dict[int, dict[str, Any]] = {}

    def infer_relative_search_space(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
    ) -> dict[str, BaseDistribution]:
        return self._space

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        params = self._optimizer.ask()
        self._suggested[trial.number] = params
        return params

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        raise LookupError(f"{param_name} is not in the declared space, or differs from it.")

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        value = values[0] if values else math.inf
        self._optimizer.tell(self._suggested.pop(trial.number), value)


class Ax:
    """Ax's `Client` with the generation strategy that it chooses for the space."""

    def __init__(self, space: Space, *, seed: int) -> None:
        api: Any = importlib.import_module("ax.api.client")
        logger: Any = importlib.import_module("ax.utils.common.logger")
        logger.set_stderr_log_level(logging.ERROR)
        self._client = api.Client(random_seed=seed)
        self._client.configure_experiment([_ax_parameter(name, d) for name, d in space.items()])
        self._client.configure_optimization("-value")
        self._running: dict[int, dict[str, Any]] = {}

    def ask(self) -> dict[str, Any]:
        ((index, params),) = self._client.get_next_trials(max_trials=1).items()
        self._running[index] = dict(params)
        return dict(params)

    def tell(self, params: dict[str, Any], value: float) -> None:
        index = next(i for i, suggested in self._running.items() if suggested == params)
        del self._running[index]
        if math.isfinite(value):
            self._client.complete_trial(index, {"value": value})
        else:
            self._client.mark_trial_failed(index)


def _ax_parameter(name: str, distribution: BaseDistribution) -> Any:
    configs: Any = importlib.import_module("ax.api.configs")
    if isinstance(distribution, CategoricalDistribution):
        choices = list(distribution.choices)
        return configs.ChoiceParameterConfig(
            name=name, values=choices, parameter_type=type(choices[0]).__name__
        )
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return configs.RangeParameterConfig(
        name=name,
        bounds=(distribution.low, distribution.high),
        parameter_type="int" if isinstance(distribution, IntDistribution) else "float",
        scaling="log" if distribution.log else "linear",
    )


class Hebo:
    """HEBO's optimizer of that name. It draws from the global generators, which are seeded."""

    def __init__(self, space: Space, *, seed: int) -> None:
        design: Any = importlib.import_module("hebo.design_space.design_space")
        hebo: Any = importlib.import_module("hebo.optimizers.hebo")
        torch: Any = importlib.import_module("torch")
        np.random.seed(seed)  # HEBO knows no other generator
        torch.manual_seed(seed)
        self._pandas: Any = importlib.import_module("pandas")
        parsed = design.DesignSpace().parse([_hebo_parameter(n, d) for n, d in space.items()])
        self._optimizer = hebo.HEBO(parsed, scramble_seed=seed)
        self._space = space

    def ask(self) -> dict[str, Any]:
        (row,) = self._optimizer.suggest(n_suggestions=1).to_dict(orient="records")
        return {name: _plain(row[name], d) for name, d in self._space.items()}

    def tell(self, params: dict[str, Any], value: float) -> None:
        self._optimizer.observe_new_data(self._pandas.DataFrame([params]), np.array([[value]]))


def _hebo_parameter(name: str, distribution: BaseDistribution) -> dict[str, Any]:
    if isinstance(distribution, CategoricalDistribution):
        choices = list(distribution.choices)
        if isinstance(choices[0], bool):
            return {"name": name, "type": "bool"}
        return {"name": name, "type": "cat", "categories": choices}
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    is_int = isinstance(distribution, IntDistribution)
    kinds = ("pow_int", "pow") if distribution.log else ("int", "num")
    kind = kinds[0] if is_int else kinds[1]
    return {"name": name, "type": kind, "lb": distribution.low, "ub": distribution.high}


def _plain(value: Any, distribution: BaseDistribution) -> Any:
    """Return NumPy's number as Python's, in the range that rounding may have left."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[distribution.choices.index(value)]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    number = int(value) if isinstance(distribution, IntDistribution) else float(value)
    return min(max(number, distribution.low), distribution.high)


OPTIMIZERS: Final[dict[str, Callable[..., Optimizer]]] = {"ax": Ax, "hebo": Hebo}

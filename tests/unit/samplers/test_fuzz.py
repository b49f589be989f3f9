"""Studies as hostile as storage allows: no exception, no invalid parameter, no last level."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState, create_trial
from tests.optuna_values import is_accepted

from studyflow.samplers.botorch import BoTorchSampler
from studyflow.samplers.explanation import explanation_of
from studyflow.samplers.space.encoding import make_encoding

pytestmark = pytest.mark.slow

optuna.logging.set_verbosity(optuna.logging.ERROR)

AXES: tuple[BaseDistribution, ...] = (
    FloatDistribution(-1.0, 1.0),
    FloatDistribution(1e-12, 1e12, log=True),
    FloatDistribution(0.0, 1e-9),
    FloatDistribution(-1e300, 1e300),
    FloatDistribution(-10.2, 10.2, step=0.1),
    IntDistribution(-3, 3),
    IntDistribution(1, 10**9, log=True),
    IntDistribution(0, 10**12),
    IntDistribution(0, 100, step=7 - 2),
    CategoricalDistribution(["a", "b", "c"]),
    CategoricalDistribution([None, True, 1.5, "x", math.inf]),
    CategoricalDistribution([1, 2, 4, 8]),
    CategoricalDistribution([False, True]),
)
VALUES = (
    "smooth",
    "constant",
    "tiny",
    "huge",
    "infinite",
    "sentinel",
    "all-infinite",
    "duplicates",
)


def values_of(kind: str, features: Any, generator: np.random.Generator) -> Any:
    n = len(features)
    smooth = np.sin(3.0 * features.sum(axis=1))
    if kind == "constant":
        return np.full(n, 0.1)
    if kind == "all-infinite":
        return np.full(n, math.inf)
    if kind in {"tiny", "huge"}:
        return (1.0 + smooth) * (1e-12 if kind == "tiny" else 1e12)
    if kind in {"infinite", "sentinel"}:
        bad = [math.inf, -math.inf] if kind == "infinite" else [1e300, -1e300, 1e308]
        return np.where(generator.random(n) < 0.3, generator.choice(bad, size=n), smooth)
    return smooth


@pytest.mark.parametrize("seed", range(64))
@pytest.mark.fault("F46")
def test_no_history_breaks_the_sampler(seed: int) -> None:
    generator = np.random.default_rng(seed)
    kind = VALUES[seed % len(VALUES)]
    n_objectives = 2 if seed % 8 == seed // 8 else 1
    chosen = generator.choice(len(AXES), size=int(generator.integers(1, 6)), replace=False)
    space = {f"p{i}": AXES[i] for i in chosen}
    encoding = make_encoding(space)
    n = int(generator.choice([1, 2, 4, 15, 30]))
    unit = generator.random((n, len(space)))
    if kind == "duplicates":
        unit = np.repeat(unit[:1], n, axis=0)
    codes = encoding.from_unit(unit)
    columns = [
        values_of(kind, encoding.features(codes), generator) * (k + 1) for k in range(n_objectives)
    ]

    sampler = BoTorchSampler(seed=seed, n_startup_trials=1, deterministic=bool(seed % 3 == 0))
    study = optuna.create_study(
        directions=["minimize" if (seed + k) % 2 else "maximize" for k in range(n_objectives)],
        sampler=sampler,
    )
    for row, values in zip(codes, np.stack(columns, axis=1), strict=True):
        params = encoding.decode(row)
        if generator.random() < 0.2 and len(params) > 1:
            params.popitem()  # as if the parameter were conditional
        distributions = {name: space[name] for name in params}
        state = generator.choice(["complete"] * 8 + ["fail", "running", "pruned"])
        if state == "fail":
            cause = str(generator.choice(["nan", "cuda-oom", "evicted", "no such cause"]))
            trial = create_trial(
                params=params,
                distributions=distributions,
                state=TrialState.FAIL,
                user_attrs={"cause": cause},
            )
        elif state == "running":
            trial = create_trial(
                params=params, distributions=distributions, state=TrialState.RUNNING
            )
        elif state == "pruned" and n_objectives == 1:
            trial = create_trial(
                params=params,
                distributions=distributions,
                state=TrialState.PRUNED,
                intermediate_values={1: float(generator.choice([0.3, math.inf, math.nan]))},
            )
        else:
            trial = create_trial(
                params=params, distributions=distributions, values=[float(v) for v in values]
            )
        if seed % 4 == 1 and generator.random() < 0.7:
            trial.set_constraint("c", float(generator.choice([-1.0, 0.0, 2.0, math.inf, 1e300])))
        study.add_trial(trial)

    if seed % 5 == 0:
        name = str(generator.choice(sorted(space)))
        if space[name] == AXES[0]:
            space = {**space, name: FloatDistribution(-0.5, 3.0)}
    for _ in range(3 // n_objectives):
        trial_ = study.ask(space)
        for name, distribution in space.items():
            value = trial_.params[name]
            assert is_accepted(distribution, value), (name, value)
            assert type(value) in {bool, int, float, str, type(None)}
        suggestion = explanation_of(study.trials[-1])
        if suggestion is not None:
            assert suggestion.level in {"model", "startup"}, suggestion.reason
        study.tell(trial_, [float(generator.normal())] * n_objectives)

"""The strategy: a pure function from trials to parameters and their explanation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from studyflow.samplers.deadline import NEVER
from studyflow.samplers.levels import SuggestionLevel
from studyflow.samplers.strategy import OpenTrial, Strategy

SPACE: Final[dict[str, BaseDistribution]] = {
    "kind": CategoricalDistribution(["a", "b"]),
    "x": FloatDistribution(0.0, 1.0),
}


def finished(count: int, space: dict[str, BaseDistribution] = SPACE) -> list[FrozenTrial]:
    generator = np.random.default_rng(0)
    trials = []
    for number in range(count):
        params: dict[str, Any] = {"kind": "ab"[number % 2], "x": float(generator.random())}
        trial = create_trial(params=params, distributions=space, value=(params["x"] - 0.3) ** 2)
        trial.number = number
        trials.append(trial)
    return trials


def asked(count: int, **fields: Any) -> OpenTrial:
    return OpenTrial(
        number=count,
        space=SPACE,
        directions=[StudyDirection.MINIMIZE],
        trials=finished(count),
        **fields,
    )


def test_the_same_trials_give_the_same_suggestion() -> None:
    first, second = (Strategy(seed=1).suggest(asked(8), NEVER) for _ in range(2))

    assert first == second
    assert first.explanation.level == SuggestionLevel.MODEL
    assert first != Strategy(seed=2).suggest(asked(8), NEVER)


def test_before_the_model_is_due_the_design_suggests() -> None:
    found = Strategy(seed=1).suggest(asked(4), NEVER)

    assert found.explanation.level == SuggestionLevel.STARTUP
    assert (found.explanation.n_data, found.explanation.n_pending) == (4, 0)
    assert found.explanation.objectives == ()


@pytest.mark.parametrize("count", [4, 8])
def test_fixed_parameters_are_kept(count: int) -> None:
    found = Strategy(seed=1).suggest(asked(count, fixed={"x": 0.75}), NEVER)

    assert found.params["x"] == 0.75


def test_a_running_trial_counts_as_pending_only() -> None:
    open_trial = asked(8)
    running = create_trial(
        params={"kind": "a", "x": 0.3}, distributions=SPACE, state=TrialState.RUNNING
    )
    running.number = 8
    crowded = replace(open_trial, number=9, trials=[*open_trial.trials, running])

    found = Strategy(seed=1).suggest(crowded, NEVER).explanation

    assert (found.n_data, found.n_pending) == (8, 1)


@pytest.mark.parametrize("seed", [3, 4])
def test_a_search_that_has_found_the_bottom_of_a_bowl_does_not_go_back_to_its_rim(
    seed: int,
) -> None:
    space: dict[str, BaseDistribution] = {name: FloatDistribution(-5.0, 5.0) for name in "xy"}
    generator = np.random.default_rng(seed)
    angles, radii = generator.uniform(0.0, 2.0 * np.pi, 8), 0.5 ** np.arange(8)
    closing_in = np.stack([1.0 + radii * np.cos(angles), radii * np.sin(angles)], axis=1)
    places = [*generator.uniform(-5.0, 5.0, (6, 2)), *closing_in]
    values = [(x - 1.0) ** 2 + y**2 for x, y in places]
    trials = []
    for number, ((x, y), value) in enumerate(zip(places, values, strict=True)):
        params = {"x": float(x), "y": float(y)}
        trials.append(create_trial(params=params, distributions=space, value=float(value)))
        trials[-1].number = number
    open_trial = OpenTrial(len(trials), space, [StudyDirection.MINIMIZE], trials)

    found = Strategy(seed=seed).suggest(open_trial, NEVER).params

    assert (found["x"] - 1.0) ** 2 + found["y"] ** 2 < np.median(values[:6])


def test_a_space_that_is_not_declared_is_that_of_the_trials() -> None:
    single = {**SPACE, "epochs": FloatDistribution(3.0, 3.0)}
    trials = [
        create_trial(params={"kind": "a", "x": 0.5, "epochs": 3.0}, distributions=single, value=1.0)
    ]

    assert Strategy(seed=0).space_of(trials) == SPACE
    assert Strategy(seed=0, search_space={"x": SPACE["x"]}).space_of(trials) == {"x": SPACE["x"]}

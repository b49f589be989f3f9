"""What a suggestion is whose time is up. Each look at the clock of these tests costs a second."""

from __future__ import annotations

import functools
import itertools
import logging
import math
import pickle
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from tests.optuna_values import is_accepted

from studyflow.samplers.acquisition.torch_acquisition import BoTorchAcquisition
from studyflow.samplers.botorch import BoTorchSampler
from studyflow.samplers.deadline import Deadline
from studyflow.samplers.explanation import Suggestion, explanation_of
from studyflow.testing.fake_clock import FakeClock

optuna.logging.set_verbosity(optuna.logging.ERROR)

SPACE: dict[str, BaseDistribution] = {
    "depth": IntDistribution(1, 9),
    "lr": FloatDistribution(1e-4, 1.0, log=True),
    "x": FloatDistribution(-2.0, 2.0),
}

DIRECTIONS = (StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE)


def loss(params: dict[str, Any]) -> float:
    return float(
        params["x"] ** 2 + (np.log10(params["lr"]) + 2.0) ** 2 + abs(params["depth"] - 4) / 4
    )


@functools.cache
def ask_without_limit(n_objectives: int = 1) -> tuple[dict[str, Any], Suggestion]:
    return ask(math.inf, n_objectives)


def ask(
    ask_seconds: float, n_objectives: int = 1, n_trials: int = 8
) -> tuple[dict[str, Any], Suggestion]:
    """Return the parameters and the explanation of a trial after some finished ones."""
    study = optuna.create_study(directions=DIRECTIONS[:n_objectives])
    study.sampler = BoTorchSampler(seed=0, search_space=SPACE)
    for _ in range(n_trials):
        trial = study.ask(SPACE)
        study.tell(trial, [loss(trial.params), trial.params["x"]][:n_objectives])
    study.sampler = BoTorchSampler(
        seed=0, search_space=SPACE, ask_seconds=ask_seconds, clock=itertools.count().__next__
    )
    trial = study.ask(SPACE)
    suggestion = explanation_of(study.trials[-1])
    assert suggestion is not None
    for name, value in trial.params.items():
        assert is_accepted(SPACE[name], value)
    return trial.params, suggestion


@pytest.mark.fault("F46")
def test_more_time_never_gives_a_worse_suggestion() -> None:
    whole_params, whole = ask_without_limit()
    looks = round(whole.milliseconds / 1e3)
    cut = [ask(seconds)[1] for seconds in np.linspace(1, looks - 3, 15).round()]

    levels = [suggestion.level for suggestion in cut]
    n_filling = levels.count("space-filling")
    assert 0 < n_filling < len(cut)
    assert levels == ["space-filling"] * n_filling + ["model"] * (len(cut) - n_filling)
    assert all(suggestion.is_time_up for suggestion in cut)
    hopes = [suggestion.acquisition_value for suggestion in (*cut[n_filling:], whole)]
    assert hopes == sorted(hopes)  # type: ignore[type-var]
    assert hopes[0] < hopes[-1]  # type: ignore[operator]
    assert ask(looks + 1)[0] == whole_params


def test_a_deadline_that_is_not_reached_changes_nothing() -> None:
    in_time = ask(1e6)

    assert in_time == ask_without_limit()
    assert not in_time[1].is_time_up


@pytest.mark.fault("F46")
def test_time_that_is_up_in_the_fit_gives_a_space_filling_point_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        params, suggestion = ask(10)

    assert suggestion.reason == (
        "model: OutOfTime: the time for a suggestion was up (ask_seconds=10)"
    )
    assert suggestion.level == "space-filling"
    assert suggestion.objectives == ()
    (record,) = caplog.records
    assert "level space-filling of the sampler's fallback chain" in record.getMessage()
    assert params == ask(1)[0]


@pytest.mark.fault("F46")
def test_time_that_is_up_in_the_search_gives_the_best_point_found_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    looks = ask_without_limit()[1].milliseconds / 1e3
    with caplog.at_level(logging.WARNING):
        _, suggestion = ask(looks - 10)

    assert (suggestion.level, suggestion.reason) == ("model", None)
    assert suggestion.is_time_up
    (record,) = caplog.records
    assert "the best point found in time" in record.getMessage()


@pytest.mark.fault("F46")
@pytest.mark.parametrize(("share", "level"), [(0.3, "space-filling"), (0.9, "model")])
def test_the_search_over_several_objectives_ends_in_time(share: float, level: str) -> None:
    looks = ask_without_limit(n_objectives=2)[1].milliseconds / 1e3
    _, suggestion = ask(round(share * looks), n_objectives=2)

    assert suggestion.is_time_up
    assert suggestion.level == level


def test_a_start_up_point_needs_no_time() -> None:
    _, suggestion = ask(1, n_trials=2)

    assert (suggestion.level, suggestion.reason) == ("startup", None)
    assert not suggestion.is_time_up


def test_points_that_there_is_no_time_for_are_never_the_best() -> None:
    clock = FakeClock()

    def slow(x: torch.Tensor) -> torch.Tensor:
        clock.advance(1.0)
        return x[:, 0, 0]

    acquisition = BoTorchAcquisition(slow, name="slow", deadline=Deadline(2.0, clock))  # type: ignore[arg-type]
    values = acquisition.value(np.linspace(0.0, 1.0, 400)[:, None])

    assert np.isfinite(values[:256]).all()
    assert (values[256:] == -math.inf).all()
    assert np.isfinite(acquisition.value(np.zeros((3, 1)))).all()


def test_a_sampler_with_a_limit_can_be_pickled() -> None:
    sampler = BoTorchSampler(seed=3, ask_seconds=5.0)

    assert pickle.loads(pickle.dumps(sampler)).seed == 3

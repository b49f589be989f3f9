"""What the model said of many points, found again after the study."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from studyflow.samplers.botorch import BoTorchSampler
from studyflow.samplers.explanation import Suggestion, explanation_of
from studyflow.samplers.history import trials_before

optuna.logging.set_verbosity(optuna.logging.ERROR)

SPACE: dict[str, BaseDistribution] = {
    "x": FloatDistribution(-2.0, 2.0),
    "lr": FloatDistribution(1e-4, 1.0, log=True),
}


def loss(params: dict[str, Any]) -> float:
    return float(params["x"] ** 2 + (np.log10(params["lr"]) + 2.0) ** 2)


def study_of(n_trials: int, *, at_once: int = 1, **options: Any) -> optuna.Study:
    sampler = BoTorchSampler(seed=0, n_startup_trials=5, search_space=SPACE, **options)
    study = optuna.create_study(sampler=sampler)
    running: list[optuna.Trial] = []
    for _ in range(n_trials):
        running.append(study.ask(SPACE))
        if len(running) == at_once:
            first = running.pop(0)
            study.tell(first, loss(first.params))
    return study


def sampler_of(study: optuna.Study) -> BoTorchSampler:
    assert isinstance(study.sampler, BoTorchSampler)
    return study.sampler


def explained(study: optuna.Study, number: int) -> Suggestion:
    found = explanation_of(study.trials[number])
    assert found is not None
    return found


@pytest.mark.parametrize("at_once", [1, 3])
def test_at_a_trial_s_own_point_it_is_what_its_suggestion_stored(at_once: int) -> None:
    study = study_of(12, at_once=at_once)
    for number in (9, 10, 11):
        point = study.trials[number].params
        seen = sampler_of(study).model_surface(study, [point], before=number)
        stored = explained(study, number)
        assert seen is not None
        assert (seen.n_data, seen.n_pending) == (stored.n_data, stored.n_pending)
        assert seen.n_pending == at_once - 1
        assert seen.acquisition_name == stored.acquisition
        assert seen.acquisition[0] == pytest.approx(stored.acquisition_value, rel=1e-5)
        assert seen.mean[0] == pytest.approx(stored.objectives[0].predicted_mean, rel=1e-5)
        assert seen.sd[0] == pytest.approx(stored.objectives[0].predicted_sd, rel=1e-5)


def test_no_point_promised_more_than_the_one_that_was_suggested() -> None:
    study = study_of(10)
    points = [
        {"x": x, "lr": 10.0**e} for x in np.linspace(-2, 2, 21) for e in np.linspace(-4, 0, 21)
    ]
    seen = sampler_of(study).model_surface(study, points, before=9)
    chosen = sampler_of(study).model_surface(study, [study.trials[9].params], before=9)
    assert seen is not None
    assert chosen is not None
    assert seen.acquisition.max() <= chosen.acquisition[0] + 1e-6


def test_without_a_trial_it_is_what_the_finished_study_says() -> None:
    study = study_of(15)
    seen = sampler_of(study).model_surface(study, [{"x": 0.0, "lr": 0.01}, {"x": 2.0, "lr": 1.0}])
    assert seen is not None
    assert seen.n_data == 15
    assert seen.mean[0] == pytest.approx(0.0, abs=0.3)
    assert seen.mean[1] > 1.0
    assert seen.sd[1] > 10 * seen.sd[0], "a corner where nobody looked"


def test_there_is_none_while_the_start_up_goes_on() -> None:
    study = study_of(8)
    point = [{"x": 0.0, "lr": 0.01}]
    assert sampler_of(study).model_surface(study, point, before=4) is None
    assert sampler_of(study).model_surface(study, point, before=5) is not None


def test_several_objectives_are_refused() -> None:
    study = optuna.create_study(directions=["minimize", "minimize"])
    with pytest.raises(ValueError, match="one objective"):
        BoTorchSampler(seed=0, search_space=SPACE).model_surface(study, [])


def test_the_former_name_still_answers_and_warns() -> None:
    study, points = study_of(12), [{"x": 0.0, "lr": 0.01}]
    with pytest.warns(DeprecationWarning, match="now `model_surface`"):
        seen = sampler_of(study).landscape(study, points)
    again = sampler_of(study).model_surface(study, points)
    assert seen is not None
    assert again is not None
    assert (seen.mean == again.mean).all()


def test_an_inactive_parameter_s_value_makes_no_difference() -> None:
    space: dict[str, BaseDistribution] = {
        "kind": CategoricalDistribution(["a", "b"]),
        "m": FloatDistribution(0.0, 1.0),
    }
    sampler = BoTorchSampler(
        seed=0, n_startup_trials=4, search_space=space, conditions={"m": {"kind": ["b"]}}
    )
    study = optuna.create_study(sampler=sampler)
    for k in range(6):
        trial = study.ask()
        kind = trial.suggest_categorical("kind", ["a", "b"])
        study.tell(trial, float(k) if kind == "a" else trial.suggest_float("m", 0.0, 1.0))
    seen = sampler.model_surface(study, [{"kind": "a", "m": 0.1}, {"kind": "a", "m": 0.9}])
    assert seen is not None
    assert seen.mean[0] == seen.mean[1]


# The study as it stood


NOON = datetime(2026, 1, 1, 12)


def trial(number: int, start: float | None, end: float | None, **attrs: Any) -> FrozenTrial:
    return FrozenTrial(
        number=number,
        state=TrialState.RUNNING if end is None else TrialState.COMPLETE,
        value=None if end is None else 1.0,
        datetime_start=None if start is None else NOON + timedelta(seconds=start),
        datetime_complete=None if end is None else NOON + timedelta(seconds=end),
        params={"x": 0.5},
        distributions={"x": SPACE["x"]},
        user_attrs={},
        system_attrs=attrs,
        intermediate_values={},
        trial_id=number,
    )


def test_what_finished_later_was_running_and_what_started_later_was_not_there() -> None:
    trials = [trial(0, 0, 5), trial(1, 1, 20), trial(2, 10, 30), trial(3, 11, 12)]
    then = trials_before(trials, 2)
    assert [t.number for t in then] == [0, 1]
    assert [t.state for t in then] == [TrialState.COMPLETE, TrialState.RUNNING]
    assert then[1].values is None
    assert trials[1].state is TrialState.COMPLETE, "the study itself stays as it is"


def test_an_enqueued_trial_that_started_later_was_waiting_with_what_it_was_given() -> None:
    enqueued = trial(0, 8, 9, fixed_params={"x": 0.5}, other=1)
    (then,) = trials_before([enqueued, trial(1, 1, 2)], 1)
    assert then.state is TrialState.WAITING
    assert (then.params, then.system_attrs) == ({}, {"fixed_params": {"x": 0.5}})

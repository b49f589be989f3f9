"""Samplers of Optuna's that raise or hang: one suggestion is lost, and no study."""

from __future__ import annotations

import logging
import threading
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from tests.optuna_values import is_accepted
from tests.unit.study.studies import complete, make_spec, open_study

from studyflow.errors import StorageUnavailable
from studyflow.samplers import explanation_of
from studyflow.samplers.fallback import FallbackSampler
from studyflow.trial.record import TrialState

pytestmark = pytest.mark.fault("F46")

SPACE: dict[str, optuna.distributions.BaseDistribution] = {
    "lr": FloatDistribution(1e-4, 1.0, log=True),
    "width": IntDistribution(16, 128, step=16),
    "optimizer": CategoricalDistribution(["adam", "sgd"]),
}


class Failing(optuna.samplers.BaseSampler):
    """Raises in the method that it is told."""

    def __init__(self, method: str, error: Exception) -> None:
        self._method = method
        self._error = error
        self._random = optuna.samplers.RandomSampler(seed=0)

    def _maybe(self, method: str) -> None:
        if method == self._method:
            raise self._error

    def before_trial(self, *_: Any) -> None:
        self._maybe("before_trial")

    def infer_relative_search_space(self, *_: Any) -> Any:
        self._maybe("infer_relative_search_space")
        return SPACE

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
        self._maybe("sample_relative")
        return {}

    def sample_independent(self, *arguments: Any) -> Any:
        self._maybe("sample_independent")
        return self._random.sample_independent(*arguments)

    def after_trial(self, *_: Any) -> None:
        self._maybe("after_trial")


@pytest.mark.parametrize(
    "method",
    ["before_trial", "infer_relative_search_space", "sample_relative", "sample_independent"],
)
def test_a_trial_whose_sampler_raises_has_all_parameters_and_says_why(method: str) -> None:
    sampler = FallbackSampler(Failing(method, ValueError("not positive definite\nmatrix ...")), 7)
    study = optuna.create_study(sampler=sampler)

    trials = [study.ask(SPACE) for _ in range(8)]

    for trial in trials:
        assert trial.params.keys() == SPACE.keys()
        assert all(is_accepted(SPACE[name], value) for name, value in trial.params.items())
    assert len({tuple(trial.params.values()) for trial in trials}) == 8
    explained = explanation_of(study.trials[3])
    assert explained is not None
    assert explained.level == "quasi-random"
    assert explained.reason == "Failing failed with ValueError: not positive definite"


def test_a_trials_point_is_that_of_its_number_whoever_asks() -> None:
    def first_three(n_before: int) -> list[dict[str, Any]]:
        study = optuna.create_study(
            sampler=FallbackSampler(Failing("sample_relative", ValueError()), 7)
        )
        for _ in range(n_before):
            study.ask()
        study.sampler = FallbackSampler(Failing("sample_relative", ValueError()), 7)
        return [study.ask(SPACE).params for _ in range(3 - n_before)]

    assert first_three(0)[2] == first_three(2)[0]


def test_a_failure_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    study = optuna.create_study(
        sampler=FallbackSampler(Failing("sample_relative", RuntimeError("singular")), 0)
    )
    with caplog.at_level(logging.WARNING, "studyflow"):
        for _ in range(3):
            study.ask(SPACE)
    told = [record.message for record in caplog.records if record.name.startswith("studyflow")]
    assert told == ["Trial 0 is quasi-random: Failing failed with RuntimeError: singular"]


def test_a_result_is_told_though_the_sampler_cannot_take_it_in(
    caplog: pytest.LogCaptureFixture,
) -> None:
    study = optuna.create_study(sampler=FallbackSampler(Failing("after_trial", KeyError("x")), 0))
    with caplog.at_level(logging.WARNING, "studyflow"):
        study.tell(study.ask(SPACE), 1.0)
    assert study.trials[0].values == [1.0]
    assert (
        "The sampler does not learn from trial 0: Failing failed with KeyError: 'x'" in caplog.text
    )


def test_parameters_drawn_one_by_one_follow_sequences_of_their_own() -> None:
    sampler = FallbackSampler(Failing("sample_independent", ValueError()), 7)
    study = optuna.create_study(sampler=sampler)
    space: dict[str, optuna.distributions.BaseDistribution] = {
        name: FloatDistribution(0.0, 1.0) for name in "xy"
    }
    points = [study.ask(space).params for _ in range(8)]
    assert all(abs(point["x"] - point["y"]) > 1e-6 for point in points)
    for name in "xy":
        assert sorted(int(point[name] * 8) for point in points) == list(range(8))


class Hanging(optuna.samplers.RandomSampler):
    """Comes back when it is let."""

    def __init__(self) -> None:
        super().__init__(seed=0)
        self.let = threading.Event()
        self.came_back = threading.Event()
        self.n_calls = 0

    def infer_relative_search_space(self, *_: Any) -> Any:
        return SPACE

    def sample_relative(self, *_: Any) -> dict[str, Any]:
        self.n_calls += 1
        self.let.wait(60)
        self.came_back.set()
        return {"lr": 0.01, "width": 32, "optimizer": "sgd"}


def test_a_sampler_that_hangs_is_left_behind_and_asked_again_when_it_has_come_back() -> None:
    hanging = Hanging()
    sampler = FallbackSampler(hanging, 7, ask_seconds=1.0)
    study = optuna.create_study(sampler=sampler)

    trials = [study.ask(SPACE) for _ in range(3)]

    assert all(trial.params.keys() == SPACE.keys() for trial in trials)
    assert hanging.n_calls == 1, "nothing is asked of it meanwhile"
    said = [explanation_of(trial) for trial in study.trials]
    assert [s and s.reason for s in said] == [
        "Hanging gave no suggestion within 1 s",
        *["Hanging has not come back from an earlier trial"] * 2,
    ]
    hanging.let.set()
    assert hanging.came_back.wait(30)
    for thread in threading.enumerate():
        if thread.name == "sampler":
            thread.join(30)
    assert study.ask(SPACE).params == {"lr": 0.01, "width": 32, "optimizer": "sgd"}
    assert explanation_of(study.trials[3]) is None


@pytest.mark.parametrize(
    "error", [StorageUnavailable("away"), optuna.exceptions.StorageInternalError("away")]
)
def test_a_storage_that_is_away_is_no_failure_of_the_sampler(error: Exception) -> None:
    study = optuna.create_study(sampler=FallbackSampler(Failing("sample_relative", error), 0))
    with pytest.raises(type(error), match="away"):
        study.ask(SPACE)


@pytest.mark.parametrize(
    ("name", "sampler"),
    [
        ("gp", optuna.samplers.GPSampler),
        ("tpe", optuna.samplers.TPESampler),
        ("cmaes", optuna.samplers.CmaEsSampler),
        ("nsga2", optuna.samplers.NSGAIISampler),
    ],
)
def test_a_study_file_s_sampler_that_breaks_in_the_middle_ends_no_study(
    name: str, sampler: type[optuna.samplers.BaseSampler], monkeypatch: pytest.MonkeyPatch
) -> None:
    space = {key: {"type": "float", "low": 0.0, "high": 1.0} for key in "xy"}
    study = open_study(make_spec(search_space=space, sampler={"type": name, "seed": 1}))
    for number in range(5):
        if number == 2:
            monkeypatch.setattr(sampler, "sample_relative", _raise)
            monkeypatch.setattr(sampler, "sample_independent", _raise)
        record = study.ask()
        assert record is not None
        study.tell(record.number, complete(float(record.params["x"] or 0.0)), {"loss": 0.0})
    records = study.records()
    assert [r.state for r in records] == [TrialState.COMPLETE] * 5
    assert [explanation_of(t) is not None for t in study.optuna_study.trials] == [
        *[False] * 2,
        *[True] * 3,
    ]


def _raise(*_: Any, **__: Any) -> Any:
    raise ArithmeticError("the covariance is not positive definite")

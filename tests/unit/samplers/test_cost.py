"""Suggestions that count costs: cheap trials sooner, as long as much of a budget is left."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from scipy.optimize import approx_fprime
from tests.unit.study.studies import make_spec

from studyflow.samplers import make_sampler
from studyflow.samplers.ahead.documents import as_sampler_sees
from studyflow.samplers.arrays import FloatArray
from studyflow.samplers.botorch import BoTorchSampler
from studyflow.samplers.cost import ExpectedCost, WithCost, expected_cost, whole_cost
from studyflow.samplers.explanation import explanation_of
from studyflow.samplers.history import read_history
from studyflow.samplers.space.encoding import make_encoding
from studyflow.trial import Cause
from studyflow.trial.cost import AttemptCost
from studyflow.trial.cost_form import attribute_of

pytestmark = pytest.mark.usefixtures("one_thread")

optuna.logging.set_verbosity(optuna.logging.ERROR)

SPACE: Final[Mapping[str, BaseDistribution]] = {
    "size": FloatDistribution(1.0, 64.0, log=True),
    "rate": FloatDistribution(0.0, 1.0),
    "kind": CategoricalDistribution(("a", "b", "c")),
}
BEGAN: Final = datetime(2026, 1, 1)


def seconds_of(params: Mapping[str, Any]) -> float:
    """Ten seconds for a size, three times as many for kind c."""
    return 10.0 * float(params["size"]) * (3.0 if params["kind"] == "c" else 1.0)


def finished(
    number: int,
    params: dict[str, Any],
    seconds: float,
    *rows: AttemptCost,
    state: TrialState = TrialState.COMPLETE,
) -> FrozenTrial:
    trial = create_trial(
        state=state,
        params=params,
        distributions=dict(SPACE),
        value=params["rate"] if state is TrialState.COMPLETE else None,
        user_attrs={key: value for row in rows for key, value in attribute_of(row).items()},
    )
    trial.number = number
    trial.datetime_start, trial.datetime_complete = BEGAN, BEGAN + timedelta(seconds=seconds)
    return trial


def drawn(n: int, seconds: Callable[[Mapping[str, Any]], float] = seconds_of) -> list[FrozenTrial]:
    generator = np.random.default_rng(0)
    trials = []
    for number in range(n):
        params = {
            "size": float(2.0 ** generator.uniform(0.0, 6.0)),
            "rate": float(generator.random()),
            "kind": str(generator.choice(["a", "b", "c"])),
        }
        trials.append(finished(number, params, seconds(params)))
    return trials


def known_of(trials: list[FrozenTrial], budget: float) -> ExpectedCost | None:
    encoding = make_encoding(SPACE, {})
    directions = [optuna.study.StudyDirection.MINIMIZE]
    history = read_history(trials, encoding, SPACE, directions, for_trial=len(trials))
    return expected_cost(trials, encoding, history, budget)


def features_of(**params: Any) -> FloatArray:
    encoding = make_encoding(SPACE, {})
    return encoding.features(encoding.encode_all([params]))


def test_what_a_trial_costs_is_learnt_from_those_that_are_complete() -> None:
    known = known_of(drawn(30), budget=1e9)

    assert known is not None
    for size, kind in ((2.0, "a"), (32.0, "b"), (16.0, "c")):
        expected = seconds_of({"size": size, "kind": kind})
        found = known.at(features_of(size=size, rate=0.5, kind=kind)[0])
        assert found == pytest.approx(expected, rel=0.35)


def test_costs_that_parameters_do_not_predict_count_for_nothing() -> None:
    generator = np.random.default_rng(1)
    trials = drawn(30, lambda _: float(np.exp(generator.standard_normal())))

    assert known_of(trials, budget=1e9) is None


def test_a_few_trials_say_nothing_of_costs() -> None:
    assert known_of(drawn(3), budget=1e9) is None


def test_the_power_falls_from_one_to_nothing_while_the_budget_is_spent() -> None:
    trials = drawn(30)
    spent = sum(seconds_of(trial.params) for trial in trials)

    def power(budget: float) -> float | None:
        known = known_of(trials, budget)
        return None if known is None else known.power

    assert power(1e12) == pytest.approx(1.0)
    assert power(spent / 0.75) == pytest.approx(0.5)
    assert power(spent) is None


def test_running_trials_count_as_spent_what_a_typical_one_costs() -> None:
    trials = drawn(30)
    running = create_trial(state=TrialState.RUNNING)
    running.number = 30
    alone, beside = known_of(trials, 1e5), known_of([*trials, running], 1e5)

    assert alone is not None
    assert beside is not None
    assert alone.power**2 - beside.power**2 == pytest.approx(alone.typical / 1e5)


def test_what_faults_lost_is_spent_but_no_part_of_a_trials_cost() -> None:
    plain = drawn(30)
    rows = [
        (
            AttemptCost(1, Cause.EVICTED, seconds=500.0, gpus=2, lost_seconds=500.0),
            AttemptCost(2, Cause.OK, seconds=seconds_of(trial.params) / 2, gpus=2),
        )
        for trial in plain
    ]
    pairs = zip(plain, rows, strict=True)
    retried = [finished(t.number, dict(t.params), 0.0, *of_trial) for t, of_trial in pairs]
    one, other = known_of(plain, 1e6), known_of(retried, 1e6)

    assert one is not None
    assert other is not None
    assert other.typical == pytest.approx(one.typical)
    assert one.power**2 - other.power**2 == pytest.approx(30 * 1000.0 / 1e6)


def test_pruned_and_failed_trials_are_spent_but_say_nothing_of_a_whole_one() -> None:
    trials = drawn(30)
    cut = [
        finished(30, {"size": 64.0, "rate": 0.5, "kind": "c"}, 1.0, state=TrialState.PRUNED),
        finished(31, {"size": 64.0, "rate": 0.4, "kind": "c"}, 1.0, state=TrialState.FAIL),
    ]
    alone, beside = known_of(trials, 1e6), known_of([*trials, *cut], 1e6)

    assert alone is not None
    assert beside is not None
    assert beside.slopes == pytest.approx(alone.slopes)
    assert alone.power**2 - beside.power**2 == pytest.approx(2.0 / 1e6)


class Flat:
    """An acquisition function that prefers nothing."""

    name = "flat"

    def value(self, features: FloatArray) -> FloatArray:
        return np.zeros(len(features))

    def value_and_gradient(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        return np.zeros(len(features)), np.zeros_like(features)


def test_improvement_is_divided_by_the_power_of_the_cost_and_so_is_its_gradient() -> None:
    known = known_of(drawn(30), budget=20_000.0)
    assert known is not None
    weighed = WithCost(Flat(), known)
    points = np.concatenate(
        [features_of(size=2.0, rate=0.1, kind="a"), features_of(size=50.0, rate=0.9, kind="c")]
    )
    costs = np.array([known.at(point) for point in points])

    values, gradients = weighed.value_and_gradient(points)
    assert 0.0 < known.power < 1.0
    assert np.diff(values) == pytest.approx(-known.power * np.diff(np.log(costs)))
    assert weighed.value(points) == pytest.approx(values)
    for point, gradient in zip(points, gradients, strict=True):
        numeric = approx_fprime(point, lambda x: float(weighed.value(x[None])[0]))
        assert gradient == pytest.approx(numeric, abs=1e-5)


def test_a_search_with_a_budget_makes_more_trials_of_it_and_says_what_it_expected() -> None:
    def run(cost_budget: float | None) -> list[FrozenTrial]:
        sampler = BoTorchSampler(seed=0, search_space=SPACE, cost_budget=cost_budget)
        study, spent = optuna.create_study(sampler=sampler), 0.0
        while True:
            trial = study.ask(dict(SPACE))
            seconds = seconds_of(trial.params)
            spent += seconds
            if spent > 3_000.0:
                return study.trials
            row = attribute_of(AttemptCost(1, Cause.OK, seconds=seconds))
            for key, value in row.items():
                trial.set_user_attr(key, value)
            far = math.log2(trial.params["size"]) - 3.0
            study.tell(trial, (trial.params["rate"] - 0.3) ** 2 + 0.02 * far**2)

    plain, aware = run(None), run(3_000.0)
    assert len(aware) > len(plain)
    explained = [e for e in map(explanation_of, aware) if e is not None and e.cost_power]
    assert explained
    assert all(e.expected_cost is not None and e.expected_cost > 0 for e in explained)
    first, last = explained[0].cost_power, explained[-1].cost_power
    assert first is not None
    assert last is not None
    assert 1.0 > first > last > 0.0


def test_a_study_file_s_sampler_counts_costs_against_the_budget_of_the_study() -> None:
    def budget_of(gpu_hours: float | None, **arguments: Any) -> float | None:
        spec = make_spec(
            sampler={"type": "botorch", **arguments},
            budget={"n_trials": 3, "gpu_hours": gpu_hours},
        )
        made = make_sampler(spec, 0, 0)
        assert isinstance(made, BoTorchSampler)
        return made.strategy.cost_budget

    assert budget_of(1.5, cost_aware=True) == 5400.0
    assert budget_of(1.5, cost_aware=False) is None
    assert budget_of(1.5) is None


def test_the_process_that_makes_suggestions_is_told_what_ended_trials_cost() -> None:
    row = AttemptCost(1, Cause.OK, seconds=40.0)
    trial = finished(0, {"size": 2.0, "rate": 0.5, "kind": "a"}, 1.0, row)

    assert whole_cost(as_sampler_sees(trial, SPACE)) == whole_cost(trial) == 40.0


@pytest.mark.parametrize("budget", [0.0, -1.0, math.inf, math.nan])
def test_a_budget_that_is_none_is_refused(budget: float) -> None:
    with pytest.raises(ValueError, match="cost_budget: must be more than 0 and finite"):
        BoTorchSampler(cost_budget=budget)

"""A simulated study is the real one in virtual time: the same loop, sampler, pruner and ledger."""

from __future__ import annotations

import math
from typing import Any

import pytest

from studyflow.simulation import Cluster, Params, Simulation, Training, simulate
from studyflow.spec import StudySpec
from studyflow.trial import Cause
from studyflow.trial.record import TrialState


def spec(**parts: Any) -> StudySpec:
    return StudySpec.from_mapping(
        {
            "name": "simulated",
            "objectives": [{"metric": "loss", "direction": "minimize"}],
            "search_space": {"x": {"type": "float", "low": 0.0, "high": 1.0}},
            "sampler": {"type": "random"},
            "budget": {"n_trials": 8, "max_parallel_trials": 2},
            "trial": {"command": ["python", "train.py"], "budget": 5},
            **parts,
        }
    )


def falling(params: Params, _seed: int) -> Training:
    return Training([float(params["x"]) + 1 / (step + 1) for step in range(5)], 60.0)


def trials_of(found: Simulation) -> list[tuple[object, ...]]:
    return [(t.seconds, t.unit_seconds, t.record.number, t.record.values) for t in found.told]


def test_a_study_takes_as_long_as_its_trials_in_their_slots() -> None:
    found = simulate(spec(), falling, Cluster(slots=2, pod_seconds=7.0, startup_seconds=30.0))
    assert found.seconds == 4 * (7.0 + 30.0 + 300.0)
    assert found.unit_seconds == 8 * 330.0
    assert found.n_steps == 40
    assert found.n_in(TrialState.COMPLETE) == 8
    assert found.outcome.is_finished


def test_slots_and_max_parallel_trials_both_bound_what_runs_at_once() -> None:
    assert simulate(spec(), falling, Cluster(slots=1)).seconds == 8 * 300.0
    assert simulate(spec(), falling, Cluster(slots=16)).seconds == 4 * 300.0


def test_the_same_arguments_give_the_same_study_and_another_seed_another_one() -> None:
    cluster = Cluster(slots=2, checkpoint_every=1, losses_per_hour=3.0)
    study = spec(sampler={"type": "tpe"}, pruner={"type": "median", "n_startup_trials": 2})
    first, again, other = (simulate(study, falling, cluster, seed=seed) for seed in (1, 1, 2))
    assert trials_of(first) == trials_of(again) != trials_of(other)


def test_each_trial_has_noise_of_its_own_that_all_its_attempts_share() -> None:
    asked: list[tuple[object, int]] = []

    def workload(params: Params, seed: int) -> Training:
        asked.append((params["x"], seed))
        return falling(params, seed)

    found = simulate(spec(), workload, Cluster(slots=2, losses_per_hour=20.0, checkpoint_every=1))
    assert any(record.lost_attempts for record in found.records)
    assert len(asked) == len({seed for _, seed in asked}) == 8


def test_lost_attempts_are_paid_and_their_trials_go_on() -> None:
    cluster = Cluster(slots=2, losses_per_hour=10.0, checkpoint_every=1)
    lossless, lossy = simulate(spec(), falling), simulate(spec(), falling, cluster)
    assert lossy.spending.by_cause[Cause.EVICTED] > 0
    assert lossy.spending.lost_seconds > 0
    assert lossy.unit_seconds == pytest.approx(
        lossless.unit_seconds + lossy.spending.lost_seconds, abs=1.0
    )
    assert lossy.n_in(TrialState.COMPLETE) == 8
    assert lossy.n_steps == 40, "each step once: checkpoints hold them all"


def test_a_pruner_stops_trials_and_saves_their_steps() -> None:
    study = spec(pruner={"type": "median", "n_startup_trials": 2})
    full, pruned = simulate(spec(), falling), simulate(study, falling)
    assert pruned.n_in(TrialState.PRUNED) > 0
    assert pruned.n_steps < full.n_steps
    assert pruned.unit_seconds == pruned.n_steps * 60.0
    assert pruned.best_value == full.best_value


def test_it_says_what_was_known_when_so_much_had_been_spent() -> None:
    study = spec(budget={"n_trials": 3, "max_parallel_trials": 1})
    values = iter([3.0, 1.0, 2.0])
    found = simulate(study, lambda params, seed: Training([next(values)], 100.0))
    assert [found.value_after(spent) for spent in (99.0, 100.0, 199.0, 200.0, 1e9)] == [
        None,
        3.0,
        3.0,
        1.0,
        1.0,
    ]
    assert found.unit_seconds_until(1.5) == 200.0
    assert found.unit_seconds_until(0.5) is None
    assert (found.best_value, found.best and found.best.number) == (1.0, 1)


def test_a_budget_of_gpu_hours_ends_it() -> None:
    budget = {"n_trials": 100, "max_parallel_trials": 2, "gpu_hours": 2 * 1200 / 3600}
    trial = {"command": ["python"], "resources": {"gpu": 2}, "timeout_seconds": 300}
    found = simulate(spec(budget=budget, trial=trial), falling)
    assert len(found.records) == 4
    assert found.spending.gpu_hours == pytest.approx(2 * 1200 / 3600)


def test_the_limit_of_an_attempt_and_failures_of_scripts_count_as_on_a_cluster() -> None:
    trial = {"command": ["python"], "timeout_seconds": 150}
    late = simulate(spec(trial=trial, stop={"first_failures": 0, "alike_failures": 50}), falling)
    assert {record.cause for record in late.records} == {Cause.TIMEOUT}
    assert late.unit_seconds == 8 * 150.0

    def broken(_params: Params, _seed: int) -> Training:
        return Training(tail_seconds=9.0, cause=Cause.USER_ERROR)

    failed = simulate(spec(), broken)
    assert failed.outcome.is_failure
    assert failed.best_value is None


def test_a_curve_of_nan_ends_its_trial() -> None:
    study = spec(budget={"n_trials": 1})
    found = simulate(study, lambda params, seed: Training([1.0, *[math.nan] * 4], 60.0))
    assert found.records[0].cause is Cause.NAN
    assert found.unit_seconds == 4 * 60.0, "after three reports in a row"


def test_a_suggestion_takes_virtual_time_only_if_asked_for() -> None:
    study = spec(budget={"n_trials": 3, "max_parallel_trials": 1})
    found = simulate(study, falling, Cluster(suggestion_seconds=11.0))
    assert (found.seconds, found.unit_seconds) == (3 * 311.0, 3 * 300.0)


def test_a_paused_trial_goes_on_where_its_checkpoint_is() -> None:
    promotion = {"type": "asha", "variant": "promotion", "min_resource": 1}
    study = spec(pruner=promotion, budget={"n_trials": 12, "max_parallel_trials": 2})
    cluster = Cluster(slots=2, checkpoint_every=1, startup_seconds=10.0)
    found = simulate(study, falling, cluster)
    whole = [r for r in found.records if r.state is TrialState.COMPLETE]
    assert len(whole) < 12
    assert found.n_steps < 12 * 5
    resumed = [record for record in whole if len(record.costs) > 1]
    assert resumed, "some trial was paused and taken up again"
    assert all(len(record.intermediate) == 5 for record in resumed)
    n_attempts = found.spending.n_attempts
    assert found.unit_seconds == found.n_steps * 60.0 + n_attempts * 10.0, "each step once"

"""A finished study is replayed from its stored curves: no trial goes beyond what was measured."""

from __future__ import annotations

from typing import Any

import pytest

from studyflow.errors import SimulationError, SpecError
from studyflow.simulation import Cluster, Params, Simulation, Training, simulate
from studyflow.simulation.replay import replay
from studyflow.spec import StudySpec
from studyflow.trial import Cause
from studyflow.trial.record import TrialState

STEPS = 10


def spec(**parts: Any) -> StudySpec:
    return StudySpec.from_mapping(
        {
            "name": "replayed",
            "objectives": [{"metric": "loss", "direction": "minimize"}],
            "search_space": {"x": {"type": "float", "low": 0.0, "high": 1.0}},
            "sampler": {"type": "random"},
            "budget": {"n_trials": 16, "max_parallel_trials": 2},
            "trial": {"command": ["python", "train.py"], "budget": STEPS},
            **parts,
        }
    )


def falling(params: Params, _seed: int) -> Training:
    return Training([float(params["x"]) + 1 / (step + 1) for step in range(STEPS)], 60.0)


def params_of(found: Simulation) -> list[Any]:
    return [record.params["x"] for record in found.records]


def test_as_it_was_is_the_study_again() -> None:
    ran = simulate(spec(), falling, Cluster(slots=2, startup_seconds=30.0))
    made = replay(ran.spec, ran.records)
    assert params_of(made.as_it_was) == params_of(ran)
    assert made.as_it_was.best_value == ran.best_value
    assert made.as_it_was.seconds == pytest.approx(ran.seconds)
    assert made.as_it_was.unit_seconds == pytest.approx(ran.unit_seconds)
    assert made.saved_unit_seconds == pytest.approx(0.0)


def test_another_pruner_saves_what_running_with_it_would_have() -> None:
    pruner = {"type": "median", "n_startup_trials": 3}
    ran, pruned = (simulate(spec(**c), falling) for c in ({}, {"pruner": pruner}))
    made = replay(ran.spec, ran.records, pruner=pruner)
    assert made.changed.n_steps == pruned.n_steps < ran.n_steps
    assert made.saved_unit_seconds == pytest.approx(ran.unit_seconds - pruned.unit_seconds)
    assert made.n_cut == 0


def test_a_trial_that_was_stopped_ends_where_its_curve_ends() -> None:
    ran = simulate(spec(pruner={"type": "median", "n_startup_trials": 3}), falling)
    assert ran.n_in(TrialState.PRUNED) > 0
    made = replay(ran.spec, ran.records, pruner={"type": "none"})
    assert made.changed.n_steps == ran.n_steps
    assert made.n_cut == made.n_cut_again == ran.n_in(TrialState.PRUNED)
    assert made.changed.n_in(TrialState.PRUNED) == made.n_cut
    assert made.saved_unit_seconds == 0.0


def test_another_width_takes_another_time_for_the_same_hours() -> None:
    ran = simulate(spec(), falling)
    made = replay(ran.spec, ran.records, parallel=8)
    assert (made.as_it_was.seconds, made.changed.seconds) == (8 * 600.0, 2 * 600.0)
    assert made.changed.unit_seconds == made.as_it_was.unit_seconds


def test_a_limit_of_hours_ends_the_replay_early() -> None:
    ran = simulate(spec(), falling)
    made = replay(ran.spec, ran.records, gpu_hours=ran.unit_seconds / 3600 / 2)
    assert 6 <= len(made.changed.records) <= 9
    assert params_of(made.changed) == params_of(ran)[: len(made.changed.records)]


def test_lost_attempts_are_left_out_and_counted() -> None:
    ran = simulate(spec(), falling, Cluster(slots=2, losses_per_hour=3.0))
    assert ran.spending.lost_seconds > 0
    made = replay(ran.spec, ran.records)
    assert made.lost_seconds == pytest.approx(ran.spending.lost_seconds)
    assert made.as_it_was.unit_seconds == pytest.approx(16 * 600.0, rel=0.001)


def test_trials_that_fail_and_trials_of_the_same_parameters_are_themselves_again() -> None:
    def mixed(params: Params, seed: int) -> Training:
        cause = Cause.HOST_OOM if params["k"] == 1 else Cause.OK
        return Training([float(seed % 97)], 60.0 + seed % 7, cause=cause)

    space = {"k": {"type": "int", "low": 0, "high": 2}}
    ran = simulate(spec(search_space=space), mixed)
    assert ran.n_in(TrialState.FAILED) > 0
    made = replay(ran.spec, ran.records)
    of_both = zip(ran.records, made.as_it_was.records, strict=True)
    assert all((a.params, a.values, a.cause) == (b.params, b.values, b.cause) for a, b in of_both)


def test_trials_without_reports_keep_their_time() -> None:
    ran = simulate(spec(), lambda params, seed: Training(final=1.0, tail_seconds=90.0))
    made = replay(ran.spec, ran.records, pruner={"type": "median"})
    assert made.changed.unit_seconds == 16 * 90.0
    assert made.n_without_curve == 16


def test_a_study_without_trials_cannot_be_replayed() -> None:
    with pytest.raises(SimulationError, match="nothing can be replayed"):
        replay(spec(), ())


def test_what_no_study_may_have_is_refused() -> None:
    ran = simulate(spec(), falling)
    with pytest.raises(SpecError, match="max_parallel_trials"):
        replay(ran.spec, ran.records, parallel=20_000)

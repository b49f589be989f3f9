"""A forecast says how long a study takes and what it costs, and what it does not know."""

from __future__ import annotations

import math
from typing import Any

import pytest

from studyflow.errors import SimulationError
from studyflow.reports import StudyData
from studyflow.simulation import Cluster, Params, Simulation, Training, simulate
from studyflow.simulation.forecast import assume, forecast
from studyflow.simulation.quality import quality_of
from studyflow.simulation.remaining import remaining
from studyflow.spec import StudySpec


def spec(n_trials: int = 24, **parts: Any) -> StudySpec:
    return StudySpec.from_mapping(
        {
            "name": "planned",
            "objectives": [{"metric": "loss", "direction": "minimize"}],
            "search_space": {"x": {"type": "float", "low": 0.0, "high": 1.0}},
            "sampler": {"type": "random"},
            "budget": {"n_trials": n_trials, "max_parallel_trials": 4},
            "trial": {"command": ["python", "train.py"]},
            **parts,
        }
    )


def dearer_with_x(params: Params, seed: int) -> Training:
    seconds = 100.0 * math.exp(params["x"]) * (0.9 + 0.2 * (seed % 100) / 100)
    return Training(final=(params["x"] - 0.3) ** 2, tail_seconds=seconds)


def ran(n_trials: int, **cluster: Any) -> Simulation:
    return simulate(spec(n_trials), dearer_with_x, Cluster(slots=4, **cluster), seed=3)


def test_a_median_that_is_given_gives_the_hours_of_all_trials() -> None:
    assumed = assume(spec(), (), trial_seconds=600.0)
    found = forecast(spec(), assumed, 4, n_repetitions=5)
    assert found.unit_hours.low < 24 * 600 / 3600 < found.unit_hours.high
    assert 6 * 600 * 0.9 < found.seconds.median < 6 * 600 * 1.3
    assert (found.n_trials.low, found.n_trials.high) == (24, 24)
    assert found.best_value is None
    assert forecast(spec(), assumed, 4, n_repetitions=5) == found


def test_more_trials_at_once_end_sooner() -> None:
    assumed = assume(spec(), (), trial_seconds=600.0)
    few, many = (forecast(spec(), assumed, width, n_repetitions=5) for width in (4, 16))
    assert many.seconds.high < few.seconds.low


@pytest.mark.parametrize("seed", [0, 100])
def test_the_first_trials_of_a_study_foretell_the_rest(seed: int) -> None:
    first = ran(16, pod_seconds=20.0)
    whole = spec(40)
    assumed = assume(whole, first.records)
    found = forecast(remaining(whole, first.records), assumed, 4, n_repetitions=20, seed=seed)
    rest = simulate(
        remaining(whole, first.records),
        dearer_with_x,
        Cluster(slots=4, pod_seconds=20.0),
        seed=seed + 50,
    )
    assert found.seconds.low <= rest.seconds <= found.seconds.high
    assert found.unit_hours.low <= rest.unit_seconds / 3600 <= found.unit_hours.high


def test_pod_starts_and_losses_come_from_the_ledger() -> None:
    first = ran(24, pod_seconds=20.0, losses_per_hour=4.0)
    assumed = assume(spec(), first.records)
    assert assumed.pod_seconds == pytest.approx(20.0, abs=0.01)
    assert 1.0 < assumed.losses_per_hour < 10.0
    assert assumed.durations.n_trials == 24
    assert assumed.source == "24 trials of this study"


def test_losses_cost_less_with_checkpoints() -> None:
    assumed = assume(spec(), (), trial_seconds=3600.0).with_given(losses_per_hour=0.5)
    saved = assumed.with_given(n_checkpoints=12)
    found, cheaper = (forecast(spec(), each, 4, n_repetitions=2) for each in (assumed, saved))
    assert 0 < cheaper.lost_hours.median < found.lost_hours.median / 3


def test_the_limit_of_a_trial_gives_a_bound() -> None:
    limited = spec(trial={"command": ["python"], "timeout_seconds": 500})
    assumed = assume(limited, ())
    found = forecast(limited, assumed, 4, n_repetitions=3)
    assert assumed.is_bound
    assert found.seconds.low == found.seconds.high == 6 * 500.0


def test_without_any_time_of_a_trial_nothing_is_said() -> None:
    with pytest.raises(SimulationError, match="Nothing says how long a trial of 'planned' takes"):
        assume(spec(), ())


def test_a_limit_of_hours_ends_it_before_its_trials() -> None:
    limited = spec(budget={"n_trials": 100, "max_parallel_trials": 4, "gpu_hours": 2.0})
    found = forecast(limited, assume(limited, (), trial_seconds=600.0), 4, n_repetitions=5)
    assert 8 <= found.n_trials.median <= 14
    assert found.endings == ("gpu-hours-spent",)


def test_only_what_is_left_is_foretold() -> None:
    first = ran(16)
    whole = spec(budget={"n_trials": 40, "gpu_hours": 10.0})
    left = remaining(whole, first.records)
    assert left.budget.n_trials == 24
    assert left.budget.gpu_hours == pytest.approx(10.0 - first.unit_seconds / 3600)
    with pytest.raises(SimulationError, match="All 16 trials of 'planned' are finished"):
        remaining(spec(16), first.records)
    with pytest.raises(SimulationError, match="gpu_hours of 'planned' is spent"):
        remaining(whole, first.records, gpu_hours=0.01)


def test_quality_is_that_of_a_model_of_earlier_results() -> None:
    first = ran(24)
    quality, explained = quality_of(spec(), StudyData(first.spec, first.records))
    assert explained > 0.9
    assert quality({"x": 0.3}) == pytest.approx(0.0, abs=0.02)
    assert quality({"x": 0.9}) == pytest.approx(0.36, abs=0.05)
    assumed = assume(spec(), first.records).with_quality(quality)
    few = forecast(spec(6, sampler={"type": "tpe"}), assumed, 4, n_repetitions=3)
    many = forecast(spec(30, sampler={"type": "tpe"}), assumed, 4, n_repetitions=3)
    assert few.best_value is not None
    assert many.best_value is not None
    assert many.best_value.median < few.best_value.median


def test_results_that_say_nothing_of_this_study_are_refused() -> None:
    first = ran(24)
    data = StudyData(first.spec, first.records)
    other = spec(search_space={"y": {"type": "float", "low": 0.0, "high": 1.0}})
    with pytest.raises(SimulationError, match="cannot stand for"):
        quality_of(other, data)
    with pytest.raises(SimulationError, match="a model needs 6 trials"):
        quality_of(spec(), StudyData(first.spec, first.records[:4]))

    def noise(_params: Params, seed: int) -> Training:
        return Training(final=float(seed % 1009), tail_seconds=1.0)

    noisy = simulate(spec(40), noise)
    with pytest.raises(SimulationError, match="too little to stand for the truth"):
        quality_of(spec(), StudyData(noisy.spec, noisy.records))


def test_a_study_without_a_number_of_trials_is_simulated_up_to_its_hours() -> None:
    first = ran(4)
    endless = spec(budget={"gpu_hours": 1.0, "max_parallel_trials": 4})
    left = remaining(endless, first.records)
    assert left.budget.n_trials is None
    assumed = assume(endless, first.records, trial_seconds=300.0)
    found = forecast(left, assumed, 4, n_repetitions=5)
    assert 0.7 < found.unit_hours.median < 1.2
    assert 6 < found.n_trials.median < 14
    assert found.endings == ()

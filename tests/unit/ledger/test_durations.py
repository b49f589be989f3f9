"""What trials are expected to take, by those that have ended."""

from __future__ import annotations

import math
import random

import pytest
from tests.unit.study.studies import make_spec

from studyflow.ledger.durations import Durations, Sample, assumed, learn, sample_of
from studyflow.trial import Cause
from studyflow.trial.cost import AttemptCost
from studyflow.trial.record import TrialRecord, TrialState

SPEC = make_spec(
    search_space={
        "size": {"type": "int", "low": 1, "high": 100, "log": True},
        "model": {"type": "categorical", "choices": ["cnn", "lstm"]},
        "depth": {"type": "int", "low": 1, "high": 4, "when": {"model": "cnn"}},
    }
)


def seconds(params: dict[str, object]) -> float:
    """Ten times as long with the largest size, and twice as long as an LSTM."""
    size = float(str(params["size"]))
    factor: float = 60.0 * math.sqrt(size)
    return factor * (1 + (params["model"] == "lstm"))


def samples(n: int, noise: float = 0.05, seed: int = 0) -> list[Sample]:
    rng = random.Random(seed)
    found: list[Sample] = []
    for _ in range(n):
        params: dict[str, object] = {
            "size": rng.randint(1, 100),
            "model": rng.choice(["cnn", "lstm"]),
        }
        if params["model"] == "cnn":
            params["depth"] = rng.randint(1, 4)
        found.append((params, seconds(params) * rng.lognormvariate(0, noise)))  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize(
    "params", [{"size": 1, "model": "cnn", "depth": 2}, {"size": 100, "model": "lstm"}]
)
def test_durations_follow_the_parameters(params: dict[str, object]) -> None:
    found = learn(SPEC, samples(40)).expected_seconds(params)  # type: ignore[arg-type]
    assert found == pytest.approx(seconds(params), rel=0.3)


def test_a_few_trials_that_hung_change_little() -> None:
    some = [
        (params, 1e6) if i % 10 == 0 else (params, s) for i, (params, s) in enumerate(samples(60))
    ]
    params: dict[str, object] = {"size": 10, "model": "cnn", "depth": 1}
    found = learn(SPEC, some).expected_seconds(params)  # type: ignore[arg-type]
    assert found == pytest.approx(seconds(params), rel=0.3)


def test_few_trials_give_their_median() -> None:
    some: list[Sample] = [({"size": 1, "model": "cnn"}, s) for s in (10.0, 30.0, 1000.0)]
    found = learn(SPEC, some)
    assert found.expected_seconds({"size": 100, "model": "lstm"}) == pytest.approx(30.0)
    assert (found.n_trials, found.slopes) == (3, ())


def test_the_same_trials_say_the_same() -> None:
    assert learn(SPEC, samples(30)) == learn(SPEC, samples(30))


@pytest.mark.parametrize("elapsed", [0.0, 10.0, 59.0, 60.0, 120.0, 6000.0])
def test_a_trial_that_is_over_its_time_is_one_of_the_long_ones(elapsed: float) -> None:
    known = Durations(math.log(60.0), spread=0.5, n_trials=10)
    left = known.remaining_seconds({}, elapsed)
    assert left > 0
    assert elapsed + left >= 60.0 - 1e-9


def test_an_assumption_runs_out() -> None:
    assert assumed(60.0).remaining_seconds({}, 20.0) == pytest.approx(40.0)
    assert assumed(60.0).remaining_seconds({}, 90.0) == 0.0


def finished(
    cause: Cause, *rows: AttemptCost, state: TrialState = TrialState.FAILED
) -> TrialRecord:
    return TrialRecord(0, state, {"x": 0.5}, cause=cause, costs=rows, attempt=len(rows))


@pytest.mark.parametrize(
    ("cause", "counts"),
    [
        (Cause.OK, True),
        (Cause.PRUNED, True),
        (Cause.CUDA_OOM, True),
        (Cause.TIMEOUT, True),
        (Cause.USER_ERROR, False),
        (Cause.CANCELLED, False),
        (Cause.BUDGET, False),
        (Cause.EVICTED, False),
    ],
)
def test_only_trials_that_nobody_cut_short_say_how_long_one_takes(
    cause: Cause, counts: bool
) -> None:
    assert (sample_of(finished(cause, AttemptCost(1, cause, 50.0))) is not None) is counts


def test_what_was_lost_is_no_part_of_a_trials_duration() -> None:
    lost = AttemptCost(1, Cause.EVICTED, 70.0, lost_seconds=20.0)
    found = sample_of(finished(Cause.OK, lost, AttemptCost(2, Cause.OK, 50.0)))
    assert found == ({"x": 0.5}, 100.0)

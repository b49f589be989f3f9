"""What a sampler keeps between suggestions makes them cheaper, and changes none."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from studyflow.samplers import refitting
from studyflow.samplers.deadline import NEVER
from studyflow.samplers.memory import Kept, Memory, content_key
from studyflow.samplers.models.gaussian_process import GaussianProcess, TrainingData
from studyflow.samplers.models.hyperparameters import Hyperparameters
from studyflow.samplers.refitting import later_numbers, n_learnt_from
from studyflow.samplers.strategy import OpenTrial, Strategy, Suggested

SPACE: Final[dict[str, BaseDistribution]] = {
    "kind": CategoricalDistribution(["a", "b", "c"]),
    "x": FloatDistribution(0.0, 1.0),
    "y": FloatDistribution(1e-3, 1.0, log=True),
}
NOON: Final = datetime(2026, 1, 1, 12)


def drawn(count: int, seed: int = 0) -> list[dict[str, Any]]:
    generator = np.random.default_rng(seed)
    return [
        {
            "kind": "abc"[generator.integers(3)],
            "x": float(generator.random()),
            "y": float(10 ** -generator.uniform(0, 3)),
        }
        for _ in range(count)
    ]


def study_of(n_finished: int, n_running: int = 0) -> list[FrozenTrial]:
    trials = []
    for number, params in enumerate(drawn(n_finished + n_running)):
        is_running = number >= n_finished
        trial = create_trial(
            params=params,
            distributions=SPACE,
            value=None if is_running else (params["x"] - 0.3) ** 2 + params["y"],
            state=TrialState.RUNNING if is_running else TrialState.COMPLETE,
        )
        trial.number = number
        trial.datetime_complete = None if is_running else NOON + timedelta(minutes=number)
        trials.append(trial)
    return trials


def suggest(trials: list[FrozenTrial], memory: Memory | None = None) -> Suggested:
    asked = OpenTrial(len(trials), SPACE, [StudyDirection.MINIMIZE], trials)
    return Strategy(seed=1).suggest(asked, NEVER, memory=memory)


def test_a_used_memory_gives_the_suggestion_of_a_new_one() -> None:
    memory = Memory()
    for n_finished, n_running in ((10, 0), (10, 2), (11, 1), (12, 3)):
        trials = study_of(n_finished, n_running)
        assert suggest(trials, memory) == suggest(trials)


def test_a_batch_of_suggestions_is_one_fit() -> None:
    memory = Memory()
    finished = study_of(12)
    suggest(finished, memory)
    once = memory.fits.n_computed
    for n_running in range(1, 4):
        suggest([*finished, *study_of(12, n_running)[12:]], memory)
    assert memory.fits.n_computed == once

    suggest(study_of(13), memory)
    assert memory.fits.n_computed == 2 * once


def test_a_long_study_is_fitted_once_for_many_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refitting, "ALWAYS_UP_TO", 40)
    memory = Memory()
    trials = study_of(60, 2)
    computed = []
    for n_finished in (50, 51, 52):  # learnt from 40 + 2 + 2 + ... = 50, 50 and 52 of them
        running = trials[60:]
        assert suggest([*trials[:n_finished], *running], memory) == suggest(
            [*trials[:n_finished], *running]
        )
        computed.append(memory.fits.n_computed)
    assert computed[0] == computed[1] < computed[2]


@pytest.mark.parametrize(
    ("n_finished", "n_learnt"),
    [(0, 0), (499, 499), (500, 500), (524, 500), (525, 525), (550, 525), (551, 551)],
)
def test_hyperparameters_are_learnt_from_all_results_up_to_500(
    n_finished: int, n_learnt: int
) -> None:
    assert n_learnt_from(n_finished) == n_learnt


def test_at_most_a_twentieth_of_the_results_is_not_learnt_from() -> None:
    assert all(n - n_learnt_from(n) <= n / 20 for n in range(10_000))


def test_the_results_that_came_last_are_not_learnt_from_yet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(refitting, "ALWAYS_UP_TO", 40)
    trials = study_of(43)
    trials[3].datetime_complete = NOON + timedelta(days=1)
    assert later_numbers(trials) == {3}
    assert later_numbers(trials[:40]) == frozenset()


def test_a_factor_that_grows_is_that_of_all_points() -> None:
    generator = np.random.default_rng(0)
    data = TrainingData(generator.random((20, 3)), generator.random(20), np.arange(3), np.ones(20))
    theta = Hyperparameters(np.full(3, 0.5), 1.0, 1e-3)
    factors: Kept[Any] = Kept(2)

    grown = GaussianProcess(data, theta, n_base=15, factors=factors)

    np.testing.assert_allclose(grown.factor, GaussianProcess(data, theta).factor, atol=1e-12)
    again = GaussianProcess(data, theta, n_base=15, factors=factors)
    np.testing.assert_array_equal(again.factor, grown.factor)
    assert factors.n_computed == 1


def test_what_was_used_longest_ago_is_dropped_first() -> None:
    kept: Kept[str] = Kept(2)
    for key in "abacab":
        assert kept.get(key, key.upper) == key.upper()
    assert kept.n_computed == 4  # a, b, c, and b again


def test_an_error_is_not_kept() -> None:
    kept: Kept[int] = Kept(2)
    with pytest.raises(ZeroDivisionError):
        kept.get("a", lambda: 1 // 0)
    assert kept.get("a", lambda: 1) == 1


def test_arrays_that_differ_in_a_bit_or_in_shape_have_different_keys() -> None:
    points = np.arange(6.0)
    keys = {
        content_key(points),
        content_key(np.nextafter(points, 7.0)),
        content_key(points.reshape(2, 3)),
        content_key(points, "ard"),
    }
    assert len(keys) == 4
    assert content_key(points.copy()) in keys

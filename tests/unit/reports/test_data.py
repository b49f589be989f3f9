"""What a report is made from: counts, groups and times of a study's trials."""

from __future__ import annotations

import math
from typing import Any

import pytest
from tests.unit.study.studies import make_spec

from studyflow.reports.data import FailureGroup, StudyData, failed_by_parameters
from studyflow.trial import Cause
from studyflow.trial.record import TrialRecord, TrialState

TWO = [
    {"metric": "loss", "direction": "minimize"},
    {"metric": "acc", "direction": "maximize"},
]


def trial(
    number: int, state: TrialState = TrialState.COMPLETE, *values: float, **known: Any
) -> TrialRecord:
    known.setdefault("cause", Cause.OK if state is TrialState.COMPLETE else None)
    return TrialRecord(number, state, known.pop("params", {"x": 0.5}), values or None, **known)


def data(*records: TrialRecord, **changes: Any) -> StudyData:
    return StudyData(make_spec(**changes), records)


def numbers(records: tuple[TrialRecord, ...]) -> list[int]:
    return [record.number for record in records]


COMPLETE, FAILED, PRUNED = TrialState.COMPLETE, TrialState.FAILED, TrialState.PRUNED
RUNNING, WAITING = TrialState.RUNNING, TrialState.WAITING


def test_trials_come_by_number_whatever_their_order() -> None:
    study = data(trial(2, RUNNING), trial(0, COMPLETE, 1.0), trial(1, WAITING))
    assert numbers(study.trials) == [0, 1, 2]
    assert numbers(study.finished) == [0]


@pytest.mark.parametrize(
    ("objectives", "values", "is_complete"),
    [
        (TWO[:1], (1.0,), True),
        (TWO[:1], (), False),
        (TWO[:1], (math.nan,), False),
        (TWO[:1], (-math.inf,), False),
        (TWO[:1], (1.0, 2.0), False),
        (TWO, (1.0, 2.0), True),
        (TWO, (1.0,), False),
        (TWO, (1.0, math.inf), False),
    ],
)
def test_a_complete_trial_has_one_finite_value_for_each_objective(
    objectives: list[dict[str, str]], values: tuple[float, ...], is_complete: bool
) -> None:
    study = data(trial(0, COMPLETE, *values), objectives=objectives)
    assert bool(study.complete) is is_complete
    assert study.is_multi_objective is (len(objectives) > 1)
    assert study.metrics == tuple(objective["metric"] for objective in objectives)


def test_the_best_is_feasible_and_of_several_objectives_a_front() -> None:
    one = data(
        trial(0, COMPLETE, 0.1, constraints={"ms <= 5": 1.0}),
        trial(1, COMPLETE, 0.3),
        trial(2, COMPLETE, 0.2),
    )
    assert numbers(one.best) == list(one.best_numbers) == [2]

    several = data(
        trial(0, COMPLETE, 0.1, 0.5),
        trial(1, COMPLETE, 0.3, 0.9),
        trial(2, COMPLETE, 0.3, 0.4),
        objectives=TWO,
    )
    assert numbers(several.best) == [0, 1]
    assert data().best == ()


def test_states_and_causes_are_counted_in_their_own_order() -> None:
    study = data(
        trial(0, FAILED, cause=Cause.NAN),
        trial(1, COMPLETE, 1.0),
        trial(2, FAILED, cause=Cause.NAN),
        trial(3, RUNNING),
    )
    assert list(study.states.items()) == [
        (state, {RUNNING: 1, COMPLETE: 1, FAILED: 2}[state])
        for state in TrialState
        if state in (RUNNING, COMPLETE, FAILED)
    ]
    assert study.causes == {Cause.OK: 1, Cause.NAN: 2}


def test_failures_are_grouped_by_cause_and_message_the_most_frequent_first() -> None:
    study = data(
        trial(0, FAILED, cause=Cause.USER_ERROR, message="ValueError: a"),
        trial(1, FAILED, cause=Cause.NAN, message="diverged"),
        trial(2, FAILED, cause=Cause.USER_ERROR, message="ValueError: b"),
        trial(3, FAILED, cause=Cause.USER_ERROR, message="ValueError: b"),
        trial(4, FAILED, message="nobody knows", hint="ask."),
        trial(5, COMPLETE, 1.0, message="fine"),
    )
    assert study.failures == (
        FailureGroup("user-error", (("ValueError: b", (2, 3)), ("ValueError: a", (0,)))),
        FailureGroup("nan", (("diverged", (1,)),)),
        FailureGroup("unknown", (("nobody knows Hint: ask.", (4,)),)),
    )
    assert [group.count for group in study.failures] == [3, 1, 1]


def test_counted_trials_come_in_the_order_of_their_ends() -> None:
    study = data(
        trial(0, COMPLETE, 1.0, finished_at=30.0),
        trial(1, FAILED, cause=Cause.CANCELLED, finished_at=5.0),
        trial(2, PRUNED, cause=Cause.PRUNED, finished_at=20.0),
        trial(3, COMPLETE, 1.0, finished_at=20.0),
        trial(4, RUNNING),
    )
    assert numbers(study.counted) == [2, 3, 0]


def test_a_study_lasts_from_the_first_start_to_the_last_end() -> None:
    study = data(
        trial(0, COMPLETE, 1.0, started_at=100.0, finished_at=160.0),
        trial(1, COMPLETE, 1.0, started_at=130.0, finished_at=200.0),
        trial(2, RUNNING, started_at=150.0),
    )
    assert (study.started_at, study.finished_at, study.duration_seconds) == (100.0, 200.0, 100.0)
    assert study.busy_seconds == 130.0
    assert study.peak_parallel_trials == 2


@pytest.mark.parametrize(
    ("times", "peak"),
    [
        ([], 0),
        ([(0, 10)], 1),
        ([(0, 10), (10, 20)], 1),
        ([(0, 10), (9, 20)], 2),
        ([(0, 30), (5, 10), (10, 20), (15, 18)], 3),
    ],
)
def test_trials_that_follow_each_other_were_not_under_way_together(
    times: list[tuple[float, float]], peak: int
) -> None:
    study = data(
        *(
            trial(n, COMPLETE, 1.0, started_at=float(start), finished_at=float(end))
            for n, (start, end) in enumerate(times)
        )
    )
    assert study.peak_parallel_trials == peak


def test_without_times_there_is_no_duration_and_clocks_never_make_it_negative() -> None:
    assert data(trial(0, RUNNING)).duration_seconds is None
    skewed = data(
        trial(0, COMPLETE, 1.0, finished_at=90.0),
        trial(1, RUNNING, started_at=100.0),
    )
    assert skewed.duration_seconds == 0.0


def test_points_that_a_person_gave_are_known_by_their_values_each_once() -> None:
    study = data(
        trial(0, COMPLETE, 1.0, params={"x": 0.25}),
        trial(1, COMPLETE, 1.0, params={"x": 0.25}),
        trial(2, COMPLETE, 1.0, params={"x": 0.9}, is_enqueued=True),
        trial(3, COMPLETE, 1.0, params={"x": 0.4}),
        enqueue=[{"x": 0.25}, {"x": 0.75}, {}],
    )
    assert study.enqueued == {0, 2}


def test_parameters_are_those_of_today_s_space_and_all_others_follow() -> None:
    study = data(fixed={"depth": 3})
    old = trial(0, COMPLETE, 1.0, params={"gone": 1, "x": 0.5})
    outside = trial(1, COMPLETE, 1.0, params={"x": 7.0})

    assert study.searched(old) == {"x": 0.5}
    assert study.searched(outside) == {}
    assert list(study.params(old).items()) == [("x", 0.5), ("gone", 1), ("depth", 3)]


def test_a_value_is_one_of_a_trial_that_has_values() -> None:
    study = data(objectives=TWO)
    assert study.value(trial(0, COMPLETE, 0.1, 0.9), 1) == 0.9
    with pytest.raises(ValueError, match=r"Trial 3 has no values: it is pruned\."):
        study.value(trial(3, PRUNED), 0)


@pytest.mark.parametrize(
    ("state", "cause", "is_by_parameters"),
    [
        (FAILED, Cause.CUDA_OOM, True),
        (FAILED, Cause.TIMEOUT, True),
        (FAILED, Cause.USER_ERROR, False),
        (FAILED, Cause.LOST, False),
        (FAILED, None, False),
        (RUNNING, Cause.CUDA_OOM, False),
    ],
)
def test_a_trial_fails_by_its_parameters_where_they_are_infeasible(
    state: TrialState, cause: Cause | None, is_by_parameters: bool
) -> None:
    assert failed_by_parameters(trial(0, state, cause=cause)) is is_by_parameters

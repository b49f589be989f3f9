"""Sums over the ledger, and the rows that earlier versions left to be derived."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studyflow.ledger import all_rows, restart_seconds, rows_of, spending
from studyflow.trial import Cause
from studyflow.trial.cost import AttemptCost
from studyflow.trial.cost_form import attribute_of, costs_in
from studyflow.trial.record import LostAttempt, TrialRecord, TrialState

SECONDS = st.floats(0, 1e6)


@st.composite
def rows(draw: st.DrawFn) -> AttemptCost:
    seconds = draw(SECONDS)
    return AttemptCost(
        draw(st.integers(1, 9)),
        draw(st.sampled_from(Cause)),
        seconds,
        draw(st.integers(0, 8)),
        draw(st.sampled_from([None, "nvidia.com/gpu"])),
        draw(st.none() | st.floats(0, 100)),
        draw(st.none() | st.floats(0, 1).map(lambda share: share * seconds)),
        draw(st.floats(0, 1)) * seconds,
        draw(st.sampled_from([None, "n1", "n2"])),
        draw(st.sampled_from([None, "here"])),
        draw(st.none() | SECONDS),
        draw(st.booleans()),
    )


@given(st.lists(rows(), max_size=20), st.randoms())
def test_sums_are_the_same_in_any_order_and_their_parts_add_up(
    some: list[AttemptCost], random: object
) -> None:
    total = spending(some)
    shuffled = list(some)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert spending(shuffled) == total
    assert math.isclose(math.fsum(total.by_cause.values()), total.unit_seconds)
    assert math.fsum(total.by_node.values()) <= total.unit_seconds * (1 + 1e-9)
    assert total.lost_seconds <= total.unit_seconds * (1 + 1e-9)
    assert total.startup_seconds <= total.unit_seconds * (1 + 1e-9)
    assert list(total.by_node.values()) == sorted(total.by_node.values(), reverse=True)


@given(st.lists(rows(), max_size=10), st.lists(rows(), max_size=10))
def test_two_halves_make_the_whole(a: list[AttemptCost], b: list[AttemptCost]) -> None:
    whole, first, second = spending(a + b), spending(a), spending(b)
    assert whole.n_attempts == first.n_attempts + second.n_attempts
    assert math.isclose(whole.unit_seconds, first.unit_seconds + second.unit_seconds)
    assert math.isclose(whole.money, first.money + second.money)


@given(rows())
def test_a_row_comes_back_from_the_storage_as_it_was_written(row: AttemptCost) -> None:
    assert costs_in({"cause": "ok", **attribute_of(row)}) == (row,)


@pytest.mark.parametrize(
    "damaged", [None, 7, {}, {"attempt": 1}, {"attempt": 1, "cause": "new"}, {"seconds": "x"}]
)
def test_a_damaged_row_is_left_out(damaged: object) -> None:
    assert costs_in({"cost:1": damaged}) == ()


def test_a_row_of_a_later_version_is_read_as_far_as_it_is_known() -> None:
    document = {"attempt": 1, "cause": "ok", "seconds": 5.0, "energy": 3}
    assert costs_in({"cost:1": document}) == (AttemptCost(1, Cause.OK, 5.0),)


def test_the_restart_cost_is_the_median_time_until_the_first_report() -> None:
    some = [AttemptCost(1, Cause.OK, 100, startup_seconds=s) for s in (10, 90, 20, None)]
    assert restart_seconds(some) == 20
    assert restart_seconds([]) is None


LOST = LostAttempt(1, Cause.NODE_LOST, trained_seconds=40.0, node="n1", ended_at=9.0)


def old(**changes: object) -> TrialRecord:
    record = TrialRecord(
        3,
        TrialState.COMPLETE,
        {"x": 0.5},
        values=(1.0,),
        cause=Cause.OK,
        attempt=2,
        lost_attempts=(LOST,),
        started_at=0.0,
        finished_at=100.0,
        trained_seconds=30.0,
    )
    return TrialRecord(**{**{n: getattr(record, n) for n in record.__slots__}, **changes})


def test_a_trial_of_an_earlier_version_gets_rows_that_say_they_are_estimates() -> None:
    first, second = rows_of(old(), gpus=2)
    assert (first.attempt, first.unit_seconds, first.lost_seconds) == (1, 80.0, 40.0)
    assert (second.attempt, second.unit_seconds, second.lost_seconds) == (2, 60.0, 0.0)
    assert first.is_estimate
    assert second.is_estimate


def test_rows_that_are_there_come_before_what_could_be_derived() -> None:
    known = AttemptCost(2, Cause.OK, 31.0, 1)
    assert [row.seconds for row in rows_of(old(costs=(known,)))] == [40.0, 31.0]


def test_a_trial_that_was_taken_over_cost_this_study_nothing() -> None:
    assert all_rows([old(is_taken_over=True)]) == ()


def test_a_running_trial_has_the_rows_of_its_ended_attempts() -> None:
    running = old(state=TrialState.RUNNING, values=None, cause=None, finished_at=None)
    assert [row.attempt for row in rows_of(running)] == [1]

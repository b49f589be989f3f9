"""Which nodes a study keeps away from: every rule is a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from tests.unit.study.studies import make_spec, open_study, record

from studyflow.study import Verdict, judge_nodes, nodes_to_avoid, stop_reason
from studyflow.study.nodes import INCIDENT_SECONDS
from studyflow.trial import Cause
from studyflow.trial.record import LostAttempt, TrialRecord, TrialState

SPEC = make_spec(budget={"n_trials": 50}, stop={"alike_failures": 3})


def lost(number: int, *attempts: LostAttempt) -> TrialRecord:
    running = record(number, state=TrialState.RUNNING, cause=None)
    return replace(running, cause=None, lost_attempts=attempts)


def fault(
    node: str | None = "n1", attempt: int = 1, cause: Cause = Cause.NODE_FAULT
) -> LostAttempt:
    return LostAttempt(attempt, cause, node=node)


def gone(ended_at: float, node: str = "n1") -> LostAttempt:
    return LostAttempt(1, Cause.NODE_LOST, node=node, ended_at=ended_at)


def on(node: str | None, *records: TrialRecord) -> list[TrialRecord]:
    return [replace(r, node=node) for r in records]


def broken(number: int, message: str = "no such file") -> TrialRecord:
    return record(number, message=message)


def barred(
    records: Sequence[TrialRecord],
    resets: Mapping[str, int] | None = None,
    nodes_in_use: Sequence[str] = (),
) -> list[str]:
    found = judge_nodes(SPEC, records, resets or {}, nodes_in_use)
    return [known.node for known in found if known.is_barred]


@pytest.mark.fault("F12")
@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([], []),
        ([lost(0, fault())], []),
        ([lost(0, fault()), lost(1, fault())], ["n1"]),
        ([lost(0, fault(), fault(attempt=2))], ["n1"]),
        ([lost(0, fault("n1")), lost(1, fault("n2"))], []),
        ([lost(0, fault(cause=Cause.EVICTED)), lost(1, fault(cause=Cause.PREEMPTED))], []),
        ([lost(0, fault(None)), lost(1, fault(None))], []),
        ([lost(0, gone(100.0)), lost(1, fault())], ["n1"]),
    ],
)
def test_a_node_is_barred_after_two_failures_of_its_own(
    records: list[TrialRecord], expected: list[str]
) -> None:
    assert barred(records) == expected


@pytest.mark.fault("F12")
def test_a_node_that_takes_all_its_trials_with_it_has_failed_once() -> None:
    at_once = [lost(n, gone(1000.0 + n)) for n in range(8)]
    again = lost(9, gone(1000.0 + INCIDENT_SECONDS))

    assert barred(at_once) == []
    assert barred([*at_once, again]) == ["n1"]


@pytest.mark.fault("F12")
def test_a_trial_avoids_the_node_that_it_failed_by_and_others_do_not_yet() -> None:
    first, second = lost(0, fault("n1")), lost(1)
    nodes = judge_nodes(SPEC, [first, second], {})

    assert nodes_to_avoid(first, nodes) == ("n1",)
    assert nodes_to_avoid(second, nodes) == ()
    both = judge_nodes(SPEC, [first, lost(2, fault("n1"))], {})
    assert nodes_to_avoid(second, both) == ("n1",)
    assert "node n1 any more: 2 attempts failed by it" in both[0].message
    assert both[0].message.endswith("Hint: kubectl describe node n1")


@pytest.mark.fault("F12")
def test_failures_that_were_reset_count_no_longer_and_new_ones_do() -> None:
    two = [lost(0, fault()), lost(1, fault())]
    nodes = judge_nodes(SPEC, two, {"n1": 2})
    assert barred(two, {"n1": 2}) == []
    assert nodes_to_avoid(two[0], nodes) == ()
    assert barred([*two, lost(2, fault())], {"n1": 2}) == []
    assert barred([*two, lost(2, fault()), lost(3, fault())], {"n1": 2}) == ["n1"]


FINE = on("n2", record(0, 0.5))
THREE = on("n1", broken(1), broken(2), broken(3))


@pytest.mark.fault("F12")
@pytest.mark.parametrize(
    ("records", "in_use", "expected"),
    [
        ([*FINE, *THREE], (), ["n1"]),
        ([*FINE, *THREE[:2]], (), []),
        # Nothing shows that it would be better elsewhere.
        (THREE, (), []),
        (THREE, ("n1",), []),
        (THREE, ("n1", "n2"), ["n1"]),
        # It fails elsewhere too, here or on a machine that nobody knows.
        ([*FINE, *on("n2", broken(4)), *THREE], (), []),
        ([*FINE, *on(None, broken(4)), *THREE], (), []),
        # Something worked there since.
        ([*FINE, *THREE, *on("n1", record(4, 0.5))], (), []),
        ([*FINE, *THREE[:2], *on("n1", record(3, 0.5)), *on("n1", broken(4))], (), []),
        # Not alike.
        ([*FINE, *THREE[:2], *on("n1", broken(3, "another thing"))], (), []),
        # What the parameters are to blame for says nothing of a node.
        ([*FINE, *on("n1", *(record(n, cause=Cause.CUDA_OOM) for n in range(1, 6)))], (), []),
    ],
)
def test_failures_that_are_tied_to_one_node_bar_it(
    records: list[TrialRecord], in_use: tuple[str, ...], expected: list[str]
) -> None:
    assert barred(records, nodes_in_use=in_use) == expected


@pytest.mark.fault("F12")
def test_failures_that_are_tied_to_a_barred_node_do_not_stop_the_study() -> None:
    records = [*FINE, *THREE]

    assert stop_reason(SPEC, records, barred_nodes={"n1"}) is None
    stopped = stop_reason(SPEC, records)
    assert stopped is not None
    assert stopped.is_failure
    elsewhere = [*THREE[:2], *on("n2", broken(3))]
    assert stop_reason(SPEC, elsewhere, barred_nodes={"n1"}) is not None
    assert stop_reason(SPEC, on(None, *THREE), barred_nodes={"n1"}) is not None


@pytest.mark.fault("F12")
def test_what_nodes_did_is_kept_for_the_next_runner() -> None:
    study = open_study(SPEC)
    study.ask()
    study.begin_attempt(0, 1)
    refused = Verdict(Cause.NODE_FAULT, None, "no healthy devices")
    study.end_attempt(0, 1, refused, None, "n1", 12.5)
    study.begin_attempt(0, 2)
    study.tell(0, Verdict(Cause.OK, TrialState.COMPLETE, values=(1.0,)), {}, 3.0, "n2")
    study.reset_node_failures({"n1": 2})
    study.reset_node_failures({"n1": 1, "n3": 1})

    found = study.record(0)
    told = "no healthy devices"
    assert found.lost_attempts == (
        LostAttempt(1, Cause.NODE_FAULT, told, node="n1", ended_at=12.5),
    )
    assert found.node == "n2"
    assert study.notices().resets == {"n1": 2, "n3": 1}


def test_attempts_of_an_older_or_a_later_version_are_read_as_far_as_they_go() -> None:
    study = open_study(SPEC)
    asked = study.optuna_study.ask()
    positional = [3, "a-later-cause", "x", 1.0, "n1", 2.0, "more"]
    asked.set_user_attr(
        "attempts",
        [[1, "evicted", "gone"], [2, "lost", "gone", None], positional, [4, "quota", ""]],
    )
    by_key = {"attempt": 4, "cause": "quota", "hint": "raise it.", "later": "more"}
    asked.set_user_attr("lost_attempts", [by_key])

    assert study.record(0).lost_attempts == (
        LostAttempt(1, Cause.EVICTED, "gone"),
        LostAttempt(2, Cause.LOST, "gone"),
        LostAttempt(3, Cause.LOST, "x", trained_seconds=1.0, node="n1", ended_at=2.0),
        LostAttempt(4, Cause.QUOTA, hint="raise it."),
    )

"""Rules kept up to date trial by trial, against the same rules for all trials at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.study.studies import make_spec

from studyflow.spec import StudySpec
from studyflow.study import failure_signature, is_counted, judge_nodes
from studyflow.study.budget import by_end
from studyflow.study.ending import numbers_text
from studyflow.study.front import Front
from studyflow.study.nodes import NodeFailures
from studyflow.study.stop_rules import StopRules
from studyflow.trial import Cause, Consequence
from studyflow.trial.record import LostAttempt, TrialRecord, TrialState, best_records

TWO_OBJECTIVES: dict[str, Any] = {
    "objectives": [
        {"metric": "loss", "direction": "minimize"},
        {"metric": "accuracy", "direction": "maximize"},
    ]
}
VALUES = st.sampled_from([0.0, 0.5, 1.0, 2.0])
NODES = st.sampled_from([None, "n1", "n2"])


@st.composite
def ended(draw: st.DrawFn, number: int, n_objectives: int) -> TrialRecord:
    cause = draw(st.sampled_from([Cause.OK, Cause.OK, Cause.USER_ERROR, Cause.CANCELLED]))
    is_ok = cause is Cause.OK
    lost = tuple(
        LostAttempt(attempt, Cause.NODE_LOST, "", node=draw(NODES), ended_at=draw(VALUES))
        for attempt in range(1, draw(st.integers(1, 3)))
    )
    return TrialRecord(
        number,
        TrialState.COMPLETE if is_ok else TrialState.FAILED,
        {},
        values=tuple(draw(VALUES) for _ in range(n_objectives)) if is_ok else None,
        constraints={"size <= 1": draw(st.sampled_from([-1.0, 1.0]))},
        cause=cause,
        message=draw(st.sampled_from(["it broke", "it burst"])),
        node=draw(NODES),
        lost_attempts=lost,
        finished_at=draw(VALUES),
        is_taken_over=draw(st.integers(0, 5)) == 0,
    )


@st.composite
def histories(draw: st.DrawFn) -> tuple[StudySpec, list[TrialRecord], list[TrialRecord]]:
    """Return a study, its trials by number, and the same in the order in which they are seen."""
    n_objectives = draw(st.sampled_from([1, 2]))
    stop: dict[str, Any] = {
        "alike_failures": draw(st.integers(2, 3)),
        "no_improvement_trials": draw(st.sampled_from([None, 2, 4])),
    }
    if n_objectives == 1:
        stop["target"] = draw(st.sampled_from([None, 0.0, 0.5]))
    spec = make_spec(stop=stop, **(TWO_OBJECTIVES if n_objectives == 2 else {}))
    n = draw(st.integers(0, 15))
    records = [draw(ended(number, n_objectives)) for number in range(n)]
    return spec, records, draw(st.permutations(records))


def costs(spec: StudySpec, record: TrialRecord) -> tuple[float, ...]:
    assert record.values is not None
    signs = [1.0 if direction == "minimize" else -1.0 for direction in spec.directions]
    return tuple(s * v for s, v in zip(signs, record.values, strict=True))


def words_of_the_rules(
    spec: StudySpec, records: Sequence[TrialRecord], before: frozenset[int]
) -> str | None:
    """Return the beginning of what the stop rules say, by going through everything."""
    finished = sorted(filter(is_counted, records), key=by_end)
    target, patience = spec.stop.target, spec.stop.no_improvement_trials
    for record in finished:
        if target is not None and record.is_feasible and costs(spec, record)[0] <= target:
            return f"Target {target:g} reached: trial {record.number} has"
    if patience is not None:
        known: list[tuple[float, ...]] = []
        last = 0
        for position, record in enumerate(finished, start=1):
            if not record.is_feasible:
                continue
            cost = costs(spec, record)
            if not any(all(a <= b for a, b in zip(o, cost, strict=True)) for o in known):
                known.append(cost)
                last = position
        if known and len(finished) - last >= patience:
            return f"No improvement in the last {patience} finished trials."
    counted = [r for r in finished if r.number not in before]
    latest = counted[-spec.stop.alike_failures :]
    is_alike = (
        len(latest) == spec.stop.alike_failures
        and all(r.cause is Cause.USER_ERROR for r in latest)
        and len({failure_signature(r) for r in latest}) == 1
    )
    if is_alike:
        tail = [r.number for r in takewhile(lambda r: _is_like(r, latest[-1]), reversed(counted))]
        return f"Trials {numbers_text(tail)} failed alike"
    n, n_recent = 6 * spec.stop.alike_failures, 2 * spec.stop.alike_failures
    for message in ("it broke", "it burst"):
        alike = [r.cause is Cause.USER_ERROR and r.message == message for r in counted[-n:]]
        if len(alike) == n and 2 * sum(alike) >= n and 2 * sum(alike[-n_recent:]) >= n_recent:
            which = numbers_text(r.number for r, a in zip(counted[-n:], alike, strict=True) if a)
            return f"{sum(alike)} of the last {n} trials ({which}) failed alike (user-error): "
    return None


def _is_like(record: TrialRecord, last: TrialRecord) -> bool:
    is_failed = record.cause is Cause.USER_ERROR
    return is_failed and failure_signature(record) == failure_signature(last)


@given(histories(), st.integers(0, 12))
def test_the_stop_rules_say_the_same_in_whichever_order_ends_are_seen(
    history: tuple[StudySpec, list[TrialRecord], list[TrialRecord]], n_before: int
) -> None:
    spec, records, seen = history
    before = frozenset(r.number for r in records[:n_before] if is_counted(r))
    rules = StopRules(spec)
    for record in filter(is_counted, seen):
        rules.add(record)

    expected, found = words_of_the_rules(spec, records, before), rules.reason(before)
    assert (found is None) == (expected is None)
    assert found is None or found.message.startswith(expected or "")


@given(histories())
def test_the_front_is_that_of_all_trials_whatever_their_order(
    history: tuple[StudySpec, list[TrialRecord], list[TrialRecord]],
) -> None:
    spec, records, seen = history
    front = Front(spec.directions)
    for record in seen:
        front.add(record)
    assert front.records == best_records(records, spec.directions)
    assert bool(front) == bool(front.records)


def tied_failures(
    spec: StudySpec, records: Sequence[TrialRecord], in_use: frozenset[str]
) -> dict[str, int]:
    """Return how many of its latest trials failed alike by each node that is to blame."""
    finished = sorted(filter(is_counted, records), key=by_end)

    def has_failed(record: TrialRecord) -> bool:
        return record.cause is not None and record.cause.consequence is Consequence.FAIL

    working = {r.node for r in finished if not has_failed(r) and r.node is not None} | in_use
    found = {}
    for node in {r.node for r in finished if r.node is not None}:
        streak: list[TrialRecord] = []
        for record in reversed([r for r in finished if r.node == node]):
            alike = not streak or failure_signature(record) == failure_signature(streak[0])
            if not has_failed(record) or not alike:
                break
            streak.append(record)
        elsewhere = {
            r.node
            for r in finished
            if streak and has_failed(r) and failure_signature(r) == failure_signature(streak[0])
        }
        is_tied = len(streak) >= max(spec.stop.alike_failures, 2) and elsewhere == {node}
        if is_tied and working - {node}:
            found[node] = len(streak)
    return found


@given(histories(), st.frozensets(st.sampled_from(["n1", "n2", "n3"])))
def test_nodes_are_judged_the_same_in_whichever_order_ends_are_seen(
    history: tuple[StudySpec, list[TrialRecord], list[TrialRecord]], in_use: frozenset[str]
) -> None:
    spec, records, seen = history
    known = NodeFailures(spec)
    for record in seen:
        for lost in record.lost_attempts:
            known.add_lost(record.number, lost)
        if is_counted(record):
            known.add_finished(record)

    judged = known.judge({}, in_use)
    at_once = judge_nodes(spec, records, {}, in_use)
    assert [(n.node, n.n_failures, n.is_barred) for n in judged] == [
        (n.node, n.n_failures, n.is_barred) for n in at_once
    ]
    finished = [replace(record, lost_attempts=()) for record in records]
    without_losses = judge_nodes(spec, finished, {}, in_use)
    assert {n.node: n.n_failures for n in without_losses} == tied_failures(spec, records, in_use)

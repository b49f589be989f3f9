"""Trials in Optuna's storage and back: attempts one after the other, and what is not ours."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState
from tests.unit.study.studies import make_spec, open_study

from studyflow.reasons import Code
from studyflow.study import find_study, load_records, lost_form
from studyflow.study import storage_form as form
from studyflow.study.lost_form import followed_attempts, with_followed
from studyflow.trial import Cause
from studyflow.trial.record import LostAttempt, TrialState

RUNNING, COMPLETE = OptunaState.RUNNING, OptunaState.COMPLETE
PRUNED, FAIL = OptunaState.PRUNED, OptunaState.FAIL
KEYS: Final = ("attempt", "cause", "hidden", "constraints")
BOUND: Final = f"{form.CONSTRAINT}size <= 1"


def trial(
    state: OptunaState = RUNNING,
    user: dict[str, Any] | None = None,
    *,
    reported: dict[int, float] | None = None,
    system: dict[str, Any] | None = None,
) -> FrozenTrial:
    """Return a trial as a storage gives it."""
    return optuna.trial.create_trial(
        state=state,
        params={"x": 0.25},
        distributions={"x": FloatDistribution(0.0, 1.0)},
        value=0.5 if state is COMPLETE else None,
        intermediate_values=reported or {},
        user_attrs=user or {},
        system_attrs=system or {},
    )


# ---- what is stored as a record ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "shown", "cause", "values"),
    [
        (OptunaState.WAITING, TrialState.WAITING, None, None),
        (RUNNING, TrialState.RUNNING, None, None),
        (COMPLETE, TrialState.COMPLETE, Cause.OK, (0.5,)),
        (PRUNED, TrialState.PRUNED, Cause.PRUNED, None),
        (FAIL, TrialState.FAILED, None, None),
    ],
)
def test_a_trial_that_says_nothing_of_its_end_is_read_by_its_state(
    state: OptunaState, shown: TrialState, cause: Cause | None, values: tuple[float, ...] | None
) -> None:
    record = form.to_record(trial(state))

    assert (record.state, record.cause, record.values) == (shown, cause, values)
    assert (record.attempt, record.message, record.code) == (0, "", None)
    assert record.leftovers == ()


def test_fixed_parameters_stand_beside_the_searched_ones() -> None:
    assert form.to_record(trial(), {"seed": 3}).params == {"x": 0.25, "seed": 3}


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        ("cuda-oom", Cause.CUDA_OOM),
        ("disk-full", Code.DISK_FULL),
        ("a code of next year", None),
        (None, None),
        (7, None),
    ],
)
def test_a_code_is_read_and_an_unknown_one_is_none(stored: Any, read: object) -> None:
    assert form.to_record(trial(FAIL, {form.CODE: stored})).code == read


@pytest.mark.parametrize(
    ("pieces", "shown"),
    [
        ([], None),
        (['{"level": "model"}'], {"level": "model"}),
        (['{"level"', ': "mo', 'del"}'], {"level": "model"}),
        (['{"level": '], None),
        (["[1, 2]"], None),
        (["no JSON"], None),
    ],
)
def test_a_suggestion_is_put_together_from_its_pieces(
    pieces: list[str], shown: dict[str, Any] | None
) -> None:
    system = {f"{form.SUGGESTION}:{i}": piece for i, piece in enumerate(pieces)}

    assert form.to_record(trial(system=system)).suggestion == shown


def test_pieces_behind_one_that_is_missing_are_not_read() -> None:
    system = {f"{form.SUGGESTION}:0": "{}", f"{form.SUGGESTION}:2": "rubbish"}

    assert form.to_record(trial(system=system)).suggestion == {}


# ---- attributes of other people -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (form.ATTEMPT, "first"),
        (form.ATTEMPT, None),
        (form.ATTEMPT, 2.5),
        (form.ATTEMPT, True),
        (form.ATTEMPT, [1]),
        (form.CURVE, [0.3, 0.2]),
        (form.CURVE, "steep"),
        (form.CURVE, {"hidden": 3}),
        (form.CURVE, {"rungs": "abc"}),
        (lost_form.ATTEMPTS, 3),
        (lost_form.ATTEMPTS, "ab"),
        (lost_form.ATTEMPTS, [3, "x", None]),
        (lost_form.ATTEMPTS, [[], [[1], "lost"], ["1", "lost"], [1]]),
        (lost_form.ATTEMPTS, {"a": 1}),
        (form.METRICS, "accuracy"),
        (form.METRICS, [0.5]),
        (form.METRICS, {"quality": "high", "f1": None, "loss": [0.5]}),
        (form.HINT, 3),
        (form.NODE, {"name": "a"}),
        (form.SECONDS, "12"),
        (form.HOLDER, ["here"]),
        (form.RUN_ID, 12),
        (form.END, "2026-12-01"),
        (form.END, {"attempt": 1, "cause": "nan"}),
        (form.END, {"attempt": 0, "constraints": "none"}),
        (form.END, [1]),
        (form.CODE, {}),
    ],
)
def test_an_attribute_of_somebody_else_that_has_a_name_of_ours_is_read_as_none(
    name: str, value: Any
) -> None:
    plain = form.to_record(trial(COMPLETE, reported={1: 0.5}))
    other = form.to_record(trial(COMPLETE, {name: value}, reported={1: 0.5}))

    when: dict[str, Any] = {"started_at": None, "finished_at": None}
    assert replace(other, leftovers=(), **when) == replace(plain, **when)


def test_a_plain_study_with_attributes_of_such_names_is_read_and_copied() -> None:
    storage = optuna.storages.InMemoryStorage()
    plain = optuna.create_study(storage=storage, study_name="plain")
    for attrs in ({"curve": [0.9, 0.5]}, {"attempt": "second", "attempts": 2}, {"metrics": "f1"}):
        asked = plain.ask({"x": FloatDistribution(0.0, 1.0)})
        for name, value in attrs.items():
            asked.set_user_attr(name, value)
        plain.tell(asked, 0.5)

    spec, records = load_records(find_study("plain", storage))
    copy = open_study(make_spec(name="copy"), storage, fork_from="plain")

    assert spec is None
    assert [(r.state, r.values, r.attempt) for r in records] == [
        (TrialState.COMPLETE, (0.5,), 0)
    ] * 3
    assert [r.is_taken_over for r in copy.records()] == [True] * 3


@pytest.mark.parametrize("cause", [7, {}, ["nan"], "slow"])
def test_a_cause_of_somebody_else_is_no_cause(cause: Any) -> None:
    assert form.to_record(trial(FAIL, {form.CAUSE: cause})).cause is None


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(
            [
                *(form.END, form.CURVE, form.CAUSE, form.MESSAGE, form.HINT, form.CODE),
                *(form.ATTEMPT, lost_form.ATTEMPTS, lost_form.LOST, form.HOLDER, form.METRICS),
                *(form.SECONDS, form.NODE, form.RUN_ID, form.TAKEN_OVER),
            ]
        ),
        st.recursive(
            st.none() | st.booleans() | st.integers(-1, 9) | st.text(max_size=4),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner)
            ),
            max_leaves=6,
        ),
    ),
    st.sampled_from([RUNNING, COMPLETE, FAIL]),
)
def test_no_attributes_at_all_are_too_much(attrs: dict[str, Any], state: OptunaState) -> None:
    frozen = trial(state, attrs, reported={0: 1.0, 2: 0.5})

    record = form.to_record(frozen)

    assert record.attempt >= 0 or isinstance(attrs[form.ATTEMPT], int)
    assert form.has_gone_on(frozen, record) is False
    assert form.has_reported(frozen) in (True, False)
    form.is_cancelled(frozen)


# ---- one attempt after the other ----------------------------------------------------------------


def ended(attempt: int, **end: Any) -> dict[str, Any]:
    """Return the user attributes of a trial whose attempt of this number has ended."""
    return {form.ATTEMPT: attempt, **form.end_of_attempt({form.ATTEMPT: attempt}, {}, **end)}


def test_an_end_is_read_as_it_was_written() -> None:
    attrs = form.end_of_attempt(
        {form.ATTEMPT: 2},
        {"size <= 1": 0.5},
        **{form.CAUSE: "ok", form.METRICS: {"loss": 0.5}, form.SECONDS: 12.0, form.NODE: "a"},
    )
    stored = trial(COMPLETE, {form.ATTEMPT: 2, **attrs}, system={BOUND: 0.5})

    record = form.to_record(stored)

    assert (record.attempt, record.cause, record.metrics) == (2, Cause.OK, {"loss": 0.5})
    assert (record.trained_seconds, record.node) == (12.0, "a")
    assert record.constraints == {"size <= 1": 0.5}
    assert record.leftovers == ()


def test_an_end_overwrites_what_an_earlier_attempt_left_where_it_has_nothing_to_say() -> None:
    earlier = {form.ATTEMPT: 2, form.NODE: "a", form.MESSAGE: "gone", form.METRICS: {"loss": 9.0}}

    attrs = form.end_of_attempt(earlier, {}, **{form.CAUSE: "pruned"})

    assert {name: attrs[name] for name in (form.NODE, form.MESSAGE, form.METRICS)} == {
        form.NODE: None,
        form.MESSAGE: "",
        form.METRICS: {},
    }
    assert form.HINT not in attrs, "nothing was there, and nothing is to be said"


@pytest.mark.parametrize(
    ("left", "names"),
    [
        ({form.NODE: "a"}, (form.NODE,)),
        ({form.MESSAGE: "gone", form.HINT: "wait"}, (form.HINT, form.MESSAGE)),
        ({form.CODE: "disk-full"}, (form.CODE,)),
        ({}, ()),
    ],
)
def test_what_another_attempt_left_beside_the_end_is_named_and_not_read(
    left: dict[str, Any], names: tuple[str, ...]
) -> None:
    attrs = {**ended(2, **{form.CAUSE: "nan"}), **left}

    record = form.to_record(trial(FAIL, attrs))

    assert (record.cause, record.node, record.message, record.hint) == (Cause.NAN, None, "", None)
    assert record.leftovers == names


def test_the_end_of_an_earlier_attempt_is_not_that_of_the_newest() -> None:
    attrs = {**ended(1, **{form.CAUSE: "nan", form.MESSAGE: "diverged"}), form.ATTEMPT: 2}

    assert form.to_record(trial(RUNNING, attrs)).message == ""
    assert form.to_record(trial(FAIL, attrs)).leftovers == (form.END,)


def test_a_constraint_of_another_attempt_is_not_read() -> None:
    attrs = ended(2, **{form.CAUSE: "ok"})
    stored = trial(COMPLETE, attrs, system={BOUND: -1.0})

    record = form.to_record(stored)

    assert record.constraints == {}
    assert record.leftovers == ("size <= 1",)


def test_a_trial_that_one_attempt_alone_has_written_is_the_same_object() -> None:
    whole = trial(COMPLETE, ended(1, **{form.CAUSE: "ok"}), reported={0: 1.0})

    assert form.of_one_attempt(whole) is whole


# ---- reported values ----------------------------------------------------------------------------


def reports(*attempts: dict[int, float], most: int = 100) -> tuple[FrozenTrial, list[int]]:
    """Return a trial after reports of attempts, and how many values each one wrote."""
    attrs: dict[str, Any] = {}
    known: dict[int, float] = {}
    written = []
    for number, points in enumerate(attempts, start=1):
        attrs[form.ATTEMPT] = number
        new, changed = form.with_points(trial(RUNNING, attrs, reported=known), points, most)
        known, attrs = known | new, attrs | changed
        written.append(len(new))
    return trial(RUNNING, attrs, reported=known), written


@pytest.mark.parametrize(
    ("attempts", "shown"),
    [
        ([{0: 1.0, 1: 2.0}], {0: 1.0, 1: 2.0}),
        # From the start: what lies beyond is hidden until the later one comes there.
        ([{0: 1.0, 1: 2.0, 2: 3.0}, {0: 9.0}], {0: 9.0}),
        ([{0: 1.0, 1: 2.0, 2: 3.0}, {0: 9.0, 1: 8.0}], {0: 9.0, 1: 8.0}),
        # From a checkpoint: what came before stays.
        ([{0: 1.0, 1: 2.0, 2: 3.0}, {1: 9.0}], {0: 1.0, 1: 9.0}),
        ([{0: 1.0, 1: 2.0}, {2: 9.0}], {0: 1.0, 1: 2.0, 2: 9.0}),
        # A third one: from the start once more, and from where the first one came to.
        ([{0: 1.0, 1: 2.0}, {0: 3.0, 1: 4.0}, {0: 5.0}], {0: 5.0}),
        ([{0: 1.0, 1: 2.0}, {0: 3.0}, {1: 5.0}], {0: 3.0, 1: 5.0}),
    ],
)
def test_a_later_attempt_replaces_step_by_step_what_an_earlier_one_reported(
    attempts: list[dict[int, float]], shown: dict[int, float]
) -> None:
    stored, _ = reports(*attempts)

    assert form.of_one_attempt(stored).intermediate_values == shown


def test_a_step_is_written_once_by_an_attempt_and_no_more_than_a_trial_may_have() -> None:
    once = trial(RUNNING, {form.ATTEMPT: 1}, reported={0: 1.0})

    assert form.with_points(once, {0: 5.0}, 10) == ({}, {})
    assert reports({0: 1.0, 1: 2.0, 2: 3.0}, most=2)[1] == [2]
    assert reports({0: 1.0, 1: 2.0}, {0: 3.0, 1: 4.0, 2: 5.0}, most=2)[1] == [2, 2]


def test_an_attempt_has_reported_only_what_is_its_own() -> None:
    first, _ = reports({0: 1.0})
    second, _ = reports({0: 1.0}, {0: 2.0})
    lost = trial(RUNNING, {**first.user_attrs, form.ATTEMPT: 2}, reported={0: 1.0})

    assert [form.has_reported(one) for one in (trial(), first, second, lost)] == [
        *(False, True, True, False)
    ]


def test_a_rung_of_an_earlier_attempt_is_hidden_until_the_pruner_writes_it_again() -> None:
    rung = f"{form.RUNG}0"
    first = trial(RUNNING, {form.ATTEMPT: 2}, reported={0: 1.0}, system={rung: 1.0})
    new, attrs = form.with_points(first, {0: 2.0}, 10)
    second = trial(RUNNING, {form.ATTEMPT: 2, **attrs}, reported=new, system={rung: 1.0})

    again = form.with_rung(second.user_attrs, rung)
    third = trial(RUNNING, {**second.user_attrs, **again}, reported=new, system={rung: 2.0})

    assert rung not in form.of_one_attempt(second).system_attrs
    assert form.of_one_attempt(third).system_attrs[rung] == 2.0
    assert form.with_rung(third.user_attrs, rung) == {}


# ---- lost attempts ------------------------------------------------------------------------------

LOST = st.builds(
    LostAttempt,
    attempt=st.integers(1, 9),
    cause=st.sampled_from([Cause.EVICTED, Cause.LOST, Cause.NODE_LOST]),
    message=st.text(max_size=5),
    hint=st.none() | st.text(max_size=5),
    trained_seconds=st.none() | st.floats(0, 1e6),
    node=st.none() | st.text(max_size=3),
    ended_at=st.none() | st.floats(0, 2e9),
    checkpoint_step=st.none() | st.integers(0, 99),
    first_step=st.none() | st.integers(0, 99),
    last_step=st.none() | st.integers(0, 99),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(LOST, max_size=4, unique_by=lambda lost: lost.attempt))
def test_lost_attempts_are_read_as_they_were_written(lost: list[LostAttempt]) -> None:
    attrs: dict[str, Any] = {}
    for one in lost:
        attrs |= with_followed(attrs, one)

    assert followed_attempts(attrs) == tuple(lost)


@pytest.mark.parametrize(
    ("entry", "lost"),
    [
        ([1, "evicted"], LostAttempt(1, Cause.EVICTED)),
        ([1, "evicted", "gone", 12.0], LostAttempt(1, Cause.EVICTED, "gone", None, 12.0)),
        (
            [2, "node-lost", "gone", None, "a", 5.0],
            LostAttempt(2, Cause.NODE_LOST, "gone", None, None, "a", 5.0),
        ),
        ([1, "a cause of next year"], LostAttempt(1, Cause.LOST)),
        (
            [1, "lost", "", None, "a", 5.0, "more"],
            LostAttempt(1, Cause.LOST, node="a", ended_at=5.0),
        ),
    ],
)
def test_an_entry_of_an_older_version_is_read_by_its_positions(
    entry: list[Any], lost: LostAttempt
) -> None:
    assert followed_attempts({lost_form.ATTEMPTS: [entry]}) == (lost,)


def test_an_attempt_that_an_older_version_added_stands_between_newer_ones() -> None:
    newer = [LostAttempt(n, Cause.EVICTED, hint="wait") for n in (1, 3)]
    attrs = with_followed({}, newer[0])
    attrs[lost_form.ATTEMPTS] = [*attrs[lost_form.ATTEMPTS], [2, "lost", "by 0.1.0"]]
    attrs |= with_followed(attrs, newer[1])
    attrs[lost_form.LOST][0]["of next year"] = True

    assert followed_attempts(attrs) == (
        newer[0],
        LostAttempt(2, Cause.LOST, "by 0.1.0"),
        newer[1],
    )


@pytest.mark.parametrize(
    "change",
    [{form.ATTEMPT: 2}, {form.HOLDER: "there"}, with_followed({}, LostAttempt(1, Cause.LOST))],
)
def test_a_trial_with_another_attempt_holder_or_loss_has_gone_on(change: dict[str, Any]) -> None:
    attrs = {form.ATTEMPT: 1, form.HOLDER: "here"}
    seen = form.to_record(trial(RUNNING, attrs))

    assert not form.has_gone_on(trial(RUNNING, {**attrs, form.NODE: "a"}), seen)
    assert form.has_gone_on(trial(RUNNING, {**attrs, **change}), seen)
    assert form.ownership(attrs) != form.ownership({**attrs, **change})


@pytest.mark.parametrize(
    ("state", "cause", "is_so"),
    [
        (FAIL, "cancelled", True),
        (FAIL, "budget", True),
        (FAIL, "nan", False),
        (RUNNING, "cancelled", False),
        (COMPLETE, None, False),
    ],
)
def test_a_point_is_unevaluated_after_a_cancelled_end(
    state: OptunaState, cause: str | None, is_so: bool
) -> None:
    assert form.is_cancelled(trial(state, {} if cause is None else {form.CAUSE: cause})) is is_so

"""A seal tells what an attempt wrote from what any other process put in its place."""

from __future__ import annotations

import json
from typing import Any

import pytest

from studyflow.trial.seals import attempt_key, has_seal, is_seal, seal_of, sealed

SECRET = "5e" * 32
KEY = attempt_key(SECRET, 7, 1)
DOCUMENT: dict[str, Any] = {"study": "demo", "number": 7, "metrics": {"loss": 0.5}}


@pytest.mark.parametrize(
    ("secret", "number", "attempt"), [(SECRET, 7, 2), (SECRET, 8, 1), ("5f" * 32, 7, 1)]
)
def test_each_attempt_of_each_study_has_a_key_of_its_own(
    secret: str, number: int, attempt: int
) -> None:
    assert attempt_key(SECRET, 7, 1) == KEY
    assert attempt_key(secret, number, attempt) != KEY


def test_trial_17_attempt_1_and_trial_1_attempt_71_have_different_keys() -> None:
    assert attempt_key(SECRET, 17, 1) != attempt_key(SECRET, 1, 71)
    assert attempt_key(SECRET, 1, 11) != attempt_key(SECRET, 11, 1)


def test_a_document_keeps_its_seal_on_the_way_through_json_in_any_order() -> None:
    written = sealed(DOCUMENT, KEY, "outcome")
    read = json.loads(json.dumps(dict(reversed(written.items())), indent=2))

    assert has_seal(read, KEY, "outcome")


@pytest.mark.parametrize(
    "change",
    [
        {"metrics": {"loss": 0.4}},
        {"number": 8},
        {"more": None},
        {"seal": "0" * 16},
        {"seal": None},
        {"seal": True},
    ],
)
def test_a_document_that_anybody_changed_has_no_seal(change: dict[str, Any]) -> None:
    written = sealed(DOCUMENT, KEY, "outcome")

    assert not has_seal({**written, **change}, KEY, "outcome")


def test_a_document_that_lost_a_field_or_its_seal_has_none() -> None:
    written = sealed(DOCUMENT, KEY, "outcome")
    for name in written:
        assert not has_seal({n: v for n, v in written.items() if n != name}, KEY, "outcome"), name


def test_a_seal_of_another_kind_attempt_or_surrounding_is_none() -> None:
    written = sealed(DOCUMENT, KEY, "outcome", "beside")

    assert has_seal(written, KEY, "outcome", "beside")
    assert not has_seal(written, KEY, "launch", "beside")
    assert not has_seal(written, KEY, "outcome")
    assert not has_seal(written, attempt_key(SECRET, 7, 2), "outcome", "beside")


def test_a_script_without_the_sdk_writes_the_key_itself() -> None:
    assert has_seal({**DOCUMENT, "key": KEY}, KEY, "outcome")
    assert not has_seal({**DOCUMENT, "key": attempt_key(SECRET, 7, 2)}, KEY, "outcome")
    assert is_seal(KEY, KEY, "metric", "any text")


@pytest.mark.parametrize("document", [None, [], "text", 3, [DOCUMENT]])
def test_what_is_no_object_has_no_seal(document: object) -> None:
    assert not has_seal(document, KEY, "outcome")


def test_a_document_with_what_json_cannot_hold_is_refused_rather_than_an_error() -> None:
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"deeper": deep}

    assert not has_seal({**DOCUMENT, "loss": float("inf"), "seal": "0" * 16}, KEY, "outcome")
    assert not has_seal({**DOCUMENT, "deep": deep, "seal": "0" * 16}, KEY, "outcome")


def test_a_text_of_half_a_character_can_be_sealed() -> None:
    assert is_seal(seal_of(KEY, "metric", "\ud800"), KEY, "metric", "\ud800")

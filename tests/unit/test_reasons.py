"""Reasons, and the errors that carry them."""

from __future__ import annotations

import inspect

import pytest

from studyflow import errors
from studyflow.errors import StudyMismatch, StudyNotFound, StudyStopped, TableError
from studyflow.reasons import Code, Reason, ReasonCode, read_code
from studyflow.trial import Cause, Outcome

ERRORS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.StudyflowError)
    and kind is not errors.StudyflowError
    and not kind.__name__.startswith("_")  # a base that nobody raises
]


def test_a_reason_is_shown_with_its_way_out() -> None:
    assert str(Reason(Cause.LOST, "It was killed.")) == "It was killed."
    assert str(Reason(Cause.LOST, "It was killed.", "by whom?")) == "It was killed. Hint: by whom?"


def test_a_stored_code_is_a_cause_or_a_finer_code() -> None:
    codes: list[ReasonCode] = [*Cause, *Code]
    assert [read_code(str(code)) for code in codes] == codes
    assert len({code.value for code in codes}) == len(codes), "no value is in both lists"


@pytest.mark.parametrize("text", [None, "", "of-a-later-version", 3, "OK"])
def test_what_is_no_code_of_this_version_is_none(text: object) -> None:
    assert read_code(text) is None


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_each_error_class_has_a_code_of_its_own(kind: type[errors.StudyflowError]) -> None:
    assert "code" in vars(kind)
    assert [other for other in ERRORS if other.code is kind.code] == [kind]


def test_an_error_carries_a_reason() -> None:
    error = StudyNotFound("There is no study 'a'.", hint="studyflow list")
    assert error.reason == Reason(Code.STUDY_NOT_FOUND, "There is no study 'a'.", "studyflow list")
    assert str(error) == "There is no study 'a'. Hint: studyflow list"


@pytest.mark.parametrize("kind", [StudyStopped, StudyMismatch, TableError, errors.SpecError])
def test_an_error_is_made_from_a_reason(kind: type[errors.StudyflowError]) -> None:
    reason = Reason(Code.FAILED_ALIKE, "Trials 1, 2 failed alike.", "fix the script.")
    assert kind.because(reason).reason == reason
    assert kind("Something else.").code is kind.code


def test_an_outcome_carries_a_reason() -> None:
    outcome = Outcome("s", 1, 1, Cause.LOST, message="Killed.", hint="by whom?")
    assert outcome.reason == Reason(Cause.LOST, "Killed.", "by whom?")
    assert Outcome.from_json(outcome.to_json()) == outcome

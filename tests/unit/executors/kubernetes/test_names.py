"""Names that the API takes, one for each attempt and no two alike."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studyflow.executors import AttemptId
from studyflow.executors.kubernetes.names import (
    ATTEMPT_LABEL,
    STUDY_LABEL,
    TRIAL_LABEL,
    attempt_labels,
    attempt_of,
    job_name,
    study_key,
    study_selector,
)

DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")

STUDIES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=600)
ATTEMPTS = st.builds(AttemptId, st.integers(0, 10**9), st.integers(1, 10**6))


@pytest.mark.parametrize(
    ("study", "slug"),
    [
        ("cnn-lstm", "cnn-lstm"),
        ("CNN  LSTM!", "cnn-lstm"),
        ("🦊🦊", "study"),
        ("-", "study"),
        ("team/mnist/v2", "team-mnist-v2"),
        ("../../etc/passwd", "etc-passwd"),
        ("$(reboot)`\n", "reboot"),
        ("4-bit", "4-bit"),
        ("a" * 25 + "-" + "b" * 600, "a" * 25),
    ],
)
def test_a_key_is_readable_where_that_can_be(study: str, slug: str) -> None:
    key = study_key(study)

    assert key.rpartition("-")[0] == slug
    assert re.fullmatch("[0-9a-f]{8}", key.rpartition("-")[2])


def test_names_stay_as_they_are() -> None:
    """A runner of another version must find the Jobs of this one."""
    assert job_name("demo", AttemptId(7, 2)) == "demo-2a97516c-7-2"
    assert job_name("4-bit", AttemptId(0, 1)) == "s4-bit-511b782e-0-1"


@settings(derandomize=True, deadline=None, max_examples=300)
@given(study=STUDIES, attempt=ATTEMPTS)
@pytest.mark.fault("F43")
def test_whatever_a_study_is_called_the_api_takes_its_names(study: str, attempt: AttemptId) -> None:
    name = job_name(study, attempt)

    assert DNS_LABEL.fullmatch(name)
    # 63 for the label that the Job controller makes of it, and for the pod's host name with it.
    assert len(name) + len("-abcde") <= 63
    for value in attempt_labels(study, attempt).values():
        assert len(value) <= 63
        assert LABEL_VALUE.fullmatch(value)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(
    pairs=st.lists(
        st.tuples(st.text("ab-1 /", min_size=1, max_size=5), ATTEMPTS), unique=True, max_size=30
    )
)
def test_no_two_attempts_share_a_name(pairs: list[tuple[str, AttemptId]]) -> None:
    assert len({job_name(study, attempt) for study, attempt in pairs}) == len(pairs)


def test_names_that_differ_late_or_by_case_only_differ() -> None:
    studies = ["x" * 500, "x" * 501, "X" * 500, "é", "è", "e", "a b", "a-b", "a/b"]

    assert len({study_key(study) for study in studies}) == len(studies)


@settings(derandomize=True, deadline=None)
@given(study=STUDIES, attempt=ATTEMPTS)
def test_labels_say_which_attempt_it_is_and_the_selector_finds_it(
    study: str, attempt: AttemptId
) -> None:
    labels = attempt_labels(study, attempt)

    assert attempt_of(labels) == attempt
    terms = dict(term.split("=") for term in study_selector(study).split(","))
    assert terms.items() <= labels.items()
    assert STUDY_LABEL in terms


@pytest.mark.parametrize(
    "labels",
    [
        {},
        {TRIAL_LABEL: "1"},
        {TRIAL_LABEL: "1", ATTEMPT_LABEL: ""},
        {TRIAL_LABEL: "-1", ATTEMPT_LABEL: "1"},
        {TRIAL_LABEL: "one", ATTEMPT_LABEL: "1"},
    ],
)
def test_labels_of_something_else_name_no_attempt(labels: dict[str, str]) -> None:
    assert attempt_of(labels) is None

"""Documents survive being written and read, and reading raises nothing but `DocumentError`."""

from __future__ import annotations

import json
import math
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studyflow.errors import DocumentError
from studyflow.trial import Cause, MetricPoint, Outcome, TrackingRef, Trial
from studyflow.trial.checkpoint_folders import CheckpointFolders

quick = settings(derandomize=True, deadline=None, max_examples=150)

# What a database can store: no NUL and, as Hypothesis does anyway, no half surrogate pair.
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=50)
names = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=60
)
int64 = st.integers(-(2**63), 2**63 - 1)
values = st.floats()
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False).filter(math.isfinite)
    | st.text(max_size=30)
)
paths = st.none() | texts

trials = st.builds(
    Trial,
    study=st.text(max_size=30),
    number=st.integers(0, 10**6),
    params=st.dictionaries(st.text(max_size=30), scalars, max_size=5),
    attempt=st.integers(1, 1000),
    budget=st.none() | st.integers(1, 10**6),
    metrics=st.lists(names, max_size=4).map(tuple),
    outcome_path=paths,
    metrics_path=paths,
    artifact_dir=paths,
    checkpoint_dir=paths,
    stop_path=paths,
    tracking=st.none() | st.builds(TrackingRef, uri=texts, run_id=texts),
    checkpoints=st.none()
    | st.builds(
        CheckpointFolders, own=texts, trial=texts, retired=st.lists(texts, max_size=3).map(tuple)
    ),
)
outcomes = st.builds(
    Outcome,
    study=texts,
    number=st.integers(0, 10**6),
    attempt=st.integers(1, 1000),
    cause=st.sampled_from(Cause),
    metrics=st.dictionaries(names.map(lambda name: name[:20]), values, max_size=4),
    message=texts,
    stopped=st.booleans(),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


def same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


@quick
@given(trials)
def test_a_trial_survives(trial: Trial) -> None:
    assert Trial.from_json(trial.to_json()) == trial


@quick
@given(outcomes)
def test_an_outcome_survives(outcome: Outcome) -> None:
    again = Outcome.from_json(outcome.to_json())

    assert (again.study, again.number, again.attempt) == (
        outcome.study,
        outcome.number,
        outcome.attempt,
    )
    assert (again.cause, again.message, again.stopped) == (
        outcome.cause,
        outcome.message,
        outcome.stopped,
    )
    assert again.metrics.keys() == outcome.metrics.keys()
    assert all(same(again.metrics[name], outcome.metrics[name]) for name in outcome.metrics)


@quick
@given(names, int64, values, int64)
def test_a_metric_point_survives(name: str, step: int, value: float, timestamp_ms: int) -> None:
    line = MetricPoint(name, step, value, timestamp_ms).to_json()
    again = MetricPoint.from_json(line)

    assert "\n" not in line
    assert (again.name, again.step, again.timestamp_ms) == (name, step, timestamp_ms)
    assert same(again.value, value)


@quick
@given(st.binary(max_size=200) | st.text(max_size=200) | json_values.map(json.dumps))
@pytest.mark.fault("F41")
def test_reading_anything_raises_only_document_errors(raw: bytes | str) -> None:
    with suppress(DocumentError):
        Outcome.from_json(raw)
    text = raw.decode(errors="replace") if isinstance(raw, bytes) else raw
    with suppress(DocumentError):
        Trial.from_json(text)
    with suppress(DocumentError):
        MetricPoint.from_json(text)


@quick
@given(
    st.sampled_from(
        ["study", "number", "attempt", "params", "cause", "metrics", "message", "stopped"]
    ),
    json_values,
)
def test_reading_a_document_with_one_wrong_field_raises_only_document_errors(
    key: str, value: object
) -> None:
    document = {
        "version": 1,
        "study": "m",
        "number": 1,
        "attempt": 1,
        "params": {},
        "cause": "ok",
        "metrics": {},
        "message": "",
        key: value,
    }
    with suppress(DocumentError):
        Outcome.from_json(json.dumps(document))
    with suppress(DocumentError):
        Trial.from_json(json.dumps(document))

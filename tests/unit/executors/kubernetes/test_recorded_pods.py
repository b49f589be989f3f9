"""Statuses as a cluster's API gave them (Kubernetes 1.20; `tests/e2e/test_causes.py` made them)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from studyflow.executors import AttemptState
from studyflow.executors.diagnosis import diagnose
from studyflow.executors.kubernetes.judging import judge
from studyflow.executors.kubernetes.observation import Judgement, Observation
from studyflow.trial import Cause, Outcome, Trial

RECORDED = Path(__file__).parents[3] / "golden" / "pods"
JOB: dict[str, Any] = {"metadata": {"name": "recorded", "uid": "job-uid"}, "spec": {}, "status": {}}


def seen(name: str, **known: Any) -> Judgement:
    pod = json.loads((RECORDED / f"{name}.json").read_text())
    return judge(Observation(job=JOB, pod=pod, waiting_seconds=5.0, **known))


def outcome_of(found: Judgement) -> Outcome:
    assert found.ending is not None
    document = json.loads(found.outcome or b"{}")
    trial = Trial(document.get("study", "causes"), document.get("number", 0), {})
    return diagnose(found.ending, found.outcome, "", trial)


@pytest.mark.parametrize(
    ("name", "cause", "exit_code"),
    [
        ("completed", Cause.OK, 0),
        ("exit-3", Cause.USER_ERROR, 3),
        ("oom-killed", Cause.HOST_OOM, -9),
        ("killed-after-grace", Cause.EVICTED, -9),
    ],
)
def test_a_container_that_ended(name: str, cause: Cause, exit_code: int) -> None:
    found = seen(name)
    assert found.state is AttemptState.ENDED
    assert found.ending is not None
    assert found.ending.exit_code == exit_code
    assert outcome_of(found).cause is cause
    assert found.started_at is not None
    assert found.ended_at is not None
    assert found.started_at <= found.ended_at


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("image-not-found", "registry.invalid/nobody/nothing:1 cannot be pulled"),
        ("unschedulable", "Insufficient nvidia.com/gpu"),
    ],
)
def test_a_pod_that_waits_says_why(name: str, words: str) -> None:
    found = seen(name)
    assert found.state is AttemptState.PENDING
    assert words in str(found.reason)
    assert found.waits_for_room is (name == "unschedulable")


@pytest.mark.parametrize(
    ("name", "cause", "words", "blocks"),
    [
        ("missing-secret", Cause.USER_ERROR, 'secret "the-token" not found', True),
        ("no-such-program", Cause.USER_ERROR, "no-such-program", False),
        ("failed-before-its-container", Cause.EVICTED, "deleted by someone else", False),
    ],
)
def test_a_pod_whose_container_never_ran(name: str, cause: Cause, words: str, blocks: bool) -> None:
    found = seen(name)
    assert (found.state, found.cause, found.blocks_study) == (AttemptState.ENDED, cause, blocks)
    assert words in str(found.reason)


def test_a_running_pod() -> None:
    found = seen("running")
    assert found.state is AttemptState.RUNNING
    assert found.started_at is not None

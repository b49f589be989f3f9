"""What keeps an attempt from beginning, and for how long it is worth waiting."""

# ruff: noqa: E501 - a table reads best with one row a line

from __future__ import annotations

from typing import Any

import pytest

from studyflow.executors.kubernetes.observation import Judgement, Observation
from studyflow.executors.kubernetes.waiting import (
    QUIET_SECONDS,
    TROUBLE_SECONDS,
    judge_job_without_pod,
    judge_waiting_pod,
)
from studyflow.executors.protocol import AttemptState
from studyflow.reasons import Code, ReasonCode
from studyflow.spec.pods.ours import CONTAINER
from studyflow.trial import Cause

JOB: dict[str, Any] = {"metadata": {"name": "demo-0-1"}, "spec": {}}
PENDING, ENDED = AttemptState.PENDING, AttemptState.ENDED


def seen(**known: Any) -> Observation:
    return Observation(**{"job": JOB, **known})


def pod(reason: str | None = None, message: str = "", **conditions: str) -> dict[str, Any]:
    """Return a pod whose container waits for a reason, with the messages of conditions."""
    waiting = {"state": {"waiting": {"reason": reason, "message": message}}} if reason else {}
    return {
        "metadata": {"name": "demo-0-1-x"},
        "spec": {"containers": [{"name": CONTAINER, "image": "registry/train:1"}]},
        "status": {
            "conditions": [
                {"type": kind, "status": "False", "message": text}
                for kind, text in conditions.items()
            ],
            "containerStatuses": [{"name": CONTAINER, **waiting}],
        },
    }


def warning(reason: str, message: str) -> dict[str, Any]:
    return {"type": "Warning", "reason": reason, "message": message}


def code_of(judged: Judgement) -> ReasonCode | None:
    return None if judged.reason is None else judged.reason.code


# ---- no node takes it -----------------------------------------------------------------------------

FULL = "0/2 nodes are available: 2 Insufficient nvidia.com/gpu."
EXCLUDED = (
    "0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, "
    "1 node(s) had untolerated taint {gpu: }."
)


@pytest.mark.parametrize(
    ("known", "state", "blocks", "missed"),
    [
        ({"waiting_seconds": 10.0}, PENDING, False, ()),
        # As long as others run, room may come.
        ({"waiting_seconds": 9999.0, "others_running": True}, PENDING, False, ()),
        # The scheduler gets a moment after the last of the others has ended.
        ({"waiting_seconds": 9999.0, "stalled_seconds": 5.0}, PENDING, False, ()),
        ({"waiting_seconds": 3600.0}, ENDED, True, ()),
        ({"waiting_seconds": 3599.0}, PENDING, False, ()),
        ({"waiting_seconds": 60.0, "pending_seconds": 50.0}, ENDED, True, ()),
        # Without the nodes that it avoids there is none: the next attempt may go there.
        ({"waiting_seconds": 3600.0, "avoids": ("a", "b")}, ENDED, False, ("a", "b")),
        ({"waiting_seconds": 3599.0, "avoids": ("a",)}, PENDING, False, ()),
    ],
)
def test_a_pod_that_no_node_takes_waits_for_room(
    known: dict[str, Any], state: AttemptState, blocks: bool, missed: tuple[str, ...]
) -> None:
    judged = judge_waiting_pod(seen(**known), pod(PodScheduled=FULL))

    assert (judged.state, judged.blocks_study, judged.missed_nodes) == (state, blocks, missed)
    assert code_of(judged) is Cause.UNSCHEDULABLE
    assert judged.waits_for_room is (state is PENDING)
    assert judged.reason is not None
    assert FULL in judged.reason.message


def test_a_pod_that_every_node_excludes_does_not_wait_for_those_that_it_avoids() -> None:
    judged = judge_waiting_pod(seen(avoids=("a",), others_running=True), pod(PodScheduled=EXCLUDED))

    assert (judged.state, judged.missed_nodes) == (ENDED, ("a",))
    assert judged.fence is not None


def test_a_study_that_found_no_room_says_for_how_long_and_what_to_do() -> None:
    judged = judge_waiting_pod(seen(waiting_seconds=7200.0), pod(PodScheduled=FULL))

    assert judged.reason is not None
    assert "No trial found room for 7200 s" in judged.reason.message
    assert judged.reason.hint == "ask for less, or make room."


# ---- its container is not made --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "message", "known", "state", "code", "blocks"),
    [
        ("ErrImagePull", "manifest unknown", {}, PENDING, Cause.IMAGE_PULL, False),
        ("ImagePullBackOff", "", {"waiting_seconds": 299.0}, PENDING, Cause.IMAGE_PULL, False),
        ("ImagePullBackOff", "", {"waiting_seconds": 300.0}, ENDED, Cause.IMAGE_PULL, True),
        # Others have started with it: this node alone has no access.
        ("ErrImagePull", "", {"waiting_seconds": 300.0, "others_started": True}, ENDED, Cause.IMAGE_PULL, False),
        ("InvalidImageName", "", {}, ENDED, Cause.IMAGE_PULL, True),
        ("ErrImageNeverPull", "not present", {}, ENDED, Cause.IMAGE_PULL, True),
        ("CreateContainerConfigError", 'secret "s3" not found', {}, ENDED, Code.NOT_STARTABLE, True),
        ("CreateContainerError", "no command specified", {}, ENDED, Code.NOT_STARTABLE, True),
        # The node's runtime is in trouble: the same container can be made a little later.
        ("CreateContainerError", "context deadline exceeded", {"waiting_seconds": TROUBLE_SECONDS - 1}, PENDING, Cause.NODE_FAULT, False),
        ("CreateContainerError", "context deadline exceeded", {"waiting_seconds": TROUBLE_SECONDS}, ENDED, Cause.NODE_FAULT, False),
        ("ContainerCreating", "", {"waiting_seconds": QUIET_SECONDS - 1}, PENDING, None, False),
        ("ContainerCreating", "", {"waiting_seconds": QUIET_SECONDS}, PENDING, None, False),
        ("ContainerCreating", "", {"waiting_seconds": 3 * QUIET_SECONDS + 1}, PENDING, Code.CONTAINER_WAITING, False),
        (None, "", {"waiting_seconds": 31.0}, PENDING, Code.CONTAINER_WAITING, False),
    ],
)  # fmt: skip
def test_a_pod_whose_container_is_not_made(
    reason: str | None,
    message: str,
    known: dict[str, Any],
    state: AttemptState,
    code: ReasonCode | None,
    blocks: bool,
) -> None:
    judged = judge_waiting_pod(seen(**known), pod(reason, message))

    assert (judged.state, code_of(judged), judged.blocks_study) == (state, code, blocks)
    assert (judged.fence is not None) is (state is ENDED), "nothing of it may start later"


def test_events_are_asked_for_when_a_pod_says_nothing_of_itself() -> None:
    without_words = judge_waiting_pod(seen(), pod("ErrImagePull"))
    with_words = judge_waiting_pod(seen(), pod("ErrImagePull", "manifest unknown"))
    quiet = judge_waiting_pod(seen(waiting_seconds=11.0), pod("ContainerCreating"))
    early = judge_waiting_pod(seen(waiting_seconds=1.0), pod("ContainerCreating"))

    assert [j.wants_events for j in (without_words, with_words, quiet, early)] == [
        *(True, False, True, False)
    ]


# ---- what events say ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("events", "state", "code", "blocks"),
    [
        ([warning("FailedCreate", "pods is forbidden: exceeded quota: gpus")], PENDING, Cause.QUOTA, False),
        ([warning("FailedCreate", "violates PodSecurity")], ENDED, Code.POD_REFUSED, True),
        ([warning("FailedCreate", "webhook timed out")], PENDING, Code.POD_REFUSED, False),
        ([warning("FailedMount", 'configmap "x" not found')], ENDED, Code.NOT_STARTABLE, True),
        ([warning("FailedMount", "timed out waiting")], PENDING, Code.CONTAINER_WAITING, False),
        ([warning("FailedAttachVolume", "volume is invalid")], ENDED, Code.NOT_STARTABLE, True),
        # Only warnings count, and of these the newest.
        ([{"type": "Normal", "reason": "Scheduled", "message": "not found"}], PENDING, Code.CONTAINER_WAITING, False),
        ([warning("FailedMount", 'secret "s" not found'), warning("BackOff", "waits")], PENDING, Code.CONTAINER_WAITING, False),
        ([warning("Evicted", "not found")], PENDING, Code.CONTAINER_WAITING, False),
    ],
)  # fmt: skip
def test_the_newest_warning_says_whether_waiting_helps(
    events: list[dict[str, Any]], state: AttemptState, code: ReasonCode, blocks: bool
) -> None:
    judged = judge_waiting_pod(seen(waiting_seconds=60.0, events=events), pod())

    assert (judged.state, code_of(judged), judged.blocks_study) == (state, code, blocks)


# ---- a Job without a pod --------------------------------------------------------------------------


def job(*, suspended: bool = False, queue: str | None = None, **failed: str) -> dict[str, Any]:
    labels = {"kueue.x-k8s.io/queue-name": queue} if queue else {}
    conditions = [{"type": "Failed", "status": "True", **failed}] if failed else []
    return {
        "metadata": {"name": "demo-0-1", "labels": labels},
        "spec": {"suspend": suspended},
        "status": {"conditions": conditions},
    }


@pytest.mark.parametrize(
    ("known", "state", "code"),
    [
        ({"job": job()}, PENDING, None),
        ({"job": job(), "waiting_seconds": 2.0}, PENDING, None),
        ({"job": job(), "waiting_seconds": 31.0}, PENDING, Code.POD_MISSING),
        ({"job": job(), "waiting_seconds": 3.0, "events": [warning("FailedCreate", "exceeded quota: a")]}, PENDING, Cause.QUOTA),
        ({"job": job(reason="BackoffLimitExceeded")}, ENDED, Cause.LOST),
        ({"job": job(suspended=True)}, PENDING, Code.IN_QUEUE),
        # It failed: that it is suspended too does not matter any more.
        ({"job": job(suspended=True, reason="DeadlineExceeded")}, ENDED, Cause.LOST),
    ],
)  # fmt: skip
def test_a_job_without_a_pod(
    known: dict[str, Any], state: AttemptState, code: ReasonCode | None
) -> None:
    judged = judge_job_without_pod(seen(**known))

    assert (judged.state, code_of(judged)) == (state, code)


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({}, "Suspended: its queue has not admitted it yet."),
        ({"queue": "gpus"}, "Suspended: its queue gpus has not admitted it yet."),
        ({"queue": "gpus", "position": 0}, "Suspended: its queue gpus has not admitted it yet (0 before it)."),
        ({"queue": "gpus", "position": 4, "why": "no quota for a100"}, "Suspended: its queue gpus has not admitted it yet (4 before it). no quota for a100"),
    ],
)  # fmt: skip
def test_a_suspended_job_says_what_its_queue_says(known: dict[str, Any], message: str) -> None:
    reserved = {"type": "QuotaReserved", "status": "False", "message": known.get("why")}
    judged = judge_job_without_pod(
        seen(
            job=job(suspended=True, queue=known.get("queue")),
            queue_position=known.get("position"),
            workload={"status": {"conditions": [reserved]}} if "why" in known else None,
        )
    )

    assert judged.reason is not None
    assert judged.reason.message == message
    assert judged.wants_queue

"""What Job, pod and events mean: every rule is a row."""

# ruff: noqa: E501 - a table reads best with one row a line

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studyflow.executors import AttemptState
from studyflow.executors.diagnosis import Ending, How, diagnose
from studyflow.executors.kubernetes.fence import FENCE_ANNOTATION, Fence
from studyflow.executors.kubernetes.judging import LOST_SECONDS, judge
from studyflow.executors.kubernetes.objects import running_seconds
from studyflow.executors.kubernetes.observation import Judgement, Observation
from studyflow.trial import Cause, Outcome, Trial

PENDING, RUNNING, ENDED = AttemptState.PENDING, AttemptState.RUNNING, AttemptState.ENDED
TRIAL = Trial("demo", 0, {}, metrics=("loss",))
DONE = Outcome("demo", 0, 1, Cause.OK, {"loss": 0.5}).to_json()
CUT_SHORT = Outcome("demo", 0, 1, Cause.OK, {"loss": 0.5}, stopped=True).to_json()
FENCE = Fence(How.STOPPED, Cause.PRUNED, "worse than the median")


def a_job(
    *, fence: Fence | str | None = None, suspend: bool = False, **status: Any
) -> dict[str, Any]:
    text = fence.to_json() if isinstance(fence, Fence) else fence
    return {
        "metadata": {"name": "demo-0-1", "annotations": {FENCE_ANNOTATION: text} if text else {}},
        "spec": {"suspend": suspend},
        "status": status,
    }


def a_pod(
    state: dict[str, Any] | None = None, *, leaving: bool = False, image_id: str = "", **status: Any
) -> dict[str, Any]:
    own = {"name": "trial", "state": state or {}, "imageID": image_id}
    return {
        "metadata": {
            "name": "p",
            **({"deletionTimestamp": "2026-01-01T00:00:09Z"} if leaving else {}),
        },
        "spec": {"nodeName": "node-3", "containers": [{"name": "trial", "image": "demo:1"}]},
        "status": {"phase": "Pending", "containerStatuses": [own], **status},
    }


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return a_pod({"waiting": {"reason": reason, "message": message}})


def running(**more: Any) -> dict[str, Any]:
    state = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
    return a_pod(state, **{"phase": "Running", **more})


def ended(code: int, message: str = "", reason: str = "Error", **more: Any) -> dict[str, Any]:
    state = {
        "exitCode": code,
        "reason": reason,
        "message": message,
        "startedAt": "2026-01-01T00:00:00Z",
        "finishedAt": "2026-01-01T00:01:00Z",
    }
    phase = "Succeeded" if code == 0 else "Failed"
    return a_pod({"terminated": state}, **{"phase": phase, **more})


def failed(reason: str, message: str = "") -> dict[str, Any]:
    return a_pod(phase="Failed", reason=reason, message=message, containerStatuses=[])


def disrupted(reason: str, message: str = "") -> dict[str, Any]:
    condition = {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message}
    return {"conditions": [condition]}


def unschedulable(message: str = "0/3 nodes are available") -> dict[str, Any]:
    condition = {"type": "PodScheduled", "status": "False", "message": message}
    return a_pod(conditions=[condition], containerStatuses=[])


def warning(reason: str, message: str) -> tuple[dict[str, Any], ...]:
    old = {"type": "Warning", "reason": "BackOff", "message": "an older one"}
    return old, {"type": "Warning", "reason": reason, "message": message}, {"type": "Normal"}


def see(
    pod: dict[str, Any] | None = None, job: dict[str, Any] | None = None, **more: Any
) -> Observation:
    return Observation(job=job or a_job(), pod=pod, **more)


def told(found: Judgement) -> str:
    """Return why an attempt has not begun, or ended, as people read it."""
    return str(found.reason or "")


def final(found: Judgement) -> Outcome:
    """Return the outcome that the executor makes of an end."""
    assert found.state is ENDED
    if found.ending is None:
        assert found.cause is not None
        return Outcome("demo", 0, 1, found.cause, {}, told(found))
    return diagnose(found.ending, found.outcome, "", TRIAL)


def with_policy(pod: dict[str, Any], policy: str) -> dict[str, Any]:
    pod["spec"]["containers"][0]["terminationMessagePolicy"] = policy
    return pod


UNREADABLE = "Error on reading termination log /dev/termination-log: permission denied"
"""What a kubelet says in place of a message."""


@pytest.mark.fault("F59")
@pytest.mark.parametrize(
    ("pod", "cause", "is_silent"),
    [
        (ended(0), Cause.BAD_METRIC, True),
        (ended(0, " "), Cause.BAD_METRIC, False),
        (ended(0, "\0"), Cause.BAD_METRIC, False),
        (ended(0, DONE[-30:]), Cause.BAD_METRIC, False),
        (ended(0, UNREADABLE), Cause.BAD_METRIC, False),
        (ended(0, "[" * 4096), Cause.BAD_METRIC, False),
        (ended(1, '{"a":' * 800), Cause.BAD_METRIC, False),
        (ended(1, DONE[:30]), Cause.BAD_METRIC, False),
        (ended(1), Cause.USER_ERROR, False),
        # A pod template may ask for the end of the log in place of an empty message.
        (with_policy(ended(1, "KeyError: 1"), "FallbackToLogsOnError"), Cause.USER_ERROR, False),
        (with_policy(ended(1, DONE), "FallbackToLogsOnError"), Cause.OK, False),
        (with_policy(ended(1, DONE[:30]), "FallbackToLogsOnError"), Cause.BAD_METRIC, False),
        (with_policy(ended(0, "KeyError: 1"), "FallbackToLogsOnError"), Cause.BAD_METRIC, False),
        (with_policy(ended(1, "KeyError: 1"), "File"), Cause.BAD_METRIC, False),
    ],
)
def test_only_an_empty_termination_message_is_silence(
    pod: dict[str, Any], cause: Cause, is_silent: bool
) -> None:
    outcome = final(judge(see(pod)))
    assert (outcome.cause, outcome.is_silent) == (cause, is_silent)


@pytest.mark.parametrize(
    ("pod", "cause", "exit_code", "words"),
    [
        (ended(0, DONE), Cause.OK, 0, ""),
        (ended(5, DONE), Cause.OK, 5, ""),
        (ended(0), Cause.BAD_METRIC, 0, "sdk.finish"),
        (ended(0, "{torn"), Cause.BAD_METRIC, 0, "not JSON"),
        (ended(3), Cause.USER_ERROR, 3, "Exit code 3"),
        (ended(137, reason="OOMKilled"), Cause.HOST_OOM, -9, "want of memory"),
        (ended(137, DONE, reason="OOMKilled"), Cause.OK, -9, ""),
        (ended(1, reason="OOMKilled"), Cause.USER_ERROR, 1, "Exit code 1"),
        (ended(137), Cause.LOST, -9, "SIGKILL"),
        (ended(139), Cause.USER_ERROR, -11, "SIGSEGV"),
        (ended(143), Cause.LOST, -15, "SIGTERM"),
        (ended(255), Cause.USER_ERROR, 255, "255"),
        (ended(128), Cause.USER_ERROR, 128, "128"),
        # The cluster's part in it.
        (ended(143, **disrupted("PreemptionByScheduler", "for a better one")), Cause.PREEMPTED, -15, "for a better one"),
        (ended(143, **disrupted("DeletionByTaintManager")), Cause.NODE_LOST, -15, "DeletionByTaintManager"),
        (ended(143, **disrupted("DeletionByPodGC")), Cause.NODE_LOST, -15, "DeletionByPodGC"),
        (ended(143, **disrupted("EvictionByEvictionAPI")), Cause.EVICTED, -15, "EvictionByEvictionAPI"),
        (ended(143, **disrupted("TerminationByKubelet")), Cause.EVICTED, -15, "TerminationByKubelet"),
        (ended(143, **disrupted("SomethingNew")), Cause.EVICTED, -15, "SomethingNew"),
        (ended(143, leaving=True), Cause.EVICTED, -15, "node-3 was deleted by someone else"),
        (ended(0, DONE, leaving=True), Cause.OK, 0, ""),
        (ended(0, CUT_SHORT, leaving=True), Cause.EVICTED, 0, "deleted by someone else"),
    ],
)  # fmt: skip
@pytest.mark.fault("F01", "F02")
def test_a_container_that_ended_has_a_cause(
    pod: dict[str, Any], cause: Cause, exit_code: int, words: str
) -> None:
    for is_gone in (False, True):
        found = judge(see(pod, pod_is_gone=is_gone))
        outcome = final(found)
        assert outcome.cause is cause
        assert words in str(outcome.reason)
        assert found.ending is not None
        assert found.ending.exit_code == exit_code
        assert found.ended_at is not None
        assert found.started_at is not None
        assert found.ended_at - found.started_at == 60.0
        assert not found.blocks_study


@pytest.mark.parametrize(
    ("reason", "message", "cause", "words"),
    [
        ("Evicted", "The node was low on resource: memory.", Cause.EVICTED, "low on resource"),
        ("Evicted", "", Cause.EVICTED, "The node evicted it"),
        ("Evicted", 'Usage of EmptyDir volume "scratch" exceeds the limit "10Gi". ', Cause.USER_ERROR, "trial.kubernetes.scratch"),
        ("Evicted", "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi.", Cause.USER_ERROR, "disk space"),
        ("NodeLost", "", Cause.NODE_LOST, "Its node was lost"),
        ("Preempting", "Preempted in order to admit critical pod", Cause.PREEMPTED, "critical pod"),
        ("Preempted", "", Cause.PREEMPTED, "preempted"),
        ("Shutdown", "Node is shutting down, evicting pods", Cause.EVICTED, "evicting pods"),
        ("NodeShutdown", "", Cause.EVICTED, "shut down"),
        ("Terminated", "Pod was terminated in response to imminent node shutdown.", Cause.EVICTED, "imminent"),
        ("UnexpectedAdmissionError", "Allocate failed: no healthy devices present", Cause.NODE_FAULT, "(UnexpectedAdmissionError). Allocate failed"),
        ("OutOfnvidia.com/gpu", "Node didn't have enough resource", Cause.NODE_FAULT, "(OutOfnvidia.com/gpu)"),
        ("NodeAffinity", "", Cause.NODE_FAULT, "(NodeAffinity)"),
        ("", "", Cause.EVICTED, "(Failed)"),
    ],
)  # fmt: skip
@pytest.mark.fault("F03", "F12", "F52")
def test_a_pod_that_failed_as_a_whole_has_a_cause(
    reason: str, message: str, cause: Cause, words: str
) -> None:
    found = judge(see(failed(reason, message)))

    assert final(found).cause is cause
    assert words in final(found).message
    assert found.reason is not None
    assert found.fence == Fence.because(cause, found.reason)
    assert not found.blocks_study


@pytest.mark.parametrize("reason", ["Evicted", "NodeLost", "Preempting", "Shutdown"])
@pytest.mark.fault("F03")
def test_an_eviction_is_the_cause_too_when_its_container_is_still_shown(reason: str) -> None:
    pod = ended(137)
    pod["status"] |= {"reason": reason, "message": "away"}

    found = judge(see(pod))

    assert found.fence is not None
    assert final(found).cause is found.fence.cause
    assert final(found).cause.is_infrastructure


def test_a_pod_that_ran_into_its_own_deadline_is_over_its_time_limit() -> None:
    pod = ended(143)
    pod["status"] |= {"reason": "DeadlineExceeded", "message": "Pod was active too long"}

    found = judge(see(pod))

    assert final(found).cause is Cause.TIMEOUT
    assert found.fence is not None
    assert found.fence.how is How.TIMEOUT


@pytest.mark.parametrize(
    "pod", [failed("DeadlineExceeded", "too long"), waiting("ContainerCreating")]
)
def test_a_deadline_before_the_container_began_is_not_the_parameters_fault(
    pod: dict[str, Any],
) -> None:
    pod["status"] |= {"phase": "Failed", "reason": "DeadlineExceeded", "message": "too long"}

    found = judge(see(pod))

    assert final(found).cause is Cause.EVICTED
    assert "never began" in final(found).message


@pytest.mark.parametrize(
    ("reason", "cause"),
    [("DeadlineExceeded", Cause.TIMEOUT), ("Evicted", Cause.EVICTED), ("New", Cause.EVICTED)],
)
def test_a_pod_that_failed_while_its_container_still_runs_has_not_ended(
    reason: str, cause: Cause
) -> None:
    """Kubelets before 1.22 say so before they kill the container, which may yet finish."""
    found = judge(see(running(phase="Failed", reason=reason)))

    assert found.state is RUNNING
    assert found.fence is not None
    assert found.fence.cause is cause


def test_a_sidecar_is_not_the_trial() -> None:
    pod = running()
    done = {"terminated": {"exitCode": 0}}
    pod["status"]["containerStatuses"].insert(0, {"name": "istio-proxy", "state": done})

    assert judge(see(pod)).state is RUNNING


def test_a_running_container_says_since_when_and_which_image_it_has() -> None:
    found = judge(see(running(image_id="registry.example/demo@sha256:abc")))

    assert found == Judgement(RUNNING, started_at=1767225600.0)
    assert found.image_id == "registry.example/demo@sha256:abc"


# ---- what does not start ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "state", "words"),
    [
        (see(), PENDING, ""),
        (see(waiting_seconds=9.0), PENDING, ""),
        (see(a_pod()), PENDING, ""),
        (see(waiting("ContainerCreating"), waiting_seconds=5.0), PENDING, ""),
        (see(waiting("ContainerCreating"), waiting_seconds=20.0), PENDING, ""),
        (see(waiting("ContainerCreating"), waiting_seconds=40.0), PENDING, "being made, for 40 s"),
        (see(waiting_seconds=40.0), PENDING, "no pod yet, for 40 s"),
        (see(job=a_job(suspend=True), waiting_seconds=1e6), PENDING, "Suspended"),
        (see(waiting("ErrImagePull", "denied"), waiting_seconds=299.0), PENDING, "demo:1 cannot be pulled: denied"),
        (see(waiting("ImagePullBackOff"), waiting_seconds=299.0), PENDING, "ImagePullBackOff"),
        (see(unschedulable()), PENDING, "Unschedulable: 0/3 nodes"),
        (see(a_pod(), waiting_seconds=20, events=warning("FailedScheduling", "soon")), PENDING, "FailedScheduling: soon"),
        (see(events=warning("FailedMount", "timed out waiting"), pod=a_pod(), waiting_seconds=20), PENDING, "FailedMount: timed out"),
        (see(job=a_job(fence=FENCE), pod=a_pod()), PENDING, "being stopped"),
        (see(job=a_job(fence=FENCE), pod=a_pod(leaving=True)), PENDING, "being stopped"),
    ],
)  # fmt: skip
@pytest.mark.fault("F08", "F11")
def test_what_has_not_begun_says_why_once_that_is_worth_saying(
    seen: Observation, state: AttemptState, words: str
) -> None:
    found = judge(seen)

    assert found.state is state
    assert words in told(found) if words else found.reason is None
    assert not found.blocks_study
    assert found.fence is None


@pytest.mark.parametrize(
    ("seen", "cause", "words"),
    [
        (see(waiting("ErrImagePull", "not found"), waiting_seconds=300.0), Cause.IMAGE_PULL, "image_pull_secrets"),
        (see(waiting("ImagePullBackOff", "x"), waiting_seconds=9.0, image_pull_seconds=5.0), Cause.IMAGE_PULL, "demo:1"),
        (see(waiting("InvalidImageName", "bad")), Cause.IMAGE_PULL, "demo:1 cannot be used: bad"),
        (see(waiting("ErrImageNeverPull")), Cause.IMAGE_PULL, "ErrImageNeverPull"),
        (see(waiting("CreateContainerConfigError", 'secret "s3" not found')), Cause.USER_ERROR, 'secret "s3" not found'),
        (see(waiting("CreateContainerError", "no")), Cause.USER_ERROR, "namespace"),
        (see(unschedulable(), waiting_seconds=3600.0), Cause.UNSCHEDULABLE, "pending_timeout_seconds"),
        (see(waiting_seconds=3600.0, events=warning("FailedCreate", 'pods "x" is forbidden: exceeded quota: gpus, requested: 1')), Cause.UNSCHEDULABLE, "exceeded quota: gpus"),
        (see(waiting_seconds=3.0, events=warning("FailedCreate", 'violates PodSecurity "restricted:latest"')), Cause.USER_ERROR, "PodSecurity"),
        (see(waiting_seconds=3.0, events=warning("FailedCreate", "serviceaccount \"t\" not found")), Cause.USER_ERROR, "trial.kubernetes"),
        (see(waiting("ContainerCreating"), waiting_seconds=11.0, events=warning("FailedMount", 'MountVolume.SetUp failed: configmap "c" not found')), Cause.USER_ERROR, 'configmap "c"'),
    ],
)  # fmt: skip
@pytest.mark.fault("F06", "F07")
def test_what_can_never_begin_stops_the_study(seen: Observation, cause: Cause, words: str) -> None:
    found = judge(seen)

    assert found.state is ENDED
    assert found.blocks_study
    assert found.cause is cause
    assert words in told(found)
    assert found.reason is not None
    assert found.fence == Fence.because(cause, found.reason)


@pytest.mark.fault("F12")
@pytest.mark.parametrize(
    ("message", "is_excluded"),
    [
        ("0/1 nodes are available: 1 node(s) didn't match node selector.", True),
        ("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity.", True),
        (
            "0/5 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 2 node(s) had untolerated taint {gpu: }, 1 node(s) were unschedulable, 1 node(s) had taint {node.kubernetes.io/not-ready: }, that the pod didn't tolerate. preemption: 0/5 nodes are available: 5 Preemption is not helpful for scheduling.",
            True,
        ),
        ("0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match Pod's node affinity.", False),
        ("0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 Too many pods.", False),
        ("no node takes it", False),
        ("", False),
    ],
)  # fmt: skip
def test_without_room_but_on_the_nodes_it_avoids_an_attempt_ends(
    message: str, is_excluded: bool
) -> None:
    seen = see(unschedulable(message), avoids=("n1", "n2"))
    found = judge(seen)

    assert found.waits_for_room is not is_excluded
    assert found.missed_nodes == (("n1", "n2") if is_excluded else ())
    assert found.cause is (Cause.UNSCHEDULABLE if is_excluded else None)
    late = judge(replace(seen, waiting_seconds=3600.0))
    assert (late.cause, late.missed_nodes) == (Cause.UNSCHEDULABLE, ("n1", "n2"))
    assert "It avoids n1, n2." in told(late)
    assert not late.blocks_study
    assert judge(see(unschedulable(message))).missed_nodes == ()


@pytest.mark.fault("F06")
def test_an_image_that_others_could_pull_costs_one_attempt_only() -> None:
    found = judge(see(waiting("ErrImagePull", "no"), waiting_seconds=300.0, others_started=True))

    assert (found.state, found.cause, found.blocks_study) == (ENDED, Cause.IMAGE_PULL, False)
    assert found.fence is not None


@pytest.mark.parametrize(
    "seen",
    [
        see(unschedulable()),
        see(unschedulable(), waiting_seconds=1e9, others_running=True),
        see(waiting_seconds=3.0, events=warning("FailedCreate", "exceeded quota: gpus")),
        see(waiting_seconds=1e9, events=warning("FailedCreate", "exceeded quota"), others_running=True),
    ],
)  # fmt: skip
@pytest.mark.fault("F08")
def test_what_waits_for_room_says_so(seen: Observation) -> None:
    found = judge(seen)

    assert (found.state, found.waits_for_room, found.blocks_study) == (PENDING, True, False)


@pytest.mark.parametrize(
    ("seen", "wants"),
    [
        (see(), False),
        (see(waiting_seconds=3.0), True),
        (see(waiting("ContainerCreating")), False),
        (see(waiting("ContainerCreating"), waiting_seconds=11.0), True),
        (see(waiting("ErrImagePull")), True),
        (see(waiting("ErrImagePull", "not found")), False),
        (see(running()), False),
    ],
)
def test_events_are_asked_for_only_when_the_status_says_too_little(
    seen: Observation, wants: bool
) -> None:
    assert judge(seen).wants_events is wants


@pytest.mark.parametrize("reason", ["StartError", "ContainerCannotRun"])
def test_a_command_that_does_not_exist_is_the_users_error(reason: str) -> None:
    pod = ended(128, 'exec: "pyhton": executable file not found in $PATH', reason)

    found = judge(see(pod))

    assert (found.state, found.cause, found.ending) == (ENDED, Cause.USER_ERROR, None)
    assert "pyhton" in told(found)
    assert found.outcome is None


@pytest.mark.fault("F03")
def test_a_container_that_was_told_to_go_while_it_was_started_is_no_users_error() -> None:
    message = "failed to create containerd task: sandbox container is not running"

    found = judge(see(ended(128, message, "StartError", leaving=True)))
    assert (found.state, found.cause, found.outcome) == (ENDED, Cause.EVICTED, None)
    assert found.reason is not None
    assert found.fence == Fence.because(Cause.EVICTED, found.reason)
    found = judge(see(ended(128, message, "StartError"), a_job(fence=FENCE)))
    assert (found.state, found.cause, told(found)) == (ENDED, FENCE.cause, FENCE.message)


@pytest.mark.fault("F12")
@pytest.mark.parametrize(
    "message",
    [
        "context deadline exceeded",
        "rpc error: code = DeadlineExceeded desc = context deadline exceeded",
        'failed to reserve container name "trial_0": name "trial_0" is reserved for "c0ffee"',
        "dial unix /run/containerd/containerd.sock: connect: connection refused",
    ],
)
def test_a_runtime_in_trouble_is_the_nodes_fault_and_given_time(message: str) -> None:
    started = judge(see(ended(128, message, "StartError")))
    making = see(waiting("CreateContainerError", message), waiting_seconds=119.0)

    assert (started.state, started.cause, started.outcome) == (ENDED, Cause.NODE_FAULT, None)
    found = judge(making)
    assert (found.state, found.blocks_study) == (AttemptState.PENDING, False)
    assert message in told(found)
    found = judge(replace(making, waiting_seconds=120.0))
    assert (found.state, found.cause, found.blocks_study) == (ENDED, Cause.NODE_FAULT, False)


# ---- what is gone, or going -------------------------------------------------------------------


@pytest.mark.fault("F20")
def test_a_job_that_was_deleted_by_hand_is_lost() -> None:
    found = judge(see(job_is_gone=True))

    assert (found.state, found.cause, found.fence) == (ENDED, Cause.LOST, None)
    assert "deleted by someone else" in told(found)


def test_a_pod_that_was_deleted_by_hand_ends_the_attempt_and_fences_its_job() -> None:
    found = judge(see(running(), pod_is_gone=True))

    assert (found.state, found.cause) == (ENDED, Cause.EVICTED)
    assert "node-3 was deleted" in told(found)
    assert found.fence is not None


def test_a_pod_that_is_gone_keeps_the_reason_it_was_deleted_for() -> None:
    preempted = judge(see(running(**disrupted("PreemptionByScheduler")), pod_is_gone=True))
    collected = judge(see(running(leaving=True, **disrupted("DeletionByPodGC")), pod_is_gone=True))

    assert preempted.cause is Cause.PREEMPTED
    assert collected.cause is Cause.NODE_LOST


def test_a_failed_job_without_a_pod_is_lost() -> None:
    conditions = [{"type": "Failed", "status": "True", "message": "Job has reached its limit"}]

    found = judge(see(job=a_job(conditions=conditions)))

    assert (found.state, found.cause) == (ENDED, Cause.LOST)
    assert "reached its limit" in told(found)


@pytest.mark.parametrize("pod", [None, running(), a_pod(), running(leaving=True)])
def test_a_fence_decides_when_the_pod_is_gone(pod: dict[str, Any] | None) -> None:
    found = judge(see(pod, a_job(fence=FENCE), pod_is_gone=True, job_is_gone=True))

    assert (found.state, found.cause, told(found)) == (ENDED, FENCE.cause, FENCE.message)
    assert found.fence is None


@pytest.mark.fault("F04")
def test_a_fence_decides_over_what_the_container_says() -> None:
    stopped = judge(see(ended(143, CUT_SHORT), a_job(fence=FENCE)))
    crashed = judge(see(ended(1), a_job(fence=FENCE)))
    finished = judge(see(ended(0, DONE), a_job(fence=FENCE)))

    assert final(stopped).cause is Cause.PRUNED
    assert final(stopped).message == "worse than the median"
    assert final(crashed).cause is Cause.PRUNED
    assert final(finished).cause is Cause.OK
    assert {f.fence for f in (stopped, crashed, finished)} == {None}


@pytest.mark.fault("F03", "F50")
def test_a_pod_that_was_told_to_go_still_runs_and_its_job_is_fenced_at_once() -> None:
    found = judge(see(running(leaving=True, **disrupted("PreemptionByScheduler"))))

    assert found.state is RUNNING
    assert found.fence is not None
    assert found.fence.cause is Cause.PREEMPTED


@pytest.mark.fault("F04")
def test_a_pod_that_does_not_go_has_lost_its_node() -> None:
    seen = see(running(leaving=True), grace_seconds=20.0, leaving_seconds=20.0 + LOST_SECONDS)
    still, lost = judge(seen), judge(replace(seen, leaving_seconds=seen.leaving_seconds + 0.1))

    assert still.state is RUNNING
    assert (lost.state, lost.cause) == (ENDED, Cause.NODE_LOST)
    assert "node-3 does not answer" in told(lost)
    assert lost.ended_at == 1767225609.0, "when the cluster told it to go"
    fenced = judge(replace(seen, job=a_job(fence=FENCE), leaving_seconds=1e3))
    assert (fenced.state, fenced.cause) == (ENDED, Cause.PRUNED)
    evicted = Fence(How.STOPPED, Cause.EVICTED, "deleted by someone else")
    known_later = judge(replace(seen, job=a_job(fence=evicted), leaving_seconds=1e3))
    assert known_later.cause is Cause.NODE_LOST


# ---- fences -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", list(How))
@pytest.mark.parametrize("cause", list(Cause))
def test_a_fence_is_read_as_it_was_written(how: How, cause: Cause) -> None:
    fence = Fence(how, cause, "ü" * 900)

    assert Fence.read(a_job(fence=fence)) == fence


def test_a_long_sentence_is_cut_on_the_job() -> None:
    written = Fence.read(a_job(fence=Fence(How.STOPPED, Cause.LOST, "x" * 5000)))

    assert written is not None
    assert len(written.message) == 1000


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", "null", "{}", '{"how": "stopped", "cause": "boredom", "message": ""}'],
)
def test_a_fence_that_cannot_be_read_is_none(text: str) -> None:
    assert Fence.read(a_job(fence=text)) is None
    assert Fence.read({"metadata": {}}) is None
    assert Fence.read({"metadata": {"annotations": None}}) is None


# ---- whatever a later Kubernetes says ---------------------------------------------------------

WORDS = st.sampled_from(
    ["", "Failed", "Pending", "Unknown", "Evicted", "ErrImagePull", "DisruptionTarget", "Ready"]
) | st.text(max_size=20)
TIMES = st.none() | st.sampled_from(["2026-01-01T00:00:00Z", "yesterday", ""])
STATES = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "waiting": st.none() | st.fixed_dictionaries({}, optional={"reason": WORDS, "message": WORDS}),
        "running": st.none() | st.fixed_dictionaries({}, optional={"startedAt": TIMES}),
        "terminated": st.none()
        | st.fixed_dictionaries(
            {},
            optional={
                "exitCode": st.none() | st.integers(-10, 300),
                "reason": WORDS,
                "message": st.sampled_from([DONE, "{", "[]", "null"]) | st.text(max_size=20),
                "startedAt": TIMES,
                "finishedAt": TIMES,
            },
        ),
        "paused": st.just({}),
    },
)  # fmt: skip
CONDITIONS = st.none() | st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["PodScheduled", "DisruptionTarget", "Failed"]) | WORDS,
            "status": st.sampled_from(["True", "False", "Unknown"]),
            "reason": WORDS,
            "message": WORDS,
        },
    ),
    max_size=3,
)
PODS = st.none() | st.fixed_dictionaries(
    {"metadata": st.fixed_dictionaries({"name": st.just("p")}, optional={"deletionTimestamp": TIMES})},
    optional={
        "spec": st.none() | st.fixed_dictionaries({}, optional={"nodeName": WORDS}),
        "status": st.none()
        | st.fixed_dictionaries(
            {},
            optional={
                "phase": st.none() | WORDS,
                "reason": st.none() | WORDS,
                "message": st.none() | WORDS,
                "conditions": CONDITIONS,
                "containerStatuses": st.none()
                | st.lists(
                    st.fixed_dictionaries(
                        {"name": st.sampled_from(["trial", "other"])},
                        optional={"state": STATES, "imageID": st.none() | WORDS},
                    ),
                    max_size=2,
                ),
            },
        ),
    },
)  # fmt: skip
JOBS = st.builds(
    a_job,
    fence=st.none() | st.just(FENCE) | st.text(max_size=5),
    suspend=st.booleans(),
    conditions=CONDITIONS,
)
EVENTS = st.lists(
    st.fixed_dictionaries(
        {}, optional={"type": st.sampled_from(["Warning", "Normal"]), "reason": WORDS, "message": WORDS}
    ),
    max_size=3,
)  # fmt: skip


@settings(derandomize=True, deadline=None, max_examples=500)
@given(
    job=JOBS,
    pod=PODS,
    events=EVENTS,
    flags=st.tuples(*[st.booleans()] * 4),
    seconds=st.tuples(*[st.sampled_from([0.0, 30.0, 1e6])] * 2),
)
@pytest.mark.fault("F55")
def test_no_status_at_all_is_too_much(
    job: dict[str, Any],
    pod: dict[str, Any] | None,
    events: list[dict[str, Any]],
    flags: tuple[bool, bool, bool, bool],
    seconds: tuple[float, float],
) -> None:
    found = judge(
        Observation(
            job=job,
            job_is_gone=flags[0],
            pod=pod,
            pod_is_gone=flags[1],
            others_started=flags[2],
            others_running=flags[3],
            events=events,
            waiting_seconds=seconds[0],
            leaving_seconds=seconds[1],
        )
    )

    if found.state is ENDED:
        assert (found.ending is None) != (found.cause is None)
        assert final(found).to_json()
    else:
        assert (found.ending, found.cause, found.blocks_study) == (None, None, False)


@pytest.mark.fault("F55")
def test_a_phase_from_a_later_kubernetes_is_not_an_end() -> None:
    assert judge(see(a_pod(phase="Hibernating"))).state is PENDING
    assert judge(see(running(phase="Hibernating"))).state is RUNNING
    assert judge(see(running(phase="Unknown"))).state is RUNNING
    assert isinstance(judge(see(ended(0, DONE, phase="Unknown"))).ending, Ending)


@pytest.mark.fault("F45")
def test_how_long_a_container_runs_is_counted_by_one_clock_at_a_time() -> None:
    noon, one_hour = 1767268800.0, 3600.0
    bound = {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T12:00:00Z"}
    pod = a_pod(
        {"running": {"startedAt": "2026-01-01T13:00:40Z"}},  # a node whose clock is an hour ahead
        startTime="2026-01-01T13:00:00Z",
        conditions=[bound],
    )

    assert running_seconds(pod, noon + 100) == 60.0
    assert running_seconds(pod, noon + 10) == 0.0
    assert running_seconds(pod, noon - one_hour) == 0.0
    assert running_seconds(pod, None) is None
    assert running_seconds(running(), noon) is None
    assert running_seconds(a_pod(), noon) is None

"""The executor over a fake cluster: what it asks for, what it makes of it, and what survives it."""

from __future__ import annotations

import errno
import logging
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studyflow.errors import ExecutorBlocked, ExecutorError, ExecutorUnavailable, PlatformError
from studyflow.executors import AttemptId, AttemptState, AttemptStatus, ExecutorTraits
from studyflow.executors.kubernetes import KubernetesExecutor
from studyflow.executors.kubernetes.api import Refused
from studyflow.executors.kubernetes.executor import CALLS_AT_ONCE
from studyflow.executors.kubernetes.fence import Fence
from studyflow.executors.kubernetes.judging import LOST_SECONDS
from studyflow.executors.kubernetes.names import job_name
from studyflow.reasons import Code
from studyflow.spec import StudySpec
from studyflow.spec.pods import Platform
from studyflow.testing.fake_cluster import DIGEST, FakeCluster, FakeClusterApi
from studyflow.trial import Cause, Outcome, Trial

AWAY = ExecutorUnavailable("The API does not answer.")
FIRST = AttemptId(0, 1)
JOB = job_name("demo", FIRST)


def a_spec(kubernetes: dict[str, Any] | None = None, **trial: Any) -> StudySpec:
    return StudySpec.from_mapping(
        {
            "name": "demo",
            "objectives": [{"metric": "loss", "direction": "minimize"}],
            "search_space": {"x": {"type": "float", "low": 0, "high": 1}},
            "budget": {"n_trials": 3},
            "trial": {
                "command": ["python", "train.py"],
                "image": "registry.example/demo:1",
                "kubernetes": {"stop_grace_seconds": 10, **(kubernetes or {})},
                **trial,
            },
        }
    )


def a_trial(number: int = 0, attempt: int = 1, **params: Any) -> Trial:
    return Trial("demo", number, params or {"x": 0.5}, attempt=attempt, metrics=("loss",))


def done(number: int = 0, attempt: int = 1, **changes: Any) -> Outcome:
    return Outcome("demo", number, attempt, Cause.OK, {"loss": 0.25}, **changes)


class Runner:
    """One executor over the rig's cluster, with an API client of its own."""

    def __init__(self, rig: Rig, spec: StudySpec, **options: Any) -> None:
        self.cluster = rig.cluster
        self.api = FakeClusterApi(rig.cluster)
        self.executor = KubernetesExecutor(
            spec,
            api=self.api,
            root=rig.folder,
            is_threaded=False,
            **{"clock": rig.cluster.clock, **options},
        )

    def poll(self, attempt: AttemptId = FIRST) -> AttemptStatus:
        return self.executor.poll()[attempt]

    def outcome(self, attempt: AttemptId = FIRST) -> Outcome:
        """Return how an attempt ended, which may take several polls."""
        for _ in range(5):
            status = self.poll(attempt)
            if status.outcome is not None:
                return status.outcome
        raise AssertionError(f"it has not ended: {status}")


class Rig:
    def __init__(self, folder: Path, **cluster: Any) -> None:
        self.folder = folder
        self.cluster = FakeCluster(**cluster)

    def runner(self, spec: StudySpec | None = None, **options: Any) -> Runner:
        return Runner(self, spec or a_spec(), **options)

    def fence(self) -> Fence:
        fence = Fence.read(self.cluster.job(JOB))
        assert fence is not None
        return fence


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


@pytest.fixture
def slow(tmp_path: Path) -> Rig:
    """A cluster whose containers use up their grace."""
    return Rig(tmp_path, ends_when_told=False)


# ---- what a trial costs -----------------------------------------------------------------------


def test_an_ordinary_trial_costs_few_requests_and_polling_costs_none(rig: Rig) -> None:
    n_trials, n_polls = 10, 20
    runner = rig.runner()
    runner.executor.poll()
    for number in range(n_trials):
        attempt = runner.executor.submit(a_trial(number))
        for _ in range(n_polls):
            runner.executor.poll()
        rig.cluster.start(job_name("demo", attempt))
        rig.cluster.write_log(job_name("demo", attempt), "hello\n")
        for _ in range(n_polls):
            runner.executor.poll()
        rig.cluster.finish(job_name("demo", attempt), message=done(number))
        assert runner.outcome(attempt).cause is Cause.OK
        runner.executor.forget(attempt)
    runner.executor.poll()

    counts = Counter(runner.api.n_requests)
    lists = {kind: counts.pop(f"list {kind}") for kind in ("jobs", "pods")}
    # Without threads every poll is a watch; with them one stays open for a minute.
    watches = counts.pop("watch jobs") + counts.pop("watch pods")
    per_trial = sum(counts.values()) / n_trials
    assert lists == {"jobs": 1, "pods": 1}
    assert watches > n_polls
    assert per_trial <= 6, f"{per_trial:g} requests a trial: {dict(counts)}"
    assert per_trial == 3, f"create, log, delete; but {per_trial:g} a trial: {dict(counts)}"
    assert rig.cluster.job_names() == rig.cluster.pod_names() == []


def test_nothing_of_forgotten_attempts_is_kept(rig: Rig) -> None:
    runner = rig.runner()
    for number in range(5):
        attempt = runner.executor.submit(a_trial(number))
        runner.executor.poll()
        rig.cluster.start(job_name("demo", attempt))
        rig.cluster.finish(job_name("demo", attempt), message=done(number))
        runner.outcome(attempt)
        runner.executor.forget(attempt)
        assert dict(runner.executor.poll()) == {}
    runner.executor.poll()

    objects = runner.executor._objects
    assert [*objects._jobs.objects(), *objects._jobs.gone()] == []
    assert [*objects._pods.objects(), *objects._pods.gone()] == []
    assert objects._pods_of == {}
    assert runner.executor._attempts._attempts == {}


@pytest.mark.fault("F53")
def test_the_image_is_pinned_once_a_pod_has_shown_its_digest(rig: Rig) -> None:
    told: list[str] = []
    runner = rig.runner(on_image=told.append)
    for number in range(2):
        runner.executor.submit(a_trial(number))
        rig.cluster.start(job_name("demo", AttemptId(number, 1)))
        runner.executor.poll()

    images = [
        rig.cluster.job(name)["spec"]["template"]["spec"]["containers"][0]["image"]
        for name in rig.cluster.job_names()
    ]
    pinned = f"registry.example/demo@{DIGEST}"
    assert images == ["registry.example/demo:1", pinned]
    assert told == [pinned]
    again = rig.runner(image=pinned)
    again.executor.submit(a_trial(2))
    job = rig.cluster.job(job_name("demo", AttemptId(2, 1)))
    assert job["spec"]["template"]["spec"]["containers"][0]["image"] == pinned


@pytest.mark.parametrize(
    ("image", "image_id", "pinned"),
    [
        ("r.example/demo:1", "", None),
        ("r.example/demo:1", "sha256:0123", None),
        ("r.example/demo:1", "docker://sha256:0123", None),
        ("r.example/demo:1", "r.example/demo@sha256:0123", "r.example/demo@sha256:0123"),
        ("r:5000/demo", "docker-pullable://r:5000/demo@sha256:0123", "r:5000/demo@sha256:0123"),
        ("demo", "docker.io/library/demo@sha256:0123", "docker.io/library/demo@sha256:0123"),
        ("me/demo:1", "docker.io/me/demo@sha256:0123", "docker.io/me/demo@sha256:0123"),
        ("localhost/demo:1", "localhost/demo@sha256:0123", "localhost/demo@sha256:0123"),
        # The node had the same content under another name, which other nodes may not reach.
        ("demo:1", "docker.io/library/import-2026-01-01@sha256:0123", None),
        ("r.example/demo:1", "mirror.example/demo@sha256:0123", None),
    ],
)
def test_an_image_is_pinned_when_the_node_shows_its_digest_under_its_name(
    rig: Rig, image: str, image_id: str, pinned: str | None
) -> None:
    runner = rig.runner(a_spec(image=image))
    runner.executor.submit(a_trial())
    rig.cluster.start(JOB)
    pod = rig.cluster.pod(JOB)
    pod["status"]["containerStatuses"][0]["imageID"] = image_id
    rig.cluster.change_pod(JOB, pod["status"])
    runner.executor.poll()
    runner.executor.submit(a_trial(1))

    job = rig.cluster.job(job_name("demo", AttemptId(1, 1)))
    assert job["spec"]["template"]["spec"]["containers"][0]["image"] == (pinned or image)


def test_a_study_without_an_image_cannot_start(rig: Rig) -> None:
    with pytest.raises(ExecutorBlocked, match=r"trial\.image"):
        rig.runner(a_spec(image=None))


# ---- submitting -------------------------------------------------------------------------------


@pytest.mark.fault("F15")
def test_a_job_that_exists_already_is_adopted(rig: Rig) -> None:
    first, second = rig.runner(), rig.runner()
    second.executor.poll()  # its watch has not seen what follows
    first.executor.submit(a_trial())
    second.api.interrupt("watch jobs", AWAY)

    assert second.executor.submit(a_trial()) == FIRST
    assert second.api.n_requests["create jobs"] == 1
    assert second.api.n_requests["get jobs"] == 1
    assert len(rig.cluster.pod_names()) == 1


@pytest.mark.parametrize("is_after", [False, True])
@pytest.mark.fault("F15")
def test_a_create_without_an_answer_is_repeated_and_never_doubled(rig: Rig, is_after: bool) -> None:
    runner = rig.runner()
    runner.api.interrupt("create jobs", AWAY, is_after=is_after)
    with pytest.raises(ExecutorUnavailable):
        runner.executor.submit(a_trial())
    assert len(rig.cluster.job_names()) == is_after

    assert runner.executor.submit(a_trial()) == FIRST
    assert len(rig.cluster.job_names()) == len(rig.cluster.pod_names()) == 1
    assert runner.poll().state is AttemptState.PENDING


def test_a_job_that_vanishes_between_create_and_get_is_tried_again(rig: Rig) -> None:
    other, runner = rig.runner(), rig.runner()
    runner.executor.poll()
    other.executor.submit(a_trial())
    runner.api.interrupt("watch jobs", AWAY)
    runner.api.interrupt("get jobs", lambda: rig.cluster.delete_job(JOB))

    with pytest.raises(ExecutorUnavailable, match="existed and is gone"):
        runner.executor.submit(a_trial())
    assert runner.executor.submit(a_trial()) == FIRST


@pytest.mark.fault("F15")
def test_another_trials_job_of_this_name_is_refused_with_the_way_out(rig: Rig) -> None:
    rig.runner().executor.submit(a_trial(x=0.1))
    runner = rig.runner()

    with pytest.raises(ExecutorBlocked, match="runs another trial") as caught:
        runner.executor.submit(a_trial(x=0.2))
    assert f"kubectl -n trials delete job {JOB}" in str(caught.value)
    assert len(rig.cluster.pod_names()) == 1


def test_a_job_that_holds_no_trial_is_refused_and_ignored(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    runner = rig.runner()
    runner.executor.submit(a_trial())
    FakeClusterApi(rig.cluster).patch_job(JOB, {"spec": {"template": {"spec": {"containers": []}}}})
    another = rig.runner()
    with caplog.at_level(logging.WARNING):
        assert dict(another.executor.poll()) == {}
    assert f"the Job {JOB} holds no trial" in caplog.text
    with pytest.raises(ExecutorBlocked, match="another trial"):
        another.executor.submit(a_trial())


@pytest.mark.fault("F87")
def test_a_pod_that_no_trial_may_have_stops_the_study_with_its_reason(rig: Rig) -> None:
    hostile = a_spec({"pod_template": {"spec": {"hostNetwork": True, "hostPID": True}}})
    runner = rig.runner(hostile)

    with pytest.raises(ExecutorBlocked) as caught:
        runner.executor.submit(a_trial())

    assert caught.value.reason.code is Code.POD_FORBIDDEN
    assert "hostNetwork: must be false in every trial's pod, but it is true" in str(caught.value)
    assert "(and 1 more: trial.kubernetes.pod_template.spec.hostPID)" in str(caught.value)
    assert "remove it" in (caught.value.hint or "")
    assert rig.cluster.job_names() == []


def test_what_the_platform_allows_is_looked_up_before_each_attempt(rig: Rig) -> None:
    platforms = [Platform(), Platform(contact="Ada", queues=())]
    runner = rig.runner(a_spec({"queue": "team-a"}), platform=lambda: platforms.pop(0))

    runner.executor.submit(a_trial())
    with pytest.raises(ExecutorBlocked, match="ask Ada") as caught:
        runner.executor.submit(a_trial(1))
    assert caught.value.reason.code is Code.PLATFORM_FORBIDS

    def unreadable() -> Platform:
        raise PlatformError(
            "Cannot read the platform's file.", problems=("line 1", "line 2"), hint="mount it."
        )

    with pytest.raises(ExecutorBlocked, match="Cannot read the platform's file") as caught:
        rig.runner(a_spec(), platform=unreadable).executor.submit(a_trial(2))
    assert caught.value.reason.code is Code.PLATFORM_WRONG
    assert caught.value.message.endswith("file. line 1; line 2")


def test_a_trial_of_another_study_is_refused(rig: Rig) -> None:
    with pytest.raises(ExecutorError, match="study 'demo'; the trial is of 'other'"):
        rig.runner().executor.submit(Trial("other", 0, {}))


def test_parameters_that_look_like_references_are_the_same_trial_when_adopted(rig: Rig) -> None:
    trial = a_trial(x="$(HOME) $$ $$(x)")
    rig.runner().executor.submit(trial)
    assert rig.runner().executor.submit(trial) == FIRST


def test_a_refusal_and_an_outage_are_passed_on(rig: Rig) -> None:
    runner = rig.runner()
    runner.api.go_away()
    for call in (runner.executor.poll, lambda: runner.executor.submit(a_trial())):
        with pytest.raises(ExecutorUnavailable):
            call()
    runner.api.come_back()
    runner.api.interrupt("create jobs", Refused("Cannot create jobs: 403"))
    with pytest.raises(ExecutorBlocked, match="403"):
        runner.executor.submit(a_trial())


# ---- ends -------------------------------------------------------------------------------------


def test_an_attempt_without_outcome_is_judged_by_its_log(rig: Rig) -> None:
    runner = rig.runner(a_spec(resources={"memory": "4Gi"}))
    ends: dict[int, tuple[dict[str, Any], Cause, str]] = {
        0: ({"exit_code": 1}, Cause.USER_ERROR, "Last line: KeyError: 'lr'"),
        1: ({"exit_code": 137, "reason": "OOMKilled"}, Cause.HOST_OOM, "Its limit is 4Gi"),
        2: ({"exit_code": 0}, Cause.BAD_METRIC, "sdk.finish"),
        3: ({"exit_code": 0, "message": done(7)}, Cause.BAD_METRIC, "refused"),
    }
    for number, (how, cause, words) in ends.items():
        attempt = runner.executor.submit(a_trial(number))
        name = job_name("demo", attempt)
        rig.cluster.start(name)
        rig.cluster.write_log(name, "Traceback ...\nKeyError: 'lr'\n")
        rig.cluster.finish(name, **how)
        outcome = runner.outcome(attempt)
        assert (outcome.cause, words in str(outcome.reason)) == (cause, True), outcome
        log = runner.executor.files(attempt).log
        assert log is not None
        assert log.read_text() == "Traceback ...\nKeyError: 'lr'\n"


@pytest.mark.parametrize("n_failures", [1, 2, 3, 9])
def test_an_end_is_told_once_its_log_is_there_or_was_asked_for_three_times(
    rig: Rig, n_failures: int
) -> None:
    runner = rig.runner()
    runner.executor.submit(a_trial())
    rig.cluster.start(JOB)
    rig.cluster.write_log(JOB, "hello\n")
    rig.cluster.finish(JOB, message=done())
    runner.api.interrupt("log pods", AWAY, times=n_failures)

    states = [runner.poll().state for _ in range(5)]

    n_tries = min(n_failures + 1, 3)
    n_waits = n_tries - 1
    ended, running = AttemptState.ENDED, AttemptState.RUNNING
    assert states == [running] * n_waits + [ended] * (5 - n_waits)
    assert runner.api.n_requests["log pods"] == n_tries
    assert runner.outcome().cause is Cause.OK
    assert (runner.executor.files(FIRST).log is not None) == (n_failures < 3)


def test_a_log_that_finds_no_room_costs_nothing_but_the_log(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    runner = rig.runner()
    runner.executor.submit(a_trial())
    rig.cluster.start(JOB)
    rig.cluster.write_log(JOB, "hello\n")
    rig.cluster.finish(JOB, message=done())
    for _ in range(3):
        runner.poll()
    assert runner.outcome().cause is Cause.OK
    assert runner.executor.files(FIRST).log is None


@pytest.mark.fault("F42")
def test_of_a_log_that_is_too_long_the_end_is_kept(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studyflow.executors.kubernetes.logs.LOG_BYTES", 150_000)  # timestamps too
    runner = rig.runner()
    runner.executor.submit(a_trial())
    rig.cluster.start(JOB)
    rig.cluster.write_log(JOB, f"{'.' * 98}\n" * 5_000 + "KeyError: 'lr'\n")
    rig.cluster.finish(JOB, exit_code=1)

    assert "Last line: KeyError: 'lr'" in runner.outcome().message
    log = runner.executor.files(FIRST).log
    assert log is not None
    assert log.stat().st_size == 999 * 99 + 15
    assert runner.api.n_requests["log pods"] == 2


EXCUSES = (
    "unable to retrieve container logs for containerd://4f5b",
    'failed to try resolving symlinks in path "/var/log/pods/hpo_demo-0/trial/0.log": lstat: …\n',
    "rpc error: code = NotFound\ndesc = an error occurred when try to find container",
)


@pytest.mark.fault("F69")
@pytest.mark.parametrize("excuse", EXCUSES)
def test_what_the_kubelet_says_of_a_log_that_is_gone_is_no_log(rig: Rig, excuse: str) -> None:
    runner = rig.runner()
    executor = runner.executor
    executor.submit(a_trial())
    rig.cluster.start(JOB)
    runner.poll()
    rig.cluster.remove_log(JOB, excuse)
    assert executor.read_log(FIRST) == b""
    assert b"".join(executor.follow_log(FIRST)) == b""
    rig.cluster.finish(JOB, exit_code=1)
    outcome = runner.outcome()
    assert (outcome.cause, outcome.message) == (Cause.USER_ERROR, "Exit code 1.")
    assert executor.files(FIRST).log is None


@pytest.mark.fault("F69")
@pytest.mark.parametrize("excuse", EXCUSES)
def test_the_log_of_a_pruned_trial_outlives_its_container(slow: Rig, excuse: str) -> None:
    runner = slow.runner()
    runner.executor.submit(a_trial())
    slow.cluster.start(JOB)
    slow.cluster.write_log(JOB, "epoch 1\n")
    runner.poll()
    runner.executor.stop(FIRST, Cause.PRUNED, "worse than the median")
    slow.cluster.remove_log(JOB, excuse)
    slow.cluster.finish(JOB, exit_code=143)
    assert runner.outcome().cause is Cause.PRUNED
    assert runner.executor.read_log(FIRST) == b"epoch 1\n"


@pytest.mark.fault("F69")
def test_the_log_of_a_pod_that_leaves_is_fetched_before_it_has_gone(slow: Rig) -> None:
    runner = slow.runner()
    runner.executor.submit(a_trial())
    slow.cluster.start(JOB)
    slow.cluster.write_log(JOB, "epoch 1\n")
    runner.poll()
    slow.cluster.evict(JOB)
    runner.poll()
    runner.poll()
    assert runner.api.n_requests["log pods"] == 1
    slow.cluster.remove_log(JOB, EXCUSES[0])
    slow.cluster.advance(1000)
    assert runner.outcome().cause is Cause.EVICTED
    assert runner.executor.read_log(FIRST) == b"epoch 1\n"


def test_the_log_of_a_running_trial_is_read_in_pieces_of_the_size_that_is_wanted(
    rig: Rig,
) -> None:
    runner = rig.runner()
    runner.executor.submit(a_trial())
    rig.cluster.start(JOB)
    text = b"".join(b"%d\n" % number for number in range(5_000))
    rig.cluster.write_log(JOB, text)
    runner.poll()
    pieces: list[bytes] = []
    while piece := runner.executor.read_log(FIRST, offset=5_000 * len(pieces), limit_bytes=5_000):
        pieces.append(piece)
    assert b"".join(pieces) == text
    assert {len(piece) for piece in pieces[:-1]} == {5_000}


def test_the_log_is_read_from_the_pod_while_it_runs_and_from_the_file_after(rig: Rig) -> None:
    runner = rig.runner()
    executor = runner.executor
    executor.submit(a_trial())
    rig.cluster.start(JOB)
    rig.cluster.write_log(JOB, "one\ntwo\n")
    executor.poll()
    assert executor.read_log(FIRST, offset=4) == b"two\n"
    assert b"".join(executor.follow_log(FIRST)) == b"one\ntwo\n"
    rig.cluster.finish(JOB, message=done())
    runner.outcome()
    executor.forget(FIRST)
    executor.poll()

    assert executor.read_log(FIRST, offset=4, limit_bytes=2) == b"tw"
    assert b"".join(rig.runner().executor.follow_log(FIRST)) == b"one\ntwo\n"


@pytest.mark.fault("F05")
def test_a_second_pod_of_a_job_changes_nothing(slow: Rig) -> None:
    runner = slow.runner()
    runner.executor.submit(a_trial())
    slow.cluster.start(JOB)
    assert runner.poll().state is AttemptState.RUNNING
    slow.cluster.is_controller_stopped = True
    slow.cluster.delete_pod(JOB, grace_seconds=0)
    slow.cluster.is_controller_stopped = False
    slow.cluster.reconcile()
    slow.cluster.start(JOB)
    slow.cluster.finish(JOB, message=done())

    assert runner.outcome().cause is Cause.EVICTED
    assert slow.fence().cause is Cause.EVICTED


@pytest.mark.fault("F03", "F05")
def test_an_evicted_pods_replacement_is_taken_away_again(slow: Rig) -> None:
    runner = slow.runner()
    runner.executor.submit(a_trial())
    slow.cluster.start(JOB)
    runner.executor.poll()
    slow.cluster.preempt(JOB)
    assert len(slow.cluster.pod_names()) == 2, "the Job controller does not wait"

    assert runner.poll().state is AttemptState.RUNNING

    assert len(slow.cluster.pod_names()) == 1
    assert slow.fence().cause is Cause.PREEMPTED
    slow.cluster.advance(11)
    assert runner.outcome().cause is Cause.PREEMPTED
    assert slow.cluster.pod_names() == []


@pytest.mark.fault("F20")
def test_a_job_deleted_by_hand_is_attempted_again(rig: Rig) -> None:
    runner = rig.runner()
    runner.executor.submit(a_trial())
    runner.executor.poll()
    rig.cluster.delete_job(JOB)

    outcome = runner.outcome()
    assert outcome.cause.is_infrastructure
    assert "deleted by someone else" in outcome.message
    runner.executor.forget(FIRST)
    assert dict(runner.executor.poll()) == {}


@pytest.mark.fault("F04")
def test_a_lost_node_ends_the_attempt_after_grace_and_patience(rig: Rig) -> None:
    runner = rig.runner()
    runner.executor.submit(a_trial())
    rig.cluster.start(JOB)
    runner.executor.poll()
    rig.cluster.lose_node()
    assert runner.poll().state is AttemptState.RUNNING
    runner.api.interrupt("log pods", AWAY, times=None)
    rig.cluster.advance(10 + LOST_SECONDS)
    assert runner.poll().state is AttemptState.RUNNING
    rig.cluster.advance(1)

    assert runner.outcome().cause is Cause.NODE_LOST
    assert runner.poll().node == "node-1"
    assert rig.fence().cause is Cause.EVICTED  # written when nobody could know more


# ---- what does not start ----------------------------------------------------------------------


def wait_for_room(rig: Rig) -> None:
    rig.cluster.unschedulable(JOB)


def pull(rig: Rig) -> None:
    rig.cluster.fail_pull(JOB)


@pytest.mark.parametrize(
    ("hold", "seconds", "cause"),
    [(wait_for_room, 3600.0, Cause.UNSCHEDULABLE), (pull, 300.0, Cause.IMAGE_PULL)],
)
@pytest.mark.fault("F06")
def test_what_does_not_start_for_long_stops_the_study(
    rig: Rig, hold: Callable[[Rig], None], seconds: float, cause: Cause
) -> None:
    runner = rig.runner()
    runner.executor.submit(a_trial())
    hold(rig)
    runner.poll()
    rig.cluster.advance(seconds - 1)
    status = runner.poll()
    assert (status.state, status.blocks_study) == (AttemptState.PENDING, False)
    assert status.waits_for_room is (cause is Cause.UNSCHEDULABLE)
    assert status.reason
    rig.cluster.advance(2)

    status = runner.poll()
    assert status.blocks_study
    assert status.outcome is not None
    assert status.outcome.cause is cause
    assert rig.cluster.pod_names() == []
    runner.executor.forget(FIRST)
    assert rig.cluster.job_names() == []


@pytest.mark.fault("F08", "F11")
def test_each_wait_has_its_own_time(rig: Rig) -> None:
    """An image that cannot be pulled at once is no reason to give up after a long queue."""
    runner = rig.runner(a_spec({"queue": "team-a"}))
    runner.executor.submit(a_trial())
    assert "Suspended" in str(runner.poll().reason)
    rig.cluster.advance(1e6)
    assert "Suspended" in str(runner.poll().reason)

    rig.cluster.unsuspend(JOB)
    rig.cluster.unschedulable(JOB)
    assert runner.poll().waits_for_room
    rig.cluster.advance(3000)
    assert runner.poll().waits_for_room
    rig.cluster.fail_pull(JOB)
    assert runner.poll().state is AttemptState.PENDING
    rig.cluster.hold(JOB, "ImagePullBackOff", "manifest unknown")
    rig.cluster.advance(200)
    assert runner.poll().state is AttemptState.PENDING
    rig.cluster.advance(101)
    assert runner.poll().blocks_study


@pytest.mark.fault("F08")
def test_a_trial_that_waited_beside_others_is_not_given_up_when_they_end(rig: Rig) -> None:
    runner = rig.runner()
    other = runner.executor.submit(a_trial(1))
    rig.cluster.start(job_name("demo", other))
    runner.executor.submit(a_trial())
    rig.cluster.unschedulable(JOB)
    for _ in range(5):
        rig.cluster.advance(3000)
        assert runner.poll().waits_for_room
    rig.cluster.finish(job_name("demo", other), message=done(1))

    for _ in range(3):  # the scheduler needs its time, too
        assert runner.poll().state is AttemptState.PENDING
        rig.cluster.advance(1)
    rig.cluster.start(JOB)
    assert runner.poll().state is AttemptState.RUNNING


def test_events_are_asked_for_once_in_a_while_only(rig: Rig) -> None:
    rig.cluster.refuse_pods("exceeded quota: gpus, requested: 1, used: 4, limited: 4")
    runner = rig.runner()
    runner.executor.submit(a_trial())
    assert runner.poll().reason is None
    for _ in range(40):
        rig.cluster.advance(1)
        runner.poll()

    assert "exceeded quota: gpus" in str(runner.poll().reason)
    assert runner.poll().waits_for_room
    assert runner.api.n_requests["list events"] <= 4
    rig.cluster.allow_pods()
    rig.cluster.start(JOB)
    assert runner.poll().state is AttemptState.RUNNING


@pytest.mark.fault("F10")
def test_a_policy_that_refuses_the_pod_stops_the_study_with_the_rule(rig: Rig) -> None:
    rig.cluster.refuse_pods('violates PodSecurity "restricted:latest": runAsNonRoot != true')
    runner = rig.runner()
    runner.executor.submit(a_trial())
    runner.poll()
    rig.cluster.advance(5)

    status = runner.poll()
    assert status.blocks_study
    assert status.outcome is not None
    assert "runAsNonRoot" in status.outcome.message


def test_without_an_answer_about_events_it_only_waits(rig: Rig) -> None:
    rig.cluster.refuse_pods("violates PodSecurity")
    runner = rig.runner()
    runner.executor.submit(a_trial())
    runner.poll()
    rig.cluster.advance(5)
    runner.api.interrupt("list events", AWAY)
    assert runner.poll().state is AttemptState.PENDING


# ---- time limits ------------------------------------------------------------------------------


@pytest.mark.fault("F49")
def test_a_trial_over_its_time_is_fenced_and_its_log_kept(slow: Rig) -> None:
    runner = slow.runner(a_spec(timeout_seconds=60))
    runner.executor.submit(a_trial())
    slow.cluster.advance(1000)  # waiting costs no time
    slow.cluster.start(JOB)
    slow.cluster.write_log(JOB, "epoch 1\n")
    runner.poll()
    slow.cluster.advance(59)
    assert runner.poll().state is AttemptState.RUNNING
    assert slow.cluster.job(JOB)["spec"]["parallelism"] == 1
    slow.cluster.advance(1)
    slow.cluster.is_controller_stopped = True
    for _ in range(5):
        assert runner.poll().state is AttemptState.RUNNING

    assert slow.cluster.job(JOB)["spec"]["parallelism"] == 0
    assert slow.fence().cause is Cause.TIMEOUT
    assert runner.api.n_requests["patch jobs"] == 1
    assert runner.api.n_requests["log pods"] == 1, "not at every poll until the pod goes"
    slow.cluster.is_controller_stopped = False
    slow.cluster.reconcile()
    slow.cluster.advance(11)
    outcome = runner.outcome()
    assert outcome.cause is Cause.TIMEOUT
    assert "60 s" in outcome.message
    assert runner.executor.read_log(FIRST) == b"epoch 1\n"


@pytest.mark.fault("F49")
def test_an_adopted_attempts_time_limit_counts_from_its_start(slow: Rig) -> None:
    slow.runner(a_spec(timeout_seconds=60)).executor.submit(a_trial())
    slow.cluster.start(JOB)
    slow.cluster.advance(50)
    runner = slow.runner(a_spec(timeout_seconds=60))
    runner.poll()
    assert slow.cluster.job(JOB)["spec"]["parallelism"] == 1
    slow.cluster.advance(11)
    runner.poll()
    assert slow.fence().cause is Cause.TIMEOUT


@pytest.mark.fault("F45")
@pytest.mark.parametrize("skew_seconds", [-3600.0, 3600.0])
def test_an_adopted_attempt_is_timed_by_one_clock_whatever_its_nodes_says(
    slow: Rig, skew_seconds: float
) -> None:
    slow.cluster.node_skew_seconds = skew_seconds
    slow.runner(a_spec(timeout_seconds=60)).executor.submit(a_trial())
    slow.cluster.advance(500)  # no node had room
    slow.cluster.schedule(JOB)
    slow.cluster.advance(200)  # its image was pulled
    slow.cluster.start(JOB)
    slow.cluster.advance(50)
    runner = slow.runner(a_spec(timeout_seconds=60))
    runner.poll()
    slow.cluster.advance(9)
    runner.poll()
    assert slow.cluster.job(JOB)["spec"]["parallelism"] == 1
    slow.cluster.advance(1)
    runner.poll()
    assert slow.fence().cause is Cause.TIMEOUT


@pytest.mark.fault("F45")
@pytest.mark.parametrize("skew_seconds", [-3600.0, 3600.0])
def test_the_runners_clock_does_not_matter(slow: Rig, skew_seconds: float) -> None:
    slow.runner(a_spec(timeout_seconds=60)).executor.submit(a_trial())
    slow.cluster.start(JOB)
    slow.cluster.advance(50)
    clock = slow.cluster.clock
    runner = slow.runner(a_spec(timeout_seconds=60), clock=lambda: clock() + skew_seconds)
    runner.poll()
    assert slow.cluster.job(JOB)["spec"]["parallelism"] == 1
    slow.cluster.advance(10)
    runner.poll()
    assert slow.fence().cause is Cause.TIMEOUT


def test_a_result_that_was_there_before_the_time_was_up_counts(slow: Rig) -> None:
    runner = slow.runner(a_spec(timeout_seconds=60))
    runner.executor.submit(a_trial())
    slow.cluster.start(JOB)
    runner.poll()
    slow.cluster.advance(61)
    runner.poll()
    slow.cluster.finish(JOB, exit_code=143, message=done())
    assert runner.outcome().metrics == {"loss": 0.25}


# ---- queues -----------------------------------------------------------------------------------


@pytest.mark.fault("F11")
def test_a_job_in_a_queue_waits_with_its_place_and_without_a_time_limit(slow: Rig) -> None:
    runner = slow.runner(a_spec({"queue": "team-a", "pending_timeout_seconds": 60}))
    runner.executor.submit(a_trial())
    assert str(runner.poll().reason) == "Suspended: its queue team-a has not admitted it yet."
    assert runner.api.n_requests.get("get localqueues") is None, "Kueue says nothing of it"

    slow.cluster.queue(JOB, 3, "insufficient unused quota for nvidia.com/gpu, 1 more needed")
    slow.cluster.advance(86400)
    waiting = runner.poll()
    runner.poll()
    assert waiting.state is AttemptState.PENDING
    assert str(waiting.reason) == (
        "Suspended: its queue team-a has not admitted it yet (3 before it). "
        "insufficient unused quota for nvidia.com/gpu, 1 more needed"
    )
    assert runner.api.n_requests["get localqueues"] == 1, "not asked in every poll"
    slow.cluster.unsuspend(JOB)
    slow.cluster.unschedulable(JOB)
    slow.cluster.advance(59)
    assert runner.poll().state is AttemptState.PENDING, "its patience begins with its admission"


@pytest.mark.fault("F11")
@pytest.mark.parametrize("rig_of", ["rig", "slow"])
def test_an_eviction_by_a_queue_ends_the_attempt_and_its_job_begins_no_second_one(
    rig_of: str, request: pytest.FixtureRequest
) -> None:
    rig: Rig = request.getfixturevalue(rig_of)
    runner = rig.runner(a_spec({"queue": "team-a"}))
    runner.executor.submit(a_trial())
    rig.cluster.unsuspend(JOB)
    rig.cluster.start(JOB)
    runner.poll()
    rig.cluster.suspend(JOB)
    runner.poll()
    rig.cluster.unsuspend(JOB)  # it would have room again
    rig.cluster.advance(20)

    outcome = runner.outcome()
    assert outcome.cause is Cause.EVICTED
    assert outcome.message == "Its queue team-a took its admission back (Kueue)."
    assert rig.cluster.job(JOB)["spec"]["parallelism"] == 0
    assert len(rig.cluster.started) == 1
    second = runner.executor.submit(a_trial(attempt=2))
    assert "Suspended: its queue team-a" in str(runner.poll(second).reason)


@pytest.mark.fault("F11")
def test_without_the_right_to_ask_a_queue_its_name_is_told(rig: Rig) -> None:
    runner = rig.runner(a_spec({"queue": "team-a"}))
    runner.api.interrupt("list workloads", AWAY, times=None)
    runner.executor.submit(a_trial())

    assert str(runner.poll().reason) == "Suspended: its queue team-a has not admitted it yet."


# ---- stopping and forgetting ------------------------------------------------------------------


def test_a_stop_is_one_patch_and_the_first_one_counts(slow: Rig) -> None:
    runner = slow.runner()
    runner.executor.submit(a_trial())
    slow.cluster.start(JOB)
    slow.cluster.write_log(JOB, "epoch 1\n")
    runner.poll()
    runner.executor.stop(FIRST, Cause.PRUNED, "worse than the median")
    runner.executor.stop(FIRST, Cause.CANCELLED, "second")
    slow.runner().executor.stop(FIRST, Cause.CANCELLED, "third")
    assert runner.poll().state is AttemptState.RUNNING
    slow.cluster.finish(JOB, exit_code=143, message=done(stopped=True))

    outcome = runner.outcome()
    assert (outcome.cause, outcome.message) == (Cause.PRUNED, "worse than the median")
    assert runner.api.n_requests["patch jobs"] == 1
    assert runner.executor.read_log(FIRST) == b"epoch 1\n"


def test_a_runner_that_comes_later_knows_what_an_attempt_was_stopped_for(slow: Rig) -> None:
    first = slow.runner()
    first.executor.submit(a_trial())
    slow.cluster.start(JOB)
    first.poll()
    first.executor.stop(FIRST, Cause.PRUNED, "worse than the median")
    first.executor.close()
    assert first.api.is_closed
    slow.cluster.advance(11)
    assert slow.cluster.pod_names() == []

    outcome = slow.runner().outcome()
    assert (outcome.cause, outcome.message) == (Cause.PRUNED, "worse than the median")


def test_a_stop_that_gets_no_answer_can_be_repeated(slow: Rig) -> None:
    runner = slow.runner()
    runner.executor.submit(a_trial())
    slow.cluster.start(JOB)
    runner.poll()
    runner.api.interrupt("patch jobs", AWAY, is_after=True)
    with pytest.raises(ExecutorUnavailable):
        runner.executor.stop(FIRST, Cause.PRUNED, "first")
    runner.executor.stop(FIRST, Cause.PRUNED, "first")
    slow.cluster.advance(11)
    assert runner.outcome().message == "first"


@pytest.mark.fault("F18")
def test_without_the_right_to_patch_jobs_looking_goes_on_and_a_stop_names_it(
    slow: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    runner = slow.runner(a_spec(timeout_seconds=60))
    runner.executor.submit(a_trial())
    slow.cluster.start(JOB)
    runner.poll()
    runner.api.interrupt("patch jobs", Refused("Cannot patch jobs trial: 403 no"), times=None)
    slow.cluster.advance(61)

    for _ in range(3):
        assert runner.poll().state is AttemptState.RUNNING
    told = [r for r in caplog.records if "cannot be fenced: Cannot patch jobs" in r.getMessage()]
    assert len(told) == 1
    with pytest.raises(ExecutorBlocked, match="Cannot patch jobs trial: 403 no"):
        runner.executor.stop(FIRST, Cause.PRUNED, "worse than the median")

    runner.api.come_back()
    runner.poll()
    assert slow.fence().cause is Cause.TIMEOUT


def test_forgetting_is_idempotent_and_another_try_after_an_outage(rig: Rig) -> None:
    runner = rig.runner()
    runner.executor.submit(a_trial())
    rig.cluster.start(JOB)
    rig.cluster.finish(JOB, message=done())
    runner.outcome()
    runner.api.interrupt("delete jobs", AWAY)
    with pytest.raises(ExecutorUnavailable):
        runner.executor.forget(FIRST)
    assert runner.outcome().cause is Cause.OK
    runner.executor.forget(FIRST)
    runner.executor.forget(FIRST)

    assert runner.api.n_requests["delete jobs"] == 2
    assert dict(runner.executor.poll()) == {}
    assert rig.cluster.job_names() == []


def test_an_attempt_that_runs_cannot_be_forgotten_not_even_by_a_new_runner(rig: Rig) -> None:
    first = rig.runner()
    first.executor.submit(a_trial())
    rig.cluster.start(JOB)
    for runner in (first, rig.runner()):
        with pytest.raises(ExecutorError, match="has not ended"):
            runner.executor.forget(FIRST)
    assert rig.cluster.job_names() == [JOB]


@pytest.mark.fault("F14")
def test_an_outage_of_a_minute_is_no_news_and_a_longer_one_is(rig: Rig) -> None:
    runner = rig.runner()
    runner.executor.submit(a_trial())
    rig.cluster.start(JOB)
    runner.poll()
    runner.api.go_away()
    assert runner.poll().state is AttemptState.RUNNING
    rig.cluster.advance(59)
    assert runner.poll().state is AttemptState.RUNNING
    rig.cluster.finish(JOB, message=done())
    rig.cluster.advance(2)
    with pytest.raises(ExecutorUnavailable, match="Since 61 s"):
        runner.poll()
    runner.api.come_back()
    assert runner.outcome().cause is Cause.OK


def test_waiting_ends_with_a_change_or_with_its_time(rig: Rig) -> None:
    api = FakeClusterApi(rig.cluster, watch_seconds=5.0)
    executor = KubernetesExecutor(a_spec(), api=api, root=rig.folder)
    assert executor.traits == ExecutorTraits(
        canary_seconds=10.0, calls_at_once=CALLS_AT_ONCE, brings_points=False
    )
    executor.submit(a_trial())
    executor.wait(0.01)
    rig.cluster.start(JOB)
    for _ in range(100):
        executor.wait(1.0)
        if executor.poll()[FIRST].state is AttemptState.RUNNING:
            break
    assert executor.poll()[FIRST].state is AttemptState.RUNNING
    executor.close()
    rig.cluster.finish(JOB)

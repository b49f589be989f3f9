"""The executor with the real client, by HTTP, against an API server that misbehaves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.executors.kubernetes.test_client import use_kubeconfig
from tests.unit.executors.kubernetes.test_executor import FIRST, JOB, a_spec, a_trial, done

from studyflow.errors import ExecutorBlocked, ExecutorUnavailable
from studyflow.executors import AttemptId, AttemptState, AttemptStatus
from studyflow.executors.kubernetes import KubernetesExecutor
from studyflow.executors.kubernetes.api import Event
from studyflow.executors.kubernetes.client import KubernetesApi
from studyflow.testing.fake_cluster import FakeCluster
from studyflow.testing.fake_cluster_server import FakeClusterServer
from studyflow.trial import Cause, Outcome


class Rig:
    def __init__(self, folder: Path, server: FakeClusterServer) -> None:
        self.folder = folder
        self.server = server
        self.cluster = server.cluster
        self.executor = self.new_executor()

    def new_executor(self) -> KubernetesExecutor:
        return KubernetesExecutor(
            a_spec(),
            api=KubernetesApi("trials", clock=self.cluster.clock),
            root=self.folder,
            clock=self.cluster.clock,
            is_threaded=False,
        )

    def poll(self) -> AttemptStatus:
        return self.executor.poll()[FIRST]

    def outcome(self) -> Outcome:
        for _ in range(8):
            status = self.poll()
            if status.outcome is not None:
                return status.outcome
        raise AssertionError(f"it has not ended: {status}")

    def finish(self) -> Outcome:
        """Let the attempt's pod run and return what the executor makes of its end."""
        self.cluster.start(JOB)
        self.cluster.finish(JOB, message=done())
        return self.outcome()


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    with FakeClusterServer(FakeCluster()) as server:
        server.write_kubeconfig(tmp_path / "config")
        use_kubeconfig(tmp_path / "config", monkeypatch)
        rig = Rig(tmp_path, server)
        yield rig
        rig.executor.close()


def test_a_trial_from_its_job_to_its_end(rig: Rig) -> None:
    rig.executor.submit(a_trial())
    assert rig.poll().state is AttemptState.PENDING
    rig.cluster.start(JOB)
    assert rig.poll().state is AttemptState.RUNNING
    rig.cluster.write_log(JOB, "epoch 1\n")
    rig.cluster.finish(JOB, message=done())
    assert rig.outcome().metrics == {"loss": 0.25}
    log = rig.executor.files(FIRST).log
    assert log is not None
    assert log.read_text() == "epoch 1\n"
    rig.executor.forget(FIRST)
    assert dict(rig.executor.poll()) == {}
    assert rig.cluster.job_names() == []


@pytest.mark.fault("F13")
def test_retry_after_is_kept_and_no_job_is_made_twice(rig: Rig) -> None:
    rig.executor.poll()
    rig.server.fail("create jobs", 429, "too many requests", retry_after=5)
    for _ in range(3):
        with pytest.raises(ExecutorUnavailable):
            rig.executor.submit(a_trial())
    assert rig.cluster.job_names() == []
    rig.cluster.advance(5)
    rig.executor.submit(a_trial())
    assert rig.cluster.job_names() == [JOB]


@pytest.mark.fault("F14")
@pytest.mark.parametrize("status", [500, 503, 504, None])
def test_an_api_server_that_fails_for_a_minute_is_no_news(rig: Rig, status: int | None) -> None:
    rig.executor.submit(a_trial())
    rig.cluster.start(JOB)
    rig.poll()
    for request in ("list jobs", "watch jobs", "list pods", "watch pods"):
        if status is None:
            rig.server.cut(request, times=6)
        else:
            rig.server.fail(request, status, times=6)
    for _ in range(5):
        assert rig.poll().state is AttemptState.RUNNING
        rig.cluster.advance(10)
    rig.cluster.advance(20)
    with pytest.raises(ExecutorUnavailable, match="Since 70 s"):
        rig.poll()
    for _ in range(3):
        rig.executor.stop(AttemptId(99, 1), Cause.CANCELLED, "there is none")
    assert rig.poll().state is AttemptState.RUNNING
    assert rig.finish().cause is Cause.OK


@pytest.mark.fault("F15")
@pytest.mark.parametrize("status", [504, None])
def test_a_create_that_succeeded_without_an_answer_is_adopted(rig: Rig, status: int | None) -> None:
    rig.executor.poll()
    if status is None:
        rig.server.cut("create jobs", is_after=True)
    else:
        rig.server.fail("create jobs", status, is_after=True)
    with pytest.raises(ExecutorUnavailable):
        rig.executor.submit(a_trial())
    assert rig.executor.submit(a_trial()) == FIRST
    assert rig.cluster.job_names() == [JOB]
    assert len(rig.cluster.pod_names()) == 1
    assert rig.finish().cause is Cause.OK


@pytest.mark.fault("F16")
@pytest.mark.parametrize("how", ["torn", "compacted", "refused", "bookmarks only"])
def test_a_watch_that_breaks_off_misses_nothing(rig: Rig, how: str) -> None:
    rig.executor.submit(a_trial())
    rig.poll()
    rig.cluster.start(JOB)
    if how == "torn":
        rig.server.tear("watch pods")
    elif how == "compacted":
        rig.cluster.compact()
    elif how == "refused":
        rig.server.fail("watch pods", 410, "too old resource version", reason="Expired")
    else:
        rig.server.change_watch = lambda events: (e for e in events if e[0] == "BOOKMARK")
        rig.poll()
        rig.server.change_watch = iter
        rig.cluster.advance(601)
    states = [rig.poll().state for _ in range(3)]
    assert states[-1] is AttemptState.RUNNING
    assert rig.finish().cause is Cause.OK


@pytest.mark.fault("F16")
def test_events_that_come_twice_and_in_another_order_change_nothing(rig: Rig) -> None:
    def shuffled(events: Iterator[Event]) -> Iterator[Event]:
        *changes, bookmark = events
        return iter([*changes, *changes, *reversed(changes), bookmark])

    rig.server.change_watch = shuffled
    rig.executor.submit(a_trial())
    rig.cluster.start(JOB)
    assert rig.poll().state is AttemptState.RUNNING
    assert rig.finish().metrics == {"loss": 0.25}
    rig.executor.forget(FIRST)
    assert dict(rig.executor.poll()) == {}


@pytest.mark.fault("F17")
def test_nothing_is_taken_for_gone_by_a_stale_list(rig: Rig) -> None:
    rig.executor.poll()
    before = rig.cluster.version
    rig.executor.submit(a_trial())
    rig.cluster.start(JOB)
    assert rig.poll().state is AttemptState.RUNNING
    rig.server.api.list_as_of(before)
    rig.server.change_watch = lambda events: iter(())  # nor does a watch say otherwise
    rig.cluster.advance(601)  # a full list is due
    for _ in range(3):
        assert rig.poll().state is AttemptState.RUNNING
    rig.server.api.list_as_of(None)
    rig.server.change_watch = iter
    rig.cluster.advance(601)
    assert rig.finish().cause is Cause.OK


@pytest.mark.fault("F18")
def test_an_expired_token_is_worth_another_try_and_a_missing_right_is_named(rig: Rig) -> None:
    rig.executor.poll()
    rig.server.fail("create jobs", 401, "Unauthorized")
    with pytest.raises(ExecutorUnavailable, match="401 Unauthorized"):
        rig.executor.submit(a_trial())
    rig.server.fail("create jobs", 403, 'cannot create resource "jobs" in API group "batch"')
    with pytest.raises(ExecutorBlocked, match='create jobs: 403 cannot create resource "jobs"'):
        rig.executor.submit(a_trial())
    rig.executor.submit(a_trial())
    assert rig.cluster.job_names() == [JOB]


@pytest.mark.fault("F19")
def test_a_namespace_that_is_gone_blocks_with_its_reason(rig: Rig) -> None:
    rig.executor.poll()
    rig.server.fail("create jobs", 404, 'namespaces "trials" not found', reason="NotFound")
    with pytest.raises(ExecutorBlocked, match='"trials" not found'):
        rig.executor.submit(a_trial())


@pytest.mark.fault("F20")
def test_a_job_deleted_by_hand_is_a_lost_attempt(rig: Rig) -> None:
    rig.executor.submit(a_trial())
    rig.poll()
    rig.cluster.delete_job(JOB)
    assert rig.outcome().cause is Cause.LOST
    assert "deleted by someone else" in rig.outcome().message


def test_an_unknown_path_and_another_namespace_are_not_found(rig: Rig) -> None:
    other = KubernetesApi("elsewhere")
    assert other.get_job("x") is None
    other.close()

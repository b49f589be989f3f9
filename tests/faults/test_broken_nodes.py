"""A runner and a cluster some of whose nodes are broken: trials go elsewhere, and all come out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from tests.unit.study.studies import make_spec, open_study

from studyflow.executors.kubernetes import KubernetesExecutor
from studyflow.executors.kubernetes.manifest import avoided_nodes
from studyflow.executors.kubernetes.names import attempt_of
from studyflow.observers.observer import Observer
from studyflow.reasons import Code, Reason
from studyflow.study import Study
from studyflow.testing.fake_cluster import FakeCluster, FakeClusterApi
from studyflow.tracking.memory import MemoryTracker
from studyflow.tracking.mirror import Mirror
from studyflow.trial import Cause, Outcome
from studyflow.trial.attempt_files import AttemptFiles
from studyflow.trial.record import TrialRecord
from studyflow.tuner import Tuner, TunerResult

ADMISSION = ("UnexpectedAdmissionError", "Allocate failed: no healthy devices present")
EXCLUDED = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."


class Notes(Observer):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.lost: list[str] = []

    def noted(self, message: str) -> None:
        self.notes.append(message)

    def attempt_lost(self, record: TrialRecord, message: str) -> None:
        self.lost.append(message)


class Rig:
    """A study on a fake cluster; `runner()` is a new runner."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.spec = make_spec(
            **{
                "budget": {"n_trials": 4, "max_parallel_trials": 1},
                "retry": {"max_attempts": 3, "backoff_seconds": 1},
                "stop": {"alike_failures": 3},
                **changes,
            },
            trial={
                "command": ["python", "train.py"],
                "image": "registry.example/demo:1",
                "kubernetes": {"canary_seconds": 0},
            },
        )
        self.folder = folder
        self.cluster = FakeCluster()
        self.storage = optuna.storages.InMemoryStorage()
        self.notes = Notes()
        self.tuner = self.runner()

    def study(self) -> Study:
        return open_study(self.spec, self.storage)

    def runner(self) -> Tuner:
        executor = KubernetesExecutor(
            self.spec,
            api=FakeClusterApi(self.cluster),
            root=self.folder,
            clock=self.cluster.clock,
            is_threaded=False,
        )
        study = self.study()
        mirror = Mirror(
            MemoryTracker(),
            files=lambda record: AttemptFiles(),
            is_threaded=False,
        )
        return Tuner(study, executor, mirror.for_loop(), self.notes, clock=self.cluster.clock)

    def turn(self) -> TunerResult | None:
        """Let the runner look, and once more when its retries are due."""
        result = self.tuner.turn()
        self.cluster.advance(10.0)
        return result or self.tuner.turn()

    def waiting(self) -> Iterator[str]:
        """Yield the pods that have no node yet."""
        for name in self.cluster.pod_names():
            pod = self.cluster.pod(name)
            if "nodeName" not in pod["spec"] and pod["status"]["phase"] == "Pending":
                yield name

    def refused_once(self) -> str:
        """Let a node refuse the one pod that waits; return the pod of the next attempt."""
        self.turn()
        (pod,) = self.waiting()
        self.cluster.schedule(pod)
        self.cluster.fail_pod(pod, *ADMISSION)
        self.turn()
        (again,) = self.waiting()
        return again

    def avoided(self, pod: str) -> tuple[str, ...]:
        return avoided_nodes(self.cluster.job(pod.rpartition("-")[0]))

    def finish(self, pod: str) -> None:
        attempt = attempt_of(self.cluster.pod(pod)["metadata"]["labels"])
        assert attempt is not None
        outcome = Outcome("demo", attempt.number, attempt.attempt, Cause.OK, {"loss": 0.25})
        self.cluster.finish(pod, message=outcome)


@pytest.mark.fault("F12")
def test_a_node_that_refuses_pods_is_avoided_then_barred_and_all_trials_come_out(
    tmp_path: Path,
) -> None:
    rig = Rig(tmp_path)
    avoided = []
    result = None
    while result is None:
        result = rig.turn()
        for pod in list(rig.waiting()):
            avoided.append(rig.avoided(pod))
            rig.cluster.schedule(pod)  # the first node that it may go to
            if rig.cluster.pod(pod)["spec"]["nodeName"] == "node-1":
                rig.cluster.fail_pod(pod, *ADMISSION)
            else:
                rig.cluster.start(pod)
                rig.finish(pod)

    assert result == TunerResult(
        Reason(Code.BUDGET_SPENT, "All 4 trials are finished."), is_finished=True
    )
    # The second trial takes the place of the first one, which waits for its second attempt.
    assert avoided == [(), (), *[("node-1",)] * 4]
    barred = [note for note in rig.notes.notes if "node-1 any more" in note]
    assert len(barred) == 1
    assert barred[0] == (
        "No trial goes to node node-1 any more: 2 attempts failed by it, the last one by "
        "node-fault (trial 1). Hint: kubectl describe node node-1"
    )
    assert [r.cause for r in rig.study().records()] == [Cause.OK] * 4
    assert all("node-fault: The node refused the pod" in message for message in rig.notes.lost)


@pytest.mark.fault("F12")
def test_the_next_runner_keeps_away_from_the_same_nodes(tmp_path: Path) -> None:
    rig = Rig(tmp_path, budget={"n_trials": 3, "max_parallel_trials": 1})
    for _ in range(2):
        rig.tuner.turn()
        (pod,) = rig.waiting()
        rig.cluster.schedule(pod, "node-1")
        rig.cluster.fail_pod(pod, *ADMISSION)
    rig.tuner.turn()

    rig.tuner = rig.runner()
    result, avoided = None, []
    while result is None:
        result = rig.turn()
        for pod in list(rig.waiting()):
            avoided.append(rig.avoided(pod))
            rig.cluster.start(pod)
            rig.finish(pod)
    assert avoided == [("node-1",)] * 3
    assert [record.attempt for record in rig.study().records()] == [2, 2, 1]
    assert any("node-1 any more" in note for note in rig.notes.notes)


@pytest.mark.fault("F12")
def test_the_only_node_is_never_barred_for_good(tmp_path: Path) -> None:
    rig = Rig(tmp_path, budget={"n_trials": 1})
    pod = rig.refused_once()
    assert rig.avoided(pod) == ("node-1",)
    rig.cluster.unschedulable(pod, EXCLUDED)
    rig.turn()
    rig.turn()

    (pod,) = rig.waiting()
    assert rig.avoided(pod) == ()
    assert rig.notes.notes == ["Node node-1 is used again: no other node has room."]
    rig.cluster.start(pod)
    rig.finish(pod)
    assert rig.turn() == TunerResult(
        Reason(Code.BUDGET_SPENT, "All 1 trials are finished."), is_finished=True
    )
    assert rig.study().record(0).attempt == 3


@pytest.mark.fault("F12")
def test_where_others_might_make_room_a_barred_node_waits_for_the_pending_timeout(
    tmp_path: Path,
) -> None:
    rig = Rig(tmp_path, budget={"n_trials": 1})
    pod = rig.refused_once()
    full = "0/2 nodes are available: 1 Insufficient nvidia.com/gpu, 1 node(s) didn't match Pod's "
    rig.cluster.unschedulable(pod, f"{full}node affinity.")
    rig.turn()
    rig.cluster.advance(3500.0)
    rig.turn()
    assert rig.avoided(next(rig.waiting())) == ("node-1",)
    rig.cluster.advance(100.0)
    rig.turn()
    rig.turn()

    assert rig.avoided(next(rig.waiting())) == ()
    assert rig.study().record(0).lost_attempts[-1].cause is Cause.UNSCHEDULABLE


@pytest.mark.fault("F12")
def test_attempts_that_found_no_place_do_not_use_up_the_trials_attempts(tmp_path: Path) -> None:
    rig = Rig(tmp_path, budget={"n_trials": 1}, stop={"alike_failures": 9})
    result = None
    n_failures = 0
    while result is None:
        result = rig.turn()
        for pod in list(rig.waiting()):
            if rig.avoided(pod):
                rig.cluster.unschedulable(pod, EXCLUDED)
            else:
                n_failures += 1
                rig.cluster.schedule(pod)
                rig.cluster.fail_pod(pod, *ADMISSION)

    assert n_failures == 3
    assert rig.study().record(0).message.startswith("Given up after 3 attempts")
    assert rig.study().record(0).cause is Cause.NODE_FAULT


@pytest.mark.fault("F12")
def test_a_node_where_everything_fails_alike_is_barred_and_the_study_goes_on(
    tmp_path: Path,
) -> None:
    rig = Rig(tmp_path, budget={"n_trials": 8, "max_parallel_trials": 2})
    rig.turn()
    good, first_bad = rig.waiting()
    bad: str | None = first_bad
    rig.cluster.schedule(good, "node-2")
    rig.cluster.start(good)
    result = None
    n_failed = 0
    for _ in range(20):
        if bad is not None and not rig.avoided(bad):
            rig.cluster.schedule(bad, "node-1")
            rig.cluster.start(bad)
            rig.cluster.write_log(bad, "OSError: /data is not there\n")
            rig.cluster.finish(bad, exit_code=1)
            n_failed += 1
        elif bad is not None:
            rig.cluster.start(bad)
            rig.finish(bad)
        result = rig.turn()
        bad = next(rig.waiting(), None)
        if n_failed == 3 and good:
            rig.finish(good)
            good = ""
        if result is not None:
            break

    assert result is not None
    assert result.is_finished
    assert result.reason.code is Code.BUDGET_SPENT
    assert n_failed == 3
    (barred,) = [note for note in rig.notes.notes if "any more" in note]
    assert "node-1 any more: 3 attempts failed by it, the last one by Exit code 1." in barred
    nodes = [record.node for record in rig.study().records()]
    assert nodes.count("node-1") == 3
    assert nodes.count("node-2") == 8, "failures before any success are free"


@pytest.mark.fault("F12")
def test_a_broken_device_is_its_nodes_fault(tmp_path: Path) -> None:
    rig = Rig(tmp_path, budget={"n_trials": 1})
    rig.turn()
    (pod,) = rig.waiting()
    rig.cluster.start(pod)
    line = "RuntimeError: CUDA error: uncorrectable ECC error encountered"
    rig.cluster.write_log(pod, f"Traceback ...\n{line}\n")
    rig.cluster.finish(pod, exit_code=1)
    rig.turn()

    (pod,) = rig.waiting()
    assert rig.avoided(pod) == ("node-1",)
    assert rig.notes.lost == [f"node-fault: Its device is broken: {line} Attempt 2 in 1 s."]

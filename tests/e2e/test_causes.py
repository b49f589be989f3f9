"""What goes wrong with pods, on a real cluster: cause, sentence, and what follows for the study."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.e2e.images import image
from tests.e2e.kubectl import Kubectl, until

from studyflow.context import StudyContext
from studyflow.observers.observer import Observer
from studyflow.runner import RunOptions, StudyResult, run_study
from studyflow.settings import Settings
from studyflow.spec import StudySpec
from studyflow.trial import Cause
from studyflow.trial.record import TrialRecord, TrialState

FINISH = "from studyflow import sdk\nsdk.finish(loss=sdk.current_trial().params['x'])\n"
SLEEP = "import time\ntime.sleep(3600)\n"


def study(script: str, *, n_trials: int = 1, parallel: int = 1, **trial: Any) -> StudySpec:
    resources = {"cpu": "50m", "memory": "64Mi", **trial.pop("resources", {})}
    return StudySpec.from_mapping(
        {
            "name": "causes",
            "objectives": [{"metric": "loss", "direction": "minimize"}],
            "search_space": {"x": {"type": "float", "low": 0, "high": 1}},
            "sampler": {"type": "random", "seed": 0},
            "retry": {"backoff_seconds": 0.1, "max_attempts": 3},
            "budget": {"n_trials": n_trials, "max_parallel_trials": parallel},
            "stop": {"first_failures": 0},
            "trial": {
                "command": ["python", "-c", script],
                "image": image("trial-base"),
                "resources": resources,
                **trial,
            },
        }
    )


class Story(Observer):
    """What was told while the study ran."""

    def __init__(self) -> None:
        self.lost: list[str] = []
        self.notes: list[str] = []
        self.launches = 0

    def launched(self, record: TrialRecord) -> None:
        self.launches += 1

    def attempt_lost(self, record: TrialRecord, message: str) -> None:
        self.lost.append(message)

    def noted(self, message: str) -> None:
        self.notes.append(message)

    def has_noted(self, words: str) -> bool:
        return any(words in note for note in self.notes)


class Bench:
    """Runs studies in the test's namespace."""

    def __init__(self, namespace: str, home: Path, platform: Path | None = None) -> None:
        self._settings = Settings(
            home,
            f"sqlite:///{home}/studies.db",
            None,
            executor="kubernetes",
            namespace=namespace,
            platform=platform,
        )
        self._home = home
        self.story = Story()

    def run(self, spec: StudySpec) -> StudyResult:
        context = StudyContext(spec, self._settings)
        return run_study(context, self.story, RunOptions(self._home))

    def run_one(self, spec: StudySpec) -> TrialRecord:
        [record] = self.run(spec).data.records
        return record

    @contextmanager
    def running(self, spec: StudySpec) -> Iterator[Callable[[], StudyResult]]:
        """Run a study beside the test's own steps; what is yielded waits for its end."""
        results: list[StudyResult] = []
        thread = threading.Thread(target=lambda: results.append(self.run(spec)))
        thread.start()

        def result() -> StudyResult:
            thread.join(timeout=120)
            assert results, "the study does not end"
            return results[0]

        yield result
        result()


@pytest.fixture
def bench(namespace: str, tmp_path: Path) -> Bench:
    return Bench(namespace, tmp_path)


def running_pod(kubectl: Kubectl) -> str | None:
    pods = kubectl.items("pods", "--field-selector", "status.phase=Running")
    return next((pod["metadata"]["name"] for pod in pods), None)


@pytest.mark.fault("F01")
def test_a_trial_that_needs_too_much_memory_is_infeasible(bench: Bench, kubectl: Kubectl) -> None:
    record = bench.run_one(study("x = bytearray(10**9)\n"))
    assert (record.state, record.cause) == (TrialState.FAILED, Cause.HOST_OOM)
    assert "64Mi" in record.message
    assert kubectl.items("jobs") == []


@pytest.mark.fault("F06")
def test_an_image_that_does_not_exist_stops_the_study_with_its_name(bench: Bench) -> None:
    spec = study(
        FINISH,
        n_trials=3,
        parallel=3,
        image="registry.invalid/nobody/nothing:1",
        kubernetes={"image_pull_timeout_seconds": 5},
    )
    result = bench.run(spec)
    assert result.outcome.is_failure
    assert "registry.invalid/nobody/nothing:1" in str(result.outcome.reason)
    assert [r.cause for r in result.data.records] == [Cause.CANCELLED], "one pod, not three"


@pytest.mark.fault("F08")
def test_more_gpus_than_any_node_has_wait_with_a_reason_and_no_further_trial(
    bench: Bench, kubectl: Kubectl
) -> None:
    spec = study(
        FINISH,
        n_trials=3,
        parallel=3,
        resources={"gpu": 1000},
        kubernetes={"pending_timeout_seconds": 8},
    )
    result = bench.run(spec)
    assert bench.story.has_noted("Insufficient nvidia.com/gpu")
    # The first goes ahead alone; none follows, and it does not count.
    assert result.outcome.is_failure
    assert "Insufficient nvidia.com/gpu" in str(result.outcome.reason)
    assert {r.cause for r in result.data.records} == {Cause.CANCELLED}
    assert kubectl.items("jobs") == []


@pytest.mark.fault("F07")
def test_a_missing_secret_stops_the_study_at_once_and_is_named(
    bench: Bench, kubectl: Kubectl
) -> None:
    wants = {"secret_env": {"TOKEN": {"secret": "the-token", "key": "value"}}}
    result = bench.run(study(FINISH, n_trials=3, kubernetes=wants))
    assert result.outcome.is_failure
    assert '"the-token" not found' in str(result.outcome.reason)
    assert [r.cause for r in result.data.records] == [Cause.CANCELLED]
    assert bench.story.launches == 1

    kubectl("create", "secret", "generic", "the-token", "--from-literal=value=s3cret")
    again = bench.run(study(FINISH, n_trials=3, kubernetes=wants))
    assert [r.cause for r in again.data.records] == [Cause.CANCELLED, *[Cause.OK] * 3]


@pytest.mark.fault("F03")
def test_a_deleted_pod_is_another_attempt_of_the_same_trial(bench: Bench, kubectl: Kubectl) -> None:
    # The first attempt hangs, the second finishes.
    script = (
        "from studyflow import sdk\ntrial = sdk.current_trial()\n"
        "import time\ntime.sleep(3600 if trial.attempt == 1 else 0)\n" + FINISH
    )
    with bench.running(study(script, kubernetes={"stop_grace_seconds": 2})) as result:
        pod = until(lambda: running_pod(kubectl), 60, "a running pod")
        kubectl("delete", "pod", pod, "--wait=false")
        [record] = result().data.records
    assert (record.cause, record.attempt) == (Cause.OK, 2)
    [lost] = bench.story.lost
    assert lost.startswith("evicted: ")


@pytest.mark.fault("F20")
def test_a_deleted_job_is_another_attempt_of_the_same_trial(bench: Bench, kubectl: Kubectl) -> None:
    script = (
        "from studyflow import sdk\ntrial = sdk.current_trial()\n"
        "import time\ntime.sleep(3600 if trial.attempt == 1 else 0)\n" + FINISH
    )
    with bench.running(study(script, kubernetes={"stop_grace_seconds": 2})) as result:
        until(lambda: running_pod(kubectl), 60, "a running pod")
        kubectl("delete", "jobs", "--all", "--wait=false")
        [record] = result().data.records
    assert (record.cause, record.attempt) == (Cause.OK, 2)
    [lost] = bench.story.lost
    assert "deleted by someone else" in lost


@pytest.mark.fault("F49")
def test_a_trial_over_its_time_is_infeasible_and_leaves_no_pod(
    bench: Bench, kubectl: Kubectl
) -> None:
    record = bench.run_one(study(SLEEP, timeout_seconds=2, kubernetes={"stop_grace_seconds": 1}))
    assert (record.state, record.cause) == (TrialState.FAILED, Cause.TIMEOUT)
    kubectl("wait", "--for=delete", "pods", "--all", "--timeout=60s")


def test_a_script_that_fails_ends_with_its_exit_code_and_last_line(
    bench: Bench, tmp_path: Path
) -> None:
    record = bench.run_one(study("print('no such data set')\nraise SystemExit(3)\n"))
    assert (record.state, record.cause) == (TrialState.FAILED, Cause.USER_ERROR)
    assert "Exit code 3" in record.message
    assert "no such data set" in record.message
    log = tmp_path / "studies" / "causes" / "trials" / "0" / "attempt-1" / "log.txt"
    assert log.read_text() == "no such data set\n"


@pytest.mark.fault("F09")
def test_a_quota_holds_trials_back_and_fails_none(bench: Bench, kubectl: Kubectl) -> None:
    kubectl("create", "quota", "one", "--hard=pods=1")
    result = bench.run(study(FINISH, n_trials=3, parallel=3))
    assert [r.cause for r in result.data.records] == [Cause.OK] * 3
    assert bench.story.lost == []


def test_a_command_that_does_not_exist_is_a_user_error(bench: Bench) -> None:
    spec = study(FINISH, command=["no-such-program"])
    record = bench.run_one(spec)
    assert record.cause is Cause.USER_ERROR
    assert "no-such-program" in record.message


@pytest.mark.fault("F43")
def test_dollars_reach_the_script_as_they_are(bench: Bench) -> None:
    strange = "$$ $(HOME) $HOME ${HOME} `id` \"quoted\" 'too'\n✓"
    script = (
        "import os, sys\nfrom studyflow import sdk\n"
        "given = (sys.argv[1], os.environ['STRANGE'], sdk.current_trial().params['text'])\n"
        "print(repr(given))\n"
        f"sdk.finish(loss=float(given != ({strange!r},) * 3))\n"
    )
    spec = study(script, command=["python", "-c", script, strange], env={"STRANGE": strange})
    spec = StudySpec.from_mapping(
        {**spec.model_dump(mode="json", exclude_unset=True), "fixed": {"text": strange}}
    )
    assert bench.run_one(spec).values == (0.0,)


def test_a_running_trial_s_log_is_followed_from_the_command_line(
    bench: Bench, kubectl: Kubectl, tmp_path: Path
) -> None:
    script = (
        "import time\nfor i in range(5): print('line', i, flush=True); time.sleep(1)\n" + FINISH
    )
    with bench.running(study(script)) as result:
        until(lambda: running_pod(kubectl), 60, "a running pod")
        storage = ("--home", str(tmp_path), "--storage", f"sqlite:///{tmp_path}/studies.db")
        where = ("--executor", "kubernetes", "--namespace", kubectl.namespace, *storage)
        done = subprocess.run(
            [sys.executable, "-m", "studyflow", "logs", "causes", "0", "-f", *where],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stdout.splitlines() == [f"line {i}" for i in range(5)]
        result()


@pytest.mark.fault("F52")
def test_a_trial_that_fills_its_scratch_space_fails_alone(bench: Bench, kubectl: Kubectl) -> None:
    script = """
import time
from studyflow import sdk
if sdk.current_trial().params["x"] > 0.5:
    with open("/tmp/full", "wb") as file:
        for _ in range(64):
            file.write(bytes(2**20))
    time.sleep(600)
sdk.finish(loss=0.0)
"""
    spec = study(
        script, n_trials=2, parallel=2, kubernetes={"scratch": "16Mi", "canary_seconds": 0}
    )
    document = {**yaml.safe_load(spec.to_yaml()), "enqueue": [{"x": 0.0}, {"x": 1.0}]}
    result = bench.run(StudySpec.from_mapping(document))
    good, full = sorted(result.data.records, key=lambda record: float(record.params["x"] or 0))
    assert (good.state, good.cause) == (TrialState.COMPLETE, Cause.OK)
    assert full.state is TrialState.FAILED
    assert "16Mi" in full.message
    assert kubectl.items("jobs") == []


@pytest.mark.fault("F52")
def test_a_trial_that_forks_without_end_fails_alone(bench: Bench, kubectl: Kubectl) -> None:
    # Its memory ends it where the kubelet sets no limit of processes (`podPidsLimit`).
    script = """
import os, time
from studyflow import sdk
if sdk.current_trial().params["x"] > 0.5:
    for _ in range(3000):
        if os.fork() == 0:
            time.sleep(600)
            os._exit(0)
sdk.finish(loss=0.0)
"""
    document = yaml.safe_load(study(script, n_trials=2, parallel=1).to_yaml())
    points = [{"x": 1.0}, {"x": 0.0}]
    result = bench.run(StudySpec.from_mapping({**document, "enqueue": points}))
    bomb, good = result.data.records
    assert bomb.state is TrialState.FAILED
    assert bomb.cause in (Cause.HOST_OOM, Cause.USER_ERROR)
    assert (good.state, good.cause) == (TrialState.COMPLETE, Cause.OK)
    assert kubectl.items("jobs") == []

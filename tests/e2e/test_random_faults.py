"""Runners, pods, Jobs and the way to the API server fail at random; in the end the study is whole.

STUDYFLOW_FAULT_SEED=7 replays what happens, as far as a cluster ever does the same thing twice. The
long form has a seed of its own each day.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from tests.e2e.images import image
from tests.e2e.kubectl import Kubectl
from tests.e2e.wire import Wire
from tests.faults.havoc import Fault, Havoc, Runner, seed_of
from tests.faults.place import Place

from studyflow.study import is_counted
from studyflow.trial import Cause
from studyflow.trial.record import TrialState

N_SHORT, N_LONG = 7, 100
"""How many faults; two trials for each."""

pytestmark = [pytest.mark.slow, pytest.mark.fault("F23")]

SCRIPT = """
import time
from studyflow import sdk
time.sleep(2)
sdk.finish(loss=sdk.current_trial().params["x"])
"""


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[tuple[Wire, Path]]:
    """Give a wire to the cluster, and a kubeconfig that leads through it."""
    raw = subprocess.run(
        ["kubectl", "config", "view", "--raw", "--minify", "--flatten"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    config = yaml.safe_load(raw)
    [named] = config["clusters"]
    server = urlsplit(named["cluster"]["server"])
    assert server.hostname is not None
    wire = Wire(server.hostname, server.port or 443)
    named["cluster"]["server"] = f"https://127.0.0.1:{wire.port}"
    named["cluster"].setdefault("tls-server-name", server.hostname)
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    yield wire, path
    wire.cut()


class ClusterHavoc(Havoc):
    """Breaks things around a study of pods."""

    PAUSE_SECONDS = (1.0, 4.0)
    OVERLAP_SECONDS = (0.5, 3.0)

    def __init__(
        self, start: Callable[[], Runner], kubectl: Kubectl, wire: Wire, seed: int
    ) -> None:
        super().__init__(start, seed)
        self._kubectl = kubectl
        self._wire = wire

    def faults(self) -> list[Fault]:
        return [
            self.kill_the_runner,
            self.pause_the_runner,
            self.delete_a_pod,
            self.delete_a_job,
            self.cut_the_wire,
            self.cut_the_wire_and_kill_the_runner,
            self.start_another_runner,
        ]

    def begun(self) -> set[str]:
        return {pod["metadata"]["uid"] for pod in self._kubectl.items("pods")}

    def delete_a_pod(self) -> None:
        self._delete("pods")

    def delete_a_job(self) -> None:
        self._delete("jobs")

    def cut_the_wire(self) -> None:
        self._wire.cut()
        time.sleep(self.random.uniform(1.0, 6.0))
        self._wire.fix()

    def cut_the_wire_and_kill_the_runner(self) -> None:
        self._wire.cut()
        self.kill_the_runner()
        time.sleep(self.random.uniform(1.0, 3.0))
        self._wire.fix()

    def _delete(self, kind: str) -> None:
        if names := sorted(item["metadata"]["name"] for item in self._kubectl.items(kind)):
            name = self.random.choice(names)
            self._kubectl("delete", kind, name, "--ignore-not-found", "--wait=false")


@pytest.mark.parametrize(
    "n_faults",
    [
        pytest.param(N_SHORT, marks=pytest.mark.timeout(720)),
        pytest.param(N_LONG, marks=[pytest.mark.long, pytest.mark.timeout(6300)]),
    ],
)
def test_whatever_fails_at_random_a_study_of_pods_comes_out_whole(
    n_faults: int,
    wire: tuple[Wire, Path],
    kubectl: Kubectl,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    seed = seed_of(n_faults == N_LONG)
    n_trials = 2 * n_faults
    record_property("did", f"{n_faults} faults over {n_trials} trials of pods, seed {seed}")
    (tmp_path / "study").mkdir()
    place = Place(
        tmp_path / "study",
        budget={"n_trials": n_trials, "max_parallel_trials": 3},
        retry={"max_attempts": 100, "backoff_seconds": 0.1},
        trial={
            "command": ["python", "-c", SCRIPT],
            "image": image("trial-base"),
            "resources": {"cpu": "50m", "memory": "64Mi"},
        },
    )
    variables = {
        "KUBECONFIG": str(wire[1]),
        "STUDYFLOW_EXECUTOR": "kubernetes",
        "STUDYFLOW_NAMESPACE": kubectl.namespace,
    }
    havoc = ClusterHavoc(lambda: place.start(**variables), kubectl, wire[0], seed)
    try:
        havoc.wreak(n_faults)
        code = havoc.runner.wait(240 + 10 * n_faults)
    finally:
        print(f"STUDYFLOW_FAULT_SEED={seed} did: {', '.join(havoc.diary)}")
        place.close()

    assert code == 0, place.log
    records = place.records()
    counted = [record for record in records if is_counted(record)]
    assert len(counted) == n_trials
    assert {(r.state, r.cause) for r in counted} == {(TrialState.COMPLETE, Cause.OK)}
    assert all(r.values == (r.params["x"],) for r in counted)
    assert kubectl.items("jobs") == []
    place.verify(**variables)

"""Pods that are paused and resumed on a real cluster, with their checkpoints on a claim."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from tests.e2e.claims import checkpoint_claim
from tests.e2e.images import image
from tests.e2e.kubectl import Kubectl, kubectl, until
from tests.mlflow_server import MlflowServer

from studyflow.context import StudyContext
from studyflow.observers.observer import Observer
from studyflow.runner import RunOptions, run_study
from studyflow.settings import Settings
from studyflow.spec import StudySpec
from studyflow.trial import Cause
from studyflow.trial.record import TrialRecord, TrialState

N_STEPS = 16

TRAIN = """\
import time
from studyflow import sdk
trial = sdk.current_trial()
saved = sdk.last_checkpoint()
first = 0 if saved is None else saved.step + 1
seen = "" if saved is None else (saved.path / "steps").read_text()
for step in range(first, trial.budget):
    time.sleep(2)
    seen += f"{step},"
    sdk.report(step, loss=trial.params["x"])
    with sdk.checkpoint(step) as folder:
        (folder / "steps").write_text(seen)
sdk.finish(loss=trial.params["x"], n_steps=seen.count(","))
"""


class SharedServer(MlflowServer):
    """An MLflow that pods reach, too."""

    host = "0.0.0.0"
    options = ("--allowed-hosts", "*")


class Diary(Observer):
    """Writes down which trials were paused and launched."""

    def __init__(self) -> None:
        self.events: list[tuple[str, int, int]] = []

    def launched(self, record: TrialRecord) -> None:
        self.events.append(("launched", record.number, record.attempt))

    def paused(self, record: TrialRecord) -> None:
        self.events.append(("paused", record.number, record.attempt))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SharedServer]:
    server = SharedServer(tmp_path)
    server.start()
    yield server
    server.kill()


def address_of_this_machine() -> str:
    """Return the address by which pods reach what listens on the node, which is this machine."""
    [node, *_] = json.loads(kubectl("get", "nodes", "-o", "json"))["items"]
    addresses = {a["type"]: a["address"] for a in node["status"]["addresses"]}
    return str(addresses["InternalIP"])


@pytest.mark.slow
def test_pods_are_paused_and_resumed_from_their_checkpoints(
    kubectl: Kubectl, server: SharedServer, tmp_path: Path
) -> None:
    address = f"http://{address_of_this_machine()}:{server.port}"
    with checkpoint_claim(kubectl) as claim:
        spec = StudySpec.from_mapping(
            {
                "name": f"pauses-{uuid.uuid4().hex[:6]}",
                "objectives": [{"metric": "loss", "direction": "minimize"}],
                "search_space": {"x": {"type": "float", "low": 0, "high": 1}},
                # The first one is the best, and the first at each rung: it is paused there.
                "enqueue": [{"x": 0.1}, {"x": 0.9}, {"x": 0.5}, {"x": 0.7}],
                "pruner": {
                    "type": "asha",
                    "variant": "promotion",
                    "min_resource": 1,
                    "reduction_factor": 2,
                },
                "budget": {"n_trials": 4, "max_parallel_trials": 2},
                "trial": {
                    "command": ["python", "-c", TRAIN],
                    "budget": N_STEPS,
                    "image": image("trial-base"),
                    "resources": {"cpu": "50m", "memory": "256Mi"},
                    "kubernetes": {"checkpoints": {"claim": claim, "sub_path": "pauses"}},
                },
            }
        )
        settings = Settings(
            tmp_path / "home",
            f"sqlite:///{tmp_path}/studies.db",
            server.uri,
            executor="kubernetes",
            namespace=kubectl.namespace,
            trial_tracking_uri=address,
        )
        diary = Diary()
        result = run_study(StudyContext(spec, settings), diary, RunOptions(tmp_path))
        records = result.data.records

        until(lambda: not kubectl.items("jobs"), 60, "no Job left")

    assert {r.cause for r in records} == {Cause.OK, Cause.PRUNED}, records
    resumed = [r for r in records if r.pauses and r.state is TrialState.COMPLETE]
    assert resumed, diary.events
    for record in records:
        assert not record.lost_attempts
        assert all(p.checkpoint_step is not None for p in record.pauses)
        rows = [row.attempt for row in record.costs]
        assert rows == list(range(1, record.attempt + 1))
    client = mlflow.MlflowClient(server.uri)
    for record in resumed:
        assert record.metrics["n_steps"] == N_STEPS, "each step was trained once"
        assert ("paused", record.number, 1) in diary.events
        assert ("launched", record.number, 2) in diary.events
        assert record.run_id is not None
        points = client.get_metric_history(record.run_id, "loss")
        assert {point.step for point in points} == set(range(N_STEPS)), "one run has all of it"

"""Checkpoints in a claim, on a real cluster: what a pod finds there, and what it can write."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.claims import checkpoint_claim
from tests.e2e.images import image
from tests.e2e.kubectl import Kubectl
from tests.e2e.test_executor_contract import spec_of

from studyflow.executors.kubernetes import KubernetesExecutor
from studyflow.executors.kubernetes.client import KubernetesApi
from studyflow.executors.kubernetes.names import study_key
from studyflow.testing.executor_contract import METRIC, STUDY, Watch, a_trial
from studyflow.trial import Cause, Outcome

BEGIN = """\
import json, os, pathlib
from studyflow import sdk
trial = sdk.current_trial()
folders = json.loads(os.environ["STUDYFLOW_TRIAL"])["checkpoints"]
"""

SAVE = """\
(trial.checkpoint_dir / "model").write_text(str(trial.attempt))
with sdk.checkpoint(trial.attempt) as folder:
    (folder / "state").write_text(str(trial.attempt))
"""

TRY_TO_SPOIL = """\
for level, _, names in os.walk(folders["trial"]):
    for name in (*names, "new"):
        try:
            open(os.path.join(level, name), "w").close()
        except OSError:
            pass
        else:
            raise SystemExit(f"{level}/{name} could be written")
"""


class Claim:
    """One claim, and attempts that run one after the other."""

    def __init__(self, kubectl: Kubectl, name: str, folder: Path) -> None:
        self._kubectl = kubectl
        self._folder = folder
        self._name = name
        self._sub_path = f"checkpoints-{uuid.uuid4().hex[:8]}"

    def write_as_before(self, name: str, content: str) -> None:
        """Write a file where studyflow 0.1.0 had all attempts of trial 0 write."""
        mount = {
            "name": "claim",
            "mountPath": "/shared",
            "subPath": f"{self._sub_path}/{study_key(STUDY)}/0",
        }
        script = f"open('/shared/{name}', 'w').write({content!r})"
        container = {
            "name": "writer",
            "image": image("trial-base"),
            "command": ["python", "-c", script],
            "volumeMounts": [mount],
        }
        pod = {
            "restartPolicy": "Never",
            "securityContext": {"runAsUser": 10001, "fsGroup": 10001},
            "containers": [container],
            "volumes": [{"name": "claim", "persistentVolumeClaim": {"claimName": self._name}}],
        }
        job = {"backoffLimit": 0, "template": {"spec": pod}}
        self._kubectl.apply(
            {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "writer"}, "spec": job}
        )
        self._kubectl("wait", "--for=condition=complete", "job/writer", "--timeout=120s")

    def run(self, attempt: int, script: str) -> Outcome:
        """Return how an attempt ends."""
        checkpoints = {"claim": self._name, "sub_path": self._sub_path}
        spec = spec_of(
            ["python", "-c", BEGIN + script + "sdk.finish(loss=trial.attempt)\n"],
            kubernetes={"checkpoints": checkpoints},
        )
        api = KubernetesApi(self._kubectl.namespace)
        executor = KubernetesExecutor(spec, api=api, root=self._folder)
        try:
            ended = Watch(executor, 120.0).until_ended(executor.submit(a_trial(0, attempt)))
        finally:
            executor.close()
        assert ended.outcome is not None
        return ended.outcome


@pytest.fixture
def claim(kubectl: Kubectl, tmp_path: Path) -> Iterator[Claim]:
    with checkpoint_claim(kubectl) as name:
        yield Claim(kubectl, name, tmp_path)


def told(outcome: Outcome) -> tuple[Cause, str, dict[str, float]]:
    return outcome.cause, outcome.message, dict(outcome.metrics)


@pytest.mark.fault("F81")
def test_a_pod_writes_its_own_checkpoints_and_can_spoil_none_of_another_attempt(
    claim: Claim,
) -> None:
    assert told(claim.run(1, SAVE)) == (Cause.OK, "", {METRIC: 1.0})
    for attempt in (2, 3):
        goes_on = f"""\
assert (trial.checkpoint_dir / "model").read_text() == "{attempt - 1}"
last = sdk.last_checkpoint()
assert (last.attempt, last.step) == ({attempt - 1}, {attempt - 1})
assert (last.path / "state").read_text() == "{attempt - 1}"
"""
        outcome = claim.run(attempt, goes_on + SAVE + TRY_TO_SPOIL)
        assert told(outcome) == (Cause.OK, "", {METRIC: float(attempt)})


@pytest.mark.fault("F81")
def test_a_pod_clears_what_attempts_before_the_previous_one_left(claim: Claim) -> None:
    for attempt in (1, 2):
        assert claim.run(attempt, SAVE).cause is Cause.OK
    look = """\
folder = pathlib.Path(folders["trial"])
left = [str(path.relative_to(folder)) for path in folder.glob(".attempts/*/*/*")]
assert [p for p in left if p.startswith(".attempts/1")] == [], left
assert [p for p in left if p.startswith(".attempts/2")] != [], left
"""
    assert told(claim.run(3, SAVE + SAVE + look)) == (Cause.OK, "", {METRIC: 3.0})


def test_checkpoints_of_a_study_begun_by_an_older_version_are_found(claim: Claim) -> None:
    claim.write_as_before("model", "epoch 3")
    reads = "assert (trial.checkpoint_dir / 'model').read_text() == 'epoch 3'\n"
    assert told(claim.run(2, reads)) == (Cause.OK, "", {METRIC: 2.0})

"""The nightly backup of a cluster, made once; and what the images say of themselves."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import optuna
import pytest
import yaml
from sqlalchemy.pool import NullPool
from tests.e2e.images import image
from tests.e2e.kubectl import Kubectl, kubectl, until
from tests.e2e.stack import ROOT, Stack

BACKUP_AND_CHECK = """
set -eu
studyflow backup /backups --keep 7
ls -l /backups
studyflow restore /backups/*.tar.gz --check
code=0; studyflow restore /backups/*.tar.gz --replace || code=$?
echo "restored under servers that run: exit code $code"
"""

MISSING = """
import importlib.metadata, json, re
def normal(name): return re.sub("[-_.]+", "-", name).lower()
bill = json.load(open("/usr/share/sbom/sbom.cdx.json"))
named = {(normal(c["name"]), c["version"]) for c in bill["components"]}
seen = {(normal(d.name), d.version) for d in importlib.metadata.distributions()}
print(json.dumps([bill["bomFormat"], bill["specVersion"], sorted(seen - named)]))
"""


def job_of(cron_job: dict[str, Any], name: str) -> dict[str, Any]:
    """Return what `kubectl create job --from` would make, for clusters that know no CronJob v1."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        **cron_job["spec"]["jobTemplate"],
    }


def printed_by(cluster: Kubectl, job: dict[str, Any]) -> str:
    """Run a Job to its end, and return its log; the Job is removed."""
    name = job["metadata"]["name"]
    cluster.apply(job)
    try:

        def has_ended() -> bool:
            status = json.loads(cluster("get", "job", name, "-o", "json"))["status"]
            return any(condition["status"] == "True" for condition in status.get("conditions", ()))

        until(has_ended, 300, f"the end of {name}")
        return cluster("logs", f"job/{name}", "--all-containers")
    finally:
        cluster("delete", "job", name, "--cascade=true", "--wait=false")


@pytest.fixture
def backup_job(stack: Stack) -> Iterator[dict[str, Any]]:
    """The Job of a backup, with its account and policies there, and a volume that goes with it."""
    manifests = list(yaml.safe_load_all(kubectl("kustomize", str(ROOT / "k8s" / "backup"))))
    others = [m for m in manifests if m["kind"] in ("ServiceAccount", "NetworkPolicy")]
    for manifest in others:
        stack.kubectl.apply(manifest)
    [cron_job] = [m for m in manifests if m["kind"] == "CronJob"]
    job = job_of(cron_job, f"backup-{uuid.uuid4().hex[:6]}")
    job["spec"]["backoffLimit"] = 0
    pod = job["spec"]["template"]["spec"]
    for volume in pod["volumes"]:
        if volume["name"] == "backups":
            volume.pop("persistentVolumeClaim")
            volume["emptyDir"] = {}
    [container] = pod["containers"]
    container["image"] = image("orchestrator")
    yield job
    for manifest in others:
        stack.kubectl("delete", manifest["kind"], manifest["metadata"]["name"])


def test_the_nightly_backup_holds_all_of_a_cluster(
    stack: Stack, backup_job: dict[str, Any]
) -> None:
    storage = optuna.storages.RDBStorage(stack.storage_url, engine_kwargs={"poolclass": NullPool})
    study = optuna.create_study(storage=storage, study_name=f"backed-up-{uuid.uuid4().hex[:6]}")
    study.add_trial(optuna.trial.create_trial(value=0.5))
    storage.remove_session()
    [container] = backup_job["spec"]["template"]["spec"]["containers"]
    container |= {"command": ["sh", "-c"], "args": [BACKUP_AND_CHECK]}

    said = printed_by(stack.kubectl, backup_job)

    assert "with mlflow, artifacts, files, studies" in said, said
    assert "-rw------- 1 10001 10001" in said
    assert "tar.gz is whole: made 2" in said
    assert "postgresql://optuna:***@postgres:5432/optuna" in said
    assert "local-only" not in said
    assert "restored under servers that run: exit code 3" in said
    assert "sessions on postgresql://mlflow:***@postgres:5432/mlflow" in said
    assert len(stack.trials(study.study_name)) == 1


@pytest.mark.parametrize("name", ["orchestrator", "trial-base"])
def test_an_image_names_every_package_that_is_in_it(name: str, kubectl: Kubectl) -> None:
    container = {
        "name": "look",
        "image": image(name),
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", MISSING],
    }
    spec = {"restartPolicy": "Never", "containers": [container]}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "look"},
        "spec": {"backoffLimit": 0, "template": {"spec": spec}},
    }

    assert json.loads(printed_by(kubectl, job)) == ["CycloneDX", "1.6", []]

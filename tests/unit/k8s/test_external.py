"""With a database outside of the cluster, everybody who reaches it asks for proof of who it is."""

from __future__ import annotations

import subprocess
from typing import Any

import yaml
from tests.unit.k8s.conftest import K8S
from tests.unit.k8s.test_manifests import named

from studyflow.storage import unverified_host

FILE = "/etc/studyflow/database-ca/ca.crt"


def check_authority(pod: dict[str, Any], *, optional: bool) -> None:
    [container] = pod["spec"]["containers"]
    environment = {variable["name"]: variable.get("value") for variable in container["env"]}
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    [volume] = [volume for volume in pod["spec"]["volumes"] if volume["name"] == "database-ca"]

    assert environment["PGSSLROOTCERT"] == FILE
    assert mounts["database-ca"]["mountPath"] == FILE.rpartition("/")[0]
    assert mounts["database-ca"]["readOnly"] is True
    assert volume["secret"]["secretName"] == "studyflow-database-ca"
    assert volume["secret"].get("optional", False) is optional


def test_servers_know_the_databases_authority(render: Any) -> None:
    deployments = named(render("overlays/external"), "Deployment")

    for name in ("mlflow", "prefect-server"):
        check_authority(deployments[name]["spec"]["template"], optional=False)


def test_a_flow_run_knows_it_where_there_is_one(flow_run_job: dict[str, Any]) -> None:
    check_authority(flow_run_job["spec"]["template"], optional=True)


def test_new_secrets_ask_an_external_database_for_proof() -> None:
    def urls(*arguments: str) -> list[str]:
        printed = subprocess.run(
            [K8S / "new-secrets", *arguments], capture_output=True, text=True, check=True
        ).stdout
        [secret] = [
            found
            for found in yaml.safe_load_all(printed)
            if found["metadata"]["name"] == "studyflow"
        ]
        return [value for key, value in secret["stringData"].items() if key.endswith("-url")]

    assert len(urls("--external")) == 3
    assert [unverified_host(url, {}) for url in urls("--external")] == [None] * 3
    assert all(url.endswith("=verify-full") for url in urls("--external"))
    assert [url for url in urls() if "ssl" in url] == []

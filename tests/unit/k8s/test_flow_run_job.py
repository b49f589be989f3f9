"""The work pool's job template: what Prefect's worker demands, and what a study needs."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import Field

from studyflow.spec.pods.platform_file import PLATFORM_MOUNT

TEMPLATE = Path(__file__).parents[3] / "k8s" / "base" / "pool" / "flow-run-job.yaml"

Manifest = dict[str, Any]


def test_the_worker_accepts_the_template(flow_run_job: Manifest) -> None:
    # prefect-kubernetes refuses any other values.
    pod = flow_run_job["spec"]["template"]["spec"]

    assert (flow_run_job["apiVersion"], flow_run_job["kind"]) == ("batch/v1", "Job")
    assert (pod["parallelism"], pod["completions"], pod["restartPolicy"]) == (1, 1, "Never")
    assert [container["name"] for container in pod["containers"]] == ["prefect-job"]


DECIDED = {
    "image": "registry.example/o:1",
    "namespace": "studyflow",
    "mlflow_public_url": "https://m",
}
"""What an installation decides, beside what its pool does."""


def test_every_placeholder_is_a_variable_or_the_installations(job_template: Manifest) -> None:
    from studyflow.orchestration.registration import Pool

    used = set(re.findall(r"{{ (\w+) }}", json.dumps(job_template["job_configuration"])))
    variables = set(job_template["variables"]["properties"])
    decided = {*DECIDED, *Pool().decided}

    assert used == variables | decided
    assert not variables & decided
    assert set(Pool("a").decided) - decided == {"trials_namespace"}


def registered(team: str | None = None) -> Manifest:
    """Return the job template as a worker's first step registers it."""
    from studyflow.orchestration.registration import Pool, job_template

    return job_template(TEMPLATE.read_text(), {**DECIDED, **Pool(team).decided})


def test_a_team_s_pool_decides_account_namespace_and_platform() -> None:
    template = registered("team-a")

    pod = template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    env = {variable["name"]: variable.get("value") for variable in container["env"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert pod["serviceAccountName"] == "studyflow-runner-team-a"
    assert env["STUDYFLOW_NAMESPACE"] == "studyflow-team-a"
    assert volumes["platform"]["configMap"]["name"] == "studyflow-platform-team-a"
    assert "trials_namespace" not in template["variables"]["properties"]
    assert registered()["variables"]["properties"].keys() - {"trials_namespace"} == (
        template["variables"]["properties"].keys()
    )


@pytest.mark.parametrize("name", ["", "Team", "a_b", "-a", "a-", "a.b", "{{ image }}", "a" * 41])
def test_a_team_s_name_is_one_of_kubernetes(name: str) -> None:
    from studyflow.orchestration.registration import Pool

    with pytest.raises(ValueError, match="names of Kubernetes"):
        Pool(name)


def test_a_template_that_names_what_nobody_decides_is_refused() -> None:
    from studyflow.orchestration.registration import job_template

    with pytest.raises(ValueError, match=r"but it names platform, service_account$"):
        job_template(TEMPLATE.read_text(), DECIDED)


CHOSEN: list[Manifest] = [
    {"image": "evil.example/x"},
    {"namespace": "kube-system"},
    {"service_account": "studyflow-runner-team-b"},
    {"service_account_name": "studyflow-worker"},
    {"platform": "mine"},
    {"trials_namespace": "studyflow-team-b"},
    {"mlflow_public_url": "https://evil.example"},
    {"env": {"STUDYFLOW_PLATFORM": "/tmp/mine.yaml", "STUDYFLOW_NAMESPACE": "studyflow-team-b"}},
    {"env": [{"name": "STUDYFLOW_PLATFORM", "value": "/tmp/mine.yaml"}]},
    {"env.STUDYFLOW_PLATFORM": "/tmp/mine.yaml"},
    {"labels": {"app.kubernetes.io/component": "mlflow", "app.kubernetes.io/name": "studyflow"}},
    {"annotations": {"container.apparmor.security.beta.kubernetes.io/prefect-job": "unconfined"}},
    {"name": "{{ $PREFECT_API_AUTH_STRING }}"},
    {"command": "sh -c id"},
    {"cluster_config": {"context_name": "x", "config": {}}},
    {"job_manifest": {"spec": {}}},
    {"job_manifest.spec.template.spec.serviceAccountName": "studyflow-worker"},
]
"""Variables of a flow run that would be the installation's to decide."""


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("chosen", CHOSEN, ids=lambda one: next(iter(one)))
def test_a_flow_run_of_a_team_s_pool_chooses_nothing_of_that(chosen: Manifest) -> None:
    """As Prefect's worker does it; its server, which refuses these before, is not asked."""
    from prefect.workers.base import BaseJobConfiguration

    class Configuration(BaseJobConfiguration):
        namespace: str
        job_manifest: dict[str, Any]
        annotations: dict[str, str] = Field(default_factory=dict)
        cluster_config: Any = None

    def configured(values: Manifest) -> Manifest:
        template = registered("team-a")
        nobody: Any = object()  # is not asked: the template refers to no block of Prefect's
        made: Any = asyncio.run(
            Configuration.from_template_and_values(template, values, client=nobody)
        )
        dumped: Manifest = made.model_dump()
        return dumped

    plain = configured({})
    assert configured(chosen) == plain
    assert configured({"memory_limit": "4Gi"}) != plain
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(chosen, registered("team-a")["variables"])


def test_a_flow_run_knows_where_everything_is(flow_run_job: Manifest) -> None:
    (container,) = flow_run_job["spec"]["template"]["spec"]["containers"]
    env = {variable["name"]: variable for variable in container["env"]}

    assert env["STUDYFLOW_EXECUTOR"]["value"] == "kubernetes"
    assert env["MLFLOW_TRACKING_URI"]["value"] == "http://mlflow.studyflow:5000"
    assert env["STUDYFLOW_MLFLOW_PUBLIC_URL"]["value"] == "http://localhost:5000"
    assert env["STUDYFLOW_STORAGE"]["valueFrom"] == {
        "secretKeyRef": {"name": "studyflow", "key": "storage-url"}
    }
    assert env["STUDYFLOW_NAMESPACE"]["value"] == "studyflow-trials"
    assert env["STUDYFLOW_TRIAL_SERVICE_ACCOUNT"]["value"] == "studyflow-trial"
    assert env["NOTIFY_URL"]["valueFrom"] == {
        "secretKeyRef": {"name": "studyflow-notify", "key": "url", "optional": True}
    }
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert Path(env["STUDYFLOW_PLATFORM"]["value"]) == PLATFORM_MOUNT
    assert str(Path(env["STUDYFLOW_PLATFORM"]["value"]).parent) in mounts
    assert env["STUDYFLOW_HOME"]["value"] in mounts
    assert "/tmp" in mounts


def test_the_namespace_of_trials_is_the_work_pools_to_choose(job_template: Manifest) -> None:
    variable = job_template["variables"]["properties"]["trials_namespace"]

    assert variable["default"] == "studyflow-trials"
    for name in ("studyflow-team-a", "a", "0"):
        assert re.search(variable["pattern"], name)
    for name in ("", "-a", "Team", "a.b", "a b", "{{ image }}", "a" * 64):
        assert not re.search(variable["pattern"], name), name


def test_a_flow_run_has_the_runners_rights_and_time_to_end_its_trials(
    flow_run_job: Manifest,
) -> None:
    pod = flow_run_job["spec"]["template"]["spec"]

    assert pod["serviceAccountName"] == "studyflow-runner"
    assert pod["terminationGracePeriodSeconds"] >= 60


def test_a_killed_flow_run_goes_on_in_one_new_pod(
    job_template: Manifest, flow_run_job: Manifest
) -> None:
    # With 0 the worker would start a second Job beside the first one's replacement pod.
    assert flow_run_job["spec"]["backoffLimit"] == 3
    assert flow_run_job["spec"]["podReplacementPolicy"] == "Failed"
    assert "env" not in job_template["job_configuration"]
    (container,) = flow_run_job["spec"]["template"]["spec"]["containers"]
    names = [variable["name"] for variable in container["env"]]
    assert "PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR" not in names

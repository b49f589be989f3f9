"""The work pool's job template: what Prefect's worker demands, and what a study needs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

Manifest = dict[str, Any]


def test_the_worker_accepts_the_template(flow_run_job: Manifest) -> None:
    # prefect-kubernetes refuses any other values.
    pod = flow_run_job["spec"]["template"]["spec"]

    assert (flow_run_job["apiVersion"], flow_run_job["kind"]) == ("batch/v1", "Job")
    assert (pod["parallelism"], pod["completions"], pod["restartPolicy"]) == (1, 1, "Never")
    assert [container["name"] for container in pod["containers"]] == ["prefect-job"]


def test_every_placeholder_is_a_variable(job_template: Manifest) -> None:
    used = set(re.findall(r"{{ (\w+) }}", json.dumps(job_template["job_configuration"])))

    # `env` is merged with the configuration's own.
    assert used | {"env"} == set(job_template["variables"]["properties"])


def test_a_flow_run_knows_where_everything_is(
    job_template: Manifest, flow_run_job: Manifest
) -> None:
    (container,) = flow_run_job["spec"]["template"]["spec"]["containers"]
    env = {variable["name"]: variable for variable in container["env"]}

    assert job_template["job_configuration"]["env"] == {
        "STUDYFLOW_EXECUTOR": "kubernetes",
        "MLFLOW_TRACKING_URI": "http://mlflow.{{ namespace }}:5000",
        "STUDYFLOW_MLFLOW_PUBLIC_URL": "{{ mlflow_public_url }}",
    }
    assert env["STUDYFLOW_STORAGE"]["valueFrom"] == {
        "secretKeyRef": {"name": "studyflow", "key": "storage-url"}
    }
    assert env["STUDYFLOW_NAMESPACE"]["value"] == "studyflow-trials"
    assert env["STUDYFLOW_TRIAL_SERVICE_ACCOUNT"]["value"] == "studyflow-trial"
    assert env["NOTIFY_URL"]["valueFrom"] == {
        "secretKeyRef": {"name": "studyflow-notify", "key": "url", "optional": True}
    }
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
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
    assert (
        "PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR" not in job_template["job_configuration"]["env"]
    )

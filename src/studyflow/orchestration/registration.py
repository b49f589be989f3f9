"""The cluster's work pool and a deployment of every flow, as the manifests say."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound

from studyflow.deployments.deployment import DEFAULT_POOL

POOL: Final = DEFAULT_POOL
"""Name of the work pool."""


def job_template(
    text: str, image: str, namespace: str, mlflow_public_url: str | None = None
) -> dict[str, Any]:
    """Return a base job template from its YAML, with these defaults for its variables.

    Args:
        text: The template.
        image: Image of flow runs.
        namespace: Where they run.
        mlflow_public_url: MLflow's address as people reach it; `None` for the template's own.
    """
    template: dict[str, Any] = yaml.safe_load(text)
    variables = template["variables"]["properties"]
    variables["image"]["default"] = image
    variables["namespace"]["default"] = namespace
    if mlflow_public_url:
        variables["mlflow_public_url"]["default"] = mlflow_public_url
    return template


def own_image(pod: str, namespace: str) -> str:
    """Return the image that this pod runs: flow runs get the same, by digest if it has one."""
    from kubernetes import client, config

    config.load_incluster_config()  # type: ignore[no-untyped-call]
    spec = client.CoreV1Api().read_namespaced_pod(pod, namespace, _request_timeout=30).spec
    assert spec is not None, "a pod has a spec"
    return str(spec.containers[0].image)


def wait_for_server(
    prefect: SyncPrefectClient,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return when the server answers.

    Raises:
        TimeoutError: It did not within `seconds`.
    """
    end = clock() + seconds
    while (problem := prefect.api_healthcheck()) is not None:
        if clock() >= end:
            raise TimeoutError(
                f"Prefect's server at {prefect.api_url} does not answer after {seconds:.0f} s: "
                f"{problem}"
            )
        sleep(2.0)


def register_pool(prefect: SyncPrefectClient, template: dict[str, Any]) -> None:
    """Make the work pool, or give the one that exists this template."""
    try:
        prefect.read_work_pool(POOL)
    except ObjectNotFound:
        prefect.create_work_pool(
            WorkPoolCreate(name=POOL, type="kubernetes", base_job_template=template)
        )
    else:
        prefect.update_work_pool(POOL, WorkPoolUpdate(base_job_template=template))


def register_deployments(purposes: Mapping[str, str], study: str) -> list[str]:
    """Make each flow's deployment, or update the one that exists; return their names.

    The flows' files lie in the image, below the working folder: nothing is pulled. A deployment has
    its flow's name.

    Args:
        purposes: What each flow's deployment does, by the flow's entrypoint.
        study: Study file that the forms begin with.
    """
    names = []
    for entrypoint, purpose in purposes.items():
        deployment = RunnerDeployment.from_entrypoint(
            entrypoint,
            name=entrypoint.partition(":")[2].replace("_", "-"),
            description=f"{purpose} `study` is a file in the image, such as {study}, or a study "
            "file's text.",
            parameters={"study": study},
            tags=["studyflow"],
            work_pool_name=POOL,
        )
        deployment.apply()
        names.append(deployment.full_name)
    return names

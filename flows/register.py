"""Make the work pool `studyflow` and a deployment of every flow, or update them.

    python flows/register.py --job-template k8s/base/servers/flow-run-job.yaml [--image IMAGE]

Runs in the cluster before each start of Prefect's worker (k8s/base/servers/prefect-worker.yaml), so
that what Prefect has is what the manifests say. Schedules that were added in Prefect stay.
"""

from __future__ import annotations

if __name__ == "__main__":
    from studyflow.interrupt import leave_at_once

    leave_at_once()  # Prefect takes seconds to import

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound

POOL = "studyflow"
STUDY = "studies/blackbox.yaml"
"""What the forms begin with."""
DEPLOYMENTS = {
    "flows/run_study.py:run_study": "Run a study, or go on with it.",
    "flows/compare_samplers.py:compare_samplers": "Run a study under several samplers and seeds, "
    "and see which one suits it.",
    "flows/retrain_best.py:retrain_best": "Train the best configurations of a study again with "
    "fresh seeds, and register the winner's model.",
}
"""What each flow's deployment does, by the flow's entrypoint."""

SERVER_SECONDS = 300.0
"""How long to wait for the server: in a new cluster both start at once, and it makes its tables."""

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds its namespace."""


def job_template(text: str, image: str, namespace: str) -> dict[str, Any]:
    """Return a base job template from its YAML, with these defaults for image and namespace."""
    template: dict[str, Any] = yaml.safe_load(text)
    variables = template["variables"]["properties"]
    variables["image"]["default"] = image
    variables["namespace"]["default"] = namespace
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


def register_deployments() -> list[str]:
    """Make each flow's deployment, or update the one that exists; return their names.

    The flows' files lie in the image, below the working folder: nothing is pulled. A deployment has
    its flow's name.
    """
    names = []
    for entrypoint, purpose in DEPLOYMENTS.items():
        deployment = RunnerDeployment.from_entrypoint(
            entrypoint,
            name=entrypoint.partition(":")[2].replace("_", "-"),
            description=f"{purpose} `study` is a file in the image, such as {STUDY}, or a study "
            "file's text.",
            parameters={"study": STUDY},
            tags=["studyflow"],
            work_pool_name=POOL,
        )
        deployment.apply()
        names.append(deployment.full_name)
    return names


def main(arguments: Sequence[str] | None = None) -> int:
    """Register both; return the exit code."""
    parser = argparse.ArgumentParser(description="Register work pool and deployment with Prefect.")
    parser.add_argument("--job-template", type=Path, required=True, help="YAML of the pool's jobs")
    parser.add_argument("--image", help="image of flow runs; by default this pod's own")
    parser.add_argument("--namespace", help="namespace of flow runs; by default this pod's own")
    given = parser.parse_args(arguments)
    namespace = given.namespace or (SERVICE_ACCOUNT / "namespace").read_text().strip()
    image = given.image or own_image(os.environ["POD_NAME"], namespace)
    try:
        with get_client(sync_client=True) as prefect:
            wait_for_server(prefect, SERVER_SECONDS)
            register_pool(prefect, job_template(given.job_template.read_text(), image, namespace))
    except (TimeoutError, httpx.HTTPError) as error:
        print(f"{error}. Is the Prefect server running?", file=sys.stderr)  # noqa: T201
        return 3
    names = ", ".join(register_deployments())
    print(f"work pool {POOL!r} and deployments {names} are registered for {image}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())

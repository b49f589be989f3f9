"""Make a work pool and a deployment of every flow for it, or update them.

    python flows/register.py --job-template k8s/base/pool/flow-run-job.yaml [--image IMAGE]

Runs in the cluster before each start of Prefect's worker (k8s/base/pool/prefect-worker.yaml), so
that what Prefect has is what the manifests say. Schedules that were added in Prefect stay.

The pool is `studyflow`, or with `--team NAME` that team's: `studyflow-NAME`, whose flow runs have
the service account `studyflow-runner-NAME`, launch trials in the namespace `studyflow-NAME`, and
read what is allowed there from the ConfigMap `studyflow-platform-NAME`.
"""

from __future__ import annotations

if __name__ == "__main__":
    from studyflow.interrupt import leave_at_once

    leave_at_once()  # Prefect takes seconds to import

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx

from studyflow.cli import exits
from studyflow.orchestration.registration import (
    MLFLOW_PUBLIC_URL,
    Pool,
    job_template,
    own_image,
    register_deployments,
    register_pool,
    wait_for_server,
)

# isort: split
# After `studyflow.orchestration`, which sets what Prefect reads when it is imported.
from prefect.client.orchestration import get_client

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


def main(arguments: Sequence[str] | None = None) -> int:
    """Register both; return the exit code."""
    parser = argparse.ArgumentParser(description="Register work pool and deployment with Prefect.")
    parser.add_argument("--job-template", type=Path, required=True, help="YAML of the pool's jobs")
    parser.add_argument("--image", help="image of flow runs; by default this pod's own")
    parser.add_argument("--namespace", help="namespace of flow runs; by default this pod's own")
    parser.add_argument("--team", help="whose pool it is; by default everybody's")
    given = parser.parse_args(arguments)
    try:
        pool = Pool(given.team or None)
    except ValueError as error:
        parser.error(f"--team: {error}")
    namespace = given.namespace or (SERVICE_ACCOUNT / "namespace").read_text().strip()
    image = given.image or own_image(os.environ["POD_NAME"], namespace)
    try:
        with get_client(sync_client=True) as prefect:
            wait_for_server(prefect, SERVER_SECONDS)
            url = os.environ.get("STUDYFLOW_MLFLOW_PUBLIC_URL") or MLFLOW_PUBLIC_URL
            decided = {"image": image, "namespace": namespace, "mlflow_public_url": url}
            template = job_template(given.job_template.read_text(), {**decided, **pool.decided})
            register_pool(prefect, pool, template)
    except (TimeoutError, httpx.HTTPError) as error:
        print(f"{error}. Is the Prefect server running?", file=sys.stderr)  # noqa: T201
        return exits.UNAVAILABLE
    names = ", ".join(register_deployments(DEPLOYMENTS, pool, STUDY))
    print(f"work pool {pool.name!r} and deployments {names} are registered for {image}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())

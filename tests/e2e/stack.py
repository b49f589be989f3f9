"""The whole system in a cluster, as a user reaches it: the overlay `local`, and studies for it."""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run
from sqlalchemy.pool import NullPool
from tests.e2e.images import image
from tests.e2e.kubectl import Kubectl, kubectl, until
from tests.ports import free_port
from tests.ui.site import Site

ROOT = Path(__file__).parents[2]
NAMESPACE = "studyflow"
TRIALS_NAMESPACE = "studyflow-trials"
TRIALS = "app.kubernetes.io/component=trial"
RUNNERS = "app.kubernetes.io/component=runner"


class Stack:
    """The cluster's servers, as a user reaches them, and the trials beside them."""

    def __init__(self, kubectl: Kubectl, storage_url: str, mlflow_url: str, site: Site) -> None:
        self.kubectl = kubectl
        self.among_trials = Kubectl(TRIALS_NAMESPACE)
        self.storage_url = storage_url
        self.mlflow = MlflowClient(mlflow_url)
        self.site = site

    def start(self, study: dict[str, Any], **parameters: Any) -> str:
        """Trigger the deployment; return the flow run's id."""
        given = json.dumps({"study": yaml.safe_dump(study), **parameters})
        said = self.prefect("deployment", "run", "run-study/run-study", "--params", given)
        found = re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", said)
        assert found, said
        return found[0]

    def prefect(self, *arguments: str) -> str:
        """Run Prefect's command line beside its worker."""
        pod = ("deploy/studyflow-worker", "-c", "prefect-worker")
        return self.kubectl("exec", *pod, "--", "prefect", "--no-prompt", *arguments)

    def flow_state(self, flow_run: str) -> str:
        """Return what Prefect's API says; its command takes seconds of a processor each time."""
        return str(self.site.run(flow_run)["state"]["type"])

    def until_ended(self, flow_run: str, seconds: float = 240.0) -> str:
        """Return the type of the flow run's final state."""

        def look() -> str | None:
            state = self.flow_state(flow_run)
            return state if state in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") else None

        return until(look, seconds, f"the end of flow run {flow_run}")

    def trials(self, study: str) -> list[optuna.trial.FrozenTrial]:
        storage = optuna.storages.RDBStorage(
            self.storage_url, engine_kwargs={"poolclass": NullPool}, skip_table_creation=True
        )
        loaded = optuna.load_study(study_name=study, storage=storage)
        trials = loaded.get_trials(deepcopy=False)
        storage.remove_session()
        return trials

    def runs(self, study: str) -> dict[int, Run]:
        """Return the MLflow run of every trial."""
        experiment = self.mlflow.get_experiment_by_name(study)
        if experiment is None:
            return {}
        found = self.mlflow.search_runs([experiment.experiment_id], max_results=1000)
        return {
            int(run.data.tags["studyflow.trial"]): run
            for run in found
            if run.data.tags.get("studyflow.role") == "trial"
        }

    def pods(self, study: str, *phases: str) -> list[dict[str, Any]]:
        """Return the trial pods of a study."""
        from studyflow.executors.kubernetes.names import study_selector

        found = self.among_trials.items("pods", "-l", study_selector(study))
        return [pod for pod in found if not phases or pod["status"].get("phase") in phases]


@contextmanager
def forwarded(target: str, port: int) -> Iterator[int]:
    """Make a service's port reachable from this machine; give the local port.

    kubectl ends when a connection through it breaks, and is started again.
    """
    local = free_port()
    command = ["kubectl", "-n", NAMESPACE, "port-forward", target, f"{local}:{port}"]
    is_over = threading.Event()
    running: list[subprocess.Popen[bytes]] = []

    def keep() -> None:
        while not is_over.is_set():
            with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
                running[:] = [process]
                process.wait()
            is_over.wait(0.5)

    def is_open() -> bool:
        try:
            socket.create_connection(("127.0.0.1", local), timeout=1).close()
        except OSError:
            return False
        return True

    keeper = threading.Thread(target=keep)
    keeper.start()
    try:
        until(is_open, 60, f"a way to {target}")
        yield local
    finally:
        is_over.set()
        for process in running:
            process.terminate()
        keeper.join()


def study(name: str, *, n_trials: int, parallel: int, **trial: Any) -> dict[str, Any]:
    """Return a study of the example `blackbox` under a name that no other run has."""
    document: dict[str, Any] = yaml.safe_load((ROOT / "images/blackbox/study.yaml").read_text())
    document["name"] = f"{name}-{uuid.uuid4().hex[:6]}"
    document["budget"] = {"n_trials": n_trials, "max_parallel_trials": parallel}
    document["trial"] |= {
        "image": image("blackbox"),
        "resources": {"cpu": "100m", "memory": "128Mi", "gpu": 1},
        **trial,
    }
    return document


def finishing_after(seconds: float) -> list[str]:
    script = (
        f"import time\nfrom studyflow import sdk\np = sdk.current_trial().params\n"
        f"time.sleep({seconds})\nsdk.finish(value=-p['x'] ** 2 - (p['y'] - 1) ** 2 + 1)\n"
    )
    return ["python", "-c", script]


@contextmanager
def deployed() -> Iterator[Stack]:
    """Apply the manifests, and wait until everything is there."""
    kubectl("apply", "-k", str(ROOT / "k8s" / "overlays" / "local"))
    servers = Kubectl(NAMESPACE)
    for what in ("statefulset/postgres", "deploy/prefect-server", "deploy/mlflow"):
        servers("rollout", "status", what, "--timeout=300s")
    servers("rollout", "status", "deploy/studyflow-worker", "--timeout=300s")
    secret = json.loads(servers("get", "secret", "studyflow", "-o", "json"))["data"]
    storage_url = base64.b64decode(secret["storage-url"]).decode()
    login = base64.b64decode(secret["prefect-auth"]).decode()
    mlflow_secret = json.loads(servers("get", "secret", "studyflow-mlflow", "-o", "json"))["data"]
    os.environ["MLFLOW_TRACKING_USERNAME"] = "admin"
    os.environ["MLFLOW_TRACKING_PASSWORD"] = base64.b64decode(
        mlflow_secret["admin-password"]
    ).decode()
    with (
        forwarded("svc/postgres", 5432) as postgres,
        forwarded("svc/mlflow", 5000) as mlflow,
        forwarded("svc/prefect", 4200) as prefect,
    ):
        here = storage_url.replace("@postgres:5432/", f"@127.0.0.1:{postgres}/")
        site = Site(ROOT, f"http://127.0.0.1:{prefect}", "", login)
        yield Stack(servers, here, f"http://127.0.0.1:{mlflow}", site)

"""The pages of a study in MLflow and Prefect: asked for when somebody wants to go there."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote

from studyflow.errors import TrackingUnavailable
from studyflow.servers import announced
from studyflow.settings import Settings
from studyflow.tracking.pages import run_page, study_page
from studyflow.trial.record import TrialRecord

SECONDS: Final = 10.0
"""Longest wait for an answer."""


def mlflow_pages(settings: Settings) -> str | None:
    """Return the address of MLflow's pages; `None` where none are known."""
    known = settings.mlflow_public_url or announced.running_mlflow_pages(settings)
    if known is None and (settings.tracking_uri or "").startswith(("http://", "https://")):
        known = settings.tracking_uri
    return None if known is None else known.rstrip("/")


def prefect_pages(settings: Settings) -> str | None:
    """Return the address of Prefect's pages that `studyflow ui` serves; `None` without them."""
    api = announced.running_prefect_api(settings)
    return None if api is None else api.removesuffix("/api")


def study_in_mlflow(settings: Settings, name: str, records: Iterable[TrialRecord]) -> str:
    """Return the page of a study's trials in MLflow, best first.

    The experiment is that of its trials' runs: repeats of a study's best trials are in its own.

    Raises:
        TrackingUnavailable: MLflow is not there, or does not know the study.
    """
    base = _needed(mlflow_pages(settings), "MLflow")
    api = f"{base}/api/2.0/mlflow"
    run_id = next((record.run_id for record in records if record.run_id), None)
    if run_id is None:
        wanted = f"get-by-name?experiment_name={quote(name, safe='')}"
    else:
        run = _ask(f"{api}/runs/get?run_id={quote(run_id, safe='')}")["run"]
        wanted = f"get?experiment_id={run['info']['experiment_id']}"
    experiment = _ask(f"{api}/experiments/{wanted}")["experiment"]
    tags = {tag["key"]: tag["value"] for tag in experiment.get("tags", [])}
    return f"{base}/{study_page(experiment['experiment_id'], tags, name)}"


def trial_in_mlflow(settings: Settings, record: TrialRecord) -> str:
    """Return the page of a trial's run in MLflow.

    Raises:
        TrackingUnavailable: MLflow is not there, or does not know the run.
    """
    base = _needed(mlflow_pages(settings), "MLflow")
    run_id = quote(record.run_id or "", safe="")
    found = _ask(f"{base}/api/2.0/mlflow/runs/get?run_id={run_id}")
    return f"{base}/{run_page(found['run']['info']['experiment_id'], run_id)}"


def study_in_prefect(settings: Settings, name: str) -> str:
    """Return the page of a study's newest flow run in Prefect, or of all flow runs.

    Raises:
        TrackingUnavailable: Prefect is not there.
    """
    base = _needed(prefect_pages(settings), "Prefect")
    wanted = {"name": {"any_": [name]}}
    body = {"flow_runs": wanted, "sort": "START_TIME_DESC", "limit": 1}
    runs: Any = _ask(f"{base}/api/flow_runs/filter", body)
    return f"{base}/runs/flow-run/{runs[0]['id']}" if runs else f"{base}/runs"


def _needed(address: str | None, what: str) -> str:
    if address is None:
        raise TrackingUnavailable(
            f"{what}'s pages are not running here.",
            hint="`studyflow ui` serves them.",
        )
    return address


def _ask(address: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            found: dict[str, Any] = json.load(answer)
    except (OSError, ValueError) as error:
        raise TrackingUnavailable(
            f"{address.partition('/api/')[0]} has no page of it: {error}.",
            hint="is the server there, and did the study run with it?",
        ) from error
    return found

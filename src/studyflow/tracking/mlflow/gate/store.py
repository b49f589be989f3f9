"""Facts of runs, models and experiments, from the store of the MLflow server of this process."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from studyflow.tracking.mlflow.client import NOT_FOUND, Accepting
from studyflow.tracking.mlflow.gate.facts import ModelFacts, RunFacts

_SERVED: Final = "mlflow-artifacts"
"""Scheme of artifacts that the server keeps and hands out."""


class ServerLookup:
    """A `Lookup` in the server's own store, from any thread."""

    def run(self, run_id: str) -> RunFacts | None:
        """Return a run; `None` when there is none."""
        found = self._found("get_run", run_id)
        if found is None:
            return None
        return RunFacts(
            run_id=str(found.info.run_id),
            experiment_id=str(found.info.experiment_id),
            is_running=found.info.status == "RUNNING" and found.info.lifecycle_stage == "active",
            artifact_path=served_path(found.info.artifact_uri),
            tags=dict(found.data.tags),
        )

    def model(self, model_id: str) -> ModelFacts | None:
        """Return a logged model; `None` when there is none."""
        found = self._found("get_logged_model", model_id)
        if found is None:
            return None
        return ModelFacts(
            model_id=str(found.model_id),
            experiment_id=str(found.experiment_id),
            source_run_id=str(found.source_run_id or ""),
            artifact_path=served_path(found.artifact_location),
        )

    def experiment_name(self, experiment_id: str) -> str | None:
        """Return the name of an experiment; `None` when there is none."""
        found = self._found("get_experiment", experiment_id)
        return None if found is None else str(found.name)

    def _found(self, method: str, name: str) -> Any:
        from mlflow.server import handlers

        with Accepting(NOT_FOUND | {"INVALID_PARAMETER_VALUE"}):
            return getattr(handlers._get_tracking_store(), method)(name)
        return None


def served_path(uri: str) -> str | None:
    """Return where artifacts are below the server's folder; `None` when the server has them not."""
    address = urlsplit(uri)
    return address.path.strip("/") if address.scheme == _SERVED else None

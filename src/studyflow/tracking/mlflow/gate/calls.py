"""Each call that a trial's token may make. What this table does not name is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from studyflow.tracking.mlflow.gate import rules
from studyflow.tracking.mlflow.gate.holder import CallRefused, Holder, shown
from studyflow.tracking.mlflow.gate.rules import Fields

Rule = Callable[[Fields, Holder], Fields]
"""Returns the fields that are passed on; raises `CallRefused`."""


@dataclass(frozen=True, slots=True)
class AllowedCall:
    """A call that a token may make, as far as its rule allows."""

    method: str
    path: str
    """After the server's prefix; `{NAME}` stands for one name, and `{NAME:path}` for the rest."""
    rule: Rule
    proto: str | None = None
    """Class of MLflow's protocol message that the body, or the query, is, with `artifacts.` before
    one of the artifact service; `None` for neither."""
    streams: bool = False
    """Whether the body is a file, which is passed on unseen."""

    def match(self, method: str, path: str) -> Fields | None:
        """Return the names in the path if it is this call; `None` when it is another."""
        if method != self.method:
            return None
        found = re.fullmatch(_expression(self.path), path)
        return None if found is None else dict(found.groupdict())


def _expression(template: str) -> str:
    escaped = re.escape(template)
    rest = re.sub(r"\\{(\w+):path\\}", r"(?P<\1>.+)", escaped)
    return re.sub(r"\\{(\w+)\\}", r"(?P<\1>[A-Za-z0-9_-]{1,64})", rest)


_RUNS: Final = "/api/2.0/mlflow/runs"
_MODELS: Final = "/api/2.0/mlflow/logged-models"
_ARTIFACTS: Final = "/api/2.0/mlflow-artifacts/artifacts"

CALLS: Final = (
    AllowedCall("POST", f"{_RUNS}/create", rules.create_run, "CreateRun"),
    AllowedCall("POST", f"{_RUNS}/update", rules.update_run, "UpdateRun"),
    AllowedCall("POST", f"{_RUNS}/log-metric", rules.write_metric, "LogMetric"),
    AllowedCall("POST", f"{_RUNS}/log-batch", rules.write_batch, "LogBatch"),
    AllowedCall("POST", f"{_RUNS}/log-parameter", rules.write_run, "LogParam"),
    AllowedCall("POST", f"{_RUNS}/set-tag", rules.write_tag, "SetTag"),
    AllowedCall("POST", f"{_RUNS}/log-model", rules.write_run, "LogModel"),
    AllowedCall("POST", f"{_RUNS}/log-inputs", rules.write_inputs, "LogInputs"),
    AllowedCall("POST", f"{_RUNS}/outputs", rules.write_outputs, "LogOutputs"),
    AllowedCall("GET", f"{_RUNS}/get", rules.read_run, "GetRun"),
    AllowedCall("POST", f"{_RUNS}/search", rules.search, "SearchRuns"),
    AllowedCall("GET", "/api/2.0/mlflow/metrics/get-history", rules.read_run, "GetMetricHistory"),
    AllowedCall("GET", "/api/2.0/mlflow/artifacts/list", rules.read_run, "ListArtifacts"),
    AllowedCall("GET", "/api/2.0/mlflow/experiments/get", rules.read_experiment, "GetExperiment"),
    AllowedCall(
        "GET",
        "/api/2.0/mlflow/experiments/get-by-name",
        rules.read_experiment_by_name,
        "GetExperimentByName",
    ),
    AllowedCall("POST", _MODELS, rules.create_model, "CreateLoggedModel"),
    AllowedCall("POST", f"{_MODELS}/search", rules.search, "SearchLoggedModels"),
    AllowedCall("GET", f"{_MODELS}/{{model_id}}", rules.read_model),
    AllowedCall("PATCH", f"{_MODELS}/{{model_id}}", rules.write_model, "FinalizeLoggedModel"),
    AllowedCall("PATCH", f"{_MODELS}/{{model_id}}/tags", rules.write_model, "SetLoggedModelTags"),
    AllowedCall(
        "POST", f"{_MODELS}/{{model_id}}/params", rules.write_model, "LogLoggedModelParamsRequest"
    ),
    AllowedCall("GET", _ARTIFACTS, rules.read_artifacts, "artifacts.ListArtifacts"),
    AllowedCall("PUT", f"{_ARTIFACTS}/{{path:path}}", rules.write_artifact, streams=True),
    AllowedCall("GET", f"{_ARTIFACTS}/{{path:path}}", rules.read_artifacts),
    AllowedCall("GET", "/api/3.0/mlflow/server-info", rules.ask_server),
    AllowedCall("GET", "/version", rules.ask_server),
    AllowedCall("GET", "/health", rules.ask_server),
)


def find_call(method: str, path: str) -> tuple[AllowedCall, Fields]:
    """Return the call that a request makes, and the names in its path.

    Args:
        method: Of the request.
        path: Its path, decoded once, after the server's prefix.

    Raises:
        CallRefused: The table does not name it.
    """
    for call in CALLS:
        named = call.match(method, path)
        if named is not None:
            return call, named
    raise CallRefused(
        f"A trial's token does not allow {method} {shown(path)}: it writes to the trial's own run "
        "and nowhere else. What concerns other runs, experiments and registered models is for "
        "people and runners."
    )

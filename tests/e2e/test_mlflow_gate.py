"""What a trial can do to another one's results, tried from inside its pod."""

from __future__ import annotations

import pytest
from tests.e2e.images import image
from tests.e2e.stack import Stack, study

pytestmark = pytest.mark.fault("F85")

SCRIPT = """
import json, os, time, urllib.error, urllib.request
from studyflow import sdk

trial = sdk.current_trial()
uri, own = os.environ["MLFLOW_TRACKING_URI"], os.environ["MLFLOW_RUN_ID"]
token = {"Authorization": "Bearer " + os.environ["MLFLOW_TRACKING_TOKEN"]}

def ask(method, path, body=None, headers=token):
    content = None if body is None else json.dumps(body).encode()
    sent = {**headers, "Content-Type": "application/json"}
    request = urllib.request.Request(f"{uri}/api/2.0/{path}", content, sent, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()

def run(run_id):
    return json.loads(ask("GET", f"mlflow/runs/get?run_id={run_id}")[1])["run"]

tags = {tag["key"]: tag["value"] for tag in run(own)["data"]["tags"]}
experiment = run(own)["info"]["experiment_id"]
found = json.loads(ask("POST", "mlflow/runs/search", {"experiment_ids": [experiment]})[1])["runs"]
others = [one["info"]["run_id"] for one in found if one["info"]["run_id"] != own]
metric = {"key": "stolen", "value": 1.0, "timestamp": int(time.time() * 1000), "step": 0}

def harm(run_id, headers=token):
    file = f"mlflow-artifacts/artifacts/{experiment}/{run_id}/artifacts/log.txt"
    return [
        ask("POST", "mlflow/runs/log-batch", {"run_id": run_id, "metrics": [metric]}, headers),
        ask("POST", "mlflow/runs/set-tag", {"run_id": run_id, "key": "a", "value": "b"}, headers),
        ask("POST", "mlflow/runs/delete", {"run_id": run_id}, headers),
        ask("PUT", file, "x", headers),
    ]

harmed = [status for run_id in others for status, _ in harm(run_id) if status < 400]
harmed += [status for status, _ in harm(own, {}) if status < 400]
version = {"name": "m", "alias": "champion", "version": "1"}
registry = [
    ask("POST", "mlflow/registered-models/create", {"name": "mine"}),
    ask("POST", "mlflow/registered-models/alias", version),
]
harmed += [status for status, _ in registry if status < 400]
mine = {"run_id": own, "metrics": [{**metric, "key": "mine"}]}
allowed, _ = ask("POST", "mlflow/runs/log-batch", mine)
sdk.report(0, value=0.5)
with open("/tmp/note.txt", "w") as file:
    file.write("text")
sdk.artifact("/tmp/note.txt")
sdk.finish(value=0.0, others=float(len(others)), harmed=float(len(harmed)), allowed=float(allowed))
"""


def test_a_trial_writes_to_its_own_run_and_to_no_other(stack: Stack) -> None:
    document = study(
        "fenced",
        n_trials=2,
        parallel=1,
        command=["python", "-c", SCRIPT],
        image=image("trial-base"),
    )
    assert stack.until_ended(stack.start(document)) == "COMPLETED"

    runs = stack.runs(document["name"])
    assert runs.keys() == {0, 1}
    assert [runs[number].data.metrics["others"] for number in (0, 1)] == [1.0, 2.0]
    for run in runs.values():
        assert (run.data.metrics["harmed"], run.data.metrics["allowed"]) == (0.0, 200.0)
        assert "stolen" not in run.data.metrics
        assert run.data.metrics["mine"] == 1.0
        files = {file.path for file in stack.mlflow.list_artifacts(run.info.run_id)}
        assert "note.txt" in files

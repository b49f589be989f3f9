"""What a trial's token may do at a real MLflow server with the gate, and all that it may not.

One server serves the module. Each way in which a trial could hurt another is tried with a token
that is good for a run of its own.
"""

from __future__ import annotations

import base64
import http.client
import importlib
import itertools
import json
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput
from tests.docs.test_mlflow_scripts import IDIOMS, Scripts
from tests.mlflow_server import GatedServer
from tests.prepared import put_mlflow_database

from studyflow.executors.run_tokens import RunTokens
from studyflow.tracking import MLflowTracker
from studyflow.tracking.mlflow.gate.calls import CALLS
from studyflow.trial.record import TrialRecord, TrialState
from studyflow.trial.run_token import RunToken

pytestmark = pytest.mark.slow

STUDY: Final = "the study"
API: Final = "/api/2.0/mlflow"
FILES: Final = "/api/2.0/mlflow-artifacts/artifacts"


@dataclass
class Answer:
    """What the server said."""

    status: int
    text: str

    @property
    def document(self) -> Any:
        return json.loads(self.text)


@dataclass
class Place:
    """A server, a study with trials, and a registered model that somebody loads."""

    server: GatedServer
    tracker: MLflowTracker
    client: MlflowClient
    records: dict[str, TrialRecord] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    """What paths and bodies of requests may name."""

    def ask(
        self, method: str, path: str, body: Any = None, *, by: str = "", headers: Any = ()
    ) -> Answer:
        """Return what the server answers; `by` is an `Authorization`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=20)
        content = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
        sent = {"Authorization": by} if by else {}
        if method != "GET":
            sent["Content-Type"] = "application/json"
        connection.request(
            method, path, None if method == "GET" else content, {**sent, **dict(headers)}
        )
        answer = connection.getresponse()
        try:
            return Answer(answer.status, answer.read().decode(errors="replace"))
        finally:
            connection.close()

    def token(self, trial: str = "own", **changes: Any) -> str:
        """Return the `Authorization` of a trial's attempt."""
        record = self.records[trial]
        key = changes.pop("key", self.server.key)
        issued = RunToken.issued(
            study=STUDY,
            run_id=record.run_id or "",
            number=record.number,
            attempt=record.attempt,
            now=time.time(),
            timeout_seconds=60.0,
        )
        return f"Bearer {replace(issued, **changes).signed(key)}"

    def open(self, trial: str, number: int, attempt: int = 1) -> None:
        """Begin an attempt of a trial, as a runner does."""
        record = TrialRecord(
            number=number,
            state=TrialState.RUNNING,
            params={"lr": 0.5},
            attempt=attempt,
            started_at=time.time(),
            run_id=self.names.get(trial),
        )
        run_id = self.tracker.open_trial(record).run_id
        self.records[trial] = replace(record, run_id=run_id)
        self.names[trial] = run_id

    def fill(self, template: Any) -> Any:
        """Return a request with the names of this place in it."""
        text = template if isinstance(template, str) else json.dumps(template)
        for name, value in self.names.items():
            text = text.replace(f"<{name}>", value)
        return text if isinstance(template, str) else json.loads(text)

    def state(self) -> dict[str, Any]:
        """Return all that a trial could hurt: everything but its own run."""
        runs = [
            self.client.get_run(self.names[name]).to_dictionary() for name in ("other", "study")
        ]
        models = [dict(m) for m in self.client.search_registered_models()]
        files = [
            (entry.path, entry.file_size)
            for name in ("other", "study")
            for entry in self.client.list_artifacts(self.names[name])
        ]
        model = self.client.get_logged_model(self.names["other_model"]).to_dictionary()
        experiments = [dict(e) for e in self.client.search_experiments()]
        return {
            "runs": runs,
            "models": str(models),
            "files": files,
            "model": str(model),
            "experiments": str(experiments),
            "saved": Path(self.names["saved"]).read_bytes(),
        }


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("gate")
    server = GatedServer(folder)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_USERNAME", server.runner[0])
        patch.setenv("MLFLOW_TRACKING_PASSWORD", server.runner[1])
        made = Place(server, MLflowTracker(server.uri, STUDY), MlflowClient(server.uri))
        _furnish(made, folder)
        yield made
    server.kill()


def _furnish(place: Place, folder: Path) -> None:
    client, names = place.client, place.names
    for number, trial in enumerate(("own", "other", "finished", "outdated", "lost")):
        place.open(trial, number)
    names["experiment"] = client.get_run(names["own"]).info.experiment_id
    names["study"] = client.get_run(names["own"]).data.tags["mlflow.parentRunId"]
    names["elsewhere"] = client.create_experiment("elsewhere")
    names["stranger"] = client.create_run(names["elsewhere"]).info.run_id
    path = folder / "model.txt"
    path.write_text("weights")
    client.log_artifact(names["other"], str(path))
    names["saved"] = str(
        folder / "served" / names["experiment"] / names["other"] / "artifacts" / "model.txt"
    )
    names["other_model"] = client.create_logged_model(
        names["experiment"], source_run_id=names["other"]
    ).model_id
    client.create_registered_model("best")
    source = client.get_run(names["other"]).info.artifact_uri
    client.create_model_version("best", source, run_id=names["other"], await_creation_for=0)
    client.set_registered_model_alias("best", "champion", "1")
    finished = place.records["finished"]
    place.tracker.close_trial(
        replace(finished, state=TrialState.COMPLETE, values=(0.5,), finished_at=time.time())
    )
    place.tracker.lose_attempt(place.records["lost"])
    outdated = place.records["outdated"]
    place.open("outdated", outdated.number, attempt=2)
    place.records["outdated"] = replace(place.records["outdated"], attempt=1)


# What a token is for

MODEL: Final = {
    "run_id": "x",
    "artifact_path": "m",
    "utc_time_created": "2026-01-01",
    "flavors": {},
}
METRIC: Final = {"key": "loss", "value": 0.25, "timestamp": 1, "step": 0}


@dataclass(frozen=True)
class Call:
    """A request, with names of the place in angle brackets."""

    name: str
    method: str
    path: str
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def make(self, place: Place, by: str) -> Answer:
        body = self.body if isinstance(self.body, bytes) else place.fill(self.body or {})
        return place.ask(self.method, place.fill(self.path), body, by=by, headers=self.headers)


def writes(run: str) -> tuple[Call, ...]:
    """Return the calls by which a script writes to a run and its artifacts."""
    me = {"run_id": run}
    post = "POST"
    return (
        Call("metric", post, f"{API}/runs/log-metric", {**me, **METRIC}),
        Call("batch", post, f"{API}/runs/log-batch", {**me, "metrics": [METRIC]}),
        Call(
            "params", post, f"{API}/runs/log-batch", {**me, "params": [{"key": "a", "value": "1"}]}
        ),
        Call("param", post, f"{API}/runs/log-parameter", {**me, "key": "batch", "value": "3"}),
        Call("tag", post, f"{API}/runs/set-tag", {**me, "key": "a", "value": "b"}),
        Call("end", post, f"{API}/runs/update", {**me, "status": "FINISHED", "end_time": 5}),
        Call("name", post, f"{API}/runs/update", {**me, "run_name": "mine"}),
        Call("inputs", post, f"{API}/runs/log-inputs", {**me, "datasets": []}),
        Call(
            "history",
            post,
            f"{API}/runs/log-model",
            {
                **me,
                "model_json": json.dumps(MODEL),
            },
        ),
        Call("artifact", "PUT", f"{FILES}/<experiment>/{run}/artifacts/deep/a%20b.txt", b"text"),
    )


@pytest.mark.parametrize("call", writes("<own>"), ids=lambda call: call.name)
def test_a_token_writes_to_its_own_run(place: Place, call: Call) -> None:
    answer = call.make(place, place.token())
    assert answer.status == 200, answer.text


DEAD: Final = (
    "finished",
    "outdated",
    "lost",
    "expired",
    "forged",
    "garbage",
    "none",
    "another-key",
)


def dead_token(place: Place, kind: str) -> str:
    match kind:
        case "finished" | "outdated" | "lost":
            return place.token(kind)
        case "expired":
            return place.token(expires_at=int(time.time()) - 1)
        case "forged":
            return f"{place.token()[:-6]}AAAAAA"
        case "another-key":
            return place.token(key="another-key-that-is-long-enough-as-well")
    return "" if kind == "none" else "Bearer " + "A" * 60


@pytest.mark.fault("F85")
@pytest.mark.parametrize("kind", DEAD)
def test_a_token_that_is_not_a_living_attempts_writes_nowhere(place: Place, kind: str) -> None:
    run = kind if kind in place.names else "own"
    before = place.client.get_run(place.names[run]).to_dictionary()
    for call in (*writes(f"<{run}>"), *HURTS):
        answer = call.make(place, dead_token(place, kind))
        assert answer.status in (401, 403), (call.name, answer.status, answer.text)
    assert place.client.get_run(place.names[run]).to_dictionary() == before


@pytest.mark.fault("F85")
def test_a_lost_attempt_writes_nothing_although_no_other_was_launched_yet(place: Place) -> None:
    place.open("twice", 90)
    first, metric = place.token("twice"), writes("<twice>")[0]
    assert metric.make(place, first).status == 200

    place.tracker.lose_attempt(place.records["twice"])
    refused = metric.make(place, first)
    assert (refused.status, refused.document["error_code"]) == (403, "PERMISSION_DENIED")
    assert "Attempt 1 of trial 90 was given up as lost" in refused.text

    lost = place.records["twice"]
    place.open("twice", 90, attempt=2)
    place.tracker.lose_attempt(lost)  # a runner that was slow to say so
    assert metric.make(place, place.token("twice")).status == 200
    assert metric.make(place, first).status == 403


@pytest.mark.parametrize(
    "scheme", ["Bearer\t{}", "StudyflowGate {}", "Digest {}", "Negotiate {}", "{}"]
)
def test_a_login_of_another_kind_is_asked_for_a_right_one(place: Place, scheme: str) -> None:
    by = scheme.format(place.token().removeprefix("Bearer "))
    answer = writes("<own>")[0].make(place, by)
    assert answer.status == 401, answer.text


# What it is not for

_OTHERS: Final = tuple(
    replace(call, name=f"{call.name} of {whose}")
    for whose in ("other", "study", "finished", "stranger")
    for call in writes(f"<{whose}>")
)

_MINE: Final = {"run_id": "<own>"}


def _put(name: str, path: str) -> Call:
    return Call(name, "PUT", f"{FILES}/{path}", b"changed")


def _post(name: str, path: str, body: Any, prefix: str = API) -> Call:
    return Call(name, "POST", f"{prefix}/{path}", body)


_OTHERS_FOLDER: Final = "<experiment>/<other>/artifacts"

_FILES: Final = (
    _put(
        "another's file by dots", "<experiment>/<own>/artifacts/../../<other>/artifacts/model.txt"
    ),
    _put(
        "by encoded dots", "<experiment>/<own>/artifacts/%2e%2e/%2e%2e/<other>/artifacts/model.txt"
    ),
    _put(
        "by encoded slashes",
        "<experiment>/<own>/artifacts/..%2F..%2F<other>%2Fartifacts%2Fmodel.txt",
    ),
    _put(
        "by twice encoded dots",
        "<experiment>/<own>/artifacts/%252e%252e/%252e%252e/<other>/artifacts/model.txt",
    ),
    _put(
        "by backslashes", "<experiment>/<own>/artifacts/..%5C..%5C<other>%5Cartifacts%5Cmodel.txt"
    ),
    _put("by an empty name", "<experiment>/<own>/artifacts//../../<other>/artifacts/model.txt"),
    _put("beside a name that begins alike", "<experiment>/<own>x/artifacts/model.txt"),
    _put("in the experiment's folder", "<experiment>/model.txt"),
    _put("at the top", "model.txt"),
    _put("with a NUL", f"{_OTHERS_FOLDER}/model.txt%00"),
    _put("in another's model", "<experiment>/models/<other_model>/artifacts/MLmodel"),
    Call("deleted", "DELETE", f"{FILES}/{_OTHERS_FOLDER}/model.txt"),
    Call("own deleted", "DELETE", f"{FILES}/<experiment>/<own>/artifacts/deep"),
    Call(
        "AJAX prefix",
        "PUT",
        f"/ajax-api/2.0/mlflow-artifacts/artifacts/{_OTHERS_FOLDER}/model.txt",
        b"x",
    ),
    Call(
        "AJAX upload",
        "POST",
        "/ajax-api/2.0/mlflow/upload-artifact?run_uuid=<other>&path=model.txt",
        b"x",
    ),
    Call(
        "multipart begun",
        "POST",
        f"/api/2.0/mlflow-artifacts/mpu/create/{_OTHERS_FOLDER}",
        {"path": "model.txt", "num_parts": 1},
    ),
    Call(
        "multipart ended",
        "POST",
        f"/api/2.0/mlflow-artifacts/mpu/complete/{_OTHERS_FOLDER}",
        {"path": "model.txt", "upload_id": "1", "parts": []},
    ),
    Call(
        "multipart aborted",
        "POST",
        f"/api/2.0/mlflow-artifacts/mpu/abort/{_OTHERS_FOLDER}",
        {"path": "model.txt", "upload_id": "1"},
    ),
    Call("read of a stranger's", "GET", f"{FILES}/<elsewhere>/<stranger>/artifacts/model.txt"),
    Call("list of all", "GET", FILES),
    Call("list by dots", "GET", f"{FILES}?path=<experiment>/<own>/artifacts/../.."),
)

_TAGS: Final = tuple(
    call
    for key in (
        "studyflow.attempt",
        "studyflow.trial_run",
        "studyflow.synced",
        "studyflow.state",
        " studyflow.attempt",
        "Studyflow.Attempt",
        "mlflow.parentRunId",
        "mlflow.user",
        "mlflow.source.name",
    )
    for call in (
        _post(f"tag {key!r}", "runs/set-tag", {**_MINE, "key": key, "value": "<other>"}),
        _post(
            f"tag {key!r} in a batch",
            "runs/log-batch",
            {**_MINE, "tags": [{"key": key, "value": "<other>"}]},
        ),
    )
)

_TWO_NAMES: Final = (
    _post("two runs", "runs/log-metric", {**_MINE, "run_uuid": "<other>", **METRIC}),
    _post("by the former name", "runs/log-metric", {"run_uuid": "<other>", **METRIC}),
    _post("by JSON's other name", "runs/log-batch", {"runId": "<other>", "metrics": [METRIC]}),
    _post("by both names", "runs/log-batch", {**_MINE, "runId": "<other>", "metrics": [METRIC]}),
    _post(
        "a metric of another's model",
        "runs/log-metric",
        {**_MINE, **METRIC, "model_id": "<other_model>"},
    ),
    _post(
        "the same in a batch",
        "runs/log-batch",
        {**_MINE, "metrics": [{**METRIC, "model_id": "<other_model>"}]},
    ),
    _post(
        "the same by JSON's other name",
        "runs/log-batch",
        {**_MINE, "metrics": [{**METRIC, "modelId": "<other_model>"}]},
    ),
    _post(
        "another's model as output",
        "runs/outputs",
        {**_MINE, "models": [{"model_id": "<other_model>", "step": 0}]},
    ),
    _post("no run", "runs/log-batch", {"metrics": [METRIC]}),
    _post("not JSON's object", "runs/log-batch", ["<other>"]),
)

_RUNS: Final = (
    _post("a run elsewhere", "runs/create", {"experiment_id": "<elsewhere>", "start_time": 1}),
    _post(
        "a run below another's",
        "runs/create",
        {
            "experiment_id": "<experiment>",
            "tags": [{"key": "mlflow.parentRunId", "value": "<other>"}],
        },
    ),
    _post(
        "a run that looks like a trial's",
        "runs/create",
        {"experiment_id": "<experiment>", "tags": [{"key": "studyflow.role", "value": "trial"}]},
    ),
    _post("a run deleted", "runs/delete", {"run_id": "<other>"}),
    _post("its own run deleted", "runs/delete", _MINE),
    _post("a run restored", "runs/restore", {"run_id": "<other>"}),
    _post("a tag deleted", "runs/delete-tag", {"run_id": "<other>", "key": "studyflow.attempt"}),
    _post("its own tag deleted", "runs/delete-tag", {**_MINE, "key": "studyflow.attempt"}),
    _post("elsewhere searched", "runs/search", {"experiment_ids": ["<experiment>", "<elsewhere>"]}),
    Call("a stranger's run", "GET", f"{API}/runs/get?run_id=<stranger>"),
    Call("two runs read", "GET", f"{API}/runs/get?run_id=<own>&run_id=<stranger>"),
)

_MODELS: Final = (
    _post("another's model ended", "logged-models/<other_model>", {}, API),
    Call(
        "another's model finalized",
        "PATCH",
        f"{API}/logged-models/<other_model>",
        {"model_id": "<other_model>", "status": "LOGGED_MODEL_UPLOAD_FAILED"},
    ),
    Call(
        "another's model tagged",
        "PATCH",
        f"{API}/logged-models/<other_model>/tags",
        {"tags": [{"key": "a", "value": "b"}]},
    ),
    Call("another's model deleted", "DELETE", f"{API}/logged-models/<other_model>"),
    _post(
        "params of another's model",
        "logged-models/<other_model>/params",
        {"params": [{"key": "a", "value": "b"}]},
    ),
    _post(
        "a model of another's run",
        "logged-models",
        {"experiment_id": "<experiment>", "source_run_id": "<other>"},
    ),
    _post("a model elsewhere", "logged-models", {"experiment_id": "<elsewhere>"}),
    _post("registered model", "registered-models/create", {"name": "mine"}),
    _post(
        "registered model renamed", "registered-models/rename", {"name": "best", "new_name": "gone"}
    ),
    Call("registered model deleted", "DELETE", f"{API}/registered-models/delete", {"name": "best"}),
    _post(
        "version",
        "model-versions/create",
        {
            "name": "best",
            "source": "mlflow-artifacts:/<experiment>/<own>/artifacts",
            "run_id": "<own>",
        },
    ),
    Call(
        "version changed",
        "PATCH",
        f"{API}/model-versions/update",
        {"name": "best", "version": "1", "description": "x"},
    ),
    Call(
        "version deleted",
        "DELETE",
        f"{API}/model-versions/delete",
        {"name": "best", "version": "1"},
    ),
    _post(
        "version tagged",
        "model-versions/set-tag",
        {"name": "best", "version": "1", "key": "studyflow.digest", "value": "x"},
    ),
    _post(
        "alias moved",
        "registered-models/alias",
        {"name": "best", "alias": "champion", "version": "1"},
    ),
    Call(
        "alias deleted",
        "DELETE",
        f"{API}/registered-models/alias",
        {"name": "best", "alias": "champion"},
    ),
    _post(
        "stage",
        "model-versions/transition-stage",
        {"name": "best", "version": "1", "stage": "Archived", "archive_existing_versions": True},
    ),
)

_ELSE: Final = (
    _post("experiment", "experiments/create", {"name": "mine"}),
    _post("experiment deleted", "experiments/delete", {"experiment_id": "<experiment>"}),
    _post(
        "experiment renamed",
        "experiments/update",
        {"experiment_id": "<experiment>", "new_name": "x"},
    ),
    _post(
        "experiment tagged",
        "experiments/set-experiment-tag",
        {"experiment_id": "<experiment>", "key": "a", "value": "b"},
    ),
    Call("another experiment", "GET", f"{API}/experiments/get?experiment_id=<elsewhere>"),
    Call("GraphQL", "POST", "/graphql", {"operationName": "x", "query": "mutation { a }"}),
    Call(
        "webhook", "POST", f"{API}/webhooks", {"name": "w", "url": "http://x.example", "events": []}
    ),
    Call("user", "POST", f"{API}/users/create", {"username": "me", "password": "a-long-password"}),
    Call(
        "admin", "PATCH", f"{API}/users/update-admin", {"username": "studyflow", "is_admin": True}
    ),
    Call(
        "password",
        "PATCH",
        f"{API}/users/update-password",
        {"username": "admin", "password": "a-long-password"},
    ),
    Call(
        "own password",
        "PATCH",
        f"{API}/users/update-password",
        {"username": "studyflow", "password": "a-long-password"},
    ),
    Call("trace", "POST", "/api/3.0/mlflow/traces", {}),
    Call("spans", "POST", "/v1/traces", b"", {"x-mlflow-experiment-id": "1"}),
    Call("job", "POST", "/ajax-api/3.0/jobs", {}),
    Call("gateway", "POST", "/gateway/x/mlflow/invocations", {}),
    Call(
        "AJAX metric of its own",
        "POST",
        "/ajax-api/2.0/mlflow/runs/log-metric",
        {**_MINE, **METRIC},
    ),
    Call("a slash too many", "POST", "//api/2.0/mlflow/runs/delete", {"run_id": "<other>"}),
    Call("a slash at the end", "POST", f"{API}/runs/delete/", {"run_id": "<other>"}),
    Call("another method", "GET", f"{API}/runs/delete?run_id=<other>"),
    Call("options", "OPTIONS", f"{API}/runs/delete"),
    Call("the page", "GET", "/"),
)

HURTS: Final = (*_OTHERS, *_FILES, *_TAGS, *_TWO_NAMES, *_RUNS, *_MODELS, *_ELSE)


@pytest.fixture(scope="module")
def unhurt(place: Place) -> Iterator[None]:
    """See to it that nothing has changed when all calls were tried."""
    before = place.state()
    yield
    assert place.state() == before


@pytest.mark.fault("F85")
@pytest.mark.usefixtures("unhurt")
@pytest.mark.parametrize("call", HURTS, ids=lambda call: call.name)
def test_a_call_that_could_hurt_another_is_refused(place: Place, call: Call) -> None:
    answer = call.make(place, place.token())
    assert answer.status in (400, 403), (answer.status, answer.text)
    assert answer.document["error_code"] in ("PERMISSION_DENIED", "INVALID_PARAMETER_VALUE")
    assert answer.document["message"]


def test_a_key_that_stands_twice_is_read_once(place: Place) -> None:
    text = place.fill('{"run_id": "<own>", "run_id": "<other>", "metrics": []}')
    answer = place.ask("POST", f"{API}/runs/log-batch", text.encode(), by=place.token())
    assert answer.status == 403


@pytest.fixture(scope="module")
def routes() -> list[tuple[str, str]]:
    """Path and method of each route that the installed MLflow has."""
    handlers: Any = importlib.import_module("mlflow.server.handlers")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Starlette, about what MLflow imports
        app = importlib.import_module("mlflow.server.fastapi_app").app
    found = {(path, method) for path, _, methods in handlers.get_endpoints() for method in methods}
    for route in app.routes:
        found |= {(route.path, method) for method in getattr(route, "methods", None) or ()}
    return sorted((path.replace("{", "<").replace("}", ">"), method) for path, method in found)


def test_every_route_that_the_table_does_not_name_is_refused(
    place: Place, routes: list[tuple[str, str]]
) -> None:
    named = {_generic(call.path.replace("{", "<"), call.method) for call in CALLS}
    tried = 0
    for path, method in routes:
        if _generic(path, method) in named:
            continue
        answer = place.ask(method, _filled(path), {}, by=place.token())
        assert answer.status == 403, (method, path, answer.status)
        tried += 1
    assert tried > 250


def test_every_route_asks_for_a_login_but_what_says_how_the_server_is_set_up(
    place: Place, routes: list[tuple[str, str]]
) -> None:
    for path, method in routes:
        answer = place.ask(method, _filled(path), {})
        is_public = path.endswith("/mlflow/server-info")
        assert answer.status in ((200,) if is_public else (401, 403)), (method, path, answer.status)


def _filled(path: str) -> str:
    return "/".join("x" if "<" in part else part for part in path.split("/"))


def _generic(path: str, method: str) -> tuple[str, str]:
    return "/".join("<>" if "<" in part else part for part in path.split("/")), method


def test_two_authorizations_are_none(place: Place) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", place.server.port, timeout=20)
    connection.putrequest("POST", f"{API}/runs/delete")
    connection.putheader("Authorization", _basic(*place.server.runner))
    connection.putheader("Authorization", place.token())
    connection.putheader("Content-Length", "2")
    connection.endheaders(b"{}")
    assert connection.getresponse().status == 401
    connection.close()


# Runs that a trial makes


def _made(place: Place, **tags: str) -> str:
    answer = place.ask(
        "POST",
        f"{API}/runs/create",
        {
            "experiment_id": place.names["experiment"],
            "start_time": 1,
            "tags": [{"key": key, "value": value} for key, value in tags.items()],
        },
        by=place.token(),
    )
    assert answer.status == 200, answer.text
    return str(answer.document["run"]["info"]["run_id"])


def test_a_run_that_a_trial_makes_is_stamped_whatever_it_says(place: Place) -> None:
    claimed = {"studyflow.trial_run": place.names["other"], "studyflow.attempt": "7"}
    run = place.client.get_run(_made(place, **claimed))
    assert run.data.tags["studyflow.trial_run"] == place.names["own"]
    assert run.data.tags["studyflow.attempt"] == "1"


def test_a_run_that_a_trial_makes_is_that_trials_alone(place: Place) -> None:
    run_id = _made(place)
    for call in writes(run_id):
        assert call.make(place, place.token()).status == 200, call.name
        refused = call.make(place, place.token("other"))
        assert refused.status == 403, (call.name, refused.text)
    assert place.client.get_run(run_id).info.status == "FINISHED"


def test_a_script_does_not_end_the_trials_run(place: Place) -> None:
    ended = {"run_id": place.names["own"], "status": "FAILED", "end_time": 5}
    answer = place.ask("POST", f"{API}/runs/update", ended, by=place.token())
    assert answer.status == 200
    assert answer.document["run_info"]["status"] == "RUNNING"
    assert place.client.get_run(place.names["own"]).info.end_time in (None, 0)


def test_what_is_logged_arrives_as_it_was_sent(place: Place) -> None:
    place.open("odd", 9)
    metrics = [
        {"key": "loss/ä", "value": value, "timestamp": 1700000000123, "step": step}
        for step, value in enumerate([1.5, "NaN", "Infinity", 1e-300, -3])
    ]
    run_id = place.names["odd"]
    params = [{"key": "empty", "value": ""}, {"key": "text", "value": 'a\n"b" ü'}]
    body = {"run_id": run_id, "metrics": metrics, "params": params}
    answer = place.ask("POST", f"{API}/runs/log-batch", body, by=place.token("odd"))
    assert answer.status == 200, answer.text
    history = place.client.get_metric_history(run_id, "loss/ä")
    assert [point.step for point in history] == [0, 1, 2, 3, 4]
    assert history[0].timestamp == 1700000000123
    assert [history[0].value, history[3].value, history[4].value] == [1.5, 1e-300, -3.0]
    assert place.client.get_run(run_id).data.params["text"] == 'a\n"b" ü'


@pytest.mark.parametrize("name", ["a b.txt", "100%.txt", "ä/ö.bin", "c+d&e=f.txt", "deep/er/file"])
def test_artifacts_keep_their_names(place: Place, name: str) -> None:
    path = f"{FILES}/{place.names['experiment']}/{place.names['own']}/artifacts/{quote(name)}"
    assert place.ask("PUT", path, b"content", by=place.token()).status == 200
    assert place.ask("GET", path, by=place.token()).text == "content"


@pytest.mark.parametrize("chosen", [None, "0"])
def test_who_chooses_no_experiment_gets_the_studys(place: Place, chosen: str | None) -> None:
    body = {"start_time": 1, **({} if chosen is None else {"experiment_id": chosen})}
    made = place.ask("POST", f"{API}/runs/create", body, by=place.token()).document["run"]
    assert made["info"]["experiment_id"] == place.names["experiment"]
    model = place.ask("POST", f"{API}/logged-models", body, by=place.token()).document["model"]
    assert model["info"]["experiment_id"] == place.names["experiment"]
    assert model["info"]["source_run_id"] == place.names["own"]
    found = place.ask("POST", f"{API}/runs/search", {}, by=place.token()).document["runs"]
    assert {run["info"]["experiment_id"] for run in found} == {place.names["experiment"]}


def test_whichever_experiment_a_script_sets_is_the_studys(place: Place) -> None:
    for name in ("elsewhere", "new%20one"):
        path = f"{API}/experiments/get-by-name?experiment_name={name}"
        answer = place.ask("GET", path, by=place.token())
        assert answer.document["experiment"]["name"] == STUDY


def test_a_script_logs_a_model_as_mlflow_does(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", place.token().removeprefix("Bearer "))
    (tmp_path / "MLmodel").write_text("flavors: {}")
    client = MlflowClient(place.server.uri)
    model = client.create_logged_model("0", name="net", params={"depth": "3"})
    client.log_model_artifacts(model.model_id, str(tmp_path))
    client.set_logged_model_tags(model.model_id, {"stage": "draft"})
    ready = client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(place.names["own"], [LoggedModelOutput(model.model_id, 0)])
    client.log_metric(place.names["own"], "loss", 0.5, model_id=model.model_id)
    assert str(ready.status) == "READY"
    files = client.list_logged_model_artifacts(model.model_id)
    assert [file.path for file in files] == ["MLmodel"]


# People


def test_who_has_no_token_has_to_log_in(place: Place) -> None:
    for path in (
        "/",
        f"{API}/experiments/search?max_results=1",
        "/ajax-api/2.0/mlflow/runs/search",
    ):
        assert place.ask("GET", path).status == 401, path
    assert place.ask("POST", f"{API}/runs/log-metric", {}).status == 401
    assert place.ask("GET", "/health").text == "OK"


def test_the_admin_logs_in_with_the_password_that_was_set_and_no_other(place: Place) -> None:
    assert place.ask("GET", "/", by=_basic(*place.server.admin)).status == 200
    assert place.ask("GET", "/", by=_basic("admin", "password1234")).status == 401


# Scripts that log by plain MLflow


@pytest.fixture
def scripts(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: Iterator[int]
) -> Scripts:
    monkeypatch.chdir(tmp_path)
    put_mlflow_database(tmp_path)
    (tmp_path / "mlflow.db").rename(tmp_path / "own.db")
    tokens = RunTokens(place.server.key, 60.0)
    tracker = MLflowTracker(place.server.uri, STUDY, is_gated=True)
    return Scripts(place.server.uri, monkeypatch, tracker, next(number), tokens)


@pytest.fixture(scope="module")
def number() -> Iterator[int]:
    return itertools.count(100)


# Those that set another server or load scikit-learn take long, and no other calls.
HABITS: Final = [
    (script, said)
    for script, said in IDIOMS
    if "set_tracking_uri" not in script and "sklearn" not in script
]


@pytest.mark.parametrize(("script", "said"), HABITS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_script_comes_to_the_same_with_a_token_or_to_more(
    scripts: Scripts, script: str, said: str
) -> None:
    ended = scripts.run(script)
    value = "" if ended.value is None else f"loss={ended.value:g}"
    better = 'set_experiment("my-project")' in script or "client.create_run" in script
    assert ("loss=0.25" if better else said.strip()) in f"{value}{ended.message}"


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_people_look_at_everything_and_change_what_they_have_a_right_to(place: Place) -> None:
    admin, person = _basic(*place.server.admin), _basic("ada", "a-password-of-hers")
    made = {"username": "ada", "password": "a-password-of-hers"}
    assert place.ask("POST", f"{API}/users/create", made, by=admin).status == 200
    run = f"{API}/runs/get?run_id={place.names['own']}"
    assert place.ask("GET", run, by=person).status == 200
    for call in writes("<own>"):
        assert call.make(place, person).status == 403, call.name
    more = {**made, "username": "grace"}
    assert place.ask("POST", f"{API}/users/create", more, by=person).status == 403


def test_a_server_that_is_started_again_has_its_accounts_and_the_runners_password(
    place: Place,
) -> None:
    admin, runner = _basic(*place.server.admin), _basic(*place.server.runner)
    run = f"{API}/runs/get?run_id={place.names['own']}"
    changed = {"username": place.server.runner[0], "password": "changed-by-somebody"}
    assert place.ask("PATCH", f"{API}/users/update-password", changed, by=admin).status == 200
    assert place.ask("GET", run, by=runner).status == 401

    place.server.kill()
    place.server.start()

    assert place.ask("GET", run, by=runner).status == 200
    assert place.ask("GET", run, by=_basic("ada", "a-password-of-hers")).status == 200
    for call in writes("<own>"):
        assert call.make(place, place.token()).status == 200, call.name

"""What a trial's token may do, decided without a server."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from studyflow.tracking.mlflow.gate import rules
from studyflow.tracking.mlflow.gate.calls import find_call
from studyflow.tracking.mlflow.gate.facts import ModelFacts, RunFacts
from studyflow.tracking.mlflow.gate.holder import CallRefused, Holder, plain_parts
from studyflow.trial.run_token import RunToken

TOKEN = RunToken("demo", "own", number=3, attempt=2, issued_at=0, expires_at=9)


def run(run_id: str, **tags: str) -> RunFacts:
    named = {key.replace("__", "."): value for key, value in tags.items()}
    return RunFacts(run_id, "7", True, f"7/{run_id}/artifacts", named)


@dataclass
class Known:
    """What a store knows."""

    runs: dict[str, RunFacts] = field(
        default_factory=lambda: {
            "own": run("own", studyflow__attempt="2"),
            "made": run("made", studyflow__trial_run="own"),
            "other": run("other", studyflow__attempt="2"),
            "others": run("others", studyflow__trial_run="other"),
            "far": replace(run("far", studyflow__trial_run="own"), experiment_id="8"),
        }
    )
    models: dict[str, ModelFacts] = field(
        default_factory=lambda: {
            "m-1": ModelFacts("m-1", "7", "made", "7/models/m-1/artifacts"),
            "m-2": ModelFacts("m-2", "7", "other", "7/models/m-2/artifacts"),
        }
    )
    is_experiment_gone: bool = False

    def run(self, run_id: str) -> RunFacts | None:
        return self.runs.get(run_id)

    def model(self, model_id: str) -> ModelFacts | None:
        return self.models.get(model_id)

    def experiment_name(self, experiment_id: str) -> str | None:
        return None if self.is_experiment_gone else f"experiment {experiment_id}"


@pytest.fixture
def holder() -> Holder:
    return Holder(TOKEN, Known())


# Whether the attempt lives


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"is_running": False}, "Attempt 2 of trial 3 has ended"),
        ({"tags": {"studyflow.attempt": "3"}}, "was replaced by attempt 3"),
        ({"tags": {}}, "was replaced"),
    ],
)
def test_a_token_ends_with_its_attempt(changes: dict[str, Any], why: str) -> None:
    known = Known()
    known.runs["own"] = replace(known.runs["own"], **changes)
    with pytest.raises(CallRefused, match=why):
        Holder(TOKEN, known)


@pytest.mark.parametrize("lost", ["2", "3"])
def test_a_token_ends_when_its_attempt_is_given_up_as_lost(lost: str) -> None:
    known = Known()
    tags = {"studyflow.attempt": "2", "studyflow.lost_attempt": lost}
    known.runs["own"] = replace(known.runs["own"], tags=tags)
    with pytest.raises(CallRefused, match="Attempt 2 of trial 3 was given up as lost"):
        Holder(TOKEN, known)


@pytest.mark.parametrize("lost", ["1", "", "no number"])
def test_a_token_outlives_the_attempts_before_its_own(lost: str) -> None:
    known = Known()
    tags = {"studyflow.attempt": "2", "studyflow.lost_attempt": lost}
    known.runs["own"] = replace(known.runs["own"], tags=tags)
    assert Holder(TOKEN, known).own.run_id == "own"


def test_a_token_ends_when_its_run_is_gone() -> None:
    with pytest.raises(CallRefused):
        Holder(TOKEN, Known(runs={}))


# Runs


@pytest.mark.parametrize("run_id", ["own", "made"])
def test_its_own_run_and_those_that_it_made_are_written(holder: Holder, run_id: str) -> None:
    assert holder.written(run_id).run_id == run_id


@pytest.mark.parametrize("run_id", ["other", "others", "far", "none", "", "OWN"])
def test_no_other_run_is_written(holder: Holder, run_id: str) -> None:
    with pytest.raises(CallRefused, match=r"writes to the trial's own run \(own\)"):
        holder.written(run_id)


def test_a_request_names_one_run() -> None:
    assert rules.run_of({"run_id": "a", "run_uuid": "a"}) == "a"
    assert rules.run_of({"run_id": "", "run_uuid": "a"}) == "a"
    for fields in ({}, {"run_id": ""}, {"run_id": "a", "run_uuid": "b"}):
        with pytest.raises(CallRefused, match="one run"):
            rules.run_of(dict(fields))


def test_a_new_run_is_the_trials_whatever_the_script_says(holder: Holder) -> None:
    said = [("studyflow.trial_run", "other"), ("studyflow.attempt", "9"), ("team", "vision")]
    tags = [{"key": key, "value": value} for key, value in said]
    passed = rules.create_run({"experiment_id": "0", "run_name": "a", "tags": tags}, holder)
    assert passed == {
        "experiment_id": "7",
        "run_name": "a",
        "tags": [
            {"key": "team", "value": "vision"},
            {"key": "studyflow.trial_run", "value": "own"},
            {"key": "studyflow.attempt", "value": "2"},
        ],
    }


@pytest.mark.parametrize(
    "tag",
    [
        ("studyflow.role", "trial"),
        ("STUDYFLOW.role", "trial"),
        (" studyflow.role", "trial"),
        ("mlflow.parentRunId", "other"),
        ("mlflow.parentrunid", "other"),
    ],
)
def test_a_new_run_takes_no_place_that_is_not_its_own(holder: Holder, tag: tuple[str, str]) -> None:
    with pytest.raises(CallRefused):
        rules.create_run({"tags": [dict(zip(("key", "value"), tag, strict=True))]}, holder)


def test_a_new_run_may_stand_below_the_trials(holder: Holder) -> None:
    for parent in ("own", "made"):
        tags = [{"key": "mlflow.parentRunId", "value": parent}]
        assert tags[0] in rules.create_run({"tags": tags}, holder)["tags"]


def test_a_script_ends_the_runs_that_it_made_but_not_the_trials(holder: Holder) -> None:
    ended = {"status": "FINISHED", "end_time": 5}
    assert rules.update_run({"run_id": "made", **ended}, holder) == {"run_id": "made", **ended}
    assert rules.update_run({"run_id": "own", **ended}, holder) == {
        "run_id": "own",
        "status": "RUNNING",
    }


@pytest.mark.parametrize(
    "key", ["studyflow.x", "mlflow.user", "mlflow.parentRunId", "mlflow.source.name"]
)
def test_what_the_runner_decides_by_is_no_scripts(holder: Holder, key: str) -> None:
    tag = {"key": key, "value": "own"}
    with pytest.raises(CallRefused, match="the runner's"):
        rules.write_tag({"run_id": "own", **tag}, holder)
    with pytest.raises(CallRefused, match="the runner's"):
        rules.write_batch({"run_id": "own", "tags": [tag]}, holder)


def test_other_tags_are_free(holder: Holder) -> None:
    for key in ("a", "mlflow.note.content", "mlflow.runName", "estimator_name"):
        fields = {"run_id": "own", "key": key, "value": "x"}
        assert rules.write_tag(fields, holder) == fields


def test_a_metric_is_of_no_model_but_its_own(holder: Holder) -> None:
    mine = {"run_id": "own", "key": "loss", "model_id": "m-1"}
    assert rules.write_metric(mine, holder) == mine
    with pytest.raises(CallRefused):
        rules.write_metric({**mine, "model_id": "m-2"}, holder)
    with pytest.raises(CallRefused):
        rules.write_batch({"run_id": "own", "metrics": [{**mine, "run_id": "other"}]}, holder)


def test_an_experiment_that_is_gone_is_answered_as_mlflow_does() -> None:
    with pytest.raises(CallRefused, match="experiment 7 of trial 3 is gone") as refused:
        rules.read_experiment_by_name({}, Holder(TOKEN, Known(is_experiment_gone=True)))

    assert (refused.value.status, refused.value.error_code) == (404, "RESOURCE_DOES_NOT_EXIST")


# Models and artifacts


def test_a_model_is_of_a_run_of_the_trial(holder: Holder) -> None:
    assert rules.create_model({}, holder)["source_run_id"] == "own"
    assert rules.create_model({"source_run_id": "made"}, holder)["experiment_id"] == "7"
    with pytest.raises(CallRefused):
        rules.create_model({"source_run_id": "other"}, holder)


def test_a_model_of_another_trial_may_be_read_and_named_as_input_alone(holder: Holder) -> None:
    models = {"run_id": "own", "models": [{"model_id": "m-2"}]}
    assert rules.read_model({"model_id": "m-2"}, holder)
    assert rules.write_inputs(models, holder) == models
    for rule, fields in ((rules.write_model, {"model_id": "m-2"}), (rules.write_outputs, models)):
        with pytest.raises(CallRefused):
            rule(fields, holder)


@pytest.mark.parametrize(
    "path", ["7/own/artifacts/a", "7/made/artifacts/b/c.txt", "7/models/m-1/artifacts/MLmodel"]
)
def test_its_artifacts_are_written(holder: Holder, path: str) -> None:
    assert rules.write_artifact({"path": path}, holder)


@pytest.mark.parametrize(
    "path",
    [
        "7/other/artifacts/a",
        "7/own/artifactsx/a",
        "7/own/a",
        "7/own",
        "7",
        "",
        "/7/own/artifacts/a",
        "7/own/artifacts/",
        "7/own/artifacts",
        "7/models/m-1/artifacts",
        f"7/own/artifacts/{'a' * 256}",
        f"7/own/artifacts/{'ä' * 128}/a",
        "7/own/artifacts//a",
        "7/own/artifacts/../../other/artifacts/a",
        "7/own/artifacts/./a",
        "7/own/artifacts/%2e%2e/a",
        "7/own/artifacts/a\\b",
        "7/own/artifacts/a\0",
        "7/own/artifacts/a\n",
        "7/own/artifacts/a?b",
        "7/models/m-2/artifacts/a",
        "7/models/m-1/a",
        "8/far/artifacts/a",
        "7/made/../other/artifacts/a",
    ],
)
def test_no_other_path_is_written(holder: Holder, path: str) -> None:
    with pytest.raises(CallRefused):
        rules.write_artifact({"path": path}, holder)


def test_a_path_may_hold_what_names_of_files_do() -> None:
    assert plain_parts("7/own/a b/100%.txt/ä+c=d&e") == ("7", "own", "a b", "100%.txt", "ä+c=d&e")


# The table


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/ajax-api/2.0/mlflow/runs/log-metric"),
        ("POST", "/api/2.0/mlflow/runs/delete"),
        ("GET", "/api/2.0/mlflow/runs/log-metric"),
        ("POST", "/api/2.0/mlflow/runs/log-metric/"),
        ("POST", "/api/2.0/mlflow/runs/log-metricx"),
        ("PATCH", "/api/2.0/mlflow/logged-models/a/b"),
        ("DELETE", "/api/2.0/mlflow-artifacts/artifacts/7/own/artifacts/a"),
        ("HEAD", "/api/2.0/mlflow/runs/get"),
        ("POST", "/graphql"),
    ],
)
def test_what_the_table_does_not_name_is_refused(method: str, path: str) -> None:
    with pytest.raises(CallRefused, match="does not allow"):
        find_call(method, path)

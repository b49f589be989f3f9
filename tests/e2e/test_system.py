"""The whole system in a cluster: `kubectl apply -k k8s/overlays/local`, then what a user does.

Everything runs in the namespaces of the overlay, `studyflow` and `studyflow-trials`, which stay
afterwards.
"""

from __future__ import annotations

import threading
import time
import uuid
from typing import Any

import pytest
import yaml
from optuna.trial import FrozenTrial
from tests.e2e.images import image
from tests.e2e.kubectl import until
from tests.e2e.stack import (
    ROOT,
    RUNNERS,
    TRIALS,
    Stack,
    finishing_after,
    study,
)

from studyflow.trial import Cause


def test_a_study_of_gpu_pods_runs_from_a_deployment(stack: Stack) -> None:
    document = study("twelve", n_trials=12, parallel=4)
    name = document["name"]
    most = 0
    is_over = threading.Event()

    def count_active() -> None:
        nonlocal most
        while not is_over.is_set():
            most = max(most, len(stack.pods(name, "Pending", "Running")))
            time.sleep(0.2)

    counter = threading.Thread(target=count_active)
    counter.start()
    try:
        state = stack.until_ended(stack.start(document))
    finally:
        is_over.set()
        counter.join()
    assert state == "COMPLETED"
    assert 2 <= most <= 4
    trials, runs = stack.trials(name), stack.runs(name)
    assert [t.state.name for t in trials] == ["COMPLETE"] * 12
    assert {n: run.data.metrics["value"] for n, run in runs.items()} == pytest.approx(
        {t.number: t.value for t in trials}
    )
    experiment = stack.mlflow.get_experiment_by_name(name)
    assert experiment is not None
    [parent] = stack.mlflow.search_runs(
        [experiment.experiment_id], "tags.`studyflow.role` = 'study'"
    )
    files = {file.path for file in stack.mlflow.list_artifacts(parent.info.run_id)}
    assert {"best_config.yaml", "report.html"} <= files
    assert parent.data.metrics["best_value"] == max(t.value or -9.0 for t in trials)
    until(lambda: not stack.pods(name), 60, "no pod left")
    jobs = stack.among_trials.items("jobs", "-l", TRIALS)
    assert [job for job in jobs if name in job["metadata"]["name"]] == []


def cnn_lstm(name: str, **changes: Any) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(
        (ROOT / "images/cnn-lstm/study-short.yaml").read_text()
    )
    document["name"] = f"{name}-{uuid.uuid4().hex[:6]}"
    document["search_space"].pop("epochs")
    document |= {"fixed": {"epochs": 150}, "budget": {"n_trials": 1}, **changes}
    document["trial"] |= {
        "image": image("cnn-lstm"),
        "resources": {"cpu": "500m", "memory": "1Gi", "gpu": 1},
        "timeout_seconds": 200,
    }
    return document


@pytest.mark.slow
def test_a_training_shows_its_metrics_while_it_runs_and_keeps_its_model(stack: Stack) -> None:
    document = cnn_lstm("training", pruner={"type": "none"})
    flow_run = stack.start(document)

    def points_while_running() -> int | None:
        run = stack.runs(document["name"]).get(0)
        if run is None or run.info.status != "RUNNING":
            return None
        points = stack.mlflow.get_metric_history(run.info.run_id, "val_loss")
        return len(points) if len(points) > 1 else None

    assert until(points_while_running, 120, "metrics of a running trial") >= 2
    assert stack.until_ended(flow_run) == "COMPLETED"
    run = stack.runs(document["name"])[0]
    points = stack.mlflow.get_metric_history(run.info.run_id, "val_loss")
    assert {point.step for point in points} == set(range(150))
    [trial] = stack.trials(document["name"])
    assert set(trial.intermediate_values) == set(range(150)), "the report's curves need them too"
    assert {"model.pt"} <= {f.path for f in stack.mlflow.list_artifacts(run.info.run_id)}


@pytest.mark.slow
def test_a_hopeless_trial_s_pod_is_stopped(stack: Stack) -> None:
    # No loss is below 0: every trial is given up at its first look.
    document = cnn_lstm("hopeless", pruner={"type": "threshold", "upper": 0.0})
    # A study of pruned trials has no result.
    assert stack.until_ended(stack.start(document)) == "FAILED"
    [trial] = stack.trials(document["name"])
    assert trial.state.name == "PRUNED"
    assert stack.runs(document["name"])[0].data.tags["studyflow.cause"] == "pruned"
    assert max(trial.intermediate_values) < 149, "it was stopped before its last epoch"
    until(lambda: not stack.pods(document["name"]), 60, "no pod left")


@pytest.mark.fault("F21")
@pytest.mark.slow
def test_a_flow_whose_pod_is_killed_is_replaced_and_adopts_its_trials(stack: Stack) -> None:
    document = study(
        "killed", n_trials=6, parallel=2, command=finishing_after(8.0), image=image("trial-base")
    )
    name = document["name"]
    flow_run = stack.start(document)
    until(lambda: len(stack.pods(name, "Running")) == 2, 120, "two running trials")
    for runner in stack.kubectl.items("pods", "-l", RUNNERS):
        if runner["status"].get("phase") == "Running":
            stack.kubectl(
                *("delete", "pod", runner["metadata"]["name"], "--force", "--grace-period=0")
            )
    stack.start(document)

    def counted() -> list[FrozenTrial]:
        # Two flow runs drive the study now: what both asked for at once, one has withdrawn.
        trials = stack.trials(name)
        return [t for t in trials if t.user_attrs.get("cause") != Cause.CANCELLED]

    until(
        lambda: (
            len([t for t in counted() if t.state.is_finished()]) == 6
            and all(t.state.is_finished() for t in stack.trials(name))
        ),
        240,
        "six trials told, and none under way",
    )
    assert [t.state.name for t in counted()] == ["COMPLETE"] * 6
    assert {t.user_attrs["attempt"] for t in counted()} == {1}, "adopted, not repeated"
    until(lambda: not stack.pods(name), 90, "no pod left")
    stack.until_ended(flow_run)


@pytest.mark.fault("F37")
def test_a_cancelled_flow_leaves_no_pod_and_keeps_what_was_finished(stack: Stack) -> None:
    document = study(
        "cancelled",
        n_trials=20,
        parallel=2,
        command=finishing_after(4.0),
        image=image("trial-base"),
    )
    name = document["name"]
    flow_run = stack.start(document)
    until(
        lambda: (
            any(t.state.is_finished() for t in stack.trials(name))
            and len(stack.pods(name, "Running")) == 2
            if stack.runs(name)
            else None
        ),
        150,
        "a finished and two running trials",
    )
    stack.prefect("flow-run", "cancel", flow_run)
    until(lambda: not stack.pods(name), 120, "no pod left")
    assert stack.until_ended(flow_run) == "CANCELLED"
    trials = stack.trials(name)
    assert {t.state.name for t in trials} <= {"COMPLETE", "FAIL"}
    assert {t.user_attrs["cause"] for t in trials if t.state.name == "FAIL"} <= {"cancelled"}
    assert any(t.state.name == "COMPLETE" for t in trials)

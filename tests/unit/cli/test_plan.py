"""What a plan says of time, GPU-hours and resources, for a new study and one that continues."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.test_cli import DOCUMENT, invoke, write_study

from studyflow.cli.plan import make_plan
from studyflow.settings import Settings
from studyflow.spec import StudySpec, largest_gpu_hours
from studyflow.spec.plan import times
from studyflow.trial import Cause
from studyflow.trial.record import TrialRecord, TrialState


def spec_with(**changes: Any) -> StudySpec:
    return StudySpec.from_mapping({**DOCUMENT, **changes})


TRIAL = {
    "command": ["python", "train.py"],
    "image": "registry.example/train:1",
    "timeout_seconds": 1800,
    "resources": {"cpu": "500m", "memory": "1.5Gi", "gpu": 2},
}


@pytest.mark.parametrize(
    ("quantity", "n", "product"),
    [
        ("500m", 4, "2"),
        ("250m", 3, "750m"),
        ("1.5Gi", 4, "6Gi"),
        ("2", 10, "20"),
        ("100M", 2, "200M"),
    ],
)
def test_amounts_are_multiplied_as_kubernetes_writes_them(
    quantity: str, n: int, product: str
) -> None:
    assert times(quantity, n) == product


@pytest.mark.parametrize(
    ("budget", "hours"),
    [
        ({"n_trials": 10, "max_parallel_trials": 4}, 10 * 0.5 * 2),
        # Four at once for the hour of the budget and half an hour of a trial's own.
        ({"n_trials": 100, "max_parallel_trials": 4, "timeout_seconds": 3600}, 4 * 1.5 * 2),
    ],
)
def test_gpu_hours_are_bounded_by_trials_and_by_time(budget: dict[str, Any], hours: float) -> None:
    assert largest_gpu_hours(spec_with(trial=TRIAL, budget=budget)) == pytest.approx(hours)


def test_without_a_limit_on_trials_there_is_none_on_gpu_hours() -> None:
    endless = {**TRIAL, "timeout_seconds": None}

    assert largest_gpu_hours(spec_with(trial=endless)) is None
    assert largest_gpu_hours(spec_with()) == 0.0


def test_a_study_that_exists_is_planned_from_where_it_is() -> None:
    known = (
        TrialRecord(0, TrialState.COMPLETE, {"x": 0.1}, (0.1,), cause=Cause.OK),
        TrialRecord(1, TrialState.FAILED, {"x": 0.2}, cause=Cause.CANCELLED),
        TrialRecord(2, TrialState.RUNNING, {"x": 0.3}),
    )
    spec = spec_with(trial=TRIAL, budget={"n_trials": 10, "max_parallel_trials": 4})
    settings = Settings.resolve(executor="kubernetes", environment={})

    plan = make_plan(spec, settings, known)

    assert (plan.n_left, plan.n_finished, plan.n_running, plan.slots) == (9, 1, 1, 4)
    assert plan.per_trial == {"cpu": "500m", "memory": "1.5Gi", "nvidia.com/gpu": "2"}
    assert plan.at_once == {"cpu": "2", "memory": "6Gi", "nvidia.com/gpu": "8"}
    assert plan.longest_seconds == 3 * 1800
    assert plan.gpu_hours == pytest.approx(9.0)


def test_a_pod_asks_for_what_all_of_its_containers_ask_for() -> None:
    def asking(name: str, cpu: str, memory: str, **more: str) -> dict[str, Any]:
        requests = {"cpu": cpu, "memory": memory}
        return {"name": name, "image": "x", "resources": {"requests": requests}, **more}

    pod = {
        "containers": [asking("proxy", "250m", "512Mi")],
        "initContainers": [
            asking("native", "250m", "1Gi", restartPolicy="Always"),
            asking(
                "before", "750m", "1Gi"
            ),  # while it runs, only the native sidecar runs beside it
        ],
    }
    trial = {**TRIAL, "kubernetes": {"pod_template": {"spec": pod}}}
    settings = Settings.resolve(executor="kubernetes", environment={})

    plan = make_plan(spec_with(trial=trial), settings, ())

    assert plan.per_trial == {"cpu": "1", "memory": "3Gi", "nvidia.com/gpu": "2"}


def test_amounts_in_every_unit_of_kubernetes_are_multiplied() -> None:
    assert [times(amount, 2) for amount in ("1E", "2Ei", "500m", "3n", "2e3")] == [
        "2E", "4Ei", "1", "6n", "4000",
    ]  # fmt: skip


def test_the_command_prints_the_plan_and_starts_nothing(tmp_path: Path) -> None:
    path = write_study(tmp_path, trial=TRIAL)
    home = tmp_path / "home"

    shown = invoke("plan", path, "--home", home, "--executor", "kubernetes")
    document = json.loads(invoke("plan", path, "--home", home, "--json").stdout)

    assert shown.exit_code == 0, shown.output
    rows = dict(line.split("  ", 1) for line in shown.stdout.splitlines())
    assert {name: text.strip() for name, text in rows.items()} | {
        "trials to run": "3 of 3",
        "trials are": "pods on Kubernetes, 2 in parallel",
        "longest time": "1 h",
        "GPU-hours at most": "3",
    } == {name: text.strip() for name, text in rows.items()}
    assert (document["executor"], document["per_trial"]) == ("local", {"gpu": "2"})
    assert not home.exists()


def test_a_study_that_asks_for_no_gpu_has_no_gpu_hours(tmp_path: Path) -> None:
    shown = invoke("plan", write_study(tmp_path), "--home", tmp_path)

    assert re.search(r"^GPU-hours +no GPU asked for \(trial\.resources\.gpu\)$", shown.stdout, re.M)


def test_a_plan_for_pods_says_that_the_image_is_missing(tmp_path: Path) -> None:
    path = write_study(tmp_path)

    shown = invoke("plan", path, "--home", tmp_path, "--executor", "kubernetes")

    assert "not possible, trial.image is missing" in shown.stdout


def test_a_study_without_a_number_of_trials_says_how_many_it_expects(tmp_path: Path) -> None:
    path = write_study(tmp_path, budget={"gpu_hours": 4, "max_parallel_trials": 2})
    timed = {"command": ["true"], "timeout_seconds": 1800}

    unknown = invoke("plan", path, "--home", tmp_path / "home")
    write_study(tmp_path, budget={"gpu_hours": 4, "max_parallel_trials": 2}, trial=timed)
    known = json.loads(invoke("plan", path, "--home", tmp_path / "home", "--json").stdout)

    assert re.search(r"trials to run +not known yet: no trial has ended\n", unknown.stdout)
    assert (known["n_trials"], known["n_left"], known["n_expected"]) == (None, None, 8)
    assert known["longest_seconds"] == 4.5 * 3600


def test_a_plan_says_when_a_time_of_day_is_and_by_whose_clock(tmp_path: Path) -> None:
    path = write_study(tmp_path, budget={"n_trials": 4, "finish_by": "07:00"})
    shown = invoke("plan", path, "--home", tmp_path / "home").stdout
    (row,) = (line for line in shown.splitlines() if line.startswith("budget.finish_by"))
    assert re.search(r"07:00, which is \d{4}-\d\d-\d\dT07:00[+-]\d\d:\d\d by this machine's", row)

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from pydantic import ValidationError

from studyflow.spec import (
    ConstraintSpec,
    NotifySpec,
    StudySpec,
    describe_differences,
    describe_plan,
    find_problems,
)
from studyflow.spec.plan import longest_seconds, show_duration
from studyflow.spec.schema import EXAMPLE


def study(**changes: Any) -> StudySpec:
    return StudySpec.from_mapping({**EXAMPLE, **changes})


def test_defaults() -> None:
    spec = StudySpec.from_mapping(
        {
            "name": "mnist",
            "objectives": [{"metric": "loss", "direction": "minimize"}],
            "search_space": {"lr": {"type": "float", "low": 0, "high": 1}},
            "budget": {"n_trials": 3},
            "trial": {"command": ["python", "train.py"]},
        }
    )

    assert json.loads(spec.model_dump_json()) == {
        "name": "mnist",
        "description": "",
        "tags": {},
        "experiment": None,
        "objectives": [{"metric": "loss", "direction": "minimize"}],
        "constraints": [],
        "search_space": {
            "lr": {
                "when": {},
                "prior": None,
                "type": "float",
                "low": 0,
                "high": 1,
                "log": False,
                "step": None,
            }
        },
        "fixed": {},
        "enqueue": [],
        "sampler": {"type": "botorch", "seed": None},
        "pruner": {"type": "none"},
        "budget": {
            "n_trials": 3,
            "max_parallel_trials": 1,
            "gpu_hours": None,
            "cost": None,
            "finish_by": None,
            "timeout_seconds": None,
            "at_limit": "finish",
        },
        "stop": {
            "target": None,
            "no_improvement_trials": None,
            "alike_failures": 5,
            "first_failures": 3,
        },
        "retry": {"max_attempts": 10, "backoff_seconds": 5.0},
        "notify": None,
        "prefect": {"trial_runs": "auto"},
        "trial": {
            "command": ["python", "train.py"],
            "image": None,
            "resources": {"cpu": None, "memory": None, "gpu": 0},
            "timeout_seconds": None,
            "budget": None,
            "nan_reports": 3,
            "env": {},
            "inherit_env": [],
            "kubernetes": {
                "gpu_resource": "nvidia.com/gpu",
                "node_selector": {},
                "tolerations": [],
                "affinity": {},
                "priority_class": None,
                "service_account": None,
                "image_pull_policy": "IfNotPresent",
                "image_pull_secrets": [],
                "secret_env": {},
                "env_from_secrets": [],
                "volumes": [],
                "checkpoints": None,
                "shared_memory": "1Gi",
                "scratch": "10Gi",
                "queue": None,
                "labels": {},
                "annotations": {},
                "run_as_user": 10001,
                "stop_grace_seconds": 20,
                "pending_timeout_seconds": 3600,
                "image_pull_timeout_seconds": 300,
                "canary_seconds": 10,
                "pod_template": {},
            },
        },
    }


def test_a_spec_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        study().name = "other"  # type: ignore[misc]


def test_the_metrics_are_those_of_objectives_and_then_of_constraints() -> None:
    spec = study(constraints=[{"metric": "latency", "max": 3}, {"metric": "val_loss", "max": 3}])

    assert spec.metrics == ("val_loss", "latency")
    assert spec.directions == ("minimize",)


def test_a_constraint_says_by_how_much_each_bound_is_broken() -> None:
    constraint = ConstraintSpec(metric="latency_ms", max=20, min=1.5)

    assert constraint.violations(25.0) == {"latency_ms <= 20": 5.0, "latency_ms >= 1.5": -23.5}
    assert constraint.violations(1.0) == {"latency_ms <= 20": -19.0, "latency_ms >= 1.5": 0.5}


def test_a_study_survives_being_written_and_read() -> None:
    spec = study(
        description="two\nlines: 'and' \"quotes\"\n",
        tags={"on": "1e-4", "off": "yes", "no": "0o17", "a": "~", "b": "2024-01-01"},
        fixed={"depth": 3, "name": "1", "flag": True, "none": None, "学": "习", "small": 1e-300},
        enqueue=[{"learning_rate": 1e-3, "optimizer": "adam"}],
        sampler={"seed": 3, "deterministic": True},
        pruner={"type": "patient", "patience": 3, "wrapped": {"type": "median"}},
    )

    text = spec.to_yaml()

    assert find_problems(text) == (spec, ())
    assert "type: botorch" in text


def test_the_identity_follows_search_space_and_objectives_only() -> None:
    base = study()
    same = study(
        name="other",
        budget={"n_trials": 300},
        sampler={"type": "tpe"},
        trial={"command": ["other.py"]},
        search_space=dict(reversed(EXAMPLE["search_space"].items())),
    )
    space = EXAMPLE["search_space"]
    momentum = {**space["momentum"], "when": {"optimizer": ["sgd"]}, "log": False}

    assert base.identity() == same.identity()
    assert base.identity() == study(search_space={**space, "momentum": momentum}).identity()
    believed = {**space["learning_rate"], "prior": {"mean": 1e-3, "sd": 0.5}}
    assert base.identity() == study(search_space={**space, "learning_rate": believed}).identity()
    assert base.identity() != study(search_space={**space, "x": space["momentum"]}).identity()
    assert (
        base.identity()
        != study(objectives=[{"metric": "val_loss", "direction": "maximize"}]).identity()
    )


def test_the_identity_is_stored_in_one_form() -> None:
    # It is stored with studies: another form would keep them from continuing.
    text = json.dumps(study().identity(), sort_keys=True, separators=(",", ":"))
    expected = "54ee88e81f295baabc255e966bd8d82fa27d13442bf6a6d2f86f3f92bffd3d0d"
    assert hashlib.sha256(text.encode()).hexdigest() == expected


def test_differences_are_lines_for_humans() -> None:
    space = EXAMPLE["search_space"]
    old = json.loads(json.dumps(study().identity()))
    new = study(
        search_space={
            "learning_rate": {**space["learning_rate"], "high": 0.1},
            "optimizer": {"type": "categorical", "choices": ["adam", "sgd", "lion"]},
            "momentum": {**space["momentum"], "when": {"optimizer": ["sgd", "lion"]}},
            "flag": {"type": "categorical", "choices": [True]},
        },
        objectives=[{"metric": "val_loss", "direction": "maximize"}],
    ).identity()

    assert describe_differences(old, study().identity()) == ()
    assert describe_differences(old, new) == (
        "search_space.learning_rate.high: 0.01 → 0.1",
        'search_space.batch_size: {"type": "int", "low": 16, "high": 128, "step": 16} → nothing',
        'search_space.optimizer.choices: ["adam", "sgd"] → ["adam", "sgd", "lion"]',
        'search_space.momentum.when.optimizer: ["sgd"] → ["sgd", "lion"]',
        'search_space.flag: nothing → {"type": "categorical", "choices": [true]}',
        'objectives[0].direction: "minimize" → "maximize"',
    )


def test_true_and_one_are_different_choices() -> None:
    assert describe_differences({"choices": [1, 2.0]}, {"choices": [True, 2]}) == (
        "choices[0]: 1 → true",
    )


def test_the_plan_of_the_example() -> None:
    assert describe_plan(
        study(
            fixed={"depth": 3},
            enqueue=[{}],
            constraints=[{"metric": "latency_ms", "max": 20}],
            pruner={"type": "patient", "patience": 3, "wrapped": {"type": "asha"}},
        )
    ) == (
        ("study", "cnn-lstm"),
        ("dimensions", "4 parameters, 1 conditional, 1 fixed"),
        ("size of the space", "continuous"),
        ("objectives", "minimize val_loss"),
        ("constraints", "latency_ms <= 20"),
        ("sampler", "botorch (n_startup_trials=10, seed=0)"),
        ("pruner", "patient (patience=3, wrapped=asha)"),
        ("trials", "30 (1 enqueued)"),
        ("parallelism", "4 at once"),
        ("longest possible time", "2 h 30 min"),
        ("GPUs at once", "4"),
        ("command", "python train.py"),
        ("image", "registry.example/cnn-lstm:1"),
    )


@pytest.mark.fault("F73")
def test_the_plan_names_the_largest_value_of_a_range_that_is_no_whole_number_of_steps() -> None:
    spec = study(
        search_space={
            "eleventh": {"type": "float", "low": 0.0, "high": 1.0, "step": 0.09090909090909091},
            "rounded": {"type": "float", "low": 0.0, "high": 1.0, "step": 0.0909},
            "whole": {"type": "int", "low": 1, "high": 9, "step": 4},
            "size": {"type": "int", "low": 16, "high": 100, "step": 16},
        }
    )

    assert [text for label, text in describe_plan(spec) if label == "largest value"] == [
        "rounded: 0.9999, not 1, since the range is no whole number of steps",
        "size: 96, not 100, since the range is no whole number of steps",
    ]
    assert dict(describe_plan(spec))["size of the space"] == "2,592 points"


def test_the_plan_names_priors_and_a_sampler_that_makes_no_use_of_them() -> None:
    space = {**EXAMPLE["search_space"], "depth": {"type": "int", "low": 1, "high": 9}}
    space["depth"]["prior"] = {"good": [2, 4]}

    assert dict(describe_plan(study(search_space=space)))["priors"] == "depth"
    of_tpe = study(search_space=space, sampler={"type": "tpe"})
    assert dict(describe_plan(of_tpe))["priors"] == "depth; sampler tpe makes no use of them"
    assert "priors" not in dict(describe_plan(study()))


def test_the_plan_of_a_finite_space_without_limits() -> None:
    rows = dict(
        describe_plan(
            study(
                search_space={
                    "a": {"type": "categorical", "choices": ["x", "y"]},
                    "b": {"type": "int", "low": 1, "high": 1000, "when": {"a": "x"}},
                },
                sampler={"type": "random"},
                pruner={"type": "none"},
                trial={"command": ["python", "my train.py"]},
            )
        )
    )

    assert rows["dimensions"] == "2 parameters, 1 conditional"
    assert rows["size of the space"] == "1,001 points"
    assert rows["sampler"] == "random (seed=drawn)"
    assert rows["longest possible time"] == "unlimited: no trial.timeout_seconds"
    assert rows["GPUs at once"] == "0"
    assert rows["command"] == "python 'my train.py'"


@pytest.mark.parametrize(
    ("n_trials", "parallel", "timeout", "longest"),
    [(30, 4, None, 80.0), (30, 4, 35, 45.0), (3, 4, None, 10.0), (4, 4, None, 10.0)],
)
def test_the_longest_time(
    n_trials: int, parallel: int, timeout: int | None, longest: float
) -> None:
    spec = study(
        budget={
            "n_trials": n_trials,
            "max_parallel_trials": parallel,
            "timeout_seconds": timeout,
        },
        trial={"command": ["a"], "timeout_seconds": 10},
    )

    assert longest_seconds(spec) == longest


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.5, "0.5 s"),
        (59, "59 s"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (3660.4, "1 h 1 min"),
        (90_000, "1 d 1 h"),
        (1e9, "11,574 d 1 h"),
    ],
)
def test_durations_are_shown_in_two_units(seconds: float, text: str) -> None:
    assert show_duration(seconds) == text


def test_a_webhook_hears_of_the_end_unless_told_otherwise() -> None:
    notify = NotifySpec(url_env="HOOK")

    assert (notify.url_file, notify.events) == (None, ("finished", "failed"))

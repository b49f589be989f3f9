"""Experiments of Katib as study files: what is carried over, and that the rest is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from studyflow.errors import SpecError
from studyflow.spec import StudySpec
from studyflow.spec.katib import Translation, translate_experiment
from studyflow.spec.problems import show_path

HERE = Path(__file__).parent


def experiment(**spec: Any) -> dict[str, Any]:
    """Return a small experiment with other sections in `spec`."""
    return {
        "apiVersion": "kubeflow.org/v1beta1",
        "kind": "Experiment",
        "metadata": {"name": "small"},
        "spec": {
            "objective": {"type": "minimize", "objectiveMetricName": "loss"},
            "algorithm": {"algorithmName": "random"},
            "maxTrialCount": 10,
            "parameters": [double("lr", min="0.1", max="1")],
            "trialTemplate": template("python", "train.py", "--lr=${trialParameters.lr}"),
            **spec,
        },
    }


def double(name: str, **space: Any) -> dict[str, Any]:
    return {"name": name, "parameterType": "double", "feasibleSpace": space}


def template(*command: str, **container: Any) -> dict[str, Any]:
    pod = {"spec": {"containers": [{"name": "main", "command": list(command), **container}]}}
    return {
        "trialParameters": [{"name": "lr", "reference": "lr"}],
        "trialSpec": {"apiVersion": "batch/v1", "kind": "Job", "spec": {"template": pod}},
    }


def translated(document: Any) -> Translation:
    return translate_experiment(yaml.safe_dump(document))


def changed(found: Translation, *, is_left_out: bool) -> set[str]:
    return {show_path(one.path) for one in found.changes if one.is_left_out is is_left_out}


def test_an_experiment_becomes_a_study_file_that_says_the_same() -> None:
    found = translate_experiment((HERE / "image-classifier.yaml").read_text())

    assert yaml.safe_load(found.spec.to_yaml()) == {
        "name": "image-classifier",
        "tags": {"team": "vision"},
        "objectives": [{"metric": "accuracy", "direction": "maximize"}],
        "search_space": {
            "lr": {"type": "float", "low": 0.0001, "high": 0.1, "log": True},
            "dropout": {"type": "float", "low": 0.0, "high": 0.5, "step": 0.1},
            "momentum": {
                "type": "float",
                "low": 0.5,
                "high": 0.9,
                "prior": {"mean": 0.7, "sd": 0.0666667},
            },
            "layers": {"type": "int", "low": 2, "high": 5},
            "batch-size": {"type": "int", "low": 32, "high": 128, "step": 32},
            "width": {"type": "categorical", "choices": [16, 64, 256]},
            "optimizer": {"type": "categorical", "choices": ["sgd", "adam"]},
        },
        "sampler": {"type": "botorch", "seed": 7, "n_startup_trials": 6},
        "pruner": {"type": "median", "n_startup_trials": 2, "n_warmup_steps": 5},
        "budget": {"n_trials": 24, "max_parallel_trials": 4},
        "stop": {"target": 0.95, "alike_failures": 3},
        "trial": {
            "command": [
                *("python3", "katib_trial.py", "accuracy=max", "loss=latest", "--"),
                *("python3", "/opt/train.py", "--epochs=20", "--lr=${lr}", "--batch=${batch-size}"),
            ],
            "image": "registry.example/team/train:1",
            "resources": {"cpu": "4", "memory": "16Gi", "gpu": 1},
            "timeout_seconds": 3600.0,
            "env": {
                "OMP_NUM_THREADS": "4",
                "OPTIMIZER": "${optimizer}",
                "RUN_NAME": "${trialParameters.trialName}",
            },
            "kubernetes": {
                "node_selector": {"pool": "a100"},
                "tolerations": [
                    {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
                ],
                "service_account": "trainer",
                "image_pull_secrets": ["registry"],
                "secret_env": {"HF_TOKEN": {"secret": "hub", "key": "token"}},
                "env_from_secrets": ["more"],
                "volumes": [{"mount_path": "/data", "claim": "imagenet", "read_only": True}],
                "shared_memory": "8Gi",
                "annotations": {"sidecar.istio.io/inject": "false"},
            },
        },
    }


def test_what_is_not_carried_over_is_listed_with_its_place() -> None:
    found = translate_experiment((HERE / "image-classifier.yaml").read_text())
    pod = "spec.trialTemplate.trialSpec.spec.template.spec"

    assert changed(found, is_left_out=True) == {
        "metadata.namespace",
        "spec.algorithm.algorithmSettings.acq_func",
        "spec.resumePolicy",
        "spec.trialTemplate.successCondition",
        "spec.trialTemplate.trialParameters[5].reference",
        "spec.trialTemplate.trialSpec",  # the name of the trial in a variable
        "spec.trialTemplate.trialSpec.spec.backoffLimit",
        f"{pod}.hostNetwork",
        f"{pod}.containers[0]",
        f"{pod}.containers[1].workingDir",
        f"{pod}.containers[1].env[4].valueFrom.fieldRef",
        f"{pod}.containers[1].resources.ephemeral-storage",
        f"{pod}.containers[1].volumeMounts[2]",
        f"{pod}.volumes[2].hostPath",
    }
    assert changed(found, is_left_out=False) == {
        "spec.algorithm.algorithmName",
        "spec.earlyStopping.algorithmName",
        "spec.maxFailedTrialCount",
        "spec.parameters[2].feasibleSpace.distribution",
        "spec.parameters[5].feasibleSpace.list",
        "spec.trialTemplate",
        f"{pod}.containers[1].resources.requests.cpu",
        f"{pod}.containers[1].resources.requests.memory",
    }
    assert all(one.message for one in found.changes)


def test_a_distributed_job_gives_its_first_pod_and_says_that_the_others_are_missing() -> None:
    found = translate_experiment((HERE / "two-pods.yaml").read_text())

    assert found.spec.trial.image == "registry.example/team/mnist:1"
    assert found.spec.trial.command[-1] == "--lr=${lr}"
    assert found.spec.sampler.arguments == {"multivariate": True, "n_ei_candidates": 12}
    [worker] = [one for one in found.changes if one.path[-1] == "Worker"]
    assert worker.is_left_out
    assert "(2 here)" in worker.message


def test_hyperband_is_a_pruner_and_its_resource_the_budget_of_a_trial() -> None:
    settings = {"resource_name": "epochs", "eta": "3", "r_l": "27"}
    found = translated(
        experiment(
            algorithm={
                "algorithmName": "hyperband",
                "algorithmSettings": [{"name": k, "value": v} for k, v in settings.items()],
            },
            parameters=[
                double("lr", min="0.1", max="1"),
                {
                    "name": "epochs",
                    "parameterType": "int",
                    "feasibleSpace": {"min": "1", "max": "27"},
                },
            ],
        )
    )

    assert found.spec.pruner.type == "hyperband"
    assert found.spec.pruner.arguments == {"reduction_factor": 3}
    assert found.spec.trial.budget == 27
    assert found.spec.fixed == {"epochs": 27}
    assert list(found.spec.search_space) == ["lr"]


@pytest.mark.parametrize(
    ("algorithm", "sampler"),
    [
        ("random", {"type": "random"}),
        ("grid", {"type": "grid"}),
        ("tpe", {"type": "tpe"}),
        ("cmaes", {"type": "cmaes"}),
        ("sobol", {"type": "qmc"}),
    ],
)
def test_each_algorithm_has_its_sampler(algorithm: str, sampler: dict[str, str]) -> None:
    space = [double("lr", min="0.1", max="1", step="0.1")]
    found = translated(
        experiment(algorithm={"algorithmName": algorithm}, parameters=space, maxTrialCount=5)
    )
    assert yaml.safe_load(found.spec.to_yaml())["sampler"] == sampler


@pytest.mark.parametrize("algorithm", ["pbt", "somebody-elses"])
def test_an_algorithm_that_is_not_here_is_named_and_replaced(algorithm: str) -> None:
    found = translated(experiment(algorithm={"algorithmName": algorithm}))
    assert found.spec.sampler.type == "botorch"
    assert "spec.algorithm.algorithmName" in changed(found, is_left_out=True)


def test_limits_that_an_experiment_does_not_name_are_katibs() -> None:
    document = experiment()
    del document["spec"]["maxTrialCount"]
    found = translated(document)
    assert found.spec.budget.n_trials == 100
    assert found.spec.budget.max_parallel_trials == 3
    assert "spec.maxTrialCount" in changed(found, is_left_out=False)


def test_a_logarithmic_parameter_loses_its_step_and_that_is_said() -> None:
    space = [double("lr", min="0.01", max="1", step="0.01", distribution="logUniform")]
    found = translated(experiment(parameters=space))
    assert found.spec.search_space["lr"].model_dump(exclude_defaults=True) == {
        "type": "float",
        "low": 0.01,
        "high": 1.0,
        "log": True,
    }
    assert "spec.parameters[0].feasibleSpace.step" in changed(found, is_left_out=True)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1", "2", "3"], {"type": "int", "low": 1, "high": 3}),
        (["0.1", "0.3", "0.2"], {"type": "float", "low": 0.1, "high": 0.3, "step": 0.1}),
        (["1", "2", "4"], {"type": "categorical", "choices": [1, 2, 4]}),
        (["0.5", "1"], {"type": "categorical", "choices": [0.5, 1.0]}),
    ],
)
def test_evenly_spaced_numbers_are_a_range(values: list[str], expected: dict[str, Any]) -> None:
    space = [{"name": "x", "parameterType": "discrete", "feasibleSpace": {"list": values}}]
    found = translated(experiment(parameters=space))
    assert yaml.safe_load(found.spec.to_yaml())["search_space"]["x"] == expected


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("[]", "must be an Experiment of kubeflow.org/v1beta1"),
        ("{kind: Experiment, apiVersion: kubeflow.org/v1alpha3}", "it is Experiment of kubeflow"),
        (experiment(parameters=[]), "spec.parameters: must name parameters"),
        (experiment(parameters=[double("lr", min="1")]), "must have min and max"),
        (experiment(parameters=[double("lr", min="low", max="1")]), "min: must be a number"),
        (experiment(objective={}), "spec.objective: must have objectiveMetricName"),
        (experiment(maxTrialCount="many"), "maxTrialCount: must be a whole number"),
        (
            experiment(algorithm={"algorithmName": "grid"}),
            "The study file of experiment.yaml has a problem: sampler.type: grid needs a finite",
        ),
    ],
)
def test_what_katib_would_refuse_is_refused_with_its_place(document: Any, words: str) -> None:
    text = document if isinstance(document, str) else yaml.safe_dump(document)
    with pytest.raises(SpecError) as raised:
        translate_experiment(text)
    assert words in " ".join(str(raised.value).split())


def test_a_template_elsewhere_leaves_a_command_to_be_written() -> None:
    found = translated(
        experiment(trialTemplate={"configMap": {"configMapName": "templates", "templatePath": "a"}})
    )
    assert found.spec.trial.command[-2:] == ("python", "train.py")
    assert "spec.trialTemplate.configMap" in changed(found, is_left_out=True)


@given(
    place=st.sampled_from(["top", "spec", "objective", "pod", "container"]),
    key=st.sampled_from(["somethingNew", "lifecycle", "paused"]),
    value=st.one_of(st.integers(1), st.text("ab", min_size=1), st.just({"a": 1}), st.just([1])),
)
def test_a_key_that_nobody_knows_is_listed(place: str, key: str, value: Any) -> None:
    document = experiment()
    pod = document["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]
    owner = {
        "top": document,
        "spec": document["spec"],
        "objective": document["spec"]["objective"],
        "pod": pod,
        "container": pod["containers"][0],
    }[place]
    owner[key] = value

    listed = [one for one in translated(document).changes if key in one.path]

    assert listed
    assert listed[0].is_left_out


def test_a_file_from_the_translation_is_read_again_as_the_same_study() -> None:
    found = translate_experiment((HERE / "image-classifier.yaml").read_text())
    assert StudySpec.from_text(found.spec.to_yaml()) == found.spec

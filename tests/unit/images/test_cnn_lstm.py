from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from studyflow.spec import StudySpec
from studyflow.trial import Cause, MetricPoint, Outcome

from .conftest import LoadScript, MakeTrial, RunPython

STUDY_FILES = ["study.yaml", "study-short.yaml"]

SMALL: dict[str, Any] = {
    "learning_rate": 0.01,
    "batch_size": 128,
    "cnn_filters": 16,
    "kernel_size": 2,
    "lstm_units": 32,
    "dropout": 0.1,
    "epochs": 50,
}


@pytest.fixture(scope="module", autouse=True)
def one_torch_thread() -> Iterator[None]:
    """As in the script itself: on busy cores, two threads have taken a hundred times as long."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def script(load_script: LoadScript) -> ModuleType:
    return load_script("cnn-lstm")


def reported(folder: Path, name: str) -> list[tuple[int, float]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    points = [MetricPoint.from_json(line) for line in lines]
    return [(point.step, point.value) for point in points if point.name == name]


# --- the data -----------------------------------------------------------------------------------


def test_the_target_is_the_energy_of_feature_0_over_three_steps_and_the_sine_of_feature_1(
    script: ModuleType,
) -> None:
    x = torch.zeros(1, 20, 10)
    x[0, -3:, 0] = torch.tensor([1.0, -2.0, 3.0])
    x[0, -1, 1] = math.pi / 2
    x[0, -4, 0] = 100.0  # one step too early
    x[0, -2, 1] = 100.0  # not the last step
    x[0, :, 2:] = 100.0  # other features

    assert script.target(x).tolist() == [15.0]


def test_scaling_is_per_feature_over_samples_and_steps(script: ModuleType) -> None:
    values = torch.tensor([[[0.0, 10.0], [5.0, 20.0]], [[10.0, 30.0], [2.5, 10.0]]])

    assert script.to_unit_range(values).tolist() == [
        [[0.0, 0.0], [0.5, 0.5]],
        [[1.0, 1.0], [0.25, 0.0]],
    ]


def test_the_data_set(script: ModuleType) -> None:
    train, val = script.load_data()

    assert train.x.shape == (1600, 20, 10)
    assert train.y.shape == (1600,)
    assert val.x.shape == (400, 20, 10)
    assert val.y.shape == (400,)
    x, y = torch.cat([train.x, val.x]), torch.cat([train.y, val.y])
    assert x.amin(dim=(0, 1)).tolist() == [0.0] * 10
    assert x.amax(dim=(0, 1)).tolist() == [1.0] * 10
    assert (y.min().item(), y.max().item()) == (0.0, 1.0)


def test_the_data_set_is_the_same_every_time(script: ModuleType) -> None:
    (first, _), (second, _) = script.load_data(), script.load_data()

    assert torch.equal(first.x, second.x)


def test_predicting_the_mean_gives_the_loss_that_the_readme_names(script: ModuleType) -> None:
    train, val = script.load_data()

    assert (val.y - train.y.mean()).square().mean().item() == pytest.approx(0.0220, abs=1e-4)


# --- the model ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cnn_filters", "kernel_size", "lstm_units"),
    list(itertools.product([16, 64], [2, 3, 4, 5], [32, 128])),
)
def test_one_prediction_for_each_sequence(
    script: ModuleType, cnn_filters: int, kernel_size: int, lstm_units: int
) -> None:
    hp = script.Hyperparameters(
        cnn_filters=cnn_filters, kernel_size=kernel_size, lstm_units=lstm_units
    )

    prediction = script.CnnLstm(hp)(torch.zeros(7, 20, 10))

    assert prediction.shape == (7,)


@pytest.mark.parametrize("kernel_size", [2, 3, 4, 5])
def test_the_last_step_reaches_the_prediction_whatever_the_kernel(
    script: ModuleType, kernel_size: int
) -> None:
    torch.manual_seed(0)
    model = script.CnnLstm(script.Hyperparameters(kernel_size=kernel_size)).eval()
    x = torch.rand(4, 20, 10, requires_grad=True)

    (gradient,) = torch.autograd.grad(model(x).sum(), x)

    assert (gradient[:, -1].abs().sum(dim=1) > 0).all()


def test_one_epoch_of_training_reduces_the_loss(script: ModuleType) -> None:
    torch.manual_seed(0)
    train, val = script.load_data()
    model = script.CnnLstm(script.Hyperparameters())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    before = script.evaluate(model, val)

    script.train_epoch(model, optimizer, train, 32)

    assert script.evaluate(model, val) < before


# --- the script ---------------------------------------------------------------------------------

FEW_SAMPLES = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("script", sys.argv[1])
script = sys.modules["script"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)
load_data = script.load_data
script.load_data = lambda: tuple(script.Split(x[:64], y[:64]) for x, y in load_data())
script.main()
"""
# Runs the script as `python train.py` does, on 64 samples: thirty epochs then take a moment.


def test_it_runs_alone_with_its_defaults(
    run_python: RunPython, images: Path, tmp_path: Path
) -> None:
    done = run_python(tmp_path, "-c", FEW_SAMPLES, images / "cnn-lstm/train.py")

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 31
    assert lines[0].startswith("step 0: train_loss=")
    assert lines[29].startswith("step 29: train_loss=")
    assert lines[30].startswith("finished: val_loss=")


@pytest.fixture(scope="module")
def finished(
    run_python: RunPython,
    make_trial: MakeTrial,
    images: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The folder of a trial that took the real script through 3 epochs."""
    folder = tmp_path_factory.mktemp("trial")
    done = run_python(
        folder, images / "cnn-lstm/train.py", trial=make_trial(folder, SMALL, "val_loss", budget=3)
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_inside_a_study_both_losses_are_reported_for_each_epoch_of_the_budget(
    finished: Path,
) -> None:
    assert [step for step, _ in reported(finished, "val_loss")] == [0, 1, 2]
    assert [step for step, _ in reported(finished, "train_loss")] == [0, 1, 2]


def test_inside_a_study_it_finishes_with_the_loss_of_its_best_epoch(finished: Path) -> None:
    outcome = Outcome.from_json((finished / "outcome.json").read_text())

    assert outcome.cause is Cause.OK
    assert outcome.metrics == {
        "val_loss": min(value for _, value in reported(finished, "val_loss"))
    }


def test_the_weights_that_are_kept_have_the_loss_that_was_returned(
    finished: Path, script: ModuleType
) -> None:
    outcome = Outcome.from_json((finished / "outcome.json").read_text())
    model = script.CnnLstm(script.Hyperparameters(**SMALL))

    model.load_state_dict(torch.load(finished / "artifacts/model.pt", weights_only=True))

    _, val = script.load_data()
    assert script.evaluate(model, val) == pytest.approx(outcome.metrics["val_loss"], abs=1e-6)


def test_the_seed_alone_decides_the_result(finished: Path, script: ModuleType) -> None:
    torch.manual_seed(script.Hyperparameters().seed)
    train, val = script.load_data()
    model = script.CnnLstm(script.Hyperparameters(**SMALL))
    optimizer = torch.optim.Adam(model.parameters(), lr=SMALL["learning_rate"])

    train_loss = script.train_epoch(model, optimizer, train, SMALL["batch_size"])

    assert reported(finished, "train_loss")[0] == (0, train_loss)
    assert reported(finished, "val_loss")[0] == (0, script.evaluate(model, val))


def test_it_ends_after_the_epoch_in_which_the_study_asks_for_it(
    run_python: RunPython, make_trial: MakeTrial, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "stop").write_text("pruned")

    done = run_python(
        tmp_path, images / "cnn-lstm/train.py", trial=make_trial(tmp_path, SMALL, "val_loss")
    )

    assert done.returncode == 0, done.stderr
    assert [step for step, _ in reported(tmp_path, "val_loss")] == [0]
    assert (tmp_path / "artifacts/model.pt").exists()


def test_a_parameter_that_the_script_does_not_know_is_an_error(script: ModuleType) -> None:
    with pytest.raises(TypeError, match="learning_rat"):
        script.Hyperparameters(learning_rat=0.1)


# --- the study files ----------------------------------------------------------------------------


def differing_keys(a: Any, b: Any, path: str = "") -> set[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        return {
            found
            for key in a.keys() | b.keys()
            for found in differing_keys(a.get(key), b.get(key), f"{path}.{key}".lstrip("."))
        }
    return set() if a == b else {path}


@pytest.mark.parametrize("file", STUDY_FILES)
def test_the_study_searches_what_the_script_takes(
    images: Path, script: ModuleType, file: str
) -> None:
    spec = StudySpec.from_yaml(images / "cnn-lstm" / file)
    defaults = {f.name: f.default for f in fields(script.Hyperparameters)}

    assert {*spec.search_space, *spec.fixed} == set(defaults)
    assert all(p.contains(defaults[name]) for name, p in spec.search_space.items())
    assert spec.metrics == ("val_loss",)


@pytest.mark.parametrize("file", STUDY_FILES)
def test_random_search_draws_from_the_study(
    images: Path, load_script: LoadScript, file: str
) -> None:
    random_search = load_script("cnn-lstm", "random_search.py")
    spec = StudySpec.from_yaml(images / "cnn-lstm" / file)
    rng = random.Random(0)

    draws = [
        {name: random_search.draw(p, rng) for name, p in spec.search_space.items()}
        for _ in range(200)
    ]

    assert all(p.contains(drawn[name]) for drawn in draws for name, p in spec.search_space.items())
    assert {drawn["kernel_size"] for drawn in draws} == {2, 3, 4, 5}


def test_the_whole_study(images: Path) -> None:
    spec = StudySpec.from_yaml(images / "cnn-lstm/study.yaml")

    def spaced(name: str) -> tuple[float, float, float | None]:
        parameter = spec.search_space[name]
        assert parameter.type != "categorical"
        return parameter.low, parameter.high, parameter.step

    assert spec.objectives[0].direction == "minimize"
    assert {name: spaced(name) for name in spec.search_space} == {
        "learning_rate": (1e-4, 1e-2, None),
        "batch_size": (16, 128, 16),
        "cnn_filters": (16, 64, 8),
        "kernel_size": (2, 5, 1),
        "lstm_units": (32, 128, 16),
        "dropout": (0.1, 0.5, None),
        "epochs": (10, 50, 5),
    }
    assert [n for n, p in spec.search_space.items() if p.type != "categorical" and p.log] == [
        "learning_rate"
    ]
    assert (spec.budget.n_trials, spec.budget.max_parallel_trials) == (30, 2)
    assert (spec.sampler.type, spec.sampler.seed) == ("botorch", 0)
    assert spec.sampler.arguments == {"n_startup_trials": 10}
    assert spec.pruner.type == "median"
    assert spec.pruner.arguments == {
        "n_startup_trials": 10,
        "n_warmup_steps": 15,
        "n_min_trials": 8,
    }


def test_the_short_study_differs_only_in_its_budget(images: Path) -> None:
    whole, short = (
        StudySpec.from_yaml(images / "cnn-lstm" / file).model_dump() for file in STUDY_FILES
    )

    assert differing_keys(whole, short) == {
        "name",
        "description",
        "search_space.epochs.high",
        "sampler.n_startup_trials",
        "pruner.n_startup_trials",
        "pruner.n_min_trials",
        "budget.n_trials",
        "budget.timeout_seconds",
        "trial.timeout_seconds",
    }


def test_the_short_study_starts_no_trial_that_could_end_after_four_minutes(images: Path) -> None:
    spec = StudySpec.from_yaml(images / "cnn-lstm/study-short.yaml")

    assert spec.budget.timeout_seconds is not None
    assert spec.trial.timeout_seconds is not None
    assert spec.budget.timeout_seconds + spec.trial.timeout_seconds <= 240

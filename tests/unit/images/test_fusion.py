from __future__ import annotations

import itertools
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
    "conv1_channels": 16,
    "conv2_channels": 32,
    "kernel_size": 3,
    "use_leaky_relu": True,
    "dropout_rate": 0.2,
    "lstm_hidden": 64,
    "lstm_layers": 1,
    "fc1_units": 128,
    "learning_rate": 0.003,
    "batch_size": 16,
    "optimizer": "adam",
    "weight_decay": 0.0,
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
    return load_script("fusion")


@pytest.fixture(scope="module")
def data(script: ModuleType) -> Any:
    return script.load_data()


# --- the data -----------------------------------------------------------------------------------


def test_the_data_set_has_as_many_maps_of_each_kind(data: Any) -> None:
    train, val = data

    assert train.x.shape == (512, 5, 64, 64)
    assert val.x.shape == (256, 5, 64, 64)
    assert train.y.bincount().tolist() == [128] * 4
    assert val.y.bincount().tolist() == [64] * 4
    assert train.x.mean().item() == pytest.approx(0, abs=1e-5)
    assert train.x.std().item() == pytest.approx(1, abs=1e-5)


def test_the_data_set_is_the_same_every_time(data: Any, script: ModuleType) -> None:
    assert torch.equal(data[1].x, script.load_data()[1].x)


def spectrum(script: ModuleType, kind: int) -> torch.Tensor:
    """The energy of one signal's channels by frequency; its sum is 1."""
    signals = script.make_signals(torch.tensor([kind]), torch.Generator().manual_seed(5))
    energy: torch.Tensor = torch.fft.rfft(signals[0]).abs().square()
    return energy / energy.sum(dim=1, keepdim=True)


def test_a_tone_has_one_frequency_in_all_channels_and_two_tones_have_two(
    script: ModuleType,
) -> None:
    tone, two = spectrum(script, 0), spectrum(script, 3)

    assert len(set(tone.argmax(dim=1).tolist())) == 1
    assert tone.max(dim=1).values.min() > 0.5
    peaks = two.sum(dim=0).topk(2).indices.sort().values.tolist()
    assert peaks[1] / peaks[0] == pytest.approx(2.5 / 0.7, rel=0.03)


def test_a_chirp_has_many_frequencies(script: ModuleType) -> None:
    assert (spectrum(script, 1) > 1e-3).sum(dim=1).min() > 100


def test_bursts_are_silent_for_half_of_the_time(script: ModuleType) -> None:
    signals = script.make_signals(torch.tensor([2]), torch.Generator().manual_seed(5))

    assert ((signals == 0).double().mean(dim=-1) - 0.53).abs().max() < 0.03


def test_a_map_has_the_signal_line_by_line(script: ModuleType) -> None:
    maps = script.to_maps(torch.arange(2 * 5 * 4096).reshape(2, 5, 4096))

    assert maps.shape == (2, 5, 64, 64)
    assert maps[1, 2, 3, :2].tolist() == [7 * 4096 + 192, 7 * 4096 + 193]


# --- the model ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel_size", "layers", "leaky", "channels"),
    list(itertools.product([3, 5], [1, 3], [True, False], [16, 64])),
)
def test_four_scores_for_each_map(
    script: ModuleType, kernel_size: int, layers: int, leaky: bool, channels: int
) -> None:
    hp = script.Hyperparameters(
        kernel_size=kernel_size,
        lstm_layers=layers,
        use_leaky_relu=leaky,
        conv1_channels=channels,
        lstm_hidden=64,
    )

    assert script.Fusion(hp).eval()(torch.zeros(3, 5, 64, 64)).shape == (3, 4)


def test_both_branches_see_the_whole_map(script: ModuleType, data: Any) -> None:
    torch.manual_seed(0)
    model = script.Fusion(script.Hyperparameters()).eval()

    for branch in ("cnn", "lstm"):
        x = data[1].x[:2].clone().requires_grad_()
        rows = torch.nn.functional.avg_pool2d(x, (1, 2)).transpose(1, 2).reshape(2, 32, 320)
        out = model.cnn(x) if branch == "cnn" else model.lstm(rows)[0].mean(dim=1)
        (gradient,) = torch.autograd.grad(out.square().sum(), x)
        assert (gradient.abs().sum(dim=(1, 3)) > 0).all()
        assert (gradient.abs().sum(dim=(1, 2)) > 0).all()


def test_an_optimiser_that_there_is_not_is_named(script: ModuleType) -> None:
    hp = script.Hyperparameters(optimizer="lbfgs")

    with pytest.raises(ValueError, match="not 'lbfgs'"):
        script.make_optimizer(torch.nn.Linear(1, 1), hp)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_training_reduces_the_loss(script: ModuleType, data: Any, optimizer: str) -> None:
    torch.manual_seed(0)
    few = script.Split(data[0].x[:32], data[0].y[:32])
    hp = script.Hyperparameters(**{**SMALL, "optimizer": optimizer, "learning_rate": 0.01})
    model = script.Fusion(hp)
    steps = script.make_optimizer(model, hp)

    losses = [script.train_epoch(model, steps, few, 16) for _ in range(8)]

    assert losses[-1] < 0.9 * losses[0]


# --- the script ---------------------------------------------------------------------------------

FEW_SAMPLES = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("script", sys.argv[1])
script = sys.modules["script"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)
script.N_TRAIN, script.N_VALIDATION = 64, 32
script.main()
"""
# Runs the script as `python train.py` does, on few samples: an epoch then takes a moment.


def test_it_runs_alone_with_its_defaults(
    run_python: RunPython, images: Path, tmp_path: Path
) -> None:
    done = run_python(tmp_path, "-c", FEW_SAMPLES, images / "fusion/train.py")

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 13
    assert lines[11].startswith("step 11: val_error=")
    assert lines[12].startswith("finished: val_error=")


@pytest.fixture(scope="module")
def finished(
    run_python: RunPython,
    make_trial: MakeTrial,
    images: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The folder of a trial of 2 epochs."""
    folder = tmp_path_factory.mktemp("trial")
    trial = make_trial(folder, SMALL, "val_error", budget=2)
    done = run_python(folder, "-c", FEW_SAMPLES, images / "fusion/train.py", trial=trial)
    assert done.returncode == 0, done.stderr
    return folder


def reported(folder: Path, name: str) -> list[tuple[int, float]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    points = [MetricPoint.from_json(line) for line in lines]
    return [(point.step, point.value) for point in points if point.name == name]


def test_inside_a_study_it_reports_each_epoch_of_the_budget(finished: Path) -> None:
    for name in ("val_error", "val_loss", "train_loss"):
        assert [step for step, _ in reported(finished, name)] == [0, 1]


def test_inside_a_study_it_finishes_with_the_error_of_its_best_epoch(finished: Path) -> None:
    outcome = Outcome.from_json((finished / "outcome.json").read_text())

    assert outcome.cause is Cause.OK
    best = min(value for _, value in reported(finished, "val_error"))
    assert outcome.metrics["val_error"] == best
    assert outcome.metrics["val_accuracy"] == 1 - best


def test_the_weights_that_are_kept_have_the_error_that_was_returned(
    finished: Path, script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = Outcome.from_json((finished / "outcome.json").read_text())
    model = script.Fusion(script.Hyperparameters(**SMALL))

    model.load_state_dict(torch.load(finished / "artifacts/model.pt", weights_only=True))

    monkeypatch.setattr(script, "N_TRAIN", 64)
    monkeypatch.setattr(script, "N_VALIDATION", 32)
    loss, accuracy = script.evaluate(model, script.load_data()[1])
    assert 1 - accuracy == outcome.metrics["val_error"]
    assert loss == pytest.approx(outcome.metrics["val_loss"], rel=1e-5)


def test_it_ends_after_the_epoch_in_which_the_study_asks_for_it(
    run_python: RunPython, make_trial: MakeTrial, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "stop").write_text("pruned")
    trial = make_trial(tmp_path, SMALL, "val_error")

    done = run_python(tmp_path, "-c", FEW_SAMPLES, images / "fusion/train.py", trial=trial)

    assert done.returncode == 0, done.stderr
    assert [step for step, _ in reported(tmp_path, "val_error")] == [0]
    assert (tmp_path / "artifacts/model.pt").exists()


# --- the study files ----------------------------------------------------------------------------


@pytest.mark.parametrize("file", STUDY_FILES)
def test_the_study_searches_the_twelve_parameters_of_the_script(
    images: Path, script: ModuleType, file: str
) -> None:
    spec = StudySpec.from_yaml(images / "fusion" / file)
    defaults = {f.name: f.default for f in fields(script.Hyperparameters)}

    assert {*spec.search_space, *spec.fixed} == set(defaults) - {"epochs"}
    assert len(spec.search_space) == 12
    assert all(p.contains(defaults[name]) for name, p in spec.search_space.items())
    assert spec.metrics == ("val_error",)


def test_the_short_study_searches_a_part_of_the_whole_one(images: Path) -> None:
    short, whole = (
        StudySpec.from_yaml(images / "fusion" / file).search_space for file in reversed(STUDY_FILES)
    )

    for name, parameter in short.items():
        if parameter.type == "categorical":
            assert parameter == whole[name]
        else:
            assert whole[name].contains(parameter.low)
            assert whole[name].contains(parameter.high)


def test_the_picture_of_the_maps_is_a_png(load_script: LoadScript, script: ModuleType) -> None:
    draw_maps = load_script("fusion", "draw_maps.py")

    assert draw_maps.draw(script, 0).startswith(b"\x89PNG")

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from scipy.optimize import dual_annealing

from studyflow.spec import StudySpec
from studyflow.trial import Cause, MetricPoint, Outcome
from studyflow.trial.record import TrialRecord, TrialState

from .conftest import LoadScript, MakeTrial, RunPython

OPTIMIZERS = ["adam", "slsqp", "pso", "cmaes", "annealing"]


@pytest.fixture(scope="module", autouse=True)
def one_torch_thread() -> Iterator[None]:
    """As in the script itself: on busy cores, two threads have taken a hundred times as long."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def script(load_script: LoadScript) -> ModuleType:
    return load_script("weights")


# --- the problem --------------------------------------------------------------------------------


def test_the_data_are_32_points_whose_second_column_is_a_thousand_times_larger(
    script: ModuleType,
) -> None:
    x = script.make_data()

    assert x.shape == (32, 2)
    assert x.dtype == np.float64
    assert x.std(axis=0) == pytest.approx([1.0, 1000.0], rel=0.25)
    assert np.array_equal(x, script.make_data())


def test_the_identity_on_the_positive_side_has_no_loss_there(script: ModuleType) -> None:
    weights = np.array([1.0, 0, 0, 1, 1, 0, 0, 1, 0, 0])

    assert script.loss(weights, np.array([[2.0, 3000.0], [0.0, 1.0]])) == 0.0
    assert script.loss(weights, np.array([[-2.0, 3.0]])) == 2.0  # half of (0 - -2)²


def test_the_bias_is_that_of_the_second_layer(script: ModuleType) -> None:
    weights = np.array([0.0] * 8 + [3.0, 4.0])

    assert script.loss(weights, np.zeros((5, 2))) == 12.5


def test_many_networks_have_the_losses_that_each_has_alone(script: ModuleType) -> None:
    x = script.make_data()
    weights = np.stack([script.make_start(seed) for seed in range(4)])

    assert script.loss(weights, x) == pytest.approx([script.loss(w, x) for w in weights])


def test_the_start_is_a_tenth_of_the_standard_normal_distribution(script: ModuleType) -> None:
    starts = np.stack([script.make_start(seed) for seed in range(200)])

    assert starts.shape == (200, 10)
    assert starts.std() == pytest.approx(0.1, rel=0.05)


# --- counting -----------------------------------------------------------------------------------


def test_evaluations_beyond_the_budget_are_refused(script: ModuleType) -> None:
    objective = script.Objective(script.make_data(), 2)
    objective(script.make_start(0))
    objective(script.make_start(1))

    with pytest.raises(script.Spent):
        objective(script.make_start(2))

    assert objective.evaluations == 2


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_run_ends_with_its_evaluations(script: ModuleType, optimizer: str) -> None:
    hp = script.Hyperparameters(optimizer=optimizer, max_iterations=10_000, max_evaluations=60)

    objective = script.optimize(hp)

    assert objective.evaluations == 60


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_curve_falls_and_ends_at_the_loss_of_the_weights_that_are_kept(
    script: ModuleType, optimizer: str
) -> None:
    objective = script.optimize(script.Hyperparameters(optimizer=optimizer, max_iterations=5))

    for curve in (objective.by_iteration, objective.by_evaluation):
        losses = [point.loss for point in curve]
        assert losses == sorted(losses, reverse=True)
        evaluations = [point.evaluations for point in curve]
        assert evaluations == sorted(evaluations)
    assert [p.iteration for p in objective.by_iteration] == [1, 2, 3, 4, 5]
    assert objective.by_evaluation[-1].loss == objective.best_loss
    assert script.loss(objective.best_weights, script.make_data()) == pytest.approx(
        objective.best_loss
    )


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_seed_alone_decides_the_result(script: ModuleType, optimizer: str) -> None:
    first, again, other = (
        script.optimize(script.Hyperparameters(optimizer=optimizer, max_iterations=3, seed=seed))
        for seed in (4, 4, 5)
    )

    assert first.by_evaluation == again.by_evaluation
    assert first.best_loss != other.best_loss


@pytest.mark.parametrize(
    ("optimizer", "evaluations"), [("adam", 4), ("pso", 3 * 40), ("cmaes", 3 * 10)]
)
def test_what_three_iterations_cost(script: ModuleType, optimizer: str, evaluations: int) -> None:
    hp = script.Hyperparameters(optimizer=optimizer, max_iterations=3)

    assert script.optimize(hp).evaluations == evaluations


def test_annealing_is_scipys_own_in_spite_of_the_counting(script: ModuleType) -> None:
    x = script.make_data()

    objective = script.optimize(script.Hyperparameters(optimizer="annealing", max_iterations=4))

    plain = dual_annealing(
        lambda weights: float(script.loss(weights, x)),
        [(-1, 1)] * 10,
        maxiter=4,
        initial_temp=1.0,
        x0=script.make_start(0),
        rng=0,
    )
    assert objective.best_loss == pytest.approx(plain.fun, rel=1e-9)
    assert objective.evaluations == plain.nfev
    assert len(objective.by_iteration) == plain.nit == 4


def test_bounded_optimisers_stay_within_their_bounds(script: ModuleType) -> None:
    for optimizer in ("pso", "annealing"):
        hp = script.Hyperparameters(optimizer=optimizer, max_iterations=10)
        assert np.abs(script.optimize(hp).best_weights).max() <= 1.0


def test_an_optimiser_that_there_is_not_is_named(script: ModuleType) -> None:
    with pytest.raises(ValueError, match="not 'adamw'"):
        script.optimize(script.Hyperparameters(optimizer="adamw"))


# --- the script ---------------------------------------------------------------------------------


def reported(folder: Path, name: str) -> list[tuple[int, float]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    points = [MetricPoint.from_json(line) for line in lines]
    return [(point.step, point.value) for point in points if point.name == name]


def test_it_runs_alone_with_its_defaults(
    run_python: RunPython, images: Path, tmp_path: Path
) -> None:
    done = run_python(tmp_path, images / "weights/train.py")

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("finished: loss=36.87")


def test_inside_a_study_both_curves_are_reported_and_kept_and_no_other_file_is_left(
    run_python: RunPython, images: Path, make_trial: MakeTrial, tmp_path: Path
) -> None:
    trial = make_trial(tmp_path, {"optimizer": "pso", "max_iterations": 8}, "loss")

    done = run_python(tmp_path, images / "weights/train.py", trial=trial)

    assert done.returncode == 0, done.stderr
    outcome = Outcome.from_json((tmp_path / "outcome.json").read_text())
    assert outcome.cause is Cause.OK
    assert outcome.metrics["evaluations"] == 320
    assert outcome.metrics["log10_loss"] == pytest.approx(math.log10(outcome.metrics["loss"]))
    by_iteration = reported(tmp_path, "loss")
    assert [step for step, _ in by_iteration] == [1, 2, 3, 4, 5, 6, 7, 8]
    by_evaluation = reported(tmp_path, "loss_by_evaluation")
    assert by_evaluation[-1] == (320, by_iteration[-1][1])
    with (tmp_path / "artifacts/curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(int(r["evaluations"]), float(r["loss"])) for r in rows} >= set(by_evaluation)
    # pyswarms would write a log into the working folder, which pods cannot.
    assert not list(tmp_path.glob("*.log"))


def test_several_starts_end_with_their_geometric_mean(
    run_python: RunPython, images: Path, make_trial: MakeTrial, tmp_path: Path
) -> None:
    params = {"optimizer": "cmaes", "n_starts": 3, "max_evaluations": 40}
    trial = make_trial(tmp_path, params, "log10_loss")

    done = run_python(tmp_path, images / "weights/train.py", trial=trial)

    assert done.returncode == 0, done.stderr
    outcome = Outcome.from_json((tmp_path / "outcome.json").read_text())
    each = [value for _, value in reported(tmp_path, "log10_loss")]
    assert len(each) == 3
    assert outcome.metrics["log10_loss"] == pytest.approx(sum(each) / 3)
    assert outcome.metrics["worst_log10_loss"] == max(each)
    assert outcome.metrics["evaluations"] == 120


# --- the study files ----------------------------------------------------------------------------


def test_the_study_is_a_grid_of_optimisers_and_seeds(images: Path, script: ModuleType) -> None:
    spec = StudySpec.from_yaml(images / "weights/study.yaml")

    optimizer = spec.search_space["optimizer"]
    assert optimizer.type == "categorical"
    assert list(optimizer.choices) == OPTIMIZERS == list(script.OPTIMIZERS)
    assert spec.sampler.type == "grid"
    assert spec.budget.n_trials == 50
    assert spec.fixed == {"max_iterations": 100}


def test_the_settings_study_searches_what_the_script_takes_and_begins_with_its_defaults(
    images: Path, script: ModuleType
) -> None:
    spec = StudySpec.from_yaml(images / "weights/study-settings.yaml")
    defaults = {f.name: f.default for f in fields(script.Hyperparameters)}
    own = {name for name in defaults if name.startswith(tuple(f"{o}_" for o in OPTIMIZERS))}

    assert set(spec.search_space) == {"optimizer", *own}
    assert all(
        parameter.conditions == {"optimizer": (name.split("_")[0],)}
        for name, parameter in spec.search_space.items()
        if name in own
    )
    assert [point["optimizer"] for point in spec.enqueue] == OPTIMIZERS
    for point in spec.enqueue:
        assert all(defaults[n] == value for n, value in point.items() if n != "optimizer")
    assert {n for point in spec.enqueue for n in point} == {"optimizer", *own}
    assert spec.metrics == ("log10_loss",)


# --- the picture --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compare(load_script: LoadScript) -> ModuleType:
    return load_script("weights", "compare.py")


def test_a_curve_keeps_its_loss_until_the_next_point(compare: ModuleType) -> None:
    curve = [(2, 8.0), (5, 3.0)]

    assert [compare.loss_at(curve, step) for step in (1, 2, 4, 5, 9)] == [math.inf, 8, 8, 3, 3]


def test_the_median_begins_where_every_second_curve_has_begun(compare: ModuleType) -> None:
    assert compare.median_curve([[(1, 5.0), (3, 1.0)], [(2, 7.0)], [(1, 6.0)]]) == (
        [1, 2, 3],
        [6.0, 6.0, 6.0],
    )


def test_the_picture_is_a_png(compare: ModuleType) -> None:
    curves = {name: [[(1, 1e5), (90, 3.0)], [(1, 2e5), (50, 8.0)]] for name in OPTIMIZERS}

    assert compare.draw(curves, curves).startswith(b"\x89PNG")


def test_no_median_is_told_of_runs_that_had_ended(compare: ModuleType) -> None:
    curves = [[(1, 9.0), (120, 2.0)], [(1, 8.0), (100, 4.0)], [(1, 7.0), (90, 3.0), (110, 3.0)]]

    assert compare.median_at(curves, 100) == "4"
    assert compare.median_at(curves, 101) == "-"


def finished(number: int, metrics: dict[str, float], **params: float | str) -> TrialRecord:
    return TrialRecord(number, TrialState.COMPLETE, params, metrics=metrics, run_id=f"run-{number}")


def test_compare_draws_what_the_tracker_has_and_attaches_it(
    compare: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [
        finished(0, {"loss": 3.0, "evaluations": 101.0}, optimizer="adam"),
        finished(1, {"loss": 1.0, "evaluations": 900.0}, optimizer="cmaes"),
        TrialRecord(2, TrialState.FAILED, {"optimizer": "pso"}),
    ]
    tracker = SimpleNamespace(
        uri="memory", read_points=lambda record, metric: [MetricPoint(metric, 1, 9.0, 0)]
    )
    attached = []
    monkeypatch.setenv("STUDYFLOW_HOME", str(tmp_path))
    monkeypatch.setattr(compare, "find_study", lambda name, storage: None)
    monkeypatch.setattr(compare, "load_records", lambda study: (SimpleNamespace(), records))
    monkeypatch.setattr(
        compare, "StudyContext", lambda spec, settings: SimpleNamespace(tracker=tracker)
    )
    monkeypatch.setattr(compare, "attach", lambda *arguments: attached.append(arguments))
    picture = tmp_path / "curves.png"

    done = CliRunner().invoke(compare.main, ["--output", str(picture)], catch_exceptions=False)

    assert done.exit_code == 0, done.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert attached == [("memory", "run-0", picture)]
    assert [line.split()[:2] for line in done.output.splitlines()[1:3]] == [
        ["adam", "3"],
        ["cmaes", "1"],
    ]


def test_confirm_tries_defaults_and_the_best_settings_on_new_starting_points(
    load_script: LoadScript, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    confirm = load_script("weights", "confirm.py")
    own: dict[str, Any] = {"optimizer": "cmaes", "n_starts": 10, "max_evaluations": 60}
    records = [
        finished(0, {"log10_loss": 2.0, "loss": 100.0}, cmaes_sigma=0.9, **own),
        finished(1, {"log10_loss": 1.0, "loss": 10.0}, cmaes_sigma=0.2, **own),
    ]
    monkeypatch.setenv("STUDYFLOW_HOME", str(tmp_path))
    monkeypatch.setattr(confirm, "find_study", lambda name, storage: None)
    monkeypatch.setattr(confirm, "load_records", lambda study: (None, records))

    done = CliRunner().invoke(confirm.main, ["--starts", "2"], catch_exceptions=False)

    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[1].split()[:3] == ["cmaes", "2", "10"]
    assert done.output.splitlines()[2] == "    cmaes_sigma: 0.2"

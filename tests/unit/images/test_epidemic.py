from __future__ import annotations

import csv
import importlib
import math
import random
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from studyflow.spec import StudySpec
from studyflow.trial import Cause, Outcome

from .conftest import LoadScript, MakeTrial, RunPython


@pytest.fixture(scope="module", autouse=True)
def one_torch_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def script(load_script: LoadScript) -> ModuleType:
    return load_script("epidemic")


@pytest.fixture(scope="module")
def scripts(images: Path) -> Iterator[SimpleNamespace]:
    """The example's other scripts, which import each other as they do when they are started."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(images / "epidemic")
        names = ("make_data", "gradients", "multistart", "recover")
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})


def truth(scripts: SimpleNamespace) -> list[float]:
    return list(scripts.make_data.TRUTH.values())


# --- the model ----------------------------------------------------------------------------------


def test_transmission_goes_from_r0_to_r_end_and_is_half_way_at_the_midpoint(
    script: ModuleType,
) -> None:
    parameters = [3.0, 0.02, 4.0, 20.0, 1.0, 10.0, 5.0]

    assert script.transmission(0.0, parameters) == pytest.approx(0.3)
    assert script.transmission(20.0, parameters) == pytest.approx(0.2)
    assert script.transmission(1e4, parameters) == pytest.approx(0.1)


def test_the_course_is_that_of_an_adaptive_solver(
    script: ModuleType, scripts: SimpleNamespace
) -> None:
    parameters = truth(scripts)
    _, fatality, _, _, _, recovery, incubation = parameters

    def slope(day: float, state: list[float]) -> list[float]:
        susceptible, exposed, infected, _, _ = state
        infections = script.transmission(day, parameters) * infected * susceptible / 1e7
        ends = infected / recovery
        return [
            -infections,
            infections - exposed / incubation,
            exposed / incubation - ends,
            (1 - fatality) * ends,
            fatality * ends,
        ]

    days = np.arange(60.0)
    exact = solve_ivp(
        slope, (0, 59), [1e7 - 400, 200, 200, 0, 0], t_eval=days, rtol=1e-10, atol=1e-8
    ).y

    course = script.simulate(parameters, 60)

    assert course.cases == pytest.approx(exact[2:].sum(axis=0), rel=1e-4)
    assert course.deaths == pytest.approx(exact[4], rel=1e-4)


def test_the_newest_of_the_last_days_counts_most_and_earlier_ones_not_at_all(
    script: ModuleType, scripts: SimpleNamespace
) -> None:
    parameters = truth(scripts)
    course = script.simulate(parameters, 60)
    total = sum(1 / i for i in range(1, 21))

    def loss_with(day: int) -> float:
        cases = list(course.cases)
        cases[day] = (1 + cases[day]) * math.e - 1  # an error of 1 in the logarithm
        return float(script.loss(parameters, script.Course(cases, course.deaths)))

    assert script.loss(parameters, course) == 0.0
    assert loss_with(-1) == pytest.approx(1 / total / 2)
    assert loss_with(-20) == pytest.approx(1 / 20 / total / 2)
    assert loss_with(-21) == 0.0


@pytest.mark.parametrize("side", [0, 1])
def test_loss_and_gradient_are_finite_at_every_corner_of_the_bounds(
    scripts: SimpleNamespace, side: int
) -> None:
    data = scripts.gradients.model.load_data()
    corner = np.array([bounds[side] for bounds in scripts.gradients.BOUNDS])

    value, gradient = scripts.gradients.CountedLoss(data).with_gradient(corner)

    assert math.isfinite(value)
    assert np.isfinite(gradient).all()


# --- the data -----------------------------------------------------------------------------------


def test_the_data_that_are_shipped_are_those_that_the_generator_makes(
    script: ModuleType, scripts: SimpleNamespace, images: Path
) -> None:
    make_data = scripts.make_data
    course = script.simulate(truth(scripts), 60)
    rng = random.Random(0)
    cases, deaths = make_data.report(course.cases, rng), make_data.report(course.deaths, rng)

    with (images / "epidemic/cases.csv").open() as file:
        rows = list(csv.DictReader(file))

    assert [int(row["cases"]) for row in rows] == cases
    assert [int(row["deaths"]) for row in rows] == deaths
    assert cases[-1] == 34058
    assert deaths[-1] == 737


def test_reports_are_whole_never_fall_and_are_right_on_average(scripts: SimpleNamespace) -> None:
    numbers = [1000.0 * day for day in range(400)]

    reported = scripts.make_data.report(numbers, random.Random(1))

    assert reported == sorted(reported)
    assert reported[-1] == pytest.approx(numbers[-1], rel=0.02)
    assert np.std(np.diff(reported)) == pytest.approx(100, rel=0.1)


# --- gradients ----------------------------------------------------------------------------------

ERRORS = {"None": 1e-5, "2-point": 1e-5, "3-point": 1e-6, "cs": 1e-11, "autograd": 1e-13}


@pytest.mark.parametrize("method", ERRORS)
def test_a_gradient_is_as_exact_as_its_method(scripts: SimpleNamespace, method: str) -> None:
    gradients = scripts.gradients
    data = gradients.model.load_data()
    exact = gradients.exact_gradient(data, gradients.START)

    found = gradients.gradient(data, gradients.START, method)

    assert gradients.relative_error(found, exact) < ERRORS[method]


@pytest.mark.parametrize(
    ("method", "evaluations"), [("2-point", 8), ("3-point", 15), ("cs", 8), ("autograd", 1)]
)
def test_what_a_gradient_costs(scripts: SimpleNamespace, method: str, evaluations: int) -> None:
    gradients = scripts.gradients
    loss = gradients.CountedLoss(gradients.model.load_data())

    gradients.fit(loss, gradients.START, method, {"gtol": 1e12})

    assert loss.evaluations == evaluations


def test_the_fit_goes_on_to_the_optimum(scripts: SimpleNamespace) -> None:
    gradients = scripts.gradients
    loss = gradients.CountedLoss(gradients.model.load_data())

    result = gradients.fit(loss, gradients.START, "cs")

    assert result.fun < 5e-5


# --- equal evaluations, and what is recovered ---------------------------------------------------


@pytest.mark.parametrize("scaled", [False, True])
def test_multistart_spends_its_evaluations_and_no_more(
    scripts: SimpleNamespace, scaled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    multistart = scripts.multistart
    spent = []

    class Watched(multistart.BudgetedLoss):  # type: ignore[name-defined, misc]
        def __call__(self, x: np.ndarray) -> float:
            value = super().__call__(x)
            spent.append(value)
            return float(value)

    monkeypatch.setattr(multistart, "BudgetedLoss", Watched)
    rng = np.random.default_rng(0)
    data = scripts.gradients.model.load_data()

    best, starts = multistart.multistart(
        data, 30, "2-point", lambda: multistart.random_start(rng), scaled=scaled
    )

    assert len(spent) == 30
    assert best == min(spent)
    assert starts >= 1


def test_a_fit_to_data_without_noise_finds_their_curve(scripts: SimpleNamespace) -> None:
    recover = scripts.recover
    data = scripts.gradients.model.simulate(truth(scripts), 60)

    value, fitted = recover.best_fit(data, np.random.default_rng(1), 2)

    assert value < 1e-5
    assert len(fitted) == 7


def test_redraws_differ_by_their_seed_alone(scripts: SimpleNamespace) -> None:
    parameters = np.array(truth(scripts))
    redraw = scripts.recover.redraw

    assert redraw(parameters, 3) == redraw(parameters, 3)
    assert redraw(parameters, 3) != redraw(parameters, 4)


def test_the_picture_is_a_png(scripts: SimpleNamespace) -> None:
    recover = scripts.recover
    fitted = np.array(truth(scripts))
    redrawn = np.stack([fitted, 0.9 * fitted, 0.95 * fitted])

    picture = recover.draw(scripts.gradients.model.load_data(), fitted, redrawn)

    assert picture.startswith(b"\x89PNG")


# --- the script and the study -------------------------------------------------------------------


def test_it_runs_alone_from_the_usual_start(
    run_python: RunPython, images: Path, tmp_path: Path
) -> None:
    done = run_python(tmp_path, images / "epidemic/train.py")

    assert done.returncode == 0, done.stderr
    assert done.stdout == "finished: loss=5.00643 log10_loss=0.699528\n"


def test_inside_a_study_it_finishes_with_the_loss_of_its_point(
    run_python: RunPython,
    images: Path,
    make_trial: MakeTrial,
    tmp_path: Path,
    scripts: SimpleNamespace,
) -> None:
    trial = make_trial(tmp_path, scripts.make_data.TRUTH, "log10_loss")

    done = run_python(tmp_path, images / "epidemic/train.py", trial=trial)

    assert done.returncode == 0, done.stderr
    outcome = Outcome.from_json((tmp_path / "outcome.json").read_text())
    assert outcome.cause is Cause.OK
    assert outcome.metrics["loss"] == pytest.approx(1.525e-4, rel=1e-3)
    assert outcome.metrics["log10_loss"] == pytest.approx(math.log10(outcome.metrics["loss"]))


def test_the_study_searches_the_bounds_and_begins_where_fits_begin(
    images: Path, script: ModuleType
) -> None:
    spec = StudySpec.from_yaml(images / "epidemic/study.yaml")

    assert {
        name: (p.low, p.high) for name, p in spec.search_space.items() if p.type == "float"
    } == script.BOUNDS
    assert dict(spec.enqueue[0]) == asdict(script.Parameters())
    assert spec.metrics == ("log10_loss",)
    assert spec.sampler.type == "botorch"

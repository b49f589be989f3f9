"""The model of learning curves: gradient, posterior, what changes it and what does not."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import check_grad
from tests.unit.samplers.curves.studies import GROUPS, power_law, some_hyperparameters, study

from studyflow.samplers.arrays import FloatArray, IntArray
from studyflow.samplers.curves.fitting import CurveLogPosterior, representative_rows
from studyflow.samplers.curves.forecast import forecast
from studyflow.samplers.curves.kernel import Rows
from studyflow.samplers.curves.model import MAX_ROWS, CurveModel, model_of, new_trials
from studyflow.samplers.curves.reports import LearningCurves, read_curves

NAN = math.nan
Point = tuple[FloatArray, float, int]
"""Parameters, progress and trial."""

pytestmark = pytest.mark.usefixtures("one_thread")


def fitted(curves: LearningCurves, *, fit: bool = True) -> CurveModel:
    model = model_of(curves, theta=None if fit else some_hyperparameters())
    assert model is not None
    return model


def test_the_gradient_of_the_log_posterior_is_that_of_finite_differences() -> None:
    model = fitted(study(), fit=False)
    objective = CurveLogPosterior(model.rows, model.targets, GROUPS)
    vector = some_hyperparameters().to_vector()

    error = check_grad(lambda v: objective(v)[0], lambda v: objective(v)[1], vector)

    assert error < 1e-4 * float(np.linalg.norm(objective(vector)[1]))


def plain_covariance(one: Point, two: Point) -> float:
    """Return the covariance of two points of curves, as kernel.py states it, entry by entry."""
    theta = some_hyperparameters()
    (x, u, trial), (y, v, other) = one, two
    lengthscales = [0.6, 1.3, 1.3]

    def matern(r: float) -> float:
        s = math.sqrt(5.0) * r
        return (1.0 + s + s * s / 3.0) * math.exp(-s)

    k_x = matern(
        math.sqrt(sum(((a - b) / s) ** 2 for a, b, s in zip(x, y, lengthscales, strict=True)))
    )
    k_u = matern(abs(u - v) / theta.time)
    h = math.exp(theta.eta * (u - 1.0)) * math.exp(theta.eta * (v - 1.0))
    value = theta.final * k_x * h + (theta.common + theta.own * k_x) * k_u
    if one is two or (trial == other and trial >= 0):
        value += theta.offset * h + theta.walk * min(1.0 - u, 1.0 - v)
    return value


def test_the_posterior_is_that_of_the_covariance_written_out() -> None:
    model = fitted(study(), fit=False)
    at = Rows(
        np.concatenate([model.curves.features[5:7], [[0.1, 0.9, 0.4]]]),
        np.array([1.0, 0.7, 1.0]),
        np.array([5, 6, -1]),
    )

    def points(rows: Rows) -> list[Point]:
        return [
            (rows.features[i], float(rows.progress[i]), int(rows.trials[i]))
            for i in range(len(rows))
        ]

    noise = some_hyperparameters().noise
    seen, new = points(model.rows), points(at)
    k = np.array([[plain_covariance(a, b) for b in seen] for a in seen]) + noise * np.eye(len(seen))
    cross = np.array([[plain_covariance(a, b) for b in new] for a in seen])
    prior = np.array([[plain_covariance(a, b) for b in new] for a in new])
    inverse = np.linalg.inv(k)
    ones = np.ones(len(seen))
    centre = ones @ inverse @ model.targets / (ones @ inverse @ ones)
    expected_mean = centre + cross.T @ inverse @ (model.targets - centre)
    expected = (prior - cross.T @ inverse @ cross + noise * np.eye(3)) * (1.0 + 1.5 / 4)

    mean, variance = model.posterior(at)
    joint_mean, joint = model.joint_posterior(at)

    np.testing.assert_allclose(mean, expected_mean, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(variance, np.diag(expected), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(joint_mean, expected_mean, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(joint, expected, rtol=1e-6, atol=1e-8)


def test_a_curve_tells_more_of_its_end_than_its_parameters_do() -> None:
    curves = study(20, n_ended=5)
    model = fitted(curves)
    ahead = forecast(model)
    truth = np.array([curves.scale.target(-power_law(x[0], 27)) for x in curves.features])

    _, unseen = model.posterior(new_trials(curves.features[ahead.trials]))

    assert (np.abs(truth[ahead.trials] - ahead.mean) < 3.0 * ahead.deviation).all()
    long = curves.reached[ahead.trials] >= 5
    assert (ahead.deviation[long] < np.sqrt(unseen[long])).all()


@pytest.mark.parametrize("unit", [1e-9, -1e9])
def test_forecasts_have_the_unit_of_the_objective(unit: float) -> None:
    plain, scaled = forecast(fitted(study())), forecast(fitted(study(unit=unit, zero=5.0 * unit)))

    np.testing.assert_allclose(
        scaled.quantile(0.05), abs(unit) * (plain.quantile(0.05) - 5.0), rtol=1e-3
    )


def test_the_order_of_trials_changes_no_forecast() -> None:
    curves = study()
    order = np.random.default_rng(1).permutation(12)

    def reordered(rows: IntArray) -> LearningCurves:
        return LearningCurves(
            curves.features[rows],
            GROUPS,
            27,
            curves.values[rows],
            curves.finals[rows],
            curves.reached[rows],
            curves.broken[rows],
            curves.ended[rows],
        )

    plain, mixed = forecast(fitted(curves)), forecast(fitted(reordered(order)))

    back = np.argsort(order[mixed.trials])
    np.testing.assert_allclose(mixed.mean[back], plain.mean, atol=1e-3)
    np.testing.assert_allclose(mixed.deviation[back], plain.deviation, rtol=1e-2)


@pytest.mark.parametrize("n_ended", [0, 1, 2])
def test_no_curve_goes_by_the_model_before_three_trials_have_gone_to_their_end(
    n_ended: int,
) -> None:
    assert model_of(study(n_ended=n_ended)) is None


STUDIES: dict[str, tuple[list[dict[int, float]], list[float | None], int]] = {
    "nothing": ([], [], 9),
    "one trial": ([{1: 1.0}], [None], 9),
    "all identical": ([{1: 1.0, 9: 0.5}] * 5 + [{1: 1.0}], [0.5] * 5 + [None], 9),
    "constant curves": (
        [{s: float(i) for s in range(1, 10)} for i in range(4)] + [{1: 2.0}],
        [0.0, 1.0, 2.0, 3.0, None],
        9,
    ),
    "NaN reports": (
        [{1: NAN, 2: 1.0, 9: 0.3 * i} for i in range(4)] + [{1: NAN}, {1: 1.0, 2: NAN}],
        [0.0, 0.3, 0.6, 0.9, None, None],
        9,
    ),
    "one step": ([{1: 1.0}, {1: 2.0}, {1: 3.0}, {1: 1.5}, {}], [1.0, 2.0, 3.0, None, None], 1),
    "results without reports": ([{}] * 4 + [{3: 1.0}], [1.0, 2.0, 3.0, 4.0, None], 9),
    "huge": ([{1: 1e99}, {1: -1e99}, {1: 1e-300}, {1: 5.0}], [1e99, -1e99, 0.0, None], 9),
    "all lost": ([{1: NAN}] * 4, [NAN, math.inf, -math.inf, 1e300], 9),
    "steps beyond the last": ([{99: 1.0}] * 4, [1.0, 2.0, 3.0, None], 9),
}


@pytest.mark.parametrize("name", STUDIES)
def test_no_data_make_it_raise(name: str) -> None:
    reports, finals, steps = STUDIES[name]
    features = np.tile([0.2, 0.5, 0.5], (len(reports), 1))

    curves = read_curves(features, GROUPS, reports, finals, steps=steps, maximize=False)
    model = model_of(curves)

    if model is not None:
        ahead = forecast(model)
        assert np.isfinite(ahead.mean).all()
        assert np.isfinite(ahead.deviation).all()
        assert not np.isnan(ahead.quantile(0.95)).any()


def test_trials_that_were_lost_make_the_lower_end_of_an_interval_open() -> None:
    curves = study(20, n_ended=5)
    broken = curves.broken.copy()
    broken[[6, 7, 8, 9]] = True

    ahead = forecast(fitted(replace(curves, broken=broken)))

    assert not set(ahead.trials.tolist()) & {6, 7, 8, 9}
    assert np.isneginf(ahead.quantile(0.05)).any()
    assert np.isfinite(ahead.quantile(0.9)).all()


def test_the_model_holds_a_bounded_number_of_points_and_every_result() -> None:
    n = 200
    features = np.random.default_rng(0).random((n, 3))
    reports = [{s: power_law(x[0], s) for s in range(1, 51)} for x in features]
    finals = [power_law(x[0], 50) for x in features]
    curves = read_curves(features, GROUPS, reports, finals, steps=50, maximize=False)

    model = fitted(curves, fit=False)

    assert len(model.rows) <= MAX_ROWS
    assert set(model.rows.trials[model.rows.progress == 1.0].tolist()) == set(range(n))


def test_hyperparameters_are_learnt_from_whole_curves_short_ones_among_them() -> None:
    trials = np.repeat(np.arange(60), [9] * 20 + [2] * 40)
    rows = Rows(np.zeros((len(trials), 1)), np.zeros(len(trials)), trials)

    chosen = trials[representative_rows(rows, 100)]

    assert len(chosen) <= 100
    _, counts = np.unique(chosen, return_counts=True)
    assert set(counts.tolist()) == {2, 9}

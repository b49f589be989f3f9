"""What docs/gp-fits-that-fail.md says: how stock BoTorch fails on such data, and ours does not.

Each test of a cause first fits a `SingleTaskGP` the way people write it and shows the damage, then
asks `BoTorchSampler` for a suggestion from the same data.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import optuna
import pytest
import torch
from botorch.exceptions.errors import InputDataError, ModelFittingError
from botorch.exceptions.warnings import InputDataWarning
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from gpytorch.constraints import Interval
from gpytorch.kernels import MaternKernel, RBFKernel, ScaleKernel
from gpytorch.likelihoods import GaussianLikelihood
from gpytorch.mlls import ExactMarginalLogLikelihood
from linear_operator.utils.errors import NotPSDError
from linear_operator.utils.warnings import NumericalWarning
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from studyflow.samplers.botorch import BoTorchSampler
from studyflow.samplers.explanation import Suggestion, explanation_of
from studyflow.samplers.models.fitting import fit
from studyflow.samplers.models.gaussian_process import GaussianProcess, TrainingData, merge_repeats
from studyflow.samplers.outcome_transforms import TransformedObjective, transform_objective

pytestmark = pytest.mark.usefixtures("one_thread")

optuna.logging.set_verbosity(optuna.logging.ERROR)

FloatArray = NDArray[np.float64]

PAGE: Final = Path(__file__).parents[3] / "docs" / "gp-fits-that-fail.md"
UNIT: Final[Mapping[str, BaseDistribution]] = {
    "x0": FloatDistribution(0.0, 1.0),
    "x1": FloatDistribution(0.0, 1.0),
}
OPTIMUM: Final = 0.4
SPREAD: Final = 0.144
"""Standard deviation of `bowl` over the unit square."""

_GENERATOR: Final = np.random.default_rng(0)
X: Final[FloatArray] = _GENERATOR.random((20, 2))
ELSEWHERE: Final[FloatArray] = _GENERATOR.random((200, 2))
"""Points that no model has seen."""
NOISE: Final[FloatArray] = _GENERATOR.standard_normal(60)


def bowl(points: FloatArray) -> FloatArray:
    """Largest, with 0, at (0.4, 0.4)."""
    return np.asarray(-((points - OPTIMUM) ** 2).sum(axis=-1))


def closing_in() -> FloatArray:
    """A run that converges: the 20 points, and 40 ever nearer to the optimum, down to 3e-10."""
    radius = 0.3 * 10.0 ** -np.linspace(0.0, 9.0, 40)
    angle = 2.4 * np.arange(40)
    around = OPTIMUM + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return np.concatenate([X, around])


@dataclass(frozen=True)
class Fitted:
    model: SingleTaskGP
    warned: frozenset[type[Warning]]

    @property
    def lengthscales(self) -> list[float]:
        kernel = self.model.covar_module
        kernel = getattr(kernel, "base_kernel", kernel)
        return [float(v) for v in kernel.lengthscale.detach().flatten()]

    @property
    def noise(self) -> float:
        return float(self.model.likelihood.noise.detach().flatten()[0])

    def predict(self, points: FloatArray) -> tuple[FloatArray, FloatArray]:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            posterior = self.model.eval().posterior(
                torch.as_tensor(points, dtype=self.model.train_inputs[0].dtype)
            )
            mean, variance = posterior.mean.double(), posterior.variance.double()
        return mean.flatten().numpy(), variance.flatten().sqrt().numpy()

    def explained(self, points: FloatArray, truth: FloatArray) -> float:
        return r_squared(self.predict(points)[0], truth)


def stock(
    points: FloatArray,
    values: FloatArray,
    *,
    dtype: torch.dtype = torch.double,
    prepare: Callable[[SingleTaskGP], object] = lambda model: None,
    **options: Any,
) -> Fitted:
    """Fit as BoTorch's own examples do, and note its warnings."""
    torch.manual_seed(0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = SingleTaskGP(
            torch.as_tensor(points, dtype=dtype),
            torch.as_tensor(values, dtype=dtype).unsqueeze(-1),
            **options,
        )
        prepare(model)
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    return Fitted(model, frozenset(entry.category for entry in caught))


def noise_within(low: float, high: float) -> GaussianLikelihood:
    return GaussianLikelihood(noise_constraint=Interval(low, high))


def r_squared(predicted: FloatArray, truth: FloatArray) -> float:
    return 1.0 - float(((predicted - truth) ** 2).sum() / ((truth - truth.mean()) ** 2).sum())


def ours(points: FloatArray, values: FloatArray) -> tuple[GaussianProcess, TransformedObjective]:
    """Our model of points in the unit square, to be looked at where no trial was."""
    outcome = transform_objective(values, maximize=True)
    groups = np.arange(points.shape[1])
    data = TrainingData(points, outcome.targets, groups, np.ones(len(points)))
    return fit(merge_repeats(data)[0]), outcome


def our_explained(points: FloatArray, values: FloatArray, truth: FloatArray) -> float:
    model, outcome = ours(points, values)
    mean, variance = model.posterior(ELSEWHERE)
    predicted = map(outcome.to_objective_units, mean.tolist(), np.sqrt(variance).tolist())
    return r_squared(np.array([value for value, _ in predicted]), truth)


def left_out_explained(points: FloatArray, values: FloatArray) -> float:
    """How well our model predicts each trial from the others."""
    model, _ = ours(points, values)
    mean, _ = model.leave_one_out()
    return r_squared(mean, model.data.targets)


def suggest(
    points: FloatArray,
    values: Sequence[float] | FloatArray,
    space: Mapping[str, BaseDistribution] = UNIT,
) -> tuple[dict[str, Any], Suggestion]:
    """Return what the sampler suggests after these trials, and its explanation.

    A NaN is a trial that failed by its parameters, as studyflow records it.
    """
    study = optuna.create_study(direction="maximize", sampler=BoTorchSampler(seed=0))
    for point, value in zip(points, values, strict=True):
        params = dict(zip(space, map(float, point), strict=True))
        is_nan = math.isnan(value)
        study.add_trial(
            create_trial(
                params=params,
                distributions=dict(space),
                value=None if is_nan else float(value),
                state=TrialState.FAIL if is_nan else TrialState.COMPLETE,
                user_attrs={"cause": "nan"} if is_nan else {},
            )
        )
    trial = study.ask(dict(space))
    explanation = explanation_of(study.get_trials()[-1])
    assert explanation is not None
    return dict(trial.params), explanation


def assert_sound(
    params: Mapping[str, Any],
    suggestion: Suggestion,
    space: Mapping[str, BaseDistribution] = UNIT,
) -> None:
    """The model itself gave the suggestion, inside the bounds, with a usable prediction."""
    assert suggestion.level == "model"
    assert suggestion.reason is None
    for name, distribution in space.items():
        assert isinstance(distribution, FloatDistribution)
        assert distribution.low <= params[name] <= distribution.high
    (model,) = suggestion.objectives
    assert math.isfinite(model.predicted_mean)
    assert 0.0 < model.predicted_sd < math.inf


def assert_goes_on_well(
    points: FloatArray,
    values: FloatArray,
    *,
    low: FloatArray | float = 0.0,
    scale: FloatArray | float = 1.0,
    unit: float = 1.0,
    shift: float = 0.0,
) -> Suggestion:
    """Five more trials are sound, and the best of them is better than 90 % of the space.

    One suggestion may explore; five from a model that has collapsed would not find the optimum.

    Args:
        points: Trials so far, in the unit square.
        values: Their values as reported.
        low: Where the parameters' ranges begin.
        scale: How long they are.
        unit: What the objective is multiplied with.
        shift: What is then added.

    Returns:
        The explanation of the first.
    """
    lows, widths = np.broadcast_to(low, 2), np.broadcast_to(scale, 2)
    space = {f"x{i}": FloatDistribution(lows[i], lows[i] + widths[i]) for i in range(2)}
    found, first = [], None
    for _ in range(5):
        params, suggestion = suggest(lows + points * widths, values, space)
        assert_sound(params, suggestion, space)
        first = first or suggestion
        point = (np.array(list(params.values())) - lows) / widths
        points = np.concatenate([points, point[None]])
        found.append(float(bowl(point)))
        values = np.append(values, shift + unit * found[-1])
    assert float((bowl(ELSEWHERE) < max(found)).mean()) > 0.9
    assert first is not None
    return first


def test_near_duplicates() -> None:
    points = closing_in()
    values = bowl(points) + 0.01 * NOISE

    with pytest.raises(ModelFittingError, match="All attempts to fit the model have failed"):
        stock(
            points,
            values,
            likelihood=noise_within(1e-8, 1e-7),
            covar_module=ScaleKernel(RBFKernel(ard_num_dims=2)),
        )
    assert stock(points, values).explained(ELSEWHERE, bowl(ELSEWHERE)) > 0.9, "the cure"

    assert_goes_on_well(points, values)
    assert left_out_explained(points, values) > 0.6
    assert our_explained(points, values, bowl(ELSEWHERE)) > 0.7


def test_inputs_badly_scaled() -> None:
    scale, low = np.array([1e6, 1e-4]), np.array([0.0, 1e-5])

    fitted = stock(low + X * scale, bowl(X))
    assert InputDataWarning in fitted.warned
    assert fitted.explained(low + ELSEWHERE * scale, bowl(ELSEWHERE)) < 0.05
    assert stock(X, bowl(X)).explained(ELSEWHERE, bowl(ELSEWHERE)) > 0.9

    assert_goes_on_well(X, bowl(X), low=low, scale=scale)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_outputs_badly_scaled(scale: float) -> None:
    values, truth = scale * bowl(X), scale * bowl(ELSEWHERE)

    fitted = stock(X, values, outcome_transform=None)
    error = np.abs(fitted.predict(ELSEWHERE)[0] - truth)
    claimed = fitted.predict(ELSEWHERE)[1]
    assert InputDataWarning in fitted.warned
    assert fitted.explained(ELSEWHERE, truth) < 0.5
    ratio = float(np.median(claimed / error))
    assert ratio > 1e6 or ratio < 1e-6

    assert_goes_on_well(X, values, unit=scale)
    assert our_explained(X, values, truth) > 0.9
    model, outcome = ours(X, values)
    sd = outcome.scale * np.sqrt(model.posterior(ELSEWHERE)[1])
    assert 1e-4 * scale < float(np.median(sd)) < SPREAD * scale


def test_tiny_values_defeat_the_standardisation_too() -> None:
    values, truth = 1e-12 * bowl(X), 1e-12 * bowl(ELSEWHERE)

    fitted = stock(X, values)
    assert float(np.median(fitted.predict(ELSEWHERE)[1])) > 1e9 * SPREAD * 1e-12
    assert fitted.explained(ELSEWHERE, truth) < 0.5

    assert our_explained(X, values, truth) > 0.9


def test_huge_outliers() -> None:
    # A region where training diverges, as a learning rate that is too high.
    values = bowl(X)
    far = X[:, 0] > 0.8
    values[far] = -1e4 * (1.0 + X[far, 1])
    among = ELSEWHERE[ELSEWHERE[:, 0] < 0.7]

    fitted = stock(X, values)
    error = fitted.predict(among)[0] - bowl(among)
    assert float(np.sqrt((error**2).mean())) > 100 * SPREAD
    assert float(np.median(fitted.predict(among)[1])) > 100 * SPREAD

    (model,) = assert_goes_on_well(X, values).objectives
    assert model.warp == "half-rank"
    assert abs(model.predicted_mean) < 3 * SPREAD
    assert model.predicted_sd < 3 * SPREAD
    assert left_out_explained(X, values) > 0.7


def test_a_parameter_at_its_bound() -> None:
    def at_the_wall(model: SingleTaskGP) -> None:
        model.covar_module.base_kernel.lengthscale = 0.0050001

    def kernel() -> ScaleKernel:
        # The intervals of BoTorch's TuRBO tutorial.
        matern = MaternKernel(ard_num_dims=2, lengthscale_constraint=Interval(0.005, 4.0))
        return ScaleKernel(matern)

    stuck = stock(X, bowl(X), covar_module=kernel(), prepare=at_the_wall)
    assert stuck.lengthscales == pytest.approx([0.005, 0.005], rel=1e-3)
    assert stuck.explained(ELSEWHERE, bowl(ELSEWHERE)) < 0.05
    assert stuck.warned <= {DeprecationWarning}, "nothing is said about it"

    points, noisy = many_noisy_points()
    capped = stock(points, noisy, covar_module=kernel(), likelihood=noise_within(1e-8, 1e-3))
    free = stock(points, noisy)
    truth = bowl(ELSEWHERE[40:])
    assert capped.noise == pytest.approx(1e-3, rel=0.02)
    assert free.noise > 0.1
    assert capped.explained(ELSEWHERE[40:], truth) < free.explained(ELSEWHERE[40:], truth) - 0.1

    assert_goes_on_well(X, bowl(X))
    model, _ = ours(X, bowl(X))
    assert model.hyperparameters.lengthscales.min() > 0.1
    assert model.hyperparameters.lengthscales.max() < 10.0
    assert our_explained(X, bowl(X), bowl(ELSEWHERE)) > 0.9
    assert_goes_on_well(points, noisy)


def many_noisy_points() -> tuple[FloatArray, FloatArray]:
    """60 different points; noise is a third of the variance."""
    points = np.concatenate([X, ELSEWHERE[:40]])
    return points, bowl(points) + 0.1 * NOISE


def test_much_noise_is_recognised() -> None:
    model, _ = ours(*many_noisy_points())
    assert model.hyperparameters.noise > 0.05
    assert model.hyperparameters.lengthscales.min() > 0.1


@pytest.mark.slow
def test_a_tiny_noise_interval() -> None:
    theirs = []
    for seed in range(6):
        generator = np.random.default_rng(seed)
        near = [X[:10] + 1e-9 * generator.standard_normal((10, 2)) for _ in range(2)]
        points = np.concatenate([X, *near])
        values = bowl(points) + 0.05 * np.random.default_rng(seed).standard_normal(40)

        # Where the fit ends depends on the processor's rounding, so only the whole is asserted.
        try:
            fitted = stock(points, values, likelihood=noise_within(1e-9, 1e-8))
        except ModelFittingError:
            theirs.append(0.0)
        else:
            assert min(fitted.lengthscales) < 0.1, "near its bound of 0.025"
            theirs.append(fitted.explained(ELSEWHERE, bowl(ELSEWHERE)))

        assert_goes_on_well(points, values)
        assert our_explained(points, values, bowl(ELSEWHERE)) > 0.8
    assert np.median(theirs) < 0.4


def test_fixed_noise_of_zero() -> None:
    points = np.repeat(X, 3, axis=0)
    theirs, mine = [], []
    for seed in range(4):
        values = bowl(points) + 0.05 * np.random.default_rng(seed).standard_normal(60)
        certain = stock(points, values, train_Yvar=torch.zeros(60, 1, dtype=torch.double))
        assert NumericalWarning in certain.warned
        theirs.append(certain.explained(ELSEWHERE, bowl(ELSEWHERE)))
        mine.append(our_explained(points, values, bowl(ELSEWHERE)))

    assert np.mean(theirs) < 0.7
    assert np.mean(mine) > 0.8

    assert_goes_on_well(points, values)


def test_constant_outputs() -> None:
    values = np.full(20, 0.3)

    plain = stock(X, values, outcome_transform=None)
    assert plain.noise == pytest.approx(1e-4, rel=0.01), "at its floor"
    assert min(plain.lengthscales) > 5.0, "flat for ever"
    scaled = stock(X, values, covar_module=ScaleKernel(MaternKernel(ard_num_dims=2)))
    assert float(scaled.model.covar_module.outputscale.detach()) < 1e-20
    assert scaled.predict(ELSEWHERE)[1].max() < 1.1e-5, "certain everywhere: nothing to search"

    params, suggestion = suggest(X, values)
    assert_sound(params, suggestion)
    assert suggestion.objectives[0].predicted_mean == pytest.approx(0.3)
    assert suggestion.objectives[0].predicted_sd > 1e-4
    nearest = np.sqrt(((X - np.array(list(params.values()))) ** 2).sum(axis=1)).min()
    assert nearest > 0.1, "where nothing was tried yet"


def test_a_constant_study_goes_on_exploring() -> None:
    points, values = list(X), [0.3] * 20
    distances = []
    for _ in range(8):
        params, _ = suggest(np.array(points), values)
        point = np.array(list(params.values()))
        distances.append(min(float(np.hypot(*(point - other))) for other in points))
        points.append(point)
        values.append(0.3)
    assert min(distances) > 0.05


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_infinity_and_nan(bad: float) -> None:
    values = bowl(X)
    values[4] = bad

    with pytest.raises(InputDataError, match="Input data contains NaN values"):
        stock(X, values)
    if math.isinf(bad):
        with pytest.raises(ModelFittingError, match="All attempts to fit the model have failed"):
            stock(X, values, outcome_transform=None)

    assert_goes_on_well(X, values)


def test_single_precision() -> None:
    values, truth = 1000.0 + 1e-4 * bowl(X), 1000.0 + 1e-4 * bowl(ELSEWHERE)

    single = stock(X, values, dtype=torch.float)
    assert InputDataWarning in single.warned
    assert single.explained(ELSEWHERE, truth) < 0.6
    assert stock(X, values).explained(ELSEWHERE, truth) > 0.9

    assert_goes_on_well(X, values, unit=1e-4, shift=1000.0)
    assert our_explained(X, values, truth) > 0.9


def test_not_positive_definite() -> None:
    kernel = ScaleKernel(RBFKernel(ard_num_dims=2))
    kernel.outputscale = 1e6
    kernel.base_kernel.lengthscale = 1.0
    points = torch.as_tensor(closing_in(), dtype=torch.float)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        covariance = kernel.float()(points).add_jitter(1e-4)
        with pytest.raises(NotPSDError):
            covariance.cholesky()

    model, _ = ours(closing_in(), 1e3 * bowl(closing_in()))
    assert np.isfinite(model.factor).all()


def test_every_section_of_the_page_names_its_test() -> None:
    sections = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    causes = [section for section in sections if "**Symptom.**" in section]
    named = [name for section in causes for name in re.findall(r"`(test_\w+)`", section)]

    assert len(causes) >= 8
    assert all(re.search(r"`test_\w+`", section) for section in causes)
    assert all(callable(globals().get(name)) for name in named)
    tests = {name for name in globals() if name.startswith("test_")}
    assert tests - set(named) == {"test_every_section_of_the_page_names_its_test"}, "all are linked"

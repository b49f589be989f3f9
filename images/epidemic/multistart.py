"""Fit by L-BFGS-B from random starts, with as many evaluations as a study had trials.

    python images/epidemic/multistart.py [--evaluations 120]

With SciPy's usual differences a gradient is eight evaluations; automatic differentiation gives it
with the loss itself and counts as one. Beside them random points, the study, and a study whose
second half goes to L-BFGS-B from its best point.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import numpy as np
import optuna
import torch
from gradients import BOUNDS, NAMES, Array, CountedLoss, fit, model
from scipy.optimize import minimize

from studyflow.samplers.registry import make_sampler
from studyflow.spec import StudySpec

HERE = Path(__file__).parent


class Spent(Exception):
    """The evaluations are used up."""


class BudgetedLoss(CountedLoss):
    """A counted loss that ends with its budget and keeps the best that it has returned."""

    def __init__(self, data: Any, budget: int) -> None:
        super().__init__(data)
        self.budget = budget
        self.best = float("inf")

    def _keep(self, value: float) -> None:
        self.best = min(self.best, value)

    def __call__(self, x: Array) -> Any:
        """Return the loss, or raise `Spent`."""
        if self.evaluations >= self.budget:
            raise Spent
        value = super().__call__(x)
        self._keep(value)
        return value

    def with_gradient(self, x: Array) -> tuple[float, Array]:
        """Return the loss and its gradient, or raise `Spent`."""
        if self.evaluations >= self.budget:
            raise Spent
        value, gradient = super().with_gradient(x)
        self._keep(value)
        return value, gradient


def random_start(rng: np.random.Generator) -> Array:
    """Return a point, anywhere within the bounds alike."""
    low, high = np.array(BOUNDS).T
    return rng.uniform(low, high)


def multistart(
    data: Any, budget: int, method: str, next_start: Callable[[], Array], *, scaled: bool = False
) -> tuple[float, int]:
    """Return the best loss within the budget, and how many starts it took.

    With `scaled`, L-BFGS-B sees every parameter between 0 and 1; only for SciPy's own differences.
    """
    loss = BudgetedLoss(data, budget)
    low, high = np.array(BOUNDS).T
    starts = 0
    with suppress(Spent):
        while True:
            starts += 1
            start = next_start()
            if scaled:
                minimize(
                    lambda unit: loss(low + unit * (high - low)),
                    (start - low) / (high - low),
                    method="L-BFGS-B",
                    jac=method,
                    bounds=[(0.0, 1.0)] * len(start),
                )
            else:
                # SciPy's own tolerances: near the end, a new start is worth more than a digit.
                fit(loss, start, method, {"ftol": 2.2e-9, "gtol": 1e-5})
    return loss.best, starts


def best_of_random(data: Any, budget: int, rng: np.random.Generator) -> float:
    """Return the best loss of so many random points: what any method has to beat."""
    loss = BudgetedLoss(data, budget)
    for _ in range(budget):
        loss(random_start(rng))
    return loss.best


def run_study(data: Any, budget: int, seed: int) -> tuple[float, Array]:
    """Return the best loss of `study.yaml` and its point, in this process, one trial at a time."""
    spec = StudySpec.from_yaml(HERE / "study.yaml")
    study = optuna.create_study(sampler=make_sampler(spec, seed, 0))
    for point in spec.enqueue:
        study.enqueue_trial(dict(point))
    distributions = spec.space.distributions()

    def objective(trial: optuna.Trial) -> float:
        point = [trial._suggest(name, distributions[name]) for name in NAMES]
        return math.log10(model.loss(point, data))

    study.optimize(objective, n_trials=budget)
    return 10**study.best_value, np.array([study.best_params[name] for name in NAMES])


@click.command()
@click.option("--evaluations", default=120, help="Of the loss, for each repetition.")
@click.option("--seeds", default=10, help="Repetitions, with other starts.")
@click.option("--study-seeds", default=5, help="Repetitions of the study.")
def main(evaluations: int, seeds: int, study_seeds: int) -> None:
    """Print the losses that the evaluations reach."""
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    data = model.load_data()
    print("way                                     median   best     worst    starts")

    def show(name: str, results: Sequence[tuple[float, int]]) -> None:
        losses, starts = zip(*results, strict=True)
        print(
            f"{name:38}  {statistics.median(losses):<7.2g}  {min(losses):<7.2g}  "
            f"{max(losses):<7.2g}  {statistics.median(starts):g}",
            flush=True,
        )

    def starts_of(seed: int) -> Callable[[], Array]:
        rng = np.random.default_rng(seed)
        return lambda: random_start(rng)

    show(
        "random points",
        [
            (best_of_random(data, evaluations, np.random.default_rng(seed)), evaluations)
            for seed in range(seeds)
        ],
    )
    for name, method, scaled in (
        ("L-BFGS-B, 2-point", "2-point", False),
        ("L-BFGS-B, 2-point, scaled to [0, 1]", "2-point", True),
        ("L-BFGS-B, autograd", "autograd", False),
    ):
        show(
            name,
            [
                multistart(data, evaluations, method, starts_of(seed), scaled=scaled)
                for seed in range(seeds)
            ],
        )
    studies = [run_study(data, evaluations, seed) for seed in range(study_seeds)]
    show("the study", [(value, 0) for value, _ in studies])
    half = evaluations // 2
    mixed = []
    for seed in range(study_seeds):
        _, point = run_study(data, half, seed)
        mixed.append(multistart(data, half, "2-point", lambda point=point: point, scaled=True))
    show("half a study, then L-BFGS-B, scaled", mixed)


if __name__ == "__main__":
    main()

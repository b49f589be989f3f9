"""Train the ten weights of a small network with one of five optimisers, under a study or alone.

The network has two inputs, two hidden ReLU units without bias and two outputs, and is to give back
its input. Four of the optimisers see nothing but loss values; Adam sees gradients. Alone,
`python train.py` runs Adam once. Inside a study the trial says which optimiser runs, with which
settings and from which starting point; the loss so far is reported by iteration and by evaluation.
"""

from __future__ import annotations

import csv
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from studyflow import sdk

Array = NDArray[np.float64]

N_POINTS, N_WEIGHTS = 32, 10
SCALES = (1.0, 1000.0)
"""Of the two columns. The second makes the loss a narrow valley: a step that suits the weights of
one column is a thousand times too long or too short for those of the other."""

DATA_SEED = 0
BOUND = 1.0
"""Particle swarm and annealing stay within -BOUND and BOUND, weight by weight."""


@dataclass(frozen=True)
class Hyperparameters:
    """What a study may search. A parameter that is not listed here fails the trial at once."""

    optimizer: str = "adam"
    seed: int = 0
    """Chooses the starting weights, and the random numbers of the optimisers that draw some."""
    n_starts: int = 1
    """Runs, from `seed` upwards; the trial's loss is their geometric mean."""
    max_iterations: int = 100
    max_evaluations: int = 1_000_000

    adam_learning_rate: float = 1.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    slsqp_step: float = 1e-3
    """Distance of the two points whose difference becomes a derivative."""
    slsqp_tolerance: float = 1e-6
    """Stops where an iteration improves the loss by less."""
    pso_particles: int = 40
    pso_inertia: float = 0.73
    pso_own: float = 1.5
    """Pull towards the best point that the particle itself has seen."""
    pso_swarm: float = 1.5
    """Pull towards the best point that any particle has seen."""
    pso_spread: float = 1.0
    """Half width of the box around the starting weights in which the other particles begin."""
    pso_boundary: str = "nearest"
    """What becomes of a particle that leaves the bounds. Not pyswarms' own default, `periodic`,
    which puts it to the other side: here, no run with it comes below a loss of 10 000."""
    cmaes_sigma: float = 0.5
    cmaes_population: int = 10
    annealing_temperature: float = 1.0
    annealing_visit: float = 2.62
    """Larger: longer jumps."""
    annealing_accept: float = -5.0
    """Smaller: fewer steps to a worse point are taken."""


def make_data() -> Array:
    """Return the points, `N_POINTS x 2`; the network's target is its input."""
    return np.random.default_rng(DATA_SEED).standard_normal((N_POINTS, 2)) * SCALES


def make_start(seed: int) -> Array:
    """Return starting weights: small and random, `N_WEIGHTS`."""
    return 0.1 * np.random.default_rng(seed).standard_normal(N_WEIGHTS)


def loss(weights: Array, x: Array) -> Array:
    """Return the mean squared error of one or many networks, `... x N_WEIGHTS` to `...`.

    The weights are those of the hidden layer (4), of the output layer (4) and its bias (2).
    """
    w1 = weights[..., 0:4].reshape(*weights.shape[:-1], 2, 2)
    w2 = weights[..., 4:8].reshape(*weights.shape[:-1], 2, 2)
    output = np.maximum(x @ w1, 0.0) @ w2 + weights[..., None, 8:10]
    error: Array = np.square(output - x).mean(axis=(-2, -1))
    return error


class Point(NamedTuple):
    """One point of a loss curve."""

    iteration: int
    """Iterations that had ended."""
    evaluations: int
    """Networks evaluated so far; an evaluation that also gives the gradient counts as one."""
    loss: float
    """The smallest so far."""


class Spent(Exception):
    """The evaluations that the run was given are used up."""


class Objective:
    """The loss as the optimisers call it. Counts evaluations and keeps the best of them."""

    def __init__(self, x: Array, max_evaluations: int) -> None:
        self.x = x
        self._max_evaluations = max_evaluations
        self.evaluations = 0
        self.best_loss = math.inf
        self.best_weights: Array = np.full(N_WEIGHTS, np.nan)
        self.by_iteration: list[Point] = []
        self.by_evaluation: list[Point] = []

    def __call__(self, weights: Array) -> float:
        """Return the loss of one network.

        Raises:
            Spent: There is no evaluation left.
        """
        value = float(loss(weights, self.x))
        self.count(weights, value)
        return value

    def count(self, weights: Array, value: float) -> None:
        """Take one evaluation down that was made elsewhere."""
        if self.evaluations >= self._max_evaluations:
            raise Spent
        self.evaluations += 1
        if value < self.best_loss:
            self.best_loss, self.best_weights = value, np.array(weights)
            # An iteration can be a thousand evaluations, so this curve does not wait for its end.
            # Leaving out what the eye would not see keeps it at a few hundred points.
            if not self.by_evaluation or value < 0.97 * self.by_evaluation[-1].loss:
                self.by_evaluation.append(self.now())

    def now(self) -> Point:
        return Point(len(self.by_iteration), self.evaluations, self.best_loss)

    def end_iteration(self) -> None:
        self.by_iteration.append(self.now()._replace(iteration=len(self.by_iteration) + 1))


# --- the optimisers: all of them minimise `objective` from `start` --------------------------------


def adam(objective: Objective, start: Array, hp: Hyperparameters) -> None:
    """Follow the gradient, which torch derives from the loss."""
    import torch

    # Trials share the machine's cores; for ten weights a second thread only costs.
    torch.set_num_threads(1)
    points = torch.from_numpy(objective.x)
    weights = torch.from_numpy(start.copy()).requires_grad_()
    optimizer = torch.optim.Adam(
        [weights], lr=hp.adam_learning_rate, betas=(hp.adam_beta1, hp.adam_beta2)
    )

    def evaluate() -> None:
        optimizer.zero_grad()
        hidden = torch.relu(points @ weights[0:4].reshape(2, 2))
        output = hidden @ weights[4:8].reshape(2, 2) + weights[8:10]
        value = (output - points).square().mean()
        value.backward()
        objective.count(weights.detach().numpy(), value.item())

    evaluate()
    for _ in range(hp.max_iterations):
        optimizer.step()
        evaluate()
        objective.end_iteration()


def slsqp(objective: Objective, start: Array, hp: Hyperparameters) -> None:
    """Follow a gradient made of differences, ten evaluations each."""
    from scipy.optimize import minimize

    minimize(
        objective,
        start,
        method="SLSQP",
        callback=lambda _: objective.end_iteration(),
        options={
            "maxiter": hp.max_iterations,
            "eps": hp.slsqp_step,
            "ftol": hp.slsqp_tolerance,
        },
    )


def pso(objective: Objective, start: Array, hp: Hyperparameters) -> None:
    """Let a swarm of particles fly through the weights; one of them begins at `start`."""
    with quiet_pyswarms():
        from pyswarms.single import GlobalBestPSO

        rng = np.random.default_rng(hp.seed)
        swarm = start + rng.uniform(-hp.pso_spread, hp.pso_spread, (hp.pso_particles, N_WEIGHTS))
        swarm[0] = start
        np.random.seed(hp.seed)  # the only generator that pyswarms draws from
        optimizer = GlobalBestPSO(
            n_particles=hp.pso_particles,
            dimensions=N_WEIGHTS,
            options={"w": hp.pso_inertia, "c1": hp.pso_own, "c2": hp.pso_swarm},
            bounds=(np.full(N_WEIGHTS, -BOUND), np.full(N_WEIGHTS, BOUND)),
            init_pos=np.clip(swarm, -BOUND, BOUND),
            bh_strategy=hp.pso_boundary,
        )

        def evaluate(positions: Array) -> Array:
            values = loss(positions, objective.x)
            for weights, value in zip(positions, values, strict=True):
                objective.count(weights, float(value))
            objective.end_iteration()
            return values

        optimizer.optimize(evaluate, iters=hp.max_iterations, verbose=False)


@contextmanager
def quiet_pyswarms() -> Iterator[None]:
    """Keep pyswarms from setting up logging with a file in the working folder.

    In a pod that folder is read-only, and the run would fail. `LOG_CFG` names a configuration for
    Python's logging that pyswarms reads instead; this one changes nothing.
    """
    before = os.environ.get("LOG_CFG")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "logging.yaml")
        path.write_text("{version: 1, incremental: true}\n")
        os.environ["LOG_CFG"] = str(path)
        try:
            yield
        finally:
            if before is None:
                del os.environ["LOG_CFG"]
            else:
                os.environ["LOG_CFG"] = before


def cmaes(objective: Objective, start: Array, hp: Hyperparameters) -> None:
    """Draw each generation from a normal distribution that follows the best of the last one."""
    import cma

    strategy = cma.CMAEvolutionStrategy(
        start,
        hp.cmaes_sigma,
        {
            "popsize": hp.cmaes_population,
            "maxiter": hp.max_iterations,
            "seed": hp.seed + 1,  # 0 would mean the clock
            "verbose": -9,
        },
    )
    while not strategy.stop():
        candidates = strategy.ask()
        strategy.tell(candidates, [objective(candidate) for candidate in candidates])
        objective.end_iteration()


def annealing(objective: Objective, start: Array, hp: Hyperparameters) -> None:
    """Jump ever more carefully, with a local search (L-BFGS-B) from points that look good."""
    from scipy.optimize import OptimizeResult, dual_annealing, minimize

    visits = 0
    is_local = False

    def visit(weights: Array) -> float:
        nonlocal visits
        if not is_local:
            # SciPy's callback is for new best points, not for iterations. An iteration is two
            # visits for each weight, then local searches; before the first, the start is visited.
            if visits > 1 and (visits - 1) % (2 * N_WEIGHTS) == 0:
                objective.end_iteration()
            visits += 1
        return objective(weights)

    def search_locally(
        fun: Callable[[Array], float], x0: Array, bounds: Any = None, **_: Any
    ) -> OptimizeResult:
        """Return what SciPy's own default does, and tell its evaluations from the visits."""
        nonlocal is_local
        is_local = True
        try:
            return minimize(fun, x0, method="L-BFGS-B", bounds=bounds, options={"maxiter": 100})
        finally:
            is_local = False

    bounds = [(-BOUND, BOUND)] * N_WEIGHTS
    dual_annealing(
        visit,
        bounds,
        maxiter=hp.max_iterations,
        maxfun=100 * hp.max_evaluations,  # `objective` knows when to end
        initial_temp=hp.annealing_temperature,
        visit=hp.annealing_visit,
        accept=hp.annealing_accept,
        x0=np.clip(start, -BOUND, BOUND),
        minimizer_kwargs={"method": search_locally, "bounds": bounds},
        rng=hp.seed,
    )
    objective.end_iteration()


OPTIMIZERS = {"adam": adam, "slsqp": slsqp, "pso": pso, "cmaes": cmaes, "annealing": annealing}


def optimize(hp: Hyperparameters) -> Objective:
    """Return the objective after the run from `hp.seed`, with its best weights and its curves."""
    if hp.optimizer not in OPTIMIZERS:
        raise ValueError(f"optimizer must be one of {list(OPTIMIZERS)}, not {hp.optimizer!r}")
    objective = Objective(make_data(), hp.max_evaluations)
    with suppress(Spent):
        OPTIMIZERS[hp.optimizer](objective, make_start(hp.seed), hp)
    objective.by_evaluation.append(objective.now())
    return objective


def report_curves(objective: Objective) -> None:
    """Report both curves, and keep all their points as an artifact."""
    # Two metrics, because a metric has one axis. The steps of the second are evaluations.
    for point in objective.by_iteration:
        sdk.report(point.iteration, loss=point.loss)
    for point in objective.by_evaluation:
        sdk.report(point.evaluations, loss_by_evaluation=point.loss)
    # A folder of its own: in a pod only /tmp may be writable.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "curves.csv")
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(Point._fields)
            writer.writerows(sorted({*objective.by_iteration, *objective.by_evaluation}))
        sdk.artifact(path)


def main() -> None:
    trial = sdk.current_trial()
    params: dict[str, Any] = trial.params  # empty outside a study: the defaults stand
    hp = Hyperparameters(**params)

    began = time.perf_counter()
    log10_losses: list[float] = []
    evaluations = 0
    for seed in range(hp.seed, hp.seed + hp.n_starts):
        objective = optimize(replace(hp, seed=seed))
        evaluations += objective.evaluations
        log10_losses.append(math.log10(objective.best_loss))
        if hp.n_starts > 1:
            sdk.report(seed - hp.seed, log10_loss=log10_losses[-1])
        else:
            report_curves(objective)

    mean = sum(log10_losses) / len(log10_losses)
    sdk.finish(
        loss=10**mean,
        log10_loss=mean,
        worst_log10_loss=max(log10_losses),
        evaluations=evaluations,
        seconds=time.perf_counter() - began,
    )


if __name__ == "__main__":
    main()

"""What a user may believe of a problem before a study: the truth roughly, or the opposite of it."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from benchmarks.samplers.problems import Problem
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler

OFF: Final = 0.1
"""Deviation of a right belief's centre from the optimum, as a share of the range."""
SPREAD: Final = 0.15
"""Deviation that a belief admits, right or wrong, as a share of the range."""


def believing(seed: int, problem: Problem, *, is_right: bool | None) -> BaseSampler:
    """Return our sampler with the space declared and a belief of every parameter; `None`: none."""
    from studyflow.samplers.botorch import BoTorchSampler

    priors = {} if is_right is None else beliefs(problem, seed, is_right=is_right)
    return BoTorchSampler(seed=seed, search_space=problem.space, priors=priors)


def beliefs(problem: Problem, seed: int, *, is_right: bool) -> dict[str, dict[str, Any]]:
    """Return the prior of each parameter that the optimum has.

    A right one is about a point `OFF` from the optimum, and names the best choice; a wrong one is
    about the farther end of the range, and names another choice.
    """
    generator = np.random.default_rng([seed, 2])
    found: dict[str, dict[str, Any]] = {}
    for name, best in sorted((problem.best_params or {}).items()):
        distribution = problem.space[name]
        noise = OFF * float(generator.standard_normal())
        if isinstance(distribution, CategoricalDistribution):
            others = [choice for choice in distribution.choices if choice != best]
            found[name] = {
                "good": [best] if is_right else [others[generator.integers(len(others))]]
            }
            continue
        assert isinstance(distribution, FloatDistribution | IntDistribution)
        low, high = float(distribution.low), float(distribution.high)
        if distribution.log:
            low, high, best = float(np.log10(low)), float(np.log10(high)), float(np.log10(best))
        width = high - low
        centre = best + noise * width if is_right else (low if best - low > high - best else high)
        centre = min(max(centre, low), high)
        if distribution.log:
            centre = min(max(10.0**centre, distribution.low), distribution.high)
        found[name] = {"mean": centre, "sd": SPREAD * width}
    return found

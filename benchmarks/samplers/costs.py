"""Does a search that counts costs find better parameters for the same GPU-hours?

    python -m benchmarks.samplers.costs --half report --seeds 5 --to costs.jsonl

The problems are those of `problems.py`, one trial at a time, where a trial costs between 1 and
about `SPREAD`: the logarithm is a straight line in the parameters in a direction drawn anew for
each seed, so that the optimum is as often dear as it is cheap; or it depends on no parameter, and
counting it can only do harm. Both searches end when the cost of `--trials` random trials is spent.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import optuna
from benchmarks.samplers.problems import Params, Problem, RandomTrial, all_problems
from benchmarks.samplers.report import FLOOR, N_BOOTSTRAP
from optuna.distributions import BaseDistribution

from studyflow.samplers.botorch import BoTorchSampler
from studyflow.samplers.space.dimension import make_dimension
from studyflow.trial import Cause
from studyflow.trial.cost import AttemptCost
from studyflow.trial.cost_form import attribute_of

SPREAD: Final = 30.0
"""How many times the cheapest trial the dearest costs, about."""
FAMILIES: Final = ("numeric", "mixed", "conditional")

Kind = Literal["by parameters", "by chance"]


@dataclass(frozen=True)
class Searched:
    """One search until its budget is spent."""

    problem: str
    kind: Kind
    seed: int
    is_aware: bool
    n_trials: int
    best: float
    """Best true value; infinite if none was finite."""


def cost_of(problem: Problem, kind: Kind, seed: int) -> Callable[[Params], float]:
    """Return what a trial of some parameters costs."""
    generator = np.random.default_rng([seed, 7])
    direction = generator.standard_normal(len(problem.space))
    direction /= np.abs(direction).sum()
    slopes = dict(zip(sorted(problem.space), direction, strict=True))

    def cost(params: Params) -> float:
        if kind == "by chance":
            return math.exp(0.5 * float(generator.standard_normal()))
        at = sum(slopes[name] * place(problem.space[name], params[name]) for name in params)
        return math.exp(math.log(SPREAD) * (at + 0.5))

    return cost


def place(distribution: BaseDistribution, value: Any) -> float:
    """Return where a value lies in its range, from -0.5 to 0.5; of a choice, its order."""
    dimension = make_dimension("x", distribution, None)
    code = float(dimension.encode(value))
    return (
        code / max((dimension.size or 2) - 1, 1) - 0.5
        if dimension.kind == "categorical"
        else code - 0.5
    )


def search(problem: Problem, kind: Kind, seed: int, *, is_aware: bool, n_trials: int) -> Searched:
    """Search until the cost of so many random trials is spent."""
    cost = cost_of(problem, kind, seed)
    drawn = RandomTrial(np.random.default_rng(0))
    budget = n_trials * float(np.mean([cost(problem.suggest(drawn)) for _ in range(400)]))
    sampler = BoTorchSampler(
        seed=seed, search_space=problem.space, cost_budget=budget if is_aware else None
    )
    study = optuna.create_study(sampler=sampler)
    noise = np.random.default_rng([seed, 1])
    spent, best, n = 0.0, math.inf, 0
    while True:
        trial = study.ask()
        params = problem.suggest(trial)
        spent += (seconds := cost(params))
        if spent > budget:
            return Searched(problem.name, kind, seed, is_aware, n, best)
        reported, true = problem.measure(params, noise)
        row = attribute_of(AttemptCost(1, Cause.OK, seconds=seconds))
        for key, value in row.items():
            trial.set_user_attr(key, value)
        study.tell(trial, reported)
        best, n = min(best, true), n + 1


def table(searches: Sequence[Searched], problems: dict[str, Problem]) -> str:
    """Return regret with costs counted over regret without, by kind of cost and family."""
    lines = [
        "| cost | family | regret, ratio | trials, ratio | problems, pairs |",
        "|---|---|---|---|---|",
    ]
    for kind in ("by parameters", "by chance"):
        for family in (*FAMILIES, "all"):
            logs: dict[str, list[tuple[float, float]]] = {}
            plain = {(s.problem, s.seed): s for s in searches if s.kind == kind and not s.is_aware}
            for one in searches:
                problem = problems[one.problem]
                if one.kind != kind or not one.is_aware or family not in (problem.family, "all"):
                    continue
                other = plain[one.problem, one.seed]
                ratio = math.log(regret(one, problem) / regret(other, problem))
                logs.setdefault(one.problem, []).append(
                    (ratio, math.log(one.n_trials / other.n_trials))
                )
            if logs:
                lines.append(f"| {kind} | {family} | {_ratios(list(logs.values()))} |")
    return "\n".join(lines)


def regret(one: Searched, problem: Problem) -> float:
    """Return how far the best is from the optimum, floored as in the other tables."""
    if not math.isfinite(one.best):
        return 10 * problem.scale
    return max(one.best - problem.optimum, FLOOR * problem.scale)


def _ratios(logs: list[list[tuple[float, float]]]) -> str:
    """Return geometric means over problems, each over its seeds, with a 95 % interval."""
    generator = np.random.default_rng(0)
    draws = np.zeros(N_BOOTSTRAP)
    for pairs in logs:
        rows = generator.integers(len(pairs), size=(N_BOOTSTRAP, len(pairs)))
        draws += np.array([regrets for regrets, _ in pairs])[rows].mean(axis=1) / len(logs)
    low, high = np.exp(np.quantile(draws, [0.025, 0.975]))
    centre, trials = np.exp(np.mean([np.mean(pairs, axis=0) for pairs in logs], axis=0))
    n_pairs = sum(map(len, logs))
    return f"{centre:.2f} ({low:.2f} to {high:.2f}) | {trials:.2f} | {len(logs)}, {n_pairs}"


def read(path: Path) -> Iterator[Searched]:
    """Yield the searches that a file has."""
    if path.exists():
        for line in path.read_text().splitlines():
            yield Searched(**json.loads(line))


def main() -> None:
    """Make the searches that the file lacks, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.samplers.costs")
    parser.add_argument("--half", choices=["tune", "report"], required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=15, help="random trials that cost as much")
    parser.add_argument("--to", type=Path, required=True)
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    problems = {
        name: p
        for name, p in all_problems().items()
        if p.half == args.half and p.family in FAMILIES
    }
    known = {(s.problem, s.kind, s.seed, s.is_aware) for s in read(args.to)}
    kinds: tuple[Kind, ...] = ("by parameters", "by chance")
    with args.to.open("a") as file:
        for seed in range(args.seeds):
            for name, problem in problems.items():
                for kind in kinds:
                    for is_aware in (False, True):
                        if (name, kind, seed, is_aware) not in known:
                            found = search(
                                problem, kind, seed, is_aware=is_aware, n_trials=args.trials
                            )
                            file.write(json.dumps(asdict(found)) + "\n")
                            file.flush()
    print(table(list(read(args.to)), problems))


if __name__ == "__main__":
    main()

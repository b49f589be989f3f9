"""From runs to Markdown: regret ratios with intervals, mean ranks, waste, milliseconds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from benchmarks.samplers.problems import Problem
from benchmarks.samplers.runner import Key, Run

FLOOR = 1e-3
"""Regret below this share of a random point's is as good as none: no tuner needs more, and ratios
of vanishing numbers would decide everything."""
LEAST_START = 5
"""Trials that a search of any length is given to look around, before they count as wasted."""
N_BOOTSTRAP = 2000
SEQUENTIAL = "sequential"
"""The row of all families together, one trial at a time."""
FAMILIES = ("numeric", "mixed", "conditional", "noisy", "diverging", "sklearn", "branches")
PEERS = (
    "gp",
    "tpe",
    "botorch",
    "botorch-running",
    "ax",
    "hebo",
    "cmaes",
    "random",
    "ours-declared",
)


@dataclass(frozen=True)
class Comparison:
    """Ours against one peer on one family."""

    ratio: float
    """Geometric mean over problems, each over its seeds, of our regret over the peer's."""
    low: float
    high: float
    """95 % interval by resampling seeds, both samplers' runs of a seed together."""
    n_problems: int
    n_pairs: int


def as_ours(runs: Mapping[Key, Run], sampler: str) -> dict[Key, Run]:
    """Return the runs with those of one sampler in the place of `ours`."""
    renamed = {
        replace(key, sampler="ours" if key.sampler == sampler else key.sampler): run
        for key, run in runs.items()
        if key.sampler == sampler or key.sampler != "ours"
    }
    return {key: replace(run, key=key) for key, run in renamed.items()}


def regret(run: Run, problem: Problem) -> float:
    """Return how far the best true value found is from the optimum, floored."""
    floor = FLOOR * problem.scale
    best = min(run.values, default=math.inf)
    # A sampler that found no finite value, or gave up at once, is charged ten random points.
    return max(best - problem.optimum, floor) if math.isfinite(best) else 10 * problem.scale


def waste(run: Run) -> float:
    """Return the share of trials in the last third that are worse than the median of the start.

    The start is the first fifth of the trials, at least `LEAST_START`: what a search tries before
    it has learnt anything. Values are the true ones. A search that has found its way wastes little,
    whatever its regret; one that explores on purpose wastes some.
    """
    start = run.values[: max(len(run.values) // 5, LEAST_START)]
    late = run.values[len(run.values) - len(run.values) // 3 :]
    return float(np.mean(np.array(late) > np.median(start))) if late else 1.0


def counts_for(row: str, run: Run, problem: Problem) -> bool:
    """Return whether a run counts for this row of the table."""
    if run.key.workers > 1:
        return row == "async"
    return row in (SEQUENTIAL, problem.family)


def compare(
    runs: Mapping[Key, Run], problems: Mapping[str, Problem], row: str, peer: str
) -> Comparison | None:
    """Return ours against the peer, over all pairs of runs with the same key; `None` if none."""
    logs: dict[tuple[str, int, int], list[float]] = {}
    for key in sorted(runs, key=repr):
        problem = problems.get(key.problem)
        theirs = runs.get(Key(key.problem, peer, key.seed, key.workers, key.n_trials))
        if key.sampler != "ours" or problem is None or theirs is None:
            continue
        if counts_for(row, runs[key], problem):
            ratio = regret(runs[key], problem) / regret(theirs, problem)
            logs.setdefault((key.problem, key.workers, key.n_trials), []).append(math.log(ratio))
    if not logs:
        return None
    centre = float(np.mean([np.mean(values) for values in logs.values()]))
    generator = np.random.default_rng(0)
    draws = np.zeros(N_BOOTSTRAP)
    for values in logs.values():
        rows = generator.integers(len(values), size=(N_BOOTSTRAP, len(values)))
        draws += np.array(values)[rows].mean(axis=1) / len(logs)
    low, high = np.quantile(draws, [0.025, 0.975])
    pairs = sum(len(values) for values in logs.values())
    return Comparison(math.exp(centre), math.exp(low), math.exp(high), len(logs), pairs)


def mean_ranks(
    runs: Mapping[Key, Run], problems: Mapping[str, Problem], row: str, samplers: Iterable[str]
) -> dict[str, float]:
    """Return each sampler's mean rank by regret where all of them ran; ties share their rank."""
    names = list(samplers)
    ranks: list[list[float]] = []
    for key in sorted(runs, key=repr):
        if key.sampler != "ours" or key.problem not in problems:
            continue
        problem = problems[key.problem]
        group = [runs.get(Key(key.problem, s, key.seed, key.workers, key.n_trials)) for s in names]
        if not counts_for(row, runs[key], problem) or any(run is None for run in group):
            continue
        regrets = np.array([regret(run, problem) for run in group if run is not None])
        below = (regrets[:, None] > regrets).sum(axis=1)
        equal = (regrets[:, None] == regrets).sum(axis=1)
        ranks.append(list(below + (equal + 1) / 2))
    if not ranks:
        return {}
    return dict(zip(names, np.mean(ranks, axis=0).tolist(), strict=True))


def table(runs: Mapping[Key, Run], problems: Mapping[str, Problem]) -> str:
    """Return the report as Markdown; equal runs give the equal text."""
    known = {key: run for key, run in runs.items() if key.problem in problems}
    present = {key.sampler for key in known}
    peers = [name for name in PEERS if name in present]
    parts = (
        _ratios(known, problems, peers),
        _wasted(known, problems, ["ours", *peers]),
        _regrets(known, problems, ["ours", *peers]),
        _times(known, ["ours", *peers]),
    )
    return "\n\n".join("\n".join(lines) for lines in parts)


def _ratios(
    runs: Mapping[Key, Run], problems: Mapping[str, Problem], peers: list[str]
) -> list[str]:
    lines = [
        "| family | peer | ratio ours/peer | 95 % | problems | pairs | rank ours | rank peer |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in (SEQUENTIAL, *FAMILIES, "async"):
        for peer in peers:
            found = compare(runs, problems, row, peer)
            if found is None:
                continue
            rank = mean_ranks(runs, problems, row, ["ours", peer])
            lines.append(
                f"| {row} | {peer} | {found.ratio:.2f} | {found.low:.2f}-{found.high:.2f} | "
                f"{found.n_problems} | {found.n_pairs} | {rank['ours']:.2f} | {rank[peer]:.2f} |"
            )
    return lines


def _wasted(
    runs: Mapping[Key, Run], problems: Mapping[str, Problem], samplers: list[str]
) -> list[str]:
    """Return each sampler's mean waste in percent, each problem with the same weight."""
    lines = ["Waste in percent:", "", "| family | " + " | ".join(samplers) + " |"]
    lines.append("|---" * (1 + len(samplers)) + "|")
    for row in (SEQUENTIAL, *FAMILIES, "async"):
        cells = []
        for sampler in samplers:
            wasted: dict[tuple[str, int, int], list[float]] = {}
            for key, run in runs.items():
                if key.sampler == sampler and counts_for(row, run, problems[key.problem]):
                    setting = (key.problem, key.workers, key.n_trials)
                    wasted.setdefault(setting, []).append(waste(run))
            means = [np.mean(wasted[setting]) for setting in sorted(wasted)]
            cells.append(f"{100 * np.mean(means):.0f}" if means else "-")
        if set(cells) != {"-"}:
            lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return lines


def _regrets(
    runs: Mapping[Key, Run], problems: Mapping[str, Problem], samplers: list[str]
) -> list[str]:
    lines = ["| problem | workers | trials | " + " | ".join(samplers) + " |"]
    lines.append("|---" * (3 + len(samplers)) + "|")
    for name, workers, n_trials in sorted({(k.problem, k.workers, k.n_trials) for k in runs}):
        cells = []
        for sampler in samplers:
            regrets = [
                regret(run, problems[name]) / problems[name].scale
                for key, run in runs.items()
                if (key.problem, key.workers, key.n_trials) == (name, workers, n_trials)
                and key.sampler == sampler
            ]
            cells.append(f"{np.median(regrets):.3g} ({len(regrets)})" if regrets else "-")
        lines.append(f"| {name} | {workers} | {n_trials} | " + " | ".join(cells) + " |")
    return lines


def _times(runs: Mapping[Key, Run], samplers: list[str]) -> list[str]:
    lines = ["| sampler | median CPU ms per suggestion | runs given up |", "|---|---|---|"]
    for sampler in samplers:
        mine = [run for key, run in runs.items() if key.sampler == sampler]
        spent = [ms for run in mine for ms in run.milliseconds]
        gave_up = sum(run.error is not None for run in mine)
        if spent:
            lines.append(f"| {sampler} | {np.median(spent):.1f} | {gave_up} of {len(mine)} |")
    return lines

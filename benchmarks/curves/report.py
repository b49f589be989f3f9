"""From runs to Markdown: GPU-time to a quality and regret, as ratios to full trainings."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from benchmarks.curves.runner import FULL, Key, Run, budget_seconds
from benchmarks.curves.tasks import Task

NOT_REACHED = 1.5
"""What a run counts that does not reach the quality, in budgets."""
SHARES = (0.25, 0.5, 1.0)
N_BOOTSTRAP = 2000


@dataclass(frozen=True)
class Ratio:
    """A geometric mean over tasks, each over its seeds."""

    value: float
    low: float
    high: float
    """95 % interval by resampling seeds: both runs of a seed together."""
    n_pairs: int

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f}-{self.high:.2f})"


def value_after(run: Run, unit_seconds: float) -> float | None:
    """Return the best true value known when so much was spent."""
    known = [v for spent, v in run.told if v is not None and spent <= unit_seconds * (1 + 1e-9)]
    return min(known, default=None)


def seconds_until(run: Run, task: Task, regret: float) -> float | None:
    """Return what was spent until a complete trial's regret was at most this."""
    reached = (s for s, v in run.told if v is not None and task.regret(v) <= regret * (1 + 1e-9))
    return next(reached, None)


def time_ratio(run: Run, full: Run, task: Task) -> float:
    """Return the GPU-time until the quality that full trainings end with, over theirs."""
    budget = budget_seconds(task, full.key)
    quality = task.regret(value_after(full, budget))
    own = seconds_until(full, task, quality)
    theirs = seconds_until(run, task, quality)
    limit = NOT_REACHED * budget
    return min(theirs or limit, limit) / min(own or limit, limit)


def regret_ratio(run: Run, full: Run, task: Task, share: float) -> float:
    """Return the regret when a share of the budget is spent, over that of full trainings."""
    spent = share * budget_seconds(task, full.key)
    return task.regret(value_after(run, spent)) / task.regret(value_after(full, spent))


def combined(logs: Mapping[object, Sequence[float]]) -> Ratio:
    """Return the geometric mean of ratios whose logarithms are given by task."""
    generator, draws = np.random.default_rng(0), np.zeros(N_BOOTSTRAP)
    for values in logs.values():
        rows = generator.integers(len(values), size=(N_BOOTSTRAP, len(values)))
        draws += np.asarray(values)[rows].mean(axis=1) / len(logs)
    centre = float(np.mean([np.mean(values) for values in logs.values()]))
    low, high = np.quantile(draws, [0.025, 0.975])
    n_pairs = sum(len(values) for values in logs.values())
    return Ratio(math.exp(centre), math.exp(low), math.exp(high), n_pairs)


def table(runs: Mapping[Key, Run], tasks: Mapping[str, Task]) -> str:
    """Return the report as Markdown; equal runs give the equal text."""
    return _by_setting(runs, tasks, _rows)


def per_task(runs: Mapping[Key, Run], tasks: Mapping[str, Task]) -> str:
    """Return the time ratio of each rule on each task, as Markdown."""
    return _by_setting(runs, tasks, _task_rows)


def _by_setting(
    runs: Mapping[Key, Run],
    tasks: Mapping[str, Task],
    rows: Callable[[Mapping[Key, Run], Mapping[str, Task]], list[str]],
) -> str:
    by_setting: dict[tuple[int, float, int], dict[Key, Run]] = {}
    for key, run in runs.items():
        if key.task in tasks:
            by_setting.setdefault((key.slots, key.restart, key.n_full), {})[key] = run
    parts = []
    for (slots, restart, n_full), some in sorted(by_setting.items(), key=lambda item: item[0]):
        title = f"{slots} slots, restart {restart:.0%}, the GPU-time of {n_full} full trainings:"
        parts.append("\n".join([title, "", *rows(some, tasks)]))
    return "\n\n".join(parts)


def _rows(runs: Mapping[Key, Run], tasks: Mapping[str, Task]) -> list[str]:
    lines = [
        "| curves | rule | time | "
        + " | ".join(f"regret at {s:.0%}" for s in SHARES)
        + " | pairs |",
        "|---|---|---|" + "---|" * (len(SHARES) + 1),
    ]
    groups = {"real": ["real"]} | {
        "made": sorted({t.family for t in tasks.values() if t.family != "real"})
    }
    for group, families in groups.items():
        for rule in dict.fromkeys(key.rule for key in sorted(runs, key=lambda k: k.rule)):
            if rule == FULL:
                continue
            logs: list[dict[object, list[float]]] = [{} for _ in range(1 + len(SHARES))]
            for key, run in sorted(runs.items(), key=lambda item: repr(item[0])):
                full = runs.get(replace(key, rule=FULL))
                if key.rule != rule or full is None or tasks[key.task].family not in families:
                    continue
                task = tasks[key.task]
                ratios = [time_ratio(run, full, task)]
                ratios += [regret_ratio(run, full, task, share) for share in SHARES]
                for of_column, ratio in zip(logs, ratios, strict=True):
                    of_column.setdefault(key.task, []).append(math.log(ratio))
            if logs[0]:
                found = [combined(column) for column in logs]
                cells = " | ".join(map(str, found))
                lines.append(f"| {group} | `{rule}` | {cells} | {found[0].n_pairs} |")
    return lines


def _task_rows(runs: Mapping[Key, Run], tasks: Mapping[str, Task]) -> list[str]:
    rules = list(dict.fromkeys(k.rule for k in sorted(runs, key=lambda k: k.rule)))
    rules = [rule for rule in rules if rule != FULL]
    lines = ["| task | " + " | ".join(f"`{rule}`" for rule in rules) + " |"]
    lines.append("|---" * (1 + len(rules)) + "|")
    for name, task in tasks.items():
        cells = []
        for rule in rules:
            logs = [
                math.log(time_ratio(run, runs[replace(key, rule=FULL)], task))
                for key, run in runs.items()
                if key.task == name and key.rule == rule and replace(key, rule=FULL) in runs
            ]
            cells.append(f"{math.exp(float(np.mean(logs))):.2f}" if logs else "-")
        if set(cells) != {"-"}:
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines

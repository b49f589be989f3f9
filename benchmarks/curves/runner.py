"""Runs of a rule on a task in virtual time, appended to a file as they finish."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.curves.tasks import STEPS, Task

from studyflow.simulation import Cluster, simulate
from studyflow.spec import StudySpec
from studyflow.trial.record import TrialState

PRUNERS: Final[dict[str, dict[str, Any]]] = {
    "none": {"type": "none"},
    "median": {"type": "median"},
    "asha": {"type": "asha", "min_resource": 1, "reduction_factor": 3},
    "promotion": {
        "type": "asha",
        "variant": "promotion",
        "min_resource": 1,
        "reduction_factor": 3,
    },
    "hyperband": {"type": "hyperband", "min_resource": 1, "reduction_factor": 3},
}
"""Pruners by the names used here; another name is one of a study file's, with its defaults."""

FULL: Final = "botorch/none"
"""Our sampler with full trainings: what all others are measured by."""

RULES: Final = (
    FULL,
    "botorch/median",
    "botorch/asha",
    "botorch/promotion",
    "botorch/hyperband",
    "tpe/hyperband",
    "tpe/median",
    "random/asha",
)
"""Sampler and pruner. Optuna's own study hides other brackets from TPE; ours does not."""

MANY: Final = 20
"""Trials that may be tried for each full training that the budget pays."""


@dataclass(frozen=True)
class Key:
    """What identifies a run: it is never made twice in one file."""

    task: str
    rule: str
    seed: int
    slots: int
    restart: float
    """Cost of starting an attempt, as a share of a full training."""
    n_full: int
    """The budget: as many full trainings."""


@dataclass(frozen=True)
class Run:
    """One finished run."""

    key: Key
    told: list[tuple[float, float | None]]
    """For each trial, as it ended: GPU-seconds spent by then, and its true value; `None` for one
    that did not come to its end."""
    n_trials: int
    n_complete: int
    n_steps: int
    unit_seconds: float
    seconds: float
    cpu_seconds: float


def budget_seconds(task: Task, key: Key) -> float:
    """Return the GPU-seconds that a run may spend."""
    return key.n_full * task.full_seconds * (1 + key.restart)


def make_run(task: Task, key: Key) -> Run:
    """Return a run. Its budget is the study's own, so trials that have begun may exceed it."""
    sampler, _, pruner = key.rule.partition("/")
    spec = StudySpec.from_mapping(
        {
            "name": f"{task.name}-{key.seed}",
            "objectives": [{"metric": "loss", "direction": "minimize"}],
            "search_space": {name: dict(part) for name, part in task.space.items()},
            "sampler": {"type": sampler},
            "pruner": PRUNERS.get(pruner, {"type": pruner}),
            "budget": {
                "n_trials": MANY * key.n_full,
                "max_parallel_trials": key.slots,
                "gpu_hours": budget_seconds(task, key) / 3600,
            },
            "stop": {"first_failures": 0},
            "trial": {"command": ["python", "train.py"], "budget": STEPS},
        }
    )
    cluster = Cluster(
        slots=key.slots,
        startup_seconds=key.restart * task.full_seconds,
        checkpoint_every=1,
    )
    began = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = simulate(spec, task.train, cluster, seed=key.seed)
    told = [
        (
            round(t.unit_seconds, 3),
            task.true_value(t.record.params) if t.value is not None else None,
        )
        for t in found.told
    ]
    return Run(
        key,
        told,
        len(found.records),
        found.n_in(TrialState.COMPLETE),
        found.n_steps,
        found.unit_seconds,
        found.seconds,
        round(time.process_time() - began, 2),
    )


def read_runs(paths: Iterable[Path]) -> dict[Key, Run]:
    """Return all runs of the files; of repeated ones the last."""
    runs: dict[Key, Run] = {}
    for path in paths:
        if not path.exists():
            continue
        for line in path.read_text().splitlines():
            fields = json.loads(line)
            key = Key(**fields.pop("key"))
            told = [(spent, value) for spent, value in fields.pop("told")]
            runs[key] = Run(key, told, **fields)
    return runs


def run_all(
    tasks: Mapping[str, Task], keys: Iterable[Key], to: Path, seconds: float | None = None
) -> int:
    """Make those of the runs that the file does not hold yet, and append each to it.

    Args:
        tasks: By name.
        keys: The runs.
        to: The file.
        seconds: Begin no further run after so much CPU time, but one in any case; `None` for no
            limit.

    Returns:
        How many are still to be made.
    """
    done, began, n_made, n_left = read_runs([to]), time.process_time(), 0, 0
    for key in keys:
        if key in done:
            continue
        if seconds is not None and n_made and time.process_time() - began > seconds:
            n_left += 1
            continue
        n_made += 1
        run = make_run(tasks[key.task], key)
        with to.open("a") as file:
            file.write(json.dumps(asdict(run)) + "\n")
        best = min((value for _, value in run.told if value is not None), default=float("nan"))
        print(
            f"{key.task} {key.rule} seed={key.seed} slots={key.slots} restart={key.restart:g}: "
            f"{best:.5g}, {run.n_complete} of {run.n_trials} trials, {run.cpu_seconds} s"
        )
    return n_left

"""The harness of benchmarks/curves: tasks, runs in virtual time, report."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks.curves.families import NAMES, made
from benchmarks.curves.report import regret_ratio, table, time_ratio, value_after
from benchmarks.curves.runner import FULL, RULES, Key, Run, make_run, read_runs, run_all
from benchmarks.curves.tasks import STEPS
from benchmarks.curves.trainings import TASKS, curve_of, grid, real

TASKS_BY_NAME = {task.name: task for task in made()}
POWER = TASKS_BY_NAME["power"]


@pytest.mark.parametrize("name", sorted(TASKS_BY_NAME))
def test_no_point_is_better_than_the_optimum_and_trainings_are_repeatable(name: str) -> None:
    task = TASKS_BY_NAME[name]
    points = np.random.default_rng(3).random((200, len(NAMES)))
    params = [dict(zip(NAMES, map(float, point), strict=True)) for point in points]
    assert min(map(task.true_value, params)) >= task.optimum - 1e-3 * task.scale
    assert task.scale > 0
    first, again = task.train(params[0], 5), task.train(params[0], 5)
    assert first == again
    assert len(first.values) == STEPS
    assert first != task.train(params[0], 6)


def test_what_a_training_is_worth_is_about_what_it_ends_with() -> None:
    task = TASKS_BY_NAME["two-rates"]
    params = dict.fromkeys(NAMES, 0.4)
    ends = [task.train(params, seed).values[-1] for seed in range(50)]
    assert float(np.mean(ends)) == pytest.approx(task.true_value(params), abs=0.01)


def test_both_halves_have_every_kind_of_task() -> None:
    halves = {task.half for task in made()} | set(TASKS.values())
    assert halves == {"tune", "report"}
    for half in halves:
        own = [task for task in made() if task.half == half]
        assert len(own) == 7
        assert sum(task.family == "costly" for task in own) == 1
    assert {task.name for task in real()} == set(TASKS)


def test_a_costly_task_takes_longer_for_some_parameters_and_its_mean_on_average() -> None:
    task = TASKS_BY_NAME["costly-power"]
    low, high = (task.train(dict.fromkeys(NAMES, x), 0).total_seconds for x in (0.0, 1.0))
    assert high / low == pytest.approx(math.exp(2.0))
    assert low < task.full_seconds < high


def key(rule: str = FULL, seed: int = 0) -> Key:
    return Key("power", rule, seed, slots=4, restart=0.02, n_full=4)


def test_a_run_spends_its_budget_and_says_when_it_knew_what() -> None:
    run = make_run(POWER, key("random/asha"))
    budget = 4 * POWER.full_seconds * 1.02
    assert 0.8 * budget < run.unit_seconds < 2.5 * budget
    assert run.n_trials == len(run.told) > 4 >= run.n_complete
    assert run.told == sorted(run.told, key=lambda told: told[0])
    assert make_run(POWER, key("random/asha")).told == run.told


def test_full_trainings_are_as_many_as_the_budget_pays() -> None:
    run = make_run(POWER, replace(key(), rule="random/none", slots=1, n_full=6))
    assert (run.n_complete, run.n_steps) == (6, 6 * STEPS)


def test_runs_are_made_once_and_appended(tmp_path: Path) -> None:
    keys = [key("random/none"), key("random/asha")]
    to = tmp_path / "runs.jsonl"
    assert run_all(TASKS_BY_NAME, keys, to, seconds=0.0) == 1
    assert run_all(TASKS_BY_NAME, keys, to) == 0
    before = to.read_text()
    assert run_all(TASKS_BY_NAME, keys, to) == 0
    assert to.read_text() == before
    assert list(read_runs([to])) == keys


def a_run(rule: str, *told: tuple[float, float | None], seed: int = 0) -> Run:
    return Run(key(rule, seed), list(told), 9, 9, 9, 1.0, 1.0, 1.0)


def test_ratios_are_those_of_time_to_the_final_quality_and_of_regret() -> None:
    budget = 4 * POWER.full_seconds * 1.02
    best, good = POWER.optimum + 0.1, POWER.optimum + 0.2
    full = a_run(FULL, (0.2 * budget, good), (0.8 * budget, best))
    fast = a_run("x/y", (0.1 * budget, None), (0.2 * budget, best))
    never = a_run("x/z", (0.3 * budget, good))
    assert value_after(full, 0.5 * budget) == good
    assert time_ratio(fast, full, POWER) == pytest.approx(0.25)
    assert time_ratio(full, full, POWER) == 1.0
    assert time_ratio(never, full, POWER) == pytest.approx(1.5 / 0.8)
    assert regret_ratio(fast, full, POWER, 0.25) == pytest.approx(0.5)
    assert regret_ratio(never, full, POWER, 1.0) == pytest.approx(2.0)
    assert regret_ratio(never, full, POWER, 0.25) == pytest.approx(10 * POWER.scale / 0.2)


def test_the_table_compares_runs_of_the_same_seed_only() -> None:
    budget = 4 * POWER.full_seconds * 1.02
    runs = [
        a_run(FULL, (0.8 * budget, POWER.optimum + 0.1)),
        a_run("tpe/median", (0.4 * budget, POWER.optimum + 0.1)),
        a_run("tpe/median", (0.1 * budget, POWER.optimum + 0.1), seed=1),
    ]
    text = table({run.key: run for run in runs}, TASKS_BY_NAME)
    assert "| made | `tpe/median` | 0.50 (0.50-0.50) |" in text
    assert text.rstrip().endswith("| 1 |")


@pytest.mark.slow  # imports torch
def test_a_configuration_is_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURVES_CACHE", str(tmp_path))
    params = {"rate": 4, "width": 0, "dropout": 0, "decay": 2}
    assert params in grid()
    curve = curve_of("mlp-wine", params)
    assert len(curve) == STEPS
    assert curve[-1] < curve[0]
    assert curve_of("mlp-wine", params) is curve
    assert len((tmp_path / "mlp-wine.jsonl").read_text().splitlines()) == 1


def test_every_rule_names_a_sampler_and_a_pruner() -> None:
    assert all(len(rule.split("/")) == 2 for rule in RULES)
    assert FULL in RULES

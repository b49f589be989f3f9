"""The harness of benchmarks/samplers: problems, simulated clock, report."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
from benchmarks.samplers.beliefs import beliefs
from benchmarks.samplers.declared import DeclaredSampler
from benchmarks.samplers.problems import Params, Problem, Trial, analytic, random_values
from benchmarks.samplers.report import as_ours, compare, mean_ranks, regret, table, waste
from benchmarks.samplers.runner import Key, Run, read_runs, run_all, simulate
from benchmarks.samplers.trainings import trainings
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from studyflow.samplers.botorch import BoTorchSampler
from studyflow.samplers.space.dimension import make_dimension

PROBLEMS = analytic()


@pytest.mark.parametrize("name", sorted(PROBLEMS))
def test_every_problem_has_its_optimum_where_it_says_and_nothing_below(name: str) -> None:
    problem = PROBLEMS[name]
    assert problem.best_params is not None
    tolerance = 1e-5 * problem.scale

    assert problem.compute(problem.best_params) == pytest.approx(problem.optimum, abs=tolerance)
    assert min(random_values(problem, 300, seed=1)) >= problem.optimum - tolerance


def test_every_family_has_problems_in_both_halves() -> None:
    halves: dict[str, set[str]] = {}
    for problem in PROBLEMS.values():
        halves.setdefault(problem.family, set()).add(problem.half)

    assert halves == {
        family: {"tune", "report"}
        for family in ("numeric", "mixed", "conditional", "noisy", "diverging")
    }


@pytest.mark.parametrize("name", sorted(trainings()))
def test_every_training_gives_a_number_no_less_than_its_reference(name: str) -> None:
    problem = trainings()[name]

    (value,) = random_values(problem, 1, seed=2)

    assert math.isfinite(value)
    assert value > problem.optimum


@pytest.mark.parametrize("name", ["mixed12-a", "layers-a", "categorical-a"])
def test_a_right_belief_is_nearer_to_the_optimum_than_a_wrong_one(name: str) -> None:
    problem = PROBLEMS[name]
    assert problem.best_params is not None
    right, wrong = (beliefs(problem, 0, is_right=is_right) for is_right in (True, False))

    assert right.keys() == wrong.keys() == problem.best_params.keys()
    for parameter, best in problem.best_params.items():
        if "good" in right[parameter]:
            assert right[parameter]["good"] == [best]
            assert best not in wrong[parameter]["good"]
        else:
            axis = make_dimension(parameter, problem.space[parameter])
            places = [axis.position(b[parameter]["mean"]) for b in (right, wrong)]
            off = [abs(place - axis.position(best)) for place in places]
            assert off[0] < off[1] > 0.45
    assert BoTorchSampler(search_space=problem.space, priors=wrong).seed >= 0


def test_a_diverged_trial_stands_for_no_value_and_reports_a_huge_one() -> None:
    problem = PROBLEMS["diverging-rosenbrock4"]
    generator = np.random.default_rng(0)
    crash = {"x0": 2.5, "x1": 1.0, "x2": 1.0, "x3": 1.0}
    assert problem.best_params is not None

    told = {problem.measure(crash, generator)[0] for _ in range(30)}
    lost = sum(math.isinf(problem.measure(problem.best_params, generator)[1]) for _ in range(1000))

    assert told == {1e4, math.inf}
    assert 30 <= lost <= 70


@pytest.mark.parametrize("workers", [1, 4, 16])
def test_a_simulation_keeps_all_workers_busy_never_more_and_repeats_itself(workers: int) -> None:
    key = Key("branin", "random", seed=3, workers=workers, n_trials=20)

    run, again = (simulate(PROBLEMS["branin"], key) for _ in range(2))

    assert run.max_running == workers
    assert len(run.values) == len(run.milliseconds) == 20
    assert run.values == again.values


def test_ours_is_run_with_pending_trials_and_gives_finite_values() -> None:
    run = simulate(PROBLEMS["branin"], Key("branin", "ours", seed=0, workers=4, n_trials=12))

    assert run.error is None
    assert np.isfinite(run.values).all()


def test_a_sampler_that_raises_ends_its_run_and_keeps_what_it_found() -> None:
    def suggest(trial: Trial) -> Params:
        if trial.number == 2:  # type: ignore[attr-defined]
            raise ValueError("out of ideas")
        return {"x": trial.suggest_float("x", 0, 1)}

    problem = Problem("x", "numeric", "tune", suggest, lambda params: float(params["x"]), 0.0)

    run = simulate(problem, Key("x", "random", seed=0, workers=1, n_trials=5))

    assert len(run.values) == 2
    assert run.error == "ValueError: out of ideas"


def test_the_space_of_a_problem_is_the_union_of_all_its_parameters() -> None:
    space = PROBLEMS["layers-b"].space

    assert set(space) == {
        "layers",
        "lr",
        *(f"{name}{i}" for name in ("width", "drop") for i in range(4)),
    }
    assert space["lr"] == FloatDistribution(1e-5, 1e-1, log=True)
    assert space["width3"] == IntDistribution(16, 512, log=True)
    assert PROBLEMS["mixed12-b"].space["flag"] == CategoricalDistribution([False, True])


class Recorder:
    """Suggests the same each time and keeps what it is told."""

    def __init__(self, params: Params) -> None:
        self.params = params
        self.told: list[tuple[Params, float]] = []

    def ask(self) -> Params:
        return dict(self.params)

    def tell(self, params: Params, value: float) -> None:
        self.told.append((params, value))


def test_an_optimizer_of_a_declared_space_is_told_all_it_suggested_used_or_not() -> None:
    problem = PROBLEMS["optimisers-b"]
    params = {"s0": 0.1, "s1": 0.2, "s2": 0.3, "optimiser": "adam", "adam_lr": 1e-4, "beta": 0.5}
    optimizer = Recorder(params | {"sgd_lr": 0.1, "momentum": 0.9})
    study = optuna.create_study(sampler=DeclaredSampler(optimizer, problem.space))
    for value in (0.25, math.inf):
        trial = study.ask()
        assert problem.suggest(trial) == params
        study.tell(trial, value)

    assert optimizer.told == [(optimizer.params, 0.25), (optimizer.params, math.inf)]


def test_a_parameter_that_was_not_declared_is_refused() -> None:
    space = {"x": FloatDistribution(0.0, 1.0)}
    study = optuna.create_study(sampler=DeclaredSampler(Recorder({"x": 0.5}), space))
    trial = study.ask()

    assert trial.suggest_float("x", 0.0, 1.0) == 0.5
    with pytest.raises(LookupError, match="y is not in the declared space"):
        trial.suggest_float("y", 0.0, 1.0)


def test_runs_are_appended_and_not_made_twice(tmp_path: Path) -> None:
    to = tmp_path / "runs.jsonl"
    keys = [Key("branin", "random", seed, 1, 5) for seed in range(3)]

    run_all(PROBLEMS.values(), keys[:2], to)
    first = to.read_text()
    run_all(PROBLEMS.values(), keys, to)

    assert to.read_text().startswith(first)
    assert [json.loads(line)["key"]["seed"] for line in to.read_text().splitlines()] == [0, 1, 2]
    assert set(read_runs([to])) == set(keys)


def _hand_made() -> tuple[dict[Key, Run], dict[str, Problem]]:
    def problem(name: str) -> Problem:
        return Problem(
            name, "numeric", "report", lambda trial: {}, lambda params: 0.0, 1.0, known_scale=10.0
        )

    # Regret of ours and of the peer: 1 and 2, 2 and 1 on one problem; 1 and 4 on the other.
    found = {("a", 0): (2.0, 3.0), ("a", 1): (3.0, 2.0), ("b", 0): (2.0, 5.0)}
    runs: dict[Key, Run] = {}
    for (name, seed), values in found.items():
        for sampler, value in zip(("ours", "gp"), values, strict=True):
            key = Key(name, sampler, seed, 1, 2)
            runs[key] = Run(key, [9.0, value], [1.0, 3.0], 1, None)
    return runs, {"a": problem("a"), "b": problem("b")}


def test_the_ratio_is_the_geometric_mean_over_problems_of_that_over_seeds() -> None:
    runs, problems = _hand_made()

    found = compare(runs, problems, "numeric", "gp")

    assert found is not None
    assert found.ratio == pytest.approx(0.5)  # sqrt(1 * 1/4)
    assert (found.low, found.high) == pytest.approx((math.sqrt(1 / 8), math.sqrt(1 / 2)))
    assert (found.n_problems, found.n_pairs) == (2, 3)
    assert compare(runs, problems, "async", "gp") is None
    assert mean_ranks(runs, problems, "numeric", ["ours", "gp"]) == pytest.approx(
        {"ours": 4 / 3, "gp": 5 / 3}
    )


def test_another_sampler_may_take_the_place_of_ours() -> None:
    runs, problems = _hand_made()

    swapped = as_ours(runs, "gp")

    assert {key.sampler for key in swapped} == {"ours"}
    assert compare(swapped, problems, "numeric", "gp") is None
    assert as_ours(runs, "ours") == runs


def test_one_row_is_of_all_families_together_but_not_of_parallel_runs() -> None:
    runs, problems = _hand_made()
    problems["b"] = replace(problems["b"], family="mixed")
    parallel = [replace(key, workers=8) for key in runs]
    runs |= {key: Run(key, [9.0, 9.0], [1.0], 8, None) for key in parallel}

    found = compare(runs, problems, "sequential", "gp")

    assert found is not None
    assert (found.n_problems, found.n_pairs) == (2, 3)
    assert found.ratio == pytest.approx(0.5)
    assert table(runs, problems).splitlines()[2].startswith("| sequential | gp | 0.50 |")


def test_the_report_is_literal_and_the_same_each_time() -> None:
    runs, problems = _hand_made()

    text = table(runs, problems)

    assert text == table(runs, problems)
    assert "| numeric | gp | 0.50 | 0.35-0.71 | 2 | 3 | 1.33 | 1.67 |" in text
    assert "| a | 1 | 2 | 0.15 (2) | 0.15 (2) |" in text
    assert "| ours | 2.0 | 0 of 3 |" in text


def test_waste_is_the_share_of_late_trials_worse_than_the_median_of_the_start() -> None:
    def run(values: list[float]) -> Run:
        return Run(Key("a", "ours", 0, 1, len(values)), values, [], 1, None)

    start = [5.0, 1.0, 3.0, 2.0, 4.0]  # the median is 3

    assert waste(run([*start, 0.0, 0.0, 9.0, 9.0, *[0.0] * 6])) == 0.0
    assert waste(run([*start, *[0.0] * 5, 4.0, 3.0, math.inf, 0.0, 0.0])) == pytest.approx(2 / 5)
    assert waste(run([*[math.inf] * 5, *[math.inf] * 10])) == 0.0  # no worse than how it began
    assert waste(run([])) == 1.0  # gave up at once


def test_the_report_has_the_mean_waste_of_each_family() -> None:
    runs, problems = _hand_made()
    late = {"ours": [9.0] * 10 + [1.0] * 5, "gp": [9.0] * 10 + [10.0] * 4 + [1.0]}
    for sampler, values in late.items():
        key = Key("a", sampler, 5, 1, 15)
        runs[key] = Run(key, values, [], 1, None)
    problems["a"] = replace(problems["a"], family="mixed")

    lines = table(runs, problems).splitlines()

    # Runs of two trials have no last third, and waste all of it.
    start = lines.index("| family | ours | gp |")
    assert "| mixed | 50 | 90 |" in lines[start:]


def test_regret_has_a_floor_and_nothing_found_has_a_price() -> None:
    _, problems = _hand_made()
    key = Key("a", "ours", 0, 1, 1)

    assert regret(Run(key, [1.0], [], 1, None), problems["a"]) == pytest.approx(0.01)
    assert regret(Run(key, [math.inf], [], 1, None), problems["a"]) == pytest.approx(100.0)
    assert regret(Run(key, [], [], 1, "gave up"), problems["a"]) == pytest.approx(100.0)

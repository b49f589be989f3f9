"""Samplers and pruners by their names, each through a whole study of ask and tell."""

from __future__ import annotations

import logging
import math
import warnings
from typing import Any, get_args

import optuna
import pytest
from tests.unit.study.studies import complete, make_spec, open_study

from studyflow.errors import SamplerError
from studyflow.samplers import make_pruner, make_sampler
from studyflow.samplers.fallback import FallbackSampler
from studyflow.samplers.registry import grid_values
from studyflow.spec.models import PrunerName, SamplerName
from studyflow.study import Study, Verdict
from studyflow.trial import Cause, MetricPoint
from studyflow.trial.record import TrialRecord, TrialState

PLANE: dict[str, Any] = {
    "x": {"type": "float", "low": -1.0, "high": 1.0},
    "y": {"type": "float", "low": 1.0e-3, "high": 1.0, "log": True},
}
MIXED: dict[str, Any] = {
    **PLANE,
    "units": {"type": "int", "low": 16, "high": 128, "step": 16},
    "optimizer": {"type": "categorical", "choices": ["adam", "sgd"]},
    "momentum": {"type": "float", "low": 0.5, "high": 0.9, "when": {"optimizer": "sgd"}},
}
FINITE: dict[str, Any] = {
    "units": {"type": "int", "low": 1, "high": 4},
    "rate": {"type": "float", "low": 0.1, "high": 0.5, "step": 0.1},
}
TWO = [{"metric": "loss", "direction": "minimize"}, {"metric": "f1", "direction": "maximize"}]

SPACES = dict.fromkeys(get_args(SamplerName), MIXED) | {"grid": FINITE}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "botorch": {"n_startup_trials": 4},
    "gp": {"n_startup_trials": 4},
    "tpe": {"n_startup_trials": 4},
    "nsga2": {"population_size": 4},
}
SEVERAL_OBJECTIVES = ("botorch", "gp", "tpe", "nsga2", "qmc", "random", "grid")

PRUNER_ARGUMENTS: dict[str, dict[str, Any]] = {
    "percentile": {"percentile": 25.0},
    "threshold": {"upper": 1.0e9},
    "patient": {"patience": 1, "wrapped": {"type": "median"}},
}


def sampler_spec(name: str, *, several: bool = False, n_trials: int = 12, **arguments: Any) -> Any:
    changes: dict[str, Any] = {"objectives": TWO} if several else {}
    return make_spec(
        search_space=SPACES[name],
        sampler={"type": name, "seed": 1, **ARGUMENTS.get(name, {}), **arguments},
        budget={"n_trials": n_trials, "max_parallel_trials": 2},
        **changes,
    )


def score(trial: TrialRecord) -> float:
    numbers = [float(v) for v in trial.params.values() if isinstance(v, int | float)]
    return sum(v * v for v in numbers)


def drive(study: Study, n_trials: int | None = None) -> list[TrialRecord]:
    """Run the study (or `n_trials` of it) with two trials at once; every fourth one fails."""
    asked: list[TrialRecord] = []
    running: list[TrialRecord] = []
    while n_trials is None or len(asked) < n_trials:
        trial = study.ask()
        if trial is None:
            break
        asked.append(trial)
        running.append(trial)
        if len(running) == 2:
            _finish(study, running.pop(0))
    for trial in running:
        _finish(study, trial)
    return asked


def _finish(study: Study, trial: TrialRecord) -> None:
    if trial.number % 4 == 3:
        verdict = Verdict(Cause.HOST_OOM, TrialState.FAILED, "too big")
    else:
        verdict = complete(*([score(trial), -score(trial)][: len(study.spec.objectives)]))
    study.tell(trial.number, verdict)


@pytest.mark.parametrize("name", get_args(SamplerName))
def test_every_sampler_runs_a_study_to_its_end_without_a_warning(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    spec = sampler_spec(name)
    study = open_study(spec)
    optuna.logging.enable_propagation()
    with caplog.at_level(logging.WARNING):
        asked = drive(study)
    optuna.logging.disable_propagation()

    assert len(asked) == 12
    assert all(not spec.space.problems(trial.params) for trial in asked)
    assert [r.message for r in caplog.records if r.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("name", SEVERAL_OBJECTIVES)
def test_samplers_for_several_objectives_run_such_a_study(name: str) -> None:
    study = open_study(sampler_spec(name, several=True, n_trials=8))

    assert len(drive(study)) == 8
    assert len(study.trials().best) >= 1


@pytest.mark.parametrize("name", ["random", "qmc", "tpe", "botorch", "grid", "cmaes"])
@pytest.mark.parametrize("cut", [1, 2, 5])
def test_a_restart_draws_no_point_a_second_time(name: str, cut: int) -> None:
    kept = optuna.storages.InMemoryStorage()
    spec = sampler_spec(name, n_trials=10)
    drive(open_study(spec, kept), cut)

    drive(open_study(spec, kept))

    points = [tuple(sorted(r.params.items())) for r in open_study(spec, kept).records()]
    assert len(set(points)) == len(points) == 10


@pytest.mark.parametrize("name", ["random", "qmc", "tpe", "botorch"])
def test_a_restart_before_anything_has_finished_draws_no_point_a_second_time(name: str) -> None:
    kept = optuna.storages.InMemoryStorage()
    spec = sampler_spec(name, n_trials=9)
    for _ in range(3):
        study = open_study(spec, kept)
        for _ in range(3):
            assert study.ask() is not None

    points = [tuple(sorted(r.params.items())) for r in study.records()]
    assert len(set(points)) == len(points) == 9


@pytest.mark.parametrize("name", ["botorch", "gp"])
def test_models_cope_with_fewer_trials_than_they_would_like(name: str) -> None:
    study = open_study(sampler_spec(name, n_trials=3, n_startup_trials=1))

    assert len(drive(study)) == 3


@pytest.mark.parametrize("name", get_args(PrunerName))
def test_every_pruner_runs_a_study_to_its_end_without_a_warning(name: str) -> None:
    spec = make_spec(
        pruner={"type": name, **PRUNER_ARGUMENTS.get(name, {})},
        budget={"n_trials": 12},
        trial={"command": ["python", "train.py"], "budget": 6},
    )
    study = open_study(spec)
    while (asked := study.ask()) is not None:
        pruned = False
        for step in range(6):
            value = score(asked) * 10 + 1 / (step + 1)
            study.report(asked.number, [MetricPoint("loss", step, value, 0)])
            pruned = study.should_prune(asked.number)
            assert pruned in (True, False)
            if pruned:
                break
        state = TrialState.PRUNED if pruned else TrialState.COMPLETE
        cause = Cause.PRUNED if pruned else Cause.OK
        study.tell(asked.number, Verdict(cause, state, values=None if pruned else (value,)))

    states = [r.state for r in study.records()]
    assert len(states) == 12
    if name == "none":
        assert set(states) == {TrialState.COMPLETE}
    if name in ("median", "percentile", "asha"):
        assert TrialState.PRUNED in states


def test_hyperband_takes_the_trials_budget_as_its_largest_resource() -> None:
    spec = make_spec(pruner={"type": "hyperband"}, trial={"command": ["python"], "budget": 81})

    assert make_pruner(spec).pruner._max_resource == 81  # type: ignore[attr-defined]


def test_a_wrapped_pruner_is_made_from_its_own_section() -> None:
    spec = make_spec(
        pruner={
            "type": "patient",
            "patience": 3,
            "wrapped": {"type": "percentile", "percentile": 9},
        }
    )
    pruner: Any = make_pruner(spec).pruner

    assert isinstance(pruner._wrapped_pruner, optuna.pruners.PercentilePruner)


def judged_study(pruner: str, peers: float = 1.0) -> Study:
    """Return a study with three complete trials, all of one value at every step, and a fourth."""
    arguments = PRUNER_ARGUMENTS | {"threshold": {"upper": 5.0}, "median": {"n_startup_trials": 1}}
    trial = {"command": ["python", "train.py"], **({"budget": 30} if pruner == "curve" else {})}
    spec = make_spec(pruner={"type": pruner, **arguments.get(pruner, {})}, trial=trial)
    study = open_study(spec)
    for number in range(3):
        study.ask()
        study.report(number, [MetricPoint("loss", step, peers, 0) for step in range(30)])
        study.tell(number, complete(1.0))
    study.ask()
    return study


@pytest.mark.fault("F71")
@pytest.mark.parametrize("name", get_args(PrunerName))
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_no_pruner_judges_a_report_that_is_not_finite(name: str, bad: float) -> None:
    study = judged_study(name)
    study.report(3, [MetricPoint("loss", step, 9.0, 0) for step in range(27)])
    study.report(3, [MetricPoint("loss", 27, bad, 0)])

    assert not study.should_prune(3)


@pytest.mark.fault("F71")
@pytest.mark.parametrize("name", ["median", "threshold", "wilcoxon"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_report_that_is_not_finite_saves_no_hopeless_trial(name: str, bad: float) -> None:
    study = judged_study(name)
    study.report(3, [MetricPoint("loss", 0, bad, 0)])
    study.report(3, [MetricPoint("loss", step, 9.0, 0) for step in range(1, 28)])

    assert study.should_prune(3)


@pytest.mark.parametrize("name", get_args(PrunerName))
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_peers_that_are_not_finite_raise_no_warning(name: str, bad: float) -> None:
    study = judged_study(name, peers=bad)
    study.report(3, [MetricPoint("loss", step, 1.0, 0) for step in range(28)])

    assert study.should_prune(3) in (True, False)


class Onlooker(optuna.samplers.BaseSampler):
    """Passes every call on, and notes how many finished trials the sampler was shown."""

    def __init__(self, sampler: optuna.samplers.BaseSampler) -> None:
        self.sampler = sampler
        self.seen: list[int] = []

    def __getattribute__(self, name: str) -> Any:
        hooks = ("before_trial", "infer_relative_search_space", "sample_relative", "after_trial")
        if name not in (*hooks, "sample_independent"):
            return super().__getattribute__(name)

        def look_and_pass_on(study: optuna.Study, *arguments: Any) -> Any:
            trials = study.get_trials(deepcopy=False)
            self.seen.append(sum(trial.state.is_finished() for trial in trials))
            return getattr(self.sampler, name)(study, *arguments)

        return look_and_pass_on

    infer_relative_search_space = sample_relative = sample_independent = None  # type: ignore


@pytest.mark.fault("F76")
@pytest.mark.parametrize("pruner", get_args(PrunerName))
@pytest.mark.parametrize("sampler", get_args(SamplerName))
def test_every_sampler_sees_all_trials_under_every_pruner(sampler: str, pruner: str) -> None:
    spec = make_spec(
        search_space=SPACES[sampler],
        sampler={"type": sampler, "seed": 1},
        pruner={"type": pruner, **PRUNER_ARGUMENTS.get(pruner, {})},
        budget={"n_trials": 7},
        trial={"command": ["python", "train.py"], "budget": 27},
    )
    study = open_study(spec)
    onlooker = Onlooker(study.optuna_study.sampler)
    study.optuna_study.sampler = onlooker

    for number in range(7):
        asked = study.ask()
        assert asked is not None
        study.report(number, [MetricPoint("loss", 0, score(asked), 0)])
        study.should_prune(number)
        study.tell(number, complete(score(asked)))
        assert set(onlooker.seen) == {number}
        onlooker.seen.clear()


@pytest.mark.fault("F76")
def test_hyperband_still_compares_within_its_brackets() -> None:
    spec = make_spec(
        pruner={"type": "hyperband"},
        budget={"n_trials": 60},
        trial={"command": ["python", "train.py"], "budget": 28},
    )
    study = open_study(spec)
    pruned_at = set()
    for number in range(60):
        assert study.ask() is not None
        for step in range(27):
            study.report(number, [MetricPoint("loss", step, float(number), 0)])
            if study.should_prune(number):
                pruned_at.add(step)
                break
        study.tell(number, Verdict(Cause.PRUNED, TrialState.PRUNED))

    assert pruned_at == {1, 3, 9}  # the first rung of each of three brackets; the fourth runs


@pytest.mark.parametrize("name", get_args(SamplerName))
def test_making_a_sampler_warns_of_nothing(name: str) -> None:
    spec = sampler_spec(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n_trials in (0, 7):
            assert isinstance(make_sampler(spec, 5, n_trials), optuna.samplers.BaseSampler)


def test_experimental_arguments_warn_of_nothing() -> None:
    spec = make_spec(sampler={"type": "tpe", "multivariate": True, "group": True})

    made = make_sampler(spec, 1, 0)
    assert isinstance(made, FallbackSampler)
    assert isinstance(made.sampler, optuna.samplers.TPESampler)


def test_arguments_that_a_sampler_or_pruner_refuses_are_named() -> None:
    spec = make_spec()
    broken = spec.model_copy(
        update={
            "sampler": spec.sampler.model_validate({"type": "tpe", "no_such": 1}),
            "pruner": spec.pruner.model_validate({"type": "median", "no_such": 1}),
        }
    )

    with pytest.raises(SamplerError, match=r"The sampler 'tpe' refuses: .*no_such"):
        make_sampler(broken, 1, 0)
    with pytest.raises(SamplerError, match=r"The pruner 'median' refuses: .*no_such"):
        make_pruner(broken)


@pytest.mark.fault("F73")
@pytest.mark.parametrize("name", get_args(SamplerName))
def test_suggestions_are_points_of_the_grid_to_the_last_digit(name: str) -> None:
    grids = {
        "thirds": {"type": "float", "low": 0.0, "high": 1.0, "step": 1 / 3},
        "tenths": {"type": "float", "low": 0.1, "high": 0.4, "step": 0.1},
    }
    repeats_nothing = name in ("botorch", "grid")
    spec = make_spec(
        search_space=grids,
        enqueue=[{"thirds": 1.0, "tenths": 3 * 0.1}],
        sampler={"type": name, "seed": 1, **ARGUMENTS.get(name, {})},
        budget={"n_trials": 16 if repeats_nothing else 8},
    )
    study = open_study(spec)

    points = []
    while (record := study.ask()) is not None:
        points.append((record.params["thirds"], record.params["tenths"]))
        study.tell(record.number, complete(float(record.number)))

    assert len(points) == spec.budget.n_trials
    assert points[0] == (1.0, 0.3)
    assert {x for x, _ in points} <= {0.0, 0.3333333333333333, 0.6666666666666666, 1.0}
    assert {y for _, y in points} <= {0.1, 0.2, 0.3, 0.4}
    if repeats_nothing:
        assert len(set(points)) == 16


@pytest.mark.fault("F73")
def test_a_grid_takes_points_of_an_older_studyflow_for_those_they_are_up_to_rounding() -> None:
    spec = make_spec(
        search_space={"x": {"type": "float", "low": 0.0, "high": 0.5, "step": 0.1}},
        enqueue=[{"x": 0.3}],
        sampler={"type": "grid", "seed": 1},
        budget={"n_trials": 6},
    )
    storage = optuna.storages.InMemoryStorage()
    old = optuna.create_study(study_name=spec.name, storage=storage)
    old.enqueue_trial({"x": 3 * 0.1})
    old.tell(old.ask(dict(spec.space.distributions())), 1.0)

    study = open_study(spec, storage)
    asked = []
    while (record := study.ask()) is not None:
        asked.append(record.params["x"])
        study.tell(record.number, complete(1.0))

    assert asked == [0.0, 0.1, 0.2, 0.4, 0.5]


def test_a_grid_has_every_value_of_every_parameter() -> None:
    space = make_spec(
        search_space={
            "a": {"type": "int", "low": 1, "high": 9, "step": 4},
            "b": {"type": "float", "low": 0.0, "high": 1.0, "step": 0.25},
            "c": {"type": "categorical", "choices": [True, "1", None, 2.5]},
        }
    ).space

    assert grid_values(space) == {
        "a": [1, 5, 9],
        "b": [0.0, 0.25, 0.5, 0.75, 1.0],
        "c": [True, "1", None, 2.5],
    }
    with pytest.raises(SamplerError, match="cannot enumerate x"):
        grid_values(make_spec().space)


def test_priors_of_a_study_file_reach_our_sampler_and_leave_optunas_alone() -> None:
    believed = {**MIXED, "x": {**MIXED["x"], "prior": {"mean": 0.25, "sd": 0.1}}}
    firsts = {}
    for name in ("botorch", "tpe"):
        spec = make_spec(search_space=believed, sampler={"type": name, "seed": 1})
        study = optuna.create_study(sampler=make_sampler(spec, 1, 0))
        firsts[name] = spec.space.suggest(study.ask())

    assert firsts["botorch"]["x"] == pytest.approx(0.25, abs=0.01)
    assert firsts["tpe"]["x"] != pytest.approx(0.25, abs=0.01)

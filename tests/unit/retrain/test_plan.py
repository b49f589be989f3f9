"""What is trained again: configurations, seeds and the study of the repeats, before any starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.test_cli import DOCUMENT

from studyflow.errors import SpecError, StudyError
from studyflow.reports import StudyData
from studyflow.retrain import choose_seed_parameter, plan_retrain, rank_configurations, retrain_spec
from studyflow.retrain.plan import LARGEST_SEED, Configuration, fresh_seeds, retrain_name
from studyflow.settings import Settings
from studyflow.spec import StudySpec
from studyflow.trial import Cause, ParamValue
from studyflow.trial.record import TrialRecord, TrialState

SPACE: dict[str, Any] = {
    "x": {"type": "float", "low": 0.0, "high": 1.0, "step": 0.1},
    "opt": {"type": "categorical", "choices": ["sgd", "adam"]},
    "momentum": {"type": "float", "low": 0.0, "high": 1.0, "when": {"opt": "sgd"}},
}


def spec_with(**changes: Any) -> StudySpec:
    return StudySpec.from_mapping(
        {**DOCUMENT, "search_space": SPACE, "fixed": {"seed": 0}, **changes}
    )


def complete(number: int, value: float, **params: ParamValue) -> TrialRecord:
    return TrialRecord(
        number,
        TrialState.COMPLETE,
        {"seed": 0, "opt": "adam", **params},
        (value,),
        {"loss": value},
        cause=Cause.OK,
    )


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.resolve(home=tmp_path / "home", environment={})


def test_the_plan_has_the_best_configurations_and_starts_nothing(settings: Settings) -> None:
    source = StudyData(
        spec_with(), tuple(complete(i, loss, x=i / 10) for i, loss in enumerate((0.3, 0.1, 0.2)))
    )

    plan = plan_retrain(source, settings, top=2, repeats=3, max_parallel_trials=7)

    assert [c.label for c in plan.configurations] == ["trial 1", "trial 2"]
    assert (plan.seed_parameter, len(plan.seeds)) == ("seed", 3)
    assert (plan.spec.budget.n_trials, plan.spec.budget.max_parallel_trials) == (6, 7)
    # All configurations have one seed before any has the next: a run that is cut short compares.
    assert [point["seed"] for point in plan.spec.enqueue] == [
        seed for seed in plan.seeds for _ in range(2)
    ]
    assert not settings.home.exists()


def test_where_more_is_better_the_largest_mean_comes_first() -> None:
    spec = spec_with(objectives=[{"metric": "loss", "direction": "maximize"}])
    source = StudyData(spec, (complete(0, 0.1, x=0.1), complete(1, 0.9, x=0.9)))

    assert [c.value for c in rank_configurations(source, "seed")] == [0.9, 0.1]


def test_of_equal_configurations_the_older_one_comes_first() -> None:
    source = StudyData(spec_with(), (complete(4, 0.5, x=0.4), complete(2, 0.5, x=0.2)))

    assert [c.label for c in rank_configurations(source, "seed")] == ["trial 2", "trial 4"]


def test_points_of_a_grid_that_differ_by_rounding_are_one_configuration() -> None:
    source = StudyData(spec_with(), (complete(0, 0.2, x=0.3), complete(1, 0.4, x=0.1 + 0.2)))

    (configuration,) = rank_configurations(source, "seed")

    assert (configuration.params, len(configuration.trials)) == ({"x": 0.3, "opt": "adam"}, 2)
    assert configuration.value == pytest.approx(0.3)


def test_trials_that_no_longer_fit_the_space_and_infeasible_ones_are_left_out() -> None:
    spec = spec_with(constraints=[{"metric": "size", "max": 10}])
    fits, large = complete(0, 0.9, x=0.1), complete(1, 0.1, x=0.2)
    outside, odd = complete(2, 0.2, x=7.0), complete(3, 0.3, x=0.3, momentum=0.5)
    records = [
        TrialRecord(
            r.number,
            r.state,
            r.params,
            r.values,
            {"loss": 0.1, "size": 11.0 if r is large else 9.0},
            constraints={"size <= 10": 1.0 if r is large else -1.0},
            cause=r.cause,
        )
        for r in (fits, large, outside, odd)
    ]

    found = rank_configurations(StudyData(spec, tuple(records)), "seed")

    assert [c.label for c in found] == ["trial 0"]


def test_a_repeat_is_known_by_its_parameters_whatever_its_seed() -> None:
    configuration = Configuration({"x": 0.3, "opt": "adam"}, (complete(0, 0.5, x=0.3),))

    assert configuration.holds({"opt": "adam", "x": 0.3, "seed": 7}, "seed")
    assert not configuration.holds({"opt": "sgd", "x": 0.3, "seed": 7}, "seed")
    assert not configuration.holds({"x": 0.3, "seed": 7}, "seed")


def test_seeds_are_small_whole_numbers_that_another_study_does_not_share() -> None:
    seeds = fresh_seeds(StudyData(spec_with(), ()), "seed", 50)
    others = fresh_seeds(StudyData(spec_with(name="other"), ()), "seed", 50)

    assert len(set(seeds)) == 50
    assert all(1 <= seed <= LARGEST_SEED for seed in seeds)
    assert set(seeds) != set(others)


def test_a_searched_seed_is_replaced_by_one_of_full_range() -> None:
    searched = {**SPACE, "seed": {"type": "int", "low": 0, "high": 3}}
    spec = spec_with(search_space=searched, fixed={})
    source = StudyData(spec, (complete(0, 0.5, x=0.5, seed=2),))

    made = retrain_spec(spec, rank_configurations(source, "seed"), (LARGEST_SEED,), "seed")

    assert made.enqueue == ({"x": 0.5, "opt": "adam", "seed": LARGEST_SEED},)


def test_the_study_of_the_repeats_stands_beside_its_source_and_names_it() -> None:
    spec = spec_with(tags={"team": "vision"}, stop={"target": 0.1})
    source = StudyData(spec, (complete(0, 0.5, x=0.5),))

    made = retrain_spec(spec, rank_configurations(source, "seed"), (1,), "seed")

    assert made.name == retrain_name(spec) == "tiny-retrain"
    assert made.experiment == "tiny"
    assert made.tags == {"team": "vision", "studyflow.retrains": "tiny"}
    shared = spec_with(experiment="all")
    assert (
        retrain_spec(shared, rank_configurations(source, "seed"), (1,), "seed").experiment == "all"
    )


def test_a_study_whose_name_leaves_no_room_is_refused() -> None:
    spec = spec_with(name="n" * 195)
    source = StudyData(spec, (complete(0, 0.5, x=0.5),))

    with pytest.raises(SpecError, match="200 characters"):
        retrain_spec(spec, rank_configurations(source, "seed"), (1,), "seed")


def test_without_a_feasible_value_there_is_nothing_to_train_again(settings: Settings) -> None:
    failed = TrialRecord(0, TrialState.FAILED, {"x": 0.5, "opt": "adam"}, cause=Cause.NAN)

    with pytest.raises(StudyError, match="feasible value yet") as refused:
        plan_retrain(StudyData(spec_with(), (failed,)), settings)

    assert refused.value.hint == "run the study first: studyflow run."


@pytest.mark.parametrize("name", ["x", "opt", "rate", "flag", "word"])
def test_a_parameter_whose_values_are_no_seeds_is_refused_before_anything_is_trained(
    name: str,
) -> None:
    spec = spec_with(fixed={"rate": 0.5, "flag": True, "word": "a"})

    with pytest.raises(SpecError, match=f"^{name} of the study 'tiny' is no seed") as refused:
        choose_seed_parameter(spec, name)

    assert "--seed-parameter" in str(refused.value)


@pytest.mark.parametrize("name", ["whole", "choice", "fixed", "empty", "of_the_script"])
def test_whole_numbers_and_an_input_of_the_script_alone_may_be_the_seed(name: str) -> None:
    space = {
        **SPACE,
        "whole": {"type": "int", "low": 0, "high": 9},
        "choice": {"type": "categorical", "choices": [1, 2, 3]},
    }
    spec = spec_with(search_space=space, fixed={"fixed": 7, "empty": None})

    assert choose_seed_parameter(spec, name) == name

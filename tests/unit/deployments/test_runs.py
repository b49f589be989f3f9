"""Which study a run of a deployment is about, and that a replaced process gets the same one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import optuna
import pytest

from studyflow.deployments.runs import (
    DeploymentRun,
    finished_in_time,
    study_name,
    study_of_run,
)
from studyflow.errors import SpecError
from studyflow.spec import StudySpec

DUE = datetime(2026, 11, 25, 3, 0, tzinfo=UTC)


def spec_named(name: str = "cnn", n_trials: int = 5) -> StudySpec:
    document: dict[str, Any] = {
        "name": name,
        "objectives": [{"metric": "loss", "direction": "minimize"}],
        "search_space": {"x": {"type": "float", "low": 0.0, "high": 1.0}},
        "sampler": {"type": "random", "seed": 0},
        "budget": {"n_trials": n_trials},
        "trial": {"command": ["python", "train.py"]},
    }
    return StudySpec.from_mapping(document)


def store(storage: optuna.storages.BaseStorage, name: str, n_finished: int) -> optuna.Study:
    """Put a study with some finished trials into a storage."""
    study = optuna.create_study(study_name=name, storage=storage, load_if_exists=True)
    space: dict[str, optuna.distributions.BaseDistribution]
    space = {"x": optuna.distributions.FloatDistribution(0.0, 1.0)}
    for i in range(n_finished):
        study.add_trial(
            optuna.trial.create_trial(params={"x": 0.1 * i}, distributions=space, value=0.1 * i)
        )
    return study


@pytest.fixture
def storage() -> optuna.storages.BaseStorage:
    return optuna.storages.InMemoryStorage()


def test_finish_is_the_study_as_the_file_says(storage: optuna.storages.BaseStorage) -> None:
    spec = spec_named()
    assert study_of_run(spec, "finish", DeploymentRun("a", DUE), storage) == (spec, None)


def test_continue_adds_the_budget_to_what_is_finished(
    storage: optuna.storages.BaseStorage,
) -> None:
    store(storage, "cnn", 3)
    spec, fork_from = study_of_run(spec_named(), "continue", DeploymentRun("a", DUE), storage)
    assert (spec.name, spec.budget.n_trials, fork_from) == ("cnn", 8, None)


def test_the_process_that_replaces_a_killed_one_adds_nothing_again(
    storage: optuna.storages.BaseStorage,
) -> None:
    first, _ = study_of_run(spec_named(), "continue", DeploymentRun("a", DUE), storage)
    store(storage, "cnn", 2)  # and is killed
    again, _ = study_of_run(spec_named(), "continue", DeploymentRun("a", DUE), storage)
    after, _ = study_of_run(spec_named(), "continue", DeploymentRun("b", DUE), storage)
    n_trials = [spec.budget.n_trials for spec in (first, again, after)]
    assert n_trials == [5, 5, 7]


def test_fresh_makes_a_study_named_with_the_time_it_was_due(
    storage: optuna.storages.BaseStorage,
) -> None:
    store(storage, "cnn", 3)
    spec, fork_from = study_of_run(spec_named(), "fresh", DeploymentRun("a", DUE), storage)
    assert (spec.name, spec.budget.n_trials, fork_from) == ("cnn-2026-11-25-030000", 5, None)


def test_a_name_is_in_utc_so_that_names_sort_by_time() -> None:
    berlin = DUE.astimezone(timezone(timedelta(hours=1)))
    assert study_name("cnn", "warm", berlin) == "cnn-2026-11-25-030000"


def test_warm_takes_over_the_newest_earlier_study_that_has_trials(
    storage: optuna.storages.BaseStorage,
) -> None:
    store(storage, "cnn", 3)
    store(storage, "cnn-2026-11-23-030000", 3)
    store(storage, "cnn-2026-11-24-030000", 0)  # its runner was killed at once
    store(storage, "cnn-2026-11-26-030000", 3)  # a later run came before this one
    store(storage, "cnn-big-2026-11-24-030000", 3)  # another study
    spec, fork_from = study_of_run(spec_named(), "warm", DeploymentRun("a", DUE), storage)
    assert (spec.name, fork_from) == ("cnn-2026-11-25-030000", "cnn-2026-11-23-030000")


@pytest.mark.parametrize(("n_finished", "source"), [(3, "cnn"), (0, None)])
def test_the_first_warm_study_takes_over_the_undated_one_if_there_is_something(
    storage: optuna.storages.BaseStorage, n_finished: int, source: str | None
) -> None:
    store(storage, "cnn", n_finished)
    assert study_of_run(spec_named(), "warm", DeploymentRun("a", DUE), storage)[1] == source


def test_a_name_without_room_for_the_date_is_refused(
    storage: optuna.storages.BaseStorage,
) -> None:
    with pytest.raises(SpecError, match="200"):
        study_of_run(spec_named("c" * 190), "fresh", DeploymentRun("a", DUE), storage)


def in_time(finish_by: str, due: str, **changes: bool) -> str | None:
    """Return `finish_by` of a run that was due then, in Berlin."""
    document = spec_named().model_dump(mode="json", exclude_unset=True)
    document["budget"]["finish_by"] = finish_by
    run = DeploymentRun("a", datetime.fromisoformat(due), **changes)
    spec = finished_in_time(StudySpec.from_mapping(document), run, ZoneInfo("Europe/Berlin"))
    return spec.budget.finish_by


def test_each_nights_run_is_finished_by_the_next_morning() -> None:
    assert in_time("07:00", "2026-11-25T22:00+01:00") == "2026-11-26T07:00+01:00"
    assert in_time("07:00", "2026-11-26T22:00+01:00") == "2026-11-27T07:00+01:00"
    assert in_time("07:00", "2026-03-28T22:00+01:00") == "2026-03-29T07:00+02:00"


def test_a_moment_and_a_run_without_deployment_keep_what_the_file_says() -> None:
    moment = "2026-03-01T07:00+05:30"
    assert in_time(moment, "2026-11-25T22:00+01:00") == moment
    assert in_time("07:00", "2026-11-25T22:00+01:00", is_deployed=False) == "07:00"
    spec = spec_named()
    assert finished_in_time(spec, DeploymentRun("a", DUE)) is spec


def test_continue_goes_on_until_another_limit_where_trials_have_none(
    storage: optuna.storages.BaseStorage,
) -> None:
    document = spec_named().model_dump(mode="json", exclude_unset=True)
    endless = StudySpec.from_mapping({**document, "budget": {"gpu_hours": 4}})
    found, _ = study_of_run(endless, "continue", DeploymentRun("a", DUE), storage)
    assert found == endless

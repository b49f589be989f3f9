"""Comparisons of samplers: which runs are made, and what is kept of them."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.test_cli import DOCUMENT, write_study

from studyflow import comparison as module
from studyflow.comparison import (
    Contender,
    cancel_comparison,
    contenders,
    run_comparison,
    track_comparison,
    write_comparison,
)
from studyflow.context import StudyContext
from studyflow.errors import SpecError
from studyflow.observers.observer import Observer
from studyflow.runner import RunOptions, StudyResult, run_study
from studyflow.settings import Settings
from studyflow.spec import StudySpec
from studyflow.storage import open_storage
from studyflow.study import find_study, study_names
from studyflow.trial.record import TrialState


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "mlflow" else find(name, *a)
    )
    return Settings.resolve(home=tmp_path / "home", environment={})


def tiny(**changes: Any) -> StudySpec:
    return StudySpec.from_mapping({**DOCUMENT, **changes})


@contextmanager
def unwatched(_contender: Contender) -> Iterator[Observer]:
    yield Observer()


def test_every_sampler_has_a_seed_before_any_has_the_next() -> None:
    runs = contenders(tiny(), ["random", "tpe"], 2)
    assert [run.title for run in runs] == [
        "random, seed 0",
        "tpe, seed 0",
        "random, seed 1",
        "tpe, seed 1",
    ]
    assert len({run.spec.name for run in runs}) == 4
    assert {run.spec.experiment for run in runs} == {"tiny: samplers"}


def test_seeds_begin_at_the_study_file_s_own() -> None:
    runs = contenders(tiny(sampler={"type": "tpe", "seed": 7}), ["random", "tpe"], 2)
    assert [run.seed for run in runs] == [7, 7, 8, 8]


def test_only_the_study_file_s_sampler_keeps_its_arguments() -> None:
    spec = tiny(sampler={"type": "tpe", "n_startup_trials": 3})
    by_name = {run.sampler: run.spec.sampler for run in contenders(spec, ["tpe", "botorch"], 1)}
    assert by_name["tpe"].arguments == {"n_startup_trials": 3}
    assert by_name["botorch"].arguments == {}


def test_every_run_gets_the_whole_budget() -> None:
    spec = tiny(stop={"target": 0.5, "no_improvement_trials": 2, "alike_failures": 3})
    (first, *_) = contenders(spec, ["random", "tpe"], 1, n_trials=9, max_parallel_trials=2)
    assert (first.spec.stop.target, first.spec.stop.no_improvement_trials) == (None, None)
    assert first.spec.stop.alike_failures == 3
    assert (first.spec.budget.n_trials, first.spec.budget.max_parallel_trials) == (9, 2)


def test_a_study_s_own_experiment_holds_the_runs() -> None:
    (first, *_) = contenders(tiny(experiment="vision"), ["random", "tpe"], 1)
    assert first.spec.experiment == "vision"


def test_everything_wrong_is_said_at_once_before_anything_runs() -> None:
    objectives = [{"metric": m, "direction": "minimize"} for m in ("loss", "size")]
    with pytest.raises(SpecError) as caught:
        contenders(tiny(objectives=objectives), ["annealing"], 0)
    text = str(caught.value)
    assert "there is no sampler 'annealing'" in text
    assert "two or more different ones" in text
    assert "seeds must be 1 or more" in text
    assert "the study has 2 objectives" in text


def test_a_sampler_that_cannot_search_the_space_is_named() -> None:
    with pytest.raises(SpecError, match="grid: "):
        contenders(
            tiny(search_space={"x": {"type": "float", "low": 0, "high": 1}}), ["grid", "tpe"]
        )


def test_runs_are_made_kept_and_not_made_again(settings: Settings, tmp_path: Path) -> None:
    write_study(tmp_path)
    runs = contenders(tiny(), ["random", "qmc"], 1)
    results: list[tuple[str, int]] = []

    def keep(contender: Contender, result: StudyResult) -> None:
        results.append((contender.title, len(result.data.finished)))

    found = run_comparison(tiny(), runs, settings, unwatched, RunOptions(tmp_path), on_result=keep)
    assert results == [("random, seed 0", 3), ("qmc, seed 0", 3)]
    assert found.samplers == ("random", "qmc")

    files = write_comparison(found, tmp_path / "out")
    assert [path.name for path in files.all] == [
        "comparison.svg",
        "comparison.csv",
        "comparison.md",
    ]
    assert track_comparison(tiny(), found, files, settings) is None, "no web server"

    (tmp_path / "train.py").write_text("raise SystemExit('not again')")
    again = run_comparison(tiny(), runs, settings, unwatched, RunOptions(tmp_path))
    assert again.rows == found.rows


def test_a_paused_comparison_starts_nothing_more_and_goes_on_later(
    settings: Settings, tmp_path: Path
) -> None:
    write_study(tmp_path)
    runs = contenders(tiny(), ["random", "qmc"], 1)
    ended: list[str] = []

    def keep(contender: Contender, _result: StudyResult) -> None:
        ended.append(contender.title)

    paused = run_comparison(
        tiny(),
        runs,
        settings,
        unwatched,
        RunOptions(tmp_path, leaves=lambda: True),
        on_result=keep,
    )
    assert (paused.runs, ended) == ((), [])
    run_comparison(
        tiny(),
        runs,
        settings,
        unwatched,
        RunOptions(tmp_path, leaves=lambda: bool(ended)),  # while the second one would begin
        on_result=keep,
    )
    assert ended == ["random, seed 0"]
    run_comparison(tiny(), runs, settings, unwatched, RunOptions(tmp_path), on_result=keep)
    assert ended == ["random, seed 0", "random, seed 0", "qmc, seed 0"]


def test_a_killed_comparison_s_running_trials_are_ended(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_study(tmp_path)
    runs = contenders(tiny(), ["random", "qmc", "tpe"], 1)
    for contender in runs[:2]:
        run_study(StudyContext(contender.spec, settings), Observer(), RunOptions(tmp_path))
    storage = open_storage(settings.storage_url)
    find_study(runs[1].spec.name, storage).ask()
    cancelled: list[str] = []
    told: list[Observer] = []

    def cancel(context: StudyContext, observer: Observer, **_: object) -> None:
        cancelled.append(context.spec.name)
        told.append(observer)

    monkeypatch.setattr(module, "cancel_study", cancel)
    observer = Observer()

    cancel_comparison(runs, settings, observer, folder=tmp_path)

    assert cancelled == [runs[1].spec.name]
    assert told == [observer], "what could not be ended is told"
    assert set(study_names(storage)) == {run.spec.name for run in runs[:2]}


def test_cancelling_ends_what_really_runs(settings: Settings, tmp_path: Path) -> None:
    write_study(tmp_path)
    runs = contenders(tiny(), ["random", "qmc"], 1)
    run_study(StudyContext(runs[0].spec, settings), Observer(), RunOptions(tmp_path))
    storage = open_storage(settings.storage_url)
    find_study(runs[0].spec.name, storage).ask()

    cancel_comparison(runs, settings, Observer(), folder=tmp_path)

    states = {r.state.name for r in find_study(runs[0].spec.name, storage).trials}
    assert "RUNNING" not in states
    assert TrialState.COMPLETE.name in states


def test_runs_are_compared_trial_by_trial_so_their_number_is_needed() -> None:
    endless = tiny(budget={"gpu_hours": 4})
    with pytest.raises(SpecError, match=r"no budget\.n_trials"):
        contenders(endless, ["random", "tpe"], 1)
    runs = contenders(endless, ["random", "tpe"], 1, n_trials=3)
    assert {run.spec.budget.n_trials for run in runs} == {3}

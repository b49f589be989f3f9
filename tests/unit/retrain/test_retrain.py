"""Retraining: what is chosen, with which seeds, what the means say, and what MLflow then has."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest
from tests.unit.cli.test_cli import DOCUMENT, invoke, write_study

from studyflow.context import StudyContext
from studyflow.errors import SpecError, StudyError
from studyflow.observers.observer import Observer
from studyflow.reports import StudyData
from studyflow.retrain import (
    RetrainPlan,
    choose_seed_parameter,
    confidence_interval,
    describe_luck,
    fresh_seeds,
    plan_retrain,
    rank_configurations,
    rank_repeats,
    retrain,
    retrain_spec,
)
from studyflow.retrain.run import NO_MODEL
from studyflow.runner import RunOptions, run_study
from studyflow.settings import Settings
from studyflow.spec import StudySpec
from studyflow.storage import open_storage
from studyflow.study import find_study, load_records
from studyflow.trial import Cause
from studyflow.trial.record import TrialRecord, TrialState

# The seed moves the loss by less than 0.001; the model is a file that holds it.
TRAIN = """
import json, os, pathlib
trial = json.loads(os.environ["STUDYFLOW_TRIAL"])
params = trial["params"]
pathlib.Path(trial["artifact_dir"], "model.txt").write_text(str(params["seed"]))
with open(trial["outcome_path"], "w") as file:
    json.dump({"version": 1, "study": trial["study"], "number": trial["number"],
               "attempt": trial["attempt"], "key": trial.get("key"), "cause": "ok",
               "metrics": {"loss": params["x"] + params["seed"] * 1e-9}, "message": ""}, file)
"""


def spec_with(**changes: Any) -> StudySpec:
    return StudySpec.from_mapping({**DOCUMENT, "fixed": {"seed": 0}, **changes})


def complete(number: int, value: float, **params: Any) -> TrialRecord:
    return TrialRecord(
        number, TrialState.COMPLETE, params, (value,), {"loss": value}, cause=Cause.OK
    )


def failed(number: int, **params: Any) -> TrialRecord:
    return TrialRecord(number, TrialState.FAILED, params, cause=Cause.NAN)


def a_plan(*xs: float, seeds: tuple[int, ...] = (1, 2, 3)) -> RetrainPlan:
    spec = spec_with()
    source = StudyData(spec, tuple(complete(i, x, x=x, seed=0) for i, x in enumerate(xs)))
    configurations = rank_configurations(source, "seed")
    return RetrainPlan(
        source, configurations, seeds, "seed", retrain_spec(spec, configurations, seeds, "seed")
    )


def test_a_study_without_an_input_for_a_seed_is_refused_with_the_way_out() -> None:
    with pytest.raises(SpecError) as refused:
        choose_seed_parameter(StudySpec.from_mapping(DOCUMENT))

    assert "has no parameter 'seed'" in str(refused.value)
    assert "--seed-parameter" in str(refused.value)
    assert choose_seed_parameter(StudySpec.from_mapping(DOCUMENT), "random_state") == "random_state"
    assert choose_seed_parameter(spec_with()) == "seed"


def test_trials_that_differ_by_their_seed_are_one_configuration_ranked_by_its_mean() -> None:
    space = {**DOCUMENT["search_space"], "seed": {"type": "int", "low": 0, "high": 9}}
    spec = StudySpec.from_mapping({**DOCUMENT, "search_space": space})
    source = StudyData(
        spec,
        (
            complete(0, 0.1, x=0.5, seed=0),  # the best trial of all, and lucky
            complete(1, 0.9, x=0.5, seed=1),
            complete(2, 0.3, x=0.2, seed=0),
            failed(3, x=0.1, seed=0),
        ),
    )

    first, second = rank_configurations(source, "seed")

    assert (first.params, first.value) == ({"x": 0.2}, 0.3)
    assert (second.params, second.value) == ({"x": 0.5}, 0.5)


def test_seeds_are_new_ones_and_more_of_them_begin_with_the_same() -> None:
    source = StudyData(spec_with(), ())
    three = fresh_seeds(source, "seed", 3)
    used = StudyData(spec_with(), (complete(0, 0.0, x=0.0, seed=three[1]),))

    assert fresh_seeds(source, "seed", 5)[:3] == three
    assert len(set(three)) == 3
    assert three[1] not in fresh_seeds(used, "seed", 5)


def test_the_study_of_the_repeats_has_every_configuration_with_every_seed_and_prunes_nothing() -> (
    None
):
    spec = spec_with(pruner={"type": "median"}, stop={"target": 0.1}, fixed={"seed": 0, "y": 1})
    source = StudyData(spec, (complete(0, 0.5, x=0.5, seed=0, y=1),))

    made = retrain_spec(spec, rank_configurations(source, "seed"), (7, 8), "seed")

    assert made.name == "tiny-retrain"
    assert made.enqueue == ({"x": 0.5, "seed": 7}, {"x": 0.5, "seed": 8})
    assert made.fixed == {"y": 1}
    assert (made.budget.n_trials, made.pruner.type, made.stop.target) == (2, "none", None)
    assert made.trial == spec.trial


def test_repeats_that_were_asked_for_earlier_stay_in_the_budget() -> None:
    spec = spec_with()
    source = StudyData(spec, (complete(0, 0.5, x=0.5, seed=0),))
    known = (
        complete(0, 0.5, x=0.5, seed=7),  # one of those that are wanted
        complete(1, 0.4, x=0.4, seed=7),
        TrialRecord(2, TrialState.WAITING, {"x": 0.4, "seed": 8}),
        TrialRecord(3, TrialState.FAILED, {"x": 0.4, "seed": 9}, cause=Cause.CANCELLED),
    )

    made = retrain_spec(spec, rank_configurations(source, "seed"), (7, 8), "seed", known=known)

    assert made.budget.n_trials == 2 + 2


def test_the_best_mean_comes_first_and_what_sometimes_fails_last() -> None:
    plan = a_plan(0.1, 0.2, 0.3)
    records = [
        *(complete(n, v, x=0.1, seed=n) for n, v in ((1, 0.5), (2, 0.7), (3, 0.6))),
        *(complete(n, v, x=0.2, seed=n) for n, v in ((1, 0.4), (2, 0.5), (3, 0.3))),
        *(complete(n, v, x=0.3, seed=n) for n, v in ((1, 0.1), (2, 0.1))),
        failed(3, x=0.3, seed=3),
    ]

    ranking = rank_repeats(plan, records)

    assert [r.configuration.params["x"] for r in ranking] == [0.2, 0.1, 0.3]
    assert ranking[0].mean == pytest.approx(0.4)
    assert ranking[0].typical.values == (0.4,)
    assert (ranking[2].n_failed, len(ranking[2].values)) == (1, 2)


def test_the_interval_is_students() -> None:
    # Of 1 to 5: mean 3, standard error sqrt(0.5), and t = 2.776 for four degrees of freedom.
    assert confidence_interval([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(
        (1.0367, 4.9633), abs=1e-4
    )
    assert confidence_interval([1.0]) is None


def test_a_difference_that_may_be_luck_is_told_and_a_clear_one_is_not() -> None:
    plan = a_plan(0.1, 0.2)
    close = [
        *(complete(n, v, x=0.1, seed=n) for n, v in ((1, 0.5), (2, 0.7), (3, 0.6))),
        *(complete(n, v, x=0.2, seed=n) for n, v in ((1, 0.6), (2, 0.6), (3, 0.7))),
    ]
    clear = [
        *(complete(n, v, x=0.1, seed=n) for n, v in ((1, 0.5), (2, 0.7), (3, 0.6))),
        *(complete(n, v, x=0.2, seed=n) for n, v in ((1, 1.51), (2, 1.7), (3, 1.6))),
    ]

    (note,) = describe_luck(plan, rank_repeats(plan, close))

    assert note.startswith("The difference between trial 0 and trial 1 may be luck")
    assert describe_luck(plan, rank_repeats(plan, clear)) == []


def test_repeats_without_any_spread_say_that_the_seed_does_nothing() -> None:
    plan = a_plan(0.1)
    same = [complete(n, 0.5, x=0.1, seed=n) for n in (1, 2, 3)]

    (note,) = describe_luck(plan, rank_repeats(plan, same))

    assert "the script does not use 'seed'" in note


def test_several_objectives_are_refused() -> None:
    objectives = [
        {"metric": "loss", "direction": "minimize"},
        {"metric": "size", "direction": "minimize"},
    ]
    source = StudyData(spec_with(objectives=objectives), ())
    with pytest.raises(StudyError, match="2 objectives"):
        plan_retrain(source, Settings.resolve(environment={}))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.resolve(home=tmp_path / "home", environment={})


def stored(name: str, settings: Settings) -> StudyData:
    spec, records = load_records(find_study(name, open_storage(settings.storage_url)))
    assert spec is not None
    return StudyData(spec, records)


@pytest.mark.slow
def test_the_repeats_are_nested_below_the_study_and_the_middle_one_becomes_the_champion(
    settings: Settings, tmp_path: Path
) -> None:
    import mlflow
    from mlflow import MlflowClient

    write_study(tmp_path, TRAIN)
    spec = spec_with()
    run_study(StudyContext(spec, settings), Observer(), RunOptions(tmp_path))

    plan = plan_retrain(stored("tiny", settings), settings, top=2, repeats=3)
    result = retrain(plan, settings, Observer(), RunOptions(tmp_path))

    assert result.problem is None
    assert result.champion is not None
    assert result.best is not None
    uri = f"sqlite:///{settings.home}/mlflow.db"
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    runs = {
        (run.data.tags["studyflow.study"], run.info.run_name): run
        for run in client.search_runs([experiment.experiment_id])
    }
    parent, study = runs["tiny-retrain", "tiny-retrain"], runs["tiny", "tiny"]
    assert parent.data.tags["mlflow.parentRunId"] == study.info.run_id
    assert "| mean |" in parent.data.tags["mlflow.note.content"]
    repeats = [run for (name, _), run in runs.items() if name == "tiny-retrain"]
    assert len(repeats) == 1 + 6
    assert {r.data.tags["mlflow.parentRunId"] for r in repeats if r is not parent} == {
        parent.info.run_id
    }

    version = client.get_model_version_by_alias("tiny", "champion")
    middle = result.best.typical
    assert (str(version.version), version.run_id) == (result.champion.version, middle.run_id)
    mlflow.set_tracking_uri(uri)
    path = mlflow.artifacts.download_artifacts("models:/tiny@champion/model.txt")
    assert Path(path).read_text() == str(middle.params["seed"])

    again = retrain(
        plan_retrain(stored("tiny", settings), settings, top=2, repeats=3),
        settings,
        Observer(),
        RunOptions(tmp_path),
    )
    assert len(again.run.data.records) == 6
    assert again.champion == result.champion

    here = ("--home", settings.home)
    sound = invoke("best", "tiny", "--model", *here)
    assert sound.exit_code == 0
    assert sound.stdout.startswith(f"models:/tiny@champion  version {version.version}: model.txt")
    assert "its files are as they were registered" in sound.stdout
    saved = url2pathname(urlsplit(client.get_run(result.champion.run_id).info.artifact_uri).path)
    Path(saved, "model.txt").write_text("another model")
    replaced = invoke("best", "tiny", "--model", *here)
    assert replaced.exit_code == 1
    assert "NOT what was registered: model.txt was changed" in replaced.stdout
    (row,) = json.loads(invoke("best", "tiny", "--model", "--json", *here).stdout)
    assert (row["name"], row["is_sound"]) == ("tiny", False)
    refused = retrain(
        plan_retrain(stored("tiny", settings), settings, top=2, repeats=3),
        settings,
        Observer(),
        RunOptions(tmp_path),
    )
    assert refused.champion is None
    assert "is not what was registered: model.txt was changed" in str(refused.problem)
    assert invoke("best", "tiny-retrain", "--model", *here).exit_code == 1


def test_the_command_prints_means_and_says_when_there_is_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "mlflow" else find(name, *a)
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STUDYFLOW_HOME", raising=False)
    path = write_study(tmp_path, TRAIN, fixed={"seed": 0})
    assert invoke("run", path).exit_code == 0

    first = invoke("retrain", path, "--top", "1", "--repeats", "2")
    more = invoke("retrain", path, "--top", "1", "--repeats", "3", "--json")

    assert first.exit_code == 0, first.output
    assert "Best mean: trial" in first.stdout
    document = json.loads(more.stdout)
    (row,) = document["configurations"]
    assert len(row["values"]) == 3
    assert document["champion"] is None
    assert len(json.loads(invoke("trials", "tiny-retrain", "--json").stdout)) == 3


def test_repeats_that_were_cut_short_choose_nothing(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "mlflow" else find(name, *a)
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STUDYFLOW_HOME", str(settings.home))
    # The study's own seed works, and no other: alike failures end the retraining early.
    script = (
        'import json, os; assert json.loads(os.environ["STUDYFLOW_TRIAL"])["params"]["seed"] < 1'
    )
    path = write_study(tmp_path, f"{script}\n{TRAIN}", fixed={"seed": 0})
    assert invoke("run", path).exit_code == 0

    stopped = invoke("retrain", path, "--top", "2", "--repeats", "5", "--json")

    assert stopped.exit_code == 1
    (note,) = json.loads(stopped.stdout)["notes"]
    assert note.startswith("Not everything was trained, so nothing is chosen: Trials")
    assert "failed alike" in note


def test_a_trial_that_keeps_nothing_but_its_log_has_no_model() -> None:
    from studyflow.tracking.registry import choose_artifact

    assert choose_artifact(["trial.log"]) is None
    assert "sdk.artifact" in NO_MODEL

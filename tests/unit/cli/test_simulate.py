"""What `studyflow simulate` prints of a study that is to run, and of one that has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.test_cli import invoke, write_study

from studyflow.settings import Settings
from studyflow.simulation import Cluster, Params, Training, simulate
from studyflow.spec import StudySpec
from studyflow.storage import open_storage

BUDGET = {"n_trials": 8, "max_parallel_trials": 2}


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("STUDYFLOW_HOME", "STUDYFLOW_STORAGE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def falling(params: Params, _seed: int) -> Training:
    return Training([params["x"] + 1 / (step + 1) for step in range(5)], 60.0)


def stored(folder: Path, **changes: Any) -> Path:
    """Store a study that has run, and return its file."""
    path = write_study(folder, **{"budget": BUDGET, **changes})
    settings = Settings.resolve(home=folder / ".studyflow", environment={})
    settings.home.mkdir(exist_ok=True)
    spec = StudySpec.from_yaml(path)
    simulate(spec, falling, Cluster(slots=2), storage=open_storage(settings.storage_url))
    return path


def test_a_study_that_has_not_run_is_foretold_at_several_widths(tmp_path: Path) -> None:
    path = write_study(tmp_path, budget=BUDGET)
    done = invoke("simulate", path, "--trial-seconds", "600", "--repetitions", "3", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    assert [width["max_parallel_trials"] for width in found["widths"]] == [4, 8, 16]
    assert all(width["n_trials"]["median"] == 8 for width in found["widths"])
    assert (found["unit"], found["source"]) == ("slot-hours", "600 s, as given")
    assert found["widths"][0]["best_value"] is None


def test_the_table_says_what_it_rests_on_and_what_is_not_known(tmp_path: Path) -> None:
    path = write_study(tmp_path, budget=BUDGET, pruner={"type": "median"})
    options = ("--trial-seconds", "600", "--repetitions", "2", "--parallel", "2,4")
    done = invoke("simulate", path, *options)
    assert done.exit_code == 0, done.output
    assert "slot-hours" in done.output
    assert "Quality is not known" in done.output
    assert "median stops nothing here" in done.output


def test_what_is_left_of_a_study_is_foretold_by_its_own_trials(tmp_path: Path) -> None:
    stored(tmp_path)
    path = write_study(tmp_path, budget={**BUDGET, "n_trials": 20})
    done = invoke("simulate", path, "--parallel", "4", "--repetitions", "3", "--like", "tiny")
    assert done.exit_code == 0, done.output
    assert "12 trials are still to be run" in done.output
    assert "8 trials of this study" in done.output
    assert "best loss" in done.output


def test_a_study_without_any_time_is_a_clear_error(tmp_path: Path) -> None:
    done = invoke("simulate", write_study(tmp_path))
    assert done.exit_code == 1
    assert "--trial-seconds" in done.output


def test_a_replay_says_what_another_pruner_would_have_saved(tmp_path: Path) -> None:
    path = stored(tmp_path)
    done = invoke("simulate", "--replay", path, "--pruner", "asha")
    assert done.exit_code == 0, done.output
    assert "The change saves" in done.output
    assert "The same trials in the same order" in done.output
    found = json.loads(invoke("simulate", "--replay", "tiny", "--pruner", "asha", "--json").output)
    assert found["as_it_was"]["states"] == {"complete": 8}
    assert found["replayed"]["states"]["pruned"] > 0
    assert found["saved_hours"] > 0


def test_a_replay_of_a_pruned_study_says_what_it_cannot_know(tmp_path: Path) -> None:
    path = stored(tmp_path, pruner={"type": "asha"})
    done = invoke("simulate", "--replay", path, "--parallel", "8")
    assert done.exit_code == 0, done.output
    assert "had been stopped early" in done.output
    assert "saves 0 slot-hours (0%)" in done.output
    assert "sooner" in done.output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--pruner", "median"), "no curves to prune"),
        (("--replay", "--trial-seconds", "5"), "takes that from the stored study"),
        (("--replay", "--parallel", "2,4"), "one width"),
        (("--parallel", "0"), "from 1 to 10000"),
        (("--parallel", "two"), "from 1 to 10000"),
    ],
)
def test_options_that_say_nothing_of_what_is_asked_for_are_refused(
    tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    done = invoke("simulate", write_study(tmp_path), *options)
    assert done.exit_code == 2
    assert words in done.output


def test_a_study_that_is_not_there_is_a_clear_error() -> None:
    done = invoke("simulate", "--replay", "unheard-of")
    assert done.exit_code == 2
    assert "no study named 'unheard-of'" in done.output

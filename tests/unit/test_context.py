"""What belongs to one study is made once, when it is first used, and closed if it was."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from studyflow import context as module
from studyflow.context import StudyContext
from studyflow.errors import MissingExtra, StudyflowError
from studyflow.executors.local import LocalExecutor
from studyflow.reports import StudyData
from studyflow.settings import Settings
from studyflow.spec import StudySpec
from studyflow.tracking.memory import MemoryTracker

SPEC = StudySpec.from_mapping(
    {
        "name": "tiny",
        "objectives": [{"metric": "loss", "direction": "minimize"}],
        "search_space": {"x": {"type": "float", "low": 0.0, "high": 1.0}},
        "sampler": {"type": "random", "seed": 0},
        "budget": {"n_trials": 3},
        "trial": {"command": ["python", "train.py"], "env": {"WANDB_API_KEY": "tr1al-secret"}},
        "notify": {"url_env": "HOOK"},
    }
)


class Closing(MemoryTracker):
    def __init__(self) -> None:
        super().__init__()
        self.n_closed = 0

    def close(self) -> None:
        self.n_closed += 1


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.resolve(home=tmp_path / "home", environment={})


@pytest.fixture
def _without_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "mlflow" else find(name, *a)
    )


@pytest.mark.usefixtures("_without_mlflow")
def test_without_mlflow_a_study_is_tracked_in_memory(settings: Settings) -> None:
    context = StudyContext(SPEC, settings)

    assert not context.has_mlflow
    assert isinstance(context.tracker, MemoryTracker)
    assert context.tracker is context.tracker
    with pytest.raises(MissingExtra, match="'tiny' in MLflow needs the extra 'mlflow'"):
        _ = context.mlflow


def test_with_mlflow_a_study_is_tracked_in_the_embedded_database_or_by_uri(
    settings: Settings, tmp_path: Path
) -> None:
    server = Settings.resolve(home=tmp_path, tracking="http://mlflow:5000", environment={})

    assert StudyContext(SPEC, settings).mlflow.uri == f"sqlite:///{settings.home}/mlflow.db"
    assert StudyContext(SPEC, server).mlflow.uri == "http://mlflow:5000"


def test_a_context_closes_what_was_used_and_makes_nothing_for_it(settings: Settings) -> None:
    tracker = Closing()
    with StudyContext(SPEC, settings, tracker=tracker):
        pass
    assert tracker.n_closed == 0
    assert not settings.home.exists()

    with StudyContext(SPEC, settings, tracker=tracker) as context:
        assert context.tracker is tracker
    assert tracker.n_closed == 1


def test_another_version_of_the_file_is_shown_in_the_same_place(settings: Settings) -> None:
    tracker = MemoryTracker()
    context = StudyContext(SPEC, settings, tracker=tracker)
    other = context.with_spec(SPEC.model_copy(update={"description": "more"}))

    assert other.spec.description == "more"
    assert (other.tracker, other.folder) == (tracker, context.folder)


def test_secrets_of_trials_addresses_and_the_runner_are_redacted(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK", "https://hooks.example.com/T0/h00k-secret")
    stored = Settings.resolve(
        home=tmp_path, storage="postgresql://me:pa55-word@db/studies", environment={}
    )
    redact = StudyContext(SPEC, stored).redactor

    said = redact("tr1al-secret pa55-word https://hooks.example.com/T0/h00k-secret plain")
    assert "secret" not in said
    assert "pa55" not in said
    assert said.endswith("plain")


def test_a_command_reads_what_attempts_left_behind_and_starts_none(settings: Settings) -> None:
    with StudyContext(SPEC, settings) as context:
        assert isinstance(context.executor, LocalExecutor)
        assert context.executor is context.executor
        assert dict(context.executor.poll()) == {}


def test_the_executor_that_runs_attempts_is_the_context_s_own(
    settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "train.py").touch()

    class Opened:
        spec = SPEC
        pinned_image = pin_image = None

    study: Any = Opened()
    with StudyContext(SPEC, settings) as context:
        executor = context.open_executor(study, tmp_path)
        assert context.executor is executor


def test_a_report_that_cannot_be_written_is_one_sentence(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(module, "build_report", fail)
    context, data = StudyContext(SPEC, settings), StudyData(SPEC, ())

    error: Exception = StudyflowError("No room.")
    assert context.write_report(data) == (None, "The report was not written: No room.")
    error = ZeroDivisionError("x")
    assert context.write_report(data) == (
        None,
        "The report was not written: ZeroDivisionError: x",
    )

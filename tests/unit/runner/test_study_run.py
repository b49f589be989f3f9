"""A whole study on this machine, and who drives it when there are two."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.test_cli import DOCUMENT, TRAIN, write_study

from studyflow import runner, runner_lock
from studyflow.context import StudyContext
from studyflow.errors import SpecError
from studyflow.observers.observer import AnyThreadNotes, Observer
from studyflow.reports import subprocess_report
from studyflow.reports.stored import stored_study
from studyflow.runner import RunOptions, cancel_study, closing, opening, run_study, study_run
from studyflow.samplers import make_pruner, make_sampler
from studyflow.settings import Settings
from studyflow.spec import StudySpec
from studyflow.spec.overrides import override
from studyflow.storage import open_storage
from studyflow.study import Study, find_study
from studyflow.testing.failing_tracker import FailingTracker
from studyflow.tracking.memory import MemoryTracker
from studyflow.trial import Cause
from studyflow.trial.record import TrialState
from studyflow.tuner import Tuner


class Notes(Observer):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.heard = threading.Event()

    def noted(self, message: str) -> None:
        self.notes.append(message)
        self.heard.set()


class Deaf(Observer):
    def noted(self, message: str) -> None:
        raise RuntimeError("the terminal is gone")

    launched = recorded = progressed = noted  # type: ignore[assignment]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "mlflow" else find(name, *a)
    )
    return Settings.resolve(home=tmp_path / "home", environment={})


def tiny(tmp_path: Path) -> StudySpec:
    write_study(tmp_path)
    return StudySpec.from_mapping(DOCUMENT)


def test_a_study_runs_from_its_file_to_its_report(settings: Settings, tmp_path: Path) -> None:
    notes = Notes()

    result = run_study(StudyContext(tiny(tmp_path), settings), notes, RunOptions(tmp_path))

    assert [r.state for r in result.data.records] == [TrialState.COMPLETE] * 3
    assert result.outcome.is_finished
    assert result.report is not None
    assert result.report.html.exists()
    assert result.n_unsent == 0
    assert (result.tracking_uri, result.run_url) == ("memory:", None)
    assert notes.notes == [
        "MLflow is not installed: pip install 'studyflow[mlflow]' to see runs.",
        "Writing the report.",
    ]


SAYS = """
import json, os, resource, subprocess, sys
from studyflow import sdk
trial = sdk.current_trial()
sdk.report(0, loss=2.0)
path = json.loads(os.environ["STUDYFLOW_TRIAL"])["outcome_path"]
match trial.params["says"]:
    case "garbage":
        open(path, "w").write("{")
    case "of another trial":
        sdk.finish(loss=1.0)
        text = open(path).read()
        open(path, "w").write(text.replace(f'"number":{trial.number}', '"number":99'))
        os._exit(0)  # or finish() puts its own document back
    case "cut short":
        resource.setrlimit(resource.RLIMIT_FSIZE, (60, 60))
        try:
            sdk.finish(loss=1.0)
        except OSError:
            pass
    case "beside a child that fails":
        sdk.finish(loss=1.0)
        fail = "from studyflow import sdk; sdk.current_trial(); raise RuntimeError"
        subprocess.run([sys.executable, "-c", fail], stderr=subprocess.DEVNULL)
"""


@pytest.mark.fault("F59", "F60")
def test_no_reported_value_takes_the_place_of_what_a_script_said(
    settings: Settings, tmp_path: Path
) -> None:
    says = ["garbage", "of another trial", "cut short", "beside a child that fails", "nothing"]
    spec = StudySpec.from_mapping(
        {
            **DOCUMENT,
            "search_space": {"says": {"type": "categorical", "choices": says}},
            "sampler": {"type": "grid"},
            "budget": {"n_trials": len(says), "max_parallel_trials": len(says)},
            "stop": {"alike_failures": len(says)},
            "trial": {"command": ["python", "train.py"]},
        }
    )
    write_study(tmp_path, SAYS)

    result = run_study(StudyContext(spec, settings), Observer(), RunOptions(tmp_path))

    values = {r.params["says"]: r.values or r.cause for r in result.data.records}
    assert values == {
        "garbage": Cause.BAD_METRIC,
        "of another trial": Cause.BAD_METRIC,
        "cut short": Cause.BAD_METRIC,
        "beside a child that fails": (1.0,),
        "nothing": (2.0,),
    }


def test_a_broken_terminal_does_not_end_a_study(settings: Settings, tmp_path: Path) -> None:
    result = run_study(StudyContext(tiny(tmp_path), settings), Deaf(), RunOptions(tmp_path))

    assert result.outcome.is_finished


class Watched(Observer):
    """Keeps the threads that it is called from."""

    def __init__(self, threads: set[int]) -> None:
        for event in ("tracked", "launched", "reported", "recorded", "progressed", "noted"):
            setattr(self, event, lambda *_: threads.add(threading.get_ident()))


@pytest.mark.fault("F33")
def test_study_and_observers_are_used_by_the_runners_thread_alone(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[int] = set()

    class WatchedStudy(Study):
        def __getattribute__(self, name: str) -> Any:
            threads.add(threading.get_ident())
            return super().__getattribute__(name)

    memory = MemoryTracker()
    # Away for once, so that the mirror's own thread has work to do.
    tracker = FailingTracker(memory)
    tracker.fail_next(2)
    monkeypatch.setattr(opening, "Study", WatchedStudy)
    context = StudyContext(tiny(tmp_path), settings, tracker=tracker)

    result = run_study(context, Watched(threads), RunOptions(tmp_path))

    assert result.n_unsent == 0
    assert memory.finished_trials() == {0, 1, 2}
    assert threads == {threading.get_ident()}


def test_notes_of_another_thread_reach_the_observer_in_its_own() -> None:
    heard: list[tuple[str, int]] = []

    class Terminal(Observer):
        def noted(self, message: str) -> None:
            heard.append((message, threading.get_ident()))

    notes = AnyThreadNotes(Terminal())
    other = threading.Thread(target=notes.take, args=("The storage is away.",))
    other.start()
    other.join()
    assert heard == []
    notes.take("It is back.")
    here = threading.get_ident()
    assert heard == [("The storage is away.", here), ("It is back.", here)]


@pytest.mark.fault("F24", "F38")
def test_a_second_runner_stands_by_and_takes_over(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_lock, "STANDBY_SECONDS", 0.02)
    folder = settings.study_folder("tiny")
    folder.mkdir(parents=True)
    notes, results = Notes(), []
    spec = tiny(tmp_path)
    with (folder / "runner.lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(json.dumps({"pid": 4711, "since": 0.0}))
        lock.flush()
        second = threading.Thread(
            target=lambda: results.append(
                run_study(StudyContext(spec, settings), notes, RunOptions(tmp_path))
            )
        )
        second.start()
        assert notes.heard.wait(10)
        assert not (settings.home / "studies.journal").exists(), "it touches nothing meanwhile"
    second.join(30)

    assert results[0].outcome.is_finished
    assert notes.notes[0] == (
        "A runner drives this study already (process 4711, since 00:00:00 UTC); "
        "standing by to take over when it ends."
    )
    assert json.loads((folder / "runner.lock").read_text())["pid"] == os.getpid()


CLEANS_UP = """
import json, os, shutil
trial = json.loads(os.environ["STUDYFLOW_TRIAL"])
if trial["number"] == 0 and trial["attempt"] == 1:
    # What is made again meanwhile is in the way of the last step.
    shutil.rmtree(os.path.normpath(trial["outcome_path"] + "/../../../.."), ignore_errors=True)
    import time; time.sleep(60)
"""


@pytest.mark.fault("F67")
def test_a_study_goes_on_when_its_folder_is_removed_and_nobody_else_drives_it(
    settings: Settings, tmp_path: Path
) -> None:
    write_study(tmp_path, CLEANS_UP + TRAIN)
    spec = StudySpec.from_mapping({**DOCUMENT, "retry": {"backoff_seconds": 0.01}})

    result = run_study(StudyContext(spec, settings), Observer(), RunOptions(tmp_path))

    assert [record.state for record in result.data.records] == [TrialState.COMPLETE] * 3
    assert [lost.cause for lost in result.data.records[0].lost_attempts] == [Cause.LOST]
    lock = settings.study_folder("tiny") / "runner.lock"
    assert json.loads(lock.read_text())["pid"] == os.getpid()


def test_an_interrupted_study_keeps_why_it_was_interrupted(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_self: object) -> None:
        raise KeyboardInterrupt

    def broken(*_arguments: object, **_named: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Tuner, "turn", interrupted)
    monkeypatch.setattr(closing, "study_summary", broken)

    with pytest.raises(KeyboardInterrupt):
        run_study(StudyContext(tiny(tmp_path), settings), Observer(), RunOptions(tmp_path))


@pytest.mark.fault("F77")
@pytest.mark.parametrize(("is_last", "status"), [(False, "RUNNING"), (True, "KILLED")])
def test_a_study_is_not_shown_as_killed_while_another_machine_drives_it(
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_last: bool,
    status: str,
) -> None:
    memory = MemoryTracker()
    monkeypatch.setattr(StudyContext, "write_report", lambda *_: (None, None))
    spec = tiny(tmp_path)

    def interrupted(_tuner: Tuner) -> None:
        beat = {"at": time.time(), "machine": "another", "is_last": is_last}
        stored = find_study(spec.name, open_storage(settings.storage_url))
        stored.set_user_attr("studyflow:beat:gpu-2/1a", beat)
        raise KeyboardInterrupt

    monkeypatch.setattr(Tuner, "turn", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_study(StudyContext(spec, settings, tracker=memory), Observer(), RunOptions(tmp_path))

    assert memory.study_run.status == status


@pytest.mark.fault("F37")
@pytest.mark.fault("F80")
def test_who_cancels_for_a_killed_runner_has_more_patience_than_a_runner(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_study(StudyContext(tiny(tmp_path), settings), Observer(), RunOptions(tmp_path))
    patience: list[float] = []
    monkeypatch.setattr(Tuner, "cancel", lambda self, seconds: patience.append(seconds))

    cancel_study(StudyContext(tiny(tmp_path), settings), Observer(), folder=tmp_path)

    assert patience == [600.0]


def test_trials_of_a_killed_runner_can_be_cancelled(settings: Settings, tmp_path: Path) -> None:
    spec = tiny(tmp_path)
    (tmp_path / "train.py").write_text("import time\ntime.sleep(600)\n")
    with runner.open_run(StudyContext(spec, settings), Observer(), RunOptions(tmp_path)) as killed:
        while not killed.study.running():
            assert killed.tuner.turn() is None

    cancel_study(StudyContext(spec, settings), Observer(), folder=tmp_path)

    with runner.open_run(StudyContext(spec, settings), Observer(), RunOptions(tmp_path)) as later:
        assert {r.cause for r in later.study.records()} == {Cause.CANCELLED}
        assert later.study.room() == spec.budget.n_trials, "they cost no budget"
    assert list((settings.study_folder("tiny") / "open").iterdir()) == [], "no attempt is left"


@pytest.mark.fault("F77")
def test_a_cancelled_run_leaves_the_study_with_its_own_numbers(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = MemoryTracker()
    monkeypatch.setattr(StudyContext, "write_report", lambda *_: (None, None))
    spec = tiny(tmp_path)
    context = StudyContext(spec, settings, tracker=memory)
    run_study(context, Observer(), RunOptions(tmp_path))
    fewer, _ = override(spec, n_trials=1, sampler="tpe")

    cancel_study(context.with_spec(fewer), Observer(), folder=tmp_path)

    kept = stored_study(spec.name, settings).spec
    assert (kept.budget.n_trials, kept.sampler.type) == (3, "random")
    assert memory.card is not None
    assert memory.card.n_trials == 3


@pytest.mark.fault("F77")
def test_cancelling_a_run_that_never_began_makes_no_study(
    settings: Settings, tmp_path: Path
) -> None:
    notes = Notes()
    cancel_study(StudyContext(tiny(tmp_path), settings), notes, folder=tmp_path)
    assert notes.notes == ["Nothing to cancel: the study 'tiny' was never begun."]
    assert not settings.study_folder("tiny").exists()


@pytest.mark.fault("F77")
def test_cancelling_a_run_that_stood_by_leaves_the_other_runner_alone(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_lock, "STANDBY_SECONDS", 0.01)
    monkeypatch.setattr(study_run, "CANCELLED_SECONDS", 0.05)
    spec = tiny(tmp_path)
    storage = open_storage(settings.storage_url)
    study = Study.open(
        spec,
        storage,
        make_sampler=lambda seed, n: make_sampler(spec, seed, n),
        pruner=make_pruner(spec),
    )
    study.ask("gpu-1/1a")
    folder = settings.study_folder("tiny")
    folder.mkdir(parents=True)
    notes = Notes()
    with (folder / "runner.lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        cancel_study(StudyContext(spec, settings), notes, folder=tmp_path)
    assert notes.notes[-1] == "Nothing to cancel: another runner drives the study 'tiny'."
    assert [record.state for record in study.records()] == [TrialState.RUNNING]


def test_the_report_of_a_long_study_is_written_in_a_subprocess_and_may_fail_alone(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess_report, "MANY_TRIALS", 2)
    whole = run_study(StudyContext(tiny(tmp_path), settings), Notes(), RunOptions(tmp_path))
    monkeypatch.setattr(subprocess_report, "LIMIT_SECONDS", 0.01)
    without = run_study(StudyContext(tiny(tmp_path), settings), Notes(), RunOptions(tmp_path))

    assert whole.report is not None
    assert whole.report.html.exists()
    assert without.report is None
    assert without.outcome.is_finished


def test_a_study_whose_pods_may_not_be_is_not_even_opened(
    tmp_path: Path, settings: Settings
) -> None:
    document = {**DOCUMENT["trial"], "image": "x", "kubernetes": {"service_account": "admin"}}
    spec = StudySpec.from_mapping({**DOCUMENT, "trial": document})
    pods = replace(settings, executor="kubernetes")

    with pytest.raises(SpecError, match=r"trial\.kubernetes\.service_account"):
        run_study(StudyContext(spec, pods), Notes(), RunOptions(tmp_path))

    assert not (settings.home / "studies.journal").exists()

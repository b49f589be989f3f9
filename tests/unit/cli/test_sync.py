"""`studyflow sync`: what it says it has sent is there, and what is not is named."""

from __future__ import annotations

import fcntl
import importlib.util
import sys
from pathlib import Path

import pytest
from tests.unit.cli.test_cli import invoke
from tests.unit.study.studies import complete, make_spec, open_study

from studyflow.context import StudyContext
from studyflow.errors import TrackingError, TrackingUnavailable
from studyflow.reasons import Code, Reason
from studyflow.settings import Settings
from studyflow.storage import open_storage
from studyflow.study import Verdict
from studyflow.testing.failing_tracker import FailingTracker
from studyflow.tracking.memory import MemoryTracker
from studyflow.trial import Cause
from studyflow.trial.cost import AttemptCost
from studyflow.trial.record import TrialState

pytestmark = pytest.mark.fault("F78")


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in ("STUDYFLOW_HOME", "STUDYFLOW_STORAGE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return Settings.resolve(environment={})


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch) -> FailingTracker:
    """What stands for MLflow; no report is drawn."""
    failing = FailingTracker(MemoryTracker())
    monkeypatch.setattr(StudyContext, "tracker", failing)
    monkeypatch.setattr(StudyContext, "write_report", lambda *_: (None, None))
    return failing


def keep(settings: Settings, name: str = "demo", n_trials: int = 2) -> None:
    """Keep a study in the storage: two finished trials of so many."""
    spec = make_spec(name=name, budget={"n_trials": n_trials})
    study = open_study(spec, open_storage(settings.storage_url))
    for number in range(2):
        study.ask()
        study.begin_attempt(number, 1)
        study.tell(number, complete(0.5), {"loss": 0.5})


def shown(tracker: FailingTracker) -> MemoryTracker:
    assert isinstance(tracker.inner, MemoryTracker)
    return tracker.inner


def test_what_was_sent_is_there(settings: Settings, tracker: FailingTracker) -> None:
    keep(settings)
    done = invoke("sync", "demo")
    assert (done.exit_code, done.stdout) == (0, "demo: sent 2 trials to MLflow at memory:\n")
    assert shown(tracker).finished_trials() == {0, 1}
    assert shown(tracker).study_run.status == "FINISHED"
    again = invoke("sync", "demo")
    assert again.stdout == "demo: MLflow at memory: had every trial already\n"


@pytest.mark.parametrize(("gpu_hours", "status"), [(2.5, "FINISHED"), (4.0, "KILLED")])
def test_a_study_whose_budget_of_hours_is_spent_has_come_to_its_end(
    settings: Settings, tracker: FailingTracker, gpu_hours: float, status: str
) -> None:
    spec = make_spec(name="demo", budget={"n_trials": 9, "gpu_hours": gpu_hours})
    study = open_study(spec, open_storage(settings.storage_url))
    for number in range(2):
        study.ask()
        study.begin_attempt(number, 1)
        cost = AttemptCost(1, Cause.OK, 3600.0)
        study.tell(number, complete(0.5), {"loss": 0.5}, cost=cost)
    assert invoke("sync", "demo").exit_code == 0
    assert shown(tracker).study_run.status == status


@pytest.mark.parametrize(
    ("text", "status"), [("07:00", "FINISHED"), ("2999-01-01T07:00Z", "KILLED")]
)
def test_a_study_whose_time_to_finish_has_come_is_at_its_end(
    settings: Settings, tracker: FailingTracker, text: str, status: str
) -> None:
    spec = make_spec(name="demo", budget={"n_trials": 9, "finish_by": text})
    study = open_study(spec, open_storage(settings.storage_url))
    study.keep_spec(is_shared=False)
    assert study.finish_at(1_700_000_000.0) is not None
    study.ask()
    study.begin_attempt(0, 1)
    study.tell(0, complete(0.5), {"loss": 0.5})
    assert invoke("sync", "demo").exit_code == 0
    assert shown(tracker).study_run.status == status


def test_of_a_running_trial_it_says_that_its_reports_were_sent(
    settings: Settings, tracker: FailingTracker
) -> None:
    keep(settings, n_trials=9)
    study = open_study(
        make_spec(name="demo", budget={"n_trials": 9}), open_storage(settings.storage_url)
    )
    study.ask()
    study.begin_attempt(2, 1)
    done = invoke("sync", "demo")
    assert done.stdout == (
        "demo: sent 2 trials and the reports so far of 1 running trial to MLflow at memory:\n"
    )
    again = invoke("sync", "demo")
    assert again.stdout == (
        "demo: sent the reports so far of 1 running trial to MLflow at memory:\n"
    )


@pytest.mark.parametrize("arguments", [["sync"], ["sync", "demo"]])
def test_without_mlflow_nothing_is_said_to_be_sent(
    settings: Settings, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(settings)
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "mlflow" else find(name, *a)
    )
    done = invoke(*arguments)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == (
        "demo: sending trials to MLflow needs the extra 'mlflow', which is not installed. "
        "Hint: pip install 'studyflow[mlflow]'\n"
    )


def test_without_the_extra_for_reports_everything_else_is_sent(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(settings)
    failing = FailingTracker(MemoryTracker())
    monkeypatch.setattr(StudyContext, "tracker", failing)
    monkeypatch.setitem(sys.modules, "contourpy", None)
    done = invoke("sync", "demo")
    assert (done.exit_code, done.stdout) == (0, "demo: sent 2 trials to MLflow at memory:\n")
    assert done.stderr == (
        "demo: The report was not written: A report needs the extra 'reports', which is not "
        "installed. Hint: pip install 'studyflow[reports]'\n"
    )
    assert shown(failing).finished_trials() == {0, 1}
    assert shown(failing).study_run.status == "FINISHED"


def test_trials_are_sent_before_the_report_is_drawn(
    settings: Settings, tracker: FailingTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(settings)
    there: list[frozenset[int]] = []

    def draw(*_: object) -> tuple[None, None]:
        there.append(shown(tracker).finished_trials())
        return None, None

    monkeypatch.setattr(StudyContext, "write_report", draw)
    assert invoke("sync", "demo").exit_code == 0
    assert there == [{0, 1}]


def test_a_refused_trial_is_named_and_is_a_failure(
    settings: Settings, tracker: FailingTracker
) -> None:
    keep(settings)
    tracker.refused_trials[1] = TrackingError("artifact gone")
    done = invoke("sync", "demo")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == (
        "demo: sent 1 trial to MLflow at memory:; 1 was refused:\n  trial 1: artifact gone\n"
    )


def test_half_an_mlflow_gets_what_it_takes_and_the_rest_is_left(
    settings: Settings, tracker: FailingTracker
) -> None:
    keep(settings)
    tracker.refused_trials[0] = TrackingUnavailable("the artifact store does not answer")
    done = invoke("sync", "demo")
    assert (done.exit_code, done.stdout) == (3, "")
    assert "sent 1 trial to MLflow at memory:; 1 is left: the artifact store" in done.stderr
    assert shown(tracker).finished_trials() == {1}


def test_an_mlflow_that_is_away_was_sent_nothing(
    settings: Settings, tracker: FailingTracker
) -> None:
    keep(settings)
    tracker.is_away = True
    done = invoke("sync")
    assert (done.exit_code, done.stdout) == (3, "")
    assert "demo: sent nothing: MLflow at memory: does not answer." in done.stderr


def test_one_study_that_is_refused_keeps_no_other_from_being_sent(
    settings: Settings, tracker: FailingTracker
) -> None:
    keep(settings, "first")
    keep(settings, "second")
    tracker.fail_next(error=TrackingError("no such experiment"))
    done = invoke("sync")
    assert (done.exit_code, done.stdout) == (1, "second: sent 2 trials to MLflow at memory:\n")
    assert "no such experiment" in done.stderr


@pytest.mark.fault("F77")
def test_a_study_that_is_driven_is_not_shown_as_killed(
    settings: Settings, tracker: FailingTracker
) -> None:
    keep(settings, n_trials=9)
    folder = settings.study_folder("demo")
    folder.mkdir(parents=True)
    with (folder / "runner.lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert invoke("sync", "demo").exit_code == 0
    assert shown(tracker).study_run.status == "RUNNING"
    assert invoke("sync", "demo").exit_code == 0
    assert shown(tracker).study_run.status == "KILLED"


def test_a_study_that_a_stop_rule_ended_is_shown_as_finished(
    settings: Settings, tracker: FailingTracker
) -> None:
    spec = make_spec(stop={"target": 0.6})
    study = open_study(spec, open_storage(settings.storage_url))
    study.ask()
    study.tell(0, complete(0.5), {"loss": 0.5})
    assert invoke("sync", "demo").exit_code == 0
    assert shown(tracker).study_run.status == "FINISHED"


def test_a_deployed_run_that_came_too_late_to_start_a_trial_leaves_a_finished_study(
    settings: Settings, tracker: FailingTracker
) -> None:
    """Each run of a deployment has its own moment; the last one kept it and started nothing."""
    night = make_spec(name="demo", budget={"finish_by": "2023-11-15T07:00+01:00"})
    study = open_study(night, open_storage(settings.storage_url))
    study.keep_spec(is_shared=False)
    study.finish_at(1_700_000_000.0)
    study.ask()
    study.begin_attempt(0, 1)
    study.tell(0, complete(0.5), {"loss": 0.5})
    late = make_spec(name="demo", budget={"finish_by": "2023-11-16T07:00+01:00"})
    open_study(late, open_storage(settings.storage_url)).finish_at(1_700_200_000.0)
    assert invoke("sync", "demo").exit_code == 0
    assert shown(tracker).study_run.status == "FINISHED"


def test_a_study_whose_last_suggestion_did_not_fit_is_shown_as_finished(
    settings: Settings, tracker: FailingTracker
) -> None:
    """A usual trial would still fit, but the run has ended because this one did not."""
    spec = make_spec(name="demo", budget={"gpu_hours": 2.5})
    study = open_study(spec, open_storage(settings.storage_url))
    study.ask()
    study.begin_attempt(0, 1)
    study.tell(0, complete(0.5), {"loss": 0.5}, cost=AttemptCost(1, Cause.OK, 3600.0))
    study.ask()
    why = Reason(Code.GPU_HOURS_SPENT, "This trial is expected to cost 2 slot-hours.")
    study.tell(1, Verdict.because(Cause.BUDGET, TrialState.FAILED, why))
    assert invoke("sync", "demo").exit_code == 0
    assert shown(tracker).study_run.status == "FINISHED"

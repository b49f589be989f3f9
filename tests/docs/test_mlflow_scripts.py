"""What becomes of trials whose scripts log by plain MLflow: those of the page, and others."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import shutil
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest
from tests.docs.pages import ROOT

from studyflow.executors.diagnosis import Ending, How, diagnose
from studyflow.executors.plain_mlflow import mlflow_variables
from studyflow.executors.run_tokens import RunTokens
from studyflow.tracking import MLflowTracker, embedded_uri
from studyflow.tracking.logged import LoggedRuns, read_metrics, why_no_value
from studyflow.trial import Trial
from studyflow.trial.record import TrialRecord, TrialState

PAGE: Final = (ROOT / "docs" / "mlflow-scripts.md").read_text()
IDIOMS: Final = re.findall(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```", PAGE, re.M | re.S)
STUDY: Final = "the study"

pytestmark = pytest.mark.fault("F74")


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables, which take a second and more to create."""
    folder = tmp_path_factory.mktemp("mlflow")
    MLflowTracker(embedded_uri(folder), "none").finished_trials()
    return folder / "mlflow.db"


@dataclass
class Ended:
    """What an attempt came to."""

    value: float | None
    message: str
    logged: LoggedRuns


class Scripts:
    """A study's MLflow, where scripts run in this process as they would in their own.

    Args:
        uri: Where it is.
        monkeypatch: Sets a script's variables.
        tracker: The runner's side of it.
        number: The trial.
        tokens: Makes what scripts write with, where MLflow asks for it.
    """

    def __init__(
        self,
        uri: str,
        monkeypatch: pytest.MonkeyPatch,
        tracker: MLflowTracker | None = None,
        number: int = 0,
        tokens: RunTokens | None = None,
    ) -> None:
        self.uri = uri
        self.tracker = tracker or MLflowTracker(self.uri, STUDY)
        self.record = TrialRecord(
            number=number, state=TrialState.RUNNING, params={"lr": 0.5}, started_at=time.time()
        )
        self._monkeypatch = monkeypatch
        self._tokens = tokens or RunTokens(None, None)

    @property
    def client(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(self.uri)

    def open(self, attempt: int = 1) -> Trial:
        """Begin an attempt, and set its variables."""
        self.record = replace(self.record, attempt=attempt)
        reference = self.tracker.open_trial(self.record)
        self.record = replace(self.record, run_id=reference.run_id)
        number, params = self.record.number, self.record.params
        trial = Trial(STUDY, number, params, attempt, metrics=("loss",), tracking=reference)
        for name, value in mlflow_variables(trial, {}, self._tokens.of(trial)).items():
            self._monkeypatch.setenv(name, value)
        return trial

    def run(self, script: str | Callable[[], None], attempt: int = 1) -> Ended:
        """Return what an attempt comes to that has this script."""
        trial = self.open(attempt)
        began_at, exit_code, log = time.time(), 0, ""
        try:
            with self._without_account(), _as_in_a_new_process():
                if callable(script):
                    script()
                else:
                    exec(compile(script, "train.py", "exec"), {})
        except Exception:
            exit_code, log = 1, traceback.format_exc()
        outcome = diagnose(Ending(How.EXITED, exit_code=exit_code), None, log, trial)
        if exit_code:
            return Ended(None, str(outcome.reason), LoggedRuns())
        logged = self.tracker.read_runs(self.record, ("loss",), began_at)
        (reading,) = read_metrics(("loss",), logged, {})
        why = None if reading.gap is None else why_no_value(outcome.reason, 0, [reading], logged)
        return Ended(reading.value, "" if why is None else str(why), logged)

    @contextlib.contextmanager
    def _without_account(self) -> Iterator[None]:
        """Take the runner's account out of the variables while a script runs."""
        with self._monkeypatch.context() as patch:
            for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
                patch.delenv(name, raising=False)
            yield


@contextlib.contextmanager
def _as_in_a_new_process() -> Iterator[None]:
    import mlflow

    fluent: Any = importlib.import_module("mlflow.tracking.fluent")
    uri = os.environ["MLFLOW_TRACKING_URI"]
    forget: Any = None  # takes the variable away, too
    mlflow.set_tracking_uri(forget)
    os.environ["MLFLOW_TRACKING_URI"] = uri
    try:
        yield
    finally:
        while mlflow.active_run() is not None:
            mlflow.end_run()
        mlflow.set_tracking_uri(forget)
        fluent._active_experiment_id = None
        os.environ.pop("MLFLOW_EXPERIMENT_ID", None)


@pytest.fixture
def scripts(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Scripts:
    shutil.copy(empty_database, tmp_path)
    shutil.copy(empty_database, tmp_path / "own.db")
    monkeypatch.chdir(tmp_path)
    return Scripts(embedded_uri(tmp_path), monkeypatch)


@pytest.mark.parametrize(("script", "said"), IDIOMS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_script_of_the_page_comes_to_what_stands_under_it(
    scripts: Scripts, script: str, said: str
) -> None:
    ended = scripts.run(script)
    value = "" if ended.value is None else f"loss={ended.value:g}"
    assert said.strip() in f"{value}{ended.message}"


def test_the_page_has_them_all() -> None:
    assert len(IDIOMS) == PAGE.count("```python") > 15


def test_a_run_in_another_experiment_is_found(scripts: Scripts) -> None:
    def script() -> None:
        import mlflow

        del os.environ["MLFLOW_RUN_ID"]
        mlflow.set_experiment("elsewhere")
        with mlflow.start_run():
            mlflow.log_metric("loss", 0.25)

    ended = scripts.run(script)
    assert ended.value == 0.25
    assert [run.experiment for run in ended.logged.runs] == ["", "elsewhere"]
    assert scripts.tracker.read_points(scripts.record, "loss")[0].value == 0.25


def test_the_studys_experiment_may_be_set(scripts: Scripts) -> None:
    def script() -> None:
        import mlflow

        mlflow.set_experiment(STUDY)
        mlflow.log_metric("loss", 0.25)

    assert scripts.run(script).value == 0.25


def test_an_empty_run_is_told_from_no_run_at_all(scripts: Scripts) -> None:
    def script() -> None:
        pass

    message = scripts.run(script).message
    assert "without an objective value" in message
    assert f"Its MLflow run at {scripts.uri} has no metric either" in message
    unknown = scripts.tracker.read_runs(
        replace(scripts.record, number=1, run_id=None), ("loss",), None
    )
    assert unknown.runs == ()


def test_a_process_that_the_script_starts_logs_to_a_run_of_the_trial(scripts: Scripts) -> None:
    def script() -> None:
        import mlflow

        mlflow.log_param("batch_size", 3)  # opens the trial's run: a child finds no MLFLOW_RUN_ID
        fluent = importlib.import_module("mlflow.tracking.fluent")
        kept = fluent._active_run_stack.get()[:]
        fluent._active_run_stack.get().clear()
        mlflow.log_metric("loss", 0.25)
        mlflow.end_run()
        fluent._active_run_stack.get().extend(kept)

    assert scripts.run(script).value == 0.25


def test_what_an_earlier_attempt_logged_is_not_this_ones(scripts: Scripts) -> None:
    def log(*values: float, ago_ms: int = 0) -> Callable[[], None]:
        def script() -> None:
            import mlflow

            at_ms = int(time.time() * 1000) - ago_ms
            for step, value in enumerate(values):
                mlflow.log_metric("loss", value, step=step, timestamp=at_ms)
            mlflow.end_run()
            mlflow.log_metric("other", 1.0)  # in a run of its own

        return script

    assert scripts.run(log(0.9, 0.8, 0.7, ago_ms=5000)).value == 0.7
    second = scripts.run(log(), attempt=2)
    assert second.value is None
    assert "the loss in its MLflow run is older than this attempt" in second.message
    assert scripts.run(log(0.9, 0.6), attempt=2).value == 0.6


def test_a_run_of_an_older_study_of_that_name_gives_no_value(scripts: Scripts) -> None:
    def script() -> None:
        import mlflow

        mlflow.log_metric("loss", 0.25, timestamp=1)

    assert scripts.run(script).value == 0.25  # whatever time a script gives
    scripts.record = replace(scripts.record, started_at=time.time() + 5, run_id=None)
    assert "older than this attempt" in scripts.run(lambda: None).message


def test_a_parameter_of_an_earlier_attempt_is_named_as_such(scripts: Scripts) -> None:
    def script() -> None:
        import mlflow

        mlflow.log_params({"host": f"node-{time.time_ns()}"})
        mlflow.log_metric("loss", 0.25)

    assert scripts.run(script).value == 0.25
    message = scripts.run(script, attempt=2).message
    assert "An earlier attempt of this trial logged it." in message
    assert "mlflow.set_tag('host', ...)" in message


def test_a_run_of_another_trial_is_not_an_unrelated_one(scripts: Scripts) -> None:
    def script() -> None:
        run = scripts.client.create_run("0", tags={"studyflow.trial_run": "another"})
        scripts.client.log_metric(run.info.run_id, "loss", 0.25)

    ended = scripts.run(script)
    assert ended.logged.unrelated == ()
    assert ended.value is None


def test_the_tags_that_a_study_file_sets_for_runs_are_kept(scripts: Scripts) -> None:
    trial = scripts.open()
    kept = mlflow_variables(trial, {"MLFLOW_RUN_CONTEXT": '{"team": "vision"}'})
    assert json.loads(kept["MLFLOW_RUN_CONTEXT"])["team"] == "vision"
    for given in ("not JSON", "[1]", ""):
        tags = json.loads(
            mlflow_variables(trial, {"MLFLOW_RUN_CONTEXT": given})["MLFLOW_RUN_CONTEXT"]
        )
        assert tags == {"studyflow.trial_run": scripts.record.run_id, "studyflow.attempt": "1"}

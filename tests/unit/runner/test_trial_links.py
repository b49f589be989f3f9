"""Where a report's rows lead."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from studyflow.context import StudyContext
from studyflow.errors import ExecutorUnavailable
from studyflow.runner.trial_links import trial_links
from studyflow.settings import Settings
from studyflow.trial.attempt_files import AttemptFiles
from studyflow.trial.record import TrialRecord, TrialState

ENDED = TrialRecord(3, TrialState.COMPLETE, {}, values=(1.0,), attempt=1)
WAITING = TrialRecord(4, TrialState.WAITING, {})


class Pages:
    """A tracker's addresses."""

    def run_url(self, record: TrialRecord, *, artifact: str | None = None) -> str | None:
        return f"http://mlflow/{record.number}" + (f"/{artifact}" if artifact else "")


def context(home: Path, files: Any) -> StudyContext:
    def attempt_files(record: TrialRecord) -> AttemptFiles:
        if isinstance(files, Exception):
            raise files
        return cast("AttemptFiles", files)

    settings = Settings.resolve(home=home, environment={})
    spec = SimpleNamespace(name="a study")
    found = SimpleNamespace(settings=settings, spec=spec, attempt_files=attempt_files)
    return cast("StudyContext", found)


def test_a_log_on_this_machine_is_named_from_the_report_s_folder(tmp_path: Path) -> None:
    where = context(tmp_path, AttemptFiles(log=tmp_path / "trials" / "3 %.log"))
    folder = where.settings.report_folder("a study")

    links = trial_links(where, [ENDED, WAITING])

    assert list(links) == [3]
    assert links[3].keys() == {"log"}
    found = folder / links[3]["log"].replace("%20", " ").replace("%25", "%")
    assert found.resolve() == tmp_path / "trials" / "3 %.log"


def test_a_page_of_mlflow_is_preferred(tmp_path: Path) -> None:
    where = context(tmp_path, AttemptFiles(log=tmp_path / "3.log"))

    links = trial_links(where, [ENDED], cast("Any", Pages()))

    assert links[3] == {"log": "http://mlflow/3/trial.log", "MLflow": "http://mlflow/3"}


def test_an_executor_that_is_away_costs_the_links_alone(tmp_path: Path) -> None:
    where = context(tmp_path, ExecutorUnavailable("gone"))

    assert trial_links(where, [ENDED]) == {}

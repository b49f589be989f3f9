"""Which study a flow's parameters describe."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest

from studyflow.deployments.runs import DeploymentRun
from studyflow.errors import SpecError
from studyflow.settings import Settings

pytestmark = pytest.mark.filterwarnings("default")

STUDY = """
name: asked
objectives: [{metric: loss, direction: minimize}]
search_space: {x: {type: float, low: -2, high: 2}}
budget: {n_trials: 4}
trial: {command: [python, train.py]}
"""


def test_a_path_is_read_with_its_folder_and_a_text_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from studyflow.orchestration.parameters import StudyParameters

    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "study.yaml").write_text(STUDY)
    monkeypatch.chdir(tmp_path)

    from_file = StudyParameters("a/study.yaml", n_trials=7).read()
    from_text = StudyParameters(STUDY, n_trials=7).read()

    assert (from_file[0].budget.n_trials, from_file[2]) == (7, tmp_path / "a")
    assert (from_text[0], from_text[2]) == (from_file[0], tmp_path)


def test_a_flow_run_reads_its_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from studyflow.orchestration import parameters

    file = tmp_path / "study.yaml"
    file.write_text(STUDY)
    first, second = (SimpleNamespace(id=uuid4()) for _ in range(2))
    monkeypatch.setattr(parameters, "current_run", lambda: first)
    assert parameters.read_spec(str(file))[0].name == "asked"

    file.write_text(STUDY.replace("asked", "edited"))

    assert parameters.read_spec(str(file))[0].name == "asked"
    monkeypatch.setattr(parameters, "current_run", lambda: second)
    assert parameters.read_spec(str(file))[0].name == "edited"
    monkeypatch.setattr(parameters, "current_run", lambda: None)
    assert parameters.read_spec(str(file))[0].name == "edited"


def test_a_fork_takes_over_the_files_study() -> None:
    from studyflow.orchestration.parameters import StudyParameters

    spec, fork_from, _ = StudyParameters(STUDY, fork="new").read()
    assert (spec.name, fork_from) == ("new", "asked")


def test_a_fork_and_a_study_for_each_run_exclude_each_other() -> None:
    from studyflow.orchestration.parameters import StudyParameters

    with pytest.raises(SpecError, match="fork names one new study"):
        StudyParameters(STUDY, fork="new", each_run="warm").read()


def test_a_run_that_is_cancelled_finds_the_name_of_its_study_again() -> None:
    from studyflow.orchestration.parameters import StudyParameters

    run = DeploymentRun("run", datetime(2026, 11, 25, 3, tzinfo=UTC))
    spec, _ = StudyParameters(STUDY, each_run="fresh").renamed(run)
    assert spec.name == "asked-2026-11-25-030000"


def test_a_comparison_of_a_form_that_was_left_as_it_is_has_every_default_sampler() -> None:
    from studyflow.comparison import DEFAULT_SAMPLERS
    from studyflow.orchestration.parameters import DEFAULT_SEEDS, ComparisonParameters

    _, _, runs = ComparisonParameters(STUDY).read()
    assert len(runs) == len(DEFAULT_SAMPLERS) * DEFAULT_SEEDS


def test_a_run_of_a_deployment_has_its_own_morning_and_hours(tmp_path: Path) -> None:
    from studyflow.orchestration.parameters import StudyParameters

    text = STUDY.replace("n_trials:", "finish_by: '07:00', n_trials:")
    settings = Settings.resolve(environment={"STUDYFLOW_HOME": str(tmp_path)})
    due = datetime(2026, 11, 25, 22, tzinfo=UTC)
    spec, _, _ = StudyParameters(text, gpu_hours=4.0).read_for(DeploymentRun("a", due), settings)
    moment = datetime.fromisoformat(spec.budget.finish_by or "")
    assert timedelta(0) < moment - due <= timedelta(hours=25)
    assert spec.budget.gpu_hours == 4.0


def test_a_time_of_day_is_read_in_the_zone_of_the_schedule(tmp_path: Path) -> None:
    from studyflow.orchestration.parameters import StudyParameters

    settings = Settings.resolve(environment={"STUDYFLOW_HOME": str(tmp_path)})
    run = DeploymentRun("a", datetime(2026, 11, 25, 22, tzinfo=UTC))

    def finish_by(text: str, run: DeploymentRun) -> str | None:
        study = STUDY.replace("n_trials:", f"finish_by: '{text}', n_trials:")
        asked.clear()
        return StudyParameters(study).read_for(run, settings, zone)[0].budget.finish_by

    def zone() -> ZoneInfo:
        asked.append("zone")
        return ZoneInfo("Asia/Tokyo")

    asked: list[str] = []
    assert (finish_by("07:30", run), asked) == ("2026-11-26T07:30+09:00", ["zone"])
    whole = "2026-11-27T07:00+01:00"
    assert (finish_by(whole, run), asked) == (whole, [])
    called = replace(run, is_deployed=False)
    assert (finish_by("07:30", called), asked) == ("07:30", [])

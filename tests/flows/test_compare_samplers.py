"""The comparison of samplers under a real Prefect server and MLflow's database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from uuid import uuid4

import pytest
from tests.flows.loading import loaded
from tests.flows.test_run_study import STUDY, read_page
from tests.prepared import put_mlflow_database

from studyflow.settings import Settings
from studyflow.storage import open_storage
from studyflow.study import study_names
from studyflow.tracking.mlflow import embedded_uri

# Prefect and its server warn about their own dependencies; ours stay errors everywhere else.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240), pytest.mark.filterwarnings("default")]

SCRIPT = """
from studyflow import sdk
x = sdk.current_trial().params["x"]
sdk.finish(loss=x * x)
"""


@pytest.fixture(scope="module")
def flow_module() -> Iterator[ModuleType]:
    """`flows/compare_samplers.py` as Prefect loads it, over a server of the test's own."""
    with loaded("compare_samplers") as module:
        yield module


@pytest.fixture
def study_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "train.py").write_text(SCRIPT)
    (tmp_path / "study.yaml").write_text(STUDY)
    put_mlflow_database(tmp_path / "home")
    monkeypatch.setenv("STUDYFLOW_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path / "study.yaml"


def test_the_page_has_a_task_run_for_each_run_and_picture_table_and_summary(
    flow_module: ModuleType, study_file: Path, tmp_path: Path
) -> None:
    rows = flow_module.compare_samplers(str(study_file), ["random", "qmc"], 1, n_trials=3)
    assert {row["sampler"] for row in rows} == {"random", "qmc"}
    run, tasks, artifacts = read_page("flow-test: samplers", n_tasks=2)
    assert run.state.is_completed()
    assert sorted(tasks) == ["qmc, seed 1", "random, seed 1"]
    assert all(task.state.message.startswith("loss=") for task in tasks.values())
    assert sorted(artifacts) == [
        "flow-test-samplers-picture",
        "flow-test-samplers-summary",
        "flow-test-samplers-table",
    ]
    assert "| sampler | runs |" in artifacts["flow-test-samplers-summary"].data

    from mlflow.tracking import MlflowClient

    client = MlflowClient(embedded_uri(tmp_path / "home"))
    experiment = client.get_experiment_by_name("flow-test: samplers")
    assert experiment is not None
    runs = client.search_runs(
        [experiment.experiment_id], "tags.`studyflow.role` = 'study'", max_results=10
    )
    by_name = {found.info.run_name: found for found in runs}
    assert sorted(by_name) == ["flow-test-qmc-1", "flow-test-random-1", "flow-test: comparison"]
    shown = by_name["flow-test: comparison"]
    assert "found the best loss" in shown.data.tags["mlflow.note.content"]
    names = {item.path for item in client.list_artifacts(shown.info.run_id)}
    assert {"comparison.svg", "comparison.csv", "comparison.md"} <= names


def test_a_run_that_is_paused_on_its_page_leaves_and_starts_no_study(
    flow_module: ModuleType, study_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.exceptions import Pause
    from prefect.states import Suspended

    from studyflow.orchestration import run_states

    monkeypatch.setattr(run_states, "suspension", lambda: Suspended(timeout_seconds=60))
    with pytest.raises(Pause):
        flow_module.compare_samplers(str(study_file), ["random", "qmc"], 1, n_trials=3)
    storage = open_storage(Settings.resolve().storage_url)
    assert list(study_names(storage)) == []


def test_a_cancelled_run_of_a_form_that_was_left_as_it_is_ends_its_trials(
    flow_module: ModuleType, study_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.client.schemas.objects import FlowRun

    ended: list[list[str]] = []
    monkeypatch.setattr(
        flow_module, "cancel_comparison", lambda runs, *_, **__: ended.append([*map(str, runs)])
    )
    # A deployment's run keeps the parameters that were given, and not the flow's defaults.
    given = FlowRun(flow_id=uuid4(), parameters={"study": str(study_file)})

    flow_module.end_trials(flow_module.compare_samplers, given, None)

    assert [len(runs) for runs in ended] == [4 * 3]


def test_a_wrong_sampler_ends_before_a_server_starts(
    flow_module: ModuleType, study_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert flow_module.main([str(study_file), "--samplers", "tpe", "annealing"]) == 2
    assert "there is no sampler 'annealing'" in capsys.readouterr().err


def test_a_study_file_that_is_gone_is_the_failed_run_s_message(
    flow_module: ModuleType, tmp_path: Path
) -> None:
    state = flow_module.compare_samplers(str(tmp_path / "gone.yaml"), return_state=True)
    assert state.is_failed()
    assert "gone.yaml" in state.message

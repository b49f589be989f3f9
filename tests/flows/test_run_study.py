"""The flow under a real Prefect server: what a person finds on the run's page."""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest
from tests.flows.loading import loaded
from tests.prepared import put_mlflow_database

from studyflow.deployments.runs import DeploymentRun
from studyflow.errors import StorageUnavailable
from studyflow.settings import Settings
from studyflow.trial.record import TrialRecord, TrialState

# Prefect and its server warn about their own dependencies; ours stay errors everywhere else.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180), pytest.mark.filterwarnings("default")]

SCRIPT = """
from studyflow import sdk
trial = sdk.current_trial()
x = trial.params["x"]
for step in range(3):
    sdk.report(step, loss=abs(x) + 1 / (step + 1))
print("training with", x)
if x > 1.5:
    raise RuntimeError("no such thing as x > 1.5")
sdk.finish(loss=x * x)
"""

STUDY = """
name: flow-test
objectives: [{metric: loss, direction: minimize}]
search_space: {x: {type: float, low: -2, high: 2}}
enqueue: [{x: 1.75}, {x: 0.5}]
sampler: {type: random, seed: 1}
budget: {n_trials: 4, max_parallel_trials: 2}
stop: {first_failures: 0}
trial: {command: [python, train.py]}
"""


@pytest.fixture(scope="module")
def flow_module() -> Iterator[ModuleType]:
    """`flows/run_study.py` as Prefect loads it, over a server of the test's own."""
    with loaded("run_study") as module:
        yield module


@pytest.fixture
def study_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "train.py").write_text(SCRIPT)
    (tmp_path / "study.yaml").write_text(STUDY)
    put_mlflow_database(tmp_path / "home")
    monkeypatch.setenv("STUDYFLOW_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path / "study.yaml"


def read_page(name: str, n_tasks: int = 4) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Return the newest flow run of a name, its task runs by name and its artifacts by key."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import (
        ArtifactFilter,
        ArtifactFilterFlowRunId,
        FlowRunFilter,
        FlowRunFilterId,
        FlowRunFilterName,
    )

    async def read() -> tuple[Any, list[Any], list[Any]]:
        async with get_client() as client:
            runs = await client.read_flow_runs(
                flow_run_filter=FlowRunFilter(name=FlowRunFilterName(any_=[name]))
            )
            run = runs[-1]
            by_run = FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
            for _ in range(60):  # task runs reach the database a moment later, as events
                tasks = await client.read_task_runs(flow_run_filter=by_run)
                if len(tasks) >= n_tasks and all(t.state and t.state.is_final() for t in tasks):
                    break
                await asyncio.sleep(0.5)
            artifacts = await client.read_artifacts(
                artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
            )
            return run, tasks, artifacts

    run, tasks, artifacts = asyncio.run(read())
    return run, {task.name: task for task in tasks}, {item.key: item for item in artifacts}


def test_the_run_page_shows_trials_with_causes_progress_table_best_and_figures(
    flow_module: ModuleType, study_file: Path
) -> None:
    best = flow_module.run_study(str(study_file))
    run, tasks, artifacts = read_page("flow-test")
    assert run.state.is_completed()
    assert sorted(tasks) == ["trial-0000", "trial-0001", "trial-0002", "trial-0003"]
    failed = tasks["trial-0000"].state
    assert (failed.is_failed(), failed.name) == (True, "User-Error")
    assert "no such thing as x > 1.5" in failed.message
    assert tasks["trial-0001"].state.message == "ok: 0.25"
    assert artifacts["flow-test-progress"].type == "progress"
    assert artifacts["flow-test-progress"].data == 100.0
    assert artifacts["flow-test-trials"].type == "table"
    assert artifacts["flow-test-best"].type == "markdown"
    figures = artifacts["flow-test-figures"]
    assert figures.type == "markdown"
    assert "### Convergence\n\n![Convergence](data:image/svg+xml;base64," in figures.data
    assert not [key for key, item in artifacts.items() if item.type == "image"]
    assert best["trial"] in (1, 2, 3)


PAUSING_SCRIPT = """
import time
from studyflow import sdk
trial = sdk.current_trial()
saved = sdk.last_checkpoint()
for step in range(0 if saved is None else saved.step + 1, trial.budget):
    sdk.report(step, loss=trial.params["x"])
    with sdk.checkpoint(step) as folder:
        (folder / "state").write_text("")
    time.sleep(0.2)
sdk.finish(loss=trial.params["x"])
"""

PAUSING_STUDY = """
name: pausing
objectives: [{metric: loss, direction: minimize}]
search_space: {x: {type: float, low: 0, high: 1}}
enqueue: [{x: 0.1}, {x: 0.9}, {x: 0.5}]
pruner: {type: asha, variant: promotion, min_resource: 1, reduction_factor: 2}
budget: {n_trials: 3, max_parallel_trials: 1}
trial: {command: [python, train.py], budget: 8}
"""


def test_a_paused_trial_s_task_run_says_paused_and_goes_on_in_one_piece(
    flow_module: ModuleType, study_file: Path
) -> None:
    from prefect.client.orchestration import get_client

    (study_file.parent / "train.py").write_text(PAUSING_SCRIPT)
    study_file.write_text(PAUSING_STUDY)
    flow_module.run_study(str(study_file))
    _, tasks, _ = read_page("pausing", n_tasks=3)
    assert len(tasks) == 3
    with get_client(sync_client=True) as client:
        states = {
            name: [state.name for state in client.read_task_run_states(task.id)]
            for name, task in tasks.items()
        }
    assert states["trial-0000"][:4] == ["Pending", "Running", "Paused", "Running"]
    assert states["trial-0000"][-1] == "Completed"
    assert states["trial-0001"][-2:] == ["Paused", "Pruned"]


def test_the_command_line_run_of_the_same_file_gives_the_same_trials(
    flow_module: ModuleType, study_file: Path, tmp_path: Path
) -> None:
    from click.testing import CliRunner

    from studyflow.cli import main

    flow_best = flow_module.run_study(str(study_file))
    done = CliRunner().invoke(main, ["run", str(study_file), "--home", str(tmp_path / "other")])
    assert done.exit_code == 0, done.output
    shown = CliRunner().invoke(
        main, ["best", str(study_file), "--json", "--home", str(tmp_path / "other")]
    )
    assert json.loads(shown.output)["params"] == flow_best["params"]


def test_a_runner_that_fails_leaves_no_trial_task_waiting(
    flow_module: ModuleType, study_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_after_a_launch(_context: Any, observer: Any, _options: Any) -> None:
        observer.launched(TrialRecord(0, TrialState.RUNNING, {"x": 0.5}, attempt=1))
        raise StorageUnavailable("The study storage does not answer.")

    monkeypatch.setattr(flow_module.runner, "run_study", fail_after_a_launch)
    study_file.write_text(STUDY.replace("flow-test", "flow-left"))
    state = flow_module.run_study(str(study_file), return_state=True)
    assert state.is_failed()
    assert state.message == "The study storage does not answer."
    _, tasks, _ = read_page("flow-left", n_tasks=1)
    assert tasks["trial-0000"].state.is_crashed()


def test_a_wrong_study_file_ends_with_its_problems_before_a_server_starts(
    flow_module: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("name: x\nobjectives: []\n")
    assert flow_module.main([str(path)]) == 2
    assert "search_space" in capsys.readouterr().err


def test_a_changed_study_ends_as_on_the_command_line_without_a_stack_trace(
    flow_module: ModuleType, study_file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    one = STUDY.replace("flow-test", "flow-changed").replace("n_trials: 4", "n_trials: 1")
    study_file.write_text(one)
    assert flow_module.main([str(study_file)]) == 1, "its one trial fails"
    study_file.write_text(one.replace("high: 2", "high: 3"))
    assert flow_module.main([str(study_file)]) == 2
    shown = capfd.readouterr().err
    assert "search_space.x.high: 2.0 → 3.0" in shown
    assert "Traceback" not in shown
    assert "NoneType" not in shown


@pytest.mark.parametrize(
    ("error", "code", "told", "logged"),
    [
        (OSError(errno.ENOSPC, "Disk full", "/data"), 3, "Cannot use /data: Disk full.", ""),
        (ValueError("a fault of ours"), 1, "", "Traceback"),
    ],
)
def test_no_error_inside_the_flow_ends_it_well(
    flow_module: ModuleType,
    study_file: Path,
    error: Exception,
    code: int,
    told: str,
    logged: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(flow_module.runner, "run_study", fail)
    assert flow_module.main([str(study_file)]) == code
    assert told in capsys.readouterr().err
    assert logged in caplog.text
    assert ("Traceback" in caplog.text) is bool(logged)


def test_a_fork_and_a_study_for_each_run_exclude_each_other(
    flow_module: ModuleType, study_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert flow_module.main([str(study_file), "--fork", "new", "--each-run", "warm"]) == 2
    assert "fork names one new study ('new') and each_run='warm'" in capsys.readouterr().err


def test_each_run_makes_a_study_of_its_own_that_knows_the_last_ones_trials(
    flow_module: ModuleType, study_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from studyflow.storage import open_storage
    from studyflow.study import find_study, load_records, study_names

    study_file.write_text(STUDY.replace("flow-test", "flow-warm"))
    for second in (0, 1):
        due = datetime(2026, 11, 25, 3, 0, second, tzinfo=UTC)
        monkeypatch.setattr(
            flow_module, "as_deployment_run", lambda run, due=due: DeploymentRun(str(run.id), due)
        )
        flow_module.run_study(str(study_file), n_trials=2, each_run="warm")
    storage = open_storage(Settings.resolve().storage_url)
    names = study_names(storage)
    assert names == ("flow-warm-2026-11-25-030000", "flow-warm-2026-11-25-030001")
    taken = [
        [record.is_taken_over for record in load_records(find_study(name, storage))[1]]
        for name in names
    ]
    assert taken == [[False, False], [True, True, False, False]]
    assert read_page(names[1], n_tasks=2)[0].name == names[1]


@pytest.mark.fault("F77")
def test_only_flow_runs_whose_process_has_ended_are_closed(
    flow_module: ModuleType, study_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.client.orchestration import get_client
    from prefect.states import Completed, Running

    from studyflow.orchestration.live_runs import FlowRunMarks, LiveRuns

    settings = Settings.resolve()
    monkeypatch.setenv("PREFECT_HOME", str(settings.home / "prefect"))
    marks = FlowRunMarks(settings)
    with get_client(sync_client=True) as client:

        def run(name: str, state: Any = None) -> str:
            made = client.create_flow_run(
                flow_module.run_study, name=name, state=state or Running(), parameters={}
            )
            return str(made.id)

        unmarked, waiting, killed = (run("flow-dead") for _ in range(3))
        other, done, again = run("flow-other"), run("flow-dead", Completed()), run("flow-dead")
        alive = marks.hold(waiting)  # stands by, or publishes its figures
        for ended in (killed, other, done, again):
            marks.hold(ended).close()
        client.set_flow_run_state(UUID(again), Running(), force=True)  # in another process

        LiveRuns().close_dead("flow-dead")

        def shown(run: str) -> str:
            return str(client.read_flow_run(UUID(run)).state_name)

        runs = (unmarked, waiting, killed, other, done, again)
        assert [shown(run) for run in runs] == [
            "Running", "Running", "Crashed", "Running", "Completed", "Running",
        ]  # fmt: skip
    alive.close()
    assert set(marks.ended()) == {waiting, other, again}, "what is closed is marked no longer"


@pytest.mark.parametrize("n_trials", ["-1", "0"])
def test_a_wrong_flag_ends_before_a_server_starts(
    flow_module: ModuleType, study_file: Path, n_trials: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert flow_module.main([str(study_file), "--n-trials", n_trials]) == 2
    assert "budget.n_trials" in capsys.readouterr().err


def test_a_failed_trial_is_no_error_of_the_flow(
    flow_module: ModuleType,
    study_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    study_file.write_text(STUDY.replace("flow-test", "flow-quiet"))
    flow_module.run_study(str(study_file))
    ends = [r for r in caplog.records if "User-Error" in r.getMessage()]
    assert [(r.levelname, r.getMessage()[:18]) for r in ends] == [("INFO", "Finished in state ")]
    assert "NoneType: None" not in caplog.text

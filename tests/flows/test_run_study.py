"""The flow under a real Prefect server: what a person finds on the run's page."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from uuid import UUID

import httpx
import pytest
from tests.flows.loading import loaded

from studyflow.deployments.runs import Occasion
from studyflow.errors import StorageUnavailable
from studyflow.interrupt import Terminated
from studyflow.observers.observer import Progress
from studyflow.trial import Cause
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
    assert artifacts["flow-test-convergence"].type == "image"
    assert artifacts["flow-test-convergence"].data.startswith("data:image/png;base64,")
    assert best["trial"] in (1, 2, 3)


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
    from studyflow.settings import Settings
    from studyflow.storage import open_storage
    from studyflow.study import find_study, load_records, study_names

    monkeypatch.setattr(flow_module, "_screen", flow_module.Screen())
    study_file.write_text(STUDY.replace("flow-test", "flow-warm"))
    for second in (0, 1):
        due = datetime(2026, 11, 25, 3, 0, second, tzinfo=UTC)
        monkeypatch.setattr(
            flow_module, "occasion_of", lambda run, due=due: Occasion(str(run.id), due)
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
    flow_module: ModuleType, study_file: Path
) -> None:
    from prefect.client.orchestration import get_client
    from prefect.states import Completed, Running

    marks = flow_module.FlowRunMarks(flow_module.Settings.resolve())
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

        flow_module.close_dead_runs("flow-dead")

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


@pytest.mark.parametrize(
    ("state", "cause", "name", "is_failed"),
    [
        (TrialState.COMPLETE, Cause.OK, "Completed", False),
        (TrialState.PRUNED, Cause.PRUNED, "Pruned", False),
        (TrialState.FAILED, Cause.CUDA_OOM, "Cuda-Oom", True),
        (TrialState.FAILED, Cause.CANCELLED, "Cancelled", True),
    ],
)
def test_a_trial_task_ends_in_a_state_that_names_the_cause(
    flow_module: ModuleType, state: TrialState, cause: Cause, name: str, is_failed: bool
) -> None:
    record = TrialRecord(3, state, {}, values=(0.5,), cause=cause, message="why")
    shown = flow_module.end_state(record)
    assert (shown.name, shown.is_failed()) == (name, is_failed)
    assert str(cause) in shown.message


def test_a_failed_trial_is_no_error_of_the_flow(
    flow_module: ModuleType,
    study_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(flow_module, "_screen", flow_module.Screen())
    study_file.write_text(STUDY.replace("flow-test", "flow-quiet"))
    flow_module.run_study(str(study_file))
    ends = [r for r in caplog.records if "User-Error" in r.getMessage()]
    assert [(r.levelname, r.getMessage()[:18]) for r in ends] == [("INFO", "Finished in state ")]
    assert "NoneType: None" not in caplog.text


def test_artifact_keys_hold_only_what_prefect_takes(flow_module: ModuleType) -> None:
    assert flow_module.artifact_key("CNN+LSTM (v2)", "best") == "cnn-lstm-v2-best"
    assert flow_module.artifact_key("研究", "best") == "study-best"


@pytest.mark.fault("F36")
def test_a_server_that_is_back_in_time_is_waited_for_and_another_is_not(
    flow_module: ModuleType,
) -> None:
    said: list[str] = []
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    def wait(back_at: float) -> bool:
        now[0] = 0.0
        found: bool = flow_module.wait_for_server(
            said.append, 60.0, away=lambda: now[0] < back_at, clock=lambda: now[0], sleep=sleep
        )
        return found

    assert wait(0.0)
    assert said == []
    assert wait(30.0)
    assert not wait(1000.0)
    waiting = (
        "The study is done. Prefect's server does not answer; waiting for it up to 1 min to show "
        "this on its page."
    )
    assert said == [waiting, "Prefect's server is back after 30 s.", waiting]


@pytest.mark.fault("F36")
def test_a_study_that_prefect_never_hears_of_has_ended_all_the_same(
    flow_module: ModuleType,
    study_file: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", True)  # a script leaves it changed
    screen = flow_module.Screen()

    def run() -> None:
        screen.result = flow_module.runner.run_study(
            flow_module.StudyContext(
                flow_module.StudySpec.from_yaml(study_file), flow_module.Settings.resolve()
            ),
            flow_module.Observer(),
            flow_module.runner.RunOptions(study_file.parent),
        )
        raise httpx.ConnectError("Connection refused")

    assert flow_module.run_script(lambda: None, run, screen) == 0

    assert capsys.readouterr().err == (
        "Prefect's server does not answer (Connection refused), and its page does not show the "
        "end.\n"
    )


# ---- a server that hangs ---------------------------------------------------------------------


@pytest.fixture
def hung() -> Iterator[threading.Event]:
    """What calls wait for that Prefect's server does not answer, until the test is over."""
    over = threading.Event()
    yield over
    over.set()


@pytest.fixture
def view(flow_module: ModuleType, hung: threading.Event, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A view of a study, with a server that does not answer and short patience with it."""
    monkeypatch.setattr(flow_module, "get_run_logger", lambda: logging.getLogger("view"))
    monkeypatch.setattr(flow_module, "ARTIFACT_SECONDS", 0.01)
    monkeypatch.setattr(flow_module, "QUIET_SECONDS", 0.02)
    monkeypatch.setattr(flow_module, "CLOSE_SECONDS", 0.2)
    monkeypatch.setattr(flow_module.runner, "CLOSE_SECONDS", 0.05)
    monkeypatch.setattr(
        flow_module, "create_progress_artifact", lambda **_named: hung.wait(60) and None
    )
    view = flow_module.PrefectView(flow_module.StudySpec.from_text(STUDY))
    view.progressed(Progress("flow-test", 1, 4, (), (), 1.0, None))
    return view


class Future:
    """A trial's task that does not end."""

    def __init__(self) -> None:
        self.timeouts: list[float] = []

    def wait(self, timeout: float) -> None:
        self.timeouts.append(timeout)
        time.sleep(min(timeout, 0.01))


@pytest.mark.parametrize(("error", "longest"), [(None, 0.2), (KeyboardInterrupt, 0.05)])
@pytest.mark.fault("F36")
def test_a_hundred_tasks_and_the_progress_are_waited_for_together(
    view: Any, error: type[BaseException] | None, longest: float, caplog: pytest.LogCaptureFixture
) -> None:
    futures = {number: Future() for number in range(100)}
    view._tasks = futures
    began = time.monotonic()

    with pytest.raises(error) if error else nullcontext(), view.closing():
        if error:
            raise error

    timeouts = [timeout for future in futures.values() for timeout in future.timeouts]
    assert len(timeouts) == 100
    assert sum(min(timeout, 0.01) for timeout in timeouts) <= longest
    assert time.monotonic() - began < 5
    told = [record.getMessage() for record in caplog.records if record.name == "view"]
    assert told[-1].startswith("Waiting up to 0 s for Prefect's server to take the last progress")


@pytest.mark.fault("F36")
def test_artifacts_that_hang_are_told_and_cost_a_finished_study_nothing(
    flow_module: ModuleType,
    hung: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(flow_module, "get_run_logger", lambda: logging.getLogger("view"))
    monkeypatch.setattr(flow_module, "PUBLISH_SECONDS", 0.05)

    flow_module.publish_in_time(lambda: hung.wait(60))

    assert "Could not publish every artifact: no answer within 0.05 s" in caplog.text


@pytest.mark.fault("F36")
def test_a_server_that_hangs_does_not_hold_up_a_runner_that_is_told_to_end(
    flow_module: ModuleType, hung: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow_module, "get_run_logger", lambda: logging.getLogger("view"))
    monkeypatch.setattr(flow_module, "ANSWER_SECONDS", 0.05)
    monkeypatch.setattr(flow_module, "current_run", lambda: SimpleNamespace(id="1"))
    monkeypatch.setattr(flow_module, "get_client", lambda **_named: hung.wait(60))

    assert not flow_module.is_cancelled()


@pytest.mark.parametrize("error", [KeyboardInterrupt, Terminated])
@pytest.mark.fault("F36")
def test_an_interrupted_script_does_not_wait_for_a_server_that_is_away(
    flow_module: ModuleType,
    error: type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    outage = sys.modules[flow_module.wait_for_server.__module__]
    monkeypatch.setattr(outage, "is_away", lambda _url: True)
    monkeypatch.setattr(outage, "end_now", sys.exit)
    monkeypatch.setattr(outage, "_is_script", True)

    with pytest.raises(SystemExit) as ended, flow_module.ending_in_time():
        raise error

    assert ended.value.code == 130
    assert capsys.readouterr().err == (
        "Interrupted; finished trials are kept. Run it again to go on.\n"
        "Prefect's server does not answer, and its page does not show the end.\n"
    )
    monkeypatch.setattr(outage, "_is_script", False)  # a worker's flow run is ended by Prefect
    with pytest.raises(error), flow_module.ending_in_time():
        raise error

"""The flow `run_study`: one study under Prefect, each trial as one task run.

    python flows/run_study.py study.yaml [--n-trials N] [--max-parallel-trials N] [...]

Without a configured server Prefect runs embedded; `studyflow ui` shows the runs afterwards, or as
they go. The same engine without Prefect: `studyflow run study.yaml`.

This file holds names and glue; what a study does is decided in `studyflow.tuner`.
"""

from __future__ import annotations

if __name__ == "__main__":
    from studyflow.interrupt import leave_at_once

    leave_at_once()  # Prefect takes seconds to import

import argparse
import base64
import logging
import os
import queue
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Annotated, Any, NoReturn, TextIO, cast, get_args
from uuid import UUID

import httpx
from pydantic import Field, WithJsonSchema
from rich.console import Console

from studyflow import runner
from studyflow.background import Background
from studyflow.cli import exits
from studyflow.cli.terminal import PlainView, make_view, print_result
from studyflow.context import StudyContext
from studyflow.deployments.runs import EachRun, Occasion, study_name, study_of_run
from studyflow.deployments.study_files import study_files
from studyflow.embedded import FlowRunMarks, end_orphaned_servers, prefect_environment
from studyflow.errors import SpecError, StudyflowError, StudyStopped, describe_os_error
from studyflow.executors import AttemptId, Executor
from studyflow.interrupt import Terminated, leaving_at_once, raise_on_sigterm
from studyflow.observers.observer import Observer, Observers, Progress
from studyflow.reports import StudyData, best_config, summary_markdown, trial_rows
from studyflow.reports.tables import TrialRow
from studyflow.runner import StudyResult
from studyflow.settings import Settings
from studyflow.spec import LONGEST_SECONDS, SamplerName, StudySpec
from studyflow.spec.overrides import override
from studyflow.storage import open_storage, quiet_optuna, storage_errors
from studyflow.trial.record import TrialRecord, TrialState

# Prefect reads its settings when it is imported.
_embedded = prefect_environment(Settings.resolve())
for _name, _value in _embedded.items():
    os.environ[_name] = _value
    if _name == "PREFECT_HOME":
        try:
            Path(_value).mkdir(parents=True, exist_ok=True)  # or its server finds no database
        except OSError as _error:
            print(describe_os_error(_error), file=sys.stderr)  # noqa: T201
            sys.exit(3)
if __name__ == "__main__" and sys.stderr.isatty():
    # A person watches the live view; log lines still reach Prefect's page.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "WARNING")

from prefect import Flow, flow, get_run_logger, task  # noqa: E402
from prefect.artifacts import (  # noqa: E402
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE  # noqa: E402
from prefect.client.orchestration import get_client  # noqa: E402
from prefect.client.schemas.filters import (  # noqa: E402
    FlowRunFilter,
    FlowRunFilterId,
)
from prefect.client.schemas.objects import FlowRun, State, StateType  # noqa: E402
from prefect.context import FlowRunContext  # noqa: E402
from prefect.exceptions import Pause  # noqa: E402
from prefect.futures import PrefectFuture  # noqa: E402
from prefect.logging.loggers import flow_run_logger  # noqa: E402
from prefect.states import Completed, Crashed, Failed, Running, Suspended  # noqa: E402
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner  # noqa: E402
from prefect_outage import (  # noqa: E402 - beside this file; it imports Prefect too
    INTERRUPTED,
    PATIENCE_SECONDS,
    check_server,
    ending_in_time,
    exit_now,
    quiet_outages,
    this_is_a_script,
    wait_for_server,
)
from typed import typed  # noqa: E402

MAX_TRIAL_TASKS = 256
"""Most trial tasks at once: each is a thread that sleeps until its trial is recorded."""

LOG_TAIL_BYTES = 16_384
"""How much of a trial's log goes into Prefect's; MLflow has all of it."""

REST_SECONDS = 10 * 365 * 86400
"""How long a run that was paused on its page waits to be resumed."""

PAUSED_STATE = "Study Paused"
"""Name of the state of a run whose study was paused by `studyflow pause`."""

MOST_MARKS = 200
"""Most flow runs that are asked about at once: Prefect answers with no more."""

_alive: dict[UUID, IO[Any]] = {}
"""Files that show of flow runs that this process lives. They are never closed: a run goes on, with
its page, when its study has ended."""

ARTIFACT_SECONDS = 5.0
"""Shortest pause between two updates of the progress artifact."""

CLOSE_SECONDS = 20.0
"""How long a study that ended waits for all its trial tasks and the last progress together."""

QUIET_SECONDS = 2.0
"""How long that may take before anybody is told."""

PUBLISH_SECONDS = 120.0
"""Longest time for all artifacts of a finished study; a figure takes a tenth of a second."""

ANSWER_SECONDS = 10.0
"""How long a runner that is told to end waits for Prefect to say who told it."""


def _keep_calm(record: logging.LogRecord) -> bool:
    """Make a failed trial news, not an error: a terminal would show that amid the live view.

    Of the two records that Prefect makes, the first repeats the second with an empty stack trace.
    """
    if str(record.msg).startswith("Finished in state"):
        record.levelno, record.levelname = logging.INFO, "INFO"
    return not str(record.msg).startswith("Task run failed with")


logging.getLogger("prefect.task_runs").addFilter(_keep_calm)

TrialEnd = queue.SimpleQueue[tuple[TrialRecord | None, str]]
"""Tells a trial's task its recorded trial and the log's last lines, or `None` when the runner
leaves the trial running."""

_ends: dict[tuple[str, int], TrialEnd] = {}
"""The ends that trial tasks wait for, by study and number: a task's arguments are shown in the UI,
so objects travel beside them."""


@task(name="trial", task_run_name="trial-{number:04d}", cache_policy=NO_CACHE, retries=0)
def trial_task(study: str, number: int, params: dict[str, Any]) -> State[Any]:
    """Last from a trial's launch to its recorded outcome; the state says how it ended."""
    logger = get_run_logger()
    logger.info("trial %d: %s", number, params)
    end = _ends[study, number]
    try:
        record, log_tail = end.get()
    finally:
        del _ends[study, number]
    if record is None:
        return Crashed(message="The runner ended first; the next one goes on with this trial.")
    if log_tail:
        logger.info("end of the trial's log:\n%s", log_tail)
    return end_state(record)


def end_state(record: TrialRecord) -> State[Any]:
    """Return the Prefect state that shows a finished trial: its cause is in name and message."""
    data = {"number": record.number, "state": record.state.value, "cause": record.cause}
    if record.state is TrialState.COMPLETE:
        values = ", ".join(f"{value:.6g}" for value in record.values or ())
        return Completed(message=f"{record.cause}: {values}", data=data)
    message = f"{record.cause}: {record.message}" if record.message else str(record.cause)
    if record.state is TrialState.PRUNED:
        return Completed(name="Pruned", message=message, data=data)
    return Failed(name=str(record.cause or "failed").title(), message=message)


class PrefectView(Observer):
    """Shows a study in Prefect: trial tasks, log lines and the progress artifact."""

    def __init__(self, spec: StudySpec) -> None:
        self._spec = spec
        self._redact = StudyContext(spec, Settings.resolve()).redactor
        self._logger = get_run_logger()
        self._tasks: dict[int, PrefectFuture[Any]] = {}
        self._executor: Executor | None = None
        self._progress: Progress | None = None
        self._closing = threading.Event()
        if _embedded:
            mark_alive()  # before this run stands by, if it has to
        self._threads: list[threading.Thread] = []
        self._in_background("progress", self._show_progress)

    def _in_background(self, name: str, call: Callable[[], object]) -> None:
        """Make a call that may wait for Prefect's server: a slow one delays no trial."""
        context = copy_context()
        thread = threading.Thread(
            target=lambda: context.run(call), name=f"prefect-{name}", daemon=True
        )
        self._threads.append(thread)
        thread.start()

    def take_over(self, executor: Executor) -> None:
        """Take the executor whose logs are shown; this run now drives its study."""
        self._executor = executor
        if not _embedded:
            return
        try:
            close_dead_runs(self._spec.name)
        except Exception as error:  # noqa: BLE001 - other runs' pages are not worth this study
            self._logger.warning("Could not close the pages of runs that were killed: %s", error)

    def tracked(self, url: str) -> None:
        self._logger.info("the study in MLflow: %s", url)  # the page makes it a link
        self._in_background("link", lambda: self._show_link(url))

    def _show_link(self, url: str) -> None:
        try:
            create_link_artifact(
                link=url,
                link_text=f"{self._spec.name} in MLflow",
                key=artifact_key(self._spec.name, "mlflow"),
                description="Parent run of the study: its trials are nested below it.",
            )
        except Exception as error:  # noqa: BLE001 - the log line above shows it, too
            self._logger.warning("Could not publish the link to MLflow: %s", error)

    def launched(self, record: TrialRecord) -> None:
        if record.number in self._tasks:
            return
        _ends[self._spec.name, record.number] = queue.SimpleQueue()
        try:
            self._tasks[record.number] = trial_task.submit(
                self._spec.name, record.number, dict(record.params)
            )
        except Pause:  # in this very moment; the trial ends before the run leaves
            del _ends[self._spec.name, record.number]

    def recorded(self, record: TrialRecord) -> None:
        end = _ends.get((self._spec.name, record.number))
        if end is not None:
            end.put((record, self._log_tail(record)))

    def progressed(self, progress: Progress) -> None:
        self._progress = progress

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Close the view at the end of a study, and sooner when somebody wants to leave."""
        seconds = CLOSE_SECONDS
        try:
            yield
        except (KeyboardInterrupt, Terminated):
            seconds = runner.CLOSE_SECONDS
            raise
        finally:
            self.close(seconds)

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """End all trial tasks, and wait a while until they and the last progress reached Prefect.

        What takes longer is left to Prefect's own threads; nothing of the study depends on it.
        """
        deadline = time.monotonic() + seconds
        self._closing.set()
        for number in self._tasks:
            end = _ends.get((self._spec.name, number))
            if end is not None:
                end.put((None, ""))  # a task without an end would wait for ever
        quiet_until = time.monotonic() + QUIET_SECONDS
        for thread in self._threads:
            thread.join(max(quiet_until - time.monotonic(), 0.0))
        if any(thread.is_alive() for thread in self._threads):
            self._logger.warning(
                "Waiting up to %.0f s for Prefect's server to take the last progress.", seconds
            )
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0.0))
        for future in self._tasks.values():
            with suppress(Pause):  # of the flow run, which leaves after this
                future.wait(timeout=max(deadline - time.monotonic(), 0.0))

    def _log_tail(self, record: TrialRecord) -> str:
        if self._executor is None:
            return ""
        log = self._executor.files(AttemptId(record.number, record.attempt)).log
        if log is None or not log.exists():
            return ""
        with log.open("rb") as file:
            tail = b"".join(self._redact.tail(file, LOG_TAIL_BYTES))
            return tail.decode(errors="replace").strip()

    def _show_progress(self) -> None:
        """Keep the artifact up to date."""
        artifact: UUID | None = None
        shown: Progress | None = None
        is_paused = is_away = is_closing = False
        n_late = 0
        # The last progress is tried again, as long as the flow waits for a server that is away.
        while not is_closing or (is_away and n_late < PATIENCE_SECONDS / ARTIFACT_SECONDS):
            if is_closing:
                n_late += 1
                time.sleep(ARTIFACT_SECONDS)
            is_closing = self._closing.wait(ARTIFACT_SECONDS)
            progress = self._progress
            if progress is None or progress is shown:
                continue
            try:
                artifact = self._update_artifact(artifact, progress)
                if progress.is_paused is not is_paused:
                    show_pause(progress.is_paused)
                    is_paused = progress.is_paused
                shown = progress
            except Exception as error:  # noqa: BLE001 - Prefect away does not stop a study
                if not is_away:
                    self._logger.warning(
                        "Prefect's server does not answer; the study goes on, and its page catches "
                        "up when it is back: %s",
                        error,
                    )
                is_away = True
            else:
                if is_away:
                    self._logger.info("Prefect's server is back.")
                is_away = False

    def _update_artifact(self, artifact: UUID | None, progress: Progress) -> UUID:
        percent = 100.0 * progress.n_finished / max(progress.n_trials, 1)
        if artifact is not None:
            update_progress_artifact(artifact, progress=percent)
            return artifact
        created = create_progress_artifact(
            progress=percent,
            key=artifact_key(self._spec.name, "progress"),
            description=f"Finished trials of {self._spec.name}",
        )
        assert isinstance(created, UUID), "a synchronous call returns the artifact's id"
        return created


def artifact_key(study: str, what: str) -> str:
    """Return an artifact key: lower-case letters, digits and dashes are all Prefect takes."""
    slug = re.sub(r"[^a-z0-9]+", "-", study.lower()).strip("-") or "study"
    return f"{slug[:100]}-{what}"


def read_spec(study: str) -> tuple[StudySpec, Path]:
    """Return a study from the path of its file or from YAML text, and the folder it lives in.

    Raises:
        SpecError: The file or the text is wrong; the message holds every problem.
    """
    if "\n" in study:
        return StudySpec.from_text(study), Path.cwd()
    path = Path(study)
    return StudySpec.from_yaml(path), path.parent.absolute()


@dataclass(frozen=True, slots=True)
class Request:
    """What a run was asked for: the parameters of the flow."""

    study: str
    n_trials: int | None = None
    max_parallel_trials: int | None = None
    sampler: SamplerName | None = None
    timeout_seconds: float | None = None
    each_run: EachRun = "finish"
    fork: str | None = None

    @classmethod
    def of(cls, run: FlowRun) -> Request:
        """Return what a flow run was asked for, as Prefect keeps it."""
        return cls(**run.parameters)

    def read(self) -> tuple[StudySpec, str | None, Path]:
        """Return the study with this run's numbers, the study to fork from and the file's folder.

        Raises:
            SpecError: The file or one of the numbers is wrong.
        """
        if self.fork is not None and self.each_run != "finish":
            raise SpecError(
                f"fork names one new study ({self.fork!r}) and each_run={self.each_run!r} says "
                "which study every run is about. Hint: leave one of them out; each_run='warm' "
                "takes over the last study's trials into a new one each time."
            )
        spec, folder = read_spec(self.study)
        spec, fork_from = override(
            spec,
            self.n_trials,
            self.max_parallel_trials,
            self.fork,
            self.sampler,
            self.timeout_seconds,
        )
        return spec, fork_from, folder

    def renamed(self, occasion: Occasion) -> tuple[StudySpec, Path]:
        """Return the study that a run is about, by name, and the file's folder."""
        spec, _, folder = self.read()
        name = study_name(spec.name, self.each_run, occasion.due)
        return spec.model_copy(update={"name": name}), folder


def occasion_of(run: FlowRun | None) -> Occasion:
    """Return the occasion of a flow run; a process that replaces a killed one gets the same."""
    if run is None:
        return Occasion("direct", datetime.now(UTC))
    return Occasion(str(run.id), run.expected_start_time or run.created or datetime.now(UTC))


def current_run() -> FlowRun | None:
    """Return the flow run that this code runs in, if any."""
    context = FlowRunContext.get()
    return None if context is None else context.flow_run


def flow_run_name() -> str:
    """Return the study's name, for Prefect's list of runs."""
    run = current_run()
    try:
        assert run is not None, "Prefect names a run within it"
        return Request.of(run).renamed(occasion_of(run))[0].name
    except StudyflowError:
        return "study"


# Prefect's own runner misses the type that its own decorator asks for.
TASK_RUNNER = cast(
    "TaskRunner[PrefectFuture[Any]]", ThreadPoolTaskRunner(max_workers=MAX_TRIAL_TASKS)
)


def end_trials(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001
    """End what a cancelled run could not end in time: Prefect kills it after 30 seconds.

    Prefect calls this in a process of its own, so it finds its work by the run's parameters.
    """
    spec, folder = Request.of(flow_run).renamed(occasion_of(flow_run))
    context = StudyContext(spec, Settings.resolve())
    runner.cancel_study(context, FlowRunLog(flow_run), folder=folder)


class FlowRunLog(Observer):
    """Tells what concerns a whole study in the log of a flow run whose process has ended."""

    def __init__(self, flow_run: FlowRun) -> None:
        self._logger = flow_run_logger(flow_run)

    def noted(self, message: str) -> None:
        self._logger.warning("%s", message)


def study_schema(folder: Path) -> dict[str, Any]:
    """Return the JSON schema of the parameter `study`: a file of this folder, or anything else."""
    files = study_files(folder)
    text = {"title": "text or path", "type": "string"}
    if not files:
        return text
    # The text comes first: the older of Prefect's two pages shows a path that is no choice as the
    # first one, and would lose it there.
    return {"anyOf": [text, {"title": "file", "type": "string", "enum": list(files)}]}


# What the form of a deployment shows of the parameters: Prefect makes it from these types.
StudyParameter = Annotated[str, WithJsonSchema(study_schema(Path.cwd()))]
TrialsParameter = Annotated[int, Field(ge=1, le=1_000_000)]
ParallelParameter = Annotated[int, Field(ge=1, le=10_000)]
SecondsParameter = Annotated[float, Field(gt=0, le=LONGEST_SECONDS)]


@flow(
    name="run-study",
    flow_run_name=flow_run_name,
    task_runner=TASK_RUNNER,
    retries=0,
    on_cancellation=[end_trials],
)
@typed
def run_study(
    study: StudyParameter,
    n_trials: TrialsParameter | None = None,
    max_parallel_trials: ParallelParameter | None = None,
    fork: str | None = None,
    sampler: SamplerName | None = None,
    timeout_seconds: SecondsParameter | None = None,
    each_run: EachRun = "finish",
) -> dict[str, Any] | State[Any]:
    """Run a study to its budget, or go on with it, and return its best configuration.

    What is wrong with the study, or ends it without a result, is the message of the failed state:
    an exception would show a person a stack trace of ours.

    Args:
        study: Path of a study file, or its YAML text.
        n_trials: Finish this many trials in all; the file's number by default. With each_run: this
            many in every run.
        max_parallel_trials: Trials that run at once; the file's number by default.
        fork: Start a new study of this name that takes over the old one's trials.
        sampler: Who suggests the next point; the file's sampler by default.
        timeout_seconds: After this long, start no further trial; the file's time by default.
        each_run: finish takes the study to its number of trials; continue adds that many to it;
            fresh makes a new study, named with the date; warm makes a new study that takes over
            the trials of the last one.
    """
    request = Request(
        study, n_trials, max_parallel_trials, sampler, timeout_seconds, each_run, fork
    )
    with ending_in_time():
        return _run_to_end(request)


def _run_to_end(request: Request) -> dict[str, Any] | State[Any]:
    """Run a study, publish what came out, and return the flow's result or its failed state."""
    try:
        result = _run(request)
    except StudyflowError as error:
        return _failed(error, str(error))
    except OSError as error:
        if not error.strerror:
            raise
        return _failed(error, describe_os_error(error))
    _screen.print(result)
    if wait_for_server(get_run_logger().warning):
        publish(result)
    if result.outcome.is_failure:
        stopped = StudyStopped(result.outcome.reason)
        return _failed(stopped, str(stopped))
    return best_config(result.data)


def _failed(error: StudyflowError | OSError, message: str) -> State[Any]:
    _screen.error = error
    return Failed(message=message)


def _run(request: Request) -> StudyResult:
    """Run a study and show it on the flow run's page."""
    quiet_optuna()
    spec, fork_from, folder = request.read()
    settings = Settings.resolve()
    if request.each_run != "finish":
        with storage_errors(settings.storage_url):
            spec, fork_from = study_of_run(
                spec,
                request.each_run,
                occasion_of(current_run()),
                open_storage(settings.storage_url),
            )
    logger = get_run_logger()
    view = PrefectView(spec)
    lines = PlainView(spec, lambda line: logger.info("%s", line))
    with view.closing(), _screen.shown(spec) as screen_view:
        result = runner.run_study(
            StudyContext(spec, settings),
            Observers(view, lines, screen_view),
            runner.RunOptions(
                folder,
                fork_from,
                on_executor=view.take_over,
                ends_trials=lambda: settings.executor == "local" or is_cancelled(),
                leaves=is_suspended,
            ),
        )
    leave_if_suspended(is_finished=result.outcome.is_finished)
    return result


def is_cancelled() -> bool:
    """Whether this flow run was cancelled; else its pod is evicted, drained or replaced.

    Its trials then go on in their own pods, and the next pod of this flow run finds them.
    """
    run = current_run()
    if run is None:
        return True

    def read_state() -> State[Any] | None:
        with get_client(sync_client=True) as client:
            return client.read_flow_run(run.id).state

    try:
        state = Background("prefect-state", read_state).result(ANSWER_SECONDS)
    except Exception as error:  # noqa: BLE001 - Prefect away: nobody asked for an end
        get_run_logger().warning("Prefect does not say whether this run is cancelled: %s", error)
        return False
    return state is not None and state.type in (StateType.CANCELLING, StateType.CANCELLED)


def suspension() -> State[Any] | None:
    """Return the state in which a person has paused this flow run on its page, if so.

    Prefect watches for it, and would raise it in the midst of the next launch: see `leave`.
    """
    context = FlowRunContext.get()
    return None if context is None else context.flow_run_suspension_request.get_state()


def is_suspended() -> bool:
    """Whether a person has paused this flow run on its page: it is to start nothing more."""
    return suspension() is not None


def leave_if_suspended(*, is_finished: bool) -> None:
    """End the process of a flow run that was paused before its work was done."""
    state = suspension()
    if state is not None and not is_finished:
        leave(state)


def leave(state: State[Any]) -> NoReturn:
    """End the process of a paused flow run; resumed on its page, it goes on in another.

    The page gives each pause a time after which Prefect fails the run (and not, as it says there,
    resumes it). Until somebody resumes it, it rests.
    """
    run = current_run()
    assert run is not None, "only a flow run is paused"
    with get_client(sync_client=True) as client:
        found = client.read_flow_run(run.id).state
        if found is not None and found.type is StateType.PAUSED:
            state = Suspended(timeout_seconds=REST_SECONDS)
            client.set_flow_run_state(run.id, state, force=True)
    raise Pause(state=state)


def show_pause(is_paused: bool) -> None:
    """Let the run's page say that `studyflow pause` has stopped the study, or that it goes on."""
    run = current_run()
    if run is None:
        return
    with get_client(sync_client=True) as client:
        found = client.read_flow_run(run.id).state
        if found is not None and found.type is StateType.RUNNING:
            name = PAUSED_STATE if is_paused else "Running"
            shown: State[Any] = Running(name=name)
            client.set_flow_run_state(run.id, shown, force=True)
            if run.id in _alive:
                FlowRunMarks(Settings.resolve()).renew(str(run.id))


def mark_alive() -> None:
    """Show the runs that follow that the process of this one lives."""
    run = current_run()
    if run is None or run.id in _alive:
        return
    try:
        _alive[run.id] = FlowRunMarks(Settings.resolve()).hold(str(run.id))
    except OSError as error:
        get_run_logger().warning(
            "This run cannot be marked as alive, so its page will say Running if it is killed: %s",
            error,
        )


def close_dead_runs(name: str) -> None:
    """Mark this study's earlier flow runs as crashed if their page still says "Running".

    Only those whose process is known to have ended: another may stand by to take over, or be about
    to publish what it found.
    """
    marks = FlowRunMarks(Settings.resolve())
    ended = marks.ended()
    if not ended:
        return
    message = "Its process was killed; a later run took over the study."
    ids = [UUID(run) for run in sorted(ended, key=lambda run: -ended[run])[:MOST_MARKS]]
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=ids))
        ):
            state = run.state
            if state is None or run.id in _alive:
                continue
            is_its_own = state.timestamp.timestamp() <= ended[str(run.id)]
            if run.name == name and state.type is StateType.RUNNING and is_its_own:
                crashed: State[Any] = Crashed(message=message)
                client.set_flow_run_state(run.id, crashed, force=True)
                marks.forget(str(run.id))
            elif state.is_final():
                marks.forget(str(run.id))


def publish(result: StudyResult) -> None:
    """Leave the trials, the best configuration and the figures on the run's page."""
    publish_in_time(lambda: _make_artifacts(result))


def publish_in_time(make_artifacts: Callable[[], object]) -> None:
    """Make a finished run's artifacts; what cannot be made is told, and fails no study."""
    context = copy_context()
    try:
        making = Background("prefect-artifacts", lambda: context.run(make_artifacts))
        making.result(PUBLISH_SECONDS)
    except Exception as error:  # noqa: BLE001 - the study is done; its page is not worth failing it
        get_run_logger().warning("Could not publish every artifact: %s", error)


def _make_artifacts(result: StudyResult) -> None:
    name = result.spec.name
    links = {"MLflow": result.run_url} if result.run_url else {}
    create_table_artifact(
        table=[table_row(row, result.data) for row in trial_rows(result.data)],
        key=artifact_key(name, "trials"),
        description=f"Trials of {name}",
    )
    create_markdown_artifact(
        markdown=summary_markdown(result.data, links),
        key=artifact_key(name, "best"),
        description=f"Best configuration of {name}",
    )
    if result.report_url is not None:
        get_run_logger().info("the report in MLflow: %s", result.report_url)
        create_link_artifact(
            link=result.report_url,
            link_text=f"Report of {name}",
            key=artifact_key(name, "report"),
            description="The whole study on one page.",
        )
    figures = {} if result.report is None else result.report.figures
    for figure, path in figures.items():
        picture = base64.b64encode(path.read_bytes()).decode()
        create_image_artifact(
            image_url=f"data:image/png;base64,{picture}",
            key=artifact_key(name, figure.replace("_", "-")),
            description=figure.replace("_", " "),
        )


def table_row(row: TrialRow, data: StudyData) -> dict[str, Any]:
    """Return a trial as a row of Prefect's table artifact."""
    values = row.values or (None,) * len(data.metrics)
    return {
        "trial": row.number,
        "best": "★" if row.is_best else "",
        **dict(zip(data.metrics, values, strict=True)),
        "state": row.state.value,
        "cause": None if row.cause is None else row.cause.value,
        "seconds": None if row.duration_seconds is None else round(row.duration_seconds, 1),
        **row.params,
        "message": row.message,
    }


class Screen:
    """The terminal of a flow that runs as a script; nothing for one that a worker runs."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self.error: StudyflowError | OSError | None = None
        """What ended the flow, if that is something a person can mend."""
        self.result: StudyResult | None = None
        """What came out, once it was printed."""

    @property
    def has_printed(self) -> bool:
        """Whether a result was printed, which says how the study ended."""
        return self.result is not None

    def exit_code(self) -> int:
        """Return the exit code that goes with what was printed."""
        is_failure = self.result is not None and self.result.outcome.is_failure
        return exits.FAILED if is_failure else 0

    @contextmanager
    def shown(self, spec: StudySpec) -> Iterator[Observer]:
        """Show the study while it runs, where a person watches."""
        if self._stream is None or not self._stream.isatty():
            yield Observer()
            return
        view = make_view(spec, self._stream)
        with view.shown():
            yield view

    def print(self, result: StudyResult) -> None:
        """Print what came out and where to look."""
        if self._stream is not None:
            print_result(result, Console())
            self.result = result


def start_embedded_server() -> None:
    """Start Prefect's temporary server, where no other is configured.

    Prefect would start it by itself, and as part of the terminal's process group: Ctrl-C would end
    it first, and the flow would wait minutes for a server that does not come back. Started by a
    thread that blocks SIGINT, it blocks it too. It ends when Python does, after Prefect's threads
    have sent it the last log lines.
    """
    if not _embedded or "PREFECT_API_URL" in os.environ:
        return
    with leaving_at_once():
        from prefect.server.api.server import SubprocessASGIServer  # takes seconds to import

    def block_interrupts() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})

    server = SubprocessASGIServer()
    with ThreadPoolExecutor(1, initializer=block_interrupts) as starter:
        start = starter.submit(copy_context().run, server.start)
        try:
            start.result()
        except RuntimeError as error:
            raise StudyflowError(
                f"Prefect's temporary server did not start: {error}",
                hint="is the machine very busy? Run it again, or without Prefect: studyflow run.",
            ) from error
        except BaseException:
            server.stop()  # so that the thread does not wait for it any longer
            raise


def run_script(check: Callable[[], object], run: Callable[[], State[Any]], screen: Screen) -> int:
    """Run a flow from the command line; return the exit code.

    Args:
        check: Raises for a file or a flag that is wrong, before a server is started for it.
        run: Runs the flow.
        screen: What the flow keeps its error in, and whether it has printed how it ended.
    """
    this_is_a_script()
    try:
        raise_on_sigterm()
        check()
        end_orphaned_servers(Settings.resolve())
        start_embedded_server()
        check_server()
        quiet_outages()
        state = run()
        if screen.error is not None:
            raise screen.error
    except httpx.TransportError as error:
        unshown = f"Prefect's server does not answer ({error}), and its page does not show the end."
        print(unshown, file=sys.stderr)  # noqa: T201
        return exits.UNAVAILABLE if screen.result is None else screen.exit_code()
    except StudyflowError as error:
        if not screen.has_printed:  # a study's result says how it ended
            print(error, file=sys.stderr)  # noqa: T201
        return exits.exit_code(error)
    except OSError as error:
        if not error.strerror:
            raise
        print(describe_os_error(error), file=sys.stderr)  # noqa: T201
        return exits.UNAVAILABLE
    except Pause:
        print("Paused on its page. Run it again to go on.", file=sys.stderr)  # noqa: T201
        return exits.INTERRUPTED
    except (KeyboardInterrupt, Terminated):
        print(INTERRUPTED, file=sys.stderr)  # noqa: T201
        return exits.INTERRUPTED
    # Failed for another reason: a fault of ours, of which Prefect has logged the stack trace.
    return 0 if state.is_completed() else exits.FAILED


_screen = Screen()
"""Set by `main`: a flow's parameters are shown in the UI and cannot carry a terminal."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the flow from the command line; return the exit code."""
    global _screen
    parser = argparse.ArgumentParser(description="Run a study under Prefect.")
    parser.add_argument("study", help="path of the study file")
    parser.add_argument("--n-trials", type=int, help="finish this many trials in all")
    parser.add_argument("--max-parallel-trials", type=int, help="trials that run at once")
    parser.add_argument("--fork", metavar="NAME", help="new study that takes over the old trials")
    parser.add_argument("--sampler", choices=get_args(SamplerName), help="who suggests")
    parser.add_argument("--timeout-seconds", type=float, help="start no trial after this long")
    parser.add_argument(
        "--each-run", choices=get_args(EachRun), default="finish", help="which study a run is about"
    )
    given = parser.parse_args(arguments)
    _screen = Screen(sys.stderr)
    return run_script(
        lambda: Request(**vars(given)).read(),
        lambda: run_study(**vars(given), return_state=True),
        _screen,
    )


if __name__ == "__main__":
    exit_now(main())

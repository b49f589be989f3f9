"""The flow `compare_samplers`: one study under several samplers and seeds, each run a task run.

    python flows/compare_samplers.py study.yaml [--samplers random tpe gp botorch] [--seeds 3]

It answers, for your own problem, which search suits it. All runs stand in one MLflow experiment,
beside one more with the picture and the table. Started again it goes on where it stopped.

This file holds names and glue; what a comparison does is decided in `studyflow.comparison`.
"""

from __future__ import annotations

if __name__ == "__main__":
    from studyflow.interrupt import leave_at_once

    leave_at_once()  # Prefect takes seconds to import

import argparse
import base64
import os
import queue
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from rich.console import Console

from studyflow.cli.terminal import PlainView, print_comparison, result_text
from studyflow.comparison import (
    DEFAULT_SAMPLERS,
    ComparisonFiles,
    Contender,
    cancel_comparison,
    contenders,
    run_comparison,
    track_comparison,
    write_comparison,
)
from studyflow.errors import StudyflowError, TrackingError, describe_os_error
from studyflow.observers.observer import Observer, Observers
from studyflow.reports.comparison import Comparison, as_rows, comparison_markdown
from studyflow.runner import RunOptions, StudyResult
from studyflow.settings import Settings
from studyflow.spec import SamplerName, StudySpec

if __name__ == "__main__" and sys.stderr.isatty():
    # A person watches the live view; log lines still reach Prefect's page.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "WARNING")

# isort: split
# Python and Prefect put this file's folder on the path. Before Prefect, which reads the settings
# that this makes when it is imported.
from run_study import (
    FlowRunLog,
    ParallelParameter,
    Screen,
    StudyParameter,
    TrialsParameter,
    artifact_key,
    is_cancelled,
    is_suspended,
    leave_if_suspended,
    publish_in_time,
    read_spec,
    run_script,
)

# isort: split
from prefect import Flow, flow, get_run_logger, task
from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Completed, Crashed, Failed
from prefect_outage import ending_in_time, exit_now, wait_for_server
from typed import typed

DEFAULT_SEEDS = 3

_ends: dict[str, queue.SimpleQueue[State[Any]]] = {}
"""The ends that the task runs wait for, by the runs' titles."""


@task(name="run", task_run_name="{title}", cache_policy=NO_CACHE, retries=0)
def contender_task(title: str) -> State[Any]:
    """Last as long as one run of the comparison; the state says what it found."""
    return _ends[title].get()


class ComparisonView:
    """Shows the runs in Prefect as task runs, and each one's trials as log lines."""

    def __init__(self, runs: Sequence[Contender]) -> None:
        self._logger = get_run_logger()
        self._n_runs = len(runs)
        self._ended: dict[str, State[Any]] = {}
        self.n_finished = 0
        """Runs that came to their end: not those that a pause has left in the middle."""

    @contextmanager
    def watch(self, contender: Contender) -> Iterator[Observer]:
        """Show one run while it lasts."""
        title = contender.title
        self._logger.info("run %d of %d: %s", len(self._ended) + 1, self._n_runs, title)
        _ends[title] = queue.SimpleQueue()
        future = contender_task.submit(title)
        lines = PlainView(contender.spec, lambda line: self._logger.info("%s: %s", title, line))
        try:
            with _screen.shown(contender.spec) as screen_view:
                yield Observers(lines, screen_view)
        finally:
            # A task without an end would keep the flow waiting for ever.
            interrupted: State[Any] = Crashed(message="Interrupted; the next flow run goes on.")
            _ends[title].put(self._ended.get(title, interrupted))
            future.wait(timeout=30)
            del _ends[title]

    def ended(self, contender: Contender, result: StudyResult) -> None:
        """Keep how a run ended for its task run."""
        best = result.data.best
        found = result_text(contender.spec, best[0]) if best else result.outcome.reason
        state: State[Any] = Completed(message=found)
        if result.outcome.is_failure:
            state = Failed(message=result.outcome.reason)
        self._ended[contender.title] = state
        self.n_finished += result.outcome.is_finished


def flow_run_name() -> str:
    """Return a name for Prefect's list of runs."""
    from prefect.runtime import flow_run

    try:
        return f"{read_spec(flow_run.get_parameters()['study'])[0].name}: samplers"
    except StudyflowError:
        return "samplers"


def end_trials(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001
    """End what a cancelled run could not end in time: Prefect kills it after 30 seconds."""
    _, folder, runs = _read(**flow_run.parameters)
    cancel_comparison(runs, Settings.resolve(), FlowRunLog(flow_run), folder=folder)


def _read(
    study: str,
    samplers: Sequence[str] = DEFAULT_SAMPLERS,
    seeds: int = DEFAULT_SEEDS,
    n_trials: int | None = None,
    max_parallel_trials: int | None = None,
) -> tuple[StudySpec, Path, tuple[Contender, ...]]:
    """Return the study, its file's folder and the runs; the arguments are the flow's parameters.

    Raises:
        SpecError: The file or one of the parameters is wrong.
    """
    spec, folder = read_spec(study)
    runs = contenders(
        spec, samplers, seeds, n_trials=n_trials, max_parallel_trials=max_parallel_trials
    )
    return spec, folder, runs


SeedsParameter = Annotated[int, Field(ge=1, le=100)]


@flow(
    name="compare-samplers",
    flow_run_name=flow_run_name,
    retries=0,
    on_cancellation=[end_trials],
)
@typed
def compare_samplers(
    study: StudyParameter,
    samplers: list[SamplerName] = list(DEFAULT_SAMPLERS),  # noqa: B006 - Prefect copies it
    seeds: SeedsParameter = DEFAULT_SEEDS,
    n_trials: TrialsParameter | None = None,
    max_parallel_trials: ParallelParameter | None = None,
) -> list[dict[str, str]] | State[Any]:
    """Run a study once with each sampler and seed, and return the table of what they found.

    Args:
        study: Path of a study file, or its YAML text.
        samplers: Names as in `sampler.type` of a study file.
        seeds: Runs of each sampler, each with a seed of its own.
        n_trials: Trials of each run; the file's number by default.
        max_parallel_trials: Trials that run at once; the file's number by default.
    """
    with ending_in_time():
        return _compare_to_end(study, samplers, seeds, n_trials, max_parallel_trials)


def _compare_to_end(
    study: str,
    samplers: list[SamplerName],
    seeds: int,
    n_trials: int | None,
    max_parallel_trials: int | None,
) -> list[dict[str, str]] | State[Any]:
    """Compare, publish what came out, and return the flow's result or its failed state."""
    try:
        comparison, files, url = _compare(
            *_read(study, samplers, seeds, n_trials, max_parallel_trials)
        )
    except StudyflowError as error:
        return _failed(error, str(error))
    except OSError as error:
        if not error.strerror:
            raise
        return _failed(error, describe_os_error(error))
    if _console is not None:
        print_comparison(comparison, files, url, _console)
    if wait_for_server(get_run_logger().warning):
        publish(comparison, files, url)
    return [dict(row) for row in as_rows(comparison)]


def _failed(error: StudyflowError | OSError, message: str) -> State[Any]:
    _screen.error = error
    return Failed(message=message)


def _compare(
    spec: StudySpec, folder: Path, runs: Sequence[Contender]
) -> tuple[Comparison, ComparisonFiles, str | None]:
    """Make the runs and show them on the flow run's page."""
    settings = Settings.resolve()
    view = ComparisonView(runs)
    comparison = run_comparison(
        spec,
        runs,
        settings,
        view.watch,
        RunOptions(
            folder,
            ends_trials=lambda: settings.executor == "local" or is_cancelled(),
            leaves=is_suspended,
        ),
        on_result=view.ended,
    )
    leave_if_suspended(is_finished=view.n_finished == len(runs))
    files = write_comparison(comparison, settings.study_folder(f"{spec.name}-samplers"))
    try:
        url = track_comparison(spec, comparison, files, settings)
    except TrackingError as error:
        get_run_logger().warning("The comparison is not in MLflow: %s", error)
        url = None
    return comparison, files, url


def publish(comparison: Comparison, files: ComparisonFiles, url: str | None) -> None:
    """Leave picture, table and summary on the run's page."""
    publish_in_time(lambda: _make_artifacts(comparison, files, url))


def _make_artifacts(comparison: Comparison, files: ComparisonFiles, url: str | None) -> None:
    key = f"{comparison.name}-samplers"
    picture = base64.b64encode(files.picture.read_bytes()).decode()
    create_image_artifact(
        image_url=f"data:image/png;base64,{picture}",
        key=artifact_key(key, "picture"),
        description=comparison.headline,
    )
    create_table_artifact(
        table=[dict(row) for row in as_rows(comparison)],
        key=artifact_key(key, "table"),
        description=f"Samplers on {comparison.name}",
    )
    create_markdown_artifact(
        markdown=comparison_markdown(comparison), key=artifact_key(key, "summary")
    )
    if url is not None:
        create_link_artifact(link=url, link_text="MLflow", key=artifact_key(key, "mlflow"))


_screen = Screen()
_console: Console | None = None
"""Both set by `main`: a flow's parameters are shown in the UI and cannot carry a terminal."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the flow from the command line; return the exit code."""
    global _console, _screen
    parser = argparse.ArgumentParser(description="Compare samplers on a study.")
    parser.add_argument("study", help="path of the study file")
    parser.add_argument("--samplers", nargs="+", default=list(DEFAULT_SAMPLERS), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=DEFAULT_SEEDS, help="runs of each sampler")
    parser.add_argument("--n-trials", type=int, help="trials of each run")
    parser.add_argument("--max-parallel-trials", type=int, help="trials that run at once")
    given = parser.parse_args(arguments)
    _console, _screen = Console(), Screen(sys.stderr)
    return run_script(
        lambda: _read(**vars(given)),
        lambda: compare_samplers(**vars(given), return_state=True),
        _screen,
    )


if __name__ == "__main__":
    exit_now(main())

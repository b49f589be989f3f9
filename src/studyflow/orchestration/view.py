"""A study on its flow run's page: trial tasks, log lines, progress and links."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path
from typing import Final

from prefect import get_run_logger
from prefect.artifacts import create_link_artifact

from studyflow import runner
from studyflow.cli.views import PlainView
from studyflow.context import StudyContext
from studyflow.executors import AttemptId, AttemptLogs
from studyflow.interrupt import Terminated
from studyflow.observers.observer import Observer, Observers, Progress
from studyflow.orchestration.artifacts import artifact_key
from studyflow.orchestration.live_runs import LIVE_RUNS
from studyflow.orchestration.outages import tolerated
from studyflow.orchestration.progress import ProgressArtifact
from studyflow.orchestration.run_states import flow_options
from studyflow.orchestration.screen import current_screen
from studyflow.orchestration.trial_tasks import ShownTrials, shown_trials
from studyflow.runner import RunOptions
from studyflow.trial.record import TrialRecord

LOG_TAIL_BYTES: Final = 16_384
"""How much of a trial's log goes into Prefect's; MLflow has all of it."""

CLOSE_SECONDS: Final = 20.0
"""How long a study that ended waits for all its trial tasks and the last progress together."""

QUIET_SECONDS: Final = 2.0
"""How long that may take before anybody is told."""


@contextmanager
def shown_on_page(
    context: StudyContext, folder: Path, fork_from: str | None = None
) -> Iterator[tuple[Observer, RunOptions]]:
    """Give a runner its observer and its options, and show its study on the flow run's page.

    Args:
        context: The study, and where it is.
        folder: Folder that relative paths in `trial.command` start from.
        fork_from: Study whose trials a new one takes over; `None` for none.
    """
    logger = get_run_logger()
    spec = context.spec
    lines = PlainView(spec, lambda line: logger.info("%s", line))
    view = PrefectView(context)
    with view.closing(), current_screen().shown(spec) as screen_view:
        options = flow_options(context.settings, folder, fork_from, view.take_over)
        yield Observers(view, lines, screen_view), options


class PrefectView(Observer):
    """Shows a study on its flow run's page; nothing of the study depends on it.

    Args:
        context: The study, and where it is.
        trials: What shows its trials; as its study file says by default.
    """

    def __init__(self, context: StudyContext, trials: ShownTrials | None = None) -> None:
        self._spec = spec = context.spec
        self._redact = context.redactor
        self._logger = get_run_logger()
        self._trials = trials or shown_trials(spec, self._logger)
        self._logs: AttemptLogs | None = None
        self._progress = ProgressArtifact(spec.name, self._logger)
        self._threads: list[threading.Thread] = []
        LIVE_RUNS.mark()  # before this run stands by, if it has to
        self._in_background("progress", self._progress.keep_up)

    def take_over(self, logs: AttemptLogs) -> None:
        """Take the logs that are shown; this run now drives its study."""
        self._logs = logs
        with tolerated(self._logger, "Could not close the pages of runs that were killed"):
            LIVE_RUNS.close_dead(self._spec.name)

    def tracked(self, url: str) -> None:
        """Link the study in MLflow."""
        self._logger.info("the study in MLflow: %s", url)  # the page makes it a link
        self._in_background("link", lambda: self._show_link(url))

    def launched(self, record: TrialRecord) -> None:
        """Show a trial that was launched."""
        self._trials.start(record)

    def paused(self, record: TrialRecord) -> None:
        """Show that a trial was paused."""
        self._trials.pause(record)

    def recorded(self, record: TrialRecord) -> None:
        """Show how a trial ended."""
        self._trials.end(record, self._log_tail)

    def progressed(self, progress: Progress) -> None:
        """Show the progress soon."""
        self._progress.take(progress)

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
            self._close(seconds)

    def _close(self, seconds: float) -> None:
        """End all trial tasks, and wait a while until they and the last progress reached Prefect.

        What takes longer is left to Prefect's own threads.
        """
        deadline = time.monotonic() + seconds
        self._progress.close()
        self._trials.leave()
        self._join(time.monotonic() + QUIET_SECONDS)
        if any(thread.is_alive() for thread in self._threads):
            self._logger.warning(
                "Waiting up to %.0f s for Prefect's server to take the last progress.", seconds
            )
        self._join(deadline)
        self._trials.wait(deadline)

    def _join(self, deadline: float) -> None:
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0.0))

    def _in_background(self, name: str, call: Callable[[], object]) -> None:
        """Make a call that may wait for Prefect's server: a slow one delays no trial."""
        context = copy_context()
        thread = threading.Thread(
            target=lambda: context.run(call), name=f"prefect-{name}", daemon=True
        )
        self._threads.append(thread)
        thread.start()

    def _show_link(self, url: str) -> None:
        with tolerated(self._logger, "Could not publish the link to MLflow"):  # the log has it
            create_link_artifact(
                link=url,
                link_text=f"{self._spec.name} in MLflow",
                key=artifact_key(self._spec.name, "mlflow"),
                description="Parent run of the study: its trials are nested below it.",
            )

    def _log_tail(self, record: TrialRecord) -> str:
        if self._logs is None:
            return ""
        log = self._logs.files(AttemptId(record.number, record.attempt)).log
        if log is None or not log.exists():
            return ""
        with log.open("rb") as file:
            tail = b"".join(self._redact.tail(file, LOG_TAIL_BYTES))
            return tail.decode(errors="replace").strip()

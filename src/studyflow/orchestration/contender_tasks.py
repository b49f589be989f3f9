"""The runs of a comparison as Prefect's task runs."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from prefect import Task, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Crashed, Failed

from studyflow.cli.texts import result_text
from studyflow.cli.views import PlainView
from studyflow.comparison import Contender
from studyflow.observers.observer import Observer, Observers
from studyflow.orchestration.screen import current_screen
from studyflow.runner import StudyResult

END_SECONDS: Final = 30.0
"""How long a run that ended waits for its task run to end."""


def make_contender_task(end: queue.SimpleQueue[State[Any]]) -> Task[[str], State[Any]]:
    """Return the task that stands for one run of a comparison, and ends in the state it is told."""

    @task(name="run", task_run_name="{title}", cache_policy=NO_CACHE, retries=0)
    def contender_task(title: str) -> State[Any]:  # noqa: ARG001 - shown on the page
        """Last as long as one run of the comparison; the state says what it found."""
        return end.get()

    return contender_task


class ComparisonView:
    """Shows the runs of a comparison in Prefect as task runs, and their trials as log lines."""

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
        end: queue.SimpleQueue[State[Any]] = queue.SimpleQueue()
        future = make_contender_task(end).submit(title)
        lines = PlainView(contender.spec, lambda line: self._logger.info("%s: %s", title, line))
        try:
            with current_screen().shown(contender.spec) as screen_view:
                yield Observers(lines, screen_view)
        finally:
            # A task without an end would keep the flow waiting for ever.
            interrupted: State[Any] = Crashed(message="Interrupted; the next flow run goes on.")
            end.put(self._ended.get(title, interrupted))
            future.wait(timeout=END_SECONDS)

    def ended(self, contender: Contender, result: StudyResult) -> None:
        """Keep how a run ended for its task run."""
        best = result.data.best
        found = result_text(contender.spec, best[0]) if best else str(result.outcome.reason)
        state: State[Any] = Completed(message=found)
        if result.outcome.is_failure:
            state = Failed(message=str(result.outcome.reason))
        self._ended[contender.title] = state
        self.n_finished += result.outcome.is_finished

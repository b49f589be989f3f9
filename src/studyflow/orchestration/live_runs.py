"""Which flow runs have a process that lives, and the pages of those whose process was killed."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO, Any, Final
from uuid import UUID

from prefect import get_run_logger
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import Crashed

from studyflow.orchestration.environment import is_embedded
from studyflow.orchestration.flow_runs import current_run
from studyflow.settings import Settings
from studyflow.storage import is_on_network
from studyflow.trial.private_files import make_private_folder, private_opener

MAX_MARKS: Final = 200
"""Most flow runs that are asked about at once: Prefect answers with no more."""


class FlowRunMarks:
    """Which flow runs have a process that lives: each of them holds a file of its own locked.

    The kernel frees a lock when its process ends, however it ends, and no other process can be
    taken for it: neither one of the same number, nor one that stands by.

    Args:
        settings: Where the home folder is.
    """

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.home / "prefect" / "runs"

    def hold(self, run: str) -> IO[Any]:
        """Return a file that marks a flow run as alive until it is closed, or this process ends.

        Args:
            run: Id of the run, which is `RUNNING` by now.
        """
        make_private_folder(self._folder)
        file = open(self._path(run), "a", opener=private_opener)  # noqa: SIM115 - its holder closes it
        fcntl.flock(file, fcntl.LOCK_SH)  # shared: a process may replace one that is just ending
        self.renew(run)
        return file

    def renew(self, run: str) -> None:
        """Note that a flow run is alive in the state that it is in now."""
        os.utime(self._path(run))

    def ended(self) -> dict[str, float]:
        """Return the marked runs whose process has ended, and when each was last known to live.

        A process that replaces it may be about to mark the run anew: only a state that is older
        than that moment is the ended process's. On a network share no lock proves anything, so
        there are none. Runs that an earlier studyflow did not mark are never among them.
        """
        if not self._folder.is_dir() or is_on_network(self._folder):
            return {}
        found = {}
        for path in self._folder.glob("*.lock"):
            try:
                with path.open() as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    found[path.stem] = os.fstat(file.fileno()).st_mtime
            except OSError:  # it lives, or cannot be told
                continue
        return found

    def forget(self, run: str) -> None:
        """Remove the mark of a run that has come to its end."""
        self._path(run).unlink(missing_ok=True)

    def _path(self, run: str) -> Path:
        return self._folder / f"{run}.lock"


class LiveRuns:
    """The flow runs of this process, each marked as alive until the process ends.

    Does nothing where a Prefect server is configured: its own services close dead runs.
    """

    def __init__(self) -> None:
        self._held: dict[UUID, IO[Any]] = {}
        # Never closed: a run goes on, with its page, when its study has ended.

    def mark(self) -> None:
        """Show the runs that follow that the process of the current run lives."""
        settings, run = Settings.resolve(), current_run()
        if run is None or run.id in self._held or not is_embedded(settings):
            return
        try:
            self._held[run.id] = FlowRunMarks(settings).hold(str(run.id))
        except OSError as error:
            get_run_logger().warning(
                "This run cannot be marked as alive; if it is killed, its page goes on to say "
                "Running: %s",
                error,
            )

    def renew(self, run: UUID) -> None:
        """Note that a run of this process is alive in the state that it is in now."""
        if run in self._held:
            FlowRunMarks(Settings.resolve()).renew(str(run))

    def close_dead(self, name: str) -> None:
        """Mark earlier flow runs of a name as crashed if their page still says "Running".

        Only those whose process is known to have ended: another may stand by to take over, or be
        about to publish what it found.
        """
        settings = Settings.resolve()
        if not is_embedded(settings):
            return
        marks = FlowRunMarks(settings)
        ended = marks.ended()
        if not ended:
            return
        newest = sorted(ended, key=lambda run: -ended[run])[:MAX_MARKS]
        ids = FlowRunFilterId(any_=[UUID(run) for run in newest])
        with get_client(sync_client=True) as client:
            for run in client.read_flow_runs(flow_run_filter=FlowRunFilter(id=ids)):
                if run.id not in self._held and _close(client, run, name, ended[str(run.id)]):
                    marks.forget(str(run.id))


def _close(client: SyncPrefectClient, run: FlowRun, name: str, ended_at: float) -> bool:
    """Mark a dead run as crashed, if it is of this name; return whether it has come to its end."""
    state = run.state
    if state is None:
        return False
    is_its_own = state.timestamp.timestamp() <= ended_at
    if run.name == name and state.type is StateType.RUNNING and is_its_own:
        message = "Its process was killed; a later run took over the study."
        crashed: State[Any] = Crashed(message=message)
        client.set_flow_run_state(run.id, crashed, force=True)
        return True
    return state.is_final()


LIVE_RUNS: Final = LiveRuns()
"""Those of this process: a kernel's lock is held by a process."""

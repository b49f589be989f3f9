"""What every executor guarantees. `studyflow.testing.executor_contract` tests it.

An executor belongs to one study and runs attempts of its trials. It holds no state that cannot be
found again: a new executor for the same study, in another process, sees every attempt that was
submitted and not forgotten.

- Submitting is idempotent: the name of an attempt is a function of study, trial number and attempt
  number, and what exists already is adopted, never doubled.
- An attempt ends exactly once, with an `Outcome` whose cause comes from `studyflow.trial.Cause`; a
  script that wrote none gets one from its exit code, signals and last lines.
- Stopping and forgetting are idempotent, and silent about attempts that do not exist.
- No method waits for a training to end. `poll` observes all attempts at once.
- Whoever stops an attempt gets its whole process tree (or pod) stopped.

An executor is used from one thread at a time, except for `files`, and for `submit`, `stop` and
`forget` as far as `ExecutorTraits.calls_at_once` allows.

`Executor` runs attempts; `AttemptLogs` reads what they leave. The executors of this package are
both (`ExecutorWithLogs`), and whoever takes one asks for no more than it uses.
"""

from __future__ import annotations

import enum
import warnings
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from studyflow.reasons import Code, Reason
from studyflow.trial import Cause, MetricPoint, Outcome, Trial
from studyflow.trial.attempt_files import AttemptFiles
from studyflow.trial.cost import Allocation


@dataclass(frozen=True, slots=True, order=True)
class AttemptId:
    """Names one attempt within a study."""

    number: int
    """Number of the trial, from 0."""
    attempt: int
    """Number of the attempt, from 1."""

    def __str__(self) -> str:
        return f"{self.number}-{self.attempt}"


class AttemptState(enum.StrEnum):
    """Where an attempt stands."""

    PENDING = "pending"
    """Accepted, the script has not begun; `AttemptStatus.reason` may say why."""
    RUNNING = "running"
    ENDED = "ended"
    """Nothing of it runs any more, and `AttemptStatus.outcome` is there."""


@dataclass(frozen=True, slots=True)
class AttemptStatus:
    """One attempt as one `poll` found it."""

    state: AttemptState
    outcome: Outcome | None = None
    """How it ended; set exactly when the state is `ENDED`."""
    exit_code: int | None = None
    """Exit code of the script, negative for a signal; `None` while unknown."""
    points: tuple[MetricPoint, ...] = ()
    """Metrics reported since the previous `poll` of this executor object, oldest first. An executor
    whose trials report straight to MLflow leaves this empty."""
    reason: Reason | None = None
    """Why it is still pending; `None` when nothing is out of the ordinary, or known."""
    started_at: float | None = None
    """When the script began, seconds since the epoch, by the clock of its machine. Also its points
    are of that clock."""
    ended_at: float | None = None
    """When the script ended, seconds since the epoch, by the same clock."""
    waits_for_room: bool = False
    """Whether it is pending because there is no room: further trials would only wait beside it."""
    node: str | None = None
    """Node that runs it, ran it or was to; `None` before one is known, and where all attempts run
    on one machine."""
    missed_nodes: tuple[str, ...] = ()
    """Nodes without which it found no room: those that it was submitted to avoid. Set at the end
    of an attempt that never began for that reason."""
    blocks_study: bool = False
    """Whether it ended because no attempt of the study can start, whatever its parameters, such as
    when a Secret that the study names does not exist. The outcome's message says why."""
    allocation: Allocation | None = None
    """What it holds, or held; `None` while that is not known."""
    running_seconds: float | None = None
    """For how long it had run when this was found out, by one clock; `None` while not known."""

    def __post_init__(self) -> None:
        """Make a reason of a text: that is what it was before, and for one version it may be."""
        text: object = self.reason
        if isinstance(text, str):
            message = "AttemptStatus(reason=...) is now a `Reason`, no text."
            warnings.warn(message, DeprecationWarning, stacklevel=3)
            reason = Reason(Code.UNSPECIFIED, text) if text else None
            object.__setattr__(self, "reason", reason)


@dataclass(frozen=True, slots=True)
class ExecutorTraits:
    """What a runner has to know of an executor to make good use of it."""

    slots: int | None = None
    """How many attempts can run at once here; `None` for no limit of its own."""
    canary_seconds: float = 0.0
    """How long the first attempt of a study runs here before others may begin beside it; 0 where an
    attempt that cannot start costs next to nothing."""
    calls_at_once: int = 1
    """How many calls of `submit`, and how many of `stop` and `forget`, it takes side by side, each
    about another attempt, while `poll` and `wait` go on; 1 for one thread at a time."""
    brings_points: bool = True
    """Whether `poll` brings what trials report; else they report straight to MLflow."""


class Executor(Protocol):
    """Runs attempts somewhere. See the module's text for what all executors guarantee."""

    @property
    def traits(self) -> ExecutorTraits:
        """What a runner has to know of it. Always the same for one executor."""

    @property
    def site(self) -> str:
        """Names where the attempts are.

        Executors of one site see the same attempts, in whatever process they are.

        Raises:
            ExecutorUnavailable: The site does not answer.
        """

    def submit(self, trial: Trial, *, avoid: Collection[str] = ()) -> AttemptId:
        """Start an attempt, or adopt the one that exists already.

        Args:
            trial: The attempt. The executor fills in the paths, as the script will see them.
            avoid: Nodes where it must not run, by the names of `AttemptStatus.node`.

        Raises:
            ExecutorUnavailable: The site does not answer; the same call may succeed later.
            ExecutorBlocked: No attempt of the study can start here.
            ExecutorError: This attempt can never start, such as a program that does not exist.
        """

    def poll(self) -> Mapping[AttemptId, AttemptStatus]:
        """Return every attempt of the study that was submitted and not forgotten, by whomever.

        An attempt that has not changed since the poll before is best shown by the same status
        object: the runner does not look at it again then.

        Raises:
            ExecutorUnavailable: The site does not answer.
        """

    def wait(self, timeout_seconds: float) -> None:
        """Return when an attempt may have changed, at the latest after `timeout_seconds`."""

    def stop(self, attempt: AttemptId, cause: Cause, reason: str) -> None:
        """Ask an attempt to end; it ends with this cause, whatever the script makes of it.

        Returns at once; a later `poll` shows the end. A script that has finished before the stop
        reached it keeps its own outcome.

        Raises:
            ExecutorUnavailable: The site does not answer.
            ExecutorBlocked: The right to stop attempts is missing.
        """

    def forget(self, attempt: AttemptId) -> None:
        """Let go of an ended attempt whose outcome is recorded, and free what it held.

        Its files stay where `AttemptLogs.files` finds them if the executor can keep them.

        Raises:
            ExecutorUnavailable: The site does not answer.
            ExecutorError: The attempt has not ended.
        """

    def close(self) -> None:
        """Release the executor's own resources. Attempts go on."""


class AttemptLogs(Protocol):
    """Reads what attempts leave behind, while they run and afterwards."""

    def files(self, attempt: AttemptId) -> AttemptFiles:
        """Return what the attempt left behind; works after `forget` too where files are kept.

        Only reads files, so the mirror's thread may call it while another thread uses the
        executor.
        """

    def read_log(self, attempt: AttemptId, *, offset: int = 0, limit_bytes: int = 65536) -> bytes:
        """Return up to `limit_bytes` of the attempt's log from a byte offset; empty at the end.

        Raises:
            ExecutorUnavailable: The site does not answer.
        """

    def follow_log(self, attempt: AttemptId) -> Iterator[bytes]:
        """Yield the attempt's log from its beginning and as it grows, until the attempt ends.

        Waits for the next piece, so it is for a person who watches and not for a runner's loop.

        Raises:
            ExecutorUnavailable: The site does not answer.
        """


class ExecutorWithLogs(Executor, AttemptLogs, Protocol):
    """An executor that reads what its attempts leave."""

"""Runs attempts as processes of this machine.

One folder below the study's root holds all there is to know about an attempt, so that any runner on
this machine can go on where a killed one stopped:

    root/place                               what tells this folder from those of other machines
    root/open/<number>-<attempt>             one empty file for each attempt that is not forgotten
    root/trials/<number>/checkpoints/        shared by all attempts of the trial
    root/trials/<number>/attempt-<attempt>/
        trial.json     the `Trial` as the script gets it
        launch.json    what runs, on which cards, how long
        lock  pid.json  exit.json  stop.json     see `supervisor.py`
        log.txt        standard output and standard error, as they came
        metrics.jsonl  outcome.json  artifacts/  what the script reports, by `studyflow.sdk`
        work/          the script's working folder

The attempt's folder is made complete under another name and then renamed: that rename is the one
moment when the attempt begins to exist. A small supervisor process runs the script, and the
kernel's lock on `lock` tells whether it lives; see there for how the process tree is kept together.

What a runner killed at any moment leaves, and who mends it:

- before the rename: nothing but a hidden folder; the attempt does not exist;
- before the supervisor started the script: the attempt is pending, and the next `submit` or `poll`
  starts it; should two do so, the lock lets one script run;
- later: nothing is missing. A supervisor killed by force is found by its free lock; what is left of
  its process tree is killed, then the attempt ends as `lost`.

**The process tree** is what runs in the attempt's control group, where this runner may make one
(`cgroups.py`). Without one it is what has the attempt in its environment, and what was in the
script's session or process group while a runner saw its supervisor alive: a daemon that left all
three outlives a supervisor killed by force, and only that.

**What a script does to these files.** It runs as the same user and can put anything in place of any
of them, or remove them. None is opened before it is known to be a regular file, and an attempt has
ended only when nobody holds its lock. A supervisor that was stopped is made to go on. An attempt
whose folder or lock is gone cannot be followed any more: what runs of it is killed, and it ends as
`lost`. When the study's whole folder is removed it is made anew, and that happens to each attempt
in it.

**The command.** It runs in a working folder of its own, with the environment of the runner and the
study file's folder first on PYTHONPATH. What a launcher such as torchrun told the runner about its
own place (`RANK`, `WORLD_SIZE`, ...) is left out; the study file may set it. A first word `python`
or `python3` means the runner's own interpreter. A word (or what follows `=` in an option) that
names a file below the study file's folder becomes that file's full path, one with a slash may name
a folder too: `python train.py --data=../data/` works as it would beside the study file. No shell is
involved.

**The log** is not limited: the script writes to the file itself, so that no runner and no pipe can
slow it down or lose its last words. Readers take it in pieces of bounded size.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import fcntl
import functools
import io
import json
import logging
import math
import os
import select
import shutil
import signal
import socket
import stat
import sys
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Final

from studyflow.errors import DocumentError, ExecutorError, ExecutorUnavailable
from studyflow.executors import cgroups, processes, supervisor
from studyflow.executors.diagnosis import Ending, How, NoDocument, diagnose, readable
from studyflow.executors.gpus import ORDER, VISIBLE, choose_gpus, count_slots, detect_gpus
from studyflow.executors.launchers import is_set_by_launcher
from studyflow.executors.plain_mlflow import mlflow_variables
from studyflow.executors.protocol import AttemptFiles, AttemptId, AttemptState, AttemptStatus
from studyflow.redaction import Redactor
from studyflow.trial import (
    BEGINNING_BYTES,
    OUTCOME_LIMIT_BYTES,
    TRIAL_VARIABLE,
    UNWRITTEN,
    Cause,
    MetricPoint,
    Trial,
)
from studyflow.trial.user_files import (
    METRICS_LIMIT_BYTES,
    Kind,
    NotAFileError,
    kind_of,
    open_file,
    read_piece,
)

logger = logging.getLogger(__name__)

METRICS_BYTES_PER_POLL: Final = 1 << 20
"""Most bytes of one attempt's metrics that one `poll` reads, some 20,000 points: a script that
reports in a tight loop must not hold up the others."""

METRICS_BYTES_PER_ATTEMPT: Final = METRICS_LIMIT_BYTES
"""Metrics beyond this stay in the file and are not shown to the study."""

LOG_TAIL_BYTES: Final = 64 << 10
"""How much of a log is searched for the reason of a failure."""

LOOK_SECONDS: Final = 0.1
"""Seconds between looks for new metrics while `wait` waits; an end is noticed at once."""

LOOK_SECONDS_WITHOUT_PIDFD: Final = 0.02
"""The same where the end of a process can only be found by looking."""

KILL_SECONDS: Final = 0.005
"""First pause between killing processes and looking whether they are dead; it doubles up to
`LOOK_SECONDS`: one that waits for a device dies when that answers."""

TERMINATION_SECONDS: Final = 5.0
"""How long a supervisor may take, beyond the script's grace, to end an attempt that cannot be
followed any more, before its processes are killed one by one."""

SITE_BYTES: Final = 100
"""More than the number of a folder has."""

DOCUMENT_LIMIT_BYTES: Final = 16 << 20
"""Longest document of an attempt that is read: no variable of a process can be as long."""

START_PATIENCE_SECONDS: Final = 2.0
"""How long another runner may take between making an attempt's folder and starting its script."""

MAX_STARTS: Final = 3
"""How often one executor starts a supervisor that dies before it could start the script."""

_TRIAL: Final = "trial.json"
_LAUNCH: Final = "launch.json"
_METRICS: Final = "metrics.jsonl"
_ARTIFACTS: Final = "artifacts"
_CHECKPOINTS: Final = "checkpoints"
_SITE: Final = "place"

_DAMAGED: Final = (
    *(NotAFileError, ValueError, KeyError, TypeError, OverflowError, RecursionError),
    DocumentError,
)
"""What is raised by documents that are not as a runner wrote them."""

_FOREIGN_VARIABLES: Final = (TRIAL_VARIABLE, "STUDYFLOW_PARAMS", "MLFLOW_RUN_ID")
"""Variables of the runner that would make the script take itself for something else."""

_IS_NO_DOCUMENT: Final = {
    errno.ELOOP: "a link",
    errno.ENXIO: "a socket",
    errno.EACCES: "an unreadable file",
    errno.EPERM: "an unreadable file",
}
"""Refusals to open a file that say something about the file, not about the disk."""

_KINDS_OF_FILES: Final = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe"}

_COMPARED_BYTES: Final = 256
"""How much of what was read of a file is compared before it is read on."""

_REFUSED_BYTES: Final = 4096
"""How much of a line that is no report is kept for a message."""

_children: set[int] = set()
"""Supervisors started by this process and not yet collected, whichever executor started them."""


@dataclass(frozen=True, slots=True)
class _Launch:
    """What the runner that made an attempt decided about it."""

    command: tuple[str, ...]
    gpus: tuple[str, ...]
    timeout_seconds: float | None
    stop_grace_seconds: float

    def to_json(self) -> str:
        return json.dumps(
            {
                "command": list(self.command),
                "gpus": list(self.gpus),
                "timeout_seconds": self.timeout_seconds,
                "stop_grace_seconds": self.stop_grace_seconds,
            }
        )

    @classmethod
    def read(cls, folder: Path) -> _Launch:
        document = json.loads(_read_document(folder / _LAUNCH))
        timeout = document["timeout_seconds"]
        return cls(
            command=tuple(map(str, document["command"])),
            gpus=tuple(map(str, document["gpus"])),
            timeout_seconds=None if timeout is None else float(timeout),
            stop_grace_seconds=float(document["stop_grace_seconds"]),
        )


class _Lock(enum.Enum):
    """What the lock of an attempt says of its supervisor."""

    HELD = "held"
    FREE = "free"
    MISSING = "missing"
    """The attempt's folder, or the lock in it, is not there or is something else."""


@dataclass(frozen=True, slots=True)
class _Sight:
    """What `wait` sees of an attempt: when it changes, `poll` has something to do."""

    exit: Kind
    pid: tuple[int, int] | None
    """Which file `pid.json` is; `None` where that does not matter any more."""
    metrics: tuple[int, int, int] | None
    is_supervisor_dead: bool


class _Attempt:
    """One attempt as this executor object follows it.

    Raises:
        FileNotFoundError: There is no such attempt.
        NotAFileError, ValueError, KeyError, TypeError, OverflowError, RecursionError,
        DocumentError: Its documents are damaged.
    """

    def __init__(self, attempt: AttemptId, folder: Path) -> None:
        self.id = attempt
        self.folder = folder
        self.trial = Trial.from_json(_read_document(folder / _TRIAL).decode())
        self.launch = _Launch.read(folder)
        self.metrics = _MetricsReader(folder / _METRICS)
        self.status = AttemptStatus(AttemptState.PENDING)
        self.seen_at = time.monotonic()
        self.child: int | None = None
        """The supervisor, if this object started it."""
        self.starts = 0
        self.pidfd: int | None = None
        """Becomes readable when the supervisor ends."""
        self.watched_pid: int | None = None
        """Whom that is about."""
        self.alive_at: int | None = None
        """Clock tick at which the supervisor was last seen alive."""
        self.look_at = self.seen_at + START_PATIENCE_SECONDS
        """When to look again though nothing changed."""
        self.kill_pause = KILL_SECONDS
        self.ends_by: float | None = None
        """Until when the supervisor may end the attempt by itself, once it cannot be followed."""
        self.is_dubious = False
        """Whether the lock was free at the last look while the supervisor lived."""
        self._told: set[str] = set()
        self.sight = self.see()
        """What the last look began with."""

    @property
    def is_ended(self) -> bool:
        return self.status.state is AttemptState.ENDED

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Return a document that a supervisor or runner wrote; `None` when it is not there."""
        try:
            document = json.loads(_read_document(self.folder / name))
        except FileNotFoundError:
            return None
        except (NotAFileError, ValueError, RecursionError):
            # The script's doing, or a full disk under a file system that does not keep the order.
            if name not in self._told:
                self._told.add(name)
                logger.warning("trial %s: %s is unreadable", self.id, self.folder / name)
            return {}
        return document if isinstance(document, dict) else {}

    def look_again(self, seconds: float) -> None:
        """Let `wait` return after this time at the latest."""
        self.look_at = min(self.look_at, time.monotonic() + seconds)

    def see(self) -> _Sight:
        """Return what can be seen of the attempt without opening a file."""
        is_pending = self.status.state is AttemptState.PENDING
        return _Sight(
            exit=kind_of(self.folder / supervisor.EXIT),
            pid=_version(self.folder / supervisor.PID) if is_pending else None,
            metrics=self.metrics.version(),
            is_supervisor_dead=self.is_supervisor_dead(),
        )

    def is_supervisor_dead(self) -> bool:
        """Return whether the supervisor that is watched has ended; False while nobody knows."""
        if self.pidfd is not None:
            return _is_readable(self.pidfd)
        return self.child is not None and self.child not in _children

    def watch(self, supervisor_pid: int) -> None:
        if self.pidfd is None and sys.platform == "linux":
            with contextlib.suppress(OSError):  # gone already, or a kernel before 5.3
                self.pidfd = os.pidfd_open(supervisor_pid)
                self.watched_pid = supervisor_pid

    def unwatch(self) -> None:
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None

    def send(self, number: signal.Signals) -> None:
        """Send the supervisor a signal, if it is known to be ours and still there."""
        if self.child in _children:
            with contextlib.suppress(OSError):
                os.kill(self.child, number)
        elif self.pidfd is not None and sys.platform == "linux":
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self.pidfd, number)


class _MetricsReader:
    """Reads a file that a script appends to: each line once, torn and foreign lines never.

    A file that was replaced or cut off is read from its beginning: what stands last in it counts.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._version: tuple[int, int, int] | None = None
        """Of the file at the last look."""
        self._offset = 0
        self._read_last = b""
        """What stands before the offset: where it does not any more, the file is another one."""
        self._seen = 0
        """Size of the file at the last look; more than `_offset` when its last line is torn."""
        self._in_long_line = False
        self._refused = b""
        """The last line, if it is no report; empty if it is one."""
        self._is_damaged = False
        self._has_warned = False
        self.is_exhausted = False
        """Whether the last `read` took everything there was."""

    def version(self) -> tuple[int, int, int] | None:
        """Return what changes whenever there is something to read; `None` without a file."""
        try:
            status = os.lstat(self._path)
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def has_more(self) -> bool:
        """Whether the file has changed since it was looked at, or was not read to its end."""
        version = self.version()
        if version is None or self._offset >= METRICS_BYTES_PER_ATTEMPT:
            return False
        return version != self._version or version[-1] > self._seen

    def read(self) -> tuple[MetricPoint, ...]:
        """Return the points of complete lines that were not returned before, a bounded number."""
        self.is_exhausted = True
        if not self.has_more():
            return ()
        try:
            with open_file(self._path) as file:
                status = os.fstat(file.fileno())
                if not self._is_continued(file, status):
                    self._offset, self._in_long_line = 0, False
                file.seek(self._offset)
                chunk = file.read(METRICS_BYTES_PER_POLL)
        except FileNotFoundError:
            return ()
        except NotAFileError:
            if not self._has_warned:
                logger.warning("%s is no file that metrics can be read from", self._path)
            self._is_damaged = self._has_warned = True
            return ()
        self._is_damaged = False
        self._version = status.st_ino, status.st_mtime_ns, status.st_size
        self._seen = self._offset + len(chunk)
        self.is_exhausted = len(chunk) < METRICS_BYTES_PER_POLL
        complete, newline, _ = chunk.rpartition(b"\n")
        if not newline:
            if len(chunk) == METRICS_BYTES_PER_POLL:  # not a line of ours: skip to its end
                self._offset = self._seen
                self._read_last = chunk[-_COMPARED_BYTES:]
                self._refused = self._refused if self._in_long_line else chunk[:_REFUSED_BYTES]
                self._in_long_line = True
            return ()
        self._offset += len(complete) + 1
        self._read_last = chunk[: len(complete) + 1][-_COMPARED_BYTES:]
        lines = complete.split(b"\n")
        if self._in_long_line:
            del lines[0]
            self._in_long_line = False
        if self._offset >= METRICS_BYTES_PER_ATTEMPT:
            logger.warning("%s: metrics beyond %d bytes are not read", self._path, self._offset)
            self.is_exhausted = True
        return tuple(self._parse(lines))

    def why_incomplete(self, redact: Callable[[str], str]) -> str:
        """Return why the last report may not be among those that were read; empty when it is.

        Args:
            redact: Takes secrets out of what is shown of a line.
        """
        version = self.version()
        if self._is_damaged:
            return "something else stands where the reports belong"
        if version is None:
            return "" if self._version is None else "the reports were removed"
        if self._offset >= METRICS_BYTES_PER_ATTEMPT and version[-1] > self._offset:
            return f"the reports are longer than {METRICS_BYTES_PER_ATTEMPT} bytes"
        if self._seen > self._offset:
            return "the last line of the reports is cut off"
        if self._refused:
            shown = readable(redact(self._refused.decode(errors="replace")), BEGINNING_BYTES)
            return f"the last line of the reports begins {shown!r}"
        return ""

    def _is_continued(self, file: BinaryIO, status: os.stat_result) -> bool:
        """Return whether what was read before still stands where it stood."""
        if self._version is not None and status.st_ino != self._version[0]:
            return False
        file.seek(self._offset - len(self._read_last))
        return file.read(len(self._read_last)) == self._read_last

    def _parse(self, lines: Sequence[bytes]) -> Iterator[MetricPoint]:
        for line in lines:
            point = _parse_point(line)
            if point is not None:
                self._refused = b""
                yield point
            elif line.strip():
                self._refused = line[:_REFUSED_BYTES]


def _parse_point(line: bytes) -> MetricPoint | None:
    try:
        return MetricPoint.from_json(line.decode())
    except (DocumentError, UnicodeDecodeError):
        return None


def site_of(root: Path) -> str | None:
    """Return `LocalExecutor.site` of a study's folder on this machine; `None` before its first.

    Args:
        root: The study's folder; nothing is changed in it.
    """
    try:
        found = read_piece(root / _SITE, SITE_BYTES)
    except OSError:
        return None
    return None if found is None else _site(found.decode(errors="replace"))


def _site(folder_id: str) -> str:
    return f"{socket.gethostname()}/{folder_id}"


class LocalExecutor:
    """Runs the attempts of one study as local processes. See the module's text for the rules.

    POSIX only; the whole process tree is kept together on Linux only.

    Args:
        study: Name of the study.
        command: Program and arguments; see "The command" above.
        root: Folder of this study on a local disk; made if missing. Two studies must not share one.
        cwd: Folder of the study file.
        env: Variables for the script besides the runner's own, of which those are left out that a
            launcher such as torchrun gave the runner.
        withheld_env: Variables of the runner that the script does not get, such as secrets.
        timeout_seconds: Longest time for one attempt, without the grace; `None` for no limit.
        gpus_per_trial: Cards for one attempt, handed over in CUDA_VISIBLE_DEVICES; with 0 that
            variable stays as it is. A machine without any card runs the study on its processor.
        gpu_ids: The cards to hand out, as CUDA_VISIBLE_DEVICES names them; `None` for those the
            machine has.
        stop_grace_seconds: Time between SIGTERM and SIGKILL for a script that is stopped.
        redact: Takes secrets out of what scripts say about their end.
        keep: Called before each look at `root`, once that is there: whoever keeps files of its own
            in it sees to it that they still are. May raise `ExecutorUnavailable`.

    Raises:
        ExecutorError: The command's program does not exist, or one trial needs more cards than
            there are.
        ExecutorUnavailable: `root` cannot be written to.
    """

    def __init__(
        self,
        study: str,
        command: Sequence[str],
        *,
        root: Path,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        withheld_env: Collection[str] = (),
        timeout_seconds: float | None = None,
        gpus_per_trial: int = 0,
        gpu_ids: Sequence[str] | None = None,
        stop_grace_seconds: float = 10.0,
        redact: Redactor | None = None,
        keep: Callable[[], None] | None = None,
    ) -> None:
        self._study = study
        self._keep = keep or (lambda: None)
        self._redact = redact or Redactor()
        self._root = root.absolute()
        self._cwd = cwd.absolute()
        self._env = dict(env or {})
        self._withheld_env = frozenset((*_FOREIGN_VARIABLES, *withheld_env))
        self._timeout_seconds = timeout_seconds
        self._stop_grace_seconds = stop_grace_seconds
        self._command = resolve_command(command, self._cwd, self._search_path())
        self._gpus_per_trial = gpus_per_trial
        self._gpus: tuple[str, ...] = ()
        if gpus_per_trial:
            self._gpus = tuple(detect_gpus() if gpu_ids is None else gpu_ids)
            if not self._gpus:
                logger.warning("no GPU found: trials of study %r run on the processor", study)
        self._slots = count_slots(self._gpus, gpus_per_trial)
        self._attempts: dict[AttemptId, _Attempt] = {}
        self._cgroup = cgroups.find_parent()
        self._told_damaged: set[AttemptId] = set()
        self._descriptor: int | None = None
        """Of the folder that `root` was when it was last there: tells whether it is that still."""
        with _as_unavailable("prepare", self._root):
            self._root.mkdir(parents=True, exist_ok=True)
            self._make_folders()
            self._descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY)

    @property
    def slots(self) -> int | None:
        """How many attempts find cards at once; `None` where cards are no limit."""
        return self._slots

    @property
    def site(self) -> str:
        """This machine's name, and a number that the study's folder keeps.

        Two machines may have one name.
        """
        return _site(self._folder_id)

    @functools.cached_property
    def _folder_id(self) -> str:
        file = self._root / _SITE
        with _as_unavailable("prepare", self._root):
            found = (read_piece(file, SITE_BYTES) or b"").decode(errors="replace")
            if not found.strip():
                found = uuid.uuid4().hex[:8]
                self._write_site(found)
            return found

    def _write_site(self, folder_id: str) -> None:
        _replace_file(self._root / _SITE, folder_id)  # a folder has one runner at a time

    @property
    def canary_seconds(self) -> float:
        """None: a process that cannot start costs nothing."""
        return 0.0

    @property
    def brings_points(self) -> bool:
        """Reports come through a file of the attempt."""
        return True

    def submit(self, trial: Trial, *, avoid: Collection[str] = ()) -> AttemptId:  # noqa: ARG002
        """Start an attempt, or adopt the one that exists already.

        There is one machine only, and so nothing to avoid.

        Raises:
            ExecutorUnavailable: The disk refuses, or every card is taken.
            ExecutorError: The root holds another study's trial of this number, or the operating
                system will not start a process with such arguments.
        """
        if trial.study != self._study:
            raise ExecutorError(
                f"This executor runs study {self._study!r}; the trial is of {trial.study!r}."
            )
        attempt = AttemptId(trial.number, trial.attempt)
        with _as_unavailable("submit to", self._root):
            self._restore_root()
            _make_folder(self._root / "trials" / str(trial.number))
            # First the entry that makes poll look, then the attempt: the other way round, an
            # attempt could exist that nobody sees.
            (self._root / "open" / str(attempt)).touch()
            self._discard_if_damaged(attempt)
            is_new = not self._folder(attempt).exists()
            if is_new:
                with self._card_lock():
                    self._claim(trial, attempt, self._choose_cards())
            watched = self._follow(attempt)
            _refuse_other(trial, watched.trial, self._root)
            if not watched.is_ended and self._never_started(watched) and watched.child is None:
                try:
                    self._start(watched)
                except ExecutorError:
                    if is_new:
                        self._discard(attempt)
                    raise
        return attempt

    def poll(self) -> Mapping[AttemptId, AttemptStatus]:
        """Return every attempt that was submitted and not forgotten, by whomever.

        Costs a few system calls for each attempt that still runs and none for ended ones.

        Raises:
            ExecutorUnavailable: The disk does not answer.
        """
        _collect_children()
        statuses: dict[AttemptId, AttemptStatus] = {}
        with _as_unavailable("look at", self._root):
            self._restore_root()
            for attempt in self._open_attempts():
                try:
                    watched = self._follow(attempt)
                except FileNotFoundError:
                    # Submitted this very moment, or its runner died doing so.
                    if os.path.lexists(self._folder(attempt)):
                        self._end_damaged(attempt)
                    continue
                except _DAMAGED:  # cut short with the power, or the script's doing
                    self._end_damaged(attempt)
                    continue
                statuses[attempt] = self._look(watched)
        for attempt in self._attempts.keys() - statuses.keys():
            self._attempts.pop(attempt).unwatch()
        return statuses

    def wait(self, timeout_seconds: float) -> None:
        """Return within milliseconds of an attempt's end, or soon after new metrics came.

        What the last `poll` saw already is no reason to return. The end of attempts that another
        runner submitted is noticed once `poll` has seen them.
        """
        deadline = time.monotonic() + timeout_seconds
        ends = select.poll()
        look_seconds = LOOK_SECONDS
        live = [watched for watched in self._attempts.values() if not watched.is_ended]
        for watched in live:
            if watched.pidfd is None or watched.sight.is_supervisor_dead:
                look_seconds = LOOK_SECONDS_WITHOUT_PIDFD
            else:
                ends.register(watched.pidfd, select.POLLIN)
        deadline = min([deadline, *(watched.look_at for watched in live)])
        while not any(_has_changed(watched) for watched in live):
            pause = min(deadline - time.monotonic(), look_seconds)
            if pause <= 0 or ends.poll(pause * 1000):
                return

    def stop(self, attempt: AttemptId, cause: Cause, reason: str) -> None:
        """Ask an attempt to end; it ends with this cause. The first request counts.

        The script gets SIGTERM, then after the grace its whole process tree is killed.
        """
        folder = self._folder(attempt)
        watched = self._attempts.get(attempt)
        if watched is not None and watched.is_ended:
            return
        with _as_unavailable("stop an attempt in", self._root):
            lock = _see_lock(folder)
            has_ended = lock is _Lock.FREE and _is_file(folder / supervisor.EXIT)
            if lock is _Lock.MISSING or has_ended:
                return
            if _is_file(folder / supervisor.STOP):
                return
            request = {"cause": cause.value, "reason": reason, "at": time.time()}
            _replace_file(folder / supervisor.STOP, json.dumps(request))

    def forget(self, attempt: AttemptId) -> None:
        """Let go of an ended attempt; its files stay.

        Raises:
            ExecutorError: The attempt has not ended.
        """
        entry = self._root / "open" / str(attempt)
        folder = self._folder(attempt)
        watched = self._attempts.get(attempt)
        with _as_unavailable("forget an attempt in", self._root):
            is_ended = watched is not None and watched.is_ended
            is_there = entry.exists() and _see_lock(folder) is not _Lock.MISSING
            if not is_ended and is_there and not _has_ended(folder):
                raise ExecutorError(
                    f"Attempt {attempt} has not ended and cannot be forgotten.",
                    hint="stop it and wait for its end.",
                )
            _remove(entry)
        self._attempts.pop(attempt, None)
        if watched is not None:
            watched.unwatch()

    def files(self, attempt: AttemptId) -> AttemptFiles:
        """Return what the attempt left behind; works after `forget` too."""
        folder = self._folder(attempt)
        try:
            return AttemptFiles(
                log=_file_at(folder / supervisor.LOG),
                artifacts=_artifacts_at(folder / _ARTIFACTS),
                metrics=_file_at(folder / _METRICS),
                extra={
                    path.name: path
                    for name in (_TRIAL, supervisor.OUTCOME, supervisor.EXIT)
                    if (path := _file_at(folder / name)) is not None
                },
            )
        except OSError as error:
            logger.warning("trial %s: its files cannot be looked at: %s", attempt, error)
            return AttemptFiles()

    def read_log(self, attempt: AttemptId, *, offset: int = 0, limit_bytes: int = 65536) -> bytes:
        """Return up to `limit_bytes` of the attempt's log from a byte offset; empty at the end."""
        try:
            with open_file(self._folder(attempt) / supervisor.LOG) as log:
                log.seek(offset)
                return log.read(limit_bytes)
        except (FileNotFoundError, NotAFileError):
            return b""

    def follow_log(self, attempt: AttemptId) -> Iterator[bytes]:
        """Yield the log as it is written, until the attempt ends."""
        offset = 0
        while True:
            # Looked at first: what is written until the end is read after it.
            status = self.poll().get(attempt)
            while piece := self.read_log(attempt, offset=offset):
                offset += len(piece)
                yield piece
            if status is None or status.state is AttemptState.ENDED:
                return
            time.sleep(LOOK_SECONDS)

    def close(self) -> None:
        """Stop following the attempts; they go on."""
        for watched in self._attempts.values():
            watched.unwatch()
        self._attempts.clear()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        _collect_children()

    # The study's folder

    def _make_folders(self) -> None:
        for name in ("open", "trials"):
            _make_folder(self._root / name)

    def _restore_root(self) -> None:
        """Make the study's folder again if it was removed; `_look` finds what that did to attempts.

        Raises:
            ExecutorUnavailable: It is somewhere else now.
        """
        if self._descriptor is None:  # of an executor that was closed
            return
        if not self._is_root():
            is_removed = os.fstat(self._descriptor).st_nlink == 0
            if not is_removed and not self._root.exists():
                raise ExecutorUnavailable(
                    f"The study's folder {self._root} was moved or its disk taken away.",
                    hint="bring it back; or end this runner, and run the study again.",
                )
            logger.warning("%s was removed and is made again; its running trials end", self._root)
            self._root.mkdir(parents=True, exist_ok=True)
            os.close(self._descriptor)
            self._descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY)
        self._keep()
        self._make_folders()
        if "_folder_id" in self.__dict__ and not _is_file(self._root / _SITE):
            self._write_site(self._folder_id)

    def _is_root(self) -> bool:
        """Return whether the study's folder is the one that it was."""
        if self._descriptor is None:
            return self._root.is_dir()
        try:
            return os.path.samestat(self._root.stat(), os.fstat(self._descriptor))
        except (FileNotFoundError, NotADirectoryError):
            return False

    # How an attempt comes into being

    def _claim(self, trial: Trial, attempt: AttemptId, cards: tuple[str, ...]) -> None:
        """Make the attempt's folder, complete, unless another runner was faster."""
        folder = self._folder(attempt)
        checkpoints = folder.parent / _CHECKPOINTS
        _make_folder(checkpoints)
        placed = replace(
            trial,
            outcome_path=str(folder / supervisor.OUTCOME),
            metrics_path=str(folder / _METRICS),
            artifact_dir=str(folder / _ARTIFACTS),
            checkpoint_dir=str(checkpoints),
            stop_path=str(folder / supervisor.STOP),
        )
        launch = _Launch(self._command, cards, self._timeout_seconds, self._stop_grace_seconds)
        unborn = folder.parent / f".{folder.name}.{uuid.uuid4().hex}"
        unborn.mkdir()
        for name in (_ARTIFACTS, supervisor.WORK):
            (unborn / name).mkdir()
        (unborn / supervisor.LOCK).touch()
        (unborn / _TRIAL).write_text(placed.to_json())
        (unborn / _LAUNCH).write_text(launch.to_json())
        try:
            unborn.rename(folder)  # fails when the folder exists: it is never empty
        except OSError:
            shutil.rmtree(unborn, ignore_errors=True)
            if not folder.exists():
                raise

    def _discard(self, attempt: AttemptId) -> None:
        """Undo a claim: as if the attempt had never been submitted."""
        folder = self._folder(attempt)
        aside = folder.parent / f".{folder.name}.{uuid.uuid4().hex}"
        with contextlib.suppress(FileNotFoundError):
            folder.rename(aside)  # in one moment, as it came
        _remove(self._root / "open" / str(attempt))
        self._attempts.pop(attempt, None)
        with contextlib.suppress(OSError):
            _remove(aside)

    def _discard_if_damaged(self, attempt: AttemptId) -> None:
        """Discard what a power cut or a script made of an attempt, once nothing of it runs.

        Raises:
            ExecutorUnavailable: Something of it runs still.
        """
        folder = self._folder(attempt)
        try:
            self._follow(attempt)
        except FileNotFoundError:
            if not os.path.lexists(folder):
                return
        except _DAMAGED:
            pass
        else:
            return
        if self._kill(attempt, None):
            raise ExecutorUnavailable(
                f"The files of attempt {attempt} were damaged; what runs of it is being killed."
            )
        self._discard(attempt)
        (self._root / "open" / str(attempt)).touch()

    def _end_damaged(self, attempt: AttemptId) -> None:
        """Kill what runs of an attempt that cannot be followed; its next `submit` discards it."""
        if attempt not in self._told_damaged:
            self._told_damaged.add(attempt)
            logger.warning("trial %s: %s is unreadable", attempt, self._folder(attempt))
        self._kill(attempt, None)

    def _start(self, watched: _Attempt) -> None:
        """Start a supervisor. Starting one too many does no harm: the lock lets one script run."""
        launch = watched.launch
        timeout = "-" if launch.timeout_seconds is None else repr(float(launch.timeout_seconds))
        log = str(watched.folder / supervisor.LOG)
        arguments = [
            *(sys.executable, "-I", "-S", supervisor.__file__, str(watched.folder)),
            *(timeout, repr(float(launch.stop_grace_seconds))),
            *(self._cgroup_of(watched) or "-", *launch.command),
        ]
        try:
            # Not subprocess.Popen: it wants every child awaited by the object that started it.
            watched.child = os.posix_spawn(
                sys.executable,
                arguments,
                self._environment(watched),
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ],
                setsid=True,  # a Ctrl-C in the runner's terminal is not for the trainings
                setsigmask=(),
                setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD),
            )
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in (errno.EAGAIN, errno.ENOMEM):
                raise ExecutorUnavailable(
                    f"Attempt {watched.id} cannot be started now: {error.strerror}."
                ) from error
            raise ExecutorError(
                f"Attempt {watched.id} cannot be started: {error}.",
                hint="are the parameters or the environment very long, or hold a NUL?",
            ) from error
        _children.add(watched.child)
        watched.starts += 1
        watched.watch(watched.child)
        logger.debug("trial %s: supervisor %d started", watched.id, watched.child)

    def _environment(self, watched: _Attempt) -> dict[str, str]:
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in self._withheld_env and not is_set_by_launcher(name)
        }
        environment |= self._env
        search_path = (str(self._cwd), environment.get("PYTHONPATH", ""))
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, search_path))
        # A killed script loses what Python still buffers: the lines that say why.
        environment.setdefault("PYTHONUNBUFFERED", "1")
        if watched.launch.gpus:
            environment[VISIBLE] = ",".join(watched.launch.gpus)
            # nvidia-smi counts in this order, CUDA by default the fastest first.
            environment.setdefault(ORDER, "PCI_BUS_ID")
        environment |= mlflow_variables(watched.trial, environment)
        environment[TRIAL_VARIABLE] = watched.trial.to_json()
        return environment

    def _search_path(self) -> str:
        return self._env.get("PATH", os.environ.get("PATH", os.defpath))

    # Cards

    @contextlib.contextmanager
    def _card_lock(self) -> Iterator[None]:
        """Keep other runners from choosing cards between our look and our claim."""
        if not self._gpus:
            yield
            return
        path = self._root / "cards.lock"
        if kind_of(path) is Kind.OTHER:
            _remove(path)
        with path.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _choose_cards(self) -> tuple[str, ...]:
        if not self._gpus:
            return ()
        taken: list[str] = []
        for attempt in self._open_attempts():
            with contextlib.suppress(FileNotFoundError, *_DAMAGED):
                watched = self._follow(attempt)
                if not watched.is_ended and not _has_ended(watched.folder):
                    taken += watched.launch.gpus
        chosen = choose_gpus(self._gpus, taken, self._gpus_per_trial)
        if chosen is None:
            raise ExecutorUnavailable(
                f"No {self._gpus_per_trial} of {len(self._gpus)} GPUs are free.",
                hint=f"at most {self._slots} trials run here at once.",
            )
        return chosen

    # Looking

    def _folder(self, attempt: AttemptId) -> Path:
        return self._root / "trials" / str(attempt.number) / f"attempt-{attempt.attempt}"

    def _open_attempts(self) -> list[AttemptId]:
        # Those followed here too: their entries are in reach of scripts.
        found = set(self._attempts)
        for entry in os.scandir(self._root / "open"):
            number, _, attempt = entry.name.partition("-")
            if number.isdecimal() and attempt.isdecimal():
                found.add(AttemptId(int(number), int(attempt)))
        return sorted(found)

    def _follow(self, attempt: AttemptId) -> _Attempt:
        watched = self._attempts.get(attempt)
        if watched is None:
            watched = self._attempts[attempt] = _Attempt(attempt, self._folder(attempt))
        return watched

    def _look(self, watched: _Attempt) -> AttemptStatus:
        if watched.is_ended:
            return watched.status
        watched.sight = watched.see()  # before all else: what changes meanwhile wakes `wait`
        watched.look_at = math.inf
        lock = self._see_its_lock(watched)
        if lock is _Lock.MISSING:
            is_ended = self._end_unreachable(watched)
        else:
            # A document alone proves no end: the script could have written it.
            is_ended = lock is _Lock.FREE and watched.sight.exit is Kind.FILE
            if not is_ended:
                self._look_after(watched, lock)
        points = watched.metrics.read()
        if not watched.metrics.is_exhausted:
            watched.look_again(0.0)
        # Metrics come before the end, however many there are.
        elif is_ended:
            status = self._conclude(watched)
            watched.status = replace(status, points=())
            watched.unwatch()
            return replace(status, points=points)
        return replace(watched.status, points=points)

    def _see_its_lock(self, watched: _Attempt) -> _Lock:
        """Return what the lock says; one that is free beside a living supervisor is another one."""
        if watched.ends_by is not None:
            return _Lock.MISSING
        lock = _see_lock(watched.folder)
        is_alive = watched.pidfd is not None and not watched.is_supervisor_dead()
        if lock is not _Lock.FREE or not is_alive or self._never_started(watched):
            watched.is_dubious = False
            return lock
        if watched.is_dubious:
            return _Lock.MISSING
        watched.is_dubious = True  # or the supervisor lets go of it and is gone a moment later
        watched.look_again(KILL_SECONDS)
        return _Lock.HELD

    def _look_after(self, watched: _Attempt, lock: _Lock) -> None:
        """Bring the state of an attempt that has not ended up to date; see to what died."""
        if watched.status.state is AttemptState.PENDING:
            pids = watched.read_json(supervisor.PID)
            if pids is not None and pids.get("script"):
                started_at = pids.get("started_at")
                watched.status = AttemptStatus(
                    AttemptState.RUNNING,
                    started_at=started_at if isinstance(started_at, float) else None,
                )
        if lock is _Lock.HELD:
            self._look_at_supervisor(watched)
        elif not self._never_started(watched):
            self._fence(watched)
        elif watched.child in _children:
            watched.look_again(LOOK_SECONDS)  # our own supervisor is on its way to the lock
        elif watched.starts >= MAX_STARTS:
            self._fence(watched)
        elif watched.starts or time.monotonic() - watched.seen_at > START_PATIENCE_SECONDS:
            logger.warning("trial %s: was never started; starting it", watched.id)
            watched.unwatch()
            try:
                self._start(watched)
            except ExecutorUnavailable:
                raise
            except ExecutorError as error:
                logger.warning("trial %s: %s", watched.id, error)
                self._fence(watched)
        else:
            watched.look_again(watched.seen_at + START_PATIENCE_SECONDS - time.monotonic())

    def _look_at_supervisor(self, watched: _Attempt) -> None:
        """Watch whoever holds the lock."""
        if watched.pidfd is None and watched.child in _children:
            watched.watch(watched.child)
        is_dead = watched.is_supervisor_dead()
        if is_dead or (watched.pidfd is None and watched.child is None):
            pids = watched.read_json(supervisor.PID) or {}
            pid = pids.get("supervisor")
            if isinstance(pid, int) and pid > 0 and pid != watched.watched_pid:
                watched.unwatch()  # of several that were started, this one was first
                watched.watch(pid)
            elif is_dead:
                # Not its supervisor: the script has opened the lock, or another runner looks.
                self._kill(watched.id, watched)
                return
        if not watched.is_dubious and not watched.is_supervisor_dead():
            watched.alive_at = processes.ticks_now()
            pid = watched.watched_pid
            if pid is not None and processes.is_stopped(pid):  # it sees no end and keeps no limit
                logger.warning("trial %s: its supervisor was stopped; it goes on now", watched.id)
                watched.send(signal.SIGCONT)
                watched.look_again(LOOK_SECONDS)

    def _end_unreachable(self, watched: _Attempt) -> bool:
        """End an attempt whose folder or lock is gone; return whether nothing of it runs any more.

        A supervisor sees that too and does it best: it knows all descendants of its script.
        """
        if not self._is_root():
            raise ExecutorUnavailable(f"{self._root} was taken away.")  # and not the attempt alone
        now = time.monotonic()
        if watched.ends_by is None:
            logger.warning("trial %s: %s was removed or replaced", watched.id, watched.folder)
            watched.ends_by = now + watched.launch.stop_grace_seconds + TERMINATION_SECONDS
            watched.send(signal.SIGTERM)  # the attempt ends with it
        is_watched = watched.pidfd is not None or watched.child in _children
        if is_watched and not watched.is_supervisor_dead() and now < watched.ends_by:
            watched.look_again(LOOK_SECONDS)
            return False
        return not self._kill(watched.id, watched)

    @staticmethod
    def _never_started(watched: _Attempt) -> bool:
        return watched.status.state is AttemptState.PENDING and all(
            kind_of(watched.folder / name) is Kind.NOTHING
            for name in (supervisor.PID, supervisor.EXIT)
        )

    def _fence(self, watched: _Attempt) -> None:
        """End an attempt whose supervisor was killed, once nothing of its process tree runs."""
        try:
            lock = os.open(watched.folder / supervisor.LOCK, os.O_RDWR | os.O_NONBLOCK)
        except OSError as error:  # the next look tells what has become of it
            logger.warning("trial %s: its lock cannot be opened: %s", watched.id, error)
            watched.look_again(LOOK_SECONDS)
            return
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # another runner is at it
                watched.look_again(LOOK_SECONDS)
                return
            if _is_file(watched.folder / supervisor.EXIT):
                watched.look_again(0.0)
                return
            if self._kill(watched.id, watched):
                return
            has_request = _is_file(watched.folder / supervisor.STOP)
            stopped_at = _modified_at(watched.folder / supervisor.STOP) if has_request else None
            outcome_at = _modified_at(watched.folder / supervisor.OUTCOME)
            now = time.time()
            ending = {
                "how": (How.LOST if stopped_at is None else How.STOPPED).value,
                "exit_code": None,
                "started_at": watched.status.started_at or now,
                "ended_at": now,
                "oom": False,
                "finished_first": stopped_at is not None
                and outcome_at is not None
                and outcome_at < stopped_at,
            }
            watched.look_again(0.0)
            try:
                _replace_file(watched.folder / supervisor.EXIT, json.dumps(ending))
            except PermissionError:  # the script's doing: there is no other reason in our own tree
                watched.ends_by = time.monotonic()
                return
            logger.warning("trial %s: its supervisor was killed", watched.id)
        finally:
            os.close(lock)

    def _kill(self, attempt: AttemptId, watched: _Attempt | None) -> bool:
        """Kill what runs of an attempt; return whether there was anything, and so is to be again.

        Args:
            attempt: The attempt.
            watched: What is known of it; `None` when its documents are damaged.
        """
        outcome_path = str(self._folder(attempt) / supervisor.OUTCOME)
        tree = processes.Tree()
        groups = set()
        if watched is not None:
            outcome_path = watched.trial.outcome_path or outcome_path
            pids = watched.read_json(supervisor.PID) or {}
            tree = processes.Tree(
                supervisor=_number(pids.get("supervisor")),
                script=_number(pids.get("script")),
                script_start=_number(pids.get("script_start")),
                alive_at=watched.alive_at,
            )
            groups = {Path(str(pids["cgroup"]))} if pids.get("cgroup") else set()
        name = cgroups.group_name(outcome_path)
        if self._cgroup is not None:
            groups.add(self._cgroup / name)
        found = processes.kill_left(outcome_path, tree)
        for group in groups:
            if group.name == name and cgroups.is_group(group):  # the script could name any other
                found |= cgroups.kill_group(group)
                cgroups.remove_group(group)
        if found and watched is not None:
            watched.look_again(watched.kill_pause)
            watched.kill_pause = min(2 * watched.kill_pause, LOOK_SECONDS)
        return found

    def _cgroup_of(self, watched: _Attempt) -> str | None:
        if self._cgroup is None or watched.trial.outcome_path is None:
            return None
        return str(self._cgroup / cgroups.group_name(watched.trial.outcome_path))

    def _conclude(self, watched: _Attempt) -> AttemptStatus:
        folder = watched.folder
        # Beside another lock than the supervisor's, that document is not the supervisor's either.
        is_reachable = watched.ends_by is None
        document = watched.read_json(supervisor.EXIT) if is_reachable else None
        if document is None:
            document = {"how": How.REMOVED, "started_at": watched.status.started_at}
            document["ended_at"] = time.time()
        request = watched.read_json(supervisor.STOP) or {}
        how = How(document["how"]) if document.get("how") in set(How) else How.LOST
        if how is How.STOPPED and "cause" not in request:
            how = How.REMOVED  # what asked for its end was no runner's request
        ending = Ending(
            how=how,
            exit_code=_number(document.get("exit_code")),
            oom=document.get("oom") is True,
            finished_first=document.get("finished_first") is True,
            stop_cause=_read_cause(request.get("cause")),
            stop_reason=str(request.get("reason", "")),
            timeout_seconds=watched.launch.timeout_seconds,
        )
        said = _read_said(folder / supervisor.OUTCOME)
        limit_bytes = LOG_TAIL_BYTES + self._redact.reach_chars
        log = read_piece(folder / supervisor.LOG, limit_bytes, from_end=True) or b""
        log_tail = b"".join(self._redact.tail(io.BytesIO(log), LOG_TAIL_BYTES))
        tail = log_tail.decode(errors="replace")
        outcome = diagnose(ending, said, tail, watched.trial, self._redact)
        why = watched.metrics.why_incomplete(self._redact) if outcome.is_silent else ""
        if why:
            outcome = replace(
                outcome,
                message="The script called no finish(), and its last report may be missing: "
                f"{why}. Hint: call sdk.finish(...) before the script ends; only sdk.report(...) "
                "may write where the reports are.",
                is_silent=False,
            )
        return AttemptStatus(
            AttemptState.ENDED,
            outcome=replace(outcome, message=self._redact(outcome.message)),
            exit_code=ending.exit_code,
            started_at=_seconds(document.get("started_at")),
            ended_at=_seconds(document.get("ended_at")),
        )


def resolve_command(command: Sequence[str], cwd: Path, search_path: str) -> tuple[str, ...]:
    """Return a command that means in any folder what it would mean in `cwd`.

    Raises:
        ExecutorError: The command is empty, or its program or script does not exist or cannot be
            executed.
    """
    if not command:
        raise ExecutorError("The command is empty.", hint="for example: [python, train.py]")
    program, *arguments = command
    if program in ("python", "python3"):
        found: str | Path | None = sys.executable
    elif os.sep in program or (cwd / program).is_file():
        found = shutil.which(cwd / program)
    else:
        found = shutil.which(program, path=search_path)
    if not found:
        raise ExecutorError(
            f"The program {program!r} does not exist in {cwd} or on PATH, or is not executable.",
            hint="correct trial.command, or make the file executable (chmod +x).",
        )
    script = arguments[0] if arguments else ""
    if program.startswith("python") and script.endswith(".py") and not (cwd / script).is_file():
        raise ExecutorError(
            f"The script {script!r} of trial.command does not exist in {cwd}.",
            hint="paths in trial.command start from the folder of the study file.",
        )
    return (str(found), *(_resolve_argument(argument, cwd) for argument in arguments))


def _resolve_argument(argument: str, cwd: Path) -> str:
    option, equals, value = argument.partition("=")
    if option.startswith("-") and equals:
        return f"{option}={_resolve_argument(value, cwd)}"
    if not argument or argument.startswith("-") or "\0" in argument:
        return argument
    path = cwd / argument
    try:
        names_path = path.is_file() or (os.sep in argument and path.is_dir())
    except OSError:  # longer than a path may be, such as code after -c
        return argument
    return str(path) if names_path else argument


def _refuse_other(trial: Trial, existing: Trial, root: Path) -> None:
    """Refuse to take the files of an older study of the same name for this trial's."""
    if (existing.study, dict(existing.params), existing.budget) != (
        trial.study,
        dict(trial.params),
        trial.budget,
    ):
        raise ExecutorError(
            f"{root} holds another trial {trial.number}, of study {existing.study!r} with other "
            "parameters.",
            hint="the study's storage was removed but not its trials: remove that folder too, or "
            "give the study another name.",
        )


def _see_lock(folder: Path) -> _Lock:
    """Return what an attempt's lock says; never waits for it.

    Raises:
        OSError: The disk does not answer.
    """
    try:
        if not stat.S_ISDIR(os.lstat(folder).st_mode):
            return _Lock.MISSING
        with open_file(folder / supervisor.LOCK) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _Lock.HELD
    except (FileNotFoundError, NotADirectoryError, PermissionError, NotAFileError):
        return _Lock.MISSING
    return _Lock.FREE


def _has_ended(folder: Path) -> bool:
    return _is_file(folder / supervisor.EXIT) and _see_lock(folder) is _Lock.FREE


def _has_changed(watched: _Attempt) -> bool:
    try:
        return watched.sight != watched.see()
    except OSError:  # poll tells what the disk has
        return True


def _is_readable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def _collect_children() -> None:
    """Let the kernel forget supervisors that ended."""
    for pid in tuple(_children):
        try:
            if os.waitpid(pid, os.WNOHANG)[0] == 0:
                continue
        except ChildProcessError:
            pass
        _children.discard(pid)


def _read_cause(value: object) -> Cause:
    return Cause(value) if isinstance(value, str) and value in set(Cause) else Cause.CANCELLED


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _seconds(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _is_file(path: Path) -> bool:
    return kind_of(path) is Kind.FILE


def _file_at(path: Path) -> Path | None:
    return path if _is_file(path) else None


def _artifacts_at(folder: Path) -> tuple[Path, ...]:
    """Return what is in a folder of artifacts, or what is in its place where that is no folder."""
    try:
        is_folder = stat.S_ISDIR(os.lstat(folder).st_mode)
        return tuple(sorted(folder.iterdir())) if is_folder else (folder,)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return ()


def _modified_at(path: Path) -> float | None:
    try:
        return os.lstat(path).st_mtime
    except OSError:
        return None


def _version(path: Path) -> tuple[int, int] | None:
    """Return what changes whenever a file is replaced; `None` without one."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _read_document(path: Path) -> bytes:
    """Return a document of a runner or supervisor.

    Raises:
        FileNotFoundError: There is none.
        NotAFileError: There is something else.
    """
    with open_file(path) as file:
        return file.read(DOCUMENT_LIMIT_BYTES)


def _make_folder(path: Path) -> None:
    """Make a folder if there is none; what a script put in its place is removed."""
    try:
        path.mkdir()
    except FileExistsError:
        if not path.is_dir():
            _remove(path)
            path.mkdir()
        elif not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            path.chmod(0o755)


def _remove(path: Path) -> None:
    """Remove whatever is at a path, if anything is; a link, not what it points to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _read_said(path: Path) -> bytes | NoDocument | None:
    """Return what a script left where its outcome belongs; `None` when nothing is there.

    Raises:
        OSError: The disk or this process cannot read it now, such as with too many open files.
    """
    try:
        # Neither a link nor a pipe is followed: what is behind it is not the script's to show.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):  # not even its folder, perhaps
        return None
    except OSError as error:
        if error.errno not in _IS_NO_DOCUMENT:
            raise
        with contextlib.suppress(OSError):
            text = str(path.readlink())
            if text.startswith(UNWRITTEN):
                return text.encode(errors="surrogateescape")
        return NoDocument(_IS_NO_DOCUMENT[error.errno])
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            return NoDocument(_KINDS_OF_FILES.get(stat.S_IFMT(mode), "a special file"))
        return os.read(descriptor, OUTCOME_LIMIT_BYTES + 1)
    finally:
        os.close(descriptor)


def _replace_file(path: Path, text: str) -> None:
    """Replace a file, durably, whatever a script put in its place or did to its folder's rights."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        _write_new(part, text)
    except PermissionError:
        path.parent.chmod(0o755)
        _write_new(part, text)
    try:
        part.replace(path)
    except (IsADirectoryError, NotADirectoryError, FileExistsError):  # a script put a folder there
        path.rename(path.with_name(f".{path.name}.{uuid.uuid4().hex}.aside"))
        part.replace(path)


def _write_new(path: Path, text: str) -> None:
    with path.open("x") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _as_unavailable(doing: str, root: Path) -> Iterator[None]:
    """Turn errors of the disk into the one that callers know to be worth another try."""
    try:
        yield
    except OSError as error:
        raise ExecutorUnavailable(
            f"Cannot {doing} {root}: {error.strerror or error}.",
            hint="is the disk full, read-only or gone?",
        ) from error

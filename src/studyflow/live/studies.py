"""The studies of a storage, read again as they change, and steered: pause, resume, stop."""

from __future__ import annotations

import hashlib
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from studyflow.context import StudyContext
from studyflow.diagnostics.probes.runner import find_runner
from studyflow.diagnostics.probes.snapshots import is_driven
from studyflow.errors import ExecutorUnavailable, StudyNotFound
from studyflow.executors.protocol import AttemptId
from studyflow.live.states import Standing
from studyflow.reports import StudyData, build_report
from studyflow.settings import Settings
from studyflow.storage import open_storage
from studyflow.study import find_study, is_paused, load_records, set_paused, study_names
from studyflow.trial.record import TrialRecord

if TYPE_CHECKING:
    import optuna

LEAST_SECONDS: Final = 1.0
"""Shortest time between two looks at one study."""

PATIENCE: Final = 10.0
"""A look waits so many times as long as the last one took: watching takes a tenth of a processor
however long a study is."""

TAIL_BYTES: Final = 256 * 1024
"""What is shown of a log that was written before someone looked."""

PIECE_BYTES: Final = 256 * 1024
"""Longest part of a log in one answer; more than one line of it may have."""


@dataclass(frozen=True, slots=True)
class LogPiece:
    """A part of a trial's log, without secrets."""

    text: str
    next_offset: int
    """Where the next part begins, in bytes of the log."""


@dataclass(slots=True)
class _Kept:
    """A result, until when it holds, and of what it was made."""

    result: object
    until: float
    digest: str = ""


class Studies:
    """The studies of one storage. Its methods may be called from any thread.

    Args:
        settings: Where the storage and the studies' files are.
        clock: Seconds, monotonic.
    """

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self._clock = clock
        self._lock = threading.RLock()
        self._standings: dict[str, _Kept] = {}
        self._reports: dict[str, _Kept] = {}
        self._contexts: dict[str, StudyContext] = {}
        self._storage: optuna.storages.BaseStorage | None = None

    def close(self) -> None:
        """Close what was opened for logs."""
        with self._lock:
            for context in self._contexts.values():
                context.close()
            self._contexts.clear()

    def names(self) -> tuple[str, ...]:
        """Return the names of all studies; none while there is no storage yet."""
        try:
            return study_names(self._opened())
        except StudyNotFound:
            return ()

    def standing(self, name: str) -> Standing:
        """Return how a study stands, read anew if the last look is long enough ago.

        Raises:
            StudyNotFound: It is not in the storage, or studyflow did not make it.
        """
        with self._lock:
            kept = self._standings.get(name)
            if kept is None or self._clock() >= kept.until:
                began = self._clock()
                standing = self._look(name)
                pause = max(LEAST_SECONDS, PATIENCE * (self._clock() - began))
                kept = self._standings[name] = _Kept(standing, self._clock() + pause)
        assert isinstance(kept.result, Standing), "it was put there above"
        return kept.result

    def version(self, name: str) -> str:
        """Return a mark of the report that `report` would return now.

        Raises:
            StudyNotFound: It is not in the storage.
        """
        current = self._digest(name)
        with self._lock:
            kept = self._reports.get(name)
            is_recent = kept is not None and self._clock() < kept.until
            return kept.digest if kept is not None and is_recent else current

    def _digest(self, name: str) -> str:
        data = self.standing(name).data
        parts = (data.spec.model_dump_json(), data.records)
        return hashlib.sha256(repr(parts).encode(errors="replace")).hexdigest()[:16]

    def report(self, name: str) -> bytes:
        """Return a study's report as it is now, or as it was a moment ago while it changes.

        Raises:
            StudyNotFound: It is not in the storage.
            MissingExtra: What reports need is not installed.
        """
        version = self.version(name)
        with self._lock:
            kept = self._reports.get(name)
            if kept is None or kept.digest != version:
                began = self._clock()
                page = self._draw(name)
                pause = PATIENCE * (self._clock() - began)
                kept = self._reports[name] = _Kept(page, self._clock() + pause, version)
        assert isinstance(kept.result, bytes), "it was put there above"
        return kept.result

    def set_paused(self, name: str, paused: bool) -> None:
        """Pause a study or resume it, whoever runs it.

        Raises:
            StudyNotFound: It is not in the storage.
        """
        with self._lock:
            set_paused(find_study(name, self._opened()), paused)
            self._standings.pop(name, None)

    def stop(self, name: str) -> None:
        """Ask a study's runner on this machine to end, as Ctrl-C does.

        Raises:
            ExecutorUnavailable: No runner of this machine drives it.
        """
        runner = find_runner(self.settings.runner_lock(name))
        with self._lock:
            self._standings.pop(name, None)
        if runner.is_there and runner.pid is not None:
            with suppress(ProcessLookupError):  # it has just ended by itself
                os.kill(runner.pid, signal.SIGINT)
                return
        raise ExecutorUnavailable(
            f"No runner of this machine drives {name!r}.",
            hint="pause it: runners elsewhere hear of that too.",
        )

    def log(self, name: str, record: TrialRecord, offset: int | None) -> LogPiece:
        """Return what follows in the log of a trial's newest attempt, in whole lines.

        Args:
            name: The study's name.
            record: The trial.
            offset: Byte to begin at; `None` to begin `TAIL_BYTES` before the end.

        Raises:
            StudyflowError: The log cannot be read.
        """
        with self._lock:
            context = self._context(name)
            attempt = AttemptId(record.number, max(record.attempt, 1))
            if offset is None:
                offset = _tail_offset(context, record)
            raw = context.executor.read_log(attempt, offset=offset, limit_bytes=PIECE_BYTES)
        shown, rest = context.redactor.ready(raw)
        if rest and not shown and (record.state.is_finished or len(raw) == PIECE_BYTES):
            shown, rest = b"".join(context.redactor.pieces([raw])), b""
        return LogPiece(shown.decode(errors="replace"), offset + len(raw) - len(rest))

    def _opened(self) -> optuna.storages.BaseStorage:
        with self._lock:
            if self._storage is None:
                self._storage = open_storage(self.settings.storage_url, create=False)
            return self._storage

    def _look(self, name: str) -> Standing:
        stored = find_study(name, self._opened())
        spec, records = load_records(stored)
        if spec is None:
            raise StudyNotFound(f"The storage holds no study file of {name!r}: it is not ours.")
        data = StudyData(spec, records, stored)
        return Standing(
            data,
            is_driven=is_driven(data, self.settings),
            is_paused=is_paused(stored),
            is_spent=data.why_spent(time.time()) is not None,
            runner_pid=find_runner(self.settings.runner_lock(name)).pid,
        )

    def _draw(self, name: str) -> bytes:
        # Without the stored study there is no replay: it asks the sampler's model again.
        data = replace(self.standing(name).data, optuna_study=None)
        with tempfile.TemporaryDirectory(prefix="studyflow-live-") as folder:
            links = self._trial_links(data)
            report = build_report(data, Path(folder), trial_links=links)
            return report.html.read_bytes()

    def _trial_links(self, data: StudyData) -> dict[int, Mapping[str, str]]:
        base = f"/studies/{quote(data.spec.name, safe='')}/trials"
        return {
            r.number: {
                "log": f"{base}/{r.number}",
                **({"MLflow": f"{base}/{r.number}/mlflow"} if r.run_id else {}),
            }
            for r in data.records
            if r.attempt
        }

    def _context(self, name: str) -> StudyContext:
        if name not in self._contexts:
            self._contexts[name] = StudyContext(self.standing(name).data.spec, self.settings)
        return self._contexts[name]


def _tail_offset(context: StudyContext, record: TrialRecord) -> int:
    """Return where to begin to read a log, so that a long one is not read whole."""
    path = context.attempt_files(record).log
    try:
        size = 0 if path is None else path.stat().st_size
    except OSError:
        size = 0
    return max(size - TAIL_BYTES, 0)

"""Logs of pods: fetched before they go with their pod, and kept in the study's folder."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from studyflow.background import DaemonPool, settled
from studyflow.errors import ExecutorUnavailable
from studyflow.executors.kubernetes.api import ClusterApi, ServerBusy
from studyflow.executors.kubernetes.pod_log import written
from studyflow.executors.protocol import AttemptId
from studyflow.redaction import Redactor

logger = logging.getLogger(__name__)

LOG_LINES: Final = (50_000, 1_000, 20)
LOG_BYTES: Final = 16 << 20
"""How much of a log is fetched at the end: the last lines, of them at most so many bytes. Kubelets
count bytes from the first of these lines on, so what is longer is asked for again with fewer: how a
script ended stands in its last lines."""

LOG_TAIL_BYTES: Final = 64 << 10
"""How much of a log is searched for the reason of a failure."""


@dataclass(frozen=True, slots=True)
class PodLogs:
    """Fetches and reads the logs of one study's pods."""

    api: ClusterApi
    root: Path
    """Folder of the study on this machine."""
    redact: Redactor
    pool: DaemonPool | None = None
    """Fetches several logs side by side; `None` to fetch one after the other."""

    def path(self, attempt: AttemptId) -> Path:
        """Return where an attempt's log is kept, once it was fetched."""
        folder = self.root / "trials" / str(attempt.number) / f"attempt-{attempt.attempt}"
        return folder / "log.txt"

    def fetch(self, attempt: AttemptId, pod: str) -> bool:
        """Fetch the log of a pod that is there; return whether that worked.

        Args:
            attempt: The attempt.
            pod: Name of its pod.

        Raises:
            ServerBusy: It was not asked for.
        """
        text = b""
        try:
            for n_lines in LOG_LINES:
                text = self.api.read_log(pod, tail_lines=n_lines, limit_bytes=LOG_BYTES)
                if len(text) < LOG_BYTES:
                    break
        except ServerBusy:
            raise
        except ExecutorUnavailable as error:
            logger.info("trial %s: its log cannot be read: %s", attempt, error.message)
            return False
        log = b"".join(written([text]))
        return not log or self._keep(attempt, log)  # none never replaces what was fetched before

    def begin_fetch(self, attempt: AttemptId, pod: str) -> Future[bool]:
        """Return the result of `fetch`, which is made now or beside others; for one thread."""
        call = partial(self.fetch, attempt, pod)
        return settled(call) if self.pool is None else self.pool.submit(call)

    def tail(self, attempt: AttemptId) -> str:
        """Return the end of a kept log without secrets; empty without one."""
        try:
            with self.path(attempt).open("rb") as log:
                tail = b"".join(self.redact.tail(log, LOG_TAIL_BYTES))
                return tail.decode(errors="replace")
        except FileNotFoundError:
            return ""

    def read_kept(self, attempt: AttemptId, offset: int, limit_bytes: int) -> bytes | None:
        """Return up to `limit_bytes` of a kept log from a byte offset; `None` without one.

        Raises:
            OSError: The disk does not answer.
        """
        try:
            with self.path(attempt).open("rb") as log:
                log.seek(offset)
                return log.read(limit_bytes)
        except FileNotFoundError:
            return None

    def read_live(self, pod: str, offset: int, limit_bytes: int) -> bytes:
        """Return the same of a pod's own log, which is read from its beginning.

        Raises:
            ExecutorUnavailable: The API server does not answer.
        """
        wanted = offset + limit_bytes
        limit = 2 * wanted
        while True:
            text = self.api.read_log(pod, limit_bytes=limit)
            found = b"".join(written([text]))
            if len(found) >= wanted or len(text) < limit:
                return found[offset:wanted]
            limit *= 4  # timestamps are longer than the lines

    def _keep(self, attempt: AttemptId, log: bytes) -> bool:
        path = self.path(attempt)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(f".{threading.get_ident()}.part")
            part.write_bytes(log)
            part.replace(path)
        except OSError as error:  # a full disk of the runner's is no trial's fault
            logger.warning("trial %s: its log cannot be kept: %s", attempt, error)
            return False
        return True

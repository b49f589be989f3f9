"""Logs of an executor that runs no script: there is nothing to read."""

from __future__ import annotations

from collections.abc import Iterator

from studyflow.executors.protocol import AttemptId
from studyflow.trial.attempt_files import AttemptFiles


class WithoutLogs:
    """An `AttemptLogs` of attempts that write nothing."""

    def files(self, attempt: AttemptId) -> AttemptFiles:  # noqa: ARG002
        """Return nothing: no file is written."""
        return AttemptFiles()

    def read_log(
        self,
        attempt: AttemptId,  # noqa: ARG002
        *,
        offset: int = 0,  # noqa: ARG002
        limit_bytes: int = 65536,  # noqa: ARG002
    ) -> bytes:
        """Return nothing: no script runs."""
        return b""

    def follow_log(self, attempt: AttemptId) -> Iterator[bytes]:
        """Return one empty piece: no script runs."""
        return iter((self.read_log(attempt),))

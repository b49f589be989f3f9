"""The end of a trial's log, for a person who wants to know why it failed."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from studyflow.context import StudyContext
from studyflow.errors import StudyflowError
from studyflow.executors.diagnosis import readable
from studyflow.study.ending import has_failed
from studyflow.trial.record import TrialRecord
from studyflow.trial.user_files import NotAFileError, open_file

N_LINES: Final = 10
"""How many lines are shown."""

TAIL_BYTES: Final = 64 * 1024
"""How much of a log's end is read for them."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LogTail:
    """The last lines of a trial's log, without secrets and control characters."""

    number: int
    """The trial."""
    lines: tuple[str, ...]


def last_failed(records: Sequence[TrialRecord]) -> TrialRecord | None:
    """Return the trial that failed last by its script or environment; `None` without one."""
    failed = [record for record in records if has_failed(record) and record.has_attempt]
    return max(failed, key=lambda r: (r.finished_at or 0.0, r.number), default=None)


def read_log_tail(context: StudyContext, record: TrialRecord) -> LogTail | None:
    """Return the last lines that a trial's newest attempt printed; `None` if there are none here.

    Args:
        context: The study.
        record: The trial.
    """
    try:
        path = context.attempt_files(record).log
        if path is None:
            return None
        with open_file(path) as file:
            content = b"".join(context.redactor.tail(file, TAIL_BYTES))
    except (OSError, NotAFileError, StudyflowError) as error:
        _log.info("trial=%d its log cannot be shown: %s", record.number, error)
        return None
    shown = (readable(line) for line in content.decode(errors="replace").splitlines())
    lines = tuple(deque((line for line in shown if line), maxlen=N_LINES))
    return LogTail(record.number, lines) if lines else None

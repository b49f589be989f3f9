"""Shows other runners that one is at work at its place. See `leases` for what they make of it."""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from optuna.storages import BaseStorage

from studyflow.study import storage_form as form
from studyflow.study.leases import BEAT_SECONDS
from studyflow.study.study import Study

_log = logging.getLogger(__name__)


@contextmanager
def heartbeat(
    study: Study, storage: BaseStorage, place: str, seconds: float = BEAT_SECONDS
) -> Iterator[None]:
    """Let a place beat, from a thread of its own: a suggestion may take longer than a lease.

    A beat that fails is left out. Whoever reads the same storage knows that it was away.

    Args:
        study: The study that is worked on.
        storage: Its storage, without patience: a beat that comes late says nothing any more.
        place: Where the runner's attempts are.
        seconds: Pause between two beats.
    """
    study_id = study.optuna_study._study_id
    is_over = threading.Event()

    def beat() -> None:
        for number in itertools.count():
            try:
                # The time is for people; other runners only see that the beat is another one.
                value = {"number": number, "process": os.getpid(), "at": time.time()}
                storage.set_study_user_attr(study_id, f"{form.BEAT}{place}", value)
            except Exception as error:  # noqa: BLE001 - the loop meets the same failure and says so
                _log.debug("A beat failed: %s", error)
            if is_over.wait(seconds):
                return

    # Not waited for at the end: a database that vanished may hold it up for a minute.
    threading.Thread(target=beat, name="heartbeat", daemon=True).start()
    try:
        yield
    finally:
        is_over.set()

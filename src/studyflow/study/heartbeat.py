"""Sends heartbeats: they show other runners that one is at work at its site. See `leases`."""

from __future__ import annotations

import itertools
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from optuna.storages import BaseStorage

from studyflow.study import storage_form as form
from studyflow.study.leases import BEAT_SECONDS
from studyflow.study.study import Study

_log = logging.getLogger(__name__)

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
"""Where Linux tells which start of which machine this is."""

LAST_BEAT_SECONDS: Final = 1.0
"""How long a runner that ends waits for its last heartbeat."""


def this_machine() -> str:
    """Return what no other running machine is called, whatever its host name; empty if unknown."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def this_runner() -> dict[str, Any]:
    """Return what identifies this process among all that send heartbeats, also at the same site."""
    return {"host": socket.gethostname(), "process": os.getpid(), "machine": this_machine()}


def is_from(beat: Mapping[str, Any], runner: Mapping[str, Any]) -> bool:
    """Return whether a heartbeat is a certain runner's."""
    return all(beat.get(name) == value for name, value in runner.items())


@contextmanager
def heartbeat(
    study: Study, storage: BaseStorage, site: str, seconds: float = BEAT_SECONDS
) -> Iterator[None]:
    """Send heartbeats for a site, from a thread: a suggestion may take longer than a lease.

    A heartbeat that fails is skipped: other runners notice by themselves that the storage was away.
    The last heartbeat says that it is the last.

    Args:
        study: The study that is worked on.
        storage: Its storage, without patience: a late heartbeat says nothing any more.
        site: Where the runner's attempts are.
        seconds: Pause between two heartbeats.
    """
    study_id = study.optuna_study._study_id
    is_over = threading.Event()
    who = this_runner()

    def beat() -> None:
        is_last = False
        for number in itertools.count():
            try:
                # The time is for people; other runners only see that the heartbeat has changed.
                value = {"number": number, "at": time.time(), **who, "is_last": is_last}
                storage.set_study_user_attr(study_id, f"{form.BEAT}{site}", value)
            except Exception as error:  # noqa: BLE001 - the loop meets the same failure and says so
                _log.debug("A heartbeat failed: %s", error)
            if is_last:
                return
            is_last = is_over.wait(seconds)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        # Not for long: a database that vanished may hold it up for a minute.
        thread.join(LAST_BEAT_SECONDS)

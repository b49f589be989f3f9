"""Prefect's temporary server, where no other is configured."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from contextvars import copy_context

from studyflow.errors import PrefectError
from studyflow.interrupt import leaving_at_once
from studyflow.orchestration.environment import is_embedded
from studyflow.orchestration.orphaned_servers import STARTED_BY
from studyflow.orchestration.outages import server_url
from studyflow.settings import Settings


def start_embedded_server(settings: Settings) -> None:
    """Start Prefect's temporary server, unless another one is configured.

    Prefect would start it by itself, and as part of the terminal's process group: Ctrl-C would end
    it first, and the flow would wait minutes for a server that does not come back. Started by a
    thread that blocks SIGINT, it blocks it too. It ends when Python does, after Prefect's threads
    have sent it the last log lines.

    Raises:
        PrefectError: It did not start.
    """
    if not is_embedded(settings) or server_url() is not None:
        return
    with leaving_at_once():
        from prefect.server.api.server import SubprocessASGIServer  # takes seconds to import

    server = SubprocessASGIServer()
    os.environ[STARTED_BY] = str(os.getpid())  # the server gets a copy of the environment
    with ThreadPoolExecutor(1, initializer=_block_interrupts) as starter:
        start = starter.submit(copy_context().run, server.start)
        with ExitStack() as interrupted:
            interrupted.callback(server.stop)  # so that the thread does not wait for it any longer
            wait([start])
            interrupted.pop_all()
        try:
            start.result()
        except RuntimeError as error:
            raise PrefectError(
                f"Prefect's temporary server did not start: {error}",
                hint="is the machine very busy? Run it again, or without Prefect: studyflow run.",
            ) from error


def _block_interrupts() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})

"""What a flow does while Prefect's server is away.

The study goes on: nothing of it depends on Prefect. What the page misses, Prefect's own client
sends when the server is back, all but log lines older than a minute. Two things are left to do
here: to say it once instead of once for each event, and not to end before the page can learn how.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NoReturn, cast

import httpx
from prefect.settings import PREFECT_API_URL

from studyflow.cli import exits
from studyflow.errors import StudyflowError
from studyflow.interrupt import Terminated

PATIENCE_SECONDS: Final = 600.0
"""How long a finished study waits for the server, to show there how it ended."""

LOOK_SECONDS: Final = 2.0
"""Pause between two looks whether the server is back."""

ANSWER_SECONDS: Final = 5.0
"""How long one look may take."""


INTERRUPTED: Final = "Interrupted; finished trials are kept. Run it again to go on."


class ServerUnavailable(StudyflowError):
    """Prefect's server does not answer."""

    retryable = True


_REPEATED: Final = {
    "prefect.events.clients": "Unable to connect to",
    "prefect._internal.concurrency": "Service %r failed to process",
}
"""What Prefect logs for every event that it cannot send, and how that begins."""


def quiet_outages() -> None:
    """Leave out what Prefect says anew for each event and each batch of log lines."""
    for name in _REPEATED:
        logging.getLogger(name).addFilter(_is_news)
    # Its log handler writes to the terminal by itself, unless handlers keep quiet about failures.
    logging.raiseExceptions = False


def _is_news(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_REPEATED[record.name])


def server_url() -> str | None:
    """Return the address of Prefect's server; `None` where each flow starts one of its own."""
    return cast("str | None", PREFECT_API_URL.value())


def is_away(url: str | None) -> bool:
    """Return whether a server does not answer; one that refuses is there."""
    if url is None:
        return False
    try:
        httpx.get(f"{url.rstrip('/')}/health", timeout=ANSWER_SECONDS)
    except httpx.TransportError:
        return True
    return False


def check_server() -> None:
    """Return if Prefect's server answers.

    Raises:
        ServerUnavailable: It does not.
    """
    url = server_url()
    if is_away(url):
        raise ServerUnavailable(
            f"Prefect's server {url} does not answer.",
            hint="start it, or unset PREFECT_API_URL to use one for this run alone, or run without "
            "Prefect: studyflow run.",
        )


def wait_for_server(
    say: Callable[[str], object],
    patience_seconds: float = PATIENCE_SECONDS,
    *,
    away: Callable[[], bool] = lambda: is_away(server_url()),
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> bool:
    """Wait until Prefect's server answers; return whether it does.

    Args:
        say: Told in a sentence that it is waited for, and what came of it.
        patience_seconds: How long to wait.
        away: Looks once.
        clock: Seconds, monotonic.
        sleep: Waits for seconds.
    """
    if not away():
        return True
    began = clock()
    say(
        "The study is done. Prefect's server does not answer; waiting for it up to "
        f"{patience_seconds / 60:.0f} min to show this on its page."
    )
    while clock() - began < patience_seconds:
        sleep(LOOK_SECONDS)
        if not away():
            say(f"Prefect's server is back after {clock() - began:.0f} s.")
            return True
    return False


_is_script = False


def this_is_a_script() -> None:
    """Note that this process runs a flow from the command line, and nothing else."""
    global _is_script
    _is_script = True


@contextmanager
def ending_in_time() -> Iterator[None]:
    """End a script that was interrupted while Prefect's server is away.

    The study is closed then. Prefect would try for minutes to send how its flow run ended. A flow
    that a worker runs is ended by Prefect itself.
    """
    try:
        yield
    except (KeyboardInterrupt, Terminated):
        if _is_script and is_away(server_url()):
            print(INTERRUPTED, file=sys.stderr)  # noqa: T201
            print(  # noqa: T201
                "Prefect's server does not answer, and its page does not show the end.",
                file=sys.stderr,
            )
            end_now(exits.INTERRUPTED)
        raise


def exit_now(code: int) -> NoReturn:
    """End the process; without a server, not by way of all that could not be sent.

    Prefect tries each event once more at the end, some seconds for every one.
    """
    if is_away(server_url()):
        end_now(code)
    sys.exit(code)


def end_now(code: int) -> NoReturn:
    """End the process without what Python and libraries do at its end."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

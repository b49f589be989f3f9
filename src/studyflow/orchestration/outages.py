"""What a flow does while Prefect's server is away.

The study goes on: nothing of it depends on Prefect. Prefect's own client sends what the page misses
when the server is back, all but log lines older than a minute. Two things are left to do here: say
it once instead of once for each event, and wait with the end until the page can show it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final, cast

import httpx
from prefect.settings import PREFECT_API_URL

from studyflow.errors import PrefectUnavailable

PATIENCE_SECONDS: Final = 600.0
"""How long a finished study waits for the server, to show there how it ended."""

PROBE_SECONDS: Final = 2.0
"""Pause between two probes whether the server is back."""

ANSWER_SECONDS: Final = 5.0
"""How long one probe may take."""

REPEATED: Final = {
    "prefect.events.clients": "_log_connection_error",
    "prefect._internal.concurrency": "_main_loop",
}
"""What Prefect logs for every event that it cannot send: the logger, and the function that logs."""


def quiet_outages() -> None:
    """Leave out what Prefect repeats for each event and each batch of log lines."""
    for name in REPEATED:
        logging.getLogger(name).addFilter(_is_news)
    # Its log handler writes to the terminal by itself, unless handlers keep quiet about failures.
    logging.raiseExceptions = False


@contextmanager
def protected(on_failure: Callable[[Exception], object]) -> Iterator[None]:
    """Do something with Prefect in a `with` block that no study may fail by.

    Args:
        on_failure: Is told what is raised there.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001 - protects the study from Prefect and its pages
        on_failure(error)


def tolerated(
    logger: logging.Logger | logging.LoggerAdapter[Any], what: str
) -> AbstractContextManager[None]:
    """Return a `with` block for something with Prefect that no study may fail by.

    Args:
        logger: Is told what is raised there.
        what: Says what has failed then, without a full stop.
    """
    return protected(lambda error: logger.warning("%s: %s", what, error))


def _is_news(record: logging.LogRecord) -> bool:
    is_repeated = record.funcName == REPEATED[record.name]
    return not (is_repeated and record.levelno >= logging.WARNING)


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


def is_server_away() -> bool:
    """Return whether the configured server does not answer; `False` where none is configured."""
    return is_away(server_url())


def check_server() -> None:
    """Return if Prefect's server answers.

    Raises:
        PrefectUnavailable: It does not.
    """
    if is_server_away():
        raise PrefectUnavailable(
            f"Prefect's server {server_url()} does not answer.",
            hint="start it, or unset PREFECT_API_URL to use one for this run alone, or run without "
            "Prefect: studyflow run.",
        )


def wait_for_server(
    say: Callable[[str], object],
    patience_seconds: float = PATIENCE_SECONDS,
    *,
    is_away: Callable[[], bool] = is_server_away,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> bool:
    """Wait until Prefect's server answers; return whether it does.

    Args:
        say: Is told, in a sentence, that the study waits, and that the server is back.
        patience_seconds: How long to wait.
        is_away: Probes the server once.
        clock: Seconds, monotonic.
        sleep: Waits for seconds.
    """
    if not is_away():
        return True
    began = clock()
    say(
        "The study is done. Prefect's server does not answer; waiting for it up to "
        f"{patience_seconds / 60:.0f} min to show this on its page."
    )
    while clock() - began < patience_seconds:
        sleep(PROBE_SECONDS)
        if not is_away():
            say(f"Prefect's server is back after {clock() - began:.0f} s.")
            return True
    return False

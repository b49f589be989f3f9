"""A flow that a person runs from the command line: its errors, its exit code, its end."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import httpx
from prefect.client.schemas.objects import State
from prefect.exceptions import Pause

from studyflow.cli import exits
from studyflow.cli.flows import PROGRAM
from studyflow.errors import StudyflowError, describe_os_error
from studyflow.interrupt import INTERRUPTED, Terminated, raise_on_sigterm
from studyflow.orchestration.embedded_server import start_embedded_server
from studyflow.orchestration.orphaned_servers import end_orphaned_servers
from studyflow.orchestration.outages import check_server, is_server_away, quiet_outages
from studyflow.orchestration.screen import Screen, current_screen
from studyflow.settings import Settings


def command_line(description: str) -> argparse.ArgumentParser:
    """Return an empty parser of a flow's arguments, which calls it as the person did."""
    return argparse.ArgumentParser(prog=os.environ.pop(PROGRAM, None), description=description)


def run_script(check: Callable[[], object], run: Callable[[], State[Any]], screen: Screen) -> int:
    """Run a flow from the command line; return the exit code.

    Args:
        check: Raises for a file or a flag that is wrong, before a server is started for it.
        run: Runs the flow.
        screen: Its terminal.
    """
    try:
        raise_on_sigterm()
        check()
        settings = Settings.resolve()
        end_orphaned_servers(settings)
        start_embedded_server(settings)
        check_server()
        quiet_outages()
        with screen.in_use():
            state = run()
        if screen.error is not None:
            raise screen.error
    except httpx.TransportError as error:
        _say(f"Prefect's server does not answer ({error}), and its page does not show the end.")
        return screen.exit_code() if screen.has_printed else exits.UNAVAILABLE
    except StudyflowError as error:
        if not screen.has_printed:  # a study's result says how it ended
            _say(str(error))
        return exits.exit_code(error)
    except OSError as error:
        if not error.strerror:
            raise
        _say(describe_os_error(error))
        return exits.UNAVAILABLE
    except Pause:
        _say("Paused on its page. Run it again to continue.")
        return exits.INTERRUPTED
    except (KeyboardInterrupt, Terminated):
        _say(INTERRUPTED)
        return exits.INTERRUPTED
    # Failed for another reason: a fault of ours, of which Prefect has logged the stack trace.
    return 0 if state.is_completed() else exits.FAILED


@contextmanager
def ending_in_time() -> Iterator[None]:
    """End a script that was interrupted while Prefect's server is away.

    The study is closed then. Prefect would try for minutes to send how its flow run ended. A flow
    that a worker runs is ended by Prefect itself.
    """
    try:
        yield
    except (KeyboardInterrupt, Terminated):
        if current_screen().is_script and is_server_away():
            _say(INTERRUPTED)
            _say("Prefect's server does not answer, and its page does not show the end.")
            end_now(exits.INTERRUPTED)
        raise


def exit_now(code: int) -> NoReturn:
    """End the process; without waiting for a server that is away.

    Prefect tries each event once more at the end, some seconds for every one.
    """
    if is_server_away():
        end_now(code)
    sys.exit(code)


def end_now(code: int) -> NoReturn:
    """End the process without what Python and libraries do at its end."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _say(line: str) -> None:
    print(line, file=sys.stderr)  # noqa: T201

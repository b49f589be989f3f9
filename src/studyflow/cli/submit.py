"""`studyflow submit` and `attach`: a study that a deployment of a Prefect server elsewhere runs."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TextIO

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from studyflow.cli import exits
from studyflow.cli.overriding import override_options
from studyflow.cli.studies import is_study_file
from studyflow.deployments.remote import RemoteProgress, RemoteRun, RemoteServer, as_run
from studyflow.diagnostics.probes.prefect import newest_runs, own_runs, why_away
from studyflow.errors import PrefectUnavailable, StudyNotFound
from studyflow.interrupt import Terminated
from studyflow.servers.prefect import prefect_api
from studyflow.settings import Settings
from studyflow.spec import StudySpec
from studyflow.spec.overrides import override

LOOK_SECONDS: Final = 2.0
"""Pause between two looks at a run: each is four requests."""

MAX_RUNNING_SHOWN: Final = 8
"""Running trials that are named; the others are counted."""

_LINK: Final = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<address>[^)\s]+)\)")


@click.command()
@click.argument("study", type=click.Path(path_type=Path))
@click.option(
    "--deployment",
    default="run-study/run-study",
    show_default=True,
    help="Deployment whose worker runs it; `make deploy` makes the default one.",
)
@click.option("--detach", is_flag=True, help="Return at once; `studyflow attach` shows it later.")
@click.option("--n-trials", type=click.IntRange(min=1), help="Finish this many trials in all.")
@click.option("--max-parallel-trials", type=click.IntRange(min=1), help="Trials that run at once.")
@override_options
def submit(study: Path, deployment: str, detach: bool, **given: Any) -> None:
    """Have a cluster's Prefect run a study file, and show how it goes.

    The file's text is sent, with these options as parameters of one run. Ctrl-C leaves the run
    going. Exit code 1: it ended without a result, or was cancelled. 2: the file is wrong, and
    nothing was sent. 3: Prefect's server does not answer.
    """
    spec, _ = override(StudySpec.from_yaml(study), **given)
    server = _server()
    text = f"{study.read_text(encoding='utf-8').rstrip()}\n"  # a line's end makes it text
    changes = {name: value for name, value in given.items() if value is not None}
    parameters = {"study": text, "each_run": "finish", **changes}
    run = server.submit(deployment, parameters, tags=("studyflow",))
    click.echo(f"submitted {spec.name}: {server.page_of(run)}")
    if detach:
        click.echo(f"studyflow attach {run.id} shows how it goes")
        return
    _follow(server, run, spec.name)


@click.command()
@click.argument("study")
def attach(study: str) -> None:
    """Show how the newest flow run of a study (file, name or the run's id) goes.

    Exit codes are those of `studyflow submit`.
    """
    server = _server()
    run = _find(server, study)
    click.echo(f"{run.name}: {server.page_of(run)}")
    _follow(server, run, study)


def _api() -> str:
    api = prefect_api(Settings.resolve())
    if api is None:
        raise PrefectUnavailable(
            "No Prefect server is known to send a study to.",
            hint="kubectl -n studyflow port-forward svc/prefect 4200 &, and set "
            "PREFECT_API_URL=http://localhost:4200/api and PREFECT_API_AUTH_STRING.",
        )
    return api


def _server() -> RemoteServer:
    return RemoteServer(_api(), os.environ.get("PREFECT_UI_URL"))


def _find(server: RemoteServer, study: str) -> RemoteRun:
    """Return the newest run of a study, or the one of an id.

    Raises:
        StudyNotFound: There is none.
        PrefectUnavailable: The server does not answer.
    """
    if re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", study):
        return server.read(study)
    name = StudySpec.from_yaml(study).name if is_study_file(study) else study
    api = _api()
    try:
        own = own_runs(newest_runs(api, time.time()), name, study)
    except (OSError, ValueError) as error:
        raise PrefectUnavailable.because(why_away(api, error)) from error
    if not own:
        raise StudyNotFound(
            f"Prefect's server knows no run of {name!r} among its newest.",
            hint="studyflow submit FILE starts one; a flow run's id finds an older one.",
        )
    return as_run(own[0])


def _follow(server: RemoteServer, run: RemoteRun, called: str) -> None:
    """Show a run until it has ended, and leave with the exit code that says how it did."""
    view = _View(sys.stderr)
    try:
        with view.shown():
            ended = Follower(server, run, view.say, view.show).to_end()
    except (KeyboardInterrupt, Terminated):
        click.echo(
            f"\nThe run goes on. To see it again: studyflow attach {run.id}\n"
            f"To cancel it: Cancel on its page, {server.page_of(run)}",
            err=True,
        )
        click.get_current_context().exit(exits.INTERRUPTED)
    for text in server.links(run.id):
        if (link := _LINK.fullmatch(text)) is not None:
            click.echo(f"  {link['text']}  {link['address']}")
    message = f": {ended.message}" if ended.message else ""
    click.echo(f"{ended.name or called} {ended.state.lower()}{message}")
    sys.exit(0 if ended.kind == "COMPLETED" else exits.FAILED)


class Follower:
    """Reads how a run goes until it has ended, also while its server is away.

    Args:
        server: The server.
        run: The run.
        say: Takes a line of its log.
        show: Takes the run, its study's progress and the trials that run, after each look.
        sleep: Waits so many seconds.
    """

    def __init__(
        self,
        server: RemoteServer,
        run: RemoteRun,
        say: Callable[[str], object],
        show: Callable[[RemoteRun, RemoteProgress | None, tuple[str, ...]], object],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._server = server
        self._run = run
        self._say = say
        self._show = show
        self._sleep = sleep
        self._newest: datetime | None = None
        self._known: set[str] = set()
        """Ids of the lines that were said."""
        self._is_away = False

    def to_end(self) -> RemoteRun:
        """Return the run once it has ended and all lines of its log were said.

        Raises:
            PrefectError: The server refuses what is asked.
        """
        while True:
            try:
                run = self._server.read(self._run.id)
                self._say_lines()
                progress = self._server.progress(run.id)
                running = () if run.is_ended else self._server.running_trials(run.id)
            except PrefectUnavailable as error:
                if not self._is_away:
                    self._say(f"{error.message} The run goes on; waiting for the server.")
                self._is_away = True
            else:
                self._is_away = False
                self._show(run, progress, running)
                if run.is_ended:
                    self._sleep(LOOK_SECONDS)  # a run's last lines come after its end
                    self._say_lines()
                    return run
            self._sleep(LOOK_SECONDS)

    def _say_lines(self) -> None:
        for key, at, text in self._server.lines(self._run.id, self._newest):
            if key not in self._known:
                self._known.add(key)
                self._newest = at if self._newest is None else max(self._newest, at)
                self._say(text)


class _View:
    """A bar, what is spent and the running trials below the lines of the log, in a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream)
        self._is_live = stream.isatty()
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            console=self._console,
        )
        self._task = self._bar.add_task("waiting", total=100.0)
        self._below: tuple[str, ...] = ()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Give a context within which the view is on the screen."""
        if not self._is_live:
            yield
            return
        with Live(get_renderable=self.draw, console=self._console, transient=True):
            yield

    def say(self, line: str) -> None:
        """Print a line above the view."""
        self._console.print(escape(line), highlight=False, soft_wrap=True)

    def show(
        self, run: RemoteRun, progress: RemoteProgress | None, running: tuple[str, ...]
    ) -> None:
        """Redraw the bar and what is below it."""
        percent = 0.0 if progress is None else progress.percent
        state = f"{escape(run.name)} ({escape(run.state.lower())})"
        self._bar.update(self._task, description=state, completed=percent)
        below = [progress.description] if progress is not None else []
        if run.is_waiting and run.message:
            below.append(run.message)
        if running:
            more = len(running) - MAX_RUNNING_SHOWN
            names = ", ".join(running[:MAX_RUNNING_SHOWN])
            below.append(f"running: {names}{f' and {more} more' if more > 0 else ''}")
        self._below = tuple(below)

    def draw(self) -> RenderableType:
        """Return the view as it is now."""
        return Group(self._bar, *(f"  {escape(text)}" for text in self._below))

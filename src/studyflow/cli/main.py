"""The command group: shared options, exit codes, and how errors reach a person."""

from __future__ import annotations

import importlib
import io
import logging
import sys
from typing import Any, Final

import click

from studyflow import __version__
from studyflow.cli import exits
from studyflow.errors import MissingExtra, StudyflowError, describe_os_error
from studyflow.interrupt import INTERRUPTED, Terminated, leaving_at_once, raise_on_sigterm

_MODULES: Final = {
    "best": "show",
    "check": "check",
    "compare": "compare",
    "deploy": "deploy",
    "doctor": "doctor",
    "explain": "explain",
    "import": "imports",
    "logs": "pods",
    "pause": "pause",
    "plan": "plan",
    "render": "pods",
    "report": "show",
    "resume": "pause",
    "retrain": "retrain",
    "run": "run",
    "schema": "check",
    "status": "show",
    "sync": "sync",
    "trials": "show",
    "ui": "servers",
    "verify": "verify",
}
"""The commands, and the modules here that have them."""


class _Commands(click.Group):
    """Commands that are imported when they are asked for: some need what others do without.

    Turns errors into one line and an exit code; a stack trace only with --debug.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return sorted(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _MODULES:
            return None
        try:
            module = importlib.import_module(f"studyflow.cli.{_MODULES[cmd_name]}")
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("studyflow"):
                raise
            # The base install, as in a trial image, checks study files and runs none.
            return _unavailable(cmd_name)
        # `import` is Python's own word.
        found: click.Command = getattr(module, "import_" if cmd_name == "import" else cmd_name)
        return found

    def main(self, *args: Any, **kwargs: Any) -> Any:
        with leaving_at_once():  # until a command begins; click would say "Aborted!", and end by 1
            return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, Terminated):
            click.echo(INTERRUPTED, err=True)
            ctx.exit(exits.INTERRUPTED)
        except StudyflowError as error:
            if ctx.params.get("debug"):
                raise
            click.echo(str(error), err=True)
            ctx.exit(exits.exit_code(error))
        except OSError as error:
            if ctx.params.get("debug") or isinstance(error, BrokenPipeError) or not error.strerror:
                raise
            click.echo(describe_os_error(error), err=True)
            ctx.exit(exits.UNAVAILABLE)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@click.option("--debug", is_flag=True, help="Show stack traces, and log to standard error.")
def main(debug: bool) -> None:
    """Tune hyperparameters: on this machine, or on a GPU cluster."""
    raise_on_sigterm()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # without UTF-8 no ★ is shown, and nothing fails
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    if not debug:
        # Migrations and clients tell their own stories at INFO; ours stays readable.
        logging.getLogger("alembic").setLevel(logging.WARNING)


def _unavailable(name: str) -> click.Command:
    def fail() -> None:
        raise MissingExtra(f"`studyflow {name}`", "study")

    return click.Command(
        name,
        callback=fail,
        help="Needs pip install 'studyflow[study]'.",
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )

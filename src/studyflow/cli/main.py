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


class _Commands(click.Group):
    """Turns errors into one line and an exit code; a stack trace only with --debug."""

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


_COMMANDS: Final = {
    "check": ("check", "schema"),
    "run": ("run",),
    "sync": ("sync",),
    "show": ("status", "best", "trials", "report"),
    "explain": ("explain",),
    "compare": ("compare",),
    "pods": ("render", "logs"),
    "retrain": ("retrain",),
    "imports": ("import_",),
    "plan": ("plan",),
    "doctor": ("doctor",),
    "servers": ("ui",),
    "deploy": ("deploy",),
    "verify": ("verify",),
    "pause": ("pause", "resume"),
}
"""The modules here and the commands that each one has."""


def _register() -> None:
    for module, names in _COMMANDS.items():
        try:
            found = importlib.import_module(f"studyflow.cli.{module}")
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("studyflow"):
                raise
            # The base install, as in a trial image, checks study files and runs none.
            for name in names:
                main.add_command(_unavailable(name.rstrip("_")))  # `import` is Python's own word
        else:
            for name in names:
                main.add_command(getattr(found, name))


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


_register()

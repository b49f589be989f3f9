"""The command group: shared options, exit codes, and how errors reach a person."""

from __future__ import annotations

import importlib
import importlib.util
import io
import logging
import sys
from typing import Any, Final

import click

from studyflow import __version__
from studyflow.cli import exits
from studyflow.errors import MissingExtra, StudyflowError, describe_os_error
from studyflow.interrupt import INTERRUPTED, Terminated, leaving_at_once, raise_on_sigterm

_COMMANDS: Final = {
    "attach": (
        "submit",
        "Show how the newest flow run of a study (file, name or the run's id) goes.",
    ),
    "backup": (
        "backups",
        "Write studies, MLflow's database and artifacts, and trials' files to one archive.",
    ),
    "best": ("show", "Print the best configuration of a study (file or name), as YAML."),
    "check": ("check", "Check a study file and print what would run."),
    "compare": ("compare", "Show two studies (files or names) of one metric side by side."),
    "deploy": (
        "deploy",
        "Make a study a deployment of Prefect's: by schedule, and by a form on its page.",
    ),
    "doctor": (
        "doctor",
        "Look whether a study (or the one of a file) can run here, and how to fix what is wrong.",
    ),
    "example": (
        "starting",
        "Copy an example into FOLDER, by default one of its name; without NAME, list them.",
    ),
    "explain": (
        "explain",
        "Say why a study (file or name) is stuck or slow, and what to do about it.",
    ),
    "flow": (
        "flows",
        "Run a flow as Prefect's worker does; `--help` after a flow's name lists its options.",
    ),
    "import": (
        "imports",
        "Import earlier results into a study, or an experiment of Katib as a study file.",
    ),
    "init": (
        "starting",
        "Write a commented study file, and a training script if there is none; replace nothing.",
    ),
    "logs": ("pods", "Print the log of a trial of a study (file or name), without secrets."),
    "pause": (
        "pause",
        "Pause a study (file or name): its running trials finish, and no other starts.",
    ),
    "plan": (
        "plan",
        "Print what running a study file would start, ask for and cost at most; start nothing.",
    ),
    "policy": (
        "pods",
        "Print the rules for trials' pods as a policy of the Kubernetes API server.",
    ),
    "render": (
        "pods",
        "Print the Kubernetes Job that a study file's first trial would become; start nothing.",
    ),
    "report": ("show", "Write the report of a study (file or name): one page, figures and tables."),
    "restore": (
        "backups",
        "Bring back what `studyflow backup` wrote; all runners have to be stopped.",
    ),
    "resume": ("pause", "Continue a paused study (file or name)."),
    "retrain": (
        "retrain",
        "Train the best configurations of a study (file or name) again, to tell luck from merit.",
    ),
    "run": ("run", "Run a study to its budget, or continue it."),
    "schema": (
        "check",
        "Print the JSON Schema of study files; editors complete and check from it.",
    ),
    "simulate": (
        "simulate",
        "Simulate a study by its real loop: how long, how many GPU-hours; start nothing.",
    ),
    "status": ("show", "Show how far a study (file or name), or every study, has come."),
    "submit": ("submit", "Have a cluster's Prefect run a study file, and show how it goes."),
    "sync": ("sync", "Send MLflow what it lacks of a study (file or name), or of all studies."),
    "trials": ("show", "List the trials of a study (file or name)."),
    "ui": (
        "servers",
        "Serve live pages of the studies on this machine (loopback) until Ctrl-C.",
    ),
    "verify": ("verify", "Check a study (file or name) against storage, executor and MLflow."),
}
"""The commands: the modules here that have them, and what each does, to be listed without them."""


_OF_BASE_INSTALL: Final = ("check", "starting")
"""The modules of the commands that need no extra."""

_NEEDS_STUDY: Final = "Needs pip install 'studyflow[study]'."


class _Commands(click.Group):
    """Commands that are imported when they are asked for: some need what others do without.

    Turns errors into one line and an exit code; a stack trace only with --debug.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module_name, _ = _COMMANDS[cmd_name]
        try:
            module = importlib.import_module(f"studyflow.cli.{module_name}")
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("studyflow"):
                raise
            # The base install, as in a trial image, checks study files and runs none.
            return _unavailable(cmd_name)
        # `import` is Python's own word.
        found: click.Command = getattr(module, "import_" if cmd_name == "import" else cmd_name)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them, which takes seconds."""
        names = self.list_commands(ctx)
        columns = formatter.width - 6 - max(map(len, names))
        with formatter.section("Commands"):
            formatter.write_dl([(name, _summary(name, columns)) for name in names])

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
            click.echo("\n".join((str(error), *getattr(error, "__notes__", ()))), err=True)
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


def _summary(name: str, columns: int) -> str:
    """Return what a command does, cut to one line as click does it."""
    module_name, text = _COMMANDS[name]
    if module_name not in _OF_BASE_INSTALL and importlib.util.find_spec("optuna") is None:
        text = _NEEDS_STUDY
    return click.Command(name, help=text).get_short_help_str(columns)


def _unavailable(name: str) -> click.Command:
    def fail() -> None:
        raise MissingExtra(f"`studyflow {name}`", "study")

    return click.Command(
        name,
        callback=fail,
        help=_NEEDS_STUDY,
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )

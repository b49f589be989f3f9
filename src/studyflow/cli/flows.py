"""`studyflow flow`: the flows, run from the command line; each takes the arguments of its file."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Final, NoReturn

import click

from studyflow.cli.shipped import flows_folder
from studyflow.errors import MissingExtra

FLOWS: Final = {
    "run-study": ("run_study.py", "Run a study under Prefect: each trial is a task run."),
    "retrain-best": (
        "retrain_best.py",
        "Train the best configurations of a study again; --run-study-first runs the study before.",
    ),
    "compare-samplers": (
        "compare_samplers.py",
        "Run a study under several samplers and seeds: which one suits it?",
    ),
}
"""The flows by name: the file of each, and what it does."""

PROGRAM: Final = "STUDYFLOW_PROGRAM"
"""Environment variable by which a flow's file learns how a person called it."""


class _Flows(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(FLOWS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        return _flow_command(cmd_name) if cmd_name in FLOWS else None


@click.group(cls=_Flows)
def flow() -> None:
    """Run a flow as Prefect's worker does; `--help` after a flow's name lists its options."""


def _flow_command(name: str) -> click.Command:
    def start(arguments: tuple[str, ...]) -> NoReturn:
        if importlib.util.find_spec("prefect") is None:
            raise MissingExtra(f"`studyflow flow {name}`", "prefect")
        path = str(flows_folder() / FLOWS[name][0])
        environment = {**os.environ, PROGRAM: f"studyflow flow {name}"}
        # In place of this process: signals reach the flow without a detour.
        os.execve(sys.executable, [sys.executable, path, *arguments], environment)  # noqa: S606

    return click.Command(
        name,
        callback=start,
        params=[click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED)],
        short_help=FLOWS[name][1],
        add_help_option=False,  # its file has one, with the flow's own options
        context_settings={"ignore_unknown_options": True},
    )

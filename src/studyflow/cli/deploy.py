"""`studyflow deploy`: a study that Prefect starts by itself, or from a form on its page."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, NoReturn, get_args

import click

from studyflow.cli.shipped import flows_folder
from studyflow.deployments.deployment import Deployment, OnCollision
from studyflow.deployments.runs import EachRun
from studyflow.servers.prefect import prefect_environment
from studyflow.settings import Settings
from studyflow.spec import SamplerName
from studyflow.trial.private_files import make_private_folder


@click.command()
@click.argument("study", type=click.Path(path_type=Path))
@click.option("--name", help="Name of the deployment; the study's by default.")
@click.option("--pool", help="Work pool whose worker starts the runs; `studyflow` by default.")
@click.option("--namespace", help="Kubernetes namespace of the trials; the pool's by default.")
@click.option("--serve", is_flag=True, help="Start the runs from this process, until Ctrl-C.")
@click.option("--cron", metavar="EXPRESSION", help='When to run, such as "0 3 * * *".')
@click.option("--interval", metavar="TIME", help="How often to run: 90 (seconds), 30m, 6h, 1d.")
@click.option(
    "--timezone", metavar="NAME", help="Of the schedule, such as Europe/Berlin; else UTC."
)
@click.option(
    "--each-run",
    type=click.Choice(get_args(EachRun)),
    default="continue",
    show_default=True,
    help="continue: so many trials more. fresh: a new study, named with the date. warm: a new "
    "study that takes over the last one's trials. finish: up to the budget, once.",
)
@click.option(
    "--on-collision",
    type=click.Choice(get_args(OnCollision)),
    default="skip",
    show_default=True,
    help="While the last run goes on, the next one is cancelled, waits, or runs beside it.",
)
@click.option(
    "--concurrency-limit",
    type=click.IntRange(min=1),
    help="Runs that may go at once before one collides; 1 by default.",
)
@click.option("--n-trials", type=click.IntRange(min=1), help="Trials of each run.")
@click.option("--max-parallel-trials", type=click.IntRange(min=1), help="Trials that run at once.")
@click.option(
    "--sampler",
    type=click.Choice(get_args(SamplerName)),
    help="Sampler of these runs; overrides the study file.",
)
@click.option(
    "--timeout-seconds",
    type=click.FloatRange(min=0, min_open=True),
    help="After this long, a run starts no further trial.",
)
@click.option(
    "--gpu-hours",
    type=click.FloatRange(min=0, min_open=True),
    help="GPU-hours that the study may cost in all, over all its runs.",
)
@click.option(
    "--tag", "tags", multiple=True, help="Tag of the deployment and its runs; repeatable."
)
@click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the studies, with --serve; STUDYFLOW_HOME, else .studyflow.",
)
def deploy(study: Path, tags: tuple[str, ...], home: Path | None, **given: Any) -> NoReturn:
    """Make a study a deployment of Prefect's: by schedule, and by a form on its page.

    Deploying it again under the same name changes it. Nothing is registered before everything is
    checked.
    """
    deployment = Deployment(study=str(study), tags=tags, **given)
    settings = Settings.resolve(home=home)
    embedded = prefect_environment(settings)
    if "PREFECT_HOME" in embedded:
        make_private_folder(settings.home)
        make_private_folder(Path(embedded["PREFECT_HOME"]))  # or Prefect warns
    environment = {**os.environ, **embedded, "STUDYFLOW_HOME": str(settings.home)}
    program = str(flows_folder() / "deploy.py")
    # In place of this process: signals reach the served runs without a detour.
    os.execve(sys.executable, [sys.executable, program, deployment.to_json()], environment)  # noqa: S606

"""`studyflow retrain`: the best configurations again, with other seeds."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from studyflow.cli import exits
from studyflow.cli.options import json_option, settings_options
from studyflow.cli.studies import is_study_file, load_study
from studyflow.settings import Settings


@click.command()
@click.argument("study")
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Configurations to train again.",
)
@click.option(
    "--repeats",
    type=click.IntRange(min=1, max=1000),
    default=5,
    show_default=True,
    help="Trainings of each configuration, each with another seed.",
)
@click.option(
    "--seed-parameter",
    metavar="NAME",
    help="Parameter that sets the script's seed; `seed` if the study has one.",
)
@click.option(
    "--max-parallel-trials", type=click.IntRange(min=1), help="Trials that run in parallel."
)
@click.option(
    "--artifact",
    metavar="PATH",
    help="Which artifact is the model; by default the one called model, or the only one.",
)
@click.option("--model", metavar="NAME", help="Name in MLflow's registry; the study's by default.")
@click.option(
    "--alias", default="champion", show_default=True, help="Alias that the registered version gets."
)
@click.option("--register/--no-register", default=True, help="Whether the model is registered.")
@json_option
@settings_options(with_executor=True)
def retrain(
    study: str,
    top: int,
    repeats: int,
    seed_parameter: str | None,
    max_parallel_trials: int | None,
    artifact: str | None,
    model: str | None,
    alias: str,
    register: bool,
    as_json: bool,
    settings: Settings,
) -> None:
    """Train the best configurations of a study (file or name) again, to tell luck from merit.

    Each is trained with the same few new seeds. The one with the best mean is chosen, and its model
    is registered in MLflow. Name the study file, so that the script beside it is found; a study
    that is named by its name runs from the working folder. The same command again trains nothing
    twice.
    """
    from rich.console import Console

    from studyflow.cli.results import print_retrain
    from studyflow.cli.views import make_view
    from studyflow.retrain import Registration, plan_retrain, results_table
    from studyflow.retrain import retrain as run_retrain
    from studyflow.runner import RunOptions

    plan = plan_retrain(
        load_study(study, settings),
        settings,
        top=top,
        repeats=repeats,
        seed_parameter=seed_parameter,
        max_parallel_trials=max_parallel_trials,
    )
    folder = Path(study).parent if is_study_file(study) else Path()
    view = make_view(plan.spec)
    with view.shown():
        result = run_retrain(
            plan,
            settings,
            view,
            RunOptions(folder.absolute()),
            registration=Registration(artifact, model, alias) if register else None,
        )
    if as_json:
        document = {
            "study": plan.spec.name,
            "seed_parameter": plan.seed_parameter,
            "configurations": results_table(result),
            "champion": None
            if result.champion is None
            else {"model": result.champion.name, "version": result.champion.version},
            "notes": list(result.notes),
        }
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        print_retrain(result, Console())
    is_well = result.best is not None and result.is_complete and result.problem is None
    sys.exit(0 if is_well else exits.FAILED)

"""`studyflow simulate`: a study in virtual time, before it runs or once more after it has."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, get_args

import click

from studyflow.cli.options import json_option, settings_options
from studyflow.cli.simulated import Forecasts, print_forecasts, print_replay
from studyflow.cli.studies import is_study_file, load_study
from studyflow.errors import StudyNotFound
from studyflow.reports import StudyData
from studyflow.reports.stored import stored_study
from studyflow.settings import Settings
from studyflow.simulation.clock import EPOCH
from studyflow.simulation.forecast import assume, forecast
from studyflow.simulation.quality import quality_of
from studyflow.simulation.remaining import remaining
from studyflow.simulation.replay import replay
from studyflow.spec import StudySpec
from studyflow.spec.models import PrunerName
from studyflow.trial.record import TrialRecord


class _Widths(click.ParamType[tuple[int, ...]]):
    """Numbers of trials at once, separated by commas."""

    name = "N[,N...]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            widths = tuple(dict.fromkeys(int(part) for part in str(value).split(",")))
        except ValueError:
            widths = ()
        if not widths or not all(1 <= width <= 10_000 for width in widths):
            self.fail(
                f"{value!r} names no numbers of trials from 1 to 10000. "
                "Hint: write one, or several such as 4,8,16.",
                param,
                ctx,
            )
        return widths


_POSITIVE = click.FloatRange(min=0, min_open=True, max=1e9)
_AMOUNT = click.FloatRange(min=0, max=1e9)


@click.command()
@click.argument("study")
@click.option(
    "--replay",
    "is_replay",
    is_flag=True,
    help="Take the trials of a finished study again, by their stored curves and times.",
)
@click.option(
    "--parallel", type=_Widths(), help="Trials at once; by default 4,8,16, or a replay's own."
)
@click.option("--gpu-hours", type=_POSITIVE, help="Limit of the study's GPU-hours (slot-hours).")
@click.option(
    "--pruner", type=click.Choice(get_args(PrunerName)), help="Replay: who stops trials early."
)
@click.option("--trial-seconds", type=_POSITIVE, help="Median of the time that a trial takes.")
@click.option("--spread", type=_AMOUNT, help="Standard deviation of that time's logarithm.")
@click.option("--pod-seconds", type=_AMOUNT, help="From a launch to its container's start.")
@click.option("--startup-seconds", type=_AMOUNT, help="From there to the training: a restart.")
@click.option("--losses-per-hour", type=_AMOUNT, help="Attempts lost per hour of a running one.")
@click.option(
    "--checkpoints",
    type=click.IntRange(0, 1000),
    default=0,
    show_default=True,
    help="Checkpoints of a trial, evenly over its time; 0 if a lost one begins anew.",
)
@click.option("--like", help="Study (file or name) whose results say what values trials reach.")
@click.option(
    "--repetitions",
    type=click.IntRange(1, 1000),
    default=20,
    show_default=True,
    help="How often each width is simulated.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31),
    default=0,
    show_default=True,
    help="Of the first repetition.",
)
@json_option
@settings_options()
def simulate(
    study: str,
    is_replay: bool,
    parallel: tuple[int, ...] | None,
    gpu_hours: float | None,
    as_json: bool,
    settings: Settings,
    **options: Any,
) -> None:
    """Simulate a study by its real loop: how long, how many GPU-hours; start nothing.

    Of a study (file or name), what is still to be run at several widths, with intervals that hold
    90 % of the repetitions. With --replay, the trials of a stored study under another pruner,
    width or limit, and what that would have saved.
    """
    _check_options(is_replay=is_replay, parallel=parallel, options=options)
    if is_replay:
        data = load_study(study, settings)
        pruner = options["pruner"]
        width = None if parallel is None else parallel[0]
        made = replay(
            data.spec,
            data.trials,
            pruner=None if pruner is None else _pruner(data.spec, pruner),
            parallel=width,
            gpu_hours=gpu_hours,
        )
        print_replay(made, data, as_json=as_json)
        return
    is_file = is_study_file(study)
    spec = StudySpec.from_yaml(Path(study)) if is_file else load_study(study, settings).spec
    widths = (4, 8, 16) if parallel is None else parallel
    _print_forecasts(spec, widths, gpu_hours, settings, options, as_json=as_json)


def _check_options(
    *, is_replay: bool, parallel: tuple[int, ...] | None, options: dict[str, Any]
) -> None:
    """Refuse options that say nothing of what is asked for."""
    of_time = ("trial_seconds", "spread", "pod_seconds", "startup_seconds")
    of_forecast = (*of_time, "losses_per_hour", "like")
    if is_replay and (given := [name for name in of_forecast if options[name] is not None]):
        shown = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise click.UsageError(f"{shown}: a replay takes that from the stored study.")
    if is_replay and parallel is not None and len(parallel) > 1:
        raise click.UsageError("--parallel: a replay has one width. Hint: replay once for each.")
    if not is_replay and options["pruner"] is not None:
        raise click.UsageError(
            "--pruner: a study that has not run has no curves to prune. "
            "Hint: --replay the trials of a study that has."
        )


def _pruner(spec: StudySpec, name: str) -> dict[str, Any]:
    """Return a pruner with the study file's arguments if it names the same one."""
    arguments = spec.pruner.arguments if spec.pruner.type == name else {}
    return {"type": name, **arguments}


def _print_forecasts(
    spec: StudySpec,
    widths: tuple[int, ...],
    gpu_hours: float | None,
    settings: Settings,
    options: dict[str, Any],
    *,
    as_json: bool,
) -> None:
    records, data = _known(spec, settings)
    left = remaining(spec, records, gpu_hours=gpu_hours, prices=settings.prices)
    assumed = assume(
        spec, records, trial_seconds=options["trial_seconds"], spread=options["spread"]
    )
    assumed = assumed.with_given(
        pod_seconds=options["pod_seconds"],
        startup_seconds=options["startup_seconds"],
        losses_per_hour=options["losses_per_hour"],
        n_checkpoints=options["checkpoints"],
    )
    explained = None
    if options["like"] is not None:
        quality, explained = quality_of(spec, load_study(options["like"], settings))
        assumed = assumed.with_quality(quality)
    made = [
        forecast(
            left,
            assumed,
            width,
            n_repetitions=options["repetitions"],
            seed=options["seed"],
            starts_at=EPOCH if left.budget.finish_by is None else time.time(),
            prices=settings.prices,
        )
        for width in widths
    ]
    has_gpus = spec.trial.resources.gpu > 0
    unit = data.statement.unit if data is not None else "GPU-hours" if has_gpus else "slot-hours"
    found = Forecasts(spec, left, assumed, tuple(made), unit, explained)
    print_forecasts(found, as_json=as_json)


def _known(spec: StudySpec, settings: Settings) -> tuple[tuple[TrialRecord, ...], StudyData | None]:
    try:
        data = stored_study(spec.name, settings, spec)
    except StudyNotFound:
        return (), None
    return data.trials, data

"""Draw the loss curves of a finished study of this folder, by iteration and by evaluation.

    python images/weights/compare.py [STUDY] [--output FILE]

Reads the trials from the study's storage and their curves from MLflow, so it makes no difference
whether they ran as processes or as pods. The picture becomes an artifact of the study's run too.
"""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from studyflow.context import StudyContext
from studyflow.reports import style
from studyflow.settings import Settings
from studyflow.storage import open_storage
from studyflow.study import find_study, load_records
from studyflow.trial.record import TrialState

HERE = Path(__file__).parent

Curve = Sequence[tuple[int, float]]
"""Steps, ascending, and the smallest loss so far."""

LOOKS = {
    "adam": ("Adam", "-"),
    "slsqp": ("SLSQP", "--"),
    "pso": ("particle swarm", ":"),
    "cmaes": ("CMA-ES", "-."),
    "annealing": ("annealing", (0, (5, 1, 1, 1, 1, 1))),
}
"""Name and line: told apart without colours too."""


def loss_at(curve: Curve, step: int) -> float:
    """Return the loss at a step: that of the last point up to there."""
    reached = [loss for at, loss in curve if at <= step]
    return reached[-1] if reached else math.inf


def steps_of(curves: Sequence[Curve], most: int = 300) -> list[int]:
    """Return where to draw: all steps of the curves, or so many of them, evenly by logarithm."""
    last = max(curve[-1][0] for curve in curves)
    if last <= most:
        return list(range(last + 1))
    return sorted({round(last ** (i / most)) for i in range(most + 1)})


def median_curve(curves: Sequence[Curve]) -> tuple[list[int], list[float]]:
    """Return steps, and the median loss at each of them, where there is one."""
    steps = steps_of(curves)
    losses = [statistics.median(loss_at(curve, step) for curve in curves) for step in steps]
    begun = next(i for i, loss in enumerate(losses) if math.isfinite(loss))
    return steps[begun:], losses[begun:]


def median_at(curves: Sequence[Curve], step: int) -> str:
    """Return the median loss at a step; a dash where a run had ended by then."""
    if any(curve[-1][0] < step for curve in curves):
        return "-"
    return f"{statistics.median(loss_at(curve, step) for curve in curves):.3g}"


def draw(
    by_iteration: Mapping[str, Sequence[Curve]], by_evaluation: Mapping[str, Sequence[Curve]]
) -> bytes:
    """Return the picture: the same runs by iteration and by evaluation, as a PNG file."""
    figure = style.new_figure(10.0, 4.6)
    n_starts = max(len(curves) for curves in by_iteration.values())
    style.set_title(
        figure,
        "One iteration is not one evaluation",
        f"Smallest loss so far: thin, of each of {n_starts} starting points; thick, their median",
    )
    axes = figure.subplots(1, 2, sharey=True)
    panels = {"iterations": by_iteration, "evaluations of the network": by_evaluation}
    for place, (title, curves) in zip(axes, panels.items(), strict=True):
        for colour, name in zip(style.SERIES, LOOKS, strict=False):
            if name not in curves:
                continue
            label, line = LOOKS[name]
            for curve in curves[name]:
                place.step(*zip(*curve, strict=True), where="post", color=colour, alpha=0.3, lw=0.7)
            place.plot(*median_curve(curves[name]), color=colour, ls=line, lw=2.2, label=label)
        place.set_yscale("log")
        place.set_xlabel(title, size=style.LABEL_SIZE, color=style.INK)
        style.dress(place)
    axes[1].set_xscale("log")
    axes[1].set_xlim(left=1)
    axes[0].set_ylabel("loss (mean squared error)", size=style.LABEL_SIZE, color=style.INK)
    style.legend(axes[1], loc="lower left")
    style.describe(figure, "Loss of five optimisers by iteration and by evaluation")
    return style.png(figure)


@click.command()
@click.argument("study", default="weights")
@click.option("--output", default=HERE / "curves.png", type=click.Path(path_type=Path))
def main(study: str, output: Path) -> None:
    """Draw the curves of STUDY and print its final losses."""
    settings = Settings.resolve()
    spec, records = load_records(find_study(study, open_storage(settings.storage_url)))
    done = [record for record in records if record.state is TrialState.COMPLETE]
    if spec is None or not done:
        raise click.ClickException(f"The study {study!r} has no complete trial yet.")
    tracker = StudyContext(spec, settings).tracker
    curves: dict[str, dict[str, list[Curve]]] = {"loss": {}, "loss_by_evaluation": {}}
    for metric, by_name in curves.items():
        for record in done:
            points = [(p.step, p.value) for p in tracker.read_points(record, metric)]
            if points:
                by_name.setdefault(str(record.params["optimizer"]), []).append(points)
    if not curves["loss"]:
        raise click.ClickException(
            f"The trials of {study!r} have no curves in MLflow at {tracker.uri} "
            "(studyflow sync brings them there)."
        )
    output.write_bytes(draw(curves["loss"], curves["loss_by_evaluation"]))
    attach(tracker.uri, next(r.run_id for r in done if r.run_id is not None), output)

    print("optimizer   best     median   worst     evaluations  median at 100  at 1000")
    for name in LOOKS:
        of_name = [record for record in done if record.params["optimizer"] == name]
        losses = sorted(record.metrics["loss"] for record in of_name)
        if losses:
            evaluations = statistics.median(record.metrics["evaluations"] for record in of_name)
            by_count = curves["loss_by_evaluation"][name]
            print(
                f"{name:10}  {losses[0]:<7.3g}  {statistics.median(losses):<7.3g}  "
                f"{losses[-1]:<8.3g}  {evaluations:<11.0f}  {median_at(by_count, 100):<13}  "
                f"{median_at(by_count, 1000)}"
            )
    print(output)


def attach(tracking_uri: str, child_run_id: str, picture: Path) -> None:
    """Make the picture an artifact of the run that stands for the study."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri)
    parent = client.get_run(child_run_id).data.tags["mlflow.parentRunId"]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "curves.png")
        copy.write_bytes(picture.read_bytes())
        client.log_artifact(parent, str(copy), "figures")


if __name__ == "__main__":
    main()

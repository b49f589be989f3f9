"""Say how well the data determine the parameters, and draw the fit.

    python images/epidemic/recover.py [--draws 40]

A parametric bootstrap: the best fit makes new reports with other noise, each is fitted again from
random starts, and the middle 90 % of what comes back is the interval of a parameter.
"""

from __future__ import annotations

import random
import statistics
from pathlib import Path
from typing import Any

import click
import numpy as np
from gradients import BOUNDS, NAMES, Array, CountedLoss, model
from make_data import N_DAYS, TRUTH, report
from matplotlib.axes import Axes
from scipy.optimize import minimize

from studyflow.reports import style

HERE = Path(__file__).parent
TITLES = {
    "r0": "R0",
    "fatality": "fatality",
    "k": "k",
    "midpoint": "L (days)",
    "r_end": "R_end",
    "recovery": "recovery (days)",
    "incubation": "incubation (days)",
}


def best_fit(data: Any, rng: np.random.Generator, starts: int) -> tuple[float, Array]:
    """Return the smallest loss of L-BFGS-B from random starts, and its parameters.

    Every parameter is scaled to [0, 1]: a step of one is little for L and all there is for k.
    """
    low, high = np.array(BOUNDS).T
    results = [
        minimize(
            lambda unit: CountedLoss(data)(low + unit * (high - low)),
            rng.uniform(size=len(BOUNDS)),
            method="L-BFGS-B",
            jac="cs",
            bounds=[(0.0, 1.0)] * len(BOUNDS),
            options={"ftol": 1e-12, "gtol": 1e-8, "maxiter": 300},
        )
        for _ in range(starts)
    ]
    best = min(results, key=lambda result: float(result.fun))
    return float(best.fun), low + best.x * (high - low)


def redraw(parameters: Array, seed: int) -> Any:
    """Return reports of an epidemic with these parameters, with their own noise."""
    course = model.simulate(parameters.tolist(), N_DAYS)
    rng = random.Random(seed)
    return model.Course(
        [float(n) for n in report(course.cases, rng)],
        [float(n) for n in report(course.deaths, rng)],
    )


def interval(values: Array) -> tuple[float, float]:
    """Return the middle 90 %."""
    low, high = np.quantile(values, [0.05, 0.95])
    return float(low), float(high)


def draw(data: Any, fitted: Array, redrawn: Array) -> bytes:
    """Return the picture: data and fit, and each parameter with its interval, as a PNG file."""
    figure = style.new_figure(10.0, 4.4)
    style.set_title(
        figure,
        "The curve is found again, most of its parameters are not",
        "Left: reports and fit; the shaded days count. Right: bounds (line), fits to "
        f"{len(redrawn)} redraws of the noise (dots), their middle 90 % (bar), truth (diamond)",
    )
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    course = model.simulate(fitted.tolist(), N_DAYS)
    left.axvspan(N_DAYS - model.FITTED_DAYS - 0.5, N_DAYS - 0.5, color=style.GRID, alpha=0.5)
    for colour, marker, name in ((style.COMPLETE, "o", "cases"), (style.BEST, "^", "deaths")):
        days = range(N_DAYS)
        reported, fit = getattr(data, name), getattr(course, name)
        left.plot(
            days, reported, marker, ms=3.5, color=colour, alpha=0.6, label=f"{name}, reported"
        )
        left.plot(days, fit, color=colour, lw=1.8, label=f"{name}, fit")
    left.set_yscale("symlog", linthresh=1)
    left.set_ylim(bottom=0)
    left.set_xlabel("day", size=style.LABEL_SIZE, color=style.INK)
    left.set_ylabel("people, cumulative", size=style.LABEL_SIZE, color=style.INK)
    style.dress(left)
    style.legend(left, loc="lower right")
    draw_intervals(right, redrawn)
    style.describe(figure, "Fit of the epidemic and the intervals of its parameters")
    return style.png(figure)


def draw_intervals(axes: Axes, redrawn: Array) -> None:
    """Draw one line for each parameter, from its lower to its upper bound."""
    for row, (name, (low, high)) in enumerate(zip(NAMES, BOUNDS, strict=True)):
        y = len(NAMES) - 1 - row
        values = (redrawn[:, row] - low) / (high - low)
        axes.plot([0, 1], [y, y], color=style.GRID, lw=2, zorder=1)
        axes.plot(interval(values), [y, y], color=style.COMPLETE, lw=6, alpha=0.35, zorder=2)
        axes.plot(values, np.full(len(values), y), ".", color=style.COMPLETE, ms=4, zorder=3)
        true = (TRUTH[name] - low) / (high - low)
        axes.plot([true], [y], "D", color=style.BEST, ms=7, mec=style.PAPER, zorder=4)
    axes.set_yticks(range(len(NAMES)), [TITLES[name] for name in reversed(NAMES)])
    axes.set_xticks([0, 1], ["lower bound", "upper bound"])
    style.dress(axes, grid="none")


@click.command()
@click.option("--draws", default=40, help="Redraws of the noise.")
@click.option("--starts", default=5, help="Random starts of each fit.")
@click.option("--output", default=HERE / "recovered.png", type=click.Path(path_type=Path))
def main(draws: int, starts: int, output: Path) -> None:
    """Print every parameter with its interval and draw them."""
    data = model.load_data()
    rng = np.random.default_rng(0)
    value, fitted = best_fit(data, rng, 4 * starts)
    redrawn = np.array([best_fit(redraw(fitted, 1 + i), rng, starts)[1] for i in range(draws)])
    at_truth = model.loss(list(TRUTH.values()), data)
    print(f"loss: {value:.3g} fitted, {at_truth:.3g} at the true parameters")
    print("parameter   truth  fitted  median  90 % interval")
    for i, name in enumerate(NAMES):
        low, high = interval(redrawn[:, i])
        middle = statistics.median(redrawn[:, i].tolist())
        print(
            f"{name:10}  {TRUTH[name]:<5g}  {fitted[i]:<6.3g}  {middle:<6.3g}  "
            f"{low:.3g} to {high:.3g}"
        )
    output.write_bytes(draw(data, fitted, redrawn))
    print(output)


if __name__ == "__main__":
    main()

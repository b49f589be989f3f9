"""How often the 90 % interval of a final value holds it, and what a forecast costs.

    python -m benchmarks.curves.calibration --half report
    python -m benchmarks.curves.calibration --half tune --seeds 9 --families power late
    python -m benchmarks.curves.calibration --decision

Each family is drawn at several moments: 20, 40 or 60 trials, of which 3, 5 or 10 have gone to their
end, of 27 or 50 steps. Trials at their first report count like those near their end.
"""

from __future__ import annotations

import argparse
import os
import time

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np  # noqa: E402
from benchmarks.curves.snapshots import DIMENSION, FAMILIES, Snapshot, draw_snapshot  # noqa: E402

from studyflow.samplers.curves.decisions import Slots, judge_running  # noqa: E402
from studyflow.samplers.curves.forecast import forecast  # noqa: E402
from studyflow.samplers.curves.model import CurveModel, model_of  # noqa: E402
from studyflow.samplers.curves.reports import LOST, LearningCurves, read_curves  # noqa: E402


def curves_of(snapshot: Snapshot) -> LearningCurves:
    """Return what the model sees of a snapshot; smaller values are better."""
    steps = snapshot.curves.shape[1]
    return read_curves(
        snapshot.features,
        np.arange(DIMENSION),
        [
            {step: float(curve[step - 1]) for step in range(1, known + 1)}
            for curve, known in zip(snapshot.curves, snapshot.reported, strict=True)
        ],
        [
            float(curve[-1]) if known == steps else None
            for curve, known in zip(snapshot.curves, snapshot.reported, strict=True)
        ],
        steps=steps,
        maximize=False,
    )


def is_held(snapshot: Snapshot, model: CurveModel) -> tuple[list[bool], list[float], list[float]]:
    """Return for each forecast whether its 90 % interval holds the end, its error and its width.

    An end that is lost is held by an interval without a lower end. Error and width are on the
    model's scale, of ends that are not lost.
    """
    ahead = forecast(model)
    low, high = ahead.quantile(0.05), ahead.quantile(0.95)
    held, errors, deviations = [], [], []
    scale = model.curves.scale
    for i, trial in enumerate(ahead.trials):
        end = -float(snapshot.curves[trial, -1])
        is_lost = not np.isfinite(end) or (end - scale.centre) / scale.spread < -LOST
        held.append(bool(low[i] == -np.inf if is_lost else low[i] <= end <= high[i]))
        if not is_lost:
            errors.append(scale.target(end) - float(ahead.mean[i]))
            deviations.append(float(ahead.deviation[i]))
    return held, errors, deviations


def print_decision() -> None:
    """Print what one decision costs with 100 curves of 50 steps, 16 of them running."""
    for family in ("power", "noisy"):
        snapshot = draw_snapshot(family, 0, n_trials=100, n_finished=30)
        known = np.full(100, 34)
        known[np.argsort(snapshot.reported)[-30:]] = 50
        curves = curves_of(Snapshot(snapshot.features, snapshot.curves, known))
        going = np.flatnonzero(known < 50)
        slots = Slots(
            going[:16],
            going[16:],
            known,
            1.0,
            1.0,
            np.random.default_rng(1).random((512, DIMENSION)),
        )
        theta = None
        for name in ("fitted anew", "hyperparameters kept"):
            spent = []
            for _ in range(5):
                began = time.process_time()
                model = model_of(curves, theta=theta)
                assert model is not None
                judge_running(model, slots, int(going[0]))
                spent.append(1e3 * (time.process_time() - began))
                learnt, n_points = model.theta, len(model.rows)
            theta = learnt
            print(f"{family}, {n_points} points, {name}: {np.median(spent):.0f} ms CPU")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.curves.calibration")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--half", choices=["tune", "report"])
    what.add_argument("--decision", action="store_true", help="CPU time of one, 100 x 50 steps")
    parser.add_argument("--families", nargs="*", default=[])
    parser.add_argument("--seeds", type=int, default=18)
    args = parser.parse_args()
    if args.decision:
        print_decision()
        return
    print("| family | forecasts | held by the 90 % interval | root mean square error |", end="")
    print(" median deviation | CPU ms, fit and forecast |\n|---|---|---|---|---|---|")
    for family, (half, _) in FAMILIES.items():
        if half != args.half or (args.families and family not in args.families):
            continue
        held, errors, deviations, spent = list[bool](), list[float](), list[float](), list[float]()
        for seed in range(args.seeds):
            snapshot = draw_snapshot(
                family,
                seed,
                n_trials=(20, 40, 60)[seed // 3 % 3],
                n_finished=(3, 5, 10)[seed % 3],
                steps=(50, 27)[seed % 2],
            )
            began = time.process_time()
            model = model_of(curves_of(snapshot))
            if model is None:
                continue
            found = is_held(snapshot, model)
            spent.append(1e3 * (time.process_time() - began))
            held += found[0]
            errors += found[1]
            deviations += found[2]
        error = float(np.sqrt(np.mean(np.square(errors))))
        print(
            f"| {family} | {len(held)} | {np.mean(held):.1%} | {error:.2f} "
            f"| {np.median(deviations):.2f} | {np.median(spent):.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()

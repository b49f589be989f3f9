"""Objective and constraint values made fit for a Gaussian process, and its predictions readable.

Everything inside the sampler is maximised. A raw value passes three monotone steps: *clean* (what
is not finite, or too large to square, takes the worst finite value), *warp* (chosen from the data)
and *standardise*. `TransformedObjective` keeps the way back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from scipy.special import ndtri

from studyflow.samplers.arrays import BoolArray, FloatArray

HUGE: Final = 1e100
"""Values beyond this are sentinels or divergence, not measurements; its square is still finite."""
HEAVY_TAIL: Final = 3.0
"""How many times longer the bad half may be than the good half before its shape is given up.
Chosen by measurement: it keeps clean objectives as they are and rescues diverging ones."""
_TAIL_EVIDENCE: Final = 10.0
"""Points below which a heavy tail is as likely chance: the ratio asked for grows by the square of
this over their number. With five points of a parabola, ranks hide the very curvature from which the
model would find the top."""

SENTINEL: Final = 10.0
"""How many times farther than the best from the median a repeated value must be to be a code for
failure, such as the 1e4 that a training script reports when its loss is not a number."""

WarpName = Literal["none", "half-rank"]


def clean(values: FloatArray, *, maximize: bool) -> tuple[FloatArray, BoolArray]:
    """Return finite values to be maximised, `n`, and which of them were really measured, `n`.

    NaN, infinities of either sign and magnitudes above `HUGE` become the worst measured value: a
    training that diverged is bad news whichever sign its loss had. If nothing was measured, all
    values are 0.
    """
    signed = values if maximize else -values
    with np.errstate(invalid="ignore"):
        measured = np.isfinite(signed) & (np.abs(signed) <= HUGE)
    worst = float(signed[measured].min()) if measured.any() else 0.0
    return np.where(measured, signed, worst), measured


def diverged(values: FloatArray, *, maximize: bool) -> BoolArray:
    """Return which values say that a trial failed rather than how good its parameters are, `n`.

    Those that are not finite or too large, and a sentinel: the worst of the values that several
    trials share to the last digit, if it lies far beyond the rest. It need not be the worst of all:
    an honest loss may be worse than what the script reports for none.
    """
    cleaned, measured = clean(values, maximize=maximize)
    different, counts = np.unique(cleaned[measured], return_counts=True)
    shared = different[counts >= 2]
    median = float(np.median(cleaned))
    length = float(cleaned.max()) - median
    if len(shared) and length > 0.0 and median - float(shared[0]) > SENTINEL * length:
        measured &= cleaned != shared[0]
    return np.asarray(~measured)


def tail_ratio(values: FloatArray) -> float:
    """Return the length of the bad tail in units of the good half's length (maximisation)."""
    median, best = float(np.median(values)), float(values.max())
    bad = median - float(np.quantile(values, 0.02))
    if bad <= 0.0:
        return 0.0
    return bad / (best - median) if best > median else math.inf


def half_rank(values: FloatArray) -> FloatArray:
    """Return the values with the half below the median spread as a normal distribution would be.

    The good half keeps its shape; each bad value moves to the Gaussian quantile of its rank, scaled
    by the good half's spread. From Vizier's `HalfRankComponent` (Song et al., arXiv 2408.11527).
    """
    median = float(np.median(values))
    good = values >= median
    spread = float(np.sqrt(np.mean((values[good] - median) ** 2)))
    if spread <= 0.0:
        spread = float(np.ptp(values)) or 1.0
    ranks = np.searchsorted(np.sort(values), values, side="left")
    quantiles = np.minimum((ranks + 0.5) / len(values), 0.5)
    return np.where(good, values, median + spread * ndtri(quantiles))


@dataclass(frozen=True)
class TransformedObjective:
    """One objective of all finished points on the model's scale, and the way back."""

    targets: FloatArray
    """Warped and standardised values, larger is better, `n`."""
    warp: WarpName
    centre: float
    scale: float
    maximize: bool
    knots: tuple[FloatArray, FloatArray]
    """Increasing warped values and the clean values they came from; unused without a warp."""

    def to_objective_units(self, mean: float, sd: float) -> tuple[float, float]:
        """Return a prediction as mean and standard deviation of the value the user reports.

        Under a warp these are the image of the mean and half the image of one standard deviation
        to either side, exact for normal predictions where the warp is straight.
        """
        middle, low, high = (
            self._unwarp(self.centre + self.scale * z) for z in (mean, mean - sd, mean + sd)
        )
        return (middle if self.maximize else -middle), (high - low) / 2

    def _unwarp(self, value: float) -> float:
        if self.warp == "none":
            return value
        warped, raw = self.knots
        if value >= warped[-1]:
            return float(raw[-1] + value - warped[-1])
        # Below the worst value seen nothing is known but that it is worse.
        return float(np.interp(value, warped, raw))


def transform_objective(values: FloatArray, *, maximize: bool) -> TransformedObjective:
    """Return the cleaned, warped and standardised form of raw objective values.

    Args:
        values: As the trials reported them, `n >= 1`, anything a float can be.
        maximize: The direction of the objective.
    """
    cleaned, _ = clean(values, maximize=maximize)
    threshold = HEAVY_TAIL * (1.0 + (_TAIL_EVIDENCE / len(cleaned)) ** 2)
    warp: WarpName = "half-rank" if tail_ratio(cleaned) > threshold else "none"
    warped = half_rank(cleaned) if warp == "half-rank" else cleaned
    centre = float(warped.mean())
    scale = float(warped.std())
    # A constant objective has rounding error for a spread; dividing by it would invent structure.
    if not scale > 1e-12 * max(abs(centre), np.finfo(np.float64).tiny / 1e-12):
        scale = 1.0
    order = np.argsort(warped, kind="stable")
    knots = (warped[order], cleaned[order])
    return TransformedObjective((warped - centre) / scale, warp, centre, scale, maximize, knots)


def standardise_constraint(values: FloatArray) -> tuple[FloatArray, float]:
    """Return a constraint's values on the model's scale, `n`, and the largest feasible one.

    A value is feasible if it is at most 0. The bilog transform sign(c) log(1 + |c|) of Eriksson and
    Poloczek (arXiv 2002.08526) keeps the zero and calms large violations; magnitudes are first
    divided by their median so that the unit of the constraint does not matter.
    """
    finite = np.isfinite(values) & (np.abs(values) <= HUGE)
    worst = float(values[finite].max(initial=1.0))
    cleaned = np.where(finite, values, max(worst, 0.0) + 1.0)
    unit = float(np.median(np.abs(cleaned))) or 1.0
    bilog = np.sign(cleaned) * np.log1p(np.abs(cleaned) / unit)
    centre, scale = float(bilog.mean()), float(bilog.std())
    if not scale > 1e-12:
        scale = 1.0
    return (bilog - centre) / scale, -centre / scale


def impute_pruned(
    last_values: FloatArray, peers: list[tuple[FloatArray, FloatArray]], completed: FloatArray
) -> FloatArray:
    """Return what each pruned trial would probably have reached, `p`, never above the median.

    Each takes the quantile of final values that its last value had among the trials that reported
    the same step and went on to the end. All values are cleaned, larger is better.

    Args:
        last_values: Last intermediate value of each pruned trial, `p`; NaN if it reported none.
        peers: For each pruned trial the values at that step of the completed trials that reported
            it, and their final values.
        completed: All final values, `n >= 1`.
    """
    ceiling = float(np.median(completed))
    imputed = np.full(len(last_values), float(np.quantile(completed, 0.25)))
    for i, (last, (at_step, finals)) in enumerate(zip(last_values, peers, strict=True)):
        if len(finals) and not math.isnan(last):
            rank = float(np.mean(at_step < last))
            imputed[i] = float(np.quantile(finals, rank))
    return np.asarray(np.minimum(imputed, ceiling))

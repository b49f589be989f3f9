"""Search for the point of a mixed space where an acquisition function is largest.

Finite spaces of up to `MAX_ENUMERATED` points are listed. Otherwise a sweep of space-filling points
and of perturbations of the best known ones yields a few starts, which alternate between a gradient
search along continuous parameters and exhaustive changes of one discrete parameter at a time (the
alternation of BoTorch's `optimize_acqf_mixed_alternating`, but on the exact grid and for all starts
at once). Discrete parameters are never relaxed and rounded, except grids of more than 32 values,
which are snapped before their value is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from studyflow.samplers.acquisition.closed_form import Acquisition
from studyflow.samplers.arrays import BoolArray, FloatArray, IntArray
from studyflow.samplers.deadline import NEVER, Deadline, OutOfTime
from studyflow.samplers.sobol import sobol
from studyflow.samplers.space.encoding import SAME_POINT, Encoding, find_same

MAX_ENUMERATED: Final = 4096
CROWDED: Final = 0.02
"""Points this near to a running one in every parameter tell no more than that one will. A model
that is sure of an optimum would otherwise send all workers there at once."""
_GRID_MOVES: Final = (-32, -8, -3, -1, 1, 3, 8, 32)
_PERTURBATION_SCALES: Final = (0.3, 0.1, 0.03, 0.01, 0.003)


@dataclass(frozen=True)
class SearchEffort:
    """How hard to search. The defaults cost some 20 ms in closed form."""

    n_sweep: int = 1024
    """Space-filling points."""
    n_perturbed: int = 24
    """Perturbations of each anchor."""
    n_starts: int = 8
    """Points improved by local search."""
    n_rounds: int = 3
    """Alternations between gradient and single-parameter moves."""
    max_iterations: int = 60
    """Gradient steps per round."""


CHEAP_SEARCH: Final = SearchEffort(256, 12, 4, 2, 30)
"""For Monte Carlo acquisition functions, an evaluation of which costs a hundred times more."""


SHORT_SEARCH: Final = SearchEffort(256, 12, 4, 1, 20)
"""For slots that would wait for a longer one: a third of the time, most of the value."""


@dataclass(frozen=True)
class Candidate:
    """The chosen point."""

    codes: FloatArray
    value: float
    """The acquisition value."""
    is_repeat: bool
    """Every point of the space has been tried; this one again."""


def search(
    acquisition: Acquisition,
    encoding: Encoding,
    *,
    anchors: FloatArray,
    tried: FloatArray,
    pending: FloatArray,
    fixed: Mapping[int, float],
    generator: np.random.Generator,
    effort: SearchEffort,
    deadline: Deadline = NEVER,
) -> Candidate:
    """Return the best point not tried before, or the best of all if none is left.

    Past the deadline it is the best point found until then.

    Args:
        acquisition: What is maximised.
        encoding: The space.
        anchors: Codes of the most promising finished points, `a x d`; `a` may be 0.
        tried: Codes of all points finished or running, `t x d`.
        pending: Codes of the running ones among them, `p x d`; a candidate keeps `CROWDED` away
            from them if it can.
        fixed: Codes that are decided already, by index of the parameter.
        generator: Decides the sweep and the perturbations.
        effort: How hard to search.
        deadline: Checked before each step of the local search.
    """
    if encoding.cardinality <= MAX_ENUMERATED:
        points = _fix(encoding, encoding.enumerate_points(), fixed)
        values = _finite(acquisition.value(encoding.features(points)))
        return _choose(points, values, tried, pending)

    seed = int(generator.integers(2**31))
    sweep = encoding.from_unit(sobol(len(encoding.dimensions), effort.n_sweep, seed=seed))
    if len(anchors):
        near = perturb(encoding, np.repeat(anchors, effort.n_perturbed, axis=0), generator)
        sweep = np.concatenate([sweep, anchors, near])
    sweep = _fix(encoding, encoding.snap(sweep), fixed)
    sweep_values = _finite(acquisition.value(encoding.features(sweep)))

    chosen = _pick_starts(sweep_values, effort.n_starts, generator)
    points, values = sweep[chosen], sweep_values[chosen]
    free = np.ones(len(encoding.dimensions), dtype=np.bool_)
    free[list(fixed)] = False
    changed = np.arange(len(points))
    for _ in range(effort.n_rounds):
        points[changed], climbed = _climb(
            acquisition,
            encoding,
            points[changed],
            values[changed],
            free,
            effort.max_iterations,
            deadline,
        )
        values[changed] = climbed
        points, moved = _move_one(acquisition, encoding, points, values, free, changed, deadline)
        # A start whose discrete parameters stay where they are is at the top of its hill.
        changed, values = np.flatnonzero(moved > values), moved
        if not len(changed):
            break
    points, values = np.concatenate([points, sweep]), np.concatenate([values, sweep_values])
    return _choose(points, values, tried, pending)


def perturb(encoding: Encoding, points: FloatArray, generator: np.random.Generator) -> FloatArray:
    """Return each point with about two of its parameters changed, `n x d`.

    Continuous values move by a normal step of random scale, grids by that or at least one step,
    categories to a random choice. Parameters that were inactive get a random value, in case the
    change makes them active.
    """
    n, d = points.shape
    unit = generator.random((n, d))
    changed = generator.random((n, d)) < max(2.0 / d, 0.15)
    changed[np.arange(n), generator.integers(d, size=n)] = True
    scale = generator.choice(_PERTURBATION_SCALES, size=(n, 1))
    steps = generator.standard_normal((n, d)) * scale
    moved = points.copy()
    for i, dimension in enumerate(encoding.dimensions):
        column = points[:, i]
        missing = np.isnan(column)
        if dimension.kind == "categorical":
            fresh = np.floor(unit[:, i] * len(dimension.grid))
            new = np.where(missing | changed[:, i], fresh, column)
        else:
            least = 1.0 / dimension.size if dimension.size else 0.0
            step = steps[:, i]
            step = np.where(np.abs(step) < least, np.copysign(least, step), step)
            new = np.where(changed[:, i], np.clip(column + step, 0.0, 1.0), column)
            new = np.where(missing, unit[:, i], new)
        moved[:, i] = new
    return encoding.snap(moved)


def _fix(encoding: Encoding, points: FloatArray, fixed: Mapping[int, float]) -> FloatArray:
    if not fixed:
        return points
    points = points.copy()
    for index, code in fixed.items():
        points[:, index] = code
    return encoding.mask(points)


def _finite(values: FloatArray) -> FloatArray:
    return np.where(np.isfinite(values), values, -1e300)


def _choose(
    points: FloatArray, values: FloatArray, tried: FloatArray, pending: FloatArray
) -> Candidate:
    order = np.argsort(-values, kind="stable")
    # Nearly always one of the first will do; comparing all with all history would be the costliest
    # step of a suggestion.
    blocks = (order[:64], order[64:])
    for keep_apart in (True, False):
        for block in blocks:
            fresh = ~find_same(points[block], tried)
            if keep_apart:
                fresh &= ~find_same(points[block], pending, tolerance=CROWDED)
            if fresh.any():
                best = block[int(np.argmax(fresh))]
                return Candidate(points[best], float(values[best]), is_repeat=False)
    return Candidate(points[order[0]], float(values[order[0]]), is_repeat=True)


def _pick_starts(values: FloatArray, count: int, generator: np.random.Generator) -> IntArray:
    """Return the best point and others drawn by Boltzmann weights of their standardised values."""
    order = np.argsort(-values, kind="stable")
    pool = order[: max(count, len(order) // 4)]
    spread = float(values[pool].std())
    z = (values[pool] - values[pool[0]]) / (spread if spread > 0 else 1.0)
    # Gumbel noise turns a sort into sampling without replacement.
    keys = 2.0 * z + generator.gumbel(size=len(pool))
    # The second best start is next to the best as a rule; half of them greedy, half diverse.
    greedy = pool[: max(1, count // 4)]
    drawn = pool[np.argsort(-keys, kind="stable")]
    rest = drawn[~np.isin(drawn, greedy)][: count - len(greedy)]
    return np.concatenate([greedy, rest])


def _climb(
    acquisition: Acquisition,
    encoding: Encoding,
    points: FloatArray,
    values: FloatArray,
    free: BoolArray,
    max_iterations: int,
    deadline: Deadline,
) -> tuple[FloatArray, FloatArray]:
    """Return the points moved uphill along their continuous parameters; none gets worse.

    Past the deadline they stay where they have got to.
    """
    from botorch.optim.batched_lbfgs_b import fmin_l_bfgs_b_batched

    relaxed = encoding.relaxed[free[encoding.relaxed]]
    if not len(relaxed) or not len(points) or deadline.is_over:
        return points, values
    columns = encoding.first_columns[relaxed]
    features = encoding.features(points)
    movable = ~np.isnan(points[:, relaxed])
    start = np.where(movable, points[:, relaxed], 0.5)
    least, reached = np.full(len(points), np.inf), start.copy()

    def loss(x: FloatArray, batch_indices: list[int]) -> tuple[FloatArray, FloatArray]:
        deadline.check()
        at = features[batch_indices]
        at[:, columns] = np.where(movable[batch_indices], x, 0.5)
        value, gradient = acquisition.value_and_gradient(at)
        gradient = np.where(movable[batch_indices], gradient[:, columns], 0.0)
        broken = ~(np.isfinite(value) & np.isfinite(gradient).all(axis=1))
        losses = np.where(broken, 1e10, -value)
        for row, point, lost in zip(batch_indices, x, losses, strict=True):
            if lost < least[row]:
                least[row], reached[row] = lost, point
        return losses, np.where(broken[:, None], 0.0, -gradient)

    try:
        found, *_ = fmin_l_bfgs_b_batched(  # type: ignore[no-untyped-call]
            loss,
            start,
            bounds=[(0.0, 1.0)] * len(relaxed),
            factr=None,
            ftol=1e-9,
            pgtol=1e-6,
            maxiter=max_iterations,
            pass_batch_indices=True,
        )
    except OutOfTime:
        found = reached
    climbed = points.copy()
    climbed[:, relaxed] = np.where(movable, found, np.nan)
    climbed = encoding.snap(climbed)
    climbed_values = _finite(acquisition.value(encoding.features(climbed)))
    better = climbed_values > values
    return np.where(better[:, None], climbed, points), np.where(better, climbed_values, values)


def _move_one(
    acquisition: Acquisition,
    encoding: Encoding,
    points: FloatArray,
    values: FloatArray,
    free: BoolArray,
    changed: IntArray,
    deadline: Deadline,
) -> tuple[FloatArray, FloatArray]:
    """Return the points after the best changes of single discrete parameters, while they help.

    Only the points that have changed since this was last tried are moved: no change helps the
    others. No change is tried past the deadline.
    """
    for _ in range(2 * len(encoding.dimensions)):
        if deadline.is_over:
            return points, values
        moves, owners = _single_moves(encoding, points[changed], free)
        if not len(moves):
            return points, values
        moved_values = _finite(acquisition.value(encoding.features(moves)))
        improved: list[int] = []
        for position, row in enumerate(changed):
            mine = np.flatnonzero(owners == position)
            if not len(mine):
                continue
            best = mine[np.argmax(moved_values[mine])]
            if moved_values[best] > values[row] + 1e-9:
                points, values = points.copy(), values.copy()
                points[row], values[row] = moves[best], moved_values[best]
                improved.append(int(row))
        if not improved:
            break
        changed = np.array(improved)
    return points, values


def _single_moves(
    encoding: Encoding, points: FloatArray, free: BoolArray
) -> tuple[FloatArray, IntArray]:
    """Return all points that differ from a start in one discrete parameter, and their starts."""
    blocks: list[FloatArray] = []
    owners: list[IntArray] = []
    children = sorted({condition.child for condition in encoding.conditions})
    for i, dimension in enumerate(encoding.dimensions):
        if not free[i] or dimension.size is None:
            continue
        rows = np.flatnonzero(~np.isnan(points[:, i]))
        if dimension.kind == "categorical" or dimension.size <= 32:
            targets = np.tile(dimension.grid, (len(rows), 1))
            useful = np.abs(targets - points[rows, i, None]) > SAME_POINT
        else:
            indices = np.array(
                [dimension.index(float(code)) for code in points[rows, i]], dtype=np.int64
            )
            moved = indices[:, None] + np.array(_GRID_MOVES)
            useful = (moved >= 0) & (moved < dimension.size)
            # Starts have neighbours in common, and encoding is the costliest step of a move.
            wanted, index = np.unique(moved.clip(0), return_inverse=True)
            codes = dimension.codes_of_indices(wanted)
            targets = codes[index].reshape(moved.shape)
        starts, columns = np.nonzero(useful)
        block = points[rows[starts]]
        block[:, i] = targets[starts, columns]
        for child in children:
            # What a change of parent makes active starts at the centre of its axis.
            unset = np.isnan(block[:, child])
            middle = encoding.dimensions[child]
            block[unset, child] = (
                0.0 if middle.kind == "categorical" else float(middle.snap(np.array([0.5]))[0])
            )
        blocks.append(encoding.mask(block))
        owners.append(rows[starts])
    if not blocks:
        return np.empty((0, points.shape[1])), np.empty(0, dtype=np.int64)
    return np.concatenate(blocks), np.concatenate(owners)

"""Points before there is a model: the centre, then a scrambled Sobol sequence.

A trial's point is the element of the sequence with the trial's number, so any number of workers
share one well-spread design without talking to each other.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from studyflow.samplers.arrays import FloatArray
from studyflow.samplers.candidates import MAX_ENUMERATED
from studyflow.samplers.prior import SpacePrior
from studyflow.samplers.sobol import sobol
from studyflow.samplers.space.encoding import Encoding, find_same

MAX_REDRAWS = 64


def startup_point(
    encoding: Encoding,
    number: int,
    *,
    seed: int,
    tried: FloatArray,
    fixed: Mapping[int, float],
    generator: np.random.Generator,
    prior: SpacePrior | None = None,
) -> FloatArray:
    """Return the codes of a space-filling point, `d`, new if any new one is found.

    Args:
        encoding: The space.
        number: The trial's number. Trial 0 gets the centre (of a category: the first choice),
            the best guess if the ranges were chosen with care.
        seed: Decides the sequence; the same for all trials of a study.
        tried: Codes of finished and running points, `t x d`.
        fixed: Codes that are decided already, by index of the parameter.
        generator: Decides the replacement of a point that was tried before, which only happens in
            discrete spaces.
        prior: What is believed of the space: trial 0 gets its mode, and trial 1 the centre. The
            rest of the design follows, as without one: it shows whether the belief is right.
    """
    d = len(encoding.dimensions)
    unit = np.array([0.0 if k.kind == "categorical" else 0.5 for k in encoding.dimensions])
    place = number if prior is None else number - 1
    if place < 0 and prior is not None:
        point = encoding.from_unit(prior.centre(unit)[None])
    elif place == 0:
        point = encoding.from_unit(unit[None])
    else:
        point = encoding.from_unit(sobol(d, 1, seed=seed, skip=place))

    def settle(points: FloatArray) -> FloatArray:
        points = points.copy()
        for index, code in fixed.items():
            points[:, index] = code
        return encoding.mask(points)

    point = settle(point)
    if not find_same(point, tried)[0]:
        return np.asarray(point[0])
    if encoding.cardinality <= MAX_ENUMERATED:
        others = settle(encoding.enumerate_points())
    else:
        others = settle(encoding.from_unit(generator.random((MAX_REDRAWS, d))))
    others = others[~find_same(others, tried)]
    if not len(others):
        return np.asarray(point[0])
    return np.asarray(others[generator.integers(len(others))])

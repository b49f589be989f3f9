"""What a model says of many points at once: the source of pictures of a search."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from studyflow.samplers.arrays import FloatArray
from studyflow.samplers.encoding import Encoding
from studyflow.samplers.proposal import Belief


@dataclass(frozen=True)
class Landscape:
    """The model of one objective, and the acquisition function, at `m` points."""

    mean: FloatArray
    """Expected value, in the objective's own units and direction, `m`."""
    sd: FloatArray
    """Standard deviation of the noise-free function, in the objective's own units, `m`."""
    acquisition: FloatArray
    """What the next trial is chosen by, the larger the better; a logarithm, `m`."""
    acquisition_name: str
    n_data: int
    """Finished trials behind it."""
    n_pending: int
    """Running trials that were taken into account."""


def landscape(
    belief: Belief, encoding: Encoding, codes: FloatArray, *, n_data: int, n_pending: int
) -> Landscape:
    """Return what the models say of the points with these codes, `m x d`.

    Args:
        belief: The models; only the first objective's is looked at.
        encoding: The space.
        codes: The points.
        n_data: Finished trials behind the models.
        n_pending: Running trials that were taken into account.
    """
    features = encoding.features(encoding.mask(codes))
    mean, variance = belief.models[0].posterior(features)
    pairs = np.array(
        [
            belief.outcomes[0].to_objective_units(float(m), float(s))
            for m, s in zip(mean, np.sqrt(variance), strict=True)
        ]
    ).reshape(len(codes), 2)
    return Landscape(
        mean=pairs[:, 0],
        sd=pairs[:, 1],
        acquisition=belief.acquisition.value(features),
        acquisition_name=belief.acquisition.name,
        n_data=n_data,
        n_pending=n_pending,
    )

"""What a model says of many points at once: the source of pictures of a search."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from studyflow.samplers.arrays import FloatArray
from studyflow.samplers.fitted_models import FittedModels
from studyflow.samplers.space.encoding import Encoding


@dataclass(frozen=True)
class ModelSurface:
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


def surface_at(
    fitted: FittedModels, encoding: Encoding, codes: FloatArray, *, n_data: int, n_pending: int
) -> ModelSurface:
    """Return what the models say of the points with these codes, `m x d`.

    Args:
        fitted: The models; only the first objective's is used.
        encoding: The space.
        codes: The points.
        n_data: Finished trials behind the models.
        n_pending: Running trials that were taken into account.
    """
    features = encoding.features(encoding.mask(codes))
    mean, variance = fitted.models[0].posterior(features)
    pairs = np.array(
        [
            fitted.objectives[0].to_objective_units(float(m), float(s))
            for m, s in zip(mean, np.sqrt(variance), strict=True)
        ]
    ).reshape(len(codes), 2)
    return ModelSurface(
        mean=pairs[:, 0],
        sd=pairs[:, 1],
        acquisition=fitted.acquisition.value(features),
        acquisition_name=fitted.acquisition.name,
        n_data=n_data,
        n_pending=n_pending,
    )

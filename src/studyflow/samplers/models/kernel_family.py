"""What a model takes for granted of a function: its kernel, and the priors of its parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from studyflow.samplers.arrays import FloatArray
from studyflow.samplers.models.hyperparameters import (
    OUTPUTSCALE_BOUNDS,
    OUTPUTSCALE_PRIOR,
    lengthscale_prior,
)
from studyflow.samplers.models.kernel import matern52, squared_exponential


@dataclass(frozen=True)
class KernelFamily:
    """A correlation function, and what is believed of lengthscales and outputscale."""

    name: str
    correlation: Callable[[FloatArray], tuple[FloatArray, FloatArray]]
    """From squared scaled distances: correlations, and their derivatives by those."""
    lengthscale_prior: Callable[[int], tuple[float, float]]
    """From the number of parameters: location and scale of a LogNormal."""
    outputscale_prior: tuple[float, float]
    """Location and scale of a LogNormal."""
    outputscale_bounds: tuple[float, float]


MATERN: Final = KernelFamily(
    "matern-5/2", matern52, lengthscale_prior, OUTPUTSCALE_PRIOR, OUTPUTSCALE_BOUNDS
)
"""A function that is twice differentiable, of about the spread of its values: the objective, of
which ten points must not be believed too much."""


def _wide_lengthscales(_: int) -> tuple[float, float]:
    return 9.0, 3.0


SMOOTH: Final = KernelFamily(
    "squared-exponential", squared_exponential, _wide_lengthscales, (0.0, 3.0), (0.05, 1e4)
)
"""A function that is smooth throughout, of any spread. A parabola is one of long lengthscales and
an outputscale of hundreds, which the priors of `MATERN` forbid; this knows its corners from a
dozen points near its top. Lengthscales about 1, both with deviation 3 in logarithms: the data
decide."""

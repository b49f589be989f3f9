"""Data and models of six columns that several tests share."""

from __future__ import annotations

import math

import numpy as np

from studyflow.samplers.arrays import FloatArray
from studyflow.samplers.models.gaussian_process import TrainingData
from studyflow.samplers.models.hyperparameters import (
    Hyperparameters,
)

GROUPS = np.array([0, 1, 2, 2, 2, 3])


def make_data(
    n: int = 20, *, seed: int = 0, noise_factors: FloatArray | None = None
) -> TrainingData:
    generator = np.random.default_rng(seed)
    features = generator.random((n, 6))
    features[:, 2:5] = np.eye(3)[generator.integers(3, size=n)] / math.sqrt(2)
    targets = np.sin(5 * features[:, 0]) + features[:, 2] + 0.05 * generator.standard_normal(n)
    targets = (targets - targets.mean()) / targets.std()
    factors = np.ones(n) if noise_factors is None else noise_factors
    return TrainingData(features, targets, GROUPS, factors)


def some_hyperparameters() -> Hyperparameters:
    return Hyperparameters(np.array([0.4, 1.1, 0.8, 2.5]), 1.7, 0.013)

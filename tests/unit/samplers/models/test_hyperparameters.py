"""The priors."""

from __future__ import annotations

import numpy as np
import pytest

from studyflow.samplers.models.hyperparameters import (
    prior_mode,
)


def test_the_prior_mode_at_twelve_parameters_is_that_of_the_dimension_scaled_prior() -> None:
    assert prior_mode(12).lengthscales == pytest.approx(np.full(12, 0.7094), abs=1e-4)

"""The kernel's matrix."""

from __future__ import annotations

import math

import numpy as np
import pytest

from studyflow.samplers.models.kernel import cholesky


def test_cholesky_adds_jitter_to_a_singular_matrix_and_refuses_nan() -> None:
    assert np.isfinite(cholesky(np.ones((4, 4)))).all()
    with pytest.raises(np.linalg.LinAlgError):
        cholesky(np.full((2, 2), math.nan))

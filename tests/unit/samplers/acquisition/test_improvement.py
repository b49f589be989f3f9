"""Expected improvement: its logarithm, and that of one prediction against its integral."""

import numpy as np
import pytest
import torch
from botorch.acquisition.analytic import _log_ei_helper
from scipy.integrate import quad
from scipy.stats import norm

from studyflow.samplers.acquisition.improvement import improvement_over, log_h


@pytest.mark.parametrize("best", [-2.0, 0.5, 0.9, 4.0])
def test_it_is_the_mean_gain_where_there_is_one(best: float) -> None:
    found = improvement_over(best, mean=0.5, sd=0.3, maximize=True)

    gain, _ = quad(lambda y: (y - best) * norm.pdf(y, 0.5, 0.3), best, max(best, 0.5) + 4.0)
    assert found.expected == pytest.approx(gain, rel=1e-6, abs=1e-12)
    assert found.chance == pytest.approx(norm.sf(best, 0.5, 0.3))


def test_smaller_is_better_where_that_is_the_direction() -> None:
    down = improvement_over(0.4, mean=0.3, sd=0.1, maximize=False)
    up = improvement_over(-0.4, mean=-0.3, sd=0.1, maximize=True)

    assert down == up
    assert down.chance == pytest.approx(0.8413447)


def test_a_hopeless_prediction_gains_nothing_and_is_no_error() -> None:
    found = improvement_over(1.0, mean=0.0, sd=1e-6, maximize=True)

    assert (found.chance, found.expected) == (0.0, 0.0)
    assert np.isfinite(improvement_over(0.0, mean=1.0, sd=1e-9, maximize=True).expected)


def test_log_h_is_accurate_from_certain_improvement_to_far_below_underflow() -> None:
    u = np.array([-1e9, -1e6, -2e3, -999.0, -40.0, -8.0, -1.0, -0.5, 0.0, 3.0, 50.0])

    expected = _log_ei_helper(torch.as_tensor(u)).numpy()

    np.testing.assert_allclose(log_h(u), expected, rtol=1e-9)

"""Optuna's own contract suite for samplers."""

from __future__ import annotations

from collections.abc import Callable

import optuna
import pytest
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    MultiObjectiveSamplerTestCase,
    RelativeSamplerTestCase,
)

from studyflow.samplers.botorch import BoTorchSampler

optuna.logging.set_verbosity(optuna.logging.ERROR)


class _ModelFromTheFirstTrial:
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: BoTorchSampler(seed=0, n_startup_trials=0)


class TestBasic(_ModelFromTheFirstTrial, BasicSamplerTestCase):
    pass


class TestRelative(_ModelFromTheFirstTrial, RelativeSamplerTestCase):
    pass


class TestMultiObjective(_ModelFromTheFirstTrial, MultiObjectiveSamplerTestCase):
    pass

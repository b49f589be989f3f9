"""Optuna's pruners as a study uses them.

Two of Optuna's own habits end here. Under `HyperbandPruner` it shows a sampler only the trials of
the new trial's bracket, found by the class of the study's pruner; and most pruners prune at a
single report of NaN.
"""

from __future__ import annotations

import copy
import math
import warnings
from typing import Final

import optuna
from optuna.trial import FrozenTrial


class StudyPruner(optuna.pruners.BasePruner):
    """A pruner of Optuna's that judges finite reports only, and hides no trial from the sampler.

    Args:
        pruner: Who decides. A `HyperbandPruner` still compares within its brackets.
    """

    def __init__(self, pruner: optuna.pruners.BasePruner) -> None:
        self.pruner: Final = pruner

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Return whether the trial is to be pruned; never after a report that is not finite.

        Earlier reports that are not finite are left out: one of -inf would otherwise stay a
        trial's best for ever.
        """
        step = trial.last_step
        if step is None or not math.isfinite(trial.intermediate_values[step]):
            return False
        finite = {s: v for s, v in trial.intermediate_values.items() if math.isfinite(v)}
        if len(finite) < len(trial.intermediate_values):
            trial = copy.copy(trial)
            trial.intermediate_values = finite
        with warnings.catch_warnings():
            # Other trials without a finite value at this step: there is nothing to compare with.
            warnings.simplefilter("ignore", RuntimeWarning)
            warnings.filterwarnings("ignore", "The intermediate values of the best trial")
            return self.pruner.prune(study, trial)

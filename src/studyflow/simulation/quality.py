"""What trials would finish with, by a model of an earlier study's results."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from studyflow.errors import SimulationError
from studyflow.reports.data import StudyData
from studyflow.reports.surrogate import MIN_TRIALS, fitted, point
from studyflow.reports.wording import plural
from studyflow.simulation.forecast import Quality
from studyflow.simulation.workload import Params
from studyflow.spec import StudySpec, describe_differences

MIN_EXPLAINED: Final = 0.3
"""Share of the variance, at points left out, below which a model is no stand-in for the truth."""


def quality_of(spec: StudySpec, data: StudyData) -> tuple[Quality, float]:
    """Return the mean of a process fitted to a study's results, and the share that it explains.

    It is smoother than the truth, so what a study finds on it is a rough guide.

    Args:
        spec: The study that is simulated.
        data: The study whose results stand for the truth.

    Raises:
        SimulationError: The studies have different spaces or objectives, or the results do not
            carry a model.
    """
    name = data.spec.name
    differences = describe_differences(data.spec.identity(), spec.identity())
    if differences:
        raise SimulationError(
            f"The results of {name!r} cannot stand for those of {spec.name!r}: "
            f"{'; '.join(differences)}.",
            hint="name a study of the same search space and objective, or leave --like out.",
        )
    if data.is_multi_objective:
        raise SimulationError(
            f"{name!r} has {len(data.metrics)} objectives: quality is simulated for one.",
            hint="leave --like out.",
        )
    n_values = len({data.value(record, 0) for record in data.complete})
    if len(data.complete) < MIN_TRIALS or n_values < 2:
        raise SimulationError(
            f"{name!r} has {plural(len(data.complete), 'complete trial')} with "
            f"{plural(n_values, 'different value')}; a model needs {MIN_TRIALS} trials.",
            hint="leave --like out: quality is not known then.",
        )
    model, scale = fitted(data, 0)
    if model.explained < MIN_EXPLAINED:
        raise SimulationError(
            f"A model of {name!r} explains {max(model.explained, 0.0):.0%} of its results, too "
            f"little to stand for the truth ({MIN_EXPLAINED:.0%}).",
            hint="leave --like out: quality is not known then.",
        )

    def quality(params: Params) -> float:
        mean = float(model.predict(np.array([point(data.space, params)]))[0])
        return math.exp(mean) if scale.is_log else mean

    return quality, model.explained

"""What one run may change of a study file."""

from __future__ import annotations

from typing import Any, Final

import pytest

from studyflow.errors import SpecError
from studyflow.spec import StudySpec
from studyflow.spec.overrides import override

DOCUMENT: Final[dict[str, Any]] = {
    "name": "tiny",
    "objectives": [{"metric": "loss", "direction": "minimize"}],
    "search_space": {"x": {"type": "float", "low": 0.0, "high": 1.0}},
    "sampler": {"type": "random", "seed": 0},
    "budget": {"n_trials": 3, "max_parallel_trials": 2},
    "trial": {"command": ["python", "-S", "train.py"]},
}


def test_flags_change_the_budget_and_the_name_and_are_checked() -> None:
    spec = StudySpec.from_mapping(DOCUMENT)

    assert override(spec) == (spec, None)
    changed, fork_from = override(spec, n_trials=9, max_parallel_trials=4, fork="other")
    assert (changed.name, fork_from) == ("other", "tiny")
    assert (changed.budget.n_trials, changed.budget.max_parallel_trials) == (9, 4)
    assert changed.sampler == spec.sampler
    assert override(spec, gpu_hours=2.5)[0].budget.gpu_hours == 2.5
    with pytest.raises(SpecError, match="gpu_hours"):
        override(spec, gpu_hours=0.0)
    with pytest.raises(SpecError):
        override(spec, fork="")
    with pytest.raises(SpecError, match="new study"):
        override(spec, fork="tiny")


def test_another_sampler_keeps_the_seed_and_none_of_the_files_arguments() -> None:
    sampler = {"type": "tpe", "seed": 7, "n_startup_trials": 3}
    spec = StudySpec.from_mapping({**DOCUMENT, "sampler": sampler})

    same, _ = override(spec, sampler="tpe", timeout_seconds=60.0)
    assert (same.sampler, same.budget.timeout_seconds) == (spec.sampler, 60.0)
    other, _ = override(spec, sampler="random")
    assert (other.sampler.type, other.sampler.seed, other.sampler.arguments) == ("random", 7, {})
    with pytest.raises(SpecError, match="grid"):
        override(spec, sampler="grid")  # over a continuum

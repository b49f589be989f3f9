from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from studyflow.spec import StudySpec
from studyflow.trial import Cause, Outcome

from .conftest import LoadScript, MakeTrial, RunPython


@pytest.fixture(scope="module")
def script(load_script: LoadScript) -> ModuleType:
    return load_script("blackbox")


@pytest.mark.parametrize(
    ("x", "y", "value"), [(0.0, 1.0, 1.0), (1.0, 0.0, -1.0), (-2.0, -3.0, -19.0), (2.0, 3.0, -7.0)]
)
def test_the_objective(script: ModuleType, x: float, y: float, value: float) -> None:
    assert script.objective(x, y) == value


def test_it_runs_alone_with_its_defaults(
    run_python: RunPython, images: Path, tmp_path: Path
) -> None:
    done = run_python(tmp_path, images / "blackbox/train.py")

    assert done.returncode == 0, done.stderr
    assert done.stdout == "finished: value=-1\n"


def test_inside_a_study_it_finishes_with_the_value_of_its_point(
    run_python: RunPython, images: Path, make_trial: MakeTrial, tmp_path: Path
) -> None:
    trial = make_trial(tmp_path, {"x": 0.5, "y": 0.5}, "value")

    done = run_python(tmp_path, images / "blackbox/train.py", trial=trial)

    assert done.returncode == 0, done.stderr
    outcome = Outcome.from_json((tmp_path / "outcome.json").read_text())
    assert outcome.cause is Cause.OK
    assert outcome.number == 3
    assert outcome.metrics == {"value": 0.5}


def test_the_study_file(images: Path) -> None:
    spec = StudySpec.from_yaml(images / "blackbox/study.yaml")

    assert [(o.metric, o.direction) for o in spec.objectives] == [("value", "maximize")]
    assert {k: (p.low, p.high) for k, p in spec.search_space.items() if p.type == "float"} == {
        "x": (-2.0, 2.0),
        "y": (-3.0, 3.0),
    }
    assert spec.sampler.type == "botorch"
    assert spec.sampler.seed == 0
    assert spec.sampler.arguments == {"n_startup_trials": 5}
    assert spec.budget.n_trials == 15
    assert spec.budget.max_parallel_trials == 1

"""The examples' scripts, by path: `images/` is no package, and users copy from it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import pytest

from studyflow.trial import TRIAL_VARIABLE, ParamValue, Trial

IMAGES = Path(__file__).parents[3] / "images"

LoadScript = Callable[..., ModuleType]
RunPython = Callable[..., "subprocess.CompletedProcess[str]"]
MakeTrial = Callable[..., Trial]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that run a whole training as slow."""
    for item in items:
        if "run_python" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(170))


@pytest.fixture(scope="session")
def images() -> Path:
    """The folder that holds one folder for each example."""
    return IMAGES


@pytest.fixture(scope="session")
def load_script() -> LoadScript:
    """Imports a script of an example without running it."""

    def load(example: str, file: str = "train.py") -> ModuleType:
        name = f"{example}_{file}".replace("-", "_").removesuffix(".py")
        spec = importlib.util.spec_from_file_location(name, IMAGES / example / file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their module up here
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def run_python() -> RunPython:
    """Runs Python in a fresh process and a given folder, as a trial or, without one, alone."""

    def run(
        folder: Path, *arguments: str | Path, trial: Trial | None = None
    ) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if k != TRIAL_VARIABLE}
        environment["OMP_NUM_THREADS"] = "1"  # others run beside it
        if trial is not None:
            environment[TRIAL_VARIABLE] = trial.to_json()
        return subprocess.run(
            [sys.executable, "-W", "error", *map(str, arguments)],
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def make_trial() -> MakeTrial:
    """Makes a trial whose files lie in a given folder."""

    def make(
        folder: Path, params: Mapping[str, ParamValue], metric: str, budget: int | None = None
    ) -> Trial:
        (folder / "artifacts").mkdir()
        return Trial(
            study="example",
            number=3,
            params=params,
            budget=budget,
            metrics=(metric,),
            outcome_path=str(folder / "outcome.json"),
            metrics_path=str(folder / "metrics.jsonl"),
            artifact_dir=str(folder / "artifacts"),
            stop_path=str(folder / "stop"),
        )

    return make

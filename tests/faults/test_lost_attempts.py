"""Trials whose attempts are lost again and again: real processes, and what they saved."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from studyflow.context import StudyContext
from studyflow.observers.observer import Observer
from studyflow.runner import RunOptions, run_study
from studyflow.settings import Settings
from studyflow.spec import StudySpec
from studyflow.trial import Cause
from studyflow.trial.record import TrialRecord, TrialState

pytestmark = pytest.mark.slow

N_STEPS = 4

PUBLISHES = """\
import os
from studyflow import sdk
last = sdk.last_checkpoint()
step = 0 if last is None else last.step + 1
seen = "" if last is None else (last.path / "steps").read_text()
sdk.report(step, loss=1.0)
if step == {n_steps}:
    sdk.finish(loss=float(seen.count(",")))
else:
    with sdk.checkpoint(step) as folder:
        (folder / "steps").write_text(f"{{seen}}{{step}},")
    os.kill(os.getpid(), 9)
"""

KEEPS_ITS_OWN_FILES = """\
import os
from studyflow import sdk
file = sdk.checkpoint_dir() / "steps"
seen = file.read_text() if file.exists() else ""
step = seen.count(",")
sdk.report(step, loss=1.0)
if step == {n_steps}:
    sdk.finish(loss=float(step))
else:
    with file.open("a") as end:
        end.write(f"{{step}},")
    os.kill(os.getpid(), 9)
"""

STARTS_ANEW = """\
import os
from studyflow import sdk
for step in range(sdk.current_trial().attempt):
    sdk.report(step, loss=1.0)
os.kill(os.getpid(), 9)
"""


def run(folder: Path, script: str, **retry: Any) -> TrialRecord:
    (folder / "train.py").write_text(script.format(n_steps=N_STEPS))
    spec = StudySpec.from_mapping(
        {
            "name": "spot",
            "objectives": [{"metric": "loss", "direction": "minimize"}],
            "search_space": {"x": {"type": "float", "low": 0, "high": 1}},
            "sampler": {"type": "random", "seed": 0},
            "retry": {"max_attempts": 2, "backoff_seconds": 0.01, **retry},
            "budget": {"n_trials": 1, "max_parallel_trials": 1},
            "trial": {"command": [sys.executable, str(folder / "train.py")]},
        }
    )
    settings = Settings(folder / "home", f"sqlite:///{folder}/studies.db", None)
    result = run_study(StudyContext(spec, settings), Observer(), RunOptions(folder))
    [record] = result.data.records
    return record


@pytest.mark.fault("F03", "F20")
@pytest.mark.parametrize("script", [PUBLISHES, KEEPS_ITS_OWN_FILES])
def test_a_trial_that_is_lost_at_every_step_comes_to_its_end(script: str, tmp_path: Path) -> None:
    record = run(tmp_path, script)

    assert (record.state, record.values) == (TrialState.COMPLETE, (float(N_STEPS),))
    assert record.attempt == N_STEPS + 1
    assert [lost.cause for lost in record.lost_attempts] == [Cause.LOST] * N_STEPS
    assert [lost.last_step for lost in record.lost_attempts] == list(range(N_STEPS))


@pytest.mark.fault("F03", "F20")
def test_a_trial_that_starts_anew_each_time_is_given_up(tmp_path: Path) -> None:
    record = run(tmp_path, STARTS_ANEW, max_attempts=3)

    assert (record.state, record.attempt) == (TrialState.FAILED, 3)
    assert record.message.startswith("Given up after 3 attempts (retry.max_attempts); ")

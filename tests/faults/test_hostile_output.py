"""Trials that print without measure: the runner's memory stays bounded, and each has its result."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from tests.faults.place import Place

from studyflow.study import is_counted
from studyflow.trial.record import TrialState

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.fault("F42")]

TRAIN = """
import json, os, sys
trial = json.loads(os.environ["STUDYFLOW_TRIAL"])
out = sys.stdout.buffer
match trial["params"]["prints"]:
    case "1 GB":
        page = b"epoch 1 loss 0.5 token=hf_abcdefghijklmnopqrstuvwxyz0123456789\\n" * 16384
        for _ in range(10**9 // len(page)):
            out.write(page)
    case "one line of 200 MB":
        for _ in range(200):
            out.write(b"x" * 10**6)
    case "binary":
        out.write(os.urandom(50 * 10**6))
    case "escape sequences":
        out.write(b"\\x1b[31m\\x1b[2J\\x1b]0;title\\x07\\r" * 10**6)
out.write(b"\\nValueError: \\x1b[31mthe last\\x00 words\\n")
out.flush()
sys.exit(1)
"""

MEGA = 1e6


def test_no_output_of_a_trial_takes_the_runner_s_memory(new_place: Callable[..., Place]) -> None:
    prints = ["1 GB", "one line of 200 MB", "binary", "escape sequences", "nothing"]
    place = new_place(
        search_space={"prints": {"type": "categorical", "choices": prints}},
        sampler={"type": "grid"},
        budget={"n_trials": len(prints), "max_parallel_trials": 1},
        stop={"alike_failures": 100},
    )
    (place.folder / "train.py").write_text(TRAIN)
    process = place.start()
    runner, most = psutil.Process(process.pid), 0.0
    at_first: Any = None
    while process.poll() is None:
        memory = runner.memory_info().rss / MEGA
        if at_first is None and place.n_folders():
            at_first = memory
        most = max(most, memory)
        time.sleep(0.02)

    print(f"{at_first:.0f} MB at the first trial, {most:.0f} MB at most")
    records = [record for record in place.records() if is_counted(record)]
    assert [r.state for r in records] == [TrialState.FAILED] * len(prints), place.log
    assert {r.message for r in records} == {"Exit code 1. Last line: ValueError: the last words"}
    assert most < at_first + 200

"""Who gets which GPUs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from tests.unit.executors.local.bench import (
    HANG,
    Bench,
    a_trial,
    until,
)

from studyflow.errors import ExecutorError, ExecutorUnavailable
from studyflow.reasons import Code
from studyflow.testing.executor_contract import Watch
from studyflow.trial import Cause

SHOW_GPUS = "import os\nprint(os.environ.get('CUDA_VISIBLE_DEVICES'), flush=True)\n"


def test_each_attempt_gets_gpus_of_its_own_whoever_starts_it(bench: Bench) -> None:
    bench.write(SHOW_GPUS + HANG)
    options: Mapping[str, Any] = {"gpus_per_trial": 2, "gpu_ids": ["0", "1", "2", "3"]}
    first, second = bench.executor(**options), bench.executor(**options)
    assert first.traits.slots == 2
    attempts = [first.submit(a_trial(0)), second.submit(a_trial(1))]
    until(lambda: all(bench.log(attempt).endswith("\n") for attempt in attempts))
    assert [bench.log(attempt) for attempt in attempts] == ["0,1\n", "2,3\n"]
    with pytest.raises(ExecutorUnavailable, match="No 2 of 4 GPUs are free") as caught:
        first.submit(a_trial(2))
    assert caught.value.reason.code is Code.NO_SLOT
    first.stop(attempts[0], Cause.CANCELLED, "")
    Watch(first, 10.0).until_ended(attempts[0])
    third = second.submit(a_trial(2))
    until(lambda: bench.log(third) == "0,1\n")


def test_a_submit_refused_for_want_of_gpus_leaves_nothing(bench: Bench) -> None:
    bench.write(HANG)
    executor = bench.executor(gpus_per_trial=1, gpu_ids=["0"])
    attempt = executor.submit(a_trial(0))
    with pytest.raises(ExecutorUnavailable):
        executor.submit(a_trial(1))
    assert list(executor.poll()) == [attempt]


def test_without_any_gpu_a_study_runs_on_the_processor(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    bench.write(SHOW_GPUS)
    executor = bench.executor(gpus_per_trial=1)
    assert executor.traits.slots is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    Watch(executor, 10.0).until_ended(executor.submit(a_trial()))
    assert bench.log() == "\n"


def test_more_gpus_than_there_are_are_refused(bench: Bench) -> None:
    bench.write(SHOW_GPUS)
    with pytest.raises(ExecutorError, match="needs 3 GPUs"):
        bench.executor(gpus_per_trial=3, gpu_ids=["0", "1"])

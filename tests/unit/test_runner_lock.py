"""One runner per study on this machine."""

from __future__ import annotations

import json
import math
import os
from contextlib import closing
from pathlib import Path

import pytest

from studyflow.errors import ExecutorUnavailable
from studyflow.observers.observer import Observer
from studyflow.runner_lock import (
    Holder,
    RunnerLock,
    StudyIsDriven,
    is_held,
    only_runner,
    read_holder,
)


class Notes(Observer):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def noted(self, message: str) -> None:
        self.notes.append(message)


@pytest.mark.fault("F67", "F24")
def test_of_two_runners_that_find_the_folder_removed_one_drives_the_study(tmp_path: Path) -> None:
    path = tmp_path / "runner.lock"
    lock, other = RunnerLock(path), None
    try:
        assert lock.take()
        lock.take_again()
        path.unlink()
        other = RunnerLock(path)
        assert other.take()
        with pytest.raises(ExecutorUnavailable, match=f"process {os.getpid()}, .* drives"):
            lock.take_again()
        other.close()
        lock.take_again()
    finally:
        lock.close()
        if other is not None:
            other.close()


@pytest.mark.fault("F24")
def test_who_stands_by_says_so_once_and_takes_over_when_the_other_ends(tmp_path: Path) -> None:
    path = tmp_path / "runner.lock"
    first, notes, n_pauses = RunnerLock(path), Notes(), 0
    assert first.take()
    path.write_text(json.dumps({"pid": 4711, "since": 0.0}))

    def pause(_seconds: float) -> None:
        nonlocal n_pauses
        n_pauses += 1
        if n_pauses == 3:
            first.close()

    with only_runner(path, notes, math.inf, clock=lambda: 0.0, pause=pause):
        assert is_held(path)

    assert n_pauses == 3
    (note,) = notes.notes
    assert note == (
        "A runner drives this study already (process 4711, since 00:00:00 UTC); "
        "standing by to take over when it ends."
    )
    assert not is_held(path)


def test_who_stands_by_for_a_limited_time_gives_up_after_it(tmp_path: Path) -> None:
    path, now = tmp_path / "runner.lock", [0.0]

    def pause(seconds: float) -> None:
        now[0] += seconds

    with closing(RunnerLock(path)) as other:
        assert other.take()
        with (
            pytest.raises(StudyIsDriven),
            only_runner(path, Observer(), 30.0, clock=lambda: now[0], pause=pause),
        ):
            pytest.fail("two runners drive the study")
    assert now == [30.0]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', '{"pid": "x", "since": 0}', "null"])
def test_a_lock_file_that_does_not_say_has_no_holder(text: str, tmp_path: Path) -> None:
    path = tmp_path / "runner.lock"
    assert read_holder(path) is None
    path.write_text(text)
    assert read_holder(path) is None
    assert not is_held(path)


def test_the_holder_is_the_process_that_took_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "runner.lock"
    path.write_text('{"pid": 12, "since": 3661}')
    assert read_holder(path) == Holder(12, 3661.0)
    assert str(read_holder(path)) == "process 12, since 01:01:01 UTC"

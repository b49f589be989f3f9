"""Which processes are an attempt's once its supervisor is dead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from studyflow.executors.local.processes import Process, Tree, left_processes, ticks_now

pytestmark = pytest.mark.fault("F66")

TREE = Tree(supervisor=50, script=60, script_start=1000, alive_at=2000)
"""A supervisor and its script; the supervisor was last seen alive at tick 2000."""


def process(pid: int, **fields: Any) -> Process:
    return Process(**{"pid": pid, "parent": 1, "group": 9, "session": 9, "started": 1500} | fields)


@pytest.mark.parametrize(
    ("fields", "belongs"),
    [
        ({"is_marked": True, "started": 9999}, True),
        ({"session": 50}, True),
        ({"group": 60}, True),
        ({"session": 50, "started": 2000}, True),
        ({"session": 50, "started": 2001}, False),  # the number may be another session's by now
        ({"group": 60, "started": 2001}, False),
        ({}, False),
        ({"is_marked": True, "is_dead": True}, False),
    ],
)
def test_a_process_belongs_to_the_attempt_by_what_no_stranger_can_share(
    fields: dict[str, Any], belongs: bool
) -> None:
    assert left_processes([process(70, **fields)], TREE) == ({70} if belongs else set())


def test_the_group_of_a_script_that_is_still_itself_is_the_attempt_s() -> None:
    member = process(70, group=60, started=9999)
    assert left_processes([member, process(60, started=1000)], TREE) == {70}
    assert left_processes([member, process(60, started=1001)], TREE) == set()
    zombie = process(60, started=1000, is_dead=True)
    assert left_processes([member, zombie], TREE) == {70}


def test_descendants_belong_whatever_they_have_changed_but_nobody_above() -> None:
    found = [
        process(70, is_marked=True, parent=40),
        process(71, parent=70, started=9999),
        process(72, parent=71, group=72, session=72, started=9999),
        process(40, parent=1),
        process(73, parent=40),
    ]
    assert left_processes(found, TREE) == {70, 71, 72}


def test_of_a_supervisor_that_nobody_saw_alive_no_session_is_trusted() -> None:
    assert left_processes([process(70, session=50, group=60)], Tree(50, 60, 1000)) == set()
    assert left_processes([process(70, session=50, group=60)], Tree()) == set()


def test_the_clock_is_the_one_that_dates_processes() -> None:
    now = ticks_now()
    if now is not None:
        started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        assert started <= now

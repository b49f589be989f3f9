"""What a supervisor recorded of an end is taken for what it can prove."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from studyflow.executors.diagnosis import How, NoDocument
from studyflow.executors.local.ending import read_ending, read_said
from studyflow.trial import Cause

EXITED = {"how": "exited", "exit_code": 3, "oom": True, "finished_first": True}


def test_an_ending_is_read_as_it_was_written() -> None:
    ending = read_ending(EXITED, {}, 60.0)

    assert (ending.how, ending.exit_code, ending.oom) == (How.EXITED, 3, True)
    assert (ending.finished_first, ending.timeout_seconds) == (True, 60.0)


@pytest.mark.fault("F64")
@pytest.mark.parametrize(
    ("document", "how"),
    [
        ({}, How.LOST),
        ({"how": "meteor"}, How.LOST),
        ({"how": []}, How.LOST),
        ({"how": "exited", "exit_code": True, "oom": "yes"}, How.EXITED),
        ({"how": "stopped"}, How.REMOVED),  # and no runner had asked for it
    ],
)
def test_a_damaged_document_proves_nothing(document: dict[str, Any], how: How) -> None:
    ending = read_ending(document, {}, None)

    assert (ending.how, ending.exit_code, ending.oom) == (how, None, False)


@pytest.mark.parametrize(
    ("cause", "expected"),
    [("pruned", Cause.PRUNED), ("meteor", Cause.CANCELLED), (7, Cause.CANCELLED)],
)
def test_a_stop_carries_its_cause_and_its_reason(cause: object, expected: Cause) -> None:
    ending = read_ending({"how": "stopped"}, {"cause": cause, "reason": "worse"}, None)

    assert (ending.how, ending.stop_cause) == (How.STOPPED, expected)
    assert ending.stop_reason is not None
    assert (ending.stop_reason.code, ending.stop_reason.message) == (expected, "worse")


def test_what_stands_where_an_outcome_belongs_is_told_from_nothing(tmp_path: Path) -> None:
    path = tmp_path / "outcome.json"
    assert read_said(path) is None
    assert read_said(path / "below" / "nothing") is None
    path.write_bytes(b"{}")
    assert read_said(path) == b"{}"
    path.unlink()
    path.mkdir()
    assert read_said(path) == NoDocument("a folder")
    path.rmdir()
    path.symlink_to("/etc/passwd")
    assert read_said(path) == NoDocument("a link")

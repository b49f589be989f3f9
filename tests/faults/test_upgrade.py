"""A study that an earlier studyflow left in the middle is finished by this one.

`tests/golden/study-format-N` is what a studyflow left when all its processes were killed: its
storage and its trials' folders, with places written as `@HOME@` and the like. Trials 0 to 2 were
recorded, trial 3 had ended and nobody had looked, trial 4 was running; in `-lost`, which is of
the studyflow after 0.1.0, trial 1 had lost its first attempt. None is ever written anew: a later
format gets a folder of its own.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest
from tests.faults.place import ROOT, Place

from studyflow.trial import Cause
from studyflow.trial.record import TrialState

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

GOLDEN = ROOT / "tests" / "golden"


def restore(kept: Path, place: Place) -> None:
    """Put a kept study where a runner finds it."""
    places = {
        "@HOME@": str(place.home),
        "@FOLDER@": str(place.folder),
        "@PYTHON@": sys.executable,
        "@HOST@": socket.gethostname(),
    }
    for source in kept.rglob("*"):
        if not source.is_file():
            continue
        text = source.read_text()
        for mark, value in places.items():
            text = text.replace(mark, value)
        target = place.home / source.relative_to(kept)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


LOST_BEFORE = {"study-format-1": 0, "study-format-1-lost": 1}
"""Attempts of trial 1 that were lost before all processes were killed."""


@pytest.mark.parametrize("kept", sorted(GOLDEN.glob("study-format-*")), ids=lambda path: path.name)
@pytest.mark.fault("F57")
def test_a_study_of_every_kept_format_is_gone_on_with(kept: Path, tmp_path: Path) -> None:
    n_lost = LOST_BEFORE[kept.name]
    place = Place(tmp_path)
    restore(kept, place)
    before = place.records()
    assert [record.state for record in before] == [TrialState.COMPLETE] * 3 + [
        TrialState.RUNNING
    ] * 2
    place.run_to_end()

    records = place.records()
    assert [record.values for record in records[:3]] == [record.values for record in before[:3]]
    assert [record.params for record in records[:5]] == [record.params for record in before]
    assert [(record.cause, record.attempt) for record in records] == [
        (Cause.OK, 1),
        (Cause.OK, 1 + n_lost),
        *[(Cause.OK, 1)] * 2,
        (Cause.OK, 2),
        (Cause.OK, 1),
    ]
    assert all(record.values == (record.params["x"],) for record in records)
    assert [lost.attempt for lost in records[4].lost_attempts] == [1]
    assert [lost.cause for lost in records[1].lost_attempts] == [Cause.LOST] * n_lost
    assert set(place.mlflow_trials()) == {0, 1, 2, 3, 4, 5}
    place.verify()

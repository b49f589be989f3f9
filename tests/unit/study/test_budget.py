"""What counts towards a study's budget."""

from __future__ import annotations

import pytest
from tests.unit.study.studies import record

from studyflow.study import (
    is_counted,
)
from studyflow.trial import Cause
from studyflow.trial.record import TrialState


@pytest.mark.parametrize(
    ("trial", "counts"),
    [
        (record(0, 1.0), True),
        (record(0, cause=Cause.USER_ERROR), True),
        (record(0, cause=Cause.PRUNED, state=TrialState.PRUNED), True),
        (record(0, cause=Cause.LOST), True),
        (record(0, cause=Cause.CANCELLED), False),
        (record(0, 1.0, is_taken_over=True), False),
        (record(0, state=TrialState.RUNNING), False),
        (record(0, state=TrialState.WAITING), False),
    ],
)
def test_what_counts_towards_the_budget(trial: object, counts: bool) -> None:
    assert is_counted(trial) is counts  # type: ignore[arg-type]

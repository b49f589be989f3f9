"""What a trial's run is called in MLflow."""

from __future__ import annotations

import pytest

from studyflow.tracking.mlflow.documents import name_at_end
from studyflow.trial import Cause
from studyflow.trial.record import TrialRecord, TrialState


@pytest.mark.parametrize(
    ("state", "cause", "before", "after"),
    [
        (TrialState.COMPLETE, Cause.OK, "trial-0007", "trial-0007"),
        (TrialState.PRUNED, Cause.PRUNED, "trial-0007", "trial-0007 pruned"),
        (TrialState.FAILED, Cause.CUDA_OOM, "trial-0007", "trial-0007 cuda-oom"),
        (TrialState.FAILED, None, "trial-0007", "trial-0007 failed"),
        (TrialState.FAILED, Cause.NAN, "trial-0007 nan", "trial-0007 nan"),
        (TrialState.COMPLETE, Cause.OK, "trial-0007 nan", "trial-0007"),
        (TrialState.PRUNED, Cause.PRUNED, "my best run", "my best run"),
        (TrialState.PRUNED, Cause.PRUNED, "trial-00077", "trial-00077"),
    ],
)
def test_a_run_s_name_says_how_its_trial_ended_if_not_well(
    state: TrialState, cause: Cause | None, before: str, after: str
) -> None:
    assert name_at_end(TrialRecord(7, state, {}, cause=cause), before) == after

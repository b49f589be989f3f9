"""Why a runner ended an attempt survives on its Job, for runners of any version."""

from __future__ import annotations

import json

from studyflow.executors.diagnosis import How
from studyflow.executors.kubernetes.fence import FENCE_ANNOTATION, Fence
from studyflow.reasons import Code, Reason
from studyflow.trial import Cause


def read(annotation: str) -> Fence | None:
    return Fence.read({"metadata": {"annotations": {FENCE_ANNOTATION: annotation}}})


def test_a_reason_is_read_as_it_was_written() -> None:
    reason = Reason(Code.DISK_FULL, "It wrote more than its disk space.", "write less.")
    fence = Fence.because(Cause.USER_ERROR, reason)

    found = read(fence.to_json())

    assert found == fence
    assert found is not None
    assert found.reason == reason


def test_a_fence_of_an_earlier_version_has_the_code_of_its_cause() -> None:
    found = read(json.dumps({"how": "stopped", "cause": "pruned", "message": "worse"}))

    assert found == Fence(How.STOPPED, Cause.PRUNED, "worse")
    assert found is not None
    assert found.reason == Reason(Cause.PRUNED, "worse")


def test_a_code_of_a_later_version_is_passed_over() -> None:
    document = {"how": "stopped", "cause": "pruned", "message": "worse", "code": "meteor"}

    assert read(json.dumps(document)) == Fence(How.STOPPED, Cause.PRUNED, "worse")

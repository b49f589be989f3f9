"""Each end has a code: nothing said, and something damaged or foreign, are never the same one."""

from __future__ import annotations

import pytest

from studyflow.executors.diagnosis import Ending, How, NoDocument, blame_device, diagnose
from studyflow.reasons import Code, ReasonCode
from studyflow.trial import Cause, Outcome, Trial

TRIAL = Trial("demo", 7, {}, metrics=("loss",))
EXITED = Ending(How.EXITED, exit_code=0)


def document(cause: Cause = Cause.OK, number: int = 7) -> bytes:
    return Outcome("demo", number, 1, cause, {"loss": 0.5}).to_json().encode()


@pytest.mark.fault("F59")
@pytest.mark.parametrize(
    ("ending", "said", "log", "code"),
    [
        (EXITED, document(), "", Cause.OK),
        (EXITED, None, "", Code.OUTCOME_MISSING),
        (EXITED, None, "finished: loss=0.5", Code.OUTCOME_MISSING),
        (EXITED, b"", "", Code.OUTCOME_DAMAGED),
        (EXITED, document()[:20], "", Code.OUTCOME_DAMAGED),
        (EXITED, NoDocument("a pipe"), "", Code.OUTCOME_DAMAGED),
        (EXITED, document(number=8), "", Code.OUTCOME_FOREIGN),
        (EXITED, document(Cause.LOST), "", Code.OUTCOME_REFUSED),
        (Ending(How.LOST), None, "", Cause.LOST),
        (Ending(How.REMOVED), None, "", Code.FOLDER_REMOVED),
        (Ending(How.TIMEOUT), None, "", Cause.TIMEOUT),
        (Ending(How.STOPPED, stop_cause=Cause.PRUNED), None, "", Cause.PRUNED),
        (Ending(How.EXITED, exit_code=-9, oom=True), None, "", Cause.HOST_OOM),
        (Ending(How.EXITED, exit_code=-9), None, "", Cause.LOST),
        (Ending(How.EXITED, exit_code=1), None, "MemoryError", Cause.HOST_OOM),
        (Ending(How.EXITED, exit_code=1), None, "KeyError: 1", Cause.USER_ERROR),
    ],
)
def test_an_end_has_a_code(
    ending: Ending, said: bytes | NoDocument | None, log: str, code: ReasonCode
) -> None:
    assert diagnose(ending, said, log, TRIAL).reason.code is code


def test_a_refusal_comes_with_the_way_out_apart_from_what_is_the_matter() -> None:
    reason = diagnose(EXITED, None, "", TRIAL).reason

    assert reason.message == "Trial 7 ended without an objective value (exit code 0)."
    assert reason.hint == "call sdk.finish(...) before the script ends."


def test_a_broken_device_takes_the_place_of_the_script_s_error() -> None:
    failed = Outcome("demo", 7, 1, Cause.USER_ERROR, {}, "Exit code 1.", hint="read the log.")

    blamed = blame_device(failed, "CUDA error: uncorrectable ECC error encountered")

    assert (blamed.reason.code, blamed.hint) == (Cause.NODE_FAULT, None)

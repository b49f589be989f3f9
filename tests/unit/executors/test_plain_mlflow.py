"""What MLflow's refusals in a script's log are known by; `tests/docs` has MLflow's own."""

from __future__ import annotations

import pytest

from studyflow.executors.diagnosis import Ending, How, diagnose
from studyflow.trial import Cause, TrackingRef, Trial

pytestmark = pytest.mark.fault("F74")

RUN = "0123456789abcdef0123456789abcdef"
TRIAL = Trial("demo", 7, {"lr": 0.5}, tracking=TrackingRef("http://mlflow:5000", RUN))

OTHER_PARAM = (
    "mlflow.exceptions.MlflowException: Changing param values is not allowed. Param with key='lr' "
    f"was already logged with value='0.5' for run ID='{RUN}'. Attempted logging new value '1.0'."
)
TRACEBACK = (
    "Traceback (most recent call last):\n"
    '  File "/code/train.py", line 9, in <module>\n'
    '    mlflow.log_param("lr", 1.0)\n'
    '  File "/venv/lib/site-packages/mlflow/tracking/fluent.py", line 983, in log_param\n'
    "    return MlflowClient().log_param(run_id, key, value, synchronous=synchronous)\n"
)
ADVICE = "\n\nThe cause of this error is typically due to repeated calls\ntracking store.\n"


def judged(log: str, code: int = 1, trial: Trial = TRIAL) -> tuple[Cause, str]:
    outcome = diagnose(Ending(How.EXITED, exit_code=code), None, log, trial)
    return outcome.cause, outcome.message


def test_a_refusal_is_told_with_the_line_of_the_script() -> None:
    cause, message = judged(TRACEBACK + OTHER_PARAM + ADVICE)
    assert cause is Cause.USER_ERROR
    assert message.startswith("MLflow refused the parameter lr=1.0: the trial's run has lr=0.5")
    assert '(train.py:9: mlflow.log_param("lr", 1.0))' in message


def test_a_refusal_that_the_script_survived_is_not_why_it_failed() -> None:
    later = 'Traceback (most recent call last):\n  File "/code/train.py", line 20\nKeyError: "x"\n'
    assert "KeyError" in judged(TRACEBACK + OTHER_PARAM + "\n" + later)[1]
    assert "Last line: tracking store." in judged(OTHER_PARAM + ADVICE)[1]


@pytest.mark.parametrize(
    "trial", [Trial("demo", 7, {}), Trial("demo", 7, {}, tracking=TrackingRef("http://x", "other"))]
)
def test_a_refusal_about_another_run_is_the_scripts_own_affair(trial: Trial) -> None:
    assert judged(TRACEBACK + OTHER_PARAM + ADVICE, trial=trial)[1].startswith("Exit code 1.")


def test_a_refusal_that_autologging_made_a_warning_of_is_told_where_no_value_came() -> None:
    cause, message = judged(f"WARNING mlflow.utils: Encountered unexpected error: {OTHER_PARAM}", 0)
    assert cause is Cause.BAD_METRIC
    assert "MLflow refused the parameter lr=1.0" in message
    assert "call sdk.finish" not in message

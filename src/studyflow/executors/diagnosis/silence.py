"""Why a script that ended in order gave no result, as far as its log tells."""

from __future__ import annotations

import re
from typing import Final

from studyflow.executors.diagnosis.text import readable
from studyflow.executors.plain_mlflow import explain_warning
from studyflow.reasons import Code, Reason
from studyflow.trial import TRIAL_VARIABLE, Trial
from studyflow.trial.launchers import find_silence

_FINISHED_ALONE: Final = re.compile(r"^finished: \S.*=[-+.\w]+$", re.MULTILINE)
"""What `sdk.finish` prints outside a study."""


def why_silent(log_tail: str, trial: Trial) -> Reason:
    """Return why an attempt has no result whose script ended in order and said nothing.

    Args:
        log_tail: The end of standard output and standard error; may be torn and hold anything.
        trial: The attempt.
    """
    ended = f"Trial {trial.number} ended without an objective value (exit code 0)"
    rank = find_silence(log_tail)
    if rank is not None:
        number, size = rank.variables
        return Reason(
            Code.OUTCOME_MISSING,
            f"{ended}: a process of rank {rank.number} called the SDK ({number}={rank.number}, "
            f"{size}={rank.size}), and only rank 0 reports.",
            "in a distributed training, call sdk.finish(...) in rank 0 too; in any other, do not "
            f"set {number} and {size} (trial.env of the study file, or the script).",
        )
    alone = _FINISHED_ALONE.search(log_tail)
    if alone is not None:
        return Reason(
            Code.OUTCOME_MISSING,
            f"{ended}. Its log says {readable(alone[0], 60)!r}, as sdk.finish(...) does where the "
            f"variable {TRIAL_VARIABLE} is not set.",
            "hand it on to the process that trains: env -i, sudo, ssh and containers leave it out.",
        )
    refused = explain_warning(log_tail, trial)
    if refused is not None:
        return Reason(Code.OUTCOME_MISSING, f"{ended}. {refused.message}", refused.hint)
    hint = "call sdk.finish(...) before the script ends."
    return Reason(Code.OUTCOME_MISSING, f"{ended}.", hint)

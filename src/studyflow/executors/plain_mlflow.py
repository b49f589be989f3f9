"""Scripts that log by plain MLflow: what leads them to their trial's run, and how that fails.

MLflow's first `start_run` (or first call that logs) opens the run of `MLFLOW_RUN_ID`. Every further
run is a new one, and so is the first of a script that removed the variable; MLflow gives each of
them the tags in `MLFLOW_RUN_CONTEXT`, whatever its experiment, so that the tracker finds it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Final

from studyflow.reasons import Cause, Reason
from studyflow.trial import ATTEMPT_TAG, TRIAL_RUN_TAG, Trial

_CONTEXT: Final = "MLFLOW_RUN_CONTEXT"

_TRACEBACK: Final = "Traceback (most recent call last):"
_FRAME: Final = re.compile(r'^  File "([^"\n]+)", line ([0-9]+), in .*\n    (.+)$', re.MULTILINE)
_OTHER_EXPERIMENT: Final = re.compile(
    r"Cannot start run with ID (\w+) because active experiment ID does not match"
)
_UNKNOWN_RUN: Final = re.compile(r"Run (?:with id=|')(\w+)'? not found")
_OTHER_PARAM: Final = re.compile(
    r"Changing param values is not allowed\. Param with key='(?P<key>.+?)' was already logged with"
    r" value='(?P<old>.*?)' for run ID='(?P<run>\w+)'\. Attempted logging new value '(?P<new>.*?)'"
)
_OTHER_PARAMS: Final = re.compile(
    r"Changing param values is not allowed\. Params were already logged='\[\{'key': '(?P<key>.+?)',"
    r" 'old_value': '(?P<old>.*?)', 'new_value': '(?P<new>.*?)'\}.*\]' for run ID='(?P<run>\w+)'"
)
"""MLflow's words; a test holds them against those of the MLflow that is installed."""


def mlflow_variables(
    trial: Trial, given: Mapping[str, str], token: str | None = None
) -> dict[str, str]:
    """Return the variables by which MLflow in a script finds the trial's run; empty without one.

    Args:
        trial: The attempt.
        given: The script's other variables. Tags that they hold for MLflow's runs are kept.
        token: What the attempt writes to its run with; `None` where MLflow asks for none.
    """
    if trial.tracking is None:
        return {}
    tags = {TRIAL_RUN_TAG: trial.tracking.run_id, ATTEMPT_TAG: str(trial.attempt)}
    try:
        kept = json.loads(given.get(_CONTEXT, "{}"))
    except (ValueError, RecursionError):
        kept = {}
    return {
        "MLFLOW_TRACKING_URI": trial.tracking.uri,
        "MLFLOW_RUN_ID": trial.tracking.run_id,
        _CONTEXT: json.dumps({**(kept if isinstance(kept, dict) else {}), **tags}),
        **({} if token is None else {"MLFLOW_TRACKING_TOKEN": token}),
    }


def explain_crash(log_tail: str, trial: Trial) -> Reason | None:
    """Return what MLflow refused a script that an exception ended; `None` if it was not that.

    Args:
        log_tail: The end of its output. Only the last traceback counts.
        trial: The attempt.
    """
    _, found, last = log_tail.rpartition(_TRACEBACK)
    return _explain(last, trial, _script_line(last)) if found else None


def explain_warning(log_tail: str, trial: Trial) -> Reason | None:
    """Return what MLflow refused a script that went on; `None` when nothing is known of it.

    MLflow's autologging turns what it is refused into a warning, and loses all that it was about to
    log.
    """
    return _explain(log_tail, trial, "")


def _explain(text: str, trial: Trial, line: str) -> Reason | None:
    run = trial.tracking
    if run is None:
        return None
    if (match := _OTHER_EXPERIMENT.search(text)) and match[1] == run.run_id:
        return Reason(
            Cause.USER_ERROR,
            "MLflow did not start the trial's run, because the script has chosen another "
            f"experiment than the study's before, by mlflow.set_experiment(...){line}.",
            "take that line out, or write the same name into the study file: `experiment: NAME`.",
        )
    if (match := _UNKNOWN_RUN.search(text)) and match[1] == run.run_id:
        return Reason(
            Cause.USER_ERROR,
            "The MLflow where the script logs does not have the trial's run, which is at "
            f"{run.uri}{line}.",
            "take mlflow.set_tracking_uri(...) out (and MLFLOW_TRACKING_URI, if the script sets "
            "it), or run the study with that address in MLFLOW_TRACKING_URI.",
        )
    for pattern in (_OTHER_PARAM, _OTHER_PARAMS):
        if (match := pattern.search(text)) and match["run"] == run.run_id:
            return _explain_param(match["key"], match["old"], match["new"], trial, line)
    return None


def _explain_param(key: str, old: str, new: str, trial: Trial, line: str) -> Reason:
    refused = (
        f"MLflow refused the parameter {key}={_short(new)}: the trial's run has {key}={_short(old)}"
        f" already, and a parameter of a run never changes{line}."
    )
    if key in trial.params:
        hint = "the study logs its parameters itself; log another value under another name."
    elif trial.attempt > 1:
        refused = f"{refused} An earlier attempt of this trial logged it."
        hint = (
            f"log what may differ from attempt to attempt as a tag: mlflow.set_tag({key!r}, ...)."
        )
    else:
        hint = "give each of several values a name or a nested run of its own."
    return Reason(Cause.USER_ERROR, refused, hint)


def _script_line(traceback: str) -> str:
    """Return where the script's own code called what failed; empty when that is not seen."""
    frames = [match for match in _FRAME.finditer(traceback) if "site-packages" not in match[1]]
    if not frames:
        return ""
    path, number, code = frames[-1].groups()
    return f" ({PurePath(path).name}:{number}: {_short(code.strip(), 80)})"


def _short(text: str, limit: int = 40) -> str:
    plain = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"

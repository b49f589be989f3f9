"""How a study's facts are written into Optuna's storage, and read back as records.

Everything studyflow adds to a trial is a user attribute with one of the names below; a plain
`optuna.Study` can be read by the same rules. Constraints are Optuna's own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import optuna

from studyflow.record import Loss, TrialRecord, TrialState
from studyflow.trial import Cause, ParamValue

CAUSE: Final = "cause"
MESSAGE: Final = "message"
ATTEMPT: Final = "attempt"
ATTEMPTS: Final = "attempts"
"""Ended attempts that were followed by another: a list of [attempt, cause, message, seconds, node,
end]; what is not known is `null`, and older entries are shorter."""
HOLDER: Final = "holder"
"""Place that looks after the newest attempt."""
METRICS: Final = "metrics"
SECONDS: Final = "trained_seconds"
NODE: Final = "node"
RUN_ID: Final = "mlflow_run_id"
TAKEN_OVER: Final = "taken_over_from"
"""Name of the study that a trial was copied from; such trials use up no budget."""
POINT: Final = "fixed_params"
"""System attribute in which Optuna keeps the point that a trial was enqueued with."""
SUGGESTION: Final = "studyflow:suggestion"
"""System attribute that the BoTorch sampler writes."""

FORMAT: Final = "studyflow:format"
"""Study attribute: the format of all that stands here, a number; one without it is of format 1."""
FORMAT_NUMBER: Final = 1
"""The format written here. What an older one lacks is read as absent, and what a newer studyflow
adds is passed over; the number goes up when a runner of before would go on wrongly."""
IDENTITY: Final = "studyflow:identity"
"""Study attribute: objectives and search space, which may not change."""
SPEC: Final = "studyflow:spec"
"""Study attribute: the study file, with its run's own numbers, that trials were last started by, as
YAML. A run that starts none, such as one that is cancelled while it waits, leaves it as it is."""
SEED: Final = "studyflow:seed"
"""Study attribute: the seed drawn when the study file names none."""
IMAGE: Final = "studyflow:image"
"""Study attribute: [image of the study file, the same image by its digest]."""
PAUSED: Final = "studyflow:paused"
"""Study attribute: whether no trial may start until someone resumes the study."""
BEAT: Final = "studyflow:beat:"
"""Study attribute, followed by a place: changes again and again while a runner works there."""
PARDONS: Final = "studyflow:pardoned-nodes"
"""Study attribute: by node, how many of its failures no longer count; see `study.nodes`."""
FORKED_FROM: Final = "studyflow:forked-from"
"""Study attribute: name of the study whose trials were taken over."""

_STATES: Final = {
    optuna.trial.TrialState.WAITING: TrialState.WAITING,
    optuna.trial.TrialState.RUNNING: TrialState.RUNNING,
    optuna.trial.TrialState.COMPLETE: TrialState.COMPLETE,
    optuna.trial.TrialState.PRUNED: TrialState.PRUNED,
    optuna.trial.TrialState.FAIL: TrialState.FAILED,
}

OPTUNA_STATES: Final = {state: optuna_state for optuna_state, state in _STATES.items()}
"""Optuna's state for each of ours."""


def to_record(
    frozen: optuna.trial.FrozenTrial, fixed: Mapping[str, ParamValue] | None = None
) -> TrialRecord:
    """Return one trial of the storage as a record.

    Args:
        frozen: The trial; one that studyflow did not make is read as far as it goes.
        fixed: The study's fixed parameters, shown beside the searched ones.
    """
    attrs = frozen.user_attrs
    state = _STATES[frozen.state]
    return TrialRecord(
        number=frozen.number,
        state=state,
        params={**frozen.params, **(fixed or {})},
        values=tuple(frozen.values) if state is TrialState.COMPLETE and frozen.values else None,
        metrics=attrs.get(METRICS, {}),
        constraints=dict(frozen.constraints) if state is TrialState.COMPLETE else {},
        intermediate=dict(frozen.intermediate_values),
        cause=_cause(frozen),
        message=str(attrs.get(MESSAGE, "")),
        attempt=int(attrs.get(ATTEMPT, 0)),
        holder=attrs.get(HOLDER),
        lost_attempts=frozenset(entry[0] for entry in attrs.get(ATTEMPTS, ())),
        lost_seconds=sum(entry[3] or 0.0 for entry in attrs.get(ATTEMPTS, ()) if len(entry) > 3),
        losses=tuple(_loss(entry) for entry in attrs.get(ATTEMPTS, ())),
        node=attrs.get(NODE),
        started_at=None if frozen.datetime_start is None else frozen.datetime_start.timestamp(),
        finished_at=None
        if frozen.datetime_complete is None
        else frozen.datetime_complete.timestamp(),
        trained_seconds=attrs.get(SECONDS),
        run_id=attrs.get(RUN_ID),
        suggestion=_suggestion(frozen),
        is_enqueued=bool(frozen.system_attrs.get(POINT)),
        is_taken_over=TAKEN_OVER in attrs,
    )


def _loss(entry: Sequence[Any]) -> Loss:
    attempt, cause, _, _, node, ended_at = [*entry, None, None, None, None][:6]
    return Loss(attempt, _known_cause(str(cause)) or Cause.LOST, node, ended_at)


def _known_cause(text: str) -> Cause | None:
    try:
        return Cause(text)
    except ValueError:
        return None


def _cause(frozen: optuna.trial.FrozenTrial) -> Cause | None:
    text = frozen.user_attrs.get(CAUSE)
    if text is not None:
        return _known_cause(text)
    if frozen.state is optuna.trial.TrialState.COMPLETE:
        return Cause.OK
    return Cause.PRUNED if frozen.state is optuna.trial.TrialState.PRUNED else None


def _suggestion(frozen: optuna.trial.FrozenTrial) -> Mapping[str, Any] | None:
    # In pieces, ":0", ":1", …: databases limit the length of one attribute.
    pieces: list[str] = []
    while (piece := frozen.system_attrs.get(f"{SUGGESTION}:{len(pieces)}")) is not None:
        pieces.append(str(piece))
    try:
        document = json.loads("".join(pieces)) if pieces else None
    except ValueError:
        return None
    return document if isinstance(document, dict) else None

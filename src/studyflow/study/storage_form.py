"""How a study is written into Optuna's storage, and read back as records.

Everything studyflow adds to a trial is a user attribute with one of the names below; a plain
`optuna.Study` can be read by the same rules. Constraints are Optuna's own.

A trial may have several attempts, and each may leave something before it is lost. A record is of
one attempt: the one that is the newest when the trial's state is written.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import optuna

from studyflow.reasons import read_code
from studyflow.study.lost_form import ATTEMPTS, followed_attempts, known_cause
from studyflow.trial import Cause, ParamValue
from studyflow.trial.cost_form import begin_in, costs_in, resumptions_in
from studyflow.trial.record import LostAttempt, PausedAttempt, TrialRecord, TrialState

END: Final = "end"
"""What the end of an attempt wrote: one JSON object that names the attempt. The five attributes and
the constraints that format 1 kept are written with it, for older versions and for
readers that use Optuna alone; where both stand, this one is read."""
CURVE: Final = "curve"
"""Which reported values an earlier attempt left, once a later one reports: its number, the steps
that it has not come to again (`hidden`) and those before its first one (`earlier`), and the system
attributes in which a pruner keeps its own notes of them (`rungs`)."""
RUNG: Final = "completed_rung_"
"""System attribute, followed by a number, in which Optuna's successive halving keeps the value that
a trial had when it came to a rung."""
CAUSE: Final = "cause"
MESSAGE: Final = "message"
"""Why the attempt ended, for people. In format 1 it may hold the way out too, and is shown as it
is."""
HINT: Final = "hint"
"""The way out of it."""
CODE: Final = "code"
"""The cause more exactly; a `studyflow.reasons.Code`."""
ATTEMPT: Final = "attempt"
HOLDER: Final = "holder"
"""Site that looks after the newest attempt."""
METRICS: Final = "metrics"
SECONDS: Final = "trained_seconds"
NODE: Final = "node"
RUN_ID: Final = "mlflow_run_id"
TAKEN_OVER: Final = "taken_over_from"
"""Name of the study that a trial was copied from; such trials use up no budget."""
CONSTRAINT: Final = "constraints:"
"""System attribute, followed by a bound's name, in which Optuna keeps its violation."""
POINT: Final = "fixed_params"
"""System attribute in which Optuna keeps the point that a trial was enqueued with."""
SUGGESTION: Final = "studyflow:suggestion"
"""System attribute that the BoTorch sampler writes."""

FIRST_FAILURE: Final = "first_failure"
"""Whether a trial failed before any had succeeded, and costs no budget."""
GIVEN_BACK: Final = "studyflow:given-back"
"""Study attribute: numbers of failed trials that use no budget any more."""

FORMAT: Final = "studyflow:format"
"""Study attribute: the format of all that stands here, a number; one without it is of format 1."""
FORMAT_NUMBER: Final = 1
"""The format written here. What an older one lacks is read as absent, and what a newer studyflow
adds is passed over; the number goes up when an older studyflow would go on wrongly."""
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
"""Study attribute, followed by a site: changes again and again while a runner works there."""
RESETS: Final = "studyflow:pardoned-nodes"
"""Study attribute: by node, how many of its failures no longer count; see `study.nodes`."""
FINISH_BY: Final = "studyflow:finish-by"
"""Study attribute: [`budget.finish_by` as the study file has it, the moment that this is in seconds
since the epoch]: a time of day is one day's, for all runs and runners."""
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


_NOTHING: Final[Mapping[str, Any]] = {
    CAUSE: None,
    MESSAGE: "",
    HINT: None,
    CODE: None,
    METRICS: {},
    SECONDS: None,
    NODE: None,
}
"""What format 1 keeps of an end, as it reads when there is none."""


# A plain Optuna study may have attributes of these names that mean something else: what is none of
# ours is read as if it were not there.


def attempt_in(attrs: Mapping[str, Any]) -> int:
    """Return the number of a trial's newest attempt among its user attributes; 0 without one."""
    number = attrs.get(ATTEMPT)
    return number if type(number) is int else 0


def _text_in(attrs: Mapping[str, Any], name: str) -> str | None:
    text = attrs.get(name)
    return text if isinstance(text, str) else None


def _numbers_in(attrs: Mapping[str, Any], name: str) -> dict[str, float]:
    numbers = attrs.get(name)
    if not isinstance(numbers, dict):
        return {}
    return {key: value for key, value in numbers.items() if isinstance(value, int | float)}


def _curve_in(attrs: Mapping[str, Any]) -> Mapping[str, Any]:
    curve = attrs.get(CURVE)
    if not isinstance(curve, dict):
        return {}
    lists = (curve.get(name, []) for name in ("hidden", "earlier", "rungs"))
    return curve if all(isinstance(one, list) for one in lists) else {}


def ownership(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes that change when a trial goes on: with another attempt or holder."""
    return {key: attrs.get(key) for key in (ATTEMPT, HOLDER, ATTEMPTS)}


def has_gone_on(frozen: optuna.trial.FrozenTrial, seen: TrialRecord) -> bool:
    """Return whether a trial has another attempt, holder, loss or pause than a record of it."""
    attrs = frozen.user_attrs
    now = (attempt_in(attrs), _text_in(attrs, HOLDER), followed_attempts(attrs))
    return now != (seen.attempt, seen.holder, seen.followed_attempts)


def is_cancelled(frozen: optuna.trial.FrozenTrial) -> bool:
    """Return whether a trial was cancelled, or ended by a limit: its point was never evaluated."""
    is_ended = frozen.user_attrs.get(CAUSE) in (Cause.CANCELLED, Cause.BUDGET)
    return frozen.state.is_finished() and is_ended


def end_of_attempt(
    attrs: Mapping[str, Any], constraints: Mapping[str, float], **end: Any
) -> dict[str, Any]:
    """Return the user attributes that an end writes.

    Args:
        attrs: Those that the trial has.
        constraints: Violation of each bound.
        end: What else is known of it, by the names of format 1.
    """
    document = {"attempt": attempt_in(attrs), **_NOTHING, **end}
    document["constraints"] = dict(constraints)
    # What an earlier attempt left is overwritten, also where this one has nothing to say.
    kept = {
        key: document[key]
        for key, nothing in _NOTHING.items()
        if document[key] != nothing or key in attrs
    }
    return {END: document, **kept}


def of_one_attempt(frozen: optuna.trial.FrozenTrial) -> optuna.trial.FrozenTrial:
    """Return a trial without what other attempts left: the same object when there is nothing."""
    attrs = _attrs_of_one_attempt(frozen)
    system_attrs = _system_attrs_of_one_attempt(frozen)
    hidden = _curve_in(frozen.user_attrs).get("hidden", ())
    curve = {k: v for k, v in frozen.intermediate_values.items() if k not in hidden}
    if (
        attrs == frozen.user_attrs
        and system_attrs == frozen.system_attrs
        and len(curve) == len(frozen.intermediate_values)
    ):
        return frozen
    shown = copy.copy(frozen)
    shown.user_attrs, shown.intermediate_values = attrs, curve
    shown.system_attrs = system_attrs
    return shown


def as_sampled(frozen: optuna.trial.FrozenTrial) -> optuna.trial.FrozenTrial:
    """Return a trial as samplers and pruners see it among others: a paused one as pruned.

    It may never be taken up, and what it has reported says as much as that of a pruned one. Taken
    up, it runs again.
    """
    shown = of_one_attempt(frozen)
    paused = paused_in(frozen.user_attrs)
    if frozen.state is not optuna.trial.TrialState.RUNNING or paused is None:
        return shown
    shown = copy.copy(shown)
    shown.state = optuna.trial.TrialState.PRUNED
    started, last = shown.datetime_start, shown.last_step
    ended = None if paused.ended_at is None else datetime.fromtimestamp(paused.ended_at)
    is_known = started is not None and ended is not None and ended > started
    shown.datetime_complete = ended if is_known else started
    shown.values = None if last is None else [shown.intermediate_values[last]]
    return shown


def paused_in(attrs: Mapping[str, Any]) -> PausedAttempt | None:
    """Return the newest attempt of a trial if it was paused; `None` if another one follows."""
    followed = followed_attempts(attrs)
    newest = followed[-1] if followed else None
    if isinstance(newest, PausedAttempt) and newest.attempt == attempt_in(attrs):
        return newest
    return None


def _attrs_of_one_attempt(frozen: optuna.trial.FrozenTrial) -> dict[str, Any]:
    attrs = frozen.user_attrs
    end = _end(frozen)
    if end is None and frozen.state.is_finished():
        return attrs  # ended by the rules of format 1
    wanted = end or {}
    others = {k: v for k, v in attrs.items() if k not in _NOTHING}
    known = {
        key: wanted.get(key, nothing)
        for key, nothing in _NOTHING.items()
        if key in attrs or wanted.get(key, nothing) != nothing
    }
    return others | {key: value for key, value in known.items() if value != _NOTHING[key]}


def _system_attrs_of_one_attempt(frozen: optuna.trial.FrozenTrial) -> dict[str, Any]:
    end, rungs = _end(frozen), _curve_in(frozen.user_attrs).get("rungs", ())
    attrs = {k: v for k, v in frozen.system_attrs.items() if k not in rungs}
    if end is None and frozen.state.is_finished():
        return attrs
    others = {k: v for k, v in attrs.items() if not k.startswith(CONSTRAINT)}
    constraints = {} if end is None else end.get("constraints", {})
    return others | {f"{CONSTRAINT}{name}": value for name, value in constraints.items()}


def _end(frozen: optuna.trial.FrozenTrial) -> Mapping[str, Any] | None:
    """Return what ended a finished trial, if it is told by one value of its newest attempt."""
    end = frozen.user_attrs.get(END)
    if not frozen.state.is_finished() or not isinstance(end, dict):
        return None
    is_ours = isinstance(end.get("constraints", {}), dict)
    return end if is_ours and end.get("attempt") == attempt_in(frozen.user_attrs) else None


def leftovers(frozen: optuna.trial.FrozenTrial) -> tuple[str, ...]:
    """Return the names of what other attempts than the newest left with a finished trial."""
    if not frozen.state.is_finished():
        return ()
    if END in frozen.user_attrs and _end(frozen) is None:
        return (END,)
    shown = of_one_attempt(frozen)
    return tuple(
        sorted(
            {
                key
                for key, nothing in _NOTHING.items()
                if frozen.user_attrs.get(key, nothing) != shown.user_attrs.get(key, nothing)
            }
            | {
                name
                for name in {*frozen.constraints, *shown.constraints}
                if frozen.constraints.get(name) != shown.constraints.get(name)
            }
        )
    )


def with_points(
    frozen: optuna.trial.FrozenTrial, points: Mapping[int, float], most: int
) -> tuple[dict[int, float], dict[str, Any]]:
    """Return which reported values to write, and the attributes to write with them.

    A later attempt replaces what an earlier one reported, step by step. Where it goes on from a
    checkpoint, what came before its first step stays; what an earlier one reported beyond is hidden
    until it comes there.

    Args:
        frozen: A running trial, with whatever is stored of it.
        points: Reported values of its newest attempt by step.
        most: How many values a trial may have.
    """
    attempt, known = attempt_in(frozen.user_attrs), frozen.intermediate_values
    stored = _curve_in(frozen.user_attrs)
    hidden, earlier = set(stored.get("hidden", ())), set(stored.get("earlier", ()))
    rungs = set(stored.get("rungs", ()))
    is_first = attempt > max(int(stored.get("attempt", 0)), 1)
    if is_first:
        earlier = set(known) - hidden
        if any(step >= min(points) for step in earlier):  # it comes to them again
            rungs = {key for key in frozen.system_attrs if key.startswith(RUNG)}
    new: dict[int, float] = {}
    for step, value in points.items():
        is_free = step in hidden or step in earlier
        if is_free or (step not in known and len(known.keys() | new.keys()) < most):
            new[step] = value
            hidden |= {other for other in earlier if other >= step}
            hidden, earlier = hidden - {step}, {other for other in earlier if other < step}
    curve = {
        "attempt": attempt,
        "hidden": sorted(hidden),
        "earlier": sorted(earlier),
        "rungs": sorted(rungs),
    }
    is_changed = bool(new) and (is_first or (stored and curve != stored))
    return new, {CURVE: curve} if is_changed else {}


def with_rung(attrs: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return the user attributes to write when a pruner writes a system attribute.

    Args:
        attrs: What is stored of the trial.
        key: The system attribute.
    """
    stored = _curve_in(attrs)
    if key not in stored.get("rungs", ()):
        return {}
    return {CURVE: {**stored, "rungs": [other for other in stored["rungs"] if other != key]}}


def has_reported(frozen: optuna.trial.FrozenTrial) -> bool:
    """Return whether the newest attempt of a trial has reported a value."""
    if attempt_in(frozen.user_attrs) > 1:
        stored = _curve_in(frozen.user_attrs)
        return bool(stored.get("attempt") == attempt_in(frozen.user_attrs))
    return frozen.last_step is not None


def to_record(
    frozen: optuna.trial.FrozenTrial, fixed: Mapping[str, ParamValue] | None = None
) -> TrialRecord:
    """Return one trial of the storage as a record.

    Args:
        frozen: The trial; one that studyflow did not make is read as far as it goes.
        fixed: The study's fixed parameters, shown beside the searched ones.
    """
    left = leftovers(frozen)
    frozen = of_one_attempt(frozen)
    attrs = frozen.user_attrs
    state = _STATES[frozen.state]
    followed = followed_attempts(attrs)
    return TrialRecord(
        number=frozen.number,
        state=state,
        params={**frozen.params, **(fixed or {})},
        values=tuple(frozen.values) if state is TrialState.COMPLETE and frozen.values else None,
        metrics=_numbers_in(attrs, METRICS),
        constraints=dict(frozen.constraints) if state is TrialState.COMPLETE else {},
        intermediate=dict(frozen.intermediate_values),
        cause=_cause(frozen),
        message=str(attrs.get(MESSAGE, "")),
        hint=_text_in(attrs, HINT),
        code=read_code(attrs.get(CODE)),
        attempt=attempt_in(attrs),
        holder=_text_in(attrs, HOLDER),
        lost_attempts=tuple(one for one in followed if isinstance(one, LostAttempt)),
        pauses=tuple(one for one in followed if isinstance(one, PausedAttempt)),
        resumptions=resumptions_in(attrs),
        costs=costs_in(attrs),
        begin=begin_in(attrs),
        node=_text_in(attrs, NODE),
        started_at=None if frozen.datetime_start is None else frozen.datetime_start.timestamp(),
        finished_at=None
        if frozen.datetime_complete is None
        else frozen.datetime_complete.timestamp(),
        trained_seconds=seconds if isinstance(seconds := attrs.get(SECONDS), int | float) else None,
        run_id=_text_in(attrs, RUN_ID),
        suggestion=_suggestion(frozen),
        is_enqueued=bool(frozen.system_attrs.get(POINT)),
        is_taken_over=TAKEN_OVER in attrs,
        is_first_failure=bool(attrs.get(FIRST_FAILURE, False)),
        leftovers=left,
    )


def _cause(frozen: optuna.trial.FrozenTrial) -> Cause | None:
    text = frozen.user_attrs.get(CAUSE)
    if text is not None:
        return known_cause(text)
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

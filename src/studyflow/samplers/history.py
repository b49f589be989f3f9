"""A study's trials as arrays: finished, running, failed.

Reading is pure: the same trials give the same arrays in any process, which is what makes a
suggestion repeatable. Running trials appear in `pending` only; no count of data includes them.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from studyflow.samplers.arrays import BoolArray, FloatArray, IntArray
from studyflow.samplers.memory import HistoryMemory
from studyflow.samplers.outcome_transforms import clean, impute_pruned
from studyflow.samplers.space.encoding import Encoding

CAUSE_ATTR: Final = "cause"
PARAMETER_CAUSES: Final = frozenset({"host-oom", "cuda-oom", "nan", "timeout"})
"""Causes of failure that the parameters are to blame for: such a point is infeasible. All other
failures say nothing of the parameters."""

DRAW_ATTR: Final = "studyflow:draw"
"""Trial system attribute with the parameters drawn at ask time. Optuna stores a parameter only when
training code suggests it; until then this tells other workers where the trial will be."""
FIXED_ATTR: Final = "fixed_params"
"""Trial system attribute in which Optuna keeps the parameters of an enqueued trial."""
MAX_ATTR_LENGTH: Final = 1020
"""Some database storages keep 2048 characters of an attribute, and quoting doubles its quotes."""

PRUNED_NOISE: Final = 10.0
"""Noise of an imputed value, in units of a measurement's."""
MAX_PENDING: Final = 128
"""Running trials that the model conditions on; the newest if there are more."""


@dataclass(frozen=True)
class History:
    """What a suggestion is based on. All codes are those of one encoding."""

    codes: FloatArray
    """Finished points with an objective value, `n x d`: completed, then pruned."""
    values: FloatArray
    """Their objective values as reported (imputed for pruned trials), `n x m`."""
    noise_factors: FloatArray
    """Noise of each value in units of a measurement's, `n`."""
    constraints: FloatArray
    """Constraint values, feasible at 0 and below, `n x c`; NaN where a trial has none."""
    pending: FloatArray
    """Running and enqueued points, `p x d`; NaN where a parameter is not known yet."""
    failed: FloatArray
    """Points whose trials failed through their parameters, `q x d`."""
    other_failed: FloatArray
    """Points whose trials failed otherwise, `r x d`: not evidence, only not to be repeated."""
    n_completed: int
    """Completed trials among the finished: the first `n_completed` rows."""
    numbers: IntArray
    """Numbers of the finished trials, `n`."""

    @property
    def tried(self) -> FloatArray:
        """All points that have been or are being evaluated."""
        return np.concatenate([self.codes, self.pending, self.failed, self.other_failed])

    @property
    def feasible(self) -> BoolArray:
        """Which finished points are known to be feasible, `n`; all if there are no constraints."""
        if not self.constraints.shape[1]:
            return np.ones(len(self.codes), dtype=np.bool_)
        with np.errstate(invalid="ignore"):
            return np.asarray((self.constraints <= 0.0).all(axis=1))


def union_space(trials: Sequence[FrozenTrial]) -> dict[str, BaseDistribution]:
    """Return every parameter of any trial, with the range that the newest trial gave it."""
    space: dict[str, BaseDistribution] = {}
    for trial in sorted(trials, key=lambda t: t.number):
        space.update(trial.distributions)
    return space


def trials_before(trials: Sequence[FrozenTrial], number: int) -> list[FrozenTrial]:
    """Return the trials as they stood when the trial of this number started, itself left out.

    Args:
        trials: All trials of the study, any state.
        number: One of theirs, of a trial that has started.

    Raises:
        ValueError: No trial of this number has started.
    """
    began = next((trial.datetime_start for trial in trials if trial.number == number), None)
    if began is None:
        raise ValueError(f"Trial {number} has not started.")
    return [_as_of(trial, began) for trial in trials if trial.number < number]


def _as_of(trial: FrozenTrial, moment: datetime) -> FrozenTrial:
    if trial.datetime_complete is not None and trial.datetime_complete <= moment:
        return trial
    then = copy.copy(trial)
    then.state, then.values = TrialState.RUNNING, None
    if trial.datetime_start is None or trial.datetime_start > moment:  # enqueued and still waiting
        then.state, then.params, then.distributions = TrialState.WAITING, {}, {}
        then.system_attrs = {
            key: value for key, value in trial.system_attrs.items() if key == FIXED_ATTR
        }
    return then


def known_parameters(trial: FrozenTrial) -> dict[str, Any]:
    """Return what is known of a trial's parameters: stored, fixed when enqueued, or drawn.

    Drawn values are in Optuna's internal representation; `pending_codes` decodes them.
    """
    fixed = trial.system_attrs.get(FIXED_ATTR) or {}
    return {**fixed, **trial.params}


def encode_draw(params: Mapping[str, Any], space: Mapping[str, BaseDistribution]) -> dict[str, str]:
    """Return the system attributes that publish a draw, in pieces a database can hold."""
    internal = {
        name: float(space[name].to_internal_repr(value)) for name, value in sorted(params.items())
    }
    return chunk_attr(DRAW_ATTR, json.dumps(internal, separators=(",", ":")))


def decode_draw(attrs: Mapping[str, Any], space: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """Return the parameters of a published draw that belong to the space; {} if none is there."""
    text = join_attr(DRAW_ATTR, attrs)
    if text is None:
        return {}
    try:
        internal = json.loads(text)
        return {
            name: space[name].to_external_repr(value)
            for name, value in internal.items()
            if name in space and space[name]._contains(value)
        }
    except (ValueError, TypeError, AttributeError, IndexError):
        return {}


def chunk_attr(key: str, text: str) -> dict[str, str]:
    """Return `text` as attributes `key:0`, `key:1`, ... of at most `MAX_ATTR_LENGTH` characters."""
    pieces = [text[i : i + MAX_ATTR_LENGTH] for i in range(0, len(text), MAX_ATTR_LENGTH)]
    return {f"{key}:{i}": piece for i, piece in enumerate(pieces)}


def join_attr(key: str, attrs: Mapping[str, Any]) -> str | None:
    """Return the text stored by `chunk_attr`, or `None` if there is none."""
    pieces: list[str] = []
    while isinstance(piece := attrs.get(f"{key}:{len(pieces)}"), str):
        pieces.append(piece)
    return "".join(pieces) if pieces else None


def read_history(
    trials: Sequence[FrozenTrial],
    encoding: Encoding,
    space: Mapping[str, BaseDistribution],
    directions: Sequence[StudyDirection],
    *,
    for_trial: int,
    memory: HistoryMemory | None = None,
) -> History:
    """Return the study as arrays.

    Finished trials with a parameter outside the present range are left out (the range was narrowed
    or moved on purpose); so are those that share no parameter with the space.

    Args:
        trials: All trials of the study, any state.
        encoding: The present union space.
        space: The distributions behind the encoding.
        directions: One per objective.
        for_trial: Number of the trial that is asking; it is not pending for itself.
        memory: What is kept of finished trials from one reading to the next; it changes nothing.
    """
    memory = memory or HistoryMemory()
    finished = [t for t in trials if t.state.is_finished() and t.number != for_trial]
    history = memory.history(
        finished,
        (encoding, tuple(directions)),
        lambda: _read_finished(finished, encoding, directions, memory),
    )
    pending = []
    for trial in trials:
        if not trial.state.is_finished() and trial.number != for_trial:
            known = {**decode_draw(trial.system_attrs, space), **known_parameters(trial)}
            codes = encoding.encode(known)
            if not np.isnan(codes).all():
                pending.append((trial.number, codes))
    pending = sorted(pending, key=lambda item: item[0])[-MAX_PENDING:]
    points = _stack([c for _, c in pending], len(encoding.dimensions))
    return replace(history, pending=encoding.mask(points))


def _read_finished(
    finished: Sequence[FrozenTrial],
    encoding: Encoding,
    directions: Sequence[StudyDirection],
    memory: HistoryMemory,
) -> History:
    """Return the finished trials of a study as arrays; none runs."""
    completed, pruned = [], []
    failed, other_failed = list[FloatArray](), list[FloatArray]()
    d = len(encoding.dimensions)
    known = memory.codes(finished, encoding.dimensions, lambda new: _finished_codes(new, encoding))
    for trial, codes in zip(finished, known, strict=True):
        if np.isnan(codes).all():
            continue
        if trial.state is TrialState.COMPLETE:
            completed.append((trial, codes))
        elif trial.state is TrialState.PRUNED:
            pruned.append((trial, codes))
        elif trial.user_attrs.get(CAUSE_ATTR) in PARAMETER_CAUSES:
            failed.append(codes)
        else:
            other_failed.append(codes)
    completed.sort(key=lambda item: item[0].number)
    pruned = sorted(pruned, key=lambda item: item[0].number) if len(directions) == 1 else []
    if not completed:
        other_failed += [codes for _, codes in pruned]
        pruned = []

    values = np.array(
        [[_as_float(v) for v in (trial.values or [math.nan])] for trial, _ in completed]
    ).reshape(len(completed), len(directions))
    if pruned:
        imputed = _impute([t for t, _ in pruned], [t for t, _ in completed], values, directions[0])
        values = np.concatenate([values, imputed[:, None]])
    return History(
        codes=encoding.mask(_stack([c for _, c in completed] + [c for _, c in pruned], d)),
        values=values,
        noise_factors=np.array([1.0] * len(completed) + [PRUNED_NOISE] * len(pruned)),
        constraints=_read_constraints([t for t, _ in completed] + [t for t, _ in pruned]),
        pending=np.empty((0, d)),
        failed=encoding.mask(_stack(failed, d)),
        other_failed=encoding.mask(_stack(other_failed, d)),
        n_completed=len(completed),
        numbers=np.array([t.number for t, _ in (*completed, *pruned)], dtype=np.int64),
    )


def _finished_codes(trials: Sequence[FrozenTrial], encoding: Encoding) -> FloatArray:
    """Return codes, `n x d`; all NaN for a trial with a parameter outside the present range."""
    params = [trial.params for trial in trials]
    codes = encoding.encode_all(params)
    present = np.array(
        [[name in point for name in encoding.names] for point in params], dtype=np.bool_
    ).reshape(codes.shape)
    codes[(present & np.isnan(codes)).any(axis=1)] = math.nan
    return codes


def _stack(rows: Sequence[FloatArray], d: int) -> FloatArray:
    return np.stack(rows) if rows else np.empty((0, d))


def _as_float(value: Any) -> float:
    return math.nan if value is None else float(value)


def _read_constraints(trials: Sequence[FrozenTrial]) -> FloatArray:
    by_trial = [trial.constraints for trial in trials]
    names = sorted({name for constraints in by_trial for name in constraints})
    table = [[_as_float(constraints.get(name)) for name in names] for constraints in by_trial]
    return np.array(table, dtype=np.float64).reshape(len(trials), len(names))


def _impute(
    pruned: Sequence[FrozenTrial],
    completed: Sequence[FrozenTrial],
    values: FloatArray,
    direction: StudyDirection,
) -> FloatArray:
    """Return values for the pruned trials, `p`, in the objective's own units."""
    maximize = direction is StudyDirection.MAXIMIZE
    finals, _ = clean(values[:, 0], maximize=maximize)
    sign = 1.0 if maximize else -1.0
    last_values, peers = [], []
    at_step: dict[int, tuple[FloatArray, FloatArray]] = {}
    for trial in pruned:
        step = trial.last_step
        if step is None:
            last_values.append(math.nan)
            peers.append((np.empty(0), np.empty(0)))
            continue
        if step not in at_step:
            rows = [i for i, t in enumerate(completed) if step in t.intermediate_values]
            reported = sign * np.array([completed[i].intermediate_values[step] for i in rows])
            # A peer that reported NaN there was behind every trial with a number.
            at_step[step] = (np.where(np.isnan(reported), -math.inf, reported), finals[rows])
        last_values.append(sign * _as_float(trial.intermediate_values[step]))
        peers.append(at_step[step])
    return sign * impute_pruned(np.array(last_values), peers, finals)

"""Writes a change of a trial as one, and only while the trial is still as its writer saw it.

Optuna's storages write an attribute, a value or a state at a time, and do not ask whether the
writer still holds the trial. A runner that stood still between its read and its write, or between
two writes, would overwrite what another has done since. `change_trial` compares and sets in one
transaction of a database, or under the lock of a journal.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import optuna
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.storages.journal._storage import JournalOperation
from optuna.trial import FrozenTrial, TrialState

from studyflow.storage.journal import JournalFile

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


@dataclass(frozen=True)
class TrialChange:
    """What one write sets."""

    user_attrs: Mapping[str, Any] = field(default_factory=dict)
    system_attrs: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, tuple[float, BaseDistribution]] = field(default_factory=dict)
    """Value, as Optuna stores it, and distribution. One that is there already is not replaced."""
    intermediate: Mapping[int, float] = field(default_factory=dict)
    """Reported value by step; one that is there already is replaced."""
    state: TrialState | None = None
    """The trial's new state; `None` leaves it."""
    values: Sequence[float] | None = None
    """One value per objective."""

    def is_made(self, trial: FrozenTrial) -> bool:
        """Return whether a trial has all of it."""
        return (
            _has(trial.user_attrs, self.user_attrs)
            and _has(trial.system_attrs, self.system_attrs)
            and all(
                name in trial.params
                and trial.distributions[name].to_internal_repr(trial.params[name]) == value
                for name, (value, _) in self.params.items()
            )
            and all(
                step in trial.intermediate_values
                and _is_same_number(trial.intermediate_values[step], value)
                for step, value in self.intermediate.items()
            )
            and self.state in (None, trial.state)
            and (self.values is None or list(self.values) == trial.values)
        )


@runtime_checkable
class ChangesTrials(Protocol):
    """A storage that changes trials in its own way."""

    def change_trial(self, trial_id: int, expected: Mapping[str, Any], change: TrialChange) -> bool:
        """Return whether a change was made; see the function of this name."""


def change_trial(
    storage: BaseStorage, trial_id: int, expected: Mapping[str, Any], change: TrialChange
) -> bool:
    """Return whether a change was made; it is not when the trial is no longer as expected.

    In a database and in a journal of ours the change is whole or absent, whatever happens to its
    writer, and no other change comes between the read and the write. Any other storage is written
    step by step, the state last.

    Args:
        storage: Where the trial is.
        trial_id: Optuna's id of it.
        expected: User attributes as the writer saw them; `None` stands for one that is absent. A
            trial that is finished is never as expected.
        change: What to set.
    """
    if isinstance(storage, ChangesTrials):
        return storage.change_trial(trial_id, expected, change)
    if isinstance(storage, _CachedStorage):
        storage = storage._backend
    if isinstance(storage, RDBStorage):
        return _change_in_database(storage, trial_id, expected, change)
    if isinstance(storage, JournalStorage) and isinstance(storage._backend, JournalFile):
        return _change_in_journal(storage, storage._backend, trial_id, expected, change)
    lock: AbstractContextManager[Any] = (
        storage._lock if isinstance(storage, InMemoryStorage) else nullcontext()
    )
    with lock:
        return _change_step_by_step(storage, trial_id, expected, change)


def _change_in_database(
    storage: RDBStorage, trial_id: int, expected: Mapping[str, Any], change: TrialChange
) -> bool:
    import sqlalchemy
    from optuna.storages._rdb import models
    from optuna.storages._rdb.storage import _create_scoped_session

    trials, attrs = models.TrialModel, models.TrialUserAttributeModel
    try:
        with _create_scoped_session(storage.scoped_session) as session:
            if storage.engine.name == "sqlite":
                # It has no locks on rows: its driver begins a transaction with the first write.
                session.execute(
                    sqlalchemy.update(trials)
                    .where(trials.trial_id == trial_id)
                    .values(state=trials.state)
                    .execution_options(synchronize_session=False)
                )
            trial = trials.find_or_raise_by_id(trial_id, session, for_update=True)
            if trial.state.is_finished():
                return False
            rows = {
                row.key: row
                for row in session.query(attrs).filter(
                    attrs.trial_id == trial_id, attrs.key.in_([*expected, *change.user_attrs])
                )
            }
            if not _is_expected(
                {k: json.loads(row.value_json) for k, row in rows.items()}, expected
            ):
                return False
            for name, (value, distribution) in change.params.items():
                storage._set_trial_param_without_commit(
                    session, trial_id, name, value, distribution
                )
            _set_steps(session, trial_id, change.intermediate)
            _set_attrs(session, attrs, trial_id, rows, change.user_attrs)
            if change.system_attrs:
                system = models.TrialSystemAttributeModel
                rows = {
                    row.key: row
                    for row in session.query(system).filter(
                        system.trial_id == trial_id, system.key.in_(list(change.system_attrs))
                    )
                }
                _set_attrs(session, system, trial_id, rows, change.system_attrs)
            for objective, value in enumerate(change.values or ()):
                storage._set_trial_value_without_commit(session, trial, objective, value)
            if change.state is not None:
                trial.state = change.state
                if change.state.is_finished():
                    trial.datetime_complete = datetime.now()
    except sqlalchemy.exc.IntegrityError:
        return False  # a parameter that is there already
    return True


def _set_attrs(
    session: Session, model: Any, trial_id: int, rows: Mapping[str, Any], wanted: Mapping[str, Any]
) -> None:
    # A writer has locked the trial, so no row appears between the read and the write.
    for key, value in wanted.items():
        text = json.dumps(value)
        if key in rows:
            rows[key].value_json = text
        else:
            session.add(model(trial_id=trial_id, key=key, value_json=text))


def _set_steps(session: Session, trial_id: int, wanted: Mapping[int, float]) -> None:
    from optuna.storages._rdb.models import TrialIntermediateValueModel as Row

    if not wanted:
        return
    rows = {
        row.step: row
        for row in session.query(Row).filter(Row.trial_id == trial_id, Row.step.in_(list(wanted)))
    }
    for step, value in wanted.items():
        stored, kind = Row.intermediate_value_to_stored_repr(value)
        if step in rows:
            rows[step].intermediate_value, rows[step].intermediate_value_type = stored, kind
        else:
            session.add(
                Row(
                    trial_id=trial_id,
                    step=step,
                    intermediate_value=stored,
                    intermediate_value_type=kind,
                )
            )


def _change_in_journal(
    storage: JournalStorage,
    journal: JournalFile,
    trial_id: int,
    expected: Mapping[str, Any],
    change: TrialChange,
) -> bool:
    with storage._thread_lock, journal.exclusively() as append:
        storage._sync_with_backend()
        trial = storage._replay_result.get_trial(trial_id)
        if not _may_change(trial, expected, change):
            return False
        worker = {"worker_id": storage._replay_result.worker_id, "trial_id": trial_id}
        append([{"op_code": code, **worker, **what} for code, what in _operations(change)])
        storage._sync_with_backend()
    return True


def _operations(change: TrialChange) -> Iterator[tuple[JournalOperation, dict[str, Any]]]:
    """Give the operations of Optuna's journal that make up a change, the state last."""
    for name, (value, distribution) in change.params.items():
        yield (
            JournalOperation.SET_TRIAL_PARAM,
            {
                "param_name": name,
                "param_value_internal": value,
                "distribution": distribution_to_json(distribution),
            },
        )
    for step, value in change.intermediate.items():
        yield (
            JournalOperation.SET_TRIAL_INTERMEDIATE_VALUE,
            {"step": step, "intermediate_value": value},
        )
    for key, attr in change.user_attrs.items():
        yield JournalOperation.SET_TRIAL_USER_ATTR, {"user_attr": {key: attr}}
    for key, attr in change.system_attrs.items():
        yield JournalOperation.SET_TRIAL_SYSTEM_ATTR, {"system_attr": {key: attr}}
    if change.state is not None:
        now = datetime.now(tz=UTC).isoformat(timespec="microseconds")
        ended = {"datetime_complete": now} if change.state.is_finished() else {}
        yield (
            JournalOperation.SET_TRIAL_STATE_VALUES,
            {"state": change.state, "values": change.values, **ended},
        )


def _change_step_by_step(
    storage: BaseStorage, trial_id: int, expected: Mapping[str, Any], change: TrialChange
) -> bool:
    if not _may_change(storage.get_trial(trial_id), expected, change):
        return False
    try:
        for name, (value, distribution) in change.params.items():
            storage.set_trial_param(trial_id, name, value, distribution)
        for step, value in change.intermediate.items():
            storage.set_trial_intermediate_value(trial_id, step, value)
        for key, attr in change.user_attrs.items():
            storage.set_trial_user_attr(trial_id, key, attr)
        for key, attr in change.system_attrs.items():
            storage.set_trial_system_attr(trial_id, key, attr)
        if change.state is not None:
            storage.set_trial_state_values(trial_id, change.state, change.values)
    except optuna.exceptions.UpdateFinishedTrialError:
        return False
    return True


def _may_change(trial: FrozenTrial, expected: Mapping[str, Any], change: TrialChange) -> bool:
    return (
        not trial.state.is_finished()
        and _is_expected(trial.user_attrs, expected)
        and not any(name in trial.params for name in change.params)
    )


def _is_expected(attrs: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
    return all(_is_same(attrs.get(key), value) for key, value in expected.items())


def _has(attrs: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(key in attrs and _is_same(attrs[key], value) for key, value in wanted.items())


def _is_same(a: Any, b: Any) -> bool:
    """Return whether two values are the same once stored: a tuple comes back as a list."""
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)


def _is_same_number(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))

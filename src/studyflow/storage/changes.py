"""Writes a change of a trial as one, and only while the trial is still as its writer saw it.

Optuna's storages write an attribute, a value or a state at a time, and do not ask whether the
writer still holds the trial. A runner that stood still between its read and its write, or between
two writes, would overwrite what another has done since. `change_trial` compares and sets in one
transaction of a database, or under the lock of a journal.
"""

from __future__ import annotations

import json
import math
from collections.abc import Container, Iterator, Mapping, Sequence
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

from studyflow.storage import postgres_writes
from studyflow.storage.journal import JournalFile

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection


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
    from optuna.storages._rdb.storage import _create_scoped_session

    if postgres_writes.is_postgres(storage) and postgres_writes.change(
        storage, trial_id, expected, change
    ):
        return True  # what was refused there is looked at here more closely
    try:
        with _create_scoped_session(storage.scoped_session) as session:
            # Statements alone: objects of Optuna's models would take twice the time.
            return _DatabaseChange(session.connection(), trial_id).make(expected, change)
    except sqlalchemy.exc.IntegrityError:
        return False  # a parameter that is there already


class _DatabaseChange:
    """One change of a trial, within a transaction.

    Args:
        connection: Where the transaction is.
        trial_id: Optuna's id of the trial.
    """

    def __init__(self, connection: Connection, trial_id: int) -> None:
        self._connection = connection
        self._id = trial_id

    def make(self, expected: Mapping[str, Any], change: TrialChange) -> bool:
        """Return whether a change was made; see `change_trial`."""
        from optuna.storages._rdb import models as m

        if self._locked_state().is_finished():
            return False
        user = m.TrialUserAttributeModel.__table__
        known = self._known(user.c.key, user.c.value_json, [*expected, *change.user_attrs])
        if not _is_expected({k: json.loads(text) for k, text in known.items()}, expected):
            return False
        params = [
            {
                "param_name": name,
                "param_value": value,
                # Optuna would look up for each whether the study has used its name otherwise; the
                # search space of a study does not change.
                "distribution_json": distribution_to_json(distribution),
            }
            for name, (value, distribution) in change.params.items()
        ]
        self._insert(m.TrialParamModel.__table__, params)
        self._set_steps(change.intermediate)
        self._set_attrs(user, change.user_attrs, known)
        if change.system_attrs:
            system = m.TrialSystemAttributeModel.__table__
            keys = list(change.system_attrs)
            known = self._known(system.c.key, system.c.value_json, keys)
            self._set_attrs(system, change.system_attrs, known)
        self._set_values(change.values or ())
        self._set_state(change.state)
        return True

    def _locked_state(self) -> TrialState:
        """Return the trial's state, which nobody changes before this transaction ends.

        Raises:
            KeyError: There is no such trial.
        """
        import sqlalchemy as sql
        from optuna.storages._rdb.models import NOT_FOUND_MSG, TrialModel

        trials = TrialModel.__table__
        if self._connection.dialect.name == "sqlite":
            # It has no locks on rows: its driver begins a transaction with the first write.
            self._connection.execute(
                trials.update().where(trials.c.trial_id == self._id).values(state=trials.c.state)
            )
        found = self._connection.execute(
            sql.select(trials.c.state).where(trials.c.trial_id == self._id).with_for_update()
        ).scalar_one_or_none()
        if found is None:
            raise KeyError(NOT_FOUND_MSG)
        return TrialState(found)

    def _known(self, key: Any, value: Any, wanted: Sequence[Any]) -> dict[Any, Any]:
        """Return those of the trial's rows in a table whose key is wanted, value by key."""
        import sqlalchemy as sql

        found = self._connection.execute(
            sql.select(key, value).where(key.table.c.trial_id == self._id, key.in_(wanted))
        )
        return {row[0]: row[1] for row in found}

    def _insert(self, table: Any, rows: Sequence[Mapping[str, Any]]) -> None:
        if rows:
            # One statement: psycopg would send several by a pipeline, which holds its locks for as
            # long as its client is stopped.
            given = [{"trial_id": self._id, **row} for row in rows]
            self._connection.execute(table.insert().values(given))

    def _update(self, key: Any, rows: Mapping[Any, Mapping[str, Any]]) -> None:
        """Set columns of the trial's rows in a table.

        Args:
            key: The column that tells them apart.
            rows: By its value, the new values of other columns.
        """
        for of, new in rows.items():
            self._connection.execute(
                key.table.update().where(key.table.c.trial_id == self._id, key == of).values(new)
            )

    def _set_attrs(self, table: Any, wanted: Mapping[str, Any], known: Container[str]) -> None:
        # A writer has locked the trial, so no row appears between the read and the write.
        texts = {key: {"value_json": json.dumps(value)} for key, value in wanted.items()}
        self._insert(table, [{"key": k, **new} for k, new in texts.items() if k not in known])
        self._update(table.c.key, {k: new for k, new in texts.items() if k in known})

    def _set_steps(self, wanted: Mapping[int, float]) -> None:
        from optuna.storages._rdb.models import TrialIntermediateValueModel as Model

        if not wanted:
            return
        table = Model.__table__
        known = self._known(table.c.step, table.c.step, list(wanted))
        stored = {
            step: dict(
                zip(
                    ("intermediate_value", "intermediate_value_type"),
                    Model.intermediate_value_to_stored_repr(value),
                    strict=True,
                )
            )
            for step, value in wanted.items()
        }
        self._insert(table, [{"step": s, **new} for s, new in stored.items() if s not in known])
        self._update(table.c.step, {s: new for s, new in stored.items() if s in known})

    def _set_values(self, values: Sequence[float]) -> None:
        from optuna.storages._rdb.models import TrialValueModel as Model

        rows = []
        for objective, value in enumerate(values):
            stored, kind = Model.value_to_stored_repr(value)
            rows.append({"objective": objective, "value": stored, "value_type": kind})
        self._insert(Model.__table__, rows)  # a trial that runs has none

    def _set_state(self, state: TrialState | None) -> None:
        from optuna.storages._rdb.models import TrialModel

        if state is None:
            return
        trials = TrialModel.__table__
        new: dict[str, Any] = {"state": state}
        if state.is_finished():
            new["datetime_complete"] = datetime.now(UTC).replace(tzinfo=None)
        self._connection.execute(trials.update().where(trials.c.trial_id == self._id).values(new))


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

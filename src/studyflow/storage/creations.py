"""Makes a trial with all that is known of it as one write, if no other was made meanwhile.

Optuna makes a trial first, to have its number, and then writes what its sampler suggests. Whoever
has suggested for the next number can make the trial whole: its number is still that one, or another
runner was first and nothing is written.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final, Protocol, runtime_checkable

from optuna.distributions import distribution_to_json
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.storages.journal._storage import JournalOperation
from optuna.trial import FrozenTrial

from studyflow.storage import postgres_writes
from studyflow.storage.changes import TrialChange
from studyflow.storage.journal import JournalFile

_DIALECTS: Final = frozenset({"sqlite", "postgresql"})


@runtime_checkable
class MakesTrials(Protocol):
    """A storage that makes trials in its own way."""

    @property
    def makes_whole_trials(self) -> bool:
        """Whether it can; see the function of this name."""

    def make_trial(self, study_id: int, n_trials: int, template: FrozenTrial) -> int | None:
        """Return Optuna's id of a new trial; see the function of this name."""


def makes_whole_trials(storage: BaseStorage) -> bool:
    """Return whether `make_trial` can be used: in memory, journals of ours, SQLite, PostgreSQL."""
    if isinstance(storage, MakesTrials):
        return storage.makes_whole_trials
    if isinstance(storage, _CachedStorage):
        storage = storage._backend
    if isinstance(storage, RDBStorage):
        return storage.engine.dialect.name in _DIALECTS
    if isinstance(storage, JournalStorage):
        return isinstance(storage._backend, JournalFile)
    return isinstance(storage, InMemoryStorage)


def make_trial(
    storage: BaseStorage, study_id: int, n_trials: int, template: FrozenTrial
) -> int | None:
    """Return Optuna's id of a new trial; `None` if the study has not so many trials.

    The trial is whole or absent, whatever happens to its maker.

    Args:
        storage: One of those that `makes_whole_trials` names.
        study_id: Optuna's id of the study.
        n_trials: How many trials it has; the new one gets this number.
        template: What the trial is from its start on: running, without reported values.
    """
    if isinstance(storage, MakesTrials):
        return storage.make_trial(study_id, n_trials, template)
    if isinstance(storage, _CachedStorage):
        storage = storage._backend
    if isinstance(storage, RDBStorage):
        return _make_in_database(storage, study_id, n_trials, template)
    if isinstance(storage, JournalStorage):
        assert isinstance(storage._backend, JournalFile)
        return _make_in_journal(storage, storage._backend, study_id, n_trials, template)
    assert isinstance(storage, InMemoryStorage)
    with storage._lock:
        if len(storage.get_all_trials(study_id, deepcopy=False)) != n_trials:
            return None
        return storage.create_new_trial(study_id, template)


def _make_in_database(
    storage: RDBStorage, study_id: int, n_trials: int, template: FrozenTrial
) -> int | None:
    assert template.datetime_start is not None
    start = template.datetime_start.astimezone(UTC).replace(tzinfo=None)
    wanted = TrialChange(
        template.user_attrs,
        template.system_attrs,
        params={
            name: (
                template.distributions[name].to_internal_repr(value),
                template.distributions[name],
            )
            for name, value in template.params.items()
        },
    )
    if postgres_writes.is_postgres(storage):
        return postgres_writes.make(storage, study_id, n_trials, start, wanted)
    return _make_in_sqlite(storage, study_id, n_trials, start, wanted)


def _make_in_sqlite(
    storage: RDBStorage, study_id: int, n_trials: int, start: datetime, wanted: TrialChange
) -> int | None:
    import sqlalchemy as sql
    from optuna.storages._rdb import models as m
    from optuna.storages._rdb.storage import _create_scoped_session

    trials = m.TrialModel.__table__
    n_known = sql.select(sql.func.count()).where(trials.c.study_id == study_id).scalar_subquery()
    with _create_scoped_session(storage.scoped_session) as session:
        connection = session.connection()
        # The first statement writes, so its driver begins a transaction that nobody else is in.
        new = sql.select(
            sql.literal(n_trials),
            sql.literal(study_id),
            sql.literal("RUNNING"),
            sql.literal(start, sql.DateTime()),
        ).where(n_known == n_trials)
        columns = ["number", "study_id", "state", "datetime_start"]
        made = connection.execute(trials.insert().from_select(columns, new))
        if made.rowcount == 0:
            return None
        trial_id = int(made.lastrowid)
        tables: list[tuple[Any, list[dict[str, Any]]]] = [
            (
                table,
                [{"key": key, "value_json": json.dumps(value)} for key, value in attrs.items()],
            )
            for table, attrs in (
                (m.TrialUserAttributeModel.__table__, wanted.user_attrs),
                (m.TrialSystemAttributeModel.__table__, wanted.system_attrs),
            )
        ]
        params = [
            {
                "param_name": name,
                "param_value": value,
                "distribution_json": distribution_to_json(distribution),
            }
            for name, (value, distribution) in wanted.params.items()
        ]
        for table, rows in [*tables, (m.TrialParamModel.__table__, params)]:
            if rows:
                given = [{"trial_id": trial_id, **row} for row in rows]
                connection.execute(table.insert().values(given))
        return trial_id


def _make_in_journal(
    storage: JournalStorage,
    journal: JournalFile,
    study_id: int,
    n_trials: int,
    template: FrozenTrial,
) -> int | None:
    assert template.datetime_start is not None
    with storage._thread_lock, journal.exclusively() as append:
        storage._sync_with_backend()
        replay = storage._replay_result
        if len(replay.get_all_trials(study_id, None)) != n_trials:
            return None
        append(
            [
                {
                    "op_code": JournalOperation.CREATE_TRIAL,
                    "worker_id": replay.worker_id,
                    "study_id": study_id,
                    "datetime_start": template.datetime_start.astimezone(UTC).isoformat(
                        timespec="microseconds"
                    ),
                    "state": template.state,
                    "value": None,
                    "values": None,
                    "distributions": {
                        name: distribution_to_json(distribution)
                        for name, distribution in template.distributions.items()
                    },
                    "params": {
                        name: template.distributions[name].to_internal_repr(value)
                        for name, value in template.params.items()
                    },
                    "user_attrs": template.user_attrs,
                    "system_attrs": template.system_attrs,
                    "intermediate_values": {},
                }
            ]
        )
        storage._sync_with_backend()
        return replay.get_all_trials(study_id, None)[n_trials]._trial_id

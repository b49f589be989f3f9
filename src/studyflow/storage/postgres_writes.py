"""Writes of a trial in PostgreSQL, each whole by one round trip.

Several statements are sent as one text, which the server runs as one transaction: the limits, the
lock, then all that is written, on its condition. A runner that stops or dies meanwhile holds no
lock, for the server goes on to the end without it. The lock comes in a statement of its own, as
each sees what was committed before it began.
"""

# ruff: noqa: S608 - what is put into the texts are numbers, states and our own names of tables

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import optuna
from optuna.distributions import distribution_to_json
from optuna.storages import RDBStorage
from optuna.trial import TrialState

if TYPE_CHECKING:
    from studyflow.storage.changes import TrialChange

LIMITS: Final = "studyflow_limits"
"""Execution option of an engine: the statement that limits one of its transactions."""

AT_ONCE: Final[Mapping[str, Any]] = {"isolation_level": "AUTOCOMMIT", "no_parameters": True}
"""Execution options of a connection whose statements are transactions of their own."""

_FINISHED: Final = ", ".join(f"'{state.name}'" for state in TrialState if state.is_finished())
_KEYS: Final = {
    "trial_user_attributes": "key",
    "trial_system_attributes": "key",
    "trial_params": "param_name",
    "trial_intermediate_values": "step",
    "trial_values": "objective",
}
"""The tables of what a trial has, and the column that tells the rows of one trial apart."""


def is_postgres(storage: RDBStorage) -> bool:
    """Return whether a database is PostgreSQL by the driver that is used here."""
    return storage.engine.dialect.name == "postgresql" and storage.engine.driver == "psycopg"


def change(
    storage: RDBStorage, trial_id: int, expected: Mapping[str, Any], wanted: TrialChange
) -> bool:
    """Return whether a change was made; one that was not may be refused by its form alone.

    Attributes are compared as texts: another order of keys is another text.
    """
    names = list(wanted.params)
    given = {k: json.dumps(v) for k, v in expected.items() if v is not None}
    absent = [k for k, v in expected.items() if v is None]
    conditions, arguments = [f"state NOT IN ({_FINISHED})"], []
    if given:
        conditions.append(
            "(SELECT count(*) FROM trial_user_attributes a, json_each_text(%s::json) e"
            " WHERE a.trial_id = t.trial_id AND a.key = e.key AND a.value_json = e.value) = %s"
        )
        arguments += [json.dumps(given), len(given)]
    if absent:
        conditions.append(
            "NOT EXISTS (SELECT FROM trial_user_attributes a"
            " WHERE a.trial_id = t.trial_id AND a.key = ANY(%s) AND a.value_json <> 'null')"
        )
        arguments.append(absent)
    if names:
        conditions.append(
            "NOT EXISTS (SELECT FROM trial_params p"
            " WHERE p.trial_id = t.trial_id AND p.param_name = ANY(%s))"
        )
        arguments.append(names)
    found = f"SELECT trial_id FROM trials t WHERE trial_id = {int(trial_id)}"
    steps = [f"found AS ({found} AND {' AND '.join(conditions)})"]
    for table, rows in _rows(wanted):
        steps.append(_insertion(table, rows, is_new=False))
        arguments.append(json.dumps(rows))
    if wanted.state is not None:
        complete = ", datetime_complete = %s::timestamp" if wanted.state.is_finished() else ""
        steps.append(
            f"told AS (UPDATE trials SET state = '{wanted.state.name}'{complete}"
            " FROM found WHERE trials.trial_id = found.trial_id)"
        )
        if wanted.state.is_finished():
            arguments.append(datetime.now(UTC).replace(tzinfo=None))
    lock = f"SELECT state FROM trials WHERE trial_id = {int(trial_id)} FOR UPDATE"
    return _sent(storage, lock, steps, arguments, "SELECT trial_id FROM found") is not None


def make(
    storage: RDBStorage, study_id: int, n_trials: int, start: datetime, wanted: TrialChange
) -> int | None:
    """Return Optuna's id of a new running trial; `None` if the study has not so many trials.

    Args:
        storage: The database.
        study_id: Optuna's id of the study.
        n_trials: How many trials it has.
        start: When the trial began, in UTC without a zone.
        wanted: What it has from its start on.
    """
    study = int(study_id)
    known = f"SELECT count(*) AS n FROM trials WHERE study_id = {study}"
    made = (
        "INSERT INTO trials (number, study_id, state, datetime_start)"
        f" SELECT n, {study}, 'RUNNING', %s::timestamp FROM ({known}) AS known"
        f" WHERE n = {int(n_trials)} RETURNING trial_id"
    )
    steps = [f"found AS ({made})"]
    arguments: list[Any] = [start]
    for table, rows in _rows(wanted):
        steps.append(_insertion(table, rows, is_new=True))
        arguments.append(json.dumps(rows))
    # As Optuna locks it when it makes a trial: numbers are counted.
    lock = f"SELECT study_id FROM studies WHERE study_id = {study} FOR UPDATE"
    found = _sent(storage, lock, steps, arguments, "SELECT trial_id FROM found")
    return None if found is None else int(found[0])


def _sent(
    storage: RDBStorage, lock: str, steps: list[str], arguments: list[Any], result: str
) -> tuple[Any, ...] | None:
    """Return the first row of a write's result; `None` when it has none."""
    import psycopg
    import sqlalchemy

    try:
        with storage.engine.connect().execution_options(**AT_ONCE) as connection:
            # The first one gives rows, or SQLAlchemy would close the cursor on those that follow.
            limits = connection.get_execution_options().get(LIMITS) or "SELECT 1"
            driver = connection.connection.driver_connection
            assert isinstance(driver, psycopg.Connection)
            written = psycopg.ClientCursor(driver).mogrify(
                f"WITH {', '.join(steps)} {result}", arguments
            )
            cursor = connection.exec_driver_sql(f"{limits}; {lock}; {written}").cursor
            assert cursor is not None
            while cursor.nextset():
                pass
            return cursor.fetchone()
    except sqlalchemy.exc.IntegrityError:
        return None  # another writer was first, outside of our locks
    except sqlalchemy.exc.SQLAlchemyError as error:
        message = f"The database refused a write of a trial: {error}"
        raise optuna.exceptions.StorageInternalError(message) from error


def _insertion(table: str, rows: list[dict[str, Any]], *, is_new: bool) -> str:
    """Return the step that writes rows, which follow as JSON.

    Args:
        table: Where they belong.
        rows: At least one.
        is_new: Whether the trial has none yet.
    """
    key, columns = _KEYS[table], list(rows[0])
    names = ", ".join(columns)
    replaced = ", ".join(f"{name} = EXCLUDED.{name}" for name in columns if name != key)
    conflict = "" if is_new else f" ON CONFLICT (trial_id, {key}) DO UPDATE SET {replaced}"
    # Rows of the table's own type: nothing has to name the types that Optuna gives its columns.
    return (
        f"{table}_made AS (INSERT INTO {table} (trial_id, {names})"
        f" SELECT found.trial_id, {', '.join(f'r.{name}' for name in columns)}"
        f" FROM found, json_populate_recordset(NULL::{table}, %s::json) r{conflict})"
    )


def _rows(wanted: TrialChange) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield the rows that a change writes into each table, without those that have none."""
    from optuna.storages._rdb.models import TrialIntermediateValueModel, TrialValueModel

    for table, attrs in (
        ("trial_user_attributes", wanted.user_attrs),
        ("trial_system_attributes", wanted.system_attrs),
    ):
        if attrs:
            yield table, [{"key": k, "value_json": json.dumps(v)} for k, v in attrs.items()]
    if wanted.params:
        yield (
            "trial_params",
            [
                {
                    "param_name": name,
                    "param_value": float(value),
                    "distribution_json": distribution_to_json(distribution),
                }
                for name, (value, distribution) in wanted.params.items()
            ],
        )
    if wanted.intermediate:
        reported = []
        for step, value in wanted.intermediate.items():
            number, kind = TrialIntermediateValueModel.intermediate_value_to_stored_repr(value)
            reported.append(
                {
                    "step": step,
                    "intermediate_value": number,
                    "intermediate_value_type": kind.name,
                }
            )
        yield "trial_intermediate_values", reported
    if wanted.values:
        told = []
        for objective, value in enumerate(wanted.values):
            number, finite = TrialValueModel.value_to_stored_repr(value)
            told.append({"objective": objective, "value": number, "value_type": finite.name})
        yield "trial_values", told

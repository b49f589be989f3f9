"""Trials of a database, each read by one statement, and made anew only when they have changed.

Optuna reads the trials that are not finished by seven statements, and makes new objects of all of
them each time. A runner looks once a turn, and mostly nothing has happened.
"""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

import optuna
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._cached_storage import _CachedStorage, _StudyInfo
from optuna.trial import FrozenTrial, TrialState

if TYPE_CHECKING:
    import sqlalchemy

_DIALECTS: Final = frozenset({"sqlite", "postgresql"})
"""Databases whose trials are read here; others are read as Optuna does."""

_TRIAL, _PARAM, _VALUE, _USER, _SYSTEM, _INTERMEDIATE = range(6)
"""What a row is about, in the order in which rows make a trial."""

_NUMBERS: Final = {"INF_POS": float("inf"), "INF_NEG": float("-inf"), "NAN": float("nan")}
"""Numbers that Optuna stores by name."""

_WRITTEN: Final = (
    "_params",
    "_distributions",
    "_user_attrs",
    "_system_attrs",
    "intermediate_values",
)
"""Attributes of a `FrozenTrial` that hold what is written step by step."""

Row = tuple[Any, ...]
"""Kind, Optuna's id of the trial, id of the row, number, name, float, text, start, end."""


@runtime_checkable
class ReadsTrials(Protocol):
    """A storage that can read some trials anew, and give the others as it read them last."""

    def read_trials(self, study_id: int, trial_ids: Collection[int]) -> list[FrozenTrial]:
        """Return all trials, of which some are read anew; see the function of this name."""


def read_trials(
    storage: BaseStorage, study_id: int, trial_ids: Collection[int]
) -> list[FrozenTrial]:
    """Return all trials of a study by number, not copied: some and new ones as they are now.

    The others may be as they were when they were last read. With a thousand trials that run, a
    database takes a tenth of a second to read them all, and one that has written knows which one.

    Args:
        storage: Where the study is. One without `read_trials` reads all trials.
        study_id: Optuna's id of the study.
        trial_ids: Optuna's ids of the trials that are read in any case.
    """
    if isinstance(storage, ReadsTrials):
        return storage.read_trials(study_id, trial_ids)
    return storage.get_all_trials(study_id, deepcopy=False)


class DatabaseTrials(_CachedStorage):
    """Optuna's cache in front of a database, with reads that cost what has changed.

    A trial is the same object as long as nothing of it has changed, and nobody may change it.

    Args:
        backend: The database.
    """

    def __init__(self, backend: RDBStorage) -> None:
        super().__init__(backend)
        self._rows: dict[int, tuple[Row, ...]] = {}
        """By id of a trial that is not finished: what the database said of it last."""
        self._made: dict[int, FrozenTrial] = {}
        """The trials that were made of these."""
        self._listed: dict[int, list[FrozenTrial]] = {}
        """By study, all its trials by number; absent once that is outdated."""

    @property
    def _is_ours(self) -> bool:
        return self._backend.engine.dialect.name in _DIALECTS

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        self._read_trials_from_remote_storage(study_id)
        with self._lock:
            listed = self._listed.get(study_id)
            if listed is None:
                known = self._studies[study_id].trials
                listed = self._listed[study_id] = [known[number] for number in sorted(known)]
            if states is None:
                found = listed.copy()
            else:
                found = [trial for trial in listed if trial.state in states]
        return copy.deepcopy(found) if deepcopy else found

    def get_trial(self, trial_id: int) -> FrozenTrial:
        if not self._is_ours:
            return super().get_trial(trial_id)
        with self._lock:
            known = self._get_cached_trial(trial_id)
            if known is not None:
                return known
            found = self._read(statement_for_one(), {"id": trial_id}).get(trial_id)
        if found is None:
            return self._backend.get_trial(trial_id)  # says that it is not there
        return own_copy(found)  # Optuna's trials write into what they are given

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        # Optuna looks for the study first; only one without attributes may not be there.
        if self._is_ours:
            rows = self._rows_of(statement_for_study_attributes(), {"study": study_id})
            if rows:
                return {key: json.loads(text) for key, text in rows}
        return super().get_study_user_attrs(study_id)

    def delete_study(self, study_id: int) -> None:
        super().delete_study(study_id)
        self._listed.pop(study_id, None)

    def _read_trials_from_remote_storage(self, study_id: int) -> None:
        if not self._is_ours:
            super()._read_trials_from_remote_storage(study_id)
            return
        with self._lock:
            study = self._studies.setdefault(study_id, _StudyInfo())
            last = study.last_finished_trial_id
            if last < 0:
                found = self._read(statement_for_study(), {"study": study_id})
            else:
                earlier = sorted(i for i in study.unfinished_trial_ids if i <= last)
                asked = {"study": study_id, "last": last, "ids": earlier or [-1]}
                found = self._read(statement_for_changes(), asked)
            if not found:
                self._backend.get_study_name_from_id(study_id)  # raises for one that is not there
            self._take(study_id, found.values())

    def read_trials(self, study_id: int, trial_ids: Collection[int]) -> list[FrozenTrial]:
        """Return all trials, of which some are read anew; see the function of this name."""
        with self._lock:
            listed = self._listed.get(study_id) if self._is_ours else None
            if listed:
                newest = listed[-1]._trial_id  # a study's trials are made one after the other
                asked = {"study": study_id, "last": newest, "ids": sorted(trial_ids) or [-1]}
                self._take(study_id, self._read(statement_for_changes(), asked).values())
                return self._listed[study_id].copy()
        return self.get_all_trials(study_id, deepcopy=False)

    def _take(self, study_id: int, found: Iterable[FrozenTrial]) -> None:
        """Take in trials as they are now."""
        study = self._studies[study_id]
        changed = [t for t in found if study.trials.get(t.number) is not t]
        if not changed:
            return
        ended = {t._trial_id for t in changed if t.state.is_finished()}
        # Before the cache has them: a signal's exception may come in between, and what is
        # cached and not noted as unfinished would never be asked for again.
        study.unfinished_trial_ids.update(t._trial_id for t in changed)
        self._add_trials_to_cache(study_id, changed)
        study.unfinished_trial_ids -= ended
        study.last_finished_trial_id = max({study.last_finished_trial_id, *ended})

    def _add_trials_to_cache(self, study_id: int, trials: list[FrozenTrial]) -> None:
        # Taken away first: a signal's exception may come in between.
        listed = self._listed.pop(study_id, [])
        super()._add_trials_to_cache(study_id, trials)
        for trial in sorted(trials, key=lambda trial: trial.number):
            if trial.number > len(listed):
                return  # made here after others that were not read yet
            listed[trial.number : trial.number + 1] = [trial]
        self._listed[study_id] = listed

    def _read(self, statement: Any, asked: Mapping[str, Any]) -> dict[int, FrozenTrial]:
        """Return the trials that a statement finds, by Optuna's id, in its order."""
        rows = self._rows_of(statement, asked)
        of_trial: dict[int, list[Row]] = {}
        for row in sorted(map(tuple, rows), key=_place):
            of_trial.setdefault(row[1], []).append(row)
        return {trial_id: self._made_of(tuple(own)) for trial_id, own in of_trial.items()}

    def _rows_of(self, statement: Any, asked: Mapping[str, Any]) -> Sequence[Any]:
        """Return what one statement finds, in a transaction of its own that locks nothing."""
        import sqlalchemy as sql

        try:
            with self._backend.engine.connect() as connection:
                if connection.dialect.name == "postgresql":
                    connection = connection.execution_options(isolation_level="AUTOCOMMIT")
                return connection.execute(statement, asked).all()
        except sql.exc.SQLAlchemyError as error:
            message = f"The database refused a read: {error}"
            raise optuna.exceptions.StorageInternalError(message) from error

    def _made_of(self, rows: tuple[Row, ...]) -> FrozenTrial:
        """Return the trial that rows make: the same object as before for the same rows."""
        trial_id = rows[0][1]
        if self._rows.get(trial_id) == rows:
            return self._made[trial_id]
        made = trial_of(rows)
        if made.state.is_finished():
            self._rows.pop(trial_id, None)
            self._made.pop(trial_id, None)
        else:
            self._rows[trial_id], self._made[trial_id] = rows, made
        return made

    def __getstate__(self) -> dict[Any, Any]:
        return {**super().__getstate__(), "_rows": {}, "_made": {}, "_listed": {}}


def own_copy(trial: FrozenTrial) -> FrozenTrial:
    """Return a copy of a trial that may be written into: its values are not copied."""
    copied = copy.copy(trial)
    for name in _WRITTEN:
        setattr(copied, name, dict(getattr(trial, name)))
    return copied


def _place(row: Row) -> tuple[int, int, int]:
    """Return what rows are ordered by: parameters as they were chosen, reported values by step."""
    kind, trial_id, row_id, number, *_ = row
    return trial_id, kind, number if kind == _INTERMEDIATE else row_id


def trial_of(rows: Sequence[Row]) -> FrozenTrial:
    """Return the trial that the rows of one trial make.

    Args:
        rows: Its own row first.
    """
    _, trial_id, _, number, state, _, _, start, complete = rows[0]
    params: dict[str, Any] = {}
    distributions: dict[str, BaseDistribution] = {}
    values: dict[int, Any] = {}
    attrs: dict[int, dict[str, Any]] = {_USER: {}, _SYSTEM: {}}
    intermediate: dict[int, Any] = {}
    for kind, _, _, position, name, real, text, _, _ in rows[1:]:
        if kind == _PARAM:
            distributions[name] = distribution = _distribution(text)
            params[name] = distribution.to_external_repr(real)
        elif kind == _VALUE:
            values[position] = _NUMBERS.get(text, real)
        elif kind == _INTERMEDIATE:
            intermediate[position] = _NUMBERS.get(text, real)
        else:
            attrs[kind][name] = json.loads(text)
    return FrozenTrial(
        number=number,
        state=TrialState[state],
        value=None,
        values=[values[position] for position in sorted(values)] or None,
        datetime_start=_local(start),
        datetime_complete=_local(complete),
        params=params,
        distributions=distributions,
        user_attrs=attrs[_USER],
        system_attrs=attrs[_SYSTEM],
        intermediate_values=intermediate,
        trial_id=trial_id,
    )


@functools.lru_cache(maxsize=1024)
def _distribution(text: str) -> BaseDistribution:
    return json_to_distribution(text)


def _local(utc: datetime | None) -> datetime | None:
    """Return a time as Optuna shows it: this machine's, without a zone."""
    return None if utc is None else utc.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)


@functools.cache
def statement_for_one() -> sqlalchemy.CompoundSelect[Any]:
    """Return what reads the trial `id`."""
    import sqlalchemy as sql
    from optuna.storages._rdb.models import TrialModel

    return _union(TrialModel.trial_id == sql.bindparam("id"))


@functools.cache
def statement_for_study_attributes() -> sqlalchemy.Select[Any]:
    """Return what reads the user attributes of `study`, in the order in which they came."""
    import sqlalchemy as sql
    from optuna.storages._rdb.models import StudyUserAttributeModel as Model

    return (
        sql.select(Model.key, Model.value_json)
        .where(Model.study_id == sql.bindparam("study"))
        .order_by(Model.study_user_attribute_id)
    )


@functools.cache
def statement_for_study() -> sqlalchemy.CompoundSelect[Any]:
    """Return what reads all trials of `study`."""
    import sqlalchemy as sql
    from optuna.storages._rdb.models import TrialModel

    return _union(TrialModel.study_id == sql.bindparam("study"))


@functools.cache
def statement_for_changes() -> sqlalchemy.CompoundSelect[Any]:
    """Return what reads the trials of `study` after the trial `last`, and those of `ids`."""
    import sqlalchemy as sql
    from optuna.storages._rdb.models import TrialModel

    return _union(
        sql.and_(
            sql.or_(
                TrialModel.trial_id > sql.bindparam("last"),
                TrialModel.trial_id.in_(sql.bindparam("ids", expanding=True)),
            ),
            # No column alone: SQLite would go through all trials of the study by its index.
            TrialModel.study_id + 0 == sql.bindparam("study"),
        )
    )


def _union(condition: Any) -> sqlalchemy.CompoundSelect[Any]:
    """Return one statement for all that is stored of some trials, a `Row` for each piece."""
    import sqlalchemy as sql
    from optuna.storages._rdb import models as m

    trial, null = m.TrialModel, sql.null()
    wanted = sql.select(trial.trial_id).where(condition)
    text, real, time = sql.Text(), sql.Float(53), sql.DateTime()

    def rows(kind: int, model: Any, row: Any, **columns: Any) -> sqlalchemy.Select[Any]:
        return sql.select(
            sql.literal_column(str(kind)),
            model.trial_id,
            row,
            columns.get("number", null),
            columns.get("name", null),
            columns.get("real", null),
            columns.get("text", null),
            null,
            null,
        ).where(model.trial_id.in_(wanted))

    attributes: Iterable[tuple[int, Any, Any]] = (
        (_USER, m.TrialUserAttributeModel, m.TrialUserAttributeModel.trial_user_attribute_id),
        (
            _SYSTEM,
            m.TrialSystemAttributeModel,
            m.TrialSystemAttributeModel.trial_system_attribute_id,
        ),
    )
    param, value, step = m.TrialParamModel, m.TrialValueModel, m.TrialIntermediateValueModel
    return sql.union_all(
        sql.select(
            sql.literal_column(str(_TRIAL)).label("kind"),
            trial.trial_id,
            trial.trial_id.label("row"),
            trial.number,
            sql.cast(trial.state, sql.String(16)).label("name"),
            sql.cast(null, real).label("real"),
            sql.cast(null, text).label("text"),
            sql.type_coerce(trial._datetime_start_utc, time).label("start"),
            sql.type_coerce(trial._datetime_complete_utc, time).label("complete"),
        ).where(condition),
        rows(
            _PARAM,
            param,
            param.param_id,
            name=param.param_name,
            real=param.param_value,
            text=param.distribution_json,
        ),
        rows(
            _VALUE,
            value,
            value.trial_value_id,
            number=value.objective,
            real=value.value,
            text=sql.cast(value.value_type, sql.String(16)),
        ),
        *(rows(kind, a, row, name=a.key, text=a.value_json) for kind, a, row in attributes),
        rows(
            _INTERMEDIATE,
            step,
            step.trial_intermediate_value_id,
            number=step.step,
            real=step.intermediate_value,
            text=sql.cast(step.intermediate_value_type, sql.String(16)),
        ),
    )

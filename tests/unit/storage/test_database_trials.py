"""Trials of a database as Optuna reads them, by one statement, and only what has changed anew."""

from __future__ import annotations

import math
import pickle
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
import sqlalchemy
from optuna.trial import TrialState

from studyflow.storage import open_storage
from studyflow.storage.database_trials import DatabaseTrials, statement_for_changes

NUMBERS = [1.5, math.inf, -math.inf]


class Database:
    def __init__(self, folder: Path) -> None:
        storage = open_storage(f"sqlite:///{folder / 'studies.db'}")
        assert isinstance(storage, optuna.storages.RDBStorage)
        self.storage = storage
        self.trials = DatabaseTrials(storage)
        self.study = optuna.create_study(
            storage=storage,
            directions=["minimize", "maximize"],
            sampler=optuna.samplers.RandomSampler(seed=0),
        )
        self.study_id = storage.get_study_id_from_name(self.study.study_name)
        self.n_statements = 0

    def read(self) -> list[optuna.trial.FrozenTrial]:
        return self.trials.get_all_trials(self.study_id, deepcopy=False)

    @contextmanager
    def counting(self) -> Iterator[list[str]]:
        """Give the statements that are sent meanwhile."""
        sent: list[str] = []

        def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            sent.append(statement)

        sqlalchemy.event.listen(self.storage.engine, "before_cursor_execute", note)
        yield sent
        sqlalchemy.event.remove(self.storage.engine, "before_cursor_execute", note)


def id_of(trial: optuna.trial.BaseTrial) -> int:
    """Return the id by which a storage knows a trial, which Optuna shows nobody else."""
    return trial._trial_id  # type: ignore[attr-defined, no-any-return]


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path)


def test_trials_are_read_as_optuna_reads_them(database: Database) -> None:
    study, storage, dice = database.study, database.storage, random.Random(0)
    study.enqueue_trial({"x": 0.5, "c": None})
    running = []
    for number in range(25):
        trial = study.ask()
        trial.suggest_float("x", 1e-3, 1, log=True)
        trial.suggest_categorical("c", ["a", True, None, 1])
        trial.suggest_int("n", 1, 9, step=2)
        trial.set_user_attr("é", {"list": [1, None, "x" * 3000]})
        storage.set_trial_system_attr(id_of(trial), "system", float(number))
        for step in (3, 1):
            value = dice.choice([*NUMBERS, math.nan])
            storage.set_trial_intermediate_value(id_of(trial), step, value)
        running.append(trial)
        if dice.random() < 0.8:
            told = running.pop(dice.randrange(len(running)))
            values = None if dice.random() < 0.3 else [dice.choice(NUMBERS), 2.0]
            state = TrialState.FAIL if values is None else None
            study.tell(told, values, state=state)
        database_trials, optuna_trials = database.read(), storage.get_all_trials(database.study_id)
        assert list(map(repr, database_trials)) == list(map(repr, optuna_trials))
        for trial_id in (id_of(trial) for trial in optuna_trials):
            one = database.trials.get_trial(trial_id)
            assert repr(one) == repr(storage.get_trial(trial_id))
    fresh = DatabaseTrials(storage).get_all_trials(database.study_id)
    assert list(map(repr, fresh)) == list(map(repr, storage.get_all_trials(database.study_id)))
    states = (TrialState.RUNNING, TrialState.WAITING)
    unfinished = database.trials.get_all_trials(database.study_id, states=states)
    assert [trial.number for trial in unfinished] == [trial.number for trial in running]


def test_a_read_is_one_statement_however_many_trials_there_are(database: Database) -> None:
    for _ in range(30):
        database.study.ask().suggest_float("x", 0, 1)
    database.read()
    with database.counting() as sent:
        database.read()
        database.trials.get_trial(1)
    assert len(sent) == 2


def test_a_read_of_what_has_changed_does_not_go_through_the_study(database: Database) -> None:
    asked = {"study": 1, "last": 7, "ids": [2, 3]}
    with database.storage.engine.connect() as connection:
        statement = (
            statement_for_changes()
            .params(asked)
            .compile(connection, compile_kwargs={"literal_binds": True, "render_postcompile": True})
        )
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}").all()
    steps = [str(step[3]) for step in plan if "SEARCH" in step[3] or "SCAN" in step[3]]
    assert len(steps) >= 6 * 2
    assert [s for s in steps if "SCAN" in s or "ix_trials_study_id" in s] == []


def test_what_has_not_changed_is_the_same_object(database: Database) -> None:
    trials = [database.study.ask() for _ in range(5)]
    database.study.tell(trials[1], [1.0, 2.0])
    before = database.read()
    assert all(a is b for a, b in zip(before, database.read(), strict=True))

    other = DatabaseTrials(database.storage)  # as another runner has it
    other.set_trial_user_attr(id_of(trials[3]), "key", 1)
    after = database.read()
    assert [a is b for a, b in zip(before, after, strict=True)] == [True, True, True, False, True]
    assert after[3].user_attrs == {"key": 1}
    assert before[3].user_attrs == {}, "what was given before does not change"


def test_what_another_runner_ends_or_makes_is_seen(database: Database) -> None:
    trials = [database.study.ask() for _ in range(3)]
    database.read()
    database.study.tell(trials[2], [1.0, 2.0])
    database.read()  # from here on only later trials are asked for, and those known to run

    database.study.tell(trials[0], state=TrialState.FAIL)
    database.study.ask()
    states = [trial.state.name for trial in database.read()]
    assert states == ["FAIL", "RUNNING", "COMPLETE", "RUNNING"]


def test_a_read_that_a_signal_breaks_off_is_made_up_for_by_the_next(tmp_path: Path) -> None:
    class BrokenOff(DatabaseTrials):
        is_signalled = False

        def _add_trials_to_cache(
            self, study_id: int, trials: list[optuna.trial.FrozenTrial]
        ) -> None:
            super()._add_trials_to_cache(study_id, trials)
            if self.is_signalled:
                raise KeyboardInterrupt

    database = Database(tmp_path)
    database.trials = reader = BrokenOff(database.storage)
    trials = [database.study.ask() for _ in range(3)]
    database.study.tell(trials[1], state=TrialState.FAIL)
    reader.is_signalled = True
    with pytest.raises(KeyboardInterrupt):
        database.read()
    reader.is_signalled = False
    database.study.tell(trials[2], state=TrialState.FAIL)
    database.read()

    database.study.tell(trials[0], state=TrialState.FAIL)

    assert [trial.state.name for trial in database.read()] == ["FAIL", "FAIL", "FAIL"]


def test_a_trial_that_is_given_alone_may_be_written_into(database: Database) -> None:
    trial = database.study.ask()
    known = database.read()[0]
    database.trials.get_trial(id_of(trial)).params["x"] = 1.0
    assert known.params == database.trials.get_trial(id_of(trial)).params == {}


def test_a_trial_and_a_study_that_are_not_there_are_errors(database: Database) -> None:
    with pytest.raises(KeyError):
        database.trials.get_trial(999)
    with pytest.raises(KeyError):
        database.trials.get_all_trials(999)


def test_studies_of_one_database_do_not_mix(database: Database) -> None:
    database.study.ask()
    second = optuna.create_study(storage=database.storage, study_name="second")
    second.ask()
    second.ask()
    assert len(database.read()) == 1
    of_second = database.storage.get_study_id_from_name("second")
    assert len(database.trials.get_all_trials(of_second)) == 2
    database.trials.delete_study(database.study_id)
    assert [t.number for t in database.trials.get_all_trials(of_second)] == [0, 1]


def test_trials_that_nobody_asked_for_anew_are_as_they_were_read_last(database: Database) -> None:
    numbers = range(5)
    asked = [database.study.ask() for _ in numbers]
    before = database.read()
    for trial in asked:
        database.storage.set_trial_user_attr(id_of(trial), "by", "another")
    later = database.study.ask()

    with database.counting() as sent:
        found = database.trials.read_trials(database.study_id, [id_of(asked[1]), id_of(asked[3])])

    assert len(sent) == 1
    assert [n for n in numbers if found[n] is before[n]] == [0, 2, 4]
    assert [n for n in numbers if found[n].user_attrs] == [1, 3]
    assert [trial.number for trial in found] == [*numbers, later.number]
    assert all(trial.user_attrs for trial in database.read()[:5])


def test_a_trial_that_ends_among_running_ones_hides_none_of_them(database: Database) -> None:
    asked = [database.study.ask() for _ in range(4)]
    database.read()
    newest = asked[-1]
    database.storage.set_trial_state_values(id_of(newest), TrialState.COMPLETE, [1.0, 2.0])
    found = database.trials.read_trials(database.study_id, [id_of(newest)])
    assert [trial.state.is_finished() for trial in found] == [False, False, False, True]
    for trial in asked[:-1]:
        database.storage.set_trial_user_attr(id_of(trial), "by", "another")
    assert [bool(trial.user_attrs) for trial in database.read()] == [True, True, True, False]


def test_a_trial_made_here_after_unread_ones_of_others_hides_none_of_them(
    database: Database,
) -> None:
    database.study.ask()
    database.read()
    database.study.ask()  # by another runner: not through this object
    made = database.trials.create_new_trial(database.study_id)
    found = database.trials.read_trials(database.study_id, [made])
    assert [trial.number for trial in found] == [0, 1, 2]


def test_the_first_read_of_some_trials_is_one_of_all(database: Database) -> None:
    asked = [database.study.ask() for _ in range(3)]
    found = database.trials.read_trials(database.study_id, [id_of(asked[1])])
    assert [trial.number for trial in found] == [0, 1, 2]


def test_a_copy_in_another_process_reads_for_itself(database: Database) -> None:
    database.study.ask()
    first = database.read()
    copied = pickle.loads(pickle.dumps(database.trials))
    assert repr(copied.get_all_trials(database.study_id)) == repr(first)

"""A runner outlives its database: it waits, says so, and repeats no write that was done."""

from __future__ import annotations

import copy
import errno
import os
import pickle
import resource
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
import sqlalchemy
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial
from sqlalchemy.pool import PoolProxiedConnection

from studyflow.errors import StorageBroken, StorageUnavailable
from studyflow.storage import PatientStorage, default_storage_url, open_storage
from studyflow.testing.failing_storage import FailingStorage, StorageFault
from studyflow.testing.fake_clock import FakeClock

MINIMIZE = [StudyDirection.MINIMIZE]


class Place:
    """A storage that fails, one that waits for it, and a clock that both share."""

    def __init__(self, storage: BaseStorage | None = None, patience_seconds: float = 600.0) -> None:
        self.clock = FakeClock()
        self.storage = storage or optuna.storages.InMemoryStorage()
        self.failing = FailingStorage(self.storage)
        self.study_id = self.failing.create_new_study(MINIMIZE, "demo")
        self.heard: list[str] = []
        self.pauses: list[float] = []
        self.back_after = float("inf")
        self.sleep: Callable[[float], object] = self.rest
        """What a pause comes to; tests let something else happen meanwhile."""
        self.now: Callable[[], float] = self.clock
        self.patient = PatientStorage(
            self.failing,
            patience_seconds,
            on_wait=self.heard.append,
            clock=lambda: self.now(),
            sleep=self.pause,
            jitter=lambda: 1.0,
        )

    def pause(self, seconds: float) -> None:
        self.sleep(seconds)

    def rest(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.clock.advance(seconds)
        if sum(self.pauses) >= self.back_after:
            self.failing.heal()

    def trials(self) -> list[optuna.trial.FrozenTrial]:
        return self.failing.get_all_trials(self.study_id)

    def trial_ids(self) -> list[int]:
        return [
            self.storage.get_trial_id_from_study_id_trial_number(self.study_id, trial.number)
            for trial in self.trials()
        ]


@pytest.mark.fault("F26")
def test_a_storage_that_is_back_after_a_minute_has_cost_nothing_but_time() -> None:
    place = Place()
    place.failing.is_away, place.back_after = True, 60.0

    place.patient.create_new_trial(place.study_id)

    assert [trial.number for trial in place.trials()] == [0]
    away, back = place.heard
    assert away == (
        "The study storage test:// failed: server closed the connection unexpectedly. "
        "Running trials go on; waiting for it up to 10 min."
    )
    assert back == "The study storage is back after 70 s."
    assert place.pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 15.0, 15.0, 15.0]


@pytest.mark.fault("F27")
def test_patience_ends_with_one_sentence_and_is_not_begun_again() -> None:
    place = Place(patience_seconds=600.0)
    place.failing.is_away = True
    began = place.clock()

    with pytest.raises(StorageUnavailable) as caught:
        place.patient.get_all_trials(place.study_id)

    assert place.clock() - began == pytest.approx(600.0)
    assert str(caught.value) == (
        "The study storage test:// failed: server closed the connection unexpectedly. It has been "
        "away for 10 min. Hint: nothing that was recorded is lost, and running trials go on; run "
        "the study again when it is back."
    )
    place.pauses.clear()
    with pytest.raises(StorageUnavailable):
        place.patient.get_all_trials(place.study_id)
    assert place.pauses == []


def test_patience_is_whole_again_after_the_storage_was_back() -> None:
    place = Place(patience_seconds=100.0)
    for _ in range(3):
        place.failing.is_away, place.back_after = True, 90.0
        place.patient.get_all_trials(place.study_id)
        place.pauses.clear()

    assert len(place.heard) == 6


@pytest.mark.fault("F29")
def test_a_deadlock_is_repeated_at_once_and_nobody_is_told() -> None:
    place = Place()
    place.failing.fail(StorageFault.DEADLOCK, times=2)

    place.patient.set_study_user_attr(place.study_id, "key", 1)

    assert place.pauses == [0.1, 0.2]
    assert place.heard == []
    assert place.failing.get_study_user_attrs(place.study_id) == {"key": 1}


def test_two_runners_that_failed_together_do_not_try_together() -> None:
    pauses: list[float] = []
    for jitter in (0.0, 1.0):
        failing = FailingStorage(optuna.storages.InMemoryStorage())
        failing.fail(StorageFault.DEADLOCK, times=1)
        storage = PatientStorage(failing, sleep=pauses.append, jitter=iter([jitter]).__next__)
        storage.get_all_studies()

    assert pauses == [0.05, 0.1]


@pytest.mark.parametrize("fault", [StorageFault.LOST_BEFORE_COMMIT, StorageFault.LOST_AFTER_COMMIT])
@pytest.mark.parametrize("times", [1, 3])
class TestEveryWriteIsDoneOnce:
    @pytest.fixture
    def place(self, fault: StorageFault, times: int) -> Place:
        place = Place()
        self.trial_id = place.failing.create_new_trial(place.study_id)
        place.failing.fail(
            fault,
            *("create_new_trial", "create_new_study", "delete_study", "set_trial_state_values"),
            times=times,
        )
        return place

    @pytest.mark.fault("F28")
    def test_a_trial_that_is_made(self, place: Place) -> None:
        trial_id = place.patient.create_new_trial(place.study_id)

        assert place.trial_ids() == [self.trial_id, trial_id]

    def test_a_trial_that_is_enqueued_beside_one_alike(self, place: Place) -> None:
        template = create_trial(state=TrialState.WAITING, system_attrs={"fixed_params": {"x": 0.5}})

        ids = [place.patient.create_new_trial(place.study_id, template) for _ in range(2)]

        assert place.trial_ids() == [self.trial_id, *ids]

    def test_a_trial_that_is_taken_over(self, place: Place) -> None:
        templates = [create_trial(value=float(n)) for n in range(2)]

        for template in templates:
            place.patient.create_new_trial(place.study_id, template)

        assert [t.value for t in place.trials()] == [None, 0.0, 1.0]

    @pytest.mark.fault("F28")
    def test_a_study(self, place: Place) -> None:
        for name in ("named", None):
            study_id = place.patient.create_new_study(MINIMIZE, name)
            newest = place.failing.get_all_studies()[-1]
            assert place.failing.get_study_id_from_name(newest.study_name) == study_id
        assert len(place.failing.get_all_studies()) == 3

    def test_a_study_that_is_removed(self, place: Place) -> None:
        place.patient.delete_study(place.study_id)

        assert place.failing.get_all_studies() == []

    @pytest.mark.parametrize(
        ("state", "values"),
        [(TrialState.COMPLETE, [0.5]), (TrialState.FAIL, None), (TrialState.PRUNED, [1.0])],
    )
    @pytest.mark.fault("F28")
    def test_a_trial_that_is_told(
        self, place: Place, state: TrialState, values: list[float] | None
    ) -> None:
        assert place.patient.set_trial_state_values(self.trial_id, state, values)

        (trial,) = place.trials()
        assert (trial.state, trial.values) == (state, values)

    def test_a_waiting_trial_that_begins(self, place: Place) -> None:
        place.failing.heal()
        waiting = place.failing.create_new_trial(
            place.study_id, create_trial(state=TrialState.WAITING)
        )
        place.failing.fail(StorageFault.LOST_AFTER_COMMIT, "set_trial_state_values", times=1)

        assert place.patient.set_trial_state_values(waiting, TrialState.RUNNING)
        assert not place.patient.set_trial_state_values(waiting, TrialState.RUNNING)


def test_a_trial_that_another_runner_told_while_the_storage_was_away_keeps_its_value() -> None:
    place = Place()
    trial_id = place.patient.create_new_trial(place.study_id)
    place.failing.fail(StorageFault.LOST_BEFORE_COMMIT, "set_trial_state_values", times=1)
    tell = place.storage.set_trial_state_values
    place.sleep = lambda seconds: tell(trial_id, TrialState.COMPLETE, [1.0])

    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        place.patient.set_trial_state_values(trial_id, TrialState.COMPLETE, [2.0])

    assert place.trials()[0].values == [1.0]


def test_trials_made_in_one_step_of_the_clock_are_told_apart() -> None:
    place = Place()

    for _ in range(50):
        place.patient.create_new_trial(place.study_id)

    assert len({trial.datetime_start for trial in place.trials()}) == 50


def test_a_database_that_keeps_whole_seconds_has_each_trial_once() -> None:
    class Coarse(FailingStorage):
        def get_all_trials(self, *args: object, **named: object) -> list[optuna.trial.FrozenTrial]:
            trials = copy.deepcopy(place.storage.get_all_trials(place.study_id))
            for trial in trials:
                assert trial.datetime_start is not None
                trial.datetime_start = trial.datetime_start.replace(microsecond=0)
            return trials

    place = Place()
    failing = Coarse(place.storage)
    failing.fail(StorageFault.LOST_AFTER_COMMIT, "create_new_trial", times=1)

    PatientStorage(failing, sleep=place.rest).create_new_trial(place.study_id)

    assert len(place.trials()) == 1


def test_who_interrupts_the_waiting_does_not_wait_again() -> None:
    place = Place()
    place.failing.is_away = True

    def ctrl_c(seconds: float) -> None:
        raise KeyboardInterrupt

    place.sleep = ctrl_c
    with pytest.raises(KeyboardInterrupt):
        place.patient.get_all_trials(place.study_id)
    with pytest.raises(StorageUnavailable):
        place.patient.get_all_trials(place.study_id)


@pytest.mark.fault("F22")
def test_who_leaves_waits_only_a_little() -> None:
    place = Place()
    place.failing.is_away = True
    place.patient.limit_patience(5.0)

    with pytest.raises(StorageUnavailable, match="away for 5 s"):
        place.patient.get_all_trials(place.study_id)
    assert sum(place.pauses) == pytest.approx(5.0)


@pytest.mark.parametrize("error", [KeyError("no trial"), ValueError("a bug")])
def test_what_would_fail_again_is_raised_at_once(error: Exception) -> None:
    class Broken(FailingStorage):
        def get_trial(self, trial_id: int) -> optuna.trial.FrozenTrial:
            raise error

    with pytest.raises(type(error)):
        PatientStorage(Broken(optuna.storages.InMemoryStorage())).get_trial(0)


def test_a_pickled_storage_leaves_the_terminal_behind(tmp_path: Path) -> None:
    heard: list[str] = []
    storage = PatientStorage(open_storage(default_storage_url(tmp_path)), on_wait=heard.append)

    pickle.loads(pickle.dumps(storage)).create_new_study(MINIMIZE, "demo")

    assert [study.study_name for study in storage.get_all_studies()] == ["demo"]


# ---- two threads -----------------------------------------------------------------------------


def in_a_thread(call: Callable[[], object]) -> None:
    """Make a call in another thread, to its end."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert failed == []


@pytest.mark.fault("F79")
def test_two_threads_that_find_the_storage_back_in_one_moment_tell_it_once() -> None:
    place = Place()
    place.failing.is_away, place.back_after = True, 60.0
    others: list[Callable[[], object]] = [lambda: place.patient.get_all_trials(place.study_id)]

    def clock() -> float:
        if not place.failing.is_away and others:
            in_a_thread(others.pop())  # between what this thread has read and what it writes
        return place.clock()

    place.now = clock
    place.patient.create_new_trial(place.study_id)

    assert others == []
    assert [message.partition(".")[0] for message in place.heard] == [
        "The study storage test:// failed: server closed the connection unexpectedly",
        "The study storage is back after 70 s",
    ]


@pytest.mark.fault("F79")
def test_a_storage_that_answers_one_thread_is_not_told_as_back_while_another_waits() -> None:
    place = Place()
    place.failing.fail(StorageFault.LOST_BEFORE_COMMIT, "set_study_user_attr", times=10)

    def sleep(seconds: float) -> None:
        in_a_thread(lambda: place.patient.get_all_trials(place.study_id))
        place.rest(seconds)

    place.sleep = sleep
    place.patient.set_study_user_attr(place.study_id, "key", 1)

    away, back = place.heard
    assert "waiting for it" in away
    assert back == f"The study storage is back after {sum(place.pauses):.0f} s."


@pytest.mark.fault("F79")
def test_a_thread_that_gives_up_leaves_the_others_their_patience() -> None:
    place = Place(patience_seconds=100.0)
    place.failing.fail(StorageFault.LOST_BEFORE_COMMIT, "set_study_user_attr")
    with pytest.raises(StorageUnavailable, match="away for 100 s"):
        place.patient.set_study_user_attr(place.study_id, "key", 1)
    place.patient.get_all_trials(place.study_id)
    assert place.heard[-1] == "The study storage is back after 100 s."

    place.failing.fail(StorageFault.LOST_BEFORE_COMMIT, "get_trial", times=1)
    place.patient.get_trial(place.patient.create_new_trial(place.study_id))


@pytest.mark.fault("F79")
def test_many_threads_wait_side_by_side_and_make_each_trial_once() -> None:
    place = Place()
    place.failing.is_away = True
    start, lock = threading.Barrier(8), threading.Lock()

    def sleep(seconds: float) -> None:
        with lock:
            place.rest(seconds)
            if len(place.pauses) > 30:
                place.failing.heal()

    def work() -> None:
        start.wait(10)
        for _ in range(5):
            place.patient.create_new_trial(place.study_id)

    place.sleep = sleep
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert len(place.heard) == 2
    assert len({trial.datetime_start for trial in place.trials()}) == 40


# ---- what databases raise --------------------------------------------------------------------


class DriverError(sqlite3.OperationalError):
    """An error as a driver raises it, with a code of its database."""

    def __init__(self, message: str, **codes: object) -> None:
        super().__init__(message)
        self.__dict__.update(codes)


@contextmanager
def database(folder: Path) -> Iterator[tuple[optuna.storages.RDBStorage, PatientStorage, Place]]:
    """Give a SQLite storage whose locks are not waited for, and one that is patient with it."""
    storage = open_storage(f"sqlite:///{folder}/studies.db?timeout=0")
    assert isinstance(storage, optuna.storages.RDBStorage)
    place = Place(storage)
    try:
        yield storage, place.patient, place
    finally:
        storage.remove_session()
        storage.engine.dispose()


@pytest.mark.fault("F30")
def test_a_locked_sqlite_file_is_waited_for_and_a_trial_is_made_once(tmp_path: Path) -> None:
    with database(tmp_path) as (storage, patient, place):
        other = storage.engine.connect()
        other.execute(sqlalchemy.text("begin immediate"))

        def release(seconds: float) -> None:
            place.pauses.append(seconds)
            if len(place.pauses) == 3:
                other.close()

        place.sleep = release
        patient.create_new_trial(place.study_id)

        assert place.pauses == [0.1, 0.2, 0.4]
        assert len(place.trials()) == 1


@pytest.mark.fault("F28")
def test_an_answer_lost_at_the_commit_itself_makes_no_second_trial(tmp_path: Path) -> None:
    with database(tmp_path) as (storage, patient, place):
        lost = [1]
        commit = storage.engine.dialect.do_commit

        def lose(dbapi_connection: PoolProxiedConnection) -> None:
            commit(dbapi_connection)
            if lost:
                lost.pop()
                raise DriverError("disk I/O error", sqlite_errorcode=10)

        storage.engine.dialect.do_commit = lose  # type: ignore[method-assign]
        patient.create_new_trial(place.study_id)

        assert lost == []
        assert len(place.trials()) == 1


@pytest.mark.parametrize(
    ("sqlstate", "passes"),
    [
        *[("40001", True), ("40P01", True), ("57P01", True), ("53300", True), ("53100", True)],
        *[("25006", True), ("08006", True), ("42P01", False), ("28P01", False), ("22001", False)],
    ],
)
@pytest.mark.fault("F29")
def test_a_database_says_by_its_code_whether_to_try_again(
    tmp_path: Path, sqlstate: str, passes: bool
) -> None:
    with database(tmp_path) as (storage, patient, place):
        failures = [DriverError("told by a code", sqlstate=sqlstate)]

        @sqlalchemy.event.listens_for(storage.engine, "do_execute")
        def fail(*arguments: object) -> None:
            if failures:
                raise failures.pop()

        if passes:
            patient.get_study_user_attrs(place.study_id)
            assert place.pauses == [0.1]
        else:
            with pytest.raises(optuna.exceptions.StorageInternalError):
                patient.get_study_user_attrs(place.study_id)
            assert place.pauses == []


@pytest.mark.fault("F29")
def test_a_pool_without_a_free_connection_is_waited_for(tmp_path: Path) -> None:
    with database(tmp_path) as (storage, patient, place):
        failures = [sqlalchemy.exc.TimeoutError("QueuePool limit reached")]
        begin = storage.engine.pool.connect

        def exhausted() -> object:
            if failures:
                raise failures.pop()
            return begin()

        storage.engine.pool.connect = exhausted  # type: ignore[method-assign, assignment]
        patient.get_study_user_attrs(place.study_id)

        assert place.pauses == [0.1]


# ---- files -----------------------------------------------------------------------------------


@contextmanager
def largest_file(n_bytes: int) -> Iterator[None]:
    """Have the kernel take a part of what would make a file larger, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.fault("F30")
def test_a_full_disk_is_told_and_leaves_the_journal_whole(tmp_path: Path) -> None:
    storage = open_storage(default_storage_url(tmp_path))
    study_id = storage.create_new_study(MINIMIZE, "demo")
    path = tmp_path / "studies.journal"
    before = path.read_bytes()

    with largest_file(len(before) + 10), pytest.raises(StorageUnavailable) as caught:
        storage.create_new_trial(study_id)

    assert str(caught.value) == (
        f"The study file {path} cannot be used: File too large. Hint: make room on the disk, then "
        "run the study again; nothing that was recorded is lost."
    )
    assert path.read_bytes() == before


@pytest.mark.fault("F30")
def test_a_runner_waits_for_room_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(open_storage(default_storage_url(tmp_path)))
    full = [True] * 3
    fsync = os.fsync

    def no_room(file: int) -> None:
        if full:
            full.pop()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(file)

    monkeypatch.setattr(os, "fsync", no_room)
    place.patient.create_new_trial(place.study_id)

    assert place.pauses == [0.1, 0.2, 0.4]
    assert len(open_storage(default_storage_url(tmp_path)).get_all_trials(place.study_id)) == 1


@pytest.mark.fault("F31")
def test_what_a_dead_runner_left_torn_is_cut_off_by_the_next_write(tmp_path: Path) -> None:
    storage = open_storage(default_storage_url(tmp_path))
    study_id = storage.create_new_study(MINIMIZE, "demo")
    with (tmp_path / "studies.journal").open("a") as journal:
        journal.write('{"op_code":4,"worker_')

    storage.create_new_trial(study_id)

    assert len(open_storage(default_storage_url(tmp_path)).get_all_trials(study_id)) == 1
    assert len(list(tmp_path.glob("*.torn-*"))) == 1


def test_a_file_that_may_not_be_read_is_no_reason_to_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_storage(default_storage_url(tmp_path))

    def refuse(file: int) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "fsync", refuse)
    patient = PatientStorage(storage, sleep=lambda seconds: pytest.fail("it waits"))
    with pytest.raises(StorageBroken, match=r"Permission denied\. Hint: let this user read and"):
        patient.create_new_study(MINIMIZE, "demo")

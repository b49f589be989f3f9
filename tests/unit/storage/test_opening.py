"""Where studies are kept: files that were torn, locks whose holders died, databases away."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
import sqlalchemy

from studyflow.errors import MissingExtra, StorageUnavailable, StudyError
from studyflow.storage import (
    ProcessLock,
    TransactionLimits,
    default_storage_url,
    open_storage,
    redacted,
    storage_errors,
)
from studyflow.storage.opening import _limits_of_transaction, _mysql_limits
from studyflow.study import study_names


def journal(folder: Path, n_trials: int = 3) -> Path:
    """Return a journal with one study in it."""
    study = optuna.create_study(
        study_name="demo", storage=open_storage(default_storage_url(folder))
    )
    for _ in range(n_trials):
        study.tell(study.ask(), 1.0)
    return folder / "studies.journal"


def n_trials(folder: Path) -> int:
    storage = open_storage(default_storage_url(folder))
    return len(optuna.load_study(study_name="demo", storage=storage).trials)


def test_the_embedded_storage_is_a_journal_in_the_folder(tmp_path: Path) -> None:
    assert default_storage_url(tmp_path) == f"journal:///{tmp_path}/studies.journal"
    assert isinstance(
        open_storage(default_storage_url(tmp_path / "new")), optuna.storages.JournalStorage
    )


@pytest.mark.parametrize("torn", [b'{"op_code":4,"worker_', b"\0\0\0\0", b"{}"])
@pytest.mark.fault("F31")
def test_a_torn_last_line_is_cut_off_and_kept_in_a_copy(
    torn: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = journal(tmp_path)
    intact = path.read_bytes()
    path.write_bytes(intact + torn)

    with caplog.at_level(logging.WARNING):
        assert n_trials(tmp_path) == 3

    (copy,) = tmp_path.glob("studies.journal.torn-*")
    assert copy.read_bytes() == intact + torn
    assert path.read_bytes() == intact
    assert [r.message for r in caplog.records if r.name == "studyflow.storage.journal"] == [
        f"The last line of {path} was torn; cut it off, copy in {copy.name}"
    ]


def test_a_whole_file_is_left_alone(tmp_path: Path) -> None:
    path = journal(tmp_path)
    intact = path.read_bytes()

    n_trials(tmp_path)

    assert path.read_bytes() == intact
    assert list(tmp_path.glob("*.torn-*")) == []


def test_a_file_torn_in_its_first_line_and_an_empty_one_are_a_storage_without_studies(
    tmp_path: Path,
) -> None:
    for content in (b'{"op', b""):
        (tmp_path / "studies.journal").write_bytes(content)

        assert optuna.get_all_study_names(open_storage(default_storage_url(tmp_path))) == []


@pytest.mark.fault("F31")
def test_garbage_in_the_middle_is_refused_by_file_and_line(tmp_path: Path) -> None:
    path = journal(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b"garbage\n", *lines[2:]]))
    before = path.read_bytes()

    with pytest.raises(StorageUnavailable) as caught:
        n_trials(tmp_path)

    assert str(path) in str(caught.value)
    assert "line 3 " in str(caught.value)
    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    for url in (
        f"journal:///{tmp_path}/file/studies.journal",
        f"sqlite:///{tmp_path}/file/studies.db",
    ):
        with pytest.raises(StorageUnavailable, match=str(tmp_path)):
            open_storage(url)


HOLDER = """
import sys, time
from pathlib import Path
from studyflow.storage import ProcessLock
lock = ProcessLock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
time.sleep(60)
"""


def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        holder.send_signal(signal.SIGKILL)
        holder.wait()

    lock = ProcessLock(path)
    assert lock.acquire()
    lock.release()
    lock.release()
    assert path.exists()


@pytest.mark.fault("F63")
def test_a_lock_whose_holder_is_stopped_is_not_waited_for_without_bound(tmp_path: Path) -> None:
    path = tmp_path / "studies.journal.lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        lock = ProcessLock(path, patience_seconds=0.0)
        with pytest.raises(StorageUnavailable, match="wait for it, or end it"):
            lock.acquire()
        holder.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, holder.pid, os.WSTOPPED | os.WNOWAIT)

        with pytest.raises(StorageUnavailable) as caught:
            lock.acquire()

        assert str(caught.value) == (
            f"The study file {tmp_path}/studies.journal is locked by process {holder.pid}, which "
            f"is stopped. Hint: let it go on (kill -CONT {holder.pid}), or end it. Nothing that "
            "was recorded is lost."
        )
    finally:
        holder.kill()
        holder.communicate()
    assert lock.acquire(), "the kernel releases it"
    lock.release()


LOCK = "set_config('lock_timeout', '10000', true)"
IDLE = "set_config('idle_in_transaction_session_timeout', '60000', true)"


def test_how_long_a_transaction_may_hold_up_others() -> None:
    limits = TransactionLimits()

    assert (limits.lock_seconds, limits.idle_seconds) == (10.0, 60.0)
    assert _mysql_limits(limits) == (("innodb_lock_wait_timeout", 10), ("wait_timeout", 60))
    assert _mysql_limits(TransactionLimits(0.1, 0.1)) == (
        ("innodb_lock_wait_timeout", 1),
        ("wait_timeout", 1),
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("", f"SELECT {LOCK}, {IDLE}"),
        ("?options=-c%20lock_timeout%3D5s", f"SELECT {IDLE}"),
        ("?options=-c%20lock_timeout=5s%20-c%20idle_in_transaction_session_timeout=0", None),
    ],
)
@pytest.mark.fault("F63")
def test_a_transaction_is_limited_unless_the_address_says_how(
    arguments: str, told: str | None
) -> None:
    url = f"postgresql://host/db{arguments}"

    assert _limits_of_transaction(url, TransactionLimits()) == told


def test_two_storages_over_one_journal_see_each_others_writes(tmp_path: Path) -> None:
    journal(tmp_path)
    first = open_storage(default_storage_url(tmp_path))
    second = open_storage(default_storage_url(tmp_path))
    study = optuna.load_study(study_name="demo", storage=first)
    study.tell(study.ask(), 2.0)

    assert len(optuna.load_study(study_name="demo", storage=second).trials) == 4


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://user:secret@host/db", "postgresql://user:***@host/db"),
        (
            "postgresql+psycopg://user:secret@host:5432/db",
            "postgresql+psycopg://user:***@host:5432/db",
        ),
        ("postgresql://user:se:cr@et@host/db", "postgresql://user:***@host/db"),
        ("postgresql://user@host/db", "postgresql://user@host/db"),
        ("postgresql://:secret@host/db", "postgresql://:***@host/db"),
        ("postgresql://host/db?user=u&password=secret", "postgresql://host/db?user=u&password=***"),
        (
            "postgresql://host/db?password=secret&sslmode=require",
            "postgresql://host/db?password=***&sslmode=require",
        ),
        (
            "postgresql://u:secret@host/db?sslpassword=secret",
            "postgresql://u:***@host/db?sslpassword=***",
        ),
        ("sqlite:////data/studies.db", "sqlite:////data/studies.db"),
        ("journal:////data/studies.journal", "journal:////data/studies.journal"),
        ("nonsense", "nonsense"),
    ],
)
@pytest.mark.fault("F51")
def test_a_password_is_never_shown(url: str, shown: str) -> None:
    assert redacted(url) == shown
    assert "secret" not in redacted(url)


def test_a_file_that_cannot_be_made_is_answered_with_advice_about_files(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()

    with pytest.raises(StorageUnavailable, match="is the folder writable"):
        open_storage(f"sqlite:///{tmp_path}/taken/studies.db")


def test_sqlite_is_created_with_its_folder_and_opened_again(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/new/studies.db"
    for expected in ([], ["demo"]):
        storage = open_storage(url)
        assert isinstance(storage, optuna.storages.RDBStorage)
        assert optuna.get_all_study_names(storage) == expected
        optuna.create_study(study_name="demo", storage=storage, load_if_exists=True)
        storage.remove_session()
        storage.engine.dispose()


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_database_that_does_not_answer_is_named_without_its_password() -> None:
    port = closed_port()

    with pytest.raises(StorageUnavailable) as caught:
        open_storage(f"postgresql://user:secret@127.0.0.1:{port}/db")

    assert f"postgresql://user:***@127.0.0.1:{port}/db does not answer" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "refused" in str(caught.value)
    assert caught.value.retryable


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_the_driver_for_postgresql_is_the_installed_one(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = []

    def spy(url: str, **_named: object) -> None:
        urls.append(url)
        raise ImportError

    monkeypatch.setattr(sqlalchemy.engine, "create_engine", spy)
    with pytest.raises((MissingExtra, StudyError)):
        open_storage(f"{scheme}://user:secret@host/db")

    assert urls == ["postgresql+psycopg://user:secret@host/db"]


def test_a_missing_driver_is_asked_for_by_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(url: str, **_named: object) -> None:
        raise ImportError

    monkeypatch.setattr(sqlalchemy.engine, "create_engine", missing)
    with pytest.raises(MissingExtra, match=r"pip install 'studyflow\[postgres\]'") as caught:
        open_storage("postgresql://user:secret@host/db")

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["nonsense", "nosuch://user:secret@host/db", "postgresql://user:secret@host:port/db", ""]
)
def test_something_that_is_no_database_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(StudyError, match="is not the URL of a database") as caught:
        open_storage(url)

    assert "secret" not in str(caught.value)
    assert not caught.value.retryable


@pytest.mark.fault("F56")
def test_tables_of_another_version_of_optuna_are_refused_with_the_way_out(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/studies.db"
    storage = open_storage(url)
    assert isinstance(storage, optuna.storages.RDBStorage)
    with storage.engine.begin() as connection:
        connection.execute(sqlalchemy.text("update alembic_version set version_num = 'v9.9.9'"))
    storage.engine.dispose()

    with pytest.raises(StudyError, match=r"compatible with the table schema.*updating optuna"):
        open_storage(url)


def test_a_database_that_fails_in_the_middle_of_a_study_can_be_waited_for(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/studies.db"
    storage = open_storage(url)
    assert isinstance(storage, optuna.storages.RDBStorage)
    study = optuna.create_study(storage=storage)
    with storage.engine.begin() as connection:
        connection.execute(sqlalchemy.text("drop table trials"))

    with pytest.raises(StorageUnavailable) as caught, storage_errors(url):
        study.ask()

    storage.remove_session()
    storage.engine.dispose()
    assert f"{url} failed: no such table: trials." in str(caught.value)
    assert caught.value.retryable


@pytest.mark.parametrize("line", ['{"op": 1}', "[1]", "null", "garbage"])
@pytest.mark.fault("F31")
def test_a_damaged_journal_is_refused_with_the_number_of_the_line(
    tmp_path: Path, line: str
) -> None:
    url = default_storage_url(tmp_path)
    optuna.create_study(study_name="kept", storage=open_storage(url))
    with (tmp_path / "studies.journal").open("a") as journal:
        journal.write(f"{line}\n{line}\n")
    with pytest.raises(StorageUnavailable, match=r"damaged: line 2 is not one of Optuna's"):
        open_storage(url)


@pytest.mark.parametrize("url", ["journal", "sqlite"])
def test_who_only_reads_leaves_no_file_behind(tmp_path: Path, url: str) -> None:
    home = tmp_path / "home"
    place = default_storage_url(home) if url == "journal" else f"sqlite:///{home}/studies.db"
    assert study_names(open_storage(place, create=False)) == ()
    assert not home.exists()


def test_a_journal_is_read_without_a_lock_file_beside_it(tmp_path: Path) -> None:
    url = default_storage_url(tmp_path)
    optuna.create_study(study_name="kept", storage=open_storage(url))
    for lock in tmp_path.glob("*.lock"):
        lock.unlink()
    assert study_names(open_storage(url, create=False)) == ("kept",)
    assert list(tmp_path.glob("*.lock")) == []

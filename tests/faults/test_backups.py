"""A study whose database is lost in the middle goes on from its backup, its results intact."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.faults.place import Place, wait_until
from tests.postgres import Postgres, create_database, running_postgres

from studyflow.backup import back_up, find_places, restore
from studyflow.backup.places import Places
from studyflow.errors import BackupError, BackupUnavailable
from studyflow.settings import Settings
from studyflow.trial.record import TrialRecord

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.fault("F84")]


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with running_postgres() as postgres:
        yield postgres


def places_of(place: Place) -> Places:
    settings = Settings.resolve(home=place.home, storage=place.storage_url, environment={})
    return find_places(settings)


def run_to_the_middle(place: Place, archive: Path) -> dict[int, TrialRecord]:
    """Back up a study while it runs, let it run on and kill it; return what was finished.

    No script of it runs then: a restore refuses to replace their files.
    """
    runner = place.start()
    wait_until(lambda: place.n_ended() >= 2, runner)
    before = {r.number: r for r in place.records() if r.state.is_finished}
    said: list[str] = []
    back_up(places_of(place), archive, tell=said.append)
    wait_until(lambda: place.n_folders() >= 5, runner)
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    assert before
    while running := place.processes():  # a script may begin while others are awaited
        for process in running:
            process.wait(30)
    return before


def kept(place: Place, before: dict[int, TrialRecord]) -> bool:
    """Return whether what was finished before the backup is as it was."""
    after = {r.number: r for r in place.records()}
    return all(
        (after[n].params, after[n].values, after[n].state) == (r.params, r.values, r.state)
        for n, r in before.items()
    )


def check_goes_on(place: Place, before: dict[int, TrialRecord]) -> None:
    """Check that a restored study comes to its end and keeps what was finished."""
    assert kept(place, before)
    place.run_to_end()
    assert kept(place, before)
    place.check_whole(is_restored=True)


@pytest.mark.parametrize("scheme", ["journal", "sqlite"])
def test_a_study_whose_files_are_lost_goes_on_from_its_backup(
    scheme: str, tmp_path: Path, new_place: Callable[..., Place]
) -> None:
    url = f"{scheme}:///{tmp_path / 'home' / f'studies.{scheme}'}"
    place, archive = new_place(storage_url=url), tmp_path / "backup.tar.gz"
    before = run_to_the_middle(place, archive)
    shutil.rmtree(place.home)

    restore(archive, places_of(place), replace=False, tell=lambda _: None)

    assert "secret" not in place.log
    check_goes_on(place, before)


def test_a_study_whose_database_is_dropped_goes_on_from_its_backup(
    server: Postgres, tmp_path: Path, new_place: Callable[..., Place]
) -> None:
    psycopg = pytest.importorskip("psycopg")
    url = create_database(server.url, str(tmp_path))
    place, archive = new_place(storage_url=url), tmp_path / "backup.tar.gz"
    before = run_to_the_middle(place, archive)
    name = url.rpartition("/")[2]
    with psycopg.connect(f"{server.url}/postgres", autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        with pytest.raises(BackupUnavailable, match="does not exist"):
            restore(archive, places_of(place), replace=True, tell=lambda _: None)
        connection.execute(f"CREATE DATABASE {name}")
    with pytest.raises(BackupError, match="Not empty: "):  # the files of this machine
        restore(archive, places_of(place), replace=False, tell=lambda _: None)

    restore(archive, places_of(place), replace=True, tell=lambda _: None)

    check_goes_on(place, before)


def test_a_restore_of_a_database_in_use_changes_nothing(
    server: Postgres, tmp_path: Path, new_place: Callable[..., Place]
) -> None:
    psycopg = pytest.importorskip("psycopg")
    url = create_database(server.url, str(tmp_path))
    place, archive = new_place(storage_url=url), tmp_path / "backup.tar"
    place.run_to_end()
    back_up(places_of(place), archive, tell=lambda _: None)

    with (
        psycopg.connect(url),
        pytest.raises(BackupUnavailable, match="1 session on postgresql://studyflow:") as caught,
    ):
        restore(archive, places_of(place), replace=True, tell=lambda _: None)
    assert "secret" not in str(caught.value)

    place.check_whole(is_restored=True)


def test_a_restore_that_fails_leaves_database_and_files_as_they_were(
    server: Postgres, tmp_path: Path, new_place: Callable[..., Place]
) -> None:
    psycopg = pytest.importorskip("psycopg")
    url = create_database(server.url, str(tmp_path))
    place, archive = new_place(storage_url=url), tmp_path / "backup.tar"
    place.run_to_end()
    back_up(places_of(place), archive, tell=lambda _: None)
    with psycopg.connect(url, autocommit=True) as connection:
        # A rule of the database's own, which a restore may not break.
        connection.execute("CREATE SCHEMA theirs")
        connection.execute(
            "CREATE FUNCTION theirs.refuse() RETURNS event_trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'no new tables here'; END $$"
        )
        connection.execute(
            "CREATE EVENT TRIGGER refuse ON ddl_command_end WHEN TAG IN ('CREATE INDEX') "
            "EXECUTE FUNCTION theirs.refuse()"
        )
    before = {path: path.stat().st_ino for path in place.home.iterdir()}

    with pytest.raises(BackupError, match="no new tables here"):
        restore(archive, places_of(place), replace=True, tell=lambda _: None)

    assert {path: path.stat().st_ino for path in place.home.iterdir()} == before
    place.check_whole(is_restored=True)

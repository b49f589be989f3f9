"""A real PostgreSQL that goes away under a real runner: nothing is lost or doubled."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.faults.place import Place, wait_until
from tests.postgres import USER, Postgres, create_database, running_postgres

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with running_postgres() as postgres:
        yield postgres


@pytest.fixture
def place(server: Postgres, tmp_path: Path, new_place: Callable[..., Place]) -> Place:
    return new_place(storage_url=create_database(server.url, str(tmp_path)))


@pytest.mark.parametrize("mode", ["fast", "immediate"])
@pytest.mark.fault("F26")
def test_a_database_that_restarts_costs_a_study_nothing(
    mode: str, server: Postgres, place: Place
) -> None:
    runner = place.start()
    for n_trials in (1, 3, 5):
        wait_until(lambda n=n_trials: place.n_folders() >= n, runner)  # type: ignore[misc]
        server.stop(mode)
        server.start()

    assert runner.wait(120) == 0, place.log
    place.check_whole()


@pytest.mark.fault("F26")
def test_an_outage_is_told_once_and_its_end_too(server: Postgres, place: Place) -> None:
    runner = place.start()
    wait_until(lambda: place.n_folders() >= 2, runner)
    server.stop()
    wait_until(lambda: "waiting for it" in place.log, runner)
    server.start()

    assert runner.wait(120) == 0, place.log
    assert place.log.count("Running trials go on; waiting for it up to 10 min.") == 1
    assert place.log.count("The study storage is back after ") == 1
    assert "Traceback" not in place.log
    place.check_whole()


@pytest.mark.fault("F28", "F29")
def test_connections_that_are_cut_all_the_time_cost_a_study_nothing(
    server: Postgres, place: Place
) -> None:
    psycopg = pytest.importorskip("psycopg")
    n_cut = 0
    runner = place.start()
    wait_until(lambda: place.n_folders() >= 1, runner)
    with psycopg.connect(f"{server.url}/postgres", autocommit=True) as connection:
        while runner.poll() is None:
            n_cut += connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where usename = %s "
                "and datname = %s",
                [USER, place.storage_url.rpartition("/")[2]],
            ).rowcount
            time.sleep(0.15)

    assert runner.wait() == 0, place.log
    assert n_cut > 5
    place.check_whole()


@pytest.mark.fault("F27")
def test_a_runner_whose_patience_ends_leaves_its_trials_to_the_next_one(
    server: Postgres, place: Place
) -> None:
    runner = place.start(STUDYFLOW_STORAGE_PATIENCE_SECONDS="3")
    wait_until(lambda: place.n_folders() >= 3, runner)
    server.stop()

    assert runner.wait(120) == 3, place.log
    *_, error, again = place.log.strip().splitlines()
    assert error.startswith("The study storage postgresql://studyflow:***@127.0.0.1:")
    assert again.startswith("Continue: studyflow run study.yaml")
    assert error.endswith(
        "It has been away for 3 s. Hint: nothing that was recorded is lost, and running trials go "
        "on; run the study again when it is back."
    )
    assert "Traceback" not in place.log
    assert "secret" not in place.log

    deadline = time.monotonic() + 120
    while place.n_ended() < place.n_folders():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    server.start()
    place.run_to_end()
    place.check_whole()


@pytest.mark.fault("F22", "F26")
def test_a_runner_that_is_told_to_end_while_it_waits_leaves_at_once(
    server: Postgres, place: Place
) -> None:
    runner = place.start()
    wait_until(lambda: place.n_folders() >= 2, runner)
    server.stop()
    try:
        wait_until(lambda: "waiting for it" in place.log, runner)
        told_at = time.monotonic()
        runner.terminate()

        assert runner.wait(120) == 130, place.log
        assert time.monotonic() - told_at < 30
    finally:
        server.start()
    assert "Traceback" not in place.log
    assert "Interrupted; finished trials are kept." in place.log

    place.run_to_end()
    place.check_whole()

"""A PostgreSQL database is the same after its way through a dump, whatever is in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from tests.postgres import Postgres, create_database, running_postgres

from studyflow.backup import postgres
from studyflow.errors import BackupError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

# How PostgreSQL words a CHECK changes by itself on the way: casts move into its lists.
SCHEMA = (
    (
        "SELECT table_name, column_name, data_type, column_default, is_nullable "
        "FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2"
    ),
    (
        "SELECT conname, contype::text, CASE contype WHEN 'c' THEN '' ELSE "
        "pg_get_constraintdef(oid) END FROM pg_constraint "
        "WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2"
    ),
    "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1",
    "SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1",
    "SELECT proname, prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1",
)

OTHERS = """
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE DOMAIN share AS float CHECK (VALUE BETWEEN 0 AND 1);
CREATE SEQUENCE "Numbers";
CREATE TABLE "Odd Name" (id int GENERATED ALWAYS AS IDENTITY, m mood, s share, t text);
CREATE TABLE parted (id int) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
CREATE VIEW seen AS SELECT m FROM "Odd Name";
CREATE MATERIALIZED VIEW kept AS SELECT m FROM seen;
CREATE FUNCTION twice(x int, y text DEFAULT 'a,b') RETURNS int LANGUAGE sql AS 'SELECT 2 * x';
CREATE AGGREGATE total(int) (sfunc = int4pl, stype = int);
CREATE PROCEDURE nothing() LANGUAGE sql AS 'SELECT 1';
INSERT INTO "Odd Name" (m, s, t) VALUES ('good', 0.5, E'tab\\t SET transaction_timeout = 0;');
INSERT INTO parted VALUES (3);
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    pytest.importorskip("psycopg")
    with running_postgres() as postgres:
        yield postgres


def fill_optuna(url: str) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.RDBStorage(url.replace("postgresql:", "postgresql+psycopg:"))
    study = optuna.create_study(storage=storage, study_name="demo")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    storage.remove_session()
    storage.engine.dispose()


def fill_mlflow(url: str) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(url.replace("postgresql:", "postgresql+psycopg:"))
    run = client.create_run(client.create_experiment("demo"))
    client.log_metric(run.info.run_id, "loss", 0.5)
    client._tracking_client.store.engine.dispose()


def fill_others(url: str) -> None:
    _run(url, OTHERS)


def _run(url: str, *statements: str) -> list[list[Any]]:
    import psycopg

    with psycopg.connect(url) as connection:
        found = [connection.execute(statement) for statement in statements]
        return [cursor.fetchall() if cursor.description else [] for cursor in found]


def content(url: str) -> list[list[Any]]:
    """Return the schema of a database, and the number of rows of each table."""
    tables = "SELECT format('%I', tablename) FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
    [names] = _run(url, tables)
    return [*_run(url, *SCHEMA), *_run(url, *(f"SELECT count(*) FROM {name}" for (name,) in names))]


@pytest.mark.parametrize("fill", [fill_optuna, fill_mlflow, fill_others])
def test_a_database_is_replaced_by_its_own_dump_and_made_in_an_empty_one(
    fill: Any, server: Postgres, tmp_path: Path
) -> None:
    url = create_database(server.url, str(tmp_path))
    fill(url)
    before = content(url)
    postgres.dump(url, tmp_path / "dump")
    _run(url, "CREATE TABLE later (x int)")

    postgres.load(url, tmp_path / "dump", tmp_path / "script")

    assert content(url) == before
    empty = create_database(server.url, f"{tmp_path}-empty")
    postgres.load(empty, tmp_path / "dump", tmp_path / "another")
    assert content(empty) == before


def test_numbers_go_on_after_the_way_back(server: Postgres, tmp_path: Path) -> None:
    url = create_database(server.url, str(tmp_path))
    fill_optuna(url)
    postgres.dump(url, tmp_path / "dump")
    postgres.load(url, tmp_path / "dump", tmp_path / "script")

    storage = optuna.storages.RDBStorage(url.replace("postgresql:", "postgresql+psycopg:"))
    study = optuna.load_study(storage=storage, study_name="demo")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    numbers = [trial.number for trial in study.trials]
    storage.remove_session()
    storage.engine.dispose()
    assert numbers == [0, 1, 2, 3, 4]


def test_what_is_no_dump_changes_nothing(server: Postgres, tmp_path: Path) -> None:
    url = create_database(server.url, str(tmp_path))
    fill_others(url)
    before = content(url)
    (tmp_path / "dump").write_bytes(b"no dump")

    with pytest.raises(BackupError, match="pg_restore failed"):
        postgres.load(url, tmp_path / "dump", tmp_path / "script")

    assert content(url) == before

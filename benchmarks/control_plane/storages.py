"""What a turn and a trial ask of the storage: statements of a database, fsyncs of a journal.

PostgreSQL is started for it where its programs are; without them SQLite alone is counted.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import optuna
import pytest
from benchmarks.control_plane.loop import SPACE, Loop
from benchmarks.control_plane.measures import Row, Statements
from tests.postgres import create_database, running_postgres

from studyflow.storage import open_storage


def statements(url: str, n_running: int, n_trials: int) -> Iterator[Row]:
    storage = open_storage(url)
    assert isinstance(storage, optuna.storages.RDBStorage)
    loop = Loop(storage, 0, n_running)
    loop.turn()
    loop.turn()
    sent = Statements(storage)
    what = f"{storage.engine.dialect.name}, {n_running} running"
    idle = sent.during(loop.turn)
    yield Row(f"{what}: an idle turn", idle, "statements")
    each = sum(sent.during(loop.end_one) for _ in range(n_trials)) / n_trials
    study = optuna.load_study(study_name="loop", storage=storage)
    theirs = sent.during(lambda: study.tell(study.ask(dict(SPACE)), 0.5))
    yield Row(f"{what}: a trial", each, "statements", theirs, "Optuna")


def fsyncs(folder: Path, n_trials: int) -> Iterator[Row]:
    storage = open_storage(f"journal:///{folder / 'study.journal'}")
    loop = Loop(storage, 0, 4)
    loop.turn()
    with mock.patch("os.fsync", wraps=os.fsync) as fsync:
        for _ in range(n_trials):
            loop.end_one()
        ours = fsync.call_count / n_trials
        study = optuna.load_study(study_name="loop", storage=storage)
        before = fsync.call_count
        study.tell(study.ask(dict(SPACE)), 0.5)
        theirs = fsync.call_count - before
    yield Row("journal: a trial", ours, "fsyncs", theirs, "Optuna")


def rows(*, is_quick: bool) -> Iterator[Row]:
    n_trials, runnings = (3, (3,)) if is_quick else (20, (8, 50))
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        yield from fsyncs(folder, n_trials)
        yield from statements(f"sqlite:///{folder / 'studies.db'}", runnings[0], n_trials)
        if is_quick:
            return
        try:
            server = stack.enter_context(running_postgres()).url
        except pytest.skip.Exception as reason:
            print(f"(no PostgreSQL: {reason})")
            return
        for n_running in runnings:
            yield from statements(create_database(server, f"{n_running}"), n_running, n_trials)

"""What the gate learns from MLflow's own store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.prepared import put_mlflow_database

from studyflow.tracking.mlflow import embedded_uri
from studyflow.tracking.mlflow.gate.store import ServerLookup

pytestmark = pytest.mark.slow


def test_what_is_not_there_is_none_and_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.server import handlers
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    put_mlflow_database(tmp_path)
    store: Any = SqlAlchemyStore(  # type: ignore[no-untyped-call]
        embedded_uri(tmp_path), (tmp_path / "files").as_uri()
    )
    monkeypatch.setattr(handlers, "_get_tracking_store", lambda: store)
    lookup = ServerLookup()
    experiment = store.create_experiment("there")

    assert lookup.experiment_name(experiment) == "there"
    assert [lookup.experiment_name(name) for name in ("4711", "no-number")] == [None] * 2
    assert lookup.run("a" * 32) is None
    assert lookup.model("m-nosuch") is None

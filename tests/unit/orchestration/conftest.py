"""Prefect is imported by the first test that needs it, over a home of its own, and by no other."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _prefect(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Import the package: Prefect takes seconds, and what it reads is put back after each test."""
    monkeypatch.setenv("STUDYFLOW_HOME", str(tmp_path_factory.getbasetemp() / "prefect-home"))
    import studyflow.orchestration.script  # noqa: F401


@pytest.fixture
def hung() -> Iterator[threading.Event]:
    """What calls wait for that Prefect's server does not answer, until the test is over."""
    over = threading.Event()
    yield over
    over.set()

"""Fixtures of the tests of tracking."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.tracking.fake_runner import FakeRunner


@pytest.fixture
def runner(tmp_path: Path) -> FakeRunner:
    return FakeRunner(tmp_path)

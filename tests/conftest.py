"""What every test leaves as it found it."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.faults.catalogue import CONTRACT

# The contract suites are shipped with the package: their failures are to show values all the same.
pytest.register_assert_rewrite("studyflow.testing")


# Imports and collected tests are a million objects that stay: to look for garbage among them,
# again and again, takes a third of the time of a collection.
gc.disable()

# Images often forbid bytecode, for they start little. Here every process would compile what it
# imports, and every collection all tests.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_collection_finish() -> None:
    """Look for garbage from now on, but not among what is here already: one look took a second."""
    # Its plugin imports it in any case, at the end, and it finds no referrer that is frozen.
    import hypothesis  # noqa: F401

    gc.freeze()
    gc.enable()


def pytest_configure(config: pytest.Config) -> None:
    """Let processes that tests start find `tests/lean` before all that is installed."""
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        path = (str(Path(__file__).parent / "lean"), os.environ.get("PYTHONPATH"))
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, path))


# With minutes in one file, the longest first: tests that run side by side then end together.
_LONG = [
    Path(__file__).parent / name
    for name in ("ui/test_daily_life.py", "faults", "docs", "ui", "flows")
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put long files first, and mark the shipped contract suites with the faults they inject."""
    items.sort(key=lambda item: [not item.path.is_relative_to(folder) for folder in _LONG])
    for item in items:
        for fault in CONTRACT.get(item.name.partition("[")[0], ()):
            item.add_marker(pytest.mark.fault(fault))


# Tests of these folders run a study of their own each, but for those of files that share a server.
_INDEPENDENT = ("tests/faults/", "tests/docs/")
_SHARING = ("test_storage_away.py", "test_stopped_writes.py", "test_mlflow_scripts.py")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Run the tests of a file one after the other, and those that share nothing anywhere."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            is_independent = file.startswith(_INDEPENDENT) and not file.endswith(_SHARING)
            return nodeid if is_independent else file

    return Scheduling(config, log)


_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@pytest.fixture(autouse=True)
def _signal_handlers() -> Iterator[None]:
    """Put signal handlers back: commands and training scripts set some, for their whole process."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    yield
    for number, handler in before.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """Put environment variables back: MLflow and a flow's file set there where servers are."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)

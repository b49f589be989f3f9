"""What every test leaves as it found it."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from tests.faults.catalogue import CONTRACT

# The contract suites are shipped with the package: their failures are to show values all the same.
pytest.register_assert_rewrite("studyflow.testing")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the shipped contract suites with the faults that they inject."""
    for item in items:
        for fault in CONTRACT.get(item.name.partition("[")[0], ()):
            item.add_marker(pytest.mark.fault(fault))


_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@pytest.fixture(autouse=True)
def _signal_handlers() -> Iterator[None]:
    """Put signal handlers back: commands and training scripts set some, for their whole process."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    yield
    for number, handler in before.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)

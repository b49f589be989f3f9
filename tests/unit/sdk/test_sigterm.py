"""What SIGTERM does to a training process."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from studyflow.sdk.mlflow_link import FLUSH_SECONDS
from studyflow.sdk.sigterm import END_SECONDS, FIRST_PID, Sigterm


@pytest.fixture(autouse=True)
def _own_handler() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


def test_a_container_s_first_process_has_time_for_its_last_metrics() -> None:
    assert FLUSH_SECONDS < END_SECONDS < 30, "the grace that Kubernetes gives by default"


def test_a_request_is_remembered_and_ends_nothing() -> None:
    sigterm = Sigterm()
    sigterm.make_request()
    assert not sigterm.is_received
    signal.raise_signal(signal.SIGTERM)
    assert sigterm.is_received


def test_a_request_reaches_the_script_s_own_handler_too() -> None:
    heard: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: heard.append(number))
    sigterm = Sigterm()
    sigterm.make_request()
    signal.raise_signal(signal.SIGTERM)
    assert (sigterm.is_received, heard) == (True, [signal.SIGTERM])


def test_before_its_result_a_container_s_first_process_is_no_longer_ended() -> None:
    sigterm = Sigterm()
    sigterm.end_first_process(FIRST_PID)
    sigterm.let_finish()
    signal.raise_signal(signal.SIGTERM)
    assert sigterm.is_received


def test_before_its_result_a_script_that_handles_sigterm_keeps_its_handler() -> None:
    def own(*_: object) -> None: ...

    signal.signal(signal.SIGTERM, own)
    Sigterm().let_finish()
    assert signal.getsignal(signal.SIGTERM) is own

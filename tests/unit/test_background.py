"""A call in the background gives its result, its error, or is left behind."""

from __future__ import annotations

import threading

import pytest

from studyflow.background import Background, NoAnswer


def test_a_call_returns_what_it_returns() -> None:
    assert Background("test", lambda: 3).result(5.0) == 3


def test_a_call_raises_what_it_raises() -> None:
    def fail() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        Background("test", fail).result(5.0)


def test_a_call_that_hangs_is_left_behind() -> None:
    never = threading.Event()
    call = Background("test", lambda: never.wait(30))

    with pytest.raises(NoAnswer, match="no answer within 0 s"):
        call.result(0.0)
    never.set()
    assert call.result(5.0)

"""What is done when a process is told to end, and when it is not."""

from __future__ import annotations

import pytest

from studyflow.interrupt import Terminated, when_told_to_end


@pytest.mark.parametrize("told", [KeyboardInterrupt, Terminated, SystemExit, GeneratorExit])
def test_a_block_that_is_told_to_end_does_what_is_left_to_do(told: type[BaseException]) -> None:
    done: list[str] = []
    with pytest.raises(told), when_told_to_end(lambda: done.append("cancelled")):
        raise told
    assert done == ["cancelled"]


def test_a_fault_is_not_being_told_to_end() -> None:
    done: list[str] = []
    with pytest.raises(ValueError, match="broken"), when_told_to_end(lambda: done.append("x")):
        raise ValueError("broken")
    assert done == []


def test_a_block_that_comes_to_its_end_does_nothing_more() -> None:
    done: list[str] = []
    with when_told_to_end(lambda: done.append("x")):
        pass
    assert done == []


def test_what_fails_then_hides_nothing() -> None:
    def fail() -> None:
        raise RuntimeError("no right to stop")

    with pytest.raises(RuntimeError) as caught, when_told_to_end(fail):
        raise KeyboardInterrupt
    assert isinstance(caught.value.__context__, KeyboardInterrupt)

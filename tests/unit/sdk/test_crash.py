"""What an uncaught exception says about a trial."""

# ruff: noqa: E501 - a table reads best with one row a line

from __future__ import annotations

from collections.abc import Callable

import pytest

from studyflow.sdk.crash import TEXT_LIMIT_CHARS, crash_cause
from studyflow.trial import Cause


class OutOfMemoryError(RuntimeError):
    """As torch.cuda calls it."""


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def raised_from(cause: BaseException | None) -> BaseException:
    try:
        raise RuntimeError("the epoch failed") from cause
    except RuntimeError as error:
        return error


def raised_while_handling(handled: BaseException) -> BaseException:
    try:
        try:
            raise handled
        except BaseException:
            raise ValueError("a smaller batch did not help") from None
    except ValueError as error:
        error.__context__ = handled
        return error


OF_A_WORKER = (
    "Caught RuntimeError in replica 1 on device 1.\n"
    "Traceback (most recent call last):\n"
    '  File "worker.py", line 3, in run\n'
    "RuntimeError: CUDA out of memory. Tried to allocate 2 GiB\n"
)


@pytest.mark.parametrize(
    ("error", "cause", "message"),
    [
        (ValueError("no such column"), Cause.USER_ERROR, "ValueError: no such column"),
        (ValueError(), Cause.USER_ERROR, "ValueError"),
        (SystemExit(3), Cause.USER_ERROR, "SystemExit: 3"),
        (MemoryError("Unable to allocate 8 GiB"), Cause.HOST_OOM, "MemoryError: Unable to allocate 8 GiB"),
        (OutOfMemoryError("Tried to allocate 2 GiB"), Cause.CUDA_OOM, "OutOfMemoryError: Tried to allocate 2 GiB"),
        (RuntimeError("CUDA out of memory. Tried to"), Cause.CUDA_OOM, "RuntimeError: CUDA out of memory. Tried to"),
        (RuntimeError("HIP out of memory."), Cause.CUDA_OOM, "RuntimeError: HIP out of memory."),
        (RuntimeError("[enforce fail at alloc.cpp:1] DefaultCPUAllocator: can't allocate memory"), Cause.HOST_OOM, "RuntimeError: [enforce fail at alloc.cpp:1] DefaultCPUAllocator: can't allocate memory"),
        (OSError(12, "Cannot allocate memory"), Cause.HOST_OOM, "OSError: [Errno 12] Cannot allocate memory"),
        # A message that only mentions it is about something else.
        (RuntimeError("retry after CUDA out of memory"), Cause.USER_ERROR, "RuntimeError: retry after CUDA out of memory"),
        (ValueError("CUDA out of memory"), Cause.USER_ERROR, "ValueError: CUDA out of memory"),
        # What it was raised from counts; what was being handled had been survived.
        (raised_from(MemoryError()), Cause.HOST_OOM, "RuntimeError: the epoch failed (test_crash.py:"),
        (raised_from(raised_from(OutOfMemoryError())), Cause.CUDA_OOM, "RuntimeError: the epoch failed (test_crash.py:"),
        (raised_while_handling(MemoryError()), Cause.USER_ERROR, "ValueError: a smaller batch did not help (test_crash.py:"),
        # The message holds what ended another process, or a replica on another device.
        (RuntimeError(OF_A_WORKER), Cause.CUDA_OOM, "RuntimeError: Caught RuntimeError in replica 1 on device 1."),
        # Of a group, what all have in common.
        (ExceptionGroup("two", [MemoryError(), MemoryError()]), Cause.HOST_OOM, "ExceptionGroup: two (2 sub-exceptions)"),
        (ExceptionGroup("two", [MemoryError(), ValueError()]), Cause.USER_ERROR, "ExceptionGroup: two (2 sub-exceptions)"),
        # Text of user code is no reason to fail once more.
        (Unprintable(), Cause.USER_ERROR, "Unprintable"),
        (ValueError("a\tb\n\n  c\x1b[31m"), Cause.USER_ERROR, "ValueError: a b c [31m"),
    ],
)  # fmt: skip
def test_an_exception_has_a_cause_and_a_line(
    error: BaseException, cause: Cause, message: str
) -> None:
    told = crash_cause(error)
    assert told is not None
    assert told[0] is cause
    assert told[1].startswith(message)


def test_whoever_presses_a_key_decides_what_that_means() -> None:
    assert crash_cause(KeyboardInterrupt()) is None


def test_a_circle_of_causes_has_an_end() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert crash_cause(first) == (Cause.USER_ERROR, "ValueError: a")


def test_a_line_names_where_it_was_raised_and_is_cut_before_that() -> None:
    def fail() -> None:
        raise ValueError("x" * 10_000)

    with pytest.raises(ValueError) as caught:
        fail()
    told = crash_cause(caught.value)

    assert told is not None
    name, _, text = told[1].partition(": ")
    shown, _, place = text.partition(" (")
    assert (name, len(shown), shown[-2:]) == ("ValueError", TEXT_LIMIT_CHARS, "x…")
    assert place.startswith("test_crash.py:")


@pytest.mark.parametrize("redact", [str, lambda text: text.replace("s3cret", "***")])
def test_secrets_are_taken_out_of_the_text(redact: Callable[[str], str]) -> None:
    told = crash_cause(ValueError("login s3cret failed"), redact)
    assert told is not None
    assert told[1] == f"ValueError: {redact('login s3cret failed')}"

"""What an uncaught exception says about a trial."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePath
from typing import Final

from studyflow.sdk.console import text_of
from studyflow.trial import Cause, memory_cause

TEXT_LIMIT_CHARS: Final = 500

_TRACEBACK: Final = "Traceback (most recent call last)"
_EXCEPTION: Final = re.compile(r"^(?P<kind>[^\W\d][\w.]*)(?:: (?P<text>.*))?$", re.MULTILINE)


def crash_cause(
    error: BaseException, redact: Callable[[str], str] = str
) -> tuple[Cause, str] | None:
    """Return cause and message for an exception that ended a script.

    `None` for an interrupt from the keyboard: who pressed the key decides what that means.

    Args:
        error: The exception.
        redact: Takes secrets out of its text, before that is cut to length.
    """
    if isinstance(error, KeyboardInterrupt):
        return None
    cause = _memory_cause(error) or Cause.USER_ERROR
    text = redact(text_of(error, str, ""))[: 4 * TEXT_LIMIT_CHARS]
    return cause, _describe(error, type(error).__name__, text)


def _memory_cause(error: BaseException) -> Cause | None:
    """Return the cause if the script ended for want of memory; `None` if it did not.

    What was only handled before (`__context__`) was survived and does not count; what the
    exception was raised from (`__cause__`) does.
    """
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if found := _memory_cause_of_one(cause):
            return found
        cause = cause.__cause__
    return None


def _memory_cause_of_one(error: BaseException) -> Cause | None:
    if isinstance(error, BaseExceptionGroup):
        causes = {_memory_cause(part) for part in error.exceptions}
        return causes.pop() if len(causes) == 1 else None
    for kind in type(error).__mro__:
        if found := memory_cause(kind.__name__, ""):
            return found
    text = text_of(error, str, "")
    if found := memory_cause(type(error).__name__, text):
        return found
    if _TRACEBACK not in text:
        return None
    # The message holds what ended another process, or the replica on another device.
    *_, last = (None, *_EXCEPTION.finditer(text, text.rindex(_TRACEBACK)))
    return None if last is None else memory_cause(last["kind"], last["text"] or "")


def _describe(error: BaseException, name: str, text: str) -> str:
    plain = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if len(plain) > TEXT_LIMIT_CHARS:
        plain = plain[: TEXT_LIMIT_CHARS - 1] + "…"
    described = f"{name}: {plain}" if plain else name
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None:
        return described
    return f"{described} ({PurePath(last.tb_frame.f_code.co_filename).name}:{last.tb_lineno})"

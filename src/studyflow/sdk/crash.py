"""What an uncaught exception says about a trial."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePath
from typing import Final

from studyflow.trial import Cause

TEXT_LIMIT_CHARS: Final = 500

_CUDA_OOM: Final = re.compile(
    r"(CUDA|HIP)( error:)? out of memory"
    r"|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED|CUDA_ERROR_OUT_OF_MEMORY",
    re.IGNORECASE,
)
_HOST_OOM: Final = re.compile(r"DefaultCPUAllocator: can't allocate memory|std::bad_alloc")


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
    name = type(error).__name__
    text = redact(str(error))[: 4 * TEXT_LIMIT_CHARS]
    if isinstance(error, MemoryError) or _HOST_OOM.search(text):
        cause = Cause.HOST_OOM
    elif name == "OutOfMemoryError" or _CUDA_OOM.search(text):
        cause = Cause.CUDA_OOM
    else:
        cause = Cause.USER_ERROR
    return cause, _describe(error, name, text)


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

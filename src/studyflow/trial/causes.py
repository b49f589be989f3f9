"""Which causes an exception's text names; the causes themselves are in `studyflow.reasons`.

Standard library only: this module is part of every trial image.
"""

from __future__ import annotations

import re
from typing import Final

from studyflow.reasons import Cause, Code, ReasonCode


def code_of(cause: Cause | None) -> ReasonCode:
    """Return the code that says as much as a cause; `unspecified` without one."""
    return Code.UNSPECIFIED if cause is None else cause


_CUDA_OOM: Final = re.compile(
    r"(CUDA|HIP)( error:)? out of memory"
    r"|((CUDA|cuBLAS|cuDNN)( driver)? error:? |.*(: | in ))?"
    r"(CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED|CUDA_ERROR_OUT_OF_MEMORY)",
    re.IGNORECASE,
)
_HOST_OOM: Final = re.compile(
    r"(\[enforce fail[^\]]*\].{0,20}?)?DefaultCPUAllocator: can't allocate memory"
    r"|std::bad_alloc"
    r"|(\[Errno 12\] )?Cannot allocate memory"
    r"|memory allocation of \d+ bytes failed"  # Rust's, as polars and tokenizers print it
)
MISTAKES: Final = frozenset(
    {
        *("AssertionError", "AttributeError", "ImportError", "IndexError", "KeyError"),
        *("LookupError", "ModuleNotFoundError", "NameError", "NotImplementedError"),
        *("StopIteration", "SyntaxError", "TypeError", "UnboundLocalError", "ValueError"),
    }
)
"""Exceptions of a mistake in the script: what their messages quote did not end it."""


def memory_cause(kind: str, message: str) -> Cause | None:
    """Return `cuda-oom` or `host-oom` if that is what an exception says; `None` if not.

    The message must begin with what allocators say: one that only mentions it is about something
    else.

    Args:
        kind: The exception's type, with or without its module; empty for a line without a type.
        message: Its text; only the first line is looked at.
    """
    name = kind.replace("::", ".").rpartition(".")[2]
    if name == "OutOfMemoryError":
        return Cause.CUDA_OOM
    if name in MISTAKES:
        return None
    if _CUDA_OOM.match(message):
        return Cause.CUDA_OOM
    if name.endswith("MemoryError") or name == "bad_alloc" or _HOST_OOM.match(message):
        return Cause.HOST_OOM
    return None

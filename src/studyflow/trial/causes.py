"""Why an attempt ends, what follows from it, and which causes an exception's text names.

Standard library only: this module is part of every trial image.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from typing import Final

from studyflow.reasons import Code


class Consequence(enum.Enum):
    """What follows for the trial when one of its attempts ends."""

    TELL = "tell"
    """The outcome is told to the sampler."""
    RETRY = "retry"
    """The same trial is attempted again; the sampler never hears of it."""
    INFEASIBLE = "infeasible"
    """The parameters are to blame: the trial fails and the sampler learns where not to go."""
    FAIL = "fail"
    """The trial fails; alike failures from different parameters stop the study."""
    WAIT = "wait"
    """The trial waits for room; nothing has run."""
    END = "end"
    """The trial ends and does not count towards the budget."""


class Cause(enum.StrEnum):
    """Why an attempt ended. A closed list; stored, so values are added to and never renamed."""

    OK = "ok"
    PRUNED = "pruned"

    EVICTED = "evicted"
    PREEMPTED = "preempted"
    NODE_LOST = "node-lost"
    NODE_FAULT = "node-fault"
    """The node refused the pod, or its device is broken."""
    IMAGE_PULL = "image-pull"
    QUOTA = "quota"
    API_UNAVAILABLE = "api-unavailable"
    LOST = "lost"

    HOST_OOM = "host-oom"
    CUDA_OOM = "cuda-oom"
    NAN = "nan"
    TIMEOUT = "timeout"

    USER_ERROR = "user-error"
    BAD_METRIC = "bad-metric"

    UNSCHEDULABLE = "unschedulable"
    CANCELLED = "cancelled"

    @property
    def consequence(self) -> Consequence:
        """What follows for the trial."""
        return _CONSEQUENCES[self]

    @property
    def is_infrastructure(self) -> bool:
        """Whether neither the parameters nor the training script are to blame."""
        return self.consequence in (Consequence.RETRY, Consequence.WAIT)


_CONSEQUENCES: Final[Mapping[Cause, Consequence]] = {
    Cause.OK: Consequence.TELL,
    Cause.PRUNED: Consequence.TELL,
    Cause.EVICTED: Consequence.RETRY,
    Cause.PREEMPTED: Consequence.RETRY,
    Cause.NODE_LOST: Consequence.RETRY,
    Cause.NODE_FAULT: Consequence.RETRY,
    Cause.IMAGE_PULL: Consequence.RETRY,
    Cause.QUOTA: Consequence.RETRY,
    Cause.API_UNAVAILABLE: Consequence.RETRY,
    Cause.LOST: Consequence.RETRY,
    Cause.HOST_OOM: Consequence.INFEASIBLE,
    Cause.CUDA_OOM: Consequence.INFEASIBLE,
    Cause.NAN: Consequence.INFEASIBLE,
    Cause.TIMEOUT: Consequence.INFEASIBLE,
    Cause.USER_ERROR: Consequence.FAIL,
    Cause.BAD_METRIC: Consequence.FAIL,
    Cause.UNSCHEDULABLE: Consequence.WAIT,
    Cause.CANCELLED: Consequence.END,
}


def code_of(cause: Cause | None) -> Code:
    """Return the code that says as much as a cause; `unspecified` without one."""
    return Code.UNSPECIFIED if cause is None else Code(cause.value)


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

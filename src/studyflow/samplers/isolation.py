"""Computing for one suggestion without a trace in the process."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

_LOCK: Final = threading.RLock()
"""Held from reading the trials to publishing the draw, so that the threads of one process (Optuna's
`n_jobs`) see each other's points. It also guards the process-wide thread and warning settings."""


@cache
def thread_pools() -> ThreadpoolController:
    """Return the thread pools of BLAS and OpenMP that torch, NumPy and SciPy brought.

    They are looked for once in a process: that takes milliseconds, a good part of a suggestion.
    """
    import scipy.linalg  # noqa: F401
    import torch  # noqa: F401
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@contextmanager
def isolated(seed: int) -> Iterator[None]:
    """Use one thread, a random state of our own and no warnings; leave all three as they were.

    One suggestion at a time in a process: others wait here.

    One thread, because the matrices are small: handing them to a pool costs 6 to 12 times more than
    it saves, more so where a container's CPU limit is below the number of cores it sees
    (optuna/optuna#6230). BoTorch draws from torch's global state in places, for one when it prunes
    the baseline. The warnings are numerical advice; the fallback chain catches what matters.

    Args:
        seed: Of torch's random state inside.
    """
    import torch

    with _LOCK:
        threads = torch.get_num_threads()
        try:
            with (
                thread_pools().limit(limits=1),
                torch.random.fork_rng(devices=()),
                warnings.catch_warnings(),
            ):
                warnings.simplefilter("ignore")
                torch.set_num_threads(1)
                torch.manual_seed(seed)
                yield
        finally:
            torch.set_num_threads(threads)

"""The handle of the process that makes suggestions."""

from __future__ import annotations

import os
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final, Protocol

from studyflow.samplers.ahead.documents import Answer, Failed, Setup, Update

END_SECONDS: Final = 5.0
"""How long a process that was killed is waited for."""

ONE_THREAD: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

INHERITED: Final = ("PATH", "HOME", "USER", "TMPDIR", "TEMP", "TZ", "LANG", "VIRTUAL_ENV")
"""Variables that it gets from the runner. It needs no storage, no server, and none of the secrets
that a runner has for those."""

INHERITED_BY_PREFIX: Final = ("LC_", "LD_", "DYLD_", "PYTHON", "TORCH", "CUDA_", "NVIDIA_", "KMP_")
"""Beginnings of the names of further ones: what Python and its libraries are found and run by."""


class Worker(Protocol):
    """Whoever makes suggestions."""

    def send(self, update: Update) -> None:
        """Tell it what has changed; returns at once."""
        ...

    def close(self) -> None:
        """End it, whatever it is doing."""
        ...


StartWorker = Callable[[Setup, Callable[[Answer], None]], Worker]
"""Starts one, with a function that takes its answers, in any thread."""


def environment_of(runner: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process that makes suggestions.

    Args:
        runner: The runner's.
    """
    inherited = {
        name: value
        for name, value in runner.items()
        if name in INHERITED or name.startswith(INHERITED_BY_PREFIX)
    }
    return {**inherited, **dict.fromkeys(ONE_THREAD, "1")}


class WorkerProcess:
    """A process of this Python that makes suggestions. Fulfils `Worker`.

    It has a process group of its own, so that Ctrl-C ends the runner first and the runner ends it.

    Args:
        setup: What it is told first.
        answer: Called with each answer, and with `Failed` when it has ended by itself.
    """

    def __init__(self, setup: Setup, answer: Callable[[Answer], None]) -> None:
        self._answer = answer
        self._is_closed = False
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "studyflow.samplers.ahead.process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment_of(os.environ),
            process_group=0,
        )
        self._messages: queue.SimpleQueue[Setup | Update | None] = queue.SimpleQueue()
        self._messages.put(setup)
        for name, run in (("suggestions-out", self._write), ("suggestions-in", self._read)):
            threading.Thread(target=run, name=name, daemon=True).start()

    @property
    def pid(self) -> int:
        """The process' id."""
        return self._process.pid

    def send(self, update: Update) -> None:
        """Tell it what has changed; returns at once."""
        self._messages.put(update)

    def close(self) -> None:
        """Kill it: it keeps nothing that anyone would miss."""
        self._is_closed = True
        self._messages.put(None)
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS)

    def _write(self) -> None:
        sink = self._process.stdin
        assert sink is not None
        with suppress(OSError), sink:  # it has ended: `_read` says so
            while (message := self._messages.get()) is not None:
                pickle.dump(message, sink)
                sink.flush()

    def _read(self) -> None:
        source = self._process.stdout
        assert source is not None
        with source:
            while True:
                try:
                    answer: Answer = pickle.load(source)  # noqa: S301 - our own process
                except (EOFError, OSError, ValueError, pickle.UnpicklingError):
                    break
                self._answer(answer)
        code = self._process.wait()
        if not self._is_closed:
            self._answer(Failed(f"the process ended with exit code {code}"))

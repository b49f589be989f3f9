"""The process that makes suggestions: `python -P -m studyflow.samplers.ahead.process`.

It reads a `Setup` and then each `Update` from its standard input, and writes an `Answer` for each
suggestion to its standard output. It ends as soon as its input does, in the middle of whatever it
computes: with its runner, however that ends.
"""

from __future__ import annotations

import os
import pickle
import sys
import threading
from contextlib import suppress
from types import TracebackType
from typing import IO

from studyflow.samplers.ahead.documents import Answer, Failed, Setup, Update


class Mailbox:
    """The updates that have arrived and were not taken in yet.

    Args:
        source: Where they come from.
    """

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._updates: list[Update] = []
        self._arrived = threading.Condition()
        threading.Thread(target=self._read, name="updates", daemon=True).start()

    def take(self, *, waits: bool) -> list[Update]:
        """Return what has arrived, by its order; waits for the next one if that is all there is."""
        with self._arrived:
            while waits and not self._updates:
                self._arrived.wait()
            taken, self._updates = self._updates, []
        return taken

    def _read(self) -> None:
        try:
            while True:
                update = pickle.load(self._source)  # noqa: S301 - from the runner
                with self._arrived:
                    self._updates.append(update)
                    self._arrived.notify()
        except (EOFError, OSError, pickle.UnpicklingError):
            os._exit(0)  # the runner has ended: nobody waits for what is computed now
        finally:
            os._exit(1)  # nobody would notice any more that it ends; the runner goes on alone


def serve(source: IO[bytes], sink: IO[bytes]) -> None:
    """Make suggestions until the source ends."""
    setup: Setup = pickle.load(source)  # noqa: S301 - from the runner
    mailbox = Mailbox(source)
    from studyflow.samplers.ahead.chain import Chain

    chain = Chain(setup)
    while True:
        number = chain.next_number
        for update in mailbox.take(waits=number is None):
            chain.update(update)
        if (number := chain.next_number) is not None:
            _write(sink, chain.make(number))


def _write(sink: IO[bytes], answer: Answer) -> None:
    pickle.dump(answer, sink)
    sink.flush()


def main() -> None:
    """Serve standard input and output; what libraries print goes nowhere."""
    sink = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)

    def tell(kind: type[BaseException], error: BaseException, _: TracebackType | None) -> None:
        """Say why the process ends: the runner logs it, and goes on alone."""
        _write(sink, Failed(f"{kind.__name__}: {error}"[:500]))

    sys.excepthook = tell
    with suppress(BrokenPipeError):
        serve(sys.stdin.buffer, sink)


if __name__ == "__main__":
    main()

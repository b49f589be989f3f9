"""A worker without a process, whose steps a test decides."""

from __future__ import annotations

from collections.abc import Callable

from studyflow.samplers.ahead.chain import Chain
from studyflow.samplers.ahead.documents import Answer, Failed, Setup, Update


class HeldWorker:
    """Makes suggestions when the test lets it, or as soon as it is told anything.

    Args:
        setup: What it is told first.
        answer: Takes its answers.
    """

    def __init__(self, setup: Setup, answer: Callable[[Answer], None]) -> None:
        self.chain = Chain(setup)
        self._answer = answer
        self.updates: list[Update] = []
        self.made: list[int] = []
        """Numbers of the trials that it made suggestions for, in order."""
        self.is_eager = False
        self.is_closed = False
        self._n_taken = 0

    def send(self, update: Update) -> None:
        self.updates.append(update)
        if self.is_eager:
            self.work()

    def close(self) -> None:
        self.is_closed = True

    def work(self, n: int = 100) -> None:
        """Take in all updates, and make what is wanted, at most so many."""
        for update in self.updates[self._n_taken :]:
            self.chain.update(update)
        self._n_taken = len(self.updates)
        for _ in range(n):
            number = self.chain.next_number
            if number is None:
                return
            self.made.append(number)
            self._answer(self.chain.make(number))

    def die(self) -> None:
        """End as a process does that was killed."""
        self._answer(Failed("the process ended with exit code -9"))


class Workers:
    """Starts workers, and keeps them for the test."""

    def __init__(self, *, is_eager: bool = False) -> None:
        self.started: list[HeldWorker] = []
        self._is_eager = is_eager

    def __call__(self, setup: Setup, answer: Callable[[Answer], None]) -> HeldWorker:
        worker = HeldWorker(setup, answer)
        worker.is_eager = self._is_eager
        self.started.append(worker)
        return worker

    @property
    def only(self) -> HeldWorker:
        assert len(self.started) == 1
        return self.started[0]

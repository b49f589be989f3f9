"""Notifications: a webhook gets a message for the study's end and for each new best trial.

A daemon thread sends the messages. Each has a time limit and a few tries, and at most `QUEUE_LIMIT`
wait. So a slow webhook delays the end of a study by `CLOSE_SECONDS` at most, and never fails it.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from studyflow.background import DaemonWorker
from studyflow.errors import StudyflowError
from studyflow.interrupt import when_told_to_end
from studyflow.observers.messages import make_message
from studyflow.observers.observer import Observer, Observers, Progress
from studyflow.observers.webhook import Post, describe_failure, post_json, read_url, send
from studyflow.spec import NotifyEvent, StudySpec

_log = logging.getLogger(__name__)

QUEUE_LIMIT: Final = 100
"""Most messages that wait; more are left out. A study whose best changes this fast needs no
message for each."""

CLOSE_SECONDS: Final = 15.0
"""How long a study that ended waits for its last messages."""

INTERRUPTED_SECONDS: Final = 1.0
"""How long an interrupted runner waits for them: it may be killed soon."""


class Notifier(Observer):
    """Sends what happens to a study to a webhook.

    Args:
        spec: The study; its `notify` says which events.
        url: Address of the webhook.
        post: Sends one message.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        spec: StudySpec,
        url: str,
        *,
        post: Post | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._spec = spec
        self._url = url
        self._post = post or post_json
        self._clock = clock
        self._events = frozenset(spec.notify.events if spec.notify is not None else ())
        self._progress: Progress | None = None
        self._best: frozenset[int] | None = None
        """Best trials so far; `None` before the first progress, whose best is no news."""
        self._sender = DaemonWorker("notify")
        self._unsent: list[Future[None]] = []
        self._n_left_out = 0
        self._hurry = threading.Event()
        """Set when the study waits: pauses between tries end."""

    def progressed(self, progress: Progress) -> None:
        numbers = frozenset(record.number for record in progress.best)
        is_new = self._best is not None and bool(numbers - self._best)
        self._progress, self._best = progress, numbers
        if is_new:
            self._notify("new_best", "")

    def ended(self, reason: str, is_failure: bool, run_url: str | None) -> None:
        self._notify("failed" if is_failure else "finished", reason, run_url)

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Wait for messages that are not sent yet, at most so long; the rest may be lost."""
        self._hurry.set()
        self._sender.stop(seconds)
        n_unsent = self._n_unsent() + self._n_left_out
        if n_unsent:
            _log.warning("notify: the webhook is slow; up to %d messages are unsent", n_unsent)

    def _notify(self, event: NotifyEvent, reason: str, run_url: str | None = None) -> None:
        if event not in self._events:
            return
        message = make_message(self._spec, event, reason, self._progress, run_url)
        message["time"] = self._clock()
        if self._n_unsent() < QUEUE_LIMIT:
            self._unsent.append(self._sender.submit(partial(self._send, message)))
        else:
            self._n_left_out += 1

    def _n_unsent(self) -> int:
        self._unsent = [future for future in self._unsent if not future.done()]
        return len(self._unsent)

    def _send(self, message: dict[str, Any]) -> None:
        body = json.dumps(message, ensure_ascii=False, allow_nan=False).encode()
        try:
            send(self._post, self._url, body, self._hurry.wait)
        except Exception as error:  # noqa: BLE001 - the messages after it are sent all the same
            _log.warning("notify: %s was not sent: %s", message["event"], describe_failure(error))


@contextmanager
def notified(spec: StudySpec, observer: Observer) -> Iterator[Observers]:
    """Give a `with` block the observer, joined by the study's webhook if it has one.

    When its address cannot be read, the observer is told so and the study goes on without it.
    """
    if spec.notify is None:
        yield Observers(observer)
        return
    try:
        url = read_url(spec.notify)
    except StudyflowError as error:
        observers = Observers(observer)
        observers.noted(str(error))
        yield observers
        return
    notifier, patience = Notifier(spec, url), CLOSE_SECONDS

    def hurry() -> None:
        nonlocal patience
        patience = INTERRUPTED_SECONDS

    try:
        with when_told_to_end(hurry):
            yield Observers(observer, notifier)
    finally:
        notifier.close(patience)

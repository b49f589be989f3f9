"""Tells a webhook of a study: that it ended, with or without a result, and of every new best trial.

Messages are sent by a thread of its own, from a queue of bounded length, with a time limit and a
few tries: whatever the webhook does, no study waits for it longer than `CLOSE_SECONDS` at its end,
and none fails. The address is a secret. It is read where the study runs and never shown.

A message is JSON that holds `text`, so that Slack, Mattermost and others show it as it is, and the
same facts as fields for programs.
"""

from __future__ import annotations

import html
import http.client
import json
import logging
import math
import os
import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from studyflow.errors import StudyflowError
from studyflow.observers.observer import Observer, Observers, Progress
from studyflow.spec import NotifyEvent, NotifySpec, StudySpec
from studyflow.trial.record import TrialRecord

_log = logging.getLogger(__name__)

REQUEST_SECONDS: Final = 10.0
"""Longest wait for a webhook's answer."""

PAUSES_SECONDS: Final = (1.0, 5.0)
"""Pauses before a message is sent again, so there are three tries."""

QUEUE_LIMIT: Final = 100
"""Most messages that wait; more are left out. A study whose best changes this fast needs no
message for each."""

CLOSE_SECONDS: Final = 15.0
"""How long a study that ended waits for its last messages."""

INTERRUPTED_SECONDS: Final = 1.0
"""How long one that is being ended waits: whoever ends it does not wait long either."""

Post = Callable[[str, bytes], None]
"""Sends a body to an address; raises `OSError` or `http.client.HTTPException` when it fails."""


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
        """Best trials that were told of or there from the beginning; `None` before the first
        look."""
        self._waiting: queue.Queue[dict[str, Any] | None] = queue.Queue(QUEUE_LIMIT)
        self._n_left_out = 0
        self._hurry = threading.Event()
        """Set when the study waits: no further pauses."""
        self._thread = threading.Thread(target=self._send_all, name="notify", daemon=True)
        self._thread.start()

    def progressed(self, progress: Progress) -> None:
        numbers = frozenset(record.number for record in progress.best)
        is_new = self._best is not None and bool(numbers - self._best)
        self._progress, self._best = progress, numbers
        if is_new:
            self._tell("new_best", "")

    def ended(self, reason: str, is_failure: bool, run_url: str | None) -> None:
        self._tell("failed" if is_failure else "finished", reason, run_url)

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Wait for the messages that are on their way; leave the rest after a while."""
        self._hurry.set()
        deadline = time.monotonic() + seconds
        try:
            self._waiting.put(None, timeout=seconds)
            self._thread.join(max(deadline - time.monotonic(), 0.0))
        except queue.Full:
            pass
        unsent = self._waiting.qsize() + self._n_left_out
        if self._thread.is_alive() or self._n_left_out:
            _log.warning("notify: the webhook is slow; up to %d messages are unsent", unsent)

    def _tell(self, event: NotifyEvent, reason: str, run_url: str | None = None) -> None:
        if event not in self._events:
            return
        message = make_message(self._spec, event, reason, self._progress, run_url)
        message["time"] = self._clock()
        try:
            self._waiting.put_nowait(message)
        except queue.Full:
            self._n_left_out += 1

    def _send_all(self) -> None:
        while (message := self._waiting.get()) is not None:
            body = json.dumps(message, ensure_ascii=False, allow_nan=False).encode()
            try:
                self._send(body)
            except Exception as error:  # noqa: BLE001 - a message is worth no study
                _log.warning("notify: %s was not sent: %s", message["event"], _reason(error))

    def _send(self, body: bytes) -> None:
        pauses = iter(PAUSES_SECONDS)
        while True:
            try:
                self._post(self._url, body)
                return
            except (OSError, http.client.HTTPException) as error:
                pause = next(pauses, None)
                if pause is None or _is_refused(error):
                    raise
                self._hurry.wait(pause)


@contextmanager
def notified(spec: StudySpec, observer: Observer) -> Iterator[Observers]:
    """Return the observer, and with it the study's webhook if there is one.

    An address that cannot be had is noted, and the study goes on without.
    """
    if spec.notify is None:
        yield Observers(observer)
        return
    try:
        url = read_url(spec.notify)
    except StudyflowError as error:
        told = Observers(observer)
        told.noted(str(error))
        yield told
        return
    notifier, patience = Notifier(spec, url), INTERRUPTED_SECONDS
    try:
        yield Observers(observer, notifier)
        patience = CLOSE_SECONDS
    except Exception:
        patience = CLOSE_SECONDS
        raise
    finally:
        notifier.close(patience)


def read_url(notify: NotifySpec, environment: Mapping[str, str] | None = None) -> str:
    """Return the address of a webhook.

    Raises:
        StudyflowError: It is not where the study file says, or is none; it is not shown.
    """
    if notify.url_env is not None:
        place = f"the environment variable {notify.url_env} (notify.url_env)"
        url = (os.environ if environment is None else environment).get(notify.url_env, "")
    else:
        place = f"the file {notify.url_file} (notify.url_file)"
        try:
            url = Path(notify.url_file or "").read_text()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a text"
            raise StudyflowError(
                f"Nobody is notified: {place} cannot be read: {reason}.",
                hint="is it mounted here, and readable?",
            ) from None
    url = url.strip()
    if not url:
        raise StudyflowError(
            f"Nobody is notified: {place} is not set or empty.",
            hint="set it where the study runs; trials do not need it.",
        )
    if not url.startswith(("https://", "http://")) or not url.isprintable() or " " in url:
        raise StudyflowError(
            f"Nobody is notified: {place} holds no address that begins with https:// or http://."
        )
    return url


def make_message(
    spec: StudySpec,
    event: NotifyEvent,
    reason: str,
    progress: Progress | None,
    run_url: str | None = None,
) -> dict[str, Any]:
    """Return a message as JSON values.

    Args:
        spec: The study.
        event: What happened.
        reason: Why the run ended; empty for a new best.
        progress: Where the study stands; `None` when it never began.
        run_url: The study's run in a browser.
    """
    best = () if progress is None else progress.best
    found = _best_text(spec, best)
    match event:
        case "new_best":
            text = f"{spec.name}: new best, {found}"
        case "finished":
            text = f"{spec.name} finished: {reason} Best: {found}"
        case "failed":
            text = f"{spec.name} failed: {reason}"
    if run_url is not None:
        text += f"\n{run_url}"
    return {
        # Slack takes these three for links and mentions.
        "text": html.escape(text, quote=False),
        "event": event,
        "study": spec.name,
        "reason": reason,
        "n_finished": 0 if progress is None else progress.n_finished,
        "n_trials": spec.budget.n_trials if progress is None else progress.n_trials,
        "best": [_best_entry(spec, record) for record in best],
        "run_url": run_url,
    }


def _best_entry(spec: StudySpec, record: TrialRecord) -> dict[str, Any]:
    names = [objective.metric for objective in spec.objectives]
    values = dict(zip(names, record.values or (), strict=False))
    return {
        "trial": record.number,
        "values": {name: value for name, value in values.items() if math.isfinite(value)},
        "params": dict(record.params),
    }


def _best_text(spec: StudySpec, best: Sequence[TrialRecord]) -> str:
    if not best:
        return "none"
    if len(spec.objectives) > 1:
        return f"{len(best)} trials on the Pareto front"
    record = best[0]
    value = (record.values or (math.nan,))[0]
    params = ", ".join(f"{name}={_short(v)}" for name, v in record.params.items())
    return f"{spec.objectives[0].metric}={value:.6g} (trial {record.number}: {params})"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def post_json(url: str, body: bytes) -> None:
    """Send a body to a webhook.

    Raises:
        OSError: It does not answer in time, or refuses.
    """
    request = urllib.request.Request(
        url, data=body, headers={"Content-Type": "application/json; charset=utf-8"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as answer:
        answer.read(4096)


def _is_refused(error: Exception) -> bool:
    """Whether the same message would be refused again."""
    return isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code != 429


def _reason(error: Exception) -> str:
    """Return what went wrong, without the address: libraries put it into some of their texts."""
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code}"
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    text = cause.strerror if isinstance(cause, OSError) else None
    return text or type(cause).__name__

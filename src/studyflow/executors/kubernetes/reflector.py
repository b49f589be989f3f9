"""The newest state of a study's Jobs and pods, by one list and one watch for each kind.

The client's own informer does not serve: it reconnects without a pause while the API server is
away, logs a stack trace each time, sets no time limits, and drops an object's last state the moment
it is deleted, which is where a stopped pod's outcome stands.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from studyflow.errors import ExecutorError, ExecutorUnavailable
from studyflow.executors.kubernetes.api import ClusterApi, VersionTooOld

_log = logging.getLogger(__name__)

RELIST_SECONDS: Final = 600.0
"""Longest time without a full list: it would catch what a watch had missed."""

FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 15.0
"""Pause after a failure, doubled up to the second of these."""

PATIENCE_SECONDS: Final = 60.0
"""How long an API server may be away before anybody hears of it: an upgrade of a control plane is
no news."""


class Reflector:
    """Follows all objects of one kind that carry a label.

    Args:
        api: The cluster.
        kind: `jobs` or `pods`.
        selector: Label selector.
        on_change: Called from the watching thread after every change.
        clock: Seconds, monotonic.
        is_threaded: False in tests: nothing follows by itself, and every `start` takes a `step`.
    """

    def __init__(
        self,
        api: ClusterApi,
        kind: str,
        selector: str,
        on_change: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        *,
        is_threaded: bool = True,
    ) -> None:
        self._api = api
        self._kind = kind
        self._selector = selector
        self._on_change = on_change
        self._clock = clock
        self._is_threaded = is_threaded
        self._lock = threading.Lock()
        self._objects: dict[str, dict[str, Any]] = {}
        self._gone: dict[str, dict[str, Any]] = {}
        self._changed: set[str] = set()
        """Names of what nobody has taken since it changed."""
        self._version: str | None = None
        self._listed_at = 0.0
        self._failing_since: float | None = None
        self._failure: ExecutorError | None = None
        self._pause = FIRST_PAUSE_SECONDS
        self._is_started = False
        self._is_closing = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """List once, in this thread, and follow from there on.

        Raises:
            ExecutorUnavailable: The API server does not answer.
            ExecutorError: It refuses.
        """
        if not self._is_started:
            self.relist()
            self._is_started = True
            if self._is_threaded:
                self._thread = threading.Thread(
                    target=self._run, name=f"studyflow-{self._kind}", daemon=True
                )
                self._thread.start()
        elif not self._is_threaded:
            self.step()

    def close(self) -> None:
        """Stop following. The thread ends with its watch; nobody waits for it."""
        self._is_closing.set()

    def check(self) -> None:
        """Raise what has kept this from following for longer than `PATIENCE_SECONDS`.

        Raises:
            ExecutorUnavailable: What is known may be out of date.
        """
        with self._lock:
            since, failure = self._failing_since, self._failure
        if since is not None and failure is not None:
            away = self._clock() - since
            if away > PATIENCE_SECONDS:
                raise ExecutorUnavailable(f"{failure.message} Since {away:.0f} s.") from failure

    def objects(self) -> dict[str, dict[str, Any]]:
        """Return what exists, by name."""
        with self._lock:
            return dict(self._objects)

    def gone(self) -> dict[str, dict[str, Any]]:
        """Return the last state of what was deleted and not dropped since, by name."""
        with self._lock:
            return dict(self._gone)

    def find(self, name: str) -> tuple[dict[str, Any] | None, bool]:
        """Return an object in its newest state, or its last, and whether it is gone."""
        with self._lock:
            there = self._objects.get(name)
            return (self._gone.get(name), True) if there is None else (there, False)

    def take_changes(self) -> list[dict[str, Any]]:
        """Return what was made, changed or deleted since the last call, each in its last state."""
        with self._lock:
            names, self._changed = self._changed, set()
            known = ((self._objects.get(name) or self._gone.get(name)) for name in names)
            return [item for item in known if item is not None]

    def put(self, item: dict[str, Any]) -> None:
        """Take the answer to a write, which the watch will bring too, only later."""
        with self._lock:
            self._take(item)

    def drop(self, name: str) -> None:
        """Forget an object: it was deleted on purpose and its last state is of no use."""
        with self._lock:
            self._objects.pop(name, None)
            self._gone.pop(name, None)
            self._changed.discard(name)

    def relist(self) -> None:
        """Replace everything by what a full list says.

        Raises:
            ExecutorError: The API server does not answer, or refuses.
        """
        items, version = self._api.list_objects(self._kind, self._selector)
        listed = {item["metadata"]["name"]: item for item in items}
        with self._lock:
            for name, item in self._objects.items():
                if _number(item) > _number_of(version) >= 0:
                    listed[name] = item  # written while the list was under way, or it was stale
                elif name not in listed:
                    self._gone[name] = item
                    self._changed.add(name)
            for name, item in listed.items():
                known = self._objects.get(name)
                if known is None or _version_of(known) != _version_of(item):
                    self._changed.add(name)
            self._objects = listed
            self._version = version
            self._listed_at = self._clock()
            self._failing_since = self._failure = None

    def follow(self) -> None:
        """Take in events until the watch ends.

        Raises:
            VersionTooOld: What was listed is too old, or nothing was: list again.
            ExecutorError: The API server does not answer, or refuses.
        """
        if self._version is None:
            raise VersionTooOld(f"Cannot watch {self._kind}: list them first.")
        for event, item in self._api.watch_objects(self._kind, self._selector, self._version):
            if self._is_closing.is_set():
                return
            with self._lock:
                self._failing_since = self._failure = None
                if event == "DELETED":
                    self._take_end(item)
                elif event in ("ADDED", "MODIFIED"):
                    self._take(item)
                self._version = item["metadata"].get("resourceVersion", self._version)
            if event != "BOOKMARK":
                self._on_change()

    def _take(self, item: dict[str, Any]) -> None:
        name = item["metadata"]["name"]
        known = self._objects.get(name)
        # An answer to a write may overtake an older event. Versions are numbers in practice, and
        # since 1.35 by contract; where one is not, the newest arrival counts.
        if known is not None and _number(known) > _number(item) >= 0:
            return
        self._objects[name] = item
        self._changed.add(name)

    def _take_end(self, item: dict[str, Any]) -> None:
        name = item["metadata"]["name"]
        known = self._objects.get(name)
        if known is not None and _number(known) > _number(item) >= 0:
            return  # there is a new object of this name
        self._objects.pop(name, None)
        self._gone[name] = item
        self._changed.add(name)

    def step(self) -> float:
        """List if that is due, watch until the watch ends; return the pause that must follow."""
        try:
            if self._version is None or self._clock() - self._listed_at > RELIST_SECONDS:
                self.relist()
                self._on_change()
            began = self._clock()
            self.follow()
            self._pause = FIRST_PAUSE_SECONDS
            # A server that ends watches at once must not be asked without a pause.
            return FIRST_PAUSE_SECONDS if self._clock() - began < 1.0 else 0.0
        except VersionTooOld:
            self._version = None
            return FIRST_PAUSE_SECONDS
        except ExecutorError as error:
            with self._lock:
                self._failure = error
                if self._failing_since is None:
                    self._failing_since = self._clock()
            pause = self._back_off()
            _log.info("%s: %s; trying again in %.1f s", self._kind, error.message, pause)
            return pause
        except Exception:  # noqa: BLE001 - the thread must survive what it does not know
            _log.warning("%s: the watch failed", self._kind, exc_info=True)
            return self._back_off()

    def _back_off(self) -> float:
        self._version = None  # whatever happened meanwhile, a list knows
        pause = self._pause
        self._pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        return pause

    def _run(self) -> None:
        while not self._is_closing.is_set():
            self._is_closing.wait(self.step())


def _version_of(item: dict[str, Any]) -> str:
    return str(item["metadata"].get("resourceVersion", ""))


def _number(item: dict[str, Any]) -> int:
    return _number_of(_version_of(item))


def _number_of(version: str) -> int:
    return int(version) if version.isdecimal() else -1

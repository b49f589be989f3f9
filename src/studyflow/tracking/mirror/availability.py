"""Whether a mirror's tracker answers, and when to try again. Callers hold the mirror's lock."""

from __future__ import annotations

import logging
from collections.abc import Callable

from studyflow.errors import StudyflowError
from studyflow.reasons import Code, Reason

_log = logging.getLogger(__name__)


class Availability:
    """What is known of a tracker from the calls so far.

    Args:
        clock: Seconds that never go back.
        retry_seconds: First and longest pause after a failure; it doubles from one to the other.
    """

    def __init__(self, clock: Callable[[], float], retry_seconds: tuple[float, float]) -> None:
        self._clock = clock
        self._first_seconds, self._longest_seconds = retry_seconds
        self._pause_seconds = self._first_seconds
        self._next_at = 0.0
        self.unavailable_since: float | None = None
        """When it did not answer first, on the mirror's clock; `None` while it answers."""
        self.last_failure: Reason | None = None
        """Why it last failed; `None` when it never did."""
        self.refusal: str | None = None
        """Why it refuses the whole study; `None` when it does not."""
        self.n_successes = 0
        """Calls that succeeded."""
        self.n_hurried = 0
        """Callers that wait for everything to be sent: pauses stay short."""

    @property
    def is_unavailable(self) -> bool:
        """Whether it did not answer when it was last called."""
        return self.unavailable_since is not None

    @property
    def seconds_to_wait(self) -> float:
        """Seconds until it may be called again; 0 while it answers."""
        return max(self._next_at - self._clock(), 0.0) if self.is_unavailable else 0.0

    def failed(self, error: Exception) -> None:
        """Take note that it did not answer, and wait before the next try."""
        self.last_failure = _reason_of(error)
        if self.unavailable_since is None:
            self.unavailable_since = self._clock()
            _log.warning(
                "The tracker does not answer; the study goes on without it. %s", self.last_failure
            )
        self._next_at = self._clock() + self._pause_seconds
        longest = self._first_seconds if self.n_hurried else self._longest_seconds
        self._pause_seconds = min(self._pause_seconds * 2, longest)

    def answered(self) -> None:
        """Take note that a call succeeded."""
        self.n_successes += 1
        if self.unavailable_since is not None:
            seconds = self._clock() - self.unavailable_since
            _log.info("The tracker answers again, after %.0f s.", seconds)
        self.unavailable_since = None
        self.refusal = None
        self._pause_seconds = self._first_seconds

    def note(self, failure: Reason) -> None:
        """Keep a failure that is no outage, and log it unless it was the last one too."""
        if self.last_failure != failure:
            _log.warning("%s", failure)
        self.last_failure = failure

    def try_now(self) -> None:
        """End the pause, and forget a refusal."""
        self._next_at = self._clock()
        self._pause_seconds = self._first_seconds
        self.refusal = None

    def pause_after(self, n_failures: int) -> float:
        """Return seconds to wait with one trial after so many failures."""
        return min(self._first_seconds * 2.0**n_failures, self._longest_seconds)


def _reason_of(error: Exception) -> Reason:
    if isinstance(error, StudyflowError):
        return error.reason
    return Reason(Code.UNSPECIFIED, f"{type(error).__name__}: {error}")

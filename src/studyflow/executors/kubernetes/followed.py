"""What an executor object remembers of one attempt in the cluster."""

from __future__ import annotations

import logging
import math
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final

from studyflow.errors import DocumentError
from studyflow.executors.kubernetes.manifest import unescaped
from studyflow.executors.kubernetes.objects import Object
from studyflow.executors.kubernetes.observation import Judgement, Wait
from studyflow.executors.protocol import AttemptId, AttemptState, AttemptStatus
from studyflow.spec.pods.ours import CONTAINER
from studyflow.trial import TRIAL_VARIABLE, Trial

logger = logging.getLogger(__name__)

_NOT_BEGUN: Final = AttemptStatus(AttemptState.PENDING)


@dataclass(slots=True)
class FollowedAttempt:
    """One attempt as this executor object has seen it so far. All times are of its own clock."""

    id: AttemptId
    trial: Trial
    waiting_since: float
    """Since when it waits for what it waits for."""
    wait: Wait = Wait.POD
    is_own: bool = False
    """Whether this object created its Job."""
    pod: str | None = None
    """Name of its pod: the first one."""
    running_since: float | None = None
    leaving_since: float | None = None
    events: tuple[Object, ...] = ()
    events_at: float | None = None
    """When its events were last asked for."""
    workload: Object | None = None
    queue_position: int | None = None
    queue_at: float | None = None
    """When its queue was last asked for."""
    log: Future[bool] | None = None
    """Its log, while it is fetched: whether that needs no other try."""
    log_tries: int = 0
    look_at: float = -math.inf
    """When it is looked at although nothing of it has changed; infinite for never."""
    ended: Judgement | None = None
    """How it ended, until that is told."""
    status: AttemptStatus = _NOT_BEGUN
    """As the last look has found it."""

    @property
    def state(self) -> AttemptState:
        """How it stands, as the last look has found it."""
        return self.status.state

    @property
    def final(self) -> AttemptStatus | None:
        """How it ended, once that is told."""
        return self.status if self.state is AttemptState.ENDED else None

    def note_wait(self, wait: Wait, now: float) -> None:
        """Take note of what it waits for."""
        if wait is not self.wait:
            self.wait, self.waiting_since = wait, now


def read_trial(job: Object) -> Trial | None:
    """Return the trial that a Job runs; `None` for a Job that is none of ours."""
    try:
        containers: list[dict[str, Any]] = job["spec"]["template"]["spec"]["containers"]
        own = next(c for c in containers if c["name"] == CONTAINER)
        text = next(v["value"] for v in own["env"] if v["name"] == TRIAL_VARIABLE)
        return Trial.from_json(unescaped(text))
    except (KeyError, StopIteration, TypeError, DocumentError):
        logger.warning("the Job %s holds no trial", job["metadata"].get("name"))
        return None

"""What is known of an attempt in a cluster at one moment, and what was made of it."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from studyflow.executors.diagnosis import Ending
from studyflow.executors.kubernetes.fence import Fence
from studyflow.executors.kubernetes.objects import (
    Object,
    condition,
    container_state,
    is_suspended,
)
from studyflow.executors.protocol import AttemptState
from studyflow.reasons import Reason
from studyflow.trial import Cause

PULL_FAILURES: Final = frozenset({"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable"})
"""What a container waits for whose image could not be pulled, and may be later."""


class Wait(enum.StrEnum):
    """What an attempt that has not begun waits for; each has a patience of its own."""

    QUEUE = "queue"
    """A queue's admission of its Job."""
    POD = "pod"
    """The Job controller, or whatever keeps it from making the pod."""
    ROOM = "room"
    """A node."""
    IMAGE = "image"
    CONTAINER = "container"


def wait_of(job: Object, pod: Object | None) -> Wait:
    """Return what an attempt waits for, if it waits at all."""
    if pod is None:
        return Wait.QUEUE if is_suspended(job) else Wait.POD
    if condition(pod, "PodScheduled", "False") is not None:
        return Wait.ROOM
    state = (container_state(pod).get("waiting") or {}).get("reason")
    return Wait.IMAGE if state in PULL_FAILURES else Wait.CONTAINER


@dataclass(frozen=True, slots=True)
class Observation:
    """What is known of one attempt at one moment."""

    job: Object
    """Its newest state, or its last."""
    job_is_gone: bool = False
    pod: Object | None = None
    """The attempt's pod in its newest state, or its last; `None` when there was none yet."""
    pod_is_gone: bool = False
    events: Sequence[Object] = ()
    """About the pod, or about the Job while there is no pod; oldest first."""
    waiting_seconds: float = 0.0
    """Since the attempt was first seen to wait for what it waits for now: see `wait_of`."""
    stalled_seconds: float = math.inf
    """Since any attempt of the study was last seen running; infinite when none ever was."""
    leaving_seconds: float = 0.0
    """Since its pod was first seen to be on its way out."""
    grace_seconds: float = 30.0
    image_pull_seconds: float = 300.0
    pending_seconds: float = 3600.0
    others_started: bool = False
    """Whether any attempt of the study has run a container since this runner began."""
    others_running: bool = False
    """Whether another attempt of the study runs now."""
    avoids: tuple[str, ...] = ()
    """Nodes where its pod must not run, by our own decision."""
    workload: Object | None = None
    """What Kueue keeps of its Job, while it is suspended; `None` when that is not known."""
    queue_position: int | None = None
    """How many are before it in its queue; `None` when that is not known."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What an observation means."""

    state: AttemptState
    reason: Reason | None = None
    """Why it has not begun, or why it ended; `None` when nothing is out of the ordinary, and when
    `ending` says how its container ended."""
    started_at: float | None = None
    """Seconds since the epoch, by its node's clock; the next one likewise."""
    ended_at: float | None = None
    ending: Ending | None = None
    """How its container ended, for `diagnose`; `None` when `cause` says it all."""
    outcome: bytes | None = None
    """The termination message: what `sdk.finish` wrote; `None` when the script said nothing."""
    cause: Cause | None = None
    """The cause, when neither script nor outcome has a say in it."""
    fence: Fence | None = None
    """Write this on the Job: the attempt has ended and must not start anything more."""
    blocks_study: bool = False
    """Whether no attempt of the study can begin, whatever its parameters."""
    waits_for_room: bool = False
    """Whether it waits for a node or for quota: further trials would only wait beside it."""
    missed_nodes: tuple[str, ...] = ()
    """Nodes that it was told to avoid and without which no node takes it."""
    wants_events: bool = False
    """Whether its events would say more."""
    wants_queue: bool = False
    """Whether its queue would say more."""
    image_id: str = field(default="", compare=False)


def pending(reason: Reason | None = None, **more: Any) -> Judgement:
    """Return that an attempt has not begun."""
    return Judgement(AttemptState.PENDING, reason, **more)


def ended(cause: Cause, reason: Reason) -> Judgement:
    """Return that an attempt ended, of which nothing is left to be ended."""
    return Judgement(AttemptState.ENDED, reason, cause=cause)


def fenced(cause: Cause, reason: Reason, **more: Any) -> Judgement:
    """Return that an attempt ended, and must be kept from starting again."""
    fence = Fence.because(cause, reason)
    return Judgement(AttemptState.ENDED, reason, cause=cause, fence=fence, **more)


def blocking(cause: Cause, reason: Reason) -> Judgement:
    """Return that an attempt ended for a reason that keeps every other one from starting too."""
    return fenced(cause, reason, blocks_study=True)

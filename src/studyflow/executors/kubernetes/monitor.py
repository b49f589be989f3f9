"""How attempts in the cluster stand: observed, judged, and ended where that is due."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from studyflow.errors import ExecutorUnavailable
from studyflow.executors.diagnosis import (
    Ending,
    How,
    diagnose,
)
from studyflow.executors.kubernetes.api import ClusterApi
from studyflow.executors.kubernetes.ends import AttemptEnds
from studyflow.executors.kubernetes.fence import Fence
from studyflow.executors.kubernetes.fencing import Fencer
from studyflow.executors.kubernetes.followed import FollowedAttempt
from studyflow.executors.kubernetes.image_pin import ImagePin
from studyflow.executors.kubernetes.judging import judge
from studyflow.executors.kubernetes.logs import PodLogs
from studyflow.executors.kubernetes.manifest import avoided_nodes
from studyflow.executors.kubernetes.names import queue_of
from studyflow.executors.kubernetes.objects import (
    Object,
    allocation_of,
    is_leaving,
    node_of,
    running_seconds,
    uid_of,
)
from studyflow.executors.kubernetes.observation import Judgement, Observation, wait_of
from studyflow.executors.kubernetes.study_objects import StudyObjects
from studyflow.executors.kubernetes.waiting import TROUBLE_SECONDS
from studyflow.executors.protocol import AttemptState, AttemptStatus
from studyflow.spec import StudySpec
from studyflow.trial import Cause

EVENTS_SECONDS: Final = 15.0
"""Pause between two requests for the events, or the queue, of an attempt that does not start."""

LOOK_SECONDS: Final = 1.0
"""Shortest pause between two looks at an attempt of which nothing has changed."""

MAX_EVENT_REQUESTS: Final = 10
"""Attempts whose events, or whose queue, one poll asks for: attempts that do not start mostly wait
for the same thing, and the next poll asks for the others'."""


class AttemptMonitor:
    """Finds out how attempts of one study stand.

    Args:
        spec: The study.
        api: The cluster.
        objects: Its Jobs and pods.
        fencer: Ends attempts.
        logs: Keeps their logs.
        image: Learns the study's image.
        ends: Fetches the log of an attempt that is about to lose its pod.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        spec: StudySpec,
        api: ClusterApi,
        objects: StudyObjects,
        fencer: Fencer,
        logs: PodLogs,
        image: ImagePin,
        ends: AttemptEnds,
        clock: Callable[[], float],
    ) -> None:
        self._spec = spec
        self._api = api
        self._objects = objects
        self._fencer = fencer
        self._logs = logs
        self._image = image
        self._ends = ends
        self._clock = clock
        self._ran_at = -math.inf
        """When any attempt was last seen running."""
        self._n_asked = 0
        """How many requests for events and queues this poll has made."""
        self._has_started = False
        """Whether a container of this study has begun while this object followed it."""

    def begin_poll(self, *, any_running: bool) -> None:
        """Take note that a poll begins.

        Args:
            any_running: Whether an attempt of the study was running when last looked at.
        """
        self._n_asked = 0
        if any_running:
            self._ran_at = self._clock()

    def update(
        self, attempt: FollowedAttempt, job: Object, *, job_is_gone: bool, others_running: bool
    ) -> None:
        """Find out how an attempt stands now, and when to look at it again; see `AttemptEnds`.

        Args:
            attempt: What is known of it; brought up to date.
            job: Its Job in its newest state, or its last.
            job_is_gone: Whether the Job is gone.
            others_running: Whether another attempt of the study runs.

        Raises:
            ExecutorUnavailable: The API server does not answer.
        """
        if attempt.final is not None:
            return
        now = self._clock()
        pod, pod_is_gone = self._objects.pod_of(attempt, job)
        self._note_leaving(attempt, pod, now)
        attempt.note_wait(wait_of(job, pod), now)
        found = self._judge(
            attempt,
            self._observe(
                attempt,
                job,
                pod,
                now,
                job_is_gone=job_is_gone,
                pod_is_gone=pod_is_gone,
                others_running=others_running,
            ),
        )
        if found.fence is not None and not job_is_gone:
            self._fencer.fence_if_allowed(attempt.id, found.fence)
        if found.started_at is not None and found.state is not AttemptState.PENDING:
            self._has_started = True
        self._image.learn(found.image_id)
        if AttemptState.RUNNING in (attempt.state, found.state):
            self._ran_at = now
        self._keep(attempt, found, pod)
        if found.state is AttemptState.ENDED:
            attempt.look_at = -math.inf
        elif pod is not None and found.state is AttemptState.RUNNING and not is_leaving(pod):
            attempt.look_at = self._enforce_time_limit(attempt, job, pod)
            seconds = self._clock() - (attempt.running_since or self._clock())
            attempt.status = replace(attempt.status, running_seconds=seconds)
        else:
            attempt.look_at = self._next_look(attempt, now)

    def _note_leaving(self, attempt: FollowedAttempt, pod: Object | None, now: float) -> None:
        """Take note of a pod that was told to go, and fetch its log in time."""
        if pod is None or not is_leaving(pod) or attempt.leaving_since is not None:
            return
        attempt.leaving_since = now
        is_kept = self._logs.path(attempt.id).exists()
        if attempt.state is AttemptState.RUNNING and not is_kept:
            self._ends.save_log(attempt)  # the kubelet removes it before the pod is gone

    def _next_look(self, attempt: FollowedAttempt, now: float) -> float:
        """Return when to look again at an attempt that waits or leaves, if nothing changes.

        What it waits for is overdue after minutes or an hour, and looked at then. In between a
        tenth of the wait is soon enough: a thousand that wait side by side cost next to nothing.
        """
        if attempt.leaving_since is not None:
            return now + LOOK_SECONDS
        kubernetes, since = self._spec.trial.kubernetes, attempt.waiting_since
        patience = kubernetes.pending_timeout_seconds
        limits = (TROUBLE_SECONDS, kubernetes.image_pull_timeout_seconds, patience)
        overdue = [self._ran_at + patience, *(since + limit for limit in limits)]
        pause = min(max((now - since) / 10, LOOK_SECONDS), EVENTS_SECONDS)
        return min(now + pause, *(at for at in overdue if at > now), math.inf)

    def _observe(
        self,
        attempt: FollowedAttempt,
        job: Object,
        pod: Object | None,
        now: float,
        *,
        job_is_gone: bool,
        pod_is_gone: bool,
        others_running: bool,
    ) -> Observation:
        kubernetes = self._spec.trial.kubernetes
        since = attempt.leaving_since
        return Observation(
            job=job,
            job_is_gone=job_is_gone,
            pod=pod,
            pod_is_gone=pod_is_gone,
            events=attempt.events,
            waiting_seconds=now - attempt.waiting_since,
            stalled_seconds=now - self._ran_at,
            leaving_seconds=0.0 if since is None else now - since,
            grace_seconds=float(kubernetes.stop_grace_seconds),
            image_pull_seconds=kubernetes.image_pull_timeout_seconds,
            pending_seconds=kubernetes.pending_timeout_seconds,
            others_started=self._has_started,
            others_running=others_running,
            avoids=avoided_nodes(job),
            workload=attempt.workload,
            queue_position=attempt.queue_position,
        )

    def _judge(self, attempt: FollowedAttempt, seen: Observation) -> Judgement:
        """Judge an observation; ask for its events and its queue where they would say more."""
        found = judge(seen)
        if found.wants_events and self._ask_for_events(attempt, seen.pod or seen.job):
            found = judge(replace(seen, events=attempt.events))
        if found.wants_queue and self._ask_queue(attempt, seen.job):
            position = attempt.queue_position
            found = judge(replace(seen, workload=attempt.workload, queue_position=position))
        return found

    def _keep(self, attempt: FollowedAttempt, found: Judgement, pod: Object | None) -> None:
        """Keep how an attempt stands as its status, until it is looked at again."""
        attempt.ended = found if found.state is AttemptState.ENDED else None
        node, allocation = node_of(pod), attempt.status.allocation
        if pod is not None:
            allocation = allocation_of(pod, self._spec.trial.kubernetes.gpu_resource)
        if attempt.ended is None:
            attempt.status = AttemptStatus(
                found.state,
                reason=found.reason,
                started_at=found.started_at,
                waits_for_room=found.waits_for_room,
                node=node,
                allocation=allocation,
            )
            return
        attempt.status = AttemptStatus(
            AttemptState.RUNNING, started_at=found.started_at, node=node, allocation=allocation
        )

    def _ask_for_events(self, attempt: FollowedAttempt, about: Object) -> bool:
        """Ask, once in a while, for an attempt's events; return whether they are there."""
        if not self._may_ask(attempt.events_at):
            return False
        attempt.events_at = self._clock()
        try:
            attempt.events = tuple(self._api.events(uid_of(about)))
        except ExecutorUnavailable:
            return False
        return True

    def _ask_queue(self, attempt: FollowedAttempt, job: Object) -> bool:
        """Ask Kueue, once in a while, what it says of a suspended Job; return whether it did."""
        queue = queue_of(job)
        if queue is None or not self._may_ask(attempt.queue_at):
            return False
        attempt.queue_at = self._clock()
        try:
            attempt.workload = self._api.workload(uid_of(job))
            waiting = self._api.pending_workloads(queue) if attempt.workload else []
        except ExecutorUnavailable:
            return False
        name = (attempt.workload or {}).get("metadata", {}).get("name")
        own = next((w for w in waiting if w["metadata"]["name"] == name), {})
        attempt.queue_position = own.get("positionInLocalQueue")
        return True

    def _may_ask(self, asked_at: float | None) -> bool:
        """Return whether to ask once more what an attempt waits for, and count it."""
        is_soon = asked_at is not None and self._clock() - asked_at < EVENTS_SECONDS
        if is_soon or self._n_asked >= MAX_EVENT_REQUESTS:
            return False
        self._n_asked += 1
        return True

    def _enforce_time_limit(self, attempt: FollowedAttempt, job: Object, pod: Object) -> float:
        """End a running attempt that is over its time; return when its time will be over."""
        limit = self._spec.trial.timeout_seconds
        if attempt.running_since is None:
            attempt.running_since = self._clock()
            if not attempt.is_own:
                # Another runner saw it begin. What cannot be told counts from now, and the pod's
                # own deadline, which the kubelet keeps, bounds it.
                attempt.running_since -= running_seconds(pod, self._api.server_time()) or 0.0
        over_at = math.inf if limit is None else attempt.running_since + limit
        if self._clock() < over_at or Fence.read(job) is not None:
            return over_at
        self._ends.save_log(attempt)
        over = diagnose(Ending(How.TIMEOUT, timeout_seconds=limit), None, "", attempt.trial)
        fence = Fence.because(Cause.TIMEOUT, over.reason, How.TIMEOUT)
        self._fencer.fence_if_allowed(attempt.id, fence)
        return over_at

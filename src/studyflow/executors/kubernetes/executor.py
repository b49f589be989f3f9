"""`KubernetesExecutor`: the protocol of executors over Jobs.

Nothing about an attempt is kept here that the cluster does not know too. The Job's existence is the
claim; why a runner ended an attempt stands on the Job as an annotation, written by the same patch
that takes its pod away; the outcome is the pod's termination message. So a runner that is killed
between any two requests is replaced by one that lists and goes on.

**Requests.** One create and one delete a trial, one for its log, a patch for one that is stopped;
watches and lists serve all trials together. Events are asked for only about what does not start.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from studyflow.errors import DocumentError, ExecutorBlocked, ExecutorError, ExecutorUnavailable
from studyflow.executors.diagnosis import Ending, How, blame_device, diagnose
from studyflow.executors.kubernetes.api import AlreadyExists, ClusterApi
from studyflow.executors.kubernetes.manifest import (
    CONTAINER,
    avoided_nodes,
    build_job,
    place,
    unescaped,
)
from studyflow.executors.kubernetes.names import (
    attempt_of,
    job_name,
    queue_of,
    study_selector,
)
from studyflow.executors.kubernetes.pod_log import written
from studyflow.executors.kubernetes.pod_status import (
    FENCE_ANNOTATION,
    Fence,
    Look,
    Sighting,
    Wait,
    look,
    running_seconds,
    wait_of,
)
from studyflow.executors.kubernetes.reflector import Reflector
from studyflow.executors.protocol import AttemptFiles, AttemptId, AttemptState, AttemptStatus
from studyflow.redaction import Redactor
from studyflow.spec import StudySpec
from studyflow.trial import TRIAL_VARIABLE, Cause, Outcome, Trial

_log = logging.getLogger(__name__)

EVENTS_SECONDS: Final = 15.0
"""Pause between two looks at the events of an attempt that does not start."""

LOG_LINES: Final = (50_000, 1_000, 20)
LOG_BYTES: Final = 16 << 20
"""How much of a log is fetched at the end: the last lines, of them at most so many bytes. Kubelets
count bytes from the first of these lines on, so what is longer is asked for again with fewer: how a
script ended stands in its last lines."""

LOG_TAIL_BYTES: Final = 64 << 10
"""How much of a log is searched for the reason of a failure."""

FOLLOW_SECONDS: Final = 1.0
"""Longest pause between two looks at an attempt whose log is wanted and that has not begun."""

LOG_TRIES: Final = 3
"""How often a log is asked for whose node does not answer."""


@dataclass(slots=True)
class _Attempt:
    """What this executor object remembers of one attempt."""

    trial: Trial
    waiting_since: float
    """Since when it waits for what it waits for, on the executor's clock; the others likewise."""
    wait: Wait = Wait.POD
    is_own: bool = False
    """Whether this object created its Job."""
    pod: str | None = None
    """Name of its pod: the first one."""
    running_since: float | None = None
    leaving_since: float | None = None
    events: tuple[Mapping[str, Any], ...] = ()
    events_at: float | None = None
    workload: Mapping[str, Any] | None = None
    queue_position: int | None = None
    queue_at: float | None = None
    log_tries: int = 0
    state: AttemptState = AttemptState.PENDING
    final: AttemptStatus | None = None


class KubernetesExecutor:
    """Runs the attempts of one study as Jobs. See the module's text.

    Args:
        spec: The study; `trial.image` must be set.
        api: The cluster and the namespace of the trials. Closed with this object.
        root: Folder of this study on this machine, for logs.
        image: The study's image by its digest, when an earlier run has seen which it is.
        tracking_uri: MLflow's address as pods reach it, if it is not the runner's.
        on_image: Is told the image by its digest once the first pod shows it.
        redact: Takes secrets out of what scripts say about their end.
        clock: Seconds, monotonic.
        is_threaded: False in tests: nothing follows the cluster by itself, and every call first
            takes in what has happened.

    Raises:
        ExecutorBlocked: The study names no image.
    """

    def __init__(
        self,
        spec: StudySpec,
        *,
        api: ClusterApi,
        root: Path,
        image: str | None = None,
        on_image: Callable[[str], None] | None = None,
        tracking_uri: str | None = None,
        redact: Redactor | None = None,
        clock: Callable[[], float] = time.monotonic,
        is_threaded: bool = True,
    ) -> None:
        if spec.trial.image is None:
            raise ExecutorBlocked(
                f"The study {spec.name!r} names no image, and trials run as pods here.",
                hint="set trial.image in the study file to an image that holds the script.",
            )
        self._spec = spec
        self._api = api
        self._root = root
        self._image = image
        self._on_image = on_image
        self._tracking_uri = tracking_uri
        self._redact = redact or Redactor()
        self._clock = clock
        self._changed = threading.Event()
        selector = study_selector(spec.name)
        self._is_threaded = is_threaded
        self._jobs, self._pods = (
            Reflector(api, kind, selector, self._changed.set, clock, is_threaded=is_threaded)
            for kind in ("jobs", "pods")
        )
        self._attempts: dict[AttemptId, _Attempt] = {}
        self._forgotten: set[AttemptId] = set()
        self._ran_at = -math.inf
        """When any attempt was last seen running."""
        self._has_started = False
        """Whether a container of this study has begun while this object looked."""
        self._refusal = ""
        """What the API server said when it last refused to fence an attempt."""

    @property
    def slots(self) -> int | None:
        """No limit of its own: what has no room waits, and says so."""
        return None

    @property
    def site(self) -> str:
        """The namespace, and which cluster it is of."""
        return f"{self._api.namespace}@{self._api.cluster_id}"

    @property
    def n_requests(self) -> Mapping[str, int]:
        """Requests to the API server so far, by verb and kind."""
        return self._api.n_requests

    @property
    def canary_seconds(self) -> float:
        """As `trial.kubernetes` says."""
        return self._spec.trial.kubernetes.canary_seconds

    @property
    def brings_points(self) -> bool:
        """Trials report to MLflow, which the runner asks for what pruners and plots need."""
        return False

    def submit(self, trial: Trial, *, avoid: Collection[str] = ()) -> AttemptId:
        """Create the attempt's Job, or adopt the one that exists already.

        Raises:
            ExecutorUnavailable: The API server does not answer.
            ExecutorBlocked: It refuses the Job, or another trial's Job has this name.
        """
        if trial.study != self._spec.name:
            raise ExecutorError(
                f"This executor runs study {self._spec.name!r}; the trial is of {trial.study!r}."
            )
        self._start()
        attempt = AttemptId(trial.number, trial.attempt)
        name = job_name(trial.study, attempt)
        placed = place(trial, self._spec.trial.kubernetes, self._tracking_uri)
        job = self._jobs.objects().get(name)
        is_own = False
        if job is None:
            try:
                job = self._api.create_job(
                    build_job(self._spec, placed, image=self._image, avoid=avoid)
                )
                is_own = True
            except AlreadyExists:
                job = self._api.get_job(name)
            if job is None:
                raise ExecutorUnavailable(f"The Job {name} existed and is gone; trying again.")
            self._jobs.put(job)
        existing = self._read_trial(job)
        if existing is None or dict(existing.params) != dict(placed.params):
            raise ExecutorBlocked(
                f"The Job {name} in namespace {self._api.namespace} exists and runs another trial.",
                hint="two studies of one name must not share a namespace; if it was left over, "
                f"kubectl -n {self._api.namespace} delete job {name}.",
            )
        self._forgotten.discard(attempt)
        record = self._attempts.setdefault(attempt, _Attempt(existing, self._clock()))
        record.is_own = record.is_own or is_own
        return attempt

    def poll(self) -> Mapping[AttemptId, AttemptStatus]:
        """Return every attempt that was submitted and not forgotten, by whomever.

        Raises:
            ExecutorUnavailable: The API server has not answered for a while.
        """
        self._start()
        self._jobs.check()
        self._pods.check()
        jobs, gone = self._jobs.objects(), self._jobs.gone()
        self._drop_forgotten()
        statuses: dict[AttemptId, AttemptStatus] = {}
        for name, job in sorted({**gone, **jobs}.items()):
            attempt = _attempt_of(job)
            if attempt is None or attempt in self._forgotten:
                continue
            record = self._attempts.get(attempt)
            if record is None:
                trial = self._read_trial(job)
                if trial is None:
                    continue
                record = self._attempts[attempt] = _Attempt(trial, self._clock())
            statuses[attempt] = self._look(attempt, record, job, job_is_gone=name not in jobs)
        return statuses

    def wait(self, timeout_seconds: float) -> None:
        """Return when the cluster reported a change, at the latest after the given time."""
        if self._is_threaded:
            self._changed.wait(timeout_seconds)
        self._changed.clear()

    def stop(self, attempt: AttemptId, cause: Cause, reason: str) -> None:
        """Ask an attempt to end; it ends with this cause. The first request counts.

        The pod gets SIGTERM, and SIGKILL after `trial.kubernetes.stop_grace_seconds`.

        Raises:
            ExecutorUnavailable: The API server does not answer.
            ExecutorBlocked: The right to patch Jobs is missing.
        """
        self._start()
        record = self._attempts.get(attempt)
        job = self._jobs.objects().get(job_name(self._spec.name, attempt))
        if job is None or Fence.read(job) is not None:
            return
        if record is not None and record.final is not None:
            return
        if record is not None and record.state is AttemptState.RUNNING:
            self._save_log(attempt, record)  # it goes with the pod
        self._fence(attempt, Fence(How.STOPPED, cause, reason))

    def forget(self, attempt: AttemptId) -> None:
        """Delete the Job of an ended attempt; its log stays.

        Raises:
            ExecutorError: The attempt has not ended.
            ExecutorUnavailable: The API server does not answer.
            ExecutorBlocked: The right to delete Jobs is missing.
        """
        self._start()
        name = job_name(self._spec.name, attempt)
        job = self._jobs.objects().get(name)
        record = self._attempts.get(attempt)
        if job is not None and (record is None or record.final is None):
            self.poll()
            record = self._attempts.get(attempt)
            if record is not None and record.final is None:
                raise ExecutorError(
                    f"Attempt {attempt} has not ended and cannot be forgotten.",
                    hint="stop it and wait for its end.",
                )
        if job is not None and record is not None:  # a Job without one is not ours
            self._api.delete_job(name)
        self._forgotten.add(attempt)
        self._jobs.drop(name)
        if record is not None and record.pod is not None:
            self._pods.drop(record.pod)
        self._attempts.pop(attempt, None)

    def files(self, attempt: AttemptId) -> AttemptFiles:
        """Return the attempt's log as far as it was fetched; artifacts went to MLflow directly."""
        log = self._log_path(attempt)
        return AttemptFiles(log=log if log.exists() else None)

    def read_log(self, attempt: AttemptId, *, offset: int = 0, limit_bytes: int = 65536) -> bytes:
        """Return up to `limit_bytes` of the attempt's log from a byte offset; empty at the end.

        While the attempt runs, every call reads the log from its beginning: use `follow_log`.
        """
        record = self._attempts.get(attempt)
        path = self._log_path(attempt)
        is_final = record is None or record.final is not None
        if path.exists() and is_final:
            with path.open("rb") as log:
                log.seek(offset)
                return log.read(limit_bytes)
        pod = None if record is None else record.pod
        if pod is None:
            return b""
        wanted = offset + limit_bytes
        limit = 2 * wanted
        while True:
            text = self._api.read_log(pod, limit_bytes=limit)
            found = b"".join(written([text]))
            if len(found) >= wanted or len(text) < limit:
                return found[offset:wanted]
            limit *= 4  # timestamps are longer than the lines

    def follow_log(self, attempt: AttemptId) -> Iterator[bytes]:
        """Yield the log as it is written, until the attempt ends."""
        while True:
            self.poll()
            record = self._attempts.get(attempt)
            if record is None or record.final is not None:
                yield self.read_log(attempt, limit_bytes=LOG_BYTES)
                return
            if record.state is AttemptState.RUNNING and record.pod is not None:
                yield from written(self._api.follow_log(record.pod))
                return
            self.wait(FOLLOW_SECONDS)

    def close(self) -> None:
        """Stop following the cluster; attempts go on."""
        self._jobs.close()
        self._pods.close()
        self._api.close()

    # Looking

    def _drop_forgotten(self) -> None:
        """Let go of what was deleted after its attempt had been forgotten."""
        for reflector in (self._jobs, self._pods):
            for name, item in reflector.gone().items():
                if _attempt_of(item) in self._forgotten:
                    reflector.drop(name)

    def _start(self) -> None:
        self._jobs.start()
        self._pods.start()

    def _look(
        self, attempt: AttemptId, record: _Attempt, job: Mapping[str, Any], *, job_is_gone: bool
    ) -> AttemptStatus:
        if record.final is not None:
            return record.final
        now = self._clock()
        pod, pod_is_gone = self._pod_of(record, job)
        is_leaving = pod is not None and bool(pod["metadata"].get("deletionTimestamp"))
        if is_leaving and record.leaving_since is None:
            record.leaving_since = now
            if record.state is AttemptState.RUNNING and not self._log_path(attempt).exists():
                self._save_log(attempt, record)  # the kubelet removes it before the pod is gone
        wait = wait_of(job, pod)
        if wait is not record.wait:
            record.wait, record.waiting_since = wait, now
        kubernetes = self._spec.trial.kubernetes
        seen = Sighting(
            job=job,
            job_is_gone=job_is_gone,
            pod=pod,
            pod_is_gone=pod_is_gone,
            events=record.events,
            waiting_seconds=now - record.waiting_since,
            stalled_seconds=now - self._ran_at,
            leaving_seconds=0.0 if record.leaving_since is None else now - record.leaving_since,
            grace_seconds=float(kubernetes.stop_grace_seconds),
            image_pull_seconds=kubernetes.image_pull_timeout_seconds,
            pending_seconds=kubernetes.pending_timeout_seconds,
            others_started=self._has_started,
            others_running=any(
                other.state is AttemptState.RUNNING
                for number, other in self._attempts.items()
                if number != attempt
            ),
            avoids=avoided_nodes(job),
            workload=record.workload,
            queue_position=record.queue_position,
        )
        found = look(seen)
        if found.wants_events and self._ask_for_events(record, pod or job):
            found = look(replace(seen, events=record.events))
        if found.wants_queue and self._ask_queue(record, job):
            position = record.queue_position
            found = look(replace(seen, workload=record.workload, queue_position=position))
        if found.fence is not None and not job_is_gone:
            self._fence_if_allowed(attempt, found.fence)
        if found.started_at is not None and found.state is not AttemptState.PENDING:
            self._has_started = True
        self._learn_image(found.image_id)
        if AttemptState.RUNNING in (record.state, found.state):
            self._ran_at = now
        record.state = found.state
        if found.state is AttemptState.RUNNING and not is_leaving:
            is_fenced = Fence.read(job) is not None
            self._enforce_time_limit(attempt, record, pod, is_fenced=is_fenced)
        if found.state is not AttemptState.ENDED:
            return AttemptStatus(
                found.state,
                reason=found.reason,
                started_at=found.started_at,
                waits_for_room=found.waits_for_room,
                node=_node_of(pod),
            )
        if not self._save_log(attempt, record) and record.log_tries < LOG_TRIES:
            record.state = AttemptState.RUNNING  # its end is told once its log is there
            return AttemptStatus(record.state, started_at=found.started_at, node=_node_of(pod))
        record.final = replace(self._conclude(attempt, record, found), node=_node_of(pod))
        return record.final

    def _pod_of(
        self, record: _Attempt, job: Mapping[str, Any]
    ) -> tuple[Mapping[str, Any] | None, bool]:
        """Return the attempt's pod and whether it is gone: the first that the Job has had."""
        there, gone = self._pods.objects(), self._pods.gone()
        if record.pod is None:
            uid = job["metadata"].get("uid")
            own = [
                pod
                for pod in (*there.values(), *gone.values())
                if any(
                    owner.get("uid") == uid
                    for owner in pod["metadata"].get("ownerReferences") or ()
                )
            ]
            if not own:
                return None, False
            first = min(
                own,
                key=lambda p: (p["metadata"].get("creationTimestamp", ""), p["metadata"]["name"]),
            )
            record.pod = first["metadata"]["name"]
        if record.pod in there:
            return there[record.pod], False
        return gone.get(record.pod), True

    def _ask_for_events(self, record: _Attempt, about: Mapping[str, Any]) -> bool:
        now = self._clock()
        if record.events_at is not None and now - record.events_at < EVENTS_SECONDS:
            return False
        record.events_at = now
        try:
            record.events = tuple(self._api.events(str(about["metadata"].get("uid"))))
        except ExecutorUnavailable:
            return False
        return True

    def _ask_queue(self, record: _Attempt, job: Mapping[str, Any]) -> bool:
        """Ask Kueue, once in a while, what it says of a suspended Job; return whether it did."""
        queue = queue_of(job)
        now = self._clock()
        is_soon = record.queue_at is not None and now - record.queue_at < EVENTS_SECONDS
        if queue is None or is_soon:
            return False
        record.queue_at = now
        try:
            record.workload = self._api.workload(str(job["metadata"].get("uid")))
            waiting = self._api.pending_workloads(queue) if record.workload else []
        except ExecutorUnavailable:
            return False
        name = (record.workload or {}).get("metadata", {}).get("name")
        places = [w.get("positionInLocalQueue") for w in waiting if w["metadata"]["name"] == name]
        record.queue_position = places[0] if places else None
        return True

    def _enforce_time_limit(
        self,
        attempt: AttemptId,
        record: _Attempt,
        pod: Mapping[str, Any] | None,
        *,
        is_fenced: bool,
    ) -> None:
        limit = self._spec.trial.timeout_seconds
        if record.running_since is None:
            record.running_since = self._clock()
            if not record.is_own and pod is not None:
                # Another runner saw it begin. What cannot be told counts from now, and the pod's
                # own deadline, which the kubelet keeps, bounds it.
                record.running_since -= running_seconds(pod, self._api.server_time()) or 0.0
        is_over = limit is not None and self._clock() - record.running_since >= limit
        if not is_over or is_fenced:
            return
        self._save_log(attempt, record)
        over = diagnose(Ending(How.TIMEOUT, timeout_seconds=limit), None, "", record.trial)
        self._fence_if_allowed(attempt, Fence(How.TIMEOUT, Cause.TIMEOUT, over.message))

    def _fence_if_allowed(self, attempt: AttemptId, fence: Fence) -> None:
        """Fence an attempt while looking; without the right, the look goes on.

        A pod ends at its own deadline too, and whoever stops a trial is told of the missing right.
        """
        try:
            self._fence(attempt, fence)
        except ExecutorBlocked as error:
            if str(error) != self._refusal:
                self._refusal = str(error)
                _log.warning("trial %s: cannot be fenced: %s", attempt, error)

    def _fence(self, attempt: AttemptId, fence: Fence) -> None:
        """Write on the Job what the attempt ends with, and let its controller end all its pods.

        One patch does both, so no runner finds the one without the other.
        """
        name = job_name(self._spec.name, attempt)
        known = self._jobs.objects().get(name)
        if known is not None and Fence.read(known) is not None:
            return
        patch = {
            "metadata": {"annotations": {FENCE_ANNOTATION: fence.to_json()}},
            "spec": {"parallelism": 0},
        }
        job = self._api.patch_job(name, patch)
        if job is not None:
            self._jobs.put(job)
            _log.info("trial %s: ends as %s: %s", attempt, fence.cause, fence.message)

    def _conclude(self, attempt: AttemptId, record: _Attempt, found: Look) -> AttemptStatus:
        trial = record.trial
        if found.ending is None:
            assert found.cause is not None, "an end without a container has its cause"
            outcome = Outcome(
                trial.study, trial.number, trial.attempt, found.cause, {}, found.message
            )
            exit_code = None
        else:
            ending = replace(found.ending, timeout_seconds=self._spec.trial.timeout_seconds)
            exit_code = ending.exit_code
            log_tail = self._log_tail(attempt)
            outcome = diagnose(ending, found.outcome, log_tail, trial, self._redact)
            outcome = blame_device(outcome, log_tail)
            if outcome.cause is Cause.HOST_OOM and self._spec.trial.resources.memory:
                limit = self._spec.trial.resources.memory
                message = f"{outcome.message} Its limit is {limit} (trial.resources.memory)."
                outcome = replace(outcome, message=message)
        return AttemptStatus(
            AttemptState.ENDED,
            outcome=replace(outcome, message=self._redact(outcome.message)),
            exit_code=exit_code,
            started_at=found.started_at,
            ended_at=found.ended_at,
            missed_nodes=found.missed_nodes,
            blocks_study=found.blocks_study,
        )

    def _learn_image(self, image_id: str) -> None:
        """Pin the image once a node has said which it is: a tag may be moved between trials."""
        image = self._spec.trial.image or ""
        if self._image is not None or "@" in image or "@sha256:" not in image_id:
            return
        # Docker's shim wrote `docker-pullable://` in front.
        shown = image_id.rpartition("://")[2]
        if _repository(shown) != _repository(image):
            return  # loaded by hand, or from a mirror: no name that other nodes could pull
        self._image = shown
        _log.info("the image %s is %s", image, self._image)
        if self._on_image is not None:
            self._on_image(self._image)

    # Logs

    def _log_path(self, attempt: AttemptId) -> Path:
        folder = self._root / "trials" / str(attempt.number) / f"attempt-{attempt.attempt}"
        return folder / "log.txt"

    def _save_log(self, attempt: AttemptId, record: _Attempt) -> bool:
        """Fetch the log of an attempt's pod; return whether that needs no other try."""
        if record.pod is None or record.pod not in self._pods.objects():
            return True
        record.log_tries += 1
        try:
            for n_lines in LOG_LINES:
                text = self._api.read_log(record.pod, tail_lines=n_lines, limit_bytes=LOG_BYTES)
                if len(text) < LOG_BYTES:
                    break
        except ExecutorUnavailable as error:
            _log.info("trial %s: its log cannot be read: %s", attempt, error.message)
            return False
        if log := b"".join(written([text])):  # nothing never replaces what was fetched before
            path = self._log_path(attempt)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                part = path.with_suffix(".part")
                part.write_bytes(log)
                part.replace(path)
            except OSError as error:  # a full disk of the runner's is no trial's fault
                _log.warning("trial %s: its log cannot be kept: %s", attempt, error)
                return False
        return True

    def _log_tail(self, attempt: AttemptId) -> str:
        try:
            with self._log_path(attempt).open("rb") as log:
                tail = b"".join(self._redact.tail(log, LOG_TAIL_BYTES))
                return tail.decode(errors="replace")
        except FileNotFoundError:
            return ""

    @staticmethod
    def _read_trial(job: Mapping[str, Any]) -> Trial | None:
        """Return the trial that a Job runs; `None` for a Job that is none of ours."""
        try:
            containers = job["spec"]["template"]["spec"]["containers"]
            own = next(c for c in containers if c["name"] == CONTAINER)
            text = next(v["value"] for v in own["env"] if v["name"] == TRIAL_VARIABLE)
            return Trial.from_json(unescaped(text))
        except (KeyError, StopIteration, TypeError, DocumentError):
            _log.warning("the Job %s holds no trial", job["metadata"].get("name"))
            return None


def _attempt_of(item: Mapping[str, Any]) -> AttemptId | None:
    return attempt_of(item["metadata"].get("labels") or {})


def _node_of(pod: Mapping[str, Any] | None) -> str | None:
    return None if pod is None else (pod.get("spec") or {}).get("nodeName") or None


def _repository(image: str) -> str:
    """Return an image's name in full, without tag and digest."""
    folder, slash, last = image.partition("@")[0].rpartition("/")
    host = folder.partition("/")[0]
    if not folder:
        folder, slash = "docker.io/library", "/"
    elif not ("." in host or ":" in host or host == "localhost"):
        folder = f"docker.io/{folder}"
    return f"{folder}{slash}{last.partition(':')[0]}"

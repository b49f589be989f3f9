"""`KubernetesExecutor`: the protocol of executors over Jobs.

Nothing about an attempt is kept here that the cluster does not know too. The Job's existence is the
claim; why a runner ended an attempt stands on the Job as an annotation, written by the same patch
that takes its pod away; the outcome is the pod's termination message. So a runner that is killed
between any two requests is replaced by one that lists and goes on.

**Requests.** One create and one delete a trial, one for its log, a patch for one that is stopped;
watches and lists serve all trials together. Events are asked for only about what does not start.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Final

from studyflow.background import DaemonPool
from studyflow.errors import ExecutorBlocked, ExecutorError, ExecutorUnavailable, PlatformError
from studyflow.executors.diagnosis import How
from studyflow.executors.earlier import FormerNames
from studyflow.executors.kubernetes.api import AlreadyExists, ClusterApi
from studyflow.executors.kubernetes.ends import LOGS_AT_ONCE, AttemptEnds
from studyflow.executors.kubernetes.fence import Fence
from studyflow.executors.kubernetes.fencing import Fencer
from studyflow.executors.kubernetes.followed import read_trial
from studyflow.executors.kubernetes.image_pin import ImagePin
from studyflow.executors.kubernetes.logs import LOG_BYTES, PodLogs
from studyflow.executors.kubernetes.manifest import build_job, with_pod_paths
from studyflow.executors.kubernetes.monitor import AttemptMonitor
from studyflow.executors.kubernetes.names import job_name
from studyflow.executors.kubernetes.objects import Object
from studyflow.executors.kubernetes.pod_log import written
from studyflow.executors.kubernetes.study_objects import StudyObjects
from studyflow.executors.kubernetes.watchlist import Watchlist
from studyflow.executors.protocol import (
    AttemptId,
    AttemptState,
    AttemptStatus,
    ExecutorTraits,
)
from studyflow.executors.run_tokens import RunTokens
from studyflow.reasons import Reason
from studyflow.redaction import Redactor
from studyflow.spec import StudySpec
from studyflow.spec.pods import Platform
from studyflow.trial import Cause, Trial
from studyflow.trial.attempt_files import AttemptFiles

CALLS_AT_ONCE: Final = 8
"""How many Jobs are created at once, and how many stopped or deleted: some hundred a second, and
few enough for an API server that many share."""

GATHER_SECONDS: Final = 0.05
"""How long `wait` goes on after a change. A pod that begins or ends is several changes, and with a
thousand pods there is always one: a runner looks at them together."""

FOLLOW_SECONDS: Final = 1.0
"""Longest pause between two polls of an attempt whose log is wanted and that has not begun."""


class KubernetesExecutor(FormerNames):
    """Runs the attempts of one study as Jobs. See the module's text.

    Args:
        spec: The study; `trial.image` must be set.
        api: The cluster and the namespace of the trials. Closed with this object.
        root: Folder of this study on this machine, for logs.
        image: The study's image by its digest, when an earlier run has seen which it is.
        tracking_uri: MLflow's address as pods reach it, if it is not the runner's.
        service_account: Of the pods, if the study file names none; `None` for the namespace's own.
        platform: Returns what the platform allows; asked before each attempt.
        on_image: Is told the image by its digest once the first pod shows it.
        tokens: Makes what attempts write to their MLflow runs with; `None` where MLflow asks for
            none.
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
        service_account: str | None = None,
        tokens: RunTokens | None = None,
        platform: Callable[[], Platform] = Platform,
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
        self._tracking_uri = tracking_uri
        self._service_account = service_account
        self._tokens = tokens or RunTokens()
        self._platform = platform
        self._clock = clock
        self._changed = threading.Event()
        self._polling = threading.Lock()
        self._is_threaded = is_threaded
        self._objects = StudyObjects(
            api, spec.name, self._changed.set, clock, is_threaded=is_threaded
        )
        redact = redact or Redactor()
        self._pool = DaemonPool("studyflow-logs", LOGS_AT_ONCE) if is_threaded else None
        self._logs = PodLogs(api, root, redact, self._pool)
        self._fencer = Fencer(api, self._objects, spec.name)
        self._image = ImagePin(spec.trial.image, image, on_image)
        self._ends = AttemptEnds(spec, self._objects, self._logs, redact, self._changed.set, clock)
        self._monitor = AttemptMonitor(
            spec,
            api,
            self._objects,
            self._fencer,
            self._logs,
            self._image,
            self._ends,
            clock,
        )
        self._attempts = Watchlist(
            self._objects, self._monitor, self._ends, self._changed.set, clock
        )

    @property
    def traits(self) -> ExecutorTraits:
        """No slots of its own: what has no room waits, and says so. Trials report to MLflow."""
        return ExecutorTraits(
            canary_seconds=self._spec.trial.kubernetes.canary_seconds,
            calls_at_once=CALLS_AT_ONCE if self._is_threaded else 1,
            brings_points=False,
        )

    @property
    def site(self) -> str:
        """The namespace, and which cluster it is of."""
        return f"{self._api.namespace}@{self._api.cluster_id}"

    @property
    def n_requests(self) -> Mapping[str, int]:
        """Requests to the API server so far, by verb and kind."""
        return self._api.n_requests

    def submit(self, trial: Trial, *, avoid: Collection[str] = ()) -> AttemptId:
        """Create the attempt's Job, or adopt the one that exists already.

        Raises:
            ExecutorUnavailable: The API server does not answer.
            ExecutorBlocked: It refuses the Job, another trial's Job has this name, or the study
                file asks for a pod that no trial may have.
            ExecutorError: The trial is another study's.
        """
        if trial.study != self._spec.name:
            raise ExecutorError(
                f"This executor runs study {self._spec.name!r}; the trial is of {trial.study!r}."
            )
        self._objects.start()
        attempt = AttemptId(trial.number, trial.attempt)
        placed = with_pod_paths(trial, self._spec.trial.kubernetes, self._tracking_uri)
        job = self._objects.job(attempt)
        is_own = False
        if job is None:
            job, is_own = self._create_job(attempt, placed, avoid)
        existing = read_trial(job)
        if existing is None or dict(existing.params) != dict(placed.params):
            name = job_name(trial.study, attempt)
            raise ExecutorBlocked(
                f"The Job {name} in namespace {self._api.namespace} exists and runs another trial.",
                hint="two studies of one name must not share a namespace; if it was left over, "
                f"kubectl -n {self._api.namespace} delete job {name}.",
            )
        self._attempts.add(attempt, existing, is_own=is_own)
        return attempt

    def _create_job(
        self, attempt: AttemptId, trial: Trial, avoid: Collection[str]
    ) -> tuple[Object, bool]:
        """Return an attempt's Job, and whether it was made now."""
        name, is_own = job_name(trial.study, attempt), True
        try:
            platform = self._platform()
        except PlatformError as error:
            raise ExecutorBlocked.because(error.whole_reason) from error
        manifest = build_job(
            self._spec,
            trial,
            image=self._image.pinned,
            avoid=avoid,
            service_account=self._service_account,
            token=self._tokens.of(trial),
            platform=platform,
        )
        try:
            job = self._api.create_job(manifest)
        except AlreadyExists:
            found, is_own = self._api.get_job(name), False
            if found is None:
                raise ExecutorUnavailable(
                    f"The Job {name} existed and is gone; trying again."
                ) from None
            job = found
        self._objects.put_job(job)
        return job, is_own

    def poll(self) -> Mapping[AttemptId, AttemptStatus]:
        """Return every attempt that was submitted and not forgotten, by whomever.

        Raises:
            ExecutorUnavailable: The API server has not answered for a while.
        """
        with self._polling:
            self._objects.start()
            self._objects.check()
            return self._attempts.poll()

    def wait(self, timeout_seconds: float) -> None:
        """Return when the cluster reported a change, at the latest after the given time."""
        if self._is_threaded and self._changed.wait(timeout_seconds):
            time.sleep(min(GATHER_SECONDS, timeout_seconds))
        self._changed.clear()

    def stop(self, attempt: AttemptId, cause: Cause, reason: str) -> None:
        """Ask an attempt to end; it ends with this cause. The first request counts.

        The pod gets SIGTERM, and SIGKILL after `trial.kubernetes.stop_grace_seconds`.

        Raises:
            ExecutorUnavailable: The API server does not answer.
            ExecutorBlocked: The right to patch Jobs is missing.
        """
        self._objects.start()
        followed = self._attempts.get(attempt)
        job = self._objects.job(attempt)
        if job is None or Fence.read(job) is not None:
            return
        if followed is not None and followed.final is not None:
            return
        if followed is not None and followed.state is AttemptState.RUNNING:
            self._ends.save_log(followed)  # it goes with the pod
        why = Reason(cause, reason)
        self._fencer.fence(attempt, Fence.because(cause, why, How.STOPPED))

    def forget(self, attempt: AttemptId) -> None:
        """Delete the Job of an ended attempt; its log stays.

        Raises:
            ExecutorError: The attempt has not ended.
            ExecutorUnavailable: The API server does not answer.
            ExecutorBlocked: The right to delete Jobs is missing.
        """
        self._objects.start()
        job = self._objects.job(attempt)
        followed = self._attempts.get(attempt)
        if job is not None and (followed is None or followed.final is None):
            self.poll()
            followed = self._attempts.get(attempt)
            if followed is not None and followed.final is None:
                raise ExecutorError(
                    f"Attempt {attempt} has not ended and cannot be forgotten.",
                    hint="stop it and wait for its end.",
                )
        if job is not None and followed is not None:  # a Job without one is not ours
            self._api.delete_job(job_name(self._spec.name, attempt))
        self._objects.drop(attempt, None if followed is None else followed.pod)
        self._attempts.drop(attempt)

    def files(self, attempt: AttemptId) -> AttemptFiles:
        """Return the attempt's log as far as it was fetched; artifacts went to MLflow directly."""
        log = self._logs.path(attempt)
        return AttemptFiles(log=log if log.exists() else None)

    def read_log(self, attempt: AttemptId, *, offset: int = 0, limit_bytes: int = 65536) -> bytes:
        """Return up to `limit_bytes` of the attempt's log from a byte offset; empty at the end.

        While the attempt runs, every call reads the log from its beginning: use `follow_log`.

        Raises:
            ExecutorUnavailable: The API server does not answer.
        """
        followed = self._attempts.get(attempt)
        if followed is None or followed.final is not None:
            kept = self._logs.read_kept(attempt, offset, limit_bytes)
            if kept is not None:
                return kept
        if followed is None or followed.pod is None:
            return b""
        return self._logs.read_live(followed.pod, offset, limit_bytes)

    def follow_log(self, attempt: AttemptId) -> Iterator[bytes]:
        """Yield the log as it is written, until the attempt ends.

        Raises:
            ExecutorUnavailable: The API server does not answer.
        """
        while True:
            self.poll()
            followed = self._attempts.get(attempt)
            if followed is None or followed.final is not None:
                yield self.read_log(attempt, limit_bytes=LOG_BYTES)
                return
            if followed.state is AttemptState.RUNNING and followed.pod is not None:
                yield from written(self._api.follow_log(followed.pod))
                return
            self.wait(FOLLOW_SECONDS)

    def close(self) -> None:
        """Stop following the cluster; attempts go on."""
        self._objects.close()
        if self._pool is not None:
            self._pool.close()
        self._api.close()

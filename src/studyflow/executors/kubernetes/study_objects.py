"""A study's Jobs and pods as the cluster last reported them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from studyflow.executors.kubernetes.api import ClusterApi
from studyflow.executors.kubernetes.followed import FollowedAttempt
from studyflow.executors.kubernetes.names import attempt_of, job_name, study_selector
from studyflow.executors.kubernetes.objects import (
    Object,
    first_pod,
    name_of,
    owners_of,
    uid_of,
)
from studyflow.executors.kubernetes.reflector import Reflector
from studyflow.executors.protocol import AttemptId


class StudyObjects:
    """Follows the Jobs and pods of one study, each kind by one list and one watch.

    Args:
        api: The cluster.
        study: Name of the study.
        on_change: Called, from any thread, when something changed.
        clock: Seconds, monotonic.
        is_threaded: False in tests: nothing follows the cluster by itself.
    """

    def __init__(
        self,
        api: ClusterApi,
        study: str,
        on_change: Callable[[], None],
        clock: Callable[[], float],
        *,
        is_threaded: bool,
    ) -> None:
        self._study = study
        self._pods_of: dict[str, set[str]] = {}
        """By uid of a Job, the names of the pods that it has had."""
        self._jobs, self._pods = (
            Reflector(api, kind, study_selector(study), on_change, clock, is_threaded=is_threaded)
            for kind in ("jobs", "pods")
        )

    def start(self) -> None:
        """Begin to follow the cluster, if that was not begun."""
        self._jobs.start()
        self._pods.start()

    def check(self) -> None:
        """Make sure that what is known here is not too old.

        Raises:
            ExecutorUnavailable: The API server has not answered for a while.
        """
        self._jobs.check()
        self._pods.check()

    def take_changes(self, forgotten: Collection[AttemptId]) -> set[AttemptId]:
        """Return the attempts whose Job or pod was made, changed or deleted since the last call.

        Args:
            forgotten: Attempts that were let go of: what was deleted of them since is dropped.
        """
        changed = set()
        for reflector in (self._jobs, self._pods):
            for item in reflector.take_changes():
                attempt = attempt_of(item["metadata"].get("labels") or {})
                if attempt in forgotten:
                    self._drop_gone(reflector, item)
                    continue
                if attempt is not None:
                    changed.add(attempt)
                if reflector is self._pods:
                    for uid in owners_of(item):
                        self._pods_of.setdefault(uid, set()).add(name_of(item))
        return changed

    def _drop_gone(self, reflector: Reflector, item: Object) -> None:
        _, is_gone = reflector.find(name_of(item))
        if is_gone:
            reflector.drop(name_of(item))
            for uid in (uid_of(item), *owners_of(item)):
                self._pods_of.pop(uid, None)

    def job(self, attempt: AttemptId) -> Object | None:
        """Return an attempt's Job; `None` when there is none."""
        job, is_gone = self.last_job(attempt)
        return None if is_gone else job

    def last_job(self, attempt: AttemptId) -> tuple[Object | None, bool]:
        """Return an attempt's Job in its newest state, or its last, and whether it is gone."""
        return self._jobs.find(job_name(self._study, attempt))

    def put_job(self, job: dict[str, Any]) -> None:
        """Take in a Job as a request has just returned it."""
        self._jobs.put(job)

    def pod_of(self, attempt: FollowedAttempt, job: Object) -> tuple[Object | None, bool]:
        """Return the attempt's pod and whether it is gone: the first that the Job has had."""
        if attempt.pod is None:
            names = self._pods_of.get(uid_of(job), ())
            known = (self._pods.find(name)[0] for name in names)
            first = first_pod(job, (pod for pod in known if pod is not None))
            if first is None:
                return None, False
            attempt.pod = name_of(first)
        return self._pods.find(attempt.pod)

    def has_pod(self, attempt: FollowedAttempt) -> bool:
        """Return whether an attempt's pod is there."""
        if attempt.pod is None:
            return False
        pod, is_gone = self._pods.find(attempt.pod)
        return pod is not None and not is_gone

    def drop(self, attempt: AttemptId, pod: str | None) -> None:
        """Let go of a Job that was deleted, and of its pod."""
        job, _ = self.last_job(attempt)
        if job is not None:
            self._pods_of.pop(uid_of(job), None)
        self._jobs.drop(job_name(self._study, attempt))
        if pod is not None:
            self._pods.drop(pod)

    def close(self) -> None:
        """Stop following the cluster."""
        self._jobs.close()
        self._pods.close()

"""A study's Jobs and pods as the cluster last reported them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from studyflow.executors.kubernetes.api import ClusterApi
from studyflow.executors.kubernetes.followed import FollowedAttempt
from studyflow.executors.kubernetes.names import attempt_of, job_name, study_selector
from studyflow.executors.kubernetes.objects import Object, first_pod, name_of
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

    def job(self, attempt: AttemptId) -> Object | None:
        """Return an attempt's Job; `None` when there is none."""
        return self._jobs.objects().get(job_name(self._study, attempt))

    def jobs(self) -> Iterator[tuple[AttemptId, Object, bool]]:
        """Yield each attempt with its Job, and whether that is gone, ordered by name."""
        there, gone = self._jobs.objects(), self._jobs.gone()
        for name, job in sorted({**gone, **there}.items()):
            attempt = attempt_of(job["metadata"].get("labels") or {})
            if attempt is not None:
                yield attempt, job, name not in there

    def put_job(self, job: dict[str, Any]) -> None:
        """Take in a Job as a request has just returned it."""
        self._jobs.put(job)

    def pod_of(self, attempt: FollowedAttempt, job: Object) -> tuple[Object | None, bool]:
        """Return the attempt's pod and whether it is gone: the first that the Job has had."""
        there, gone = self._pods.objects(), self._pods.gone()
        if attempt.pod is None:
            first = first_pod(job, (*there.values(), *gone.values()))
            if first is None:
                return None, False
            attempt.pod = name_of(first)
        if attempt.pod in there:
            return there[attempt.pod], False
        return gone.get(attempt.pod), True

    def has_pod(self, attempt: FollowedAttempt) -> bool:
        """Return whether an attempt's pod is there."""
        return attempt.pod is not None and attempt.pod in self._pods.objects()

    def drop(self, attempt: AttemptId, pod: str | None) -> None:
        """Let go of a Job that was deleted, and of its pod."""
        self._jobs.drop(job_name(self._study, attempt))
        if pod is not None:
            self._pods.drop(pod)

    def drop_gone(self, forgotten: set[AttemptId]) -> None:
        """Let go of what was deleted after its attempt had been forgotten."""
        for reflector in (self._jobs, self._pods):
            gone: Mapping[str, Object] = reflector.gone()
            for name, item in gone.items():
                if attempt_of(item["metadata"].get("labels") or {}) in forgotten:
                    reflector.drop(name)

    def close(self) -> None:
        """Stop following the cluster."""
        self._jobs.close()
        self._pods.close()

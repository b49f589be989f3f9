"""Writes on Jobs what their attempts end with."""

from __future__ import annotations

import logging

from studyflow.errors import ExecutorBlocked
from studyflow.executors.kubernetes.api import ClusterApi
from studyflow.executors.kubernetes.fence import FENCE_ANNOTATION, Fence
from studyflow.executors.kubernetes.names import job_name
from studyflow.executors.kubernetes.study_objects import StudyObjects
from studyflow.executors.protocol import AttemptId

logger = logging.getLogger(__name__)


class Fencer:
    """Ends attempts of one study, for good."""

    def __init__(self, api: ClusterApi, objects: StudyObjects, study: str) -> None:
        self._api = api
        self._objects = objects
        self._study = study
        self._refusal = ""
        """What the API server said when it last refused to fence an attempt."""

    def fence(self, attempt: AttemptId, fence: Fence) -> None:
        """Write on the Job what the attempt ends with, and let its controller end all its pods.

        One patch does both, so no runner finds the one without the other. The first fence counts.

        Raises:
            ExecutorUnavailable: The API server does not answer.
            ExecutorBlocked: The right to patch Jobs is missing.
        """
        known = self._objects.job(attempt)
        if known is not None and Fence.read(known) is not None:
            return
        patch = {
            "metadata": {"annotations": {FENCE_ANNOTATION: fence.to_json()}},
            "spec": {"parallelism": 0},
        }
        job = self._api.patch_job(job_name(self._study, attempt), patch)
        if job is not None:
            self._objects.put_job(job)
            logger.info("trial %s: ends as %s: %s", attempt, fence.cause, fence.reason)

    def fence_if_allowed(self, attempt: AttemptId, fence: Fence) -> None:
        """The same from within `poll`, which goes on without the right.

        A pod ends at its own deadline too, and whoever stops a trial is told of the missing right.

        Raises:
            ExecutorUnavailable: The API server does not answer.
        """
        try:
            self.fence(attempt, fence)
        except ExecutorBlocked as error:
            if str(error) != self._refusal:
                self._refusal = str(error)
                logger.warning("trial %s: cannot be fenced: %s", attempt, error)

"""Asks the cluster what a study has there; `executors.kubernetes.preflight` asks for rights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing

from studyflow.executors.kubernetes.api import ClusterApi
from studyflow.executors.kubernetes.survey import Survey, survey


def survey_cluster(
    open_cluster: Callable[[], ClusterApi], study: str, requests: Mapping[str, str], now: float
) -> Survey:
    """Return what a study has in a cluster.

    Args:
        open_cluster: Opens the cluster.
        study: Name of the study.
        requests: What a trial's pod asks for, by resource.
        now: Seconds since the epoch.

    Raises:
        StudyflowError: The cluster does not answer, or refuses.
    """
    with closing(open_cluster()) as api:
        return survey(api, study, requests, now)

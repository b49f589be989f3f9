"""Asks everybody about a study, side by side, and takes what they answer into one snapshot.

Who does not answer is part of it; only a study that does not exist is an error.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from studyflow.background import Background, NoAnswer
from studyflow.diagnostics.probes import mlflow, prefect
from studyflow.diagnostics.probes.cluster import survey_cluster
from studyflow.diagnostics.probes.runner import find_runner
from studyflow.diagnostics.probes.storage import StoredStudy, read_study
from studyflow.diagnostics.snapshot import FlowRun, Snapshot, StorageState, TrackingState
from studyflow.errors import StorageUnavailable, StudyflowError
from studyflow.executors.kubernetes.api import ClusterApi
from studyflow.executors.kubernetes.client import KubernetesApi
from studyflow.executors.kubernetes.manifest import trial_resources
from studyflow.executors.kubernetes.survey import Survey
from studyflow.executors.local import site_of
from studyflow.executors.local.gpus import count_slots, detect_gpus
from studyflow.executors.registry import executor_kind
from studyflow.reasons import Code, Reason
from studyflow.reports import StudyData
from studyflow.servers.prefect import prefect_api
from studyflow.settings import Settings
from studyflow.spec import StudySpec
from studyflow.storage import file_of, redacted
from studyflow.study import beats_elsewhere, load_beats, shows_life, this_machine
from studyflow.study.attributes import kept_finish_at

PATIENCE_SECONDS: Final = 5.0
"""How long each server may take to answer, from the moment it is asked."""

EMBEDDED_SECONDS: Final = 15.0
"""The same for the embedded MLflow: importing it takes long on a busy machine."""


@dataclass(frozen=True, slots=True)
class Named:
    """A study as a person named it."""

    called: str
    """A study file, or a name."""
    spec: StudySpec | None
    """The file's study; `None` for a name."""

    @property
    def name(self) -> str:
        """The study's name."""
        return self.called if self.spec is None else self.spec.name


def take_snapshot(
    named: Named,
    settings: Settings,
    load: Callable[[], StudyData],
    *,
    open_cluster: Callable[[str | None], ClusterApi] = KubernetesApi,
    patience_seconds: float = PATIENCE_SECONDS,
    clock: Callable[[], float] = time.time,
) -> Snapshot:
    """Return what is known of a study at this moment.

    Args:
        named: Which study.
        settings: Where its storage, trials and MLflow are.
        load: Reads the study from its storage.
        open_cluster: Opens the cluster, given its namespace.
        patience_seconds: How long each server may take.
        clock: Seconds since the epoch.

    Raises:
        StudyNotFound: There is no such study.
        SpecError: The stored study cannot be read.
    """
    url = settings.storage_url
    storage = Background("probe-storage", lambda: read_study(load, url))
    flow_run = Background("probe-prefect", lambda: _flow_run(named, settings, clock()))
    mlflow_away = Background("probe-mlflow", lambda: mlflow.why_away(settings.tracking_uri))
    snapshot = Snapshot(
        name=named.name,
        now=clock(),
        spec=named.spec,
        storage=StorageState(redacted(url), is_file=file_of(url) is not None),
        called=named.called,
        runner=find_runner(settings.runner_lock(named.name)),
        executor=settings.executor,
    )
    here = site_of(settings.study_folder(named.name))
    snapshot, data = _with_storage(snapshot, storage, here, patience_seconds)
    tracking = Background("probe-sent", lambda: mlflow.read_state(data, settings))
    cluster = Background("probe-cluster", lambda: _survey(snapshot, settings, open_cluster))
    slots = Background("probe-gpus", lambda: _count_slots(snapshot))
    snapshot = _with_prefect(snapshot, flow_run, settings, patience_seconds)
    snapshot = _with_mlflow(snapshot, settings, mlflow_away, tracking, patience_seconds)
    snapshot = _with_cluster(snapshot, cluster, patience_seconds)
    try:
        return replace(snapshot, slots=slots.result(patience_seconds))
    except (NoAnswer, StudyflowError):
        return snapshot


def is_driven(data: StudyData, settings: Settings) -> bool:
    """Return whether a runner is at work on a study: on this machine, or as its storage tells."""
    folder = settings.study_folder(data.spec.name)
    if find_runner(settings.runner_lock(data.spec.name)).is_there:
        return True
    beats = {} if data.optuna_study is None else load_beats(data.optuna_study)
    elsewhere = beats_elsewhere(beats, site_of(folder), this_machine())
    return shows_life(elsewhere.values(), time.time())


def _with_storage(
    snapshot: Snapshot, storage: Background[StoredStudy], here: str | None, patience_seconds: float
) -> tuple[Snapshot, StudyData | None]:
    try:
        stored = storage.result(patience_seconds)
    except StorageUnavailable as error:
        absence = error.reason
    except NoAnswer as error:
        absence = Reason(
            Code.STORAGE_UNAVAILABLE,
            f"The study storage {snapshot.storage.url} gives {error}.",
            "is it overloaded, or does a firewall swallow the connection?",
        )
    else:
        known = replace(
            snapshot,
            spec=stored.data.spec,
            records=stored.data.trials,
            is_paused=stored.is_paused,
            finish_at=kept_finish_at(stored.data.spec, stored.study),
            beats=beats_elsewhere(load_beats(stored.study), here, this_machine()),
            storage=replace(snapshot.storage, read_seconds=stored.read_seconds),
        )
        return known, stored.data
    return replace(snapshot, storage=replace(snapshot.storage, absence=absence)), None


def _with_mlflow(
    snapshot: Snapshot,
    settings: Settings,
    away: Background[Reason | None],
    tracking: Background[TrackingState | None],
    patience_seconds: float,
) -> Snapshot:
    url = redacted(settings.tracking_uri or "")
    if settings.tracking_uri is None:
        patience_seconds = max(patience_seconds, EMBEDDED_SECONDS)
    try:
        absence = away.result(patience_seconds)
    except NoAnswer as error:
        absence = Reason(Code.TRACKER_UNAVAILABLE, f"MLflow at {url} gives {error}.")
    if absence is not None:
        return replace(snapshot, tracking=TrackingState(url, absence))
    try:
        return replace(snapshot, tracking=tracking.result(patience_seconds))
    except NoAnswer:
        why = f"its runs could not be counted within {patience_seconds:g} s"
        return replace(snapshot, unseen={**snapshot.unseen, "MLflow": why})
    except StudyflowError as error:
        return replace(snapshot, tracking=TrackingState(url, error.reason))


def _survey(
    snapshot: Snapshot, settings: Settings, open_cluster: Callable[[str | None], ClusterApi]
) -> Survey | None:
    """Return what a study has in the cluster; `None` when its trials run elsewhere."""
    if not executor_kind(settings.executor).runs_pods:
        return None
    requests = {} if snapshot.spec is None else trial_resources(snapshot.spec)
    return survey_cluster(
        lambda: open_cluster(settings.namespace), snapshot.name, requests, snapshot.now
    )


def _with_cluster(
    snapshot: Snapshot, cluster: Background[Survey | None], patience_seconds: float
) -> Snapshot:
    try:
        return replace(snapshot, cluster=cluster.result(patience_seconds))
    except NoAnswer as error:
        absence = Reason(
            Code.EXECUTOR_UNAVAILABLE,
            f"The Kubernetes API gives {error}.",
            "is the cluster up, and reachable from here?",
        )
    except StudyflowError as error:
        absence = error.reason
    return replace(snapshot, cluster_absence=absence)


def _flow_run(named: Named, settings: Settings, now: float) -> FlowRun | None:
    """Return the study's newest flow run; `None` without a server, or without one."""
    api = prefect_api(settings)
    return None if api is None else prefect.newest_flow_run(api, named.name, named.called, now)


def _with_prefect(
    snapshot: Snapshot,
    flow_run: Background[FlowRun | None],
    settings: Settings,
    patience_seconds: float,
) -> Snapshot:
    try:
        return replace(snapshot, flow_run=flow_run.result(patience_seconds))
    except (NoAnswer, OSError, ValueError) as error:
        away = prefect.why_away(prefect_api(settings) or "", error)
        return replace(snapshot, prefect_absence=away)


def _count_slots(snapshot: Snapshot) -> int | None:
    """Return how many trials find GPUs on this machine; `None` where GPUs are no limit."""
    gpus = 0 if snapshot.spec is None else snapshot.spec.trial.resources.gpu
    if not gpus or not executor_kind(snapshot.executor).hands_out_gpus:
        return None
    return count_slots(detect_gpus(), gpus)

"""Asks everybody about a study, side by side, each for a few seconds, and changes nothing.

Who does not answer is a fact too; only a study that does not exist is an error.
"""

from __future__ import annotations

import importlib.util
import os
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import psutil

from studyflow.background import Background, NoAnswer
from studyflow.context import StudyContext
from studyflow.diagnostics.flow_runs import newest_flow_run, reason_of
from studyflow.diagnostics.snapshot import (
    Absence,
    Facts,
    FlowRunFacts,
    RunnerFacts,
    StorageFacts,
    TrackingFacts,
)
from studyflow.embedded import prefect_api, prefect_headers
from studyflow.errors import StorageUnavailable, StudyflowError, TrackingUnavailable
from studyflow.executors.kubernetes.api import ClusterApi, KubernetesApi
from studyflow.executors.kubernetes.manifest import trial_resources
from studyflow.executors.kubernetes.survey import Survey, survey
from studyflow.executors.local import site_of
from studyflow.executors.local.gpus import count_slots, detect_gpus
from studyflow.executors.registry import executor_kind
from studyflow.reports import StudyData
from studyflow.runner_lock import is_held, read_holder
from studyflow.settings import Settings
from studyflow.spec import StudySpec
from studyflow.storage import file_of, redacted, storage_errors
from studyflow.study import (
    beats_elsewhere,
    is_paused,
    load_beats,
    shows_life,
    this_machine,
)

PATIENCE_SECONDS: Final = 5.0
"""How long each server may take to answer, from the moment it is asked."""

EMBEDDED_SECONDS: Final = 15.0
"""The same for the embedded MLflow: importing it takes long on a busy machine."""

PROBE_SECONDS: Final = 3.0
"""How long one request of ours may take: less, so that its own reason is told."""


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


def look(
    named: Named,
    settings: Settings,
    load: Callable[[], StudyData],
    *,
    open_cluster: Callable[[str | None], ClusterApi] = KubernetesApi,
    patience_seconds: float = PATIENCE_SECONDS,
    clock: Callable[[], float] = time.time,
) -> Facts:
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
    storage = Background("look-storage", lambda: _read(load, settings.storage_url))
    flow_run = Background("look-prefect", lambda: _ask_prefect(named, settings, clock()))
    is_away = Background("look-mlflow", lambda: _probe_mlflow(settings.tracking_uri))
    facts = Facts(
        name=named.name,
        now=clock(),
        spec=named.spec,
        storage=StorageFacts(
            redacted(settings.storage_url), is_file=file_of(settings.storage_url) is not None
        ),
        called=named.called,
        runner=find_runner(settings.runner_lock(named.name)),
        executor=settings.executor,
    )
    here = site_of(settings.study_folder(named.name))
    facts, data = _with_storage(facts, storage, here, patience_seconds)
    sent = Background("look-sent", lambda: _ask_mlflow(data, settings))
    cluster = Background("look-cluster", lambda: _ask_cluster(facts, settings, open_cluster))
    slots = Background("look-cards", lambda: _count_slots(facts))
    facts = _with_prefect(facts, flow_run, patience_seconds)
    facts = _with_mlflow(facts, settings, is_away, sent, patience_seconds)
    facts = _with_cluster(facts, cluster, patience_seconds)
    try:
        return replace(facts, slots=slots.result(patience_seconds))
    except (NoAnswer, StudyflowError):
        return facts


# ---- the storage --------------------------------------------------------------------------------


def _read(load: Callable[[], StudyData], url: str) -> tuple[StudyData, bool, float]:
    """Return a study, whether it is paused, and how long that last small read took."""
    with storage_errors(url):
        data = load()
        assert data.optuna_study is not None, "a study that was loaded is stored"
        began = time.perf_counter()
        paused = is_paused(data.optuna_study)
        return data, paused, time.perf_counter() - began


def _with_storage(
    facts: Facts,
    storage: Background[tuple[StudyData, bool, float]],
    here: str | None,
    patience_seconds: float,
) -> tuple[Facts, StudyData | None]:
    try:
        data, paused, read_seconds = storage.result(patience_seconds)
    except StorageUnavailable as error:
        absence = Absence(error.message, error.hint or "")
    except NoAnswer as error:
        absence = Absence(
            f"The study storage {facts.storage.place} gives {error}.",
            "is it overloaded, or does a firewall swallow the connection?",
        )
    else:
        assert data.optuna_study is not None, "a study that was loaded is stored"
        known = replace(
            facts,
            spec=data.spec,
            records=data.trials,
            is_paused=paused,
            beats=beats_elsewhere(load_beats(data.optuna_study), here, this_machine()),
            storage=replace(facts.storage, read_seconds=read_seconds),
        )
        return known, data
    return replace(facts, storage=replace(facts.storage, absence=absence)), None


def is_driven(data: StudyData, settings: Settings) -> bool:
    """Return whether a runner is at work on a study: on this machine, or as its storage tells."""
    folder = settings.study_folder(data.spec.name)
    if find_runner(settings.runner_lock(data.spec.name)).is_there:
        return True
    beats = {} if data.optuna_study is None else load_beats(data.optuna_study)
    elsewhere = beats_elsewhere(beats, site_of(folder), this_machine())
    return shows_life(elsewhere.values(), time.time())


# ---- its runner ---------------------------------------------------------------------------------


def find_runner(lock: Path) -> RunnerFacts:
    """Return which processes of this machine drive a study, or wait to.

    Args:
        lock: The file that a runner holds locked.
    """
    if not is_held(lock):
        return RunnerFacts()
    holder = read_holder(lock)
    pid = None if holder is None else holder.pid
    openers = _processes_with(lock)
    return RunnerFacts(
        is_there=True,
        pid=pid,
        is_suspended=pid is not None and _is_suspended(pid),
        standing_by=tuple(sorted(openers - {pid})) if pid in openers else (),
    )


def _is_suspended(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return False


def _processes_with(lock: Path) -> set[int]:
    """Return this user's Python processes that have the file open."""
    path, found = str(lock.resolve()), set()
    for process in psutil.process_iter():
        try:
            is_python = any("python" in part or "studyflow" in part for part in process.cmdline())
            if is_python and any(file.path == path for file in process.open_files()):
                found.add(process.pid)
        except (psutil.Error, OSError):
            continue
    return found - {os.getpid()}


def _count_slots(facts: Facts) -> int | None:
    gpus = 0 if facts.spec is None else facts.spec.trial.resources.gpu
    if not gpus or not executor_kind(facts.executor).hands_out_gpus:
        return None
    return count_slots(detect_gpus(), gpus)


# ---- MLflow -------------------------------------------------------------------------------------


def _probe_mlflow(uri: str | None) -> Absence | None:
    """Return why an MLflow server does not answer at all; `None` when it does, or is none."""
    if uri is None or not uri.startswith("http"):
        return None
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=PROBE_SECONDS):
            return None
    except urllib.request.HTTPError:
        return None  # something answers; what it has against us is seen when runs are asked for
    except (OSError, ValueError) as error:
        return Absence(
            f"MLflow at {redacted(uri)} does not answer: {reason_of(error)}.",
            "is the server up, and is MLFLOW_TRACKING_URI right?",
        )


def _ask_mlflow(data: StudyData | None, settings: Settings) -> TrackingFacts | None:
    """Return what MLflow has of a study; `None` where there is no MLflow.

    Raises:
        TrackingError: It does not answer, or refuses.
    """
    if data is None or importlib.util.find_spec("mlflow") is None:
        return None
    if settings.tracking_uri is None and not (settings.home / "mlflow.db").exists():
        return None
    with StudyContext(data.spec, settings) as context:
        sent = context.mlflow.sent_trials()
    finished = {record.number for record in data.finished}
    return TrackingFacts(redacted(settings.tracking_uri or ""), n_unsent=len(finished - sent))


def _with_mlflow(
    facts: Facts,
    settings: Settings,
    is_away: Background[Absence | None],
    sent: Background[TrackingFacts | None],
    patience_seconds: float,
) -> Facts:
    place = redacted(settings.tracking_uri or "")
    if settings.tracking_uri is None:
        patience_seconds = max(patience_seconds, EMBEDDED_SECONDS)
    try:
        absence = is_away.result(patience_seconds)
    except NoAnswer as error:
        absence = Absence(f"MLflow at {place} gives {error}.")
    if absence is not None:
        return replace(facts, tracking=TrackingFacts(place, absence))
    try:
        return replace(facts, tracking=sent.result(patience_seconds))
    except NoAnswer:
        why = f"its runs could not be counted within {patience_seconds:g} s"
        return replace(facts, unseen={**facts.unseen, "MLflow": why})
    except StudyflowError as error:
        is_refusal = not isinstance(error, TrackingUnavailable)
        absence = Absence(error.message, error.hint or "", is_refusal=is_refusal)
        return replace(facts, tracking=TrackingFacts(place, absence))


# ---- the cluster --------------------------------------------------------------------------------


def _ask_cluster(
    facts: Facts, settings: Settings, open_cluster: Callable[[str | None], ClusterApi]
) -> Survey | None:
    """Return what a study has in the cluster; `None` when its trials run elsewhere.

    Raises:
        StudyflowError: The cluster does not answer, or refuses.
    """
    if not executor_kind(settings.executor).runs_pods:
        return None
    requests = {} if facts.spec is None else trial_resources(facts.spec)
    api = open_cluster(settings.namespace)
    try:
        return survey(api, facts.name, requests, facts.now)
    finally:
        api.close()


def _with_cluster(
    facts: Facts, cluster: Background[Survey | None], patience_seconds: float
) -> Facts:
    try:
        return replace(facts, cluster=cluster.result(patience_seconds))
    except NoAnswer as error:
        absence = Absence(
            f"The Kubernetes API gives {error}.", "is the cluster up, and reachable from here?"
        )
    except StudyflowError as error:
        absence = Absence(error.message, error.hint or "")
    return replace(facts, cluster_absence=absence)


# ---- Prefect ------------------------------------------------------------------------------------


def _ask_prefect(named: Named, settings: Settings, now: float) -> FlowRunFacts | None:
    """Return the study's newest flow run; `None` without a server, or without one.

    Raises:
        OSError: The server does not answer, or refuses.
        ValueError: It answers with something else.
    """
    api = prefect_api(settings)
    if api is None:
        return None
    return newest_flow_run(
        api, named.name, named.called, now, prefect_headers(), timeout=PROBE_SECONDS
    )


def _with_prefect(
    facts: Facts, flow_run: Background[FlowRunFacts | None], patience_seconds: float
) -> Facts:
    try:
        return replace(facts, flow_run=flow_run.result(patience_seconds))
    except (NoAnswer, OSError, ValueError) as error:
        absence = Absence(
            f"Prefect's server does not answer: {reason_of(error)}.",
            "start it, or correct or unset PREFECT_API_URL; without it, flow runs are not seen.",
        )
        return replace(facts, prefect_absence=absence)

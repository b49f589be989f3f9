"""A study that is open as its only runner on this machine, with all that works on it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from studyflow.context import StudyContext
from studyflow.executors import Executor
from studyflow.observers.observer import AnyThreadNotes, Observer, Observers
from studyflow.reports.tracked import study_card
from studyflow.runner.options import RunOptions
from studyflow.runner.shown import Shown, read_shown, study_data
from studyflow.runner_lock import RunnerLock, only_runner
from studyflow.samplers import make_pruner
from studyflow.samplers.ahead.opening import suggestions_ahead
from studyflow.storage import PatientStorage, storage_errors
from studyflow.study import Study, beats_elsewhere, heartbeat, shows_life, this_machine
from studyflow.study.retries import retry_failed
from studyflow.tracking.memory import URI as MEMORY_URI
from studyflow.tracking.mirror import Mirror
from studyflow.trial.private_files import make_private_folder, tighten_home
from studyflow.tuner import Tuner

CLOSE_SECONDS: Final = 5.0
"""How long an interrupted runner waits for MLflow: whoever ends it (Kubernetes: after 30 s) does
not wait long either."""

OPENING_SECONDS: Final = 10.0
"""How long a starting study waits for an MLflow server before it runs without it."""

EMBEDDED_OPENING_SECONDS: Final = 90.0
"""The same for the embedded database: nothing can be away, but importing MLflow and creating the
tables takes long on a busy machine."""


@dataclass(frozen=True, slots=True)
class Run:
    """A study that is open, and all that works on it."""

    context: StudyContext
    study: Study
    mirror: Mirror
    tuner: Tuner
    site: str
    """Where its attempts are."""
    shown: Shown | None = None
    """What an earlier runner has shown of it and still held when it was opened."""

    @property
    def is_shared(self) -> bool:
        """Whether another runner works on the study too, and continues when this one ends."""
        beats = beats_elsewhere(self.study.notices().beats, self.site, this_machine())
        seen = [beats[site] for site in self.tuner.others if site in beats]
        is_seen = any(not beat.get("is_last", False) for beat in seen)
        return is_seen or self.tuner.is_joined or shows_life(beats.values(), time.time())


@contextmanager
def open_run(
    context: StudyContext,
    observer: Observer,
    options: RunOptions,
    standby_seconds: float = math.inf,
) -> Iterator[Run]:
    """Open a study as its only runner on this machine, and close everything at the end.

    Raises:
        StudyIsDriven: Another runner drove it for longer than `standby_seconds`.
        StudyflowError: It cannot be opened.
    """
    spec, settings = context.spec, context.settings
    for folder in (settings.home, context.folder.parent, context.folder):
        make_private_folder(folder)
    with (
        _tightened(settings.home),
        only_runner(settings.runner_lock(spec.name), observer, standby_seconds) as lock,
        storage_errors(settings.storage_url),
        suggestions_ahead(spec) as (make_sampler, ahead),
    ):
        notes = AnyThreadNotes(observer)
        observer.starting("opening the study's storage")
        storage = context.open_storage(on_wait=notes.take)
        if options.retries_failed and (n_retried := retry_failed(spec, storage)):
            observer.noted(f"{n_retried} failed trials have their budget back and are tried again.")
        study = Study.open(
            spec,
            storage,
            make_sampler=make_sampler,
            pruner=make_pruner(spec),
            fork_from=options.fork_from,
            ahead=ahead,
        )
        shown = read_shown(context, study_data(study))
        with _working(context, study, observer, options, lock, shown) as (executor, mirror):
            tuner = Tuner(
                study,
                executor,
                mirror.for_loop(),
                Observers(observer, notes),
                settings=replace(options.tuner, prices=settings.prices),
                ends_trials=_limiting_patience(storage, options.ends_trials),
                leaves=options.leaves,
                on_spec=lambda kept: mirror.renew_study(study_card(kept)),
            )
            with heartbeat(study, context.storage, executor.site):
                yield Run(context, study, mirror, tuner, executor.site, shown)


@contextmanager
def _tightened(home: Path) -> Iterator[None]:
    """Keep for its user alone what earlier versions, and libraries meanwhile, made in a home."""
    tighten_home(home)
    try:
        yield
    finally:
        tighten_home(home)


def _limiting_patience(
    storage: PatientStorage, ends_trials: Callable[[], bool]
) -> Callable[[], bool]:
    """Return `ends_trials` for a runner that leaves: it waits for no storage any longer."""

    def leave() -> bool:
        storage.limit_patience(CLOSE_SECONDS)
        return ends_trials()

    return leave


@contextmanager
def _working(
    context: StudyContext,
    study: Study,
    observer: Observer,
    options: RunOptions,
    lock: RunnerLock,
    shown: Shown | None,
) -> Iterator[tuple[Executor, Mirror]]:
    """Open what runs the study's attempts and what shows them, and close both at the end."""
    observer.starting(f"opening the executor ({context.settings.executor})")
    executor = context.open_executor(
        study, options.folder, on_note=observer.noted, keep=lock.take_again
    )
    try:
        mirror = Mirror(context.tracker, files=context.attempt_files)
        try:
            if shown is None:
                _show(context, study, mirror, observer)
            elif shown.run_url is not None:
                observer.tracked(shown.run_url)
            if options.on_executor is not None:
                options.on_executor(executor)
            yield executor, mirror
        finally:
            mirror.close(CLOSE_SECONDS)
    finally:
        executor.close()


def _show(context: StudyContext, study: Study, mirror: Mirror, observer: Observer) -> None:
    """Open the study's run in MLflow, and say where it is."""
    if mirror.tracker.uri == MEMORY_URI and not context.has_mlflow:
        observer.noted("MLflow is not installed: pip install 'studyflow[mlflow]' to see runs.")
    is_embedded = context.settings.tracking_uri is None
    patience = EMBEDDED_OPENING_SECONDS if is_embedded else OPENING_SECONDS
    observer.starting(_mlflow_step(context))
    mirror.open_study(study_card(study.kept_spec()), patience)
    if (url := mirror.tracker.run_url()) is not None:
        observer.tracked(url)
    mirror.resume(study.records())


def _mlflow_step(context: StudyContext) -> str:
    """Return in a few words what opening MLflow is about to do."""
    settings = context.settings
    if settings.tracking_uri is not None:
        return "waiting for the MLflow server"
    is_new = not (settings.home / "mlflow.db").exists()
    return "creating MLflow's database, once" if is_new else "opening MLflow"

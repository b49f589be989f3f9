"""Runs a study from its file to its report: opens it, drives its trials, reports what came out.

Both the command line and Prefect's flow call `run_study`; they differ only in who watches.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from studyflow.context import StudyContext
from studyflow.errors import StorageUnavailable, StudyNotFound
from studyflow.executors import Executor, ExecutorWithLogs
from studyflow.observers.notify import notified
from studyflow.observers.observer import AnyThreadNotes, Observer, Observers
from studyflow.reports import Report, StudyData
from studyflow.reports.tracked import study_card, study_summary
from studyflow.runner_lock import RunnerLock, StudyIsDriven, only_runner
from studyflow.samplers import make_pruner, make_sampler
from studyflow.spec import StudySpec
from studyflow.storage import PatientStorage, open_storage, quiet_optuna, storage_errors
from studyflow.study import (
    Study,
    beats_elsewhere,
    find_study,
    heartbeat,
    load_records,
    shows_life,
    this_machine,
)
from studyflow.tracking.memory import URI as MEMORY_URI
from studyflow.tracking.mirror import Mirror
from studyflow.trial.private_files import make_private_folder, tighten_home
from studyflow.tuner import Tuner, TunerResult, TunerSettings

_log = logging.getLogger(__name__)

FLUSH_SECONDS: Final = 60.0
"""How long a finished study waits for MLflow before it leaves the rest to `studyflow sync`."""

CLOSE_SECONDS: Final = 5.0
"""How long an interrupted runner waits for MLflow: whoever ends it (Kubernetes: after 30 s) does
not wait long either."""

CANCEL_SECONDS: Final = 600.0
"""How long `cancel_study` tries to end attempts: nobody waits for it, and nobody comes after it."""

OPENING_SECONDS: Final = 10.0
"""How long a starting study waits for an MLflow server before it runs without it."""

EMBEDDED_OPENING_SECONDS: Final = 90.0
"""The same for the embedded database: nothing can be away, but importing MLflow and creating the
tables takes long on a busy machine."""

CANCELLED_SECONDS: Final = 30.0
"""How long a runner that was cancelled may take to end before its study counts as another one's."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What a run is given besides the study file and the settings."""

    folder: Path
    """Folder that relative paths in `trial.command` start from."""
    fork_from: str | None = None
    """Study whose trials a new one takes over; `None` for none."""
    tuner: TunerSettings = field(default_factory=TunerSettings)
    """Numbers of the loop."""
    on_executor: Callable[[ExecutorWithLogs], None] | None = None
    """Is given the executor before the first trial, for reading logs."""
    ends_trials: Callable[[], bool] = lambda: True
    """Asked when the runner is told to end: whether its trials end with it."""
    leaves: Callable[[], bool] = lambda: False
    """Asked all the time: whether to start nothing more, and to leave when the running trials have
    ended."""


@dataclass(frozen=True)
class StudyResult:
    """A study as a runner left it."""

    data: StudyData
    outcome: TunerResult
    report: Report | None
    """Figures, tables and the page; `None` when there was nothing to show."""
    tracking_uri: str
    run_url: str | None
    """The parent run in a browser; `None` for an embedded MLflow, unless `studyflow ui` runs."""
    report_url: str | None = None
    """The report in a browser, among the parent run's artifacts; `None` without one."""
    n_unsent: int = 0
    """Trials, and pictures of the whole study, that MLflow does not have completely yet; `studyflow
    sync` sends them."""
    refusal: str | None = None
    """Why MLflow refuses the whole study; `None` when it does not, or is only away."""

    @property
    def is_shown(self) -> bool:
        """Whether there is an MLflow; without one runs are kept nowhere."""
        return self.tracking_uri != MEMORY_URI

    @property
    def spec(self) -> StudySpec:
        """The study file, with the flags' changes."""
        return self.data.spec


def run_study(context: StudyContext, observer: Observer, options: RunOptions) -> StudyResult:
    """Run a study to the end of its budget and return what came out.

    A study that exists already is continued. While another runner on this machine drives it, this
    one stands by and takes over when that one ends. What is used of the context is closed at the
    end.

    Args:
        context: The study file, and where everything is.
        observer: Hears of everything.
        options: What is special about this run.

    Raises:
        SpecError: It asks for pods that no trial may have, or not here; nothing was started.
        StudyflowError: The study cannot be run; nothing that was computed is lost.
    """
    with notified(context.spec, observer) as told:
        try:
            context.check()
            with open_run(context, told, options) as run:
                result = _drive(run, told)
        except Exception as error:
            told.ended(context.redactor(str(error)), is_failure=True, run_url=None)
            raise
        if not result.outcome.has_left:
            told.ended(result.outcome.reason, result.outcome.is_failure, result.run_url)
        return result


def cancel_study(context: StudyContext, observer: Observer, *, folder: Path) -> None:
    """End the running attempts of a study whose runner was killed, and record their trials.

    What is finished stays; the study can be continued later. A study that was never begun stays so,
    and one that another runner on this machine drives by now is left to that one.

    Args:
        context: The study; what is stored of it counts, not the numbers of the run that was killed.
        observer: Hears of everything, and of what is left after `CANCEL_SECONDS`.
        folder: Folder that relative paths in `trial.command` start from.

    Raises:
        StudyflowError: The attempts cannot be ended.
    """
    observer = Observers(observer)
    name, url = context.spec.name, context.settings.storage_url
    try:
        with storage_errors(url):
            stored, _ = load_records(find_study(name, open_storage(url, create=False)))
        if stored is not None:
            context = context.with_spec(stored)
        with open_run(context, observer, RunOptions(folder), CANCELLED_SECONDS) as run:
            run.tuner.cancel(CANCEL_SECONDS)
            _close_interrupted(run, observer)
    except StudyNotFound:
        observer.noted(f"Nothing to cancel: the study {name!r} was never begun.")
    except StudyIsDriven:
        observer.noted(f"Nothing to cancel: another runner drives the study {name!r}.")


@dataclass(frozen=True, slots=True)
class Run:
    """A study that is open, and all that works on it."""

    context: StudyContext
    study: Study
    mirror: Mirror
    tuner: Tuner
    site: str
    """Where its attempts are."""

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
    quiet_optuna()
    spec, settings = context.spec, context.settings
    for folder in (settings.home, context.folder.parent, context.folder):
        make_private_folder(folder)
    with (
        _tightened(settings.home),
        only_runner(settings.runner_lock(spec.name), observer, standby_seconds) as lock,
        storage_errors(settings.storage_url),
    ):
        opened_storage = open_storage(settings.storage_url)
        notes = AnyThreadNotes(observer)
        storage = PatientStorage(
            opened_storage, settings.storage_patience_seconds, on_wait=notes.take
        )
        study = Study.open(
            spec,
            storage,
            make_sampler=lambda seed, n_trials: make_sampler(spec, seed, n_trials),
            pruner=make_pruner(spec),
            fork_from=options.fork_from,
        )
        with _working(context, study, observer, options, lock) as (executor, mirror):
            tuner = Tuner(
                study,
                executor,
                mirror,
                Observers(observer, notes),
                settings=options.tuner,
                ends_trials=_limiting_patience(storage, options.ends_trials),
                leaves=options.leaves,
                on_spec=lambda kept: mirror.renew_study(study_card(kept)),
            )
            with heartbeat(study, opened_storage, executor.site):
                yield Run(context, study, mirror, tuner, executor.site)


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
) -> Iterator[tuple[Executor, Mirror]]:
    """Open what runs the study's attempts and what shows them, and close both at the end."""
    executor = context.open_executor(
        study, options.folder, on_note=observer.noted, keep=lock.take_again
    )
    try:
        mirror = Mirror(context.tracker, files=context.attempt_files)
        try:
            _show(context, study, mirror, observer)
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
    mirror.open_study(study_card(study.kept_spec()), patience)
    if (url := mirror.tracker.run_url()) is not None:
        observer.tracked(url)
    mirror.resume(study.records())


def _drive(run: Run, observer: Observer) -> StudyResult:
    with ExitStack() as interrupted:
        interrupted.callback(_close_interrupted, run, observer)
        outcome = run.tuner.drive()
        interrupted.pop_all()
    return _close(run, outcome, observer)


def _close(
    run: Run, outcome: TunerResult, observer: Observer, flush_seconds: float = FLUSH_SECONDS
) -> StudyResult:
    """Write the report and bring MLflow up to date, as far as it answers."""
    study, mirror = run.study, run.mirror
    data = StudyData(study.spec, study.records(), study.optuna_study)
    mirror.resume(data.records)  # what other runners recorded
    run_url = mirror.tracker.run_url()
    observer.noted("Writing the report.")
    report, problem = run.context.write_report(data, {"MLflow": run_url} if run_url else {})
    if problem is not None:
        _log.warning("%s", problem)
    mirror.close_study(
        study_summary(data, report, finished=outcome.is_finished, is_driven=run.is_shared)
    )
    n_unsent = mirror.flush(flush_seconds)
    report_url = None if report is None else mirror.tracker.run_url(artifact=report.html.name)
    return StudyResult(
        data=data,
        outcome=outcome,
        report=report,
        tracking_uri=mirror.tracker.uri,
        run_url=run_url,
        report_url=report_url,
        n_unsent=n_unsent,
        refusal=mirror.refusal,
    )


def _close_interrupted(run: Run, observer: Observer) -> None:
    """Show what there is; whatever fails here must not hide why the runner ends."""
    interrupted = TunerResult("The runner was interrupted.", is_finished=False)
    try:
        _close(run, interrupted, observer, CLOSE_SECONDS)
    except StorageUnavailable as error:
        _log.info("The interrupted study is not shown in MLflow: %s", error)
    except Exception:  # noqa: BLE001 - whatever it is, the runner ends for another reason
        _log.warning("The interrupted study could not be closed", exc_info=True)

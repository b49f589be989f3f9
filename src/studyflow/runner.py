"""Runs a study from its file to its report: puts storage, sampler, executor and MLflow together.

Both the command line and Prefect's flow call `run_study`; they differ only in who watches.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import optuna

from studyflow.embedded import running_mlflow_pages
from studyflow.errors import StorageUnavailable, StudyflowError, StudyNotFound
from studyflow.executors import AttemptId, Executor
from studyflow.executors.local import LocalExecutor
from studyflow.observers.notify import notified
from studyflow.observers.observer import AnyThreadNotes, Observer, Observers
from studyflow.redaction import Redactor, secrets_of
from studyflow.reports import Report, StudyData, build_report, summary_markdown
from studyflow.reports.apart import build_report_apart, is_for_apart
from studyflow.runner_lock import StudyIsDriven, only_runner
from studyflow.samplers import make_pruner, make_sampler
from studyflow.settings import Settings
from studyflow.spec import StudySpec
from studyflow.storage import PatientStorage, open_storage, storage_errors
from studyflow.study import (
    Study,
    beats_elsewhere,
    find_study,
    heartbeat,
    load_records,
    n_trials_to_finish,
    shows_life,
    this_machine,
)
from studyflow.tracking import StudyCard, StudySummary, Tracker
from studyflow.tracking.memory import URI as MEMORY_URI
from studyflow.tracking.mirror import Mirror
from studyflow.trial.record import TrialRecord
from studyflow.tuner import Tuner, TunerResult, TunerSettings

if TYPE_CHECKING:
    from studyflow.tracking.mlflow import MLflowTracker

_log = logging.getLogger(__name__)

FLUSH_SECONDS: Final = 60.0
"""How long a finished study waits for MLflow before it leaves the rest to `studyflow sync`."""

CLOSE_SECONDS: Final = 5.0
"""How long an interrupted runner waits for MLflow: whoever ends it (Kubernetes: after 30 s) does
not wait long either."""

CANCEL_SECONDS: Final = 600.0
"""How long `cancel_study` tries to end attempts: nobody waits for it, and nobody comes after it."""

OPENING_SECONDS: Final = 10.0
"""How long a starting study waits for an MLflow server before it goes on without it."""

EMBEDDED_OPENING_SECONDS: Final = 90.0
"""The same for the embedded database: nothing can be away, but importing MLflow and creating the
tables takes long on a busy machine."""

CANCELLED_SECONDS: Final = 30.0
"""How long a runner that was cancelled may take to end before its study counts as another one's."""


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


def run_study(
    spec: StudySpec,
    settings: Settings,
    observer: Observer,
    *,
    folder: Path,
    fork_from: str | None = None,
    tuner_settings: TunerSettings | None = None,
    on_executor: Callable[[Executor], None] | None = None,
    ends_trials: Callable[[], bool] = lambda: True,
    leaves: Callable[[], bool] = lambda: False,
) -> StudyResult:
    """Run a study to the end of its budget and return what came out.

    A study that exists already is continued. While another runner on this machine drives it, this
    one stands by and takes over when that one ends.

    Args:
        spec: The study file.
        settings: Where storage, MLflow and files are.
        observer: Hears of everything.
        folder: Folder that relative paths in `trial.command` start from.
        fork_from: Study whose trials a new one takes over.
        tuner_settings: Numbers of the loop.
        on_executor: Is given the executor before the first trial, for reading logs.
        ends_trials: Asked when this runner is told to end: whether its trials end with it.
        leaves: Asked all the time: whether this runner is to start nothing more, and to leave when
            its running trials have ended.

    Raises:
        StudyflowError: The study cannot be run; nothing that was computed is lost.
    """
    with notified(spec, observer) as told:
        try:
            with _opened(
                spec,
                settings,
                told,
                folder,
                fork_from,
                tuner_settings,
                on_executor,
                ends_trials,
                leaves,
            ) as run:
                result = _drive(run, settings, told)
        except Exception as error:
            told.ended(make_redactor(spec, settings)(str(error)), is_failure=True, run_url=None)
            raise
        if not result.outcome.has_left:
            told.ended(result.outcome.reason, result.outcome.is_failure, result.run_url)
        return result


def _drive(run: _Run, settings: Settings, observer: Observer) -> StudyResult:
    try:
        outcome = run.tuner.drive()
    except BaseException:
        _close_interrupted(run, settings, observer)
        raise
    return _close(run, settings, outcome, observer)


def cancel_study(spec: StudySpec, settings: Settings, observer: Observer, *, folder: Path) -> None:
    """End the running attempts of a study whose runner was killed, and record their trials.

    What is finished stays; the study can go on later. A study that was never begun stays so, and
    one that another runner on this machine drives by now is left to that one.

    Args:
        spec: The study; what is stored of it counts, not the numbers of the run that was killed.
        settings: Where storage, MLflow and files are.
        observer: Hears of everything, and of what is left after `CANCEL_SECONDS`.
        folder: Folder that relative paths in `trial.command` start from.

    Raises:
        StudyflowError: The attempts cannot be ended.
    """
    observer = Observers(observer)
    try:
        with storage_errors(settings.storage_url):
            storage = open_storage(settings.storage_url, create=False)
            stored, _ = load_records(find_study(spec.name, storage))
        with _opened(
            stored or spec, settings, observer, folder, standby_seconds=CANCELLED_SECONDS
        ) as run:
            run.tuner.cancel(CANCEL_SECONDS)
            _close_interrupted(run, settings, observer)
    except StudyNotFound:
        observer.noted(f"Nothing to cancel: the study {spec.name!r} was never begun.")
    except StudyIsDriven:
        observer.noted(f"Nothing to cancel: another runner drives the study {spec.name!r}.")


@dataclass(frozen=True, slots=True)
class _Run:
    """What a runner needs, put together."""

    study: Study
    mirror: Mirror
    tuner: Tuner
    site: str
    """Where its attempts are."""

    @property
    def is_shared(self) -> bool:
        """Whether another runner works on the study too, and goes on when this one ends."""
        beats = beats_elsewhere(self.study.notices().beats, self.site, this_machine())
        seen = [beats[site] for site in self.tuner.others if site in beats]
        is_seen = any(not beat.get("is_last", False) for beat in seen)
        return is_seen or self.tuner.is_joined or shows_life(beats.values(), time.time())


@contextmanager
def _opened(
    spec: StudySpec,
    settings: Settings,
    observer: Observer,
    folder: Path,
    fork_from: str | None = None,
    tuner_settings: TunerSettings | None = None,
    on_executor: Callable[[Executor], None] | None = None,
    ends_trials: Callable[[], bool] = lambda: True,
    leaves: Callable[[], bool] = lambda: False,
    standby_seconds: float = math.inf,
) -> Iterator[_Run]:
    """Open a study as its only runner on this machine, and let go of everything at the end."""
    quiet_optuna()
    settings.study_folder(spec.name).mkdir(parents=True, exist_ok=True)
    with (
        only_runner(settings.runner_lock(spec.name), observer, standby_seconds) as lock,
        storage_errors(settings.storage_url),
    ):
        opened_storage = open_storage(settings.storage_url)
        notes = AnyThreadNotes(observer)
        storage = PatientStorage(
            opened_storage,
            settings.storage_patience_seconds,
            on_wait=notes.take,
        )

        def leave() -> bool:
            storage.limit_patience(CLOSE_SECONDS)
            return ends_trials()

        study = Study.open(
            spec,
            storage,
            make_sampler=lambda seed, n_trials: make_sampler(spec, seed, n_trials),
            pruner=make_pruner(spec),
            fork_from=fork_from,
        )
        executor = make_executor(study, settings, folder, observer, lock.take_again)
        mirror = Mirror(
            make_tracker(settings, spec, observer),
            files=lambda record: attempt_files(executor, record),
        )
        if on_executor is not None:
            on_executor(executor)
        try:
            mirror.open_study(study_card(study.kept_spec()), _opening_patience(settings))
            if (url := mirror.tracker.run_url()) is not None:
                observer.tracked(url)
            mirror.resume(study.records())
            tuner = Tuner(
                study,
                executor,
                mirror,
                Observers(observer, notes),
                settings=tuner_settings or TunerSettings(),
                ends_trials=leave,
                leaves=leaves,
                on_spec=lambda kept: mirror.renew_study(study_card(kept)),
            )
            with heartbeat(study, opened_storage, executor.site):
                yield _Run(study, mirror, tuner, executor.site)
        finally:
            mirror.close(CLOSE_SECONDS)
            executor.close()


def _opening_patience(settings: Settings) -> float:
    return EMBEDDED_OPENING_SECONDS if settings.tracking_uri is None else OPENING_SECONDS


def make_tracker(settings: Settings, spec: StudySpec, observer: Observer | None = None) -> Tracker:
    """Return the tracker of a study: MLflow by URI or embedded; in memory without MLflow."""
    if importlib.util.find_spec("mlflow") is None:
        from studyflow.tracking.memory import MemoryTracker

        if observer is not None:
            observer.noted("MLflow is not installed: pip install 'studyflow[mlflow]' to see runs.")
        return MemoryTracker()
    return make_mlflow_tracker(settings, spec)


def make_mlflow_tracker(settings: Settings, spec: StudySpec) -> MLflowTracker:
    """Return the tracker of a study in MLflow, which is installed."""
    from studyflow.tracking.mlflow import MLflowTracker

    if settings.tracking_uri is not None:
        return MLflowTracker(
            settings.tracking_uri,
            spec.name,
            experiment=spec.experiment,
            redact=make_redactor(spec, settings),
        )
    settings.home.mkdir(parents=True, exist_ok=True)
    return MLflowTracker(
        tracking_uri(settings),
        spec.name,
        experiment=spec.experiment,
        pages=running_mlflow_pages(settings),
        redact=make_redactor(spec, settings),
    )


def make_redactor(spec: StudySpec, settings: Settings) -> Redactor:
    """Return what takes out of texts the secrets that a study's runner knows.

    Those are the passwords of its servers' addresses, its variables for secrets, and those that the
    study file gives its trials.
    """
    addresses = (settings.storage_url, settings.tracking_uri or "")
    found = secrets_of({**os.environ, **spec.trial.env}, addresses)
    withheld = (os.environ.get(name, "") for name in _secret_variables(spec))
    return Redactor({*found, *withheld})


def tracking_uri(settings: Settings) -> str:
    """Return where MLflow is, embedded or not."""
    from studyflow.tracking.mlflow import embedded_uri

    return settings.tracking_uri or embedded_uri(settings.home)


def study_card(spec: StudySpec) -> StudyCard:
    """Return what a tracker shows of a study from its first moment."""
    return StudyCard(
        name=spec.name,
        directions=spec.directions,
        objectives=tuple(objective.metric for objective in spec.objectives),
        spec_yaml=spec.to_yaml(),
        description=spec.description,
        tags=spec.tags,
        n_trials=n_trials_to_finish(spec),
        parameters=tuple(spec.search_space),
    )


def study_summary(
    data: StudyData, report: Report | None, *, finished: bool, is_driven: bool = False
) -> StudySummary:
    """Return what a tracker shows of a study at its end, or at the end of one runner.

    Args:
        data: The study.
        report: Its report, if one was written.
        finished: Whether the study needs no further runner.
        is_driven: Whether another runner goes on with it.
    """
    files: dict[str, Path] = {}
    if report is not None:
        files = {"report.html": report.html}
        pictures = [*report.figures.values(), *([report.animation] if report.animation else [])]
        files |= {f"figures/{path.name}": path for path in pictures}
    return StudySummary(
        finished=finished,
        best=data.best,
        records=data.records,
        note_markdown=summary_markdown(data),
        files=files,
        is_driven=is_driven and not finished,
    )


def attempt_files(
    executor: Executor, record: TrialRecord
) -> tuple[Path | None, tuple[Path, ...], Path | None]:
    """Return log, artifacts and metrics file of a trial's newest attempt."""
    files = executor.files(AttemptId(record.number, record.attempt))
    return files.log, files.artifacts, files.metrics


def open_executor(spec: StudySpec, settings: Settings) -> Executor:
    """Return an executor that reads what a study's attempts left behind, and starts none.

    Whether the command could run here does not matter: a study is read from any folder.
    """
    root = settings.study_folder(spec.name)
    if settings.executor == "kubernetes":
        from studyflow.executors.kubernetes import KubernetesExecutor
        from studyflow.executors.kubernetes.api import KubernetesApi

        return KubernetesExecutor(
            spec,
            api=KubernetesApi(settings.namespace),
            root=root,
            redact=make_redactor(spec, settings),
        )
    return LocalExecutor(
        spec.name,
        ("python",),
        root=root,
        cwd=root,
        timeout_seconds=None,
        redact=make_redactor(spec, settings),
    )


def _secret_variables(spec: StudySpec) -> tuple[str, ...]:
    """Return the runner's variables that trials have no use for: a script may print its own."""
    notify = spec.notify
    return () if notify is None or notify.url_env is None else (notify.url_env,)


def make_executor(
    study: Study,
    settings: Settings,
    folder: Path,
    observer: Observer | None = None,
    keep: Callable[[], None] | None = None,
) -> Executor:
    """Return the executor that the settings name, for the attempts of a study.

    Args:
        study: The study.
        settings: Where trials run.
        folder: Folder that relative paths in `trial.command` start from, locally.
        observer: Hears of what cannot be had here.
        keep: Sees to it that the caller's own files in the study's folder are there, if it was
            removed and made again.

    Raises:
        ExecutorError: Trials cannot run there.
    """
    spec, root = study.spec, settings.study_folder(study.spec.name)
    if settings.executor == "local":
        return LocalExecutor(
            spec.name,
            spec.trial.command,
            root=root,
            cwd=folder,
            env=spec.trial.env,
            withheld_env=_secret_variables(spec),
            timeout_seconds=spec.trial.timeout_seconds,
            gpus_per_trial=spec.trial.resources.gpu,
            redact=make_redactor(spec, settings),
            keep=keep,
        )
    # The client takes half a second to import, and most runners need none.
    from studyflow.executors.kubernetes import KubernetesExecutor
    from studyflow.executors.kubernetes.api import KubernetesApi

    reached = settings.trial_tracking_uri or settings.tracking_uri
    if observer is not None and (reached is None or not reached.startswith("http")):
        observer.noted(
            "MLflow is a file on this machine, which pods do not reach: no metrics by step, no "
            "artifacts. Hint: set MLFLOW_TRACKING_URI to an MLflow server."
        )
    return KubernetesExecutor(
        spec,
        api=KubernetesApi(settings.namespace),
        root=root,
        image=study.pinned_image(),
        on_image=study.pin_image,
        tracking_uri=settings.trial_tracking_uri,
        redact=make_redactor(spec, settings),
    )


def _close(
    run: _Run,
    settings: Settings,
    outcome: TunerResult,
    observer: Observer,
    flush_seconds: float = FLUSH_SECONDS,
) -> StudyResult:
    """Write the report and bring MLflow up to date, as far as it answers."""
    study, mirror = run.study, run.mirror
    data = StudyData(study.spec, study.records(), study.optuna_study)
    mirror.resume(data.records)  # what other runners recorded
    run_url = mirror.tracker.run_url()
    links = {"MLflow": run_url} if run_url else {}
    observer.noted("Writing the report.")
    report, problem = write_report(data, settings, links)
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


def _close_interrupted(run: _Run, settings: Settings, observer: Observer) -> None:
    """Show what there is; whatever fails here must not hide why the runner ends."""
    interrupted = TunerResult("The runner was interrupted.", is_finished=False)
    try:
        _close(run, settings, interrupted, observer, CLOSE_SECONDS)
    except StorageUnavailable as error:
        _log.info("The interrupted study is not shown in MLflow: %s", error)
    except Exception:  # noqa: BLE001 - whatever it is, the runner ends for another reason
        _log.warning("The interrupted study could not be closed", exc_info=True)


def write_report(
    data: StudyData, settings: Settings, links: Mapping[str, str] | None = None
) -> tuple[Report | None, str | None]:
    """Return the report as written, or why there is none: no result hangs on a picture."""
    build = build_report_apart if is_for_apart(data) else build_report
    try:
        report = build(
            data,
            settings.report_folder(data.spec.name),
            links=links or {},
            generated_at=time.time(),
        )
    except StudyflowError as error:
        return None, f"The report was not written: {error}"
    except Exception as error:  # noqa: BLE001 - whatever is wrong with a plot, the study goes on
        _log.info("The report was not written", exc_info=True)
        return None, f"The report was not written: {type(error).__name__}: {error}"
    return report, None


def quiet_optuna() -> None:
    """Leave the story to our own log: Optuna's repeats it, and says less."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)

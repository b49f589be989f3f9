"""What belongs to one study here: its storage, MLflow, executor, what to redact, its report."""

from __future__ import annotations

import importlib.util
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from studyflow.errors import MissingExtra, StudyflowError
from studyflow.executors import AttemptId, ExecutorWithLogs
from studyflow.executors.earlier import of_present_protocol
from studyflow.executors.kind import ExecutorKind, ExecutorSetup
from studyflow.executors.registry import executor_kind
from studyflow.ledger.limits import missing_price
from studyflow.redaction import Redactor, secrets_of
from studyflow.reports import Report, StudyData, build_report
from studyflow.reports.page import TrialLinks
from studyflow.reports.subprocess_report import build_report_in_subprocess, needs_subprocess
from studyflow.servers.announced import running_mlflow_pages
from studyflow.settings import TOKEN_KEY_VARIABLE, Settings
from studyflow.spec import Problem, StudySpec
from studyflow.spec.reader import spec_error
from studyflow.storage import PatientStorage, open_storage, quiet_optuna, storage_errors
from studyflow.study import Study, find_study, load_records
from studyflow.tracking import Tracker
from studyflow.tracking.memory import MemoryTracker
from studyflow.trial.attempt_files import AttemptFiles
from studyflow.trial.private_files import make_private_folder, tighten
from studyflow.trial.record import TrialRecord

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

    from studyflow.tracking.mlflow import MLflowTracker

_log = logging.getLogger(__name__)


class StudyContext:
    """A study and its surroundings. Each part is made once, when it is first used.

    Reading commands use it in a `with` block, which closes what was made. A runner hands the
    tracker to its mirror and closes the executor itself, since both may need time at the end.

    Args:
        spec: The study file.
        settings: Where storage, MLflow, trials and files are.
        tracker: Where the study is shown instead of MLflow; `None` for MLflow, if it is installed.
    """

    def __init__(
        self, spec: StudySpec, settings: Settings, *, tracker: Tracker | None = None
    ) -> None:
        self.spec = spec
        self.settings = settings
        self._given_tracker = tracker
        self._executor: ExecutorWithLogs | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the tracker and the executor, if they were used."""
        if (tracker := self.__dict__.get("tracker")) is not None:
            tracker.close()
        if self._executor is not None:
            self._executor.close()

    def with_spec(self, spec: StudySpec) -> StudyContext:
        """Return the context of another version of the study file."""
        return StudyContext(spec, self.settings, tracker=self._given_tracker)

    @property
    def folder(self) -> Path:
        """Folder of the study's files on this machine."""
        return self.settings.study_folder(self.spec.name)

    @cached_property
    def redactor(self) -> Redactor:
        """Takes out of texts the secrets that a study's runner knows.

        Those are the passwords of its servers' addresses, its variables for secrets, and those that
        the study file gives its trials.
        """
        addresses = (self.settings.storage_url, self.settings.tracking_uri or "")
        found = secrets_of({**os.environ, **self.spec.trial.env}, addresses)
        withheld = (os.environ.get(name, "") for name in self._runner_secrets)
        return Redactor({*found, *withheld})

    # The storage

    @cached_property
    def storage(self) -> BaseStorage:
        """The study's storage as it answers, or does not; made if it is not there yet.

        Raises:
            StorageUnavailable: It does not answer.
            StudyError: It is none, or of another version.
        """
        quiet_optuna()
        return open_storage(self.settings.storage_url)

    def open_storage(self, *, on_wait: Callable[[str], None]) -> PatientStorage:
        """Return the storage as a runner uses it: it waits for a database that is away.

        Args:
            on_wait: Told, by any thread, that the storage is away, and later that it is back.

        Raises:
            StorageUnavailable: It does not answer now.
            StudyError: It is none, or of another version.
        """
        patience = self.settings.storage_patience_seconds
        return PatientStorage(self.storage, patience, on_wait=on_wait)

    def as_stored(self) -> StudyContext:
        """Return the context of the study file that the storage holds; this one if it holds none.

        Raises:
            StudyNotFound: The storage has no such study.
            StorageUnavailable: It does not answer.
        """
        url = self.settings.storage_url
        with storage_errors(url):
            stored, _ = load_records(find_study(self.spec.name, open_storage(url, create=False)))
        return self if stored is None else self.with_spec(stored)

    # MLflow

    @property
    def has_mlflow(self) -> bool:
        """Whether MLflow is installed."""
        return importlib.util.find_spec("mlflow") is not None

    @property
    def is_in_mlflow(self) -> bool:
        """Whether the study is shown in MLflow, and in no tracker that was given."""
        return self._given_tracker is None and self.has_mlflow

    @cached_property
    def tracker(self) -> Tracker:
        """Where the study is shown: in MLflow, by URI or embedded; without MLflow, in memory."""
        if self._given_tracker is not None:
            return self._given_tracker
        return self._open_mlflow() if self.has_mlflow else MemoryTracker()

    @property
    def mlflow(self) -> MLflowTracker:
        """The tracker, which is MLflow's.

        Raises:
            MissingExtra: MLflow is not installed.
        """
        from studyflow.tracking.mlflow import MLflowTracker

        if not isinstance(self.tracker, MLflowTracker):
            raise MissingExtra(f"Showing the study {self.spec.name!r} in MLflow", "mlflow")
        return self.tracker

    def _open_mlflow(self) -> MLflowTracker:
        from studyflow.tracking.mlflow import MLflowTracker, embedded_uri

        settings = self.settings
        if settings.tracking_uri is not None:
            return MLflowTracker(
                settings.tracking_uri,
                self.spec.name,
                experiment=self.spec.experiment,
                pages=settings.mlflow_public_url,
                redact=self.redactor,
                is_gated=settings.mlflow_token_key is not None,
            )
        make_private_folder(settings.home)
        return MLflowTracker(
            embedded_uri(settings.home),
            self.spec.name,
            experiment=self.spec.experiment,
            pages=settings.mlflow_public_url or running_mlflow_pages(settings),
            redact=self.redactor,
        )

    # The executor

    def check(self) -> None:
        """Make sure that the study asks its executor for nothing that it may not have.

        Raises:
            SpecError: It does; every problem is in the message.
            PlatformError: What it may ask for cannot be read.
        """
        problems = self._kind.judge(self.spec, self.settings)
        unpriced = missing_price(self.spec, self.settings.prices)
        if unpriced is not None:
            problems = (*problems, Problem.at(unpriced))
        if problems:
            raise spec_error(problems, f"the study {self.spec.name!r}")

    @property
    def executor(self) -> ExecutorWithLogs:
        """The executor that a runner opened; else one that reads what attempts left behind.

        Raises:
            ExecutorError: Trials cannot run there.
        """
        if self._executor is None:
            self._executor = of_present_protocol(self._kind.open_reader(self._executor_setup))
        return self._executor

    def open_executor(
        self,
        study: Study,
        folder: Path,
        *,
        on_note: Callable[[str], None] = lambda _message: None,
        keep: Callable[[], None] | None = None,
    ) -> ExecutorWithLogs:
        """Return the executor that runs the study's attempts; from now on it is `executor`.

        Args:
            study: The study, open.
            folder: Folder that relative paths in `trial.command` start from, locally.
            on_note: Hears of what cannot be had here.
            keep: Sees to it that the caller's own files in the study's folder are there, if it was
                removed and made again.

        Raises:
            ExecutorError: Trials cannot run there.
        """
        executor = self._kind.open(
            replace(
                self._executor_setup,
                spec=study.spec,
                cwd=folder,
                withheld_env=self._runner_secrets,
                pinned_image=study.pinned_image,
                on_image=study.pin_image,
                on_note=on_note,
                keep=keep,
            )
        )
        self._executor = of_present_protocol(executor)
        return self._executor

    @property
    def _kind(self) -> ExecutorKind:
        return executor_kind(self.settings.executor)

    @property
    def _executor_setup(self) -> ExecutorSetup:
        return ExecutorSetup(self.spec, self.settings, self.redactor, cwd=self.folder)

    @property
    def _runner_secrets(self) -> tuple[str, ...]:
        """The runner's variables that trials have no use for: a script may print its own."""
        notify = self.spec.notify
        own = (TOKEN_KEY_VARIABLE,)
        return own if notify is None or notify.url_env is None else (*own, notify.url_env)

    def attempt_files(self, record: TrialRecord) -> AttemptFiles:
        """Return the files of a trial's newest attempt."""
        return self.executor.files(AttemptId(record.number, record.attempt))

    # The report

    def write_report(
        self,
        data: StudyData,
        links: Mapping[str, str] | None = None,
        trial_links: TrialLinks | None = None,
    ) -> tuple[Report | None, str | None]:
        """Return the report as written, or why there is none: no result depends on a picture."""
        build = build_report_in_subprocess if needs_subprocess(data) else build_report
        try:
            report = build(
                data,
                self.settings.report_folder(self.spec.name),
                links=links or {},
                trial_links=trial_links or {},
                generated_at=time.time(),
            )
            tighten(self.settings.report_folder(self.spec.name), levels=3)
        except StudyflowError as error:
            return None, f"The report was not written: {error}"
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a plot, the study goes on
            _log.info("The report was not written", exc_info=True)
            return None, f"The report was not written: {type(error).__name__}: {error}"
        return report, None

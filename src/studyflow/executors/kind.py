"""What is known of an executor before there is one: how it is opened, and what it needs.

Nobody outside this package compares names of executors: what differs between them is said here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from studyflow.executors.protocol import ExecutorWithLogs
from studyflow.reasons import Finding
from studyflow.redaction import Redactor
from studyflow.settings import ExecutorName, Settings
from studyflow.spec import Problem, StudySpec


def _ignore(message: str) -> None:
    """Hear of something and do nothing."""


@dataclass(frozen=True, slots=True)
class ExecutorSetup:
    """What an executor is opened with."""

    spec: StudySpec
    settings: Settings
    redact: Redactor
    """Takes secrets out of what scripts say about their end."""
    cwd: Path
    """Folder that relative paths in `trial.command` start from, where scripts run on this
    machine."""
    withheld_env: Collection[str] = ()
    """Variables of the runner that scripts do not get, such as secrets."""
    pinned_image: Callable[[], str | None] = lambda: None
    """Returns the study's image by its digest, when an earlier run has seen which it is."""
    on_image: Callable[[str], None] | None = None
    """Is told that, once it is known."""
    on_note: Callable[[str], None] = _ignore
    """Hears, in a sentence, of what cannot be had here."""
    keep: Callable[[], None] | None = None
    """Sees to it that the caller's own files in the study's folder are there, if that was removed
    and made again."""

    @property
    def root(self) -> Path:
        """The study's folder on this machine."""
        return self.settings.study_folder(self.spec.name)


@dataclass(frozen=True, slots=True)
class ExecutorKind:
    """One executor, as far as it is known before it is opened."""

    name: ExecutorName
    description: str
    """What attempts are, such as "local processes"."""
    subject: str
    """What `preflight` asks about, such as "cluster"."""
    open: Callable[[ExecutorSetup], ExecutorWithLogs]
    """Return an executor for a study's attempts. Raises `ExecutorError` where none can run."""
    open_reader: Callable[[ExecutorSetup], ExecutorWithLogs]
    """Return an executor that reads what attempts left behind, and starts none. Whether the command
    could run here does not matter: a study is read from any folder."""
    preflight: Callable[[Settings, StudySpec | None], Sequence[Finding]]
    """Return how what this executor needs stands here. May ask servers, and changes nothing."""
    requests: Callable[[StudySpec, Settings], Mapping[str, str]]
    """Return what each attempt of a study asks for, by resource."""
    policy: Callable[[Settings], Sequence[Finding]] = lambda _settings: ()
    """Return what studies may ask of this executor here. Asks no server."""
    judge: Callable[[StudySpec, Settings], Sequence[Problem]] = lambda _study, _settings: ()
    """Return what a study file asks of this executor and may not have. Asks no server. Raises
    `PlatformError` where what may be asked cannot be read."""
    extra: str | None = None
    """The optional part of studyflow that it needs; `None` for none."""
    outlives_runner: bool = False
    """Whether attempts surely go on when their runner's machine, or container, goes away."""
    shares_files: bool = True
    """Whether attempts reach the files of the runner's machine, such as an MLflow in a file."""
    needs_image: bool = False
    """Whether the study file must name an image."""
    runs_pods: bool = False
    """Whether attempts are pods, so that `studyflow.executors.kubernetes.survey` tells of them."""
    hands_out_gpus: bool = False
    """Whether it hands out the GPUs of the runner's machine."""
    long_wait_hint: str = ""
    """What to do where much time passes between asking for a trial and its script's beginning."""

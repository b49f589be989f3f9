"""Can a study run here? Looks at all that one needs, and says what is wrong and how to mend it.

Each check is a function that returns findings and changes nothing that stays. Those that ask a
server run side by side, each for at most `PATIENCE_SECONDS`, so that one that hangs holds up none.
"""

from __future__ import annotations

import enum
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import optuna
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from studyflow.background import Background, NoAnswer
from studyflow.embedded import prefect_api, prefect_headers
from studyflow.errors import StudyflowError
from studyflow.executors.registry import executor_kind
from studyflow.observers.webhook import read_url
from studyflow.settings import Settings
from studyflow.spec import NotifySpec, StudySpec
from studyflow.storage import file_of, open_storage, redacted

PATIENCE_SECONDS: Final = 15.0
"""How long a server may take to answer, and its client to be imported on a busy machine."""

SCARCE_BYTES: Final = 1 << 30
"""Less free space than this is a problem: one checkpoint fills it."""
LITTLE_BYTES: Final = 10 << 30
"""Less free space than this is worth a warning."""

_EXTRAS: Final[Mapping[str, str]] = {
    "study": "running studies",
    "botorch": "the sampler `botorch`",
    "reports": "reports",
    "mlflow": "results in MLflow",
    "prefect": "flows",
    "postgres": "a storage in PostgreSQL",
    "kubernetes": "trials as pods",
}
"""The optional parts, and what each is for."""


class Level(enum.StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    """A study runs, yet something of it is missing or dearer than need be."""
    PROBLEM = "problem"
    """A study does not run here."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the diagnosis."""

    level: Level
    what: str
    """What was looked at, two or three words."""
    text: str
    """What was seen."""
    hint: str = ""
    """The way out; empty when all is well."""


Check = Callable[[], Sequence[Finding]]


def examine(
    settings: Settings,
    study: StudySpec | None = None,
    *,
    patience_seconds: float = PATIENCE_SECONDS,
) -> list[Finding]:
    """Return what stands in the way of a study here, and what does not.

    Args:
        settings: Where storage, MLflow and trials are.
        study: What is to run; its GPUs and its webhook are looked for.
        patience_seconds: How long a server may take to answer.
    """
    servers: list[tuple[str, Check]] = [
        ("storage", lambda: check_storage(settings.storage_url)),
        ("MLflow", lambda: check_mlflow(settings)),
        ("Prefect", lambda: check_prefect(settings)),
    ]
    kind = executor_kind(settings.executor)
    servers.append((kind.subject, lambda: check_executor(settings, study)))
    waiting = [(what, Background(f"doctor-{what}", check)) for what, check in servers]
    findings = [*check_packages(needed_extras(settings)), *check_folder(settings.home)]
    for what, check in waiting:
        findings += _result(what, check, patience_seconds)
    if study is not None and study.notify is not None:
        findings += check_webhook(study.notify)
    return findings


def needed_extras(settings: Settings) -> frozenset[str]:
    """Return the optional parts without which a study with these settings does not run."""
    extras = {"study"}
    extra = executor_kind(settings.executor).extra
    if extra is not None:
        extras.add(extra)
    if settings.storage_url.startswith("postgres"):
        extras.add("postgres")
    if settings.tracking_uri is not None:
        extras.add("mlflow")
    return frozenset(extras)


# On this machine


def check_packages(
    needed: frozenset[str],
    requirements: Iterable[str] | None = None,
    version_of: Callable[[str], str] = importlib.metadata.version,
) -> list[Finding]:
    """Look whether Python and the packages are versions that studyflow is made for.

    Args:
        needed: Extras whose absence is a problem.
        requirements: What studyflow requires, as its metadata has it; read by default.
        version_of: Returns the installed version of a package.
    """
    findings = []
    if requirements is None:
        try:
            own = importlib.metadata.distribution("studyflow")
        except importlib.metadata.PackageNotFoundError:
            return [
                Finding(
                    Level.WARNING,
                    "packages",
                    "studyflow is not installed, only imported: versions cannot be checked",
                    "pip install studyflow, or pip install -e . in a clone",
                )
            ]
        requirements = own.requires or ()
        findings.append(_check_python(str(own.metadata["Requires-Python"] or "")))
    parsed = [Requirement(text) for text in requirements]
    for extra in ("", *_EXTRAS):
        of_extra = [
            r
            for r in parsed
            if (r.marker is None if not extra else _is_of(r, extra)) and r.name != "studyflow"
        ]
        findings.append(_check_extra(extra, of_extra, extra in ("", *needed), version_of))
    return findings


def _is_of(requirement: Requirement, extra: str) -> bool:
    marker = requirement.marker
    return (
        marker is not None
        and marker.evaluate({"extra": extra})
        and not marker.evaluate({"extra": ""})
    )


def _check_python(allowed: str) -> Finding:
    version = platform.python_version()
    if SpecifierSet(allowed).contains(version, prereleases=True):
        return Finding(Level.OK, "Python", version)
    return Finding(
        Level.PROBLEM, "Python", f"{version}, but {allowed} is needed", "use another Python"
    )


def _check_extra(
    extra: str,
    requirements: Sequence[Requirement],
    is_needed: bool,
    version_of: Callable[[str], str],
) -> Finding:
    what = f"packages: {extra or 'base'}"
    missing, wrong, seen = [], [], []
    for requirement in requirements:
        try:
            version = version_of(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(requirement.name)
            continue
        seen.append(f"{requirement.name} {version}")
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version} (needs {requirement.specifier})")
    install = f"pip install 'studyflow[{extra}]'" if extra else "pip install studyflow"
    if wrong:
        return Finding(Level.PROBLEM, what, f"wrong versions: {', '.join(wrong)}", install)
    if missing:
        purpose = _EXTRAS.get(extra, "everything")
        return Finding(
            Level.PROBLEM if is_needed else Level.WARNING,
            what,
            f"not installed, for {purpose}: {', '.join(missing)}",
            install,
        )
    return Finding(Level.OK, what, ", ".join(seen))


def check_folder(folder: Path, free_bytes: Callable[[Path], int] | None = None) -> list[Finding]:
    """Look whether files can be written in a folder, and whether there is room for them.

    Args:
        folder: The folder; it need not exist yet.
        free_bytes: Returns the free space; the file system's by default.
    """
    there = _existing(folder)
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix=".studyflow-doctor-"):
            pass
    except OSError as error:
        return [
            Finding(
                Level.PROBLEM,
                "home folder",
                f"{folder} cannot be written: {error.strerror}",
                "make it writable, or set STUDYFLOW_HOME to another folder",
            )
        ]
    free = shutil.disk_usage(there).free if free_bytes is None else free_bytes(there)
    findings = [Finding(Level.OK, "home folder", f"{folder} can be written")]
    text = f"{free / (1 << 30):.3g} GiB free"
    if free >= LITTLE_BYTES:
        return [*findings, Finding(Level.OK, "disk space", text)]
    level = Level.PROBLEM if free < SCARCE_BYTES else Level.WARNING
    hint = "make room, or set STUDYFLOW_HOME to a folder on another disk"
    return [*findings, Finding(level, "disk space", text, hint)]


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    return next(path for path in (folder, *folder.parents) if path.is_dir())


def check_webhook(notify: NotifySpec) -> list[Finding]:
    """Look whether the address of a study's webhook is there. Nothing is sent."""
    try:
        read_url(notify)
    except StudyflowError as error:
        return [Finding(Level.WARNING, "webhook", error.message, error.hint or "")]
    return [Finding(Level.OK, "webhook", f"has an address, for {', '.join(notify.events)}")]


# Servers


def check_storage(url: str) -> list[Finding]:
    """Look whether studies can be read and written. What is written is removed again."""
    shown = redacted(url)
    path = file_of(url)
    try:
        if path is None:
            _write_and_remove(open_storage(url))
            return [Finding(Level.OK, "storage", f"{shown} can be read and written")]
        n = len(optuna.get_all_study_names(open_storage(url, create=False)))
    except StudyflowError as error:
        return [_refused("storage", error)]
    except Exception as error:  # noqa: BLE001 - whatever a driver raises is what is to be shown
        return [Finding(Level.PROBLEM, "storage", f"{shown}: {error}", "mend or replace it")]
    target = path if path.exists() else _existing(path.parent)
    if not os.access(target, os.W_OK):
        return [
            Finding(
                Level.PROBLEM,
                "storage",
                f"{target} cannot be written",
                "make it writable, or set STUDYFLOW_STORAGE or STUDYFLOW_HOME",
            )
        ]
    return [Finding(Level.OK, "storage", f"{shown} with {n} {'study' if n == 1 else 'studies'}")]


def _write_and_remove(storage: optuna.storages.BaseStorage) -> None:
    name = f"studyflow-doctor-{uuid.uuid4()}"
    optuna.create_study(study_name=name, storage=storage, sampler=optuna.samplers.RandomSampler())
    optuna.delete_study(study_name=name, storage=storage)


def check_mlflow(settings: Settings) -> list[Finding]:
    """Look whether MLflow answers and lets this user in, and whether pods would reach it."""
    if importlib.util.find_spec("mlflow") is None:
        return [
            Finding(
                Level.WARNING,
                "MLflow",
                "not installed: results stay in the study's storage and report",
                "pip install 'studyflow[mlflow]'",
            )
        ]
    findings = []
    if settings.tracking_uri is None:
        findings.append(Finding(Level.OK, "MLflow", f"embedded in {settings.home}"))
    else:
        from studyflow.tracking.mlflow import check_server

        try:
            check_server(settings.tracking_uri)
        except StudyflowError as error:
            return [_refused("MLflow", error)]
        findings.append(Finding(Level.OK, "MLflow", f"{redacted(settings.tracking_uri)} answers"))
    reached = settings.trial_tracking_uri or settings.tracking_uri or ""
    if not executor_kind(settings.executor).shares_files and not reached.startswith("http"):
        findings.append(
            Finding(
                Level.WARNING,
                "MLflow",
                "a file on this machine, which pods do not reach: no metrics by step, no artifacts",
                "set MLFLOW_TRACKING_URI to an MLflow server",
            )
        )
    return findings


def check_prefect(
    settings: Settings, environment: Mapping[str, str] | None = None
) -> list[Finding]:
    """Look whether Prefect's server answers, where one is configured."""
    env = os.environ if environment is None else environment
    if importlib.util.find_spec("prefect") is None:
        return [
            Finding(
                Level.WARNING,
                "Prefect",
                "not installed: studies run by `studyflow run` only",
                "pip install 'studyflow[prefect]'",
            )
        ]
    api = prefect_api(settings, env)
    if api is None:
        return [Finding(Level.OK, "Prefect", "no server configured: each flow starts its own")]
    request = urllib.request.Request(f"{api.rstrip('/')}/health", headers=prefect_headers(env))
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS):
            return [Finding(Level.OK, "Prefect", f"{redacted(api)} answers")]
    except (OSError, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        return [
            Finding(
                Level.PROBLEM,
                "Prefect",
                f"{redacted(api)} does not answer: {reason}",
                "start the server, or correct or unset PREFECT_API_URL",
            )
        ]


def check_executor(settings: Settings, study: StudySpec | None = None) -> list[Finding]:
    """Return how what the executor needs stands."""
    return [
        Finding(Level(found.standing.value), found.subject, found.message, found.hint or "")
        for found in executor_kind(settings.executor).preflight(settings, study)
    ]


def _refused(what: str, error: StudyflowError) -> Finding:
    return Finding(Level.PROBLEM, what, error.message, error.hint or "")


def _result(
    what: str, check: Background[Sequence[Finding]], patience_seconds: float
) -> Sequence[Finding]:
    """Return what a check found, or that it took longer than this since it began."""
    try:
        return check.result(patience_seconds)
    except NoAnswer as error:
        hint = "is the server overloaded, or does a firewall swallow the connection?"
        return [Finding(Level.PROBLEM, what, str(error), hint)]
    except Exception as error:  # noqa: BLE001 - one broken check hides no other
        return [Finding(Level.PROBLEM, what, f"{type(error).__name__}: {error}")]

"""What a study needs of this machine: packages, folders, disk, variables."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from studyflow.diagnostics.probes.storage import nearest_folder
from studyflow.errors import StudyflowError
from studyflow.observers.webhook import read_url
from studyflow.reasons import Code, Finding, Level
from studyflow.spec import NotifySpec

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


def check_packages(
    needed: frozenset[str],
    requirements: Iterable[str] | None = None,
    version_of: Callable[[str], str] = importlib.metadata.version,
) -> list[Finding]:
    """Return whether Python and the packages are versions that studyflow is made for.

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
                    Code.NOT_INSTALLED,
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
        return Finding.ok("Python", version)
    return Finding(
        Code.PACKAGE_UNSUITABLE,
        Level.PROBLEM,
        "Python",
        f"{version}, but {allowed} is needed",
        "use another Python",
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
        return Finding(
            Code.PACKAGE_UNSUITABLE,
            Level.PROBLEM,
            what,
            f"wrong versions: {', '.join(wrong)}",
            install,
        )
    if missing:
        purpose = _EXTRAS.get(extra, "everything")
        return Finding(
            Code.EXTRA_MISSING,
            Level.PROBLEM if is_needed else Level.WARNING,
            what,
            f"not installed, for {purpose}: {', '.join(missing)}",
            install,
        )
    return Finding.ok(what, ", ".join(seen))


def check_folder(folder: Path, free_bytes: Callable[[Path], int] | None = None) -> list[Finding]:
    """Return whether files can be written in a folder, and whether there is room for them.

    Args:
        folder: The folder; it need not exist yet.
        free_bytes: Returns the free space; the file system's by default.
    """
    there = nearest_folder(folder)
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix=".studyflow-doctor-"):
            pass
    except OSError as error:
        return [
            Finding(
                Code.FOLDER_READ_ONLY,
                Level.PROBLEM,
                "home folder",
                f"{folder} cannot be written: {error.strerror}",
                "make it writable, or set STUDYFLOW_HOME to another folder",
            )
        ]
    free = shutil.disk_usage(there).free if free_bytes is None else free_bytes(there)
    findings = [Finding.ok("home folder", f"{folder} can be written")]
    text = f"{free / (1 << 30):.3g} GiB free"
    if free >= LITTLE_BYTES:
        return [*findings, Finding.ok("disk space", text)]
    level = Level.PROBLEM if free < SCARCE_BYTES else Level.WARNING
    hint = "make room, or set STUDYFLOW_HOME to a folder on another disk"
    return [*findings, Finding(Code.DISK_SPACE_SHORT, level, "disk space", text, hint)]


def check_webhook(notify: NotifySpec) -> list[Finding]:
    """Return whether the address of a study's webhook is there. Nothing is sent."""
    try:
        read_url(notify)
    except StudyflowError as error:
        return [Finding.because(Level.WARNING, "webhook", error.reason)]
    return [Finding.ok("webhook", f"has an address, for {', '.join(notify.events)}")]

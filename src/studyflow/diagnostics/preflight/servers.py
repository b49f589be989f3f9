"""Whether the servers that a study needs answer, and let this user in."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping

from studyflow.diagnostics.probes import mlflow, prefect, storage
from studyflow.errors import StudyflowError
from studyflow.executors.registry import executor_kind
from studyflow.reasons import Code, Finding, Level
from studyflow.servers.prefect import ask, prefect_api
from studyflow.settings import Settings
from studyflow.storage import redacted, unverified_host


def check_storage(url: str) -> list[Finding]:
    """Return whether studies can be read and written. What is written is removed again."""
    shown = redacted(url)
    try:
        access = storage.read_access(url)
    except StudyflowError as error:
        return [Finding.because(Level.PROBLEM, "storage", error.reason)]
    if access.read_only is not None:
        return [
            Finding(
                Code.FOLDER_READ_ONLY,
                Level.PROBLEM,
                "storage",
                f"{access.read_only} cannot be written",
                "make it writable, or set STUDYFLOW_STORAGE or STUDYFLOW_HOME",
            )
        ]
    n = access.n_studies
    if n is None:
        return [Finding.ok("storage", f"{shown} can be read and written")]
    return [Finding.ok("storage", f"{shown} with {n} {'study' if n == 1 else 'studies'}")]


def check_connections(
    settings: Settings, environment: Mapping[str, str] | None = None
) -> list[Finding]:
    """Return which databases on other networks need not prove that they are the right ones."""
    env = os.environ if environment is None else environment
    urls = {"storage": settings.storage_url, "MLflow": settings.tracking_uri or ""}
    hosts = {subject: unverified_host(url, env) for subject, url in urls.items()}
    return [
        Finding(
            Code.CONNECTION_UNVERIFIED,
            Level.WARNING,
            subject,
            f"{host} is reached without proof that it is the right server: who is between can read "
            "the password and change results",
            "add ?sslmode=verify-full to the address, and name the authority by sslrootcert "
            "(sslrootcert=system for a public one)",
        )
        for subject, host in hosts.items()
        if host is not None
    ]


def check_mlflow(settings: Settings) -> list[Finding]:
    """Return whether MLflow answers and lets this user in, and whether pods would reach it."""
    if not mlflow.is_installed():
        return [
            Finding(
                Code.EXTRA_MISSING,
                Level.WARNING,
                "MLflow",
                "not installed: results stay in the study's storage and report",
                "pip install 'studyflow[mlflow]'",
            )
        ]
    findings = []
    if settings.tracking_uri is None:
        findings.append(Finding.ok("MLflow", f"embedded in {settings.home}"))
    else:
        away = mlflow.why_away(settings.tracking_uri)
        if away is not None:
            return [Finding.because(Level.PROBLEM, "MLflow", away)]
        try:
            mlflow.check_access(settings.tracking_uri)
        except StudyflowError as error:
            return [Finding.because(Level.PROBLEM, "MLflow", error.reason)]
        findings.append(Finding.ok("MLflow", f"{redacted(settings.tracking_uri)} answers"))
    reached = settings.trial_tracking_uri or settings.tracking_uri
    if not executor_kind(settings.executor).shares_files and not mlflow.is_server(reached):
        findings.append(
            Finding(
                Code.TRACKER_OUT_OF_REACH,
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
    """Return whether Prefect's server answers, where one is configured."""
    env = os.environ if environment is None else environment
    if importlib.util.find_spec("prefect") is None:
        return [
            Finding(
                Code.EXTRA_MISSING,
                Level.WARNING,
                "Prefect",
                "not installed: studies run by `studyflow run` only",
                "pip install 'studyflow[prefect]'",
            )
        ]
    api = prefect_api(settings, env)
    if api is None:
        return [Finding.ok("Prefect", "no server configured: each flow starts its own")]
    try:
        ask(api, "health", environment=env)
    except (OSError, ValueError) as error:
        return [Finding.because(Level.PROBLEM, "Prefect", prefect.why_away(api, error))]
    return [Finding.ok("Prefect", f"{redacted(api)} answers")]

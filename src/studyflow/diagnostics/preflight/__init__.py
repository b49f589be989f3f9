"""Can a study run here? Looks at all that one needs, and says what is wrong and how to fix it.

machine.py  packages, folders, disk, variables
servers.py  storage, MLflow, Prefect

What attempts need, such as GPUs or a cluster, the executor knows.

Each check is a function that returns findings and changes nothing that stays. Those that ask a
server run side by side, each for at most `PATIENCE_SECONDS`, so that one that hangs holds up none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from studyflow.background import Background, NoAnswer
from studyflow.diagnostics.preflight.machine import (
    check_folder,
    check_packages,
    check_webhook,
)
from studyflow.diagnostics.preflight.servers import (
    check_connections,
    check_mlflow,
    check_prefect,
    check_storage,
)
from studyflow.errors import PlatformError
from studyflow.executors.kind import ExecutorKind
from studyflow.executors.registry import executor_kind
from studyflow.reasons import Code, Finding, Level
from studyflow.settings import Settings
from studyflow.spec import StudySpec

PATIENCE_SECONDS: Final = 15.0
"""How long a server may take to answer, and its client to be imported on a busy machine."""

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
    servers.append((kind.subject, lambda: kind.preflight(settings, study)))
    waiting = [(what, Background(f"preflight-{what}", check)) for what, check in servers]
    findings = [
        *check_packages(needed_extras(settings)),
        *check_folder(settings.home),
        *check_connections(settings),
    ]
    findings += kind.policy(settings)
    if study is not None:
        findings += _judged(kind, study, settings)
    for what, check in waiting:
        findings += _result(what, check, patience_seconds)
    if study is not None and study.notify is not None:
        findings += check_webhook(study.notify)
    return findings


def _judged(kind: ExecutorKind, study: StudySpec, settings: Settings) -> list[Finding]:
    """Return what a study asks of its executor and may not have."""
    try:
        return [problem.finding for problem in kind.judge(study, settings)]
    except PlatformError:
        return []  # `policy` has said so


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


def _result(
    what: str, check: Background[Sequence[Finding]], patience_seconds: float
) -> Sequence[Finding]:
    """Return what a check found, or that it took longer than this since it began."""
    try:
        return check.result(patience_seconds)
    except NoAnswer as error:
        hint = "is the server overloaded, or does a firewall swallow the connection?"
        return [Finding(Code.NO_ANSWER, Level.PROBLEM, what, str(error), hint)]
    except Exception as error:  # noqa: BLE001 - one broken check hides no other
        message = f"{type(error).__name__}: {error}"
        return [Finding(Code.CHECK_BROKEN, Level.PROBLEM, what, message)]

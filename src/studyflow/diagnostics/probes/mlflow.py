"""Asks MLflow: whether it answers, whether it lets this user in, and what it has of a study."""

from __future__ import annotations

import importlib.util
import urllib.request
from typing import Final

from studyflow.context import StudyContext
from studyflow.diagnostics.probes.answers import why_no_answer
from studyflow.diagnostics.snapshot import TrackingState
from studyflow.reasons import Code, Reason
from studyflow.reports import StudyData
from studyflow.settings import Settings
from studyflow.storage import redacted

PROBE_SECONDS: Final = 3.0
"""How long a request may take: less than a probe is waited for, so that its own reason is told."""


def is_server(uri: str | None) -> bool:
    """Return whether a tracking URI names a server, and no file."""
    return uri is not None and uri.startswith("http")


def is_installed() -> bool:
    """Return whether MLflow can be imported."""
    return importlib.util.find_spec("mlflow") is not None


def why_away(uri: str | None) -> Reason | None:
    """Return why an MLflow server does not answer at all; `None` when it does, or is none."""
    if uri is None or not is_server(uri):
        return None
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=PROBE_SECONDS):
            return None
    except urllib.request.HTTPError:
        return None  # something answers; what it has against us is seen when runs are asked for
    except (OSError, ValueError) as error:
        return Reason(
            Code.TRACKER_UNAVAILABLE,
            f"MLflow at {redacted(uri)} does not answer: {why_no_answer(error)}.",
            "is the server up, and is MLFLOW_TRACKING_URI right?",
        )


def check_access(uri: str) -> None:
    """Return if MLflow answers and lets this user read.

    Raises:
        TrackingError: It does not answer, or refuses.
        MissingExtra: MLflow is not installed.
    """
    from studyflow.tracking.mlflow import check_server

    check_server(uri)


def read_state(data: StudyData | None, settings: Settings) -> TrackingState | None:
    """Return what MLflow has of a study; `None` where there is no MLflow.

    Raises:
        TrackingError: It does not answer, or refuses.
    """
    if data is None or not is_installed():
        return None
    if settings.tracking_uri is None and not (settings.home / "mlflow.db").exists():
        return None
    with StudyContext(data.spec, settings) as context:
        sent = context.mlflow.sent_trials()
    finished = {record.number for record in data.finished}
    return TrackingState(redacted(settings.tracking_uri or ""), n_unsent=len(finished - sent))

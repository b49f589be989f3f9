"""Where studies, results and files are, and where trials run.

Flags come before environment variables, and those before the embedded defaults.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, cast, get_args
from urllib.parse import urlsplit

from studyflow.errors import StudyflowError
from studyflow.ledger import NO_PRICES, PRICES_VARIABLE, Prices
from studyflow.storage import DEFAULT_FOLDER, default_storage_url
from studyflow.trial.run_token import MIN_KEY_CHARS

ExecutorName = Literal["local", "kubernetes"]
"""Where trials run: as processes of this machine, or as pods of a cluster."""

STORAGE_PATIENCE_SECONDS: Final = 600.0
"""Long enough for a database's restart, fail-over or small upgrade."""

TOKEN_KEY_VARIABLE: Final = "STUDYFLOW_MLFLOW_TOKEN_KEY"  # noqa: S105 - a name
"""Key of the tokens that pods write to their MLflow runs with."""

RUNNER_LOCK: Final = "runner.lock"
"""File in a study's folder that the study's runner on this machine holds locked."""

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class Settings:
    """Where studies, results and files are, and where trials run; made by `Settings.resolve`."""

    home: Path
    """Folder for everything embedded; `.studyflow` in the working folder by default."""
    storage_url: str
    """Storage of the studies."""
    tracking_uri: str | None
    """MLflow's address; `None` for the embedded database in `home`."""
    executor: ExecutorName = "local"
    """Where trials run. Not part of a study: the same file runs on a laptop and on a cluster."""
    namespace: str | None = None
    """Namespace of the trials' pods; `None` for the runner's own, or the kubeconfig's."""
    trial_tracking_uri: str | None = None
    """MLflow's address as pods reach it, where that differs from `tracking_uri`."""
    trial_service_account: str | None = None
    """Service account of the trials' pods where the study file names none; `None` for the one that
    the namespace gives to every pod."""
    mlflow_public_url: str | None = None
    """MLflow's address as people's browsers reach it, for links; `None` where it is the same."""
    mlflow_token_key: str | None = field(default=None, repr=False)
    """Key of the tokens that pods write to their runs with, which MLflow's server shares; `None`
    for an MLflow that asks pods for nothing, or for what the study file gives them."""
    platform: Path | None = None
    """File that says what studies may ask of the cluster; `None` for the defaults. Mounted by
    whoever runs the cluster (`PLATFORM_MOUNT`, before any variable), and no flag of a command."""
    prices: Prices = NO_PRICES
    """Price of an hour of a GPU by resource or node label, in the currency of `budget.cost`; shown
    with what a study has spent."""
    storage_patience_seconds: float = STORAGE_PATIENCE_SECONDS
    """How long a runner waits for a storage that does not answer before it ends. Its trials keep
    running either way."""

    @classmethod
    def resolve(
        cls,
        *,
        home: Path | None = None,
        storage: str | None = None,
        tracking: str | None = None,
        executor: str | None = None,
        namespace: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Settings:
        """Return the settings from flags, the environment and the defaults, in this order.

        The environment's names are `STUDYFLOW_HOME`, `STUDYFLOW_STORAGE`, `STUDYFLOW_EXECUTOR`,
        `STUDYFLOW_NAMESPACE`, `STUDYFLOW_TRIAL_TRACKING_URI`, `STUDYFLOW_TRIAL_SERVICE_ACCOUNT`,
        `STUDYFLOW_MLFLOW_PUBLIC_URL`, `STUDYFLOW_MLFLOW_TOKEN_KEY`, `STUDYFLOW_PLATFORM`,
        `STUDYFLOW_PRICES`,
        `STUDYFLOW_STORAGE_PATIENCE_SECONDS` and MLflow's own `MLFLOW_TRACKING_URI`.

        Raises:
            StudyflowError: There is no such executor, a number of seconds or an address is not one,
                or a key is too short.
        """
        # Imported here: most of what imports this module asks for no platform.
        from studyflow.spec.pods import platform_path

        env = os.environ if environment is None else environment
        chosen = executor or env.get("STUDYFLOW_EXECUTOR") or "local"
        if chosen not in get_args(ExecutorName):
            raise StudyflowError(
                f"There is no executor {chosen!r} (STUDYFLOW_EXECUTOR).",
                hint=f"choose one of {', '.join(get_args(ExecutorName))}.",
            )
        folder = (home or Path(env.get("STUDYFLOW_HOME") or DEFAULT_FOLDER)).absolute()
        return cls(
            home=folder,
            storage_url=storage or env.get("STUDYFLOW_STORAGE") or default_storage_url(folder),
            tracking_uri=tracking or env.get("MLFLOW_TRACKING_URI") or None,
            executor=cast("ExecutorName", chosen),
            namespace=namespace or env.get("STUDYFLOW_NAMESPACE") or None,
            trial_tracking_uri=env.get("STUDYFLOW_TRIAL_TRACKING_URI") or None,
            trial_service_account=env.get("STUDYFLOW_TRIAL_SERVICE_ACCOUNT") or None,
            mlflow_public_url=_address("STUDYFLOW_MLFLOW_PUBLIC_URL", env),
            mlflow_token_key=_key(TOKEN_KEY_VARIABLE, env),
            platform=platform_path(env),
            prices=Prices.parse(env.get(PRICES_VARIABLE) or ""),
            storage_patience_seconds=_seconds(
                "STUDYFLOW_STORAGE_PATIENCE_SECONDS", env, STORAGE_PATIENCE_SECONDS
            ),
        )

    def study_folder(self, name: str) -> Path:
        """Return the folder of one study's files; two names never share one."""
        safe = _UNSAFE.sub("-", name).strip("-.")[:60]
        if safe != name or not safe:
            digest = hashlib.sha256(name.encode()).hexdigest()[:8]
            safe = f"{safe}-{digest}" if safe else digest
        return self.home / "studies" / safe

    def runner_lock(self, name: str) -> Path:
        """Return the file that the study's runner on this machine holds locked."""
        return self.study_folder(name) / RUNNER_LOCK

    def report_folder(self, name: str) -> Path:
        """Return the folder of one study's report."""
        return self.study_folder(name) / "report"


def _address(name: str, environment: Mapping[str, str]) -> str | None:
    """Return the address of a server from the environment; `None` without one.

    Raises:
        StudyflowError: It is not one.
    """
    text = environment.get(name)
    if not text:
        return None
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc or "@" in parts.netloc:
        raise StudyflowError(
            f"{name} must be an address of http or https without a password, but it is {text!r}.",
            hint="such as https://mlflow.example.org, or leave it out.",
        )
    return text.rstrip("/")


def _key(name: str, environment: Mapping[str, str]) -> str | None:
    """Return a key from the environment; `None` without one.

    Raises:
        StudyflowError: It is too short.
    """
    text = environment.get(name)
    if text and len(text) < MIN_KEY_CHARS:
        raise StudyflowError(
            f"{name} must have at least {MIN_KEY_CHARS} characters, but has {len(text)}.",
            hint="k8s/new-secrets makes one; MLflow's server must have the same.",
        )
    return text or None


def _seconds(name: str, environment: Mapping[str, str], default: float) -> float:
    """Return a duration from the environment.

    Raises:
        StudyflowError: It is not a number of seconds.
    """
    text = environment.get(name)
    if not text:
        return default
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise StudyflowError(
            f"{name} must be a number of seconds, but it is {text!r}.",
            hint=f"such as {default:g}, or leave it out.",
        )
    return seconds

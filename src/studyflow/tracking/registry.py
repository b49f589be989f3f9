"""MLflow's model registry: a trial's artifact under a name, with a version and an alias.

A version points at the artifact as the trial left it; it need not be an MLflow model. MLflow
downloads versions as folders, so the version of a single file is the folder that holds it, and a
tag names the file:

    mlflow.artifacts.download_artifacts("models:/NAME@champion/model.pt")
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Final

from studyflow.errors import TrackingError
from studyflow.tracking.mlflow.client import ALREADY_EXISTS, Accepting, Connection

ARTIFACT_TAG: Final = "studyflow.artifact"
"""Tag of a version: path of the model within its run."""

_NO_MODELS: Final = frozenset(
    (
        ".csv",
        ".gif",
        ".html",
        ".jpeg",
        ".jpg",
        ".log",
        ".md",
        ".pdf",
        ".png",
        ".svg",
        ".tsv",
        ".txt",
    )
)
"""Endings of pictures, tables and texts, such as the trial's log."""

_REFUSED: Final = re.compile(r"[/:]+")


def choose_artifact(names: Sequence[str], wanted: str | None = None) -> str | None:
    """Return the artifact of a trial that is its model; `None` when none of them can be one.

    Args:
        names: The artifacts at the top of a run.
        wanted: The user's choice, a path within the run. `None` for the one called `model` with
            any ending, or else the only one that is no table, picture or text.

    Raises:
        TrackingError: Several artifacts can be the model.
    """
    if wanted is not None:
        return wanted
    candidates = [name for name in names if PurePosixPath(name).stem == "model"] or [
        name for name in names if PurePosixPath(name).suffix.lower() not in _NO_MODELS
    ]
    if len(candidates) > 1:
        raise TrackingError(
            f"The trial has several artifacts that can be the model: {', '.join(candidates)}.",
            hint="name it by --artifact.",
        )
    return candidates[0] if candidates else None


def model_name(name: str) -> str:
    """Return a name that the registry accepts: without slashes and colons."""
    return _REFUSED.sub("-", name).strip()


class ModelRegistry:
    """The model registry of one MLflow. Nothing is contacted before the first call.

    Args:
        uri: Tracking URI, which is the registry's too.
    """

    def __init__(self, uri: str) -> None:
        self._mlflow = Connection(uri)

    def artifacts(self, run_id: str) -> tuple[str, ...]:
        """Return the files and folders at the top of a run's artifacts, by name.

        Raises:
            TrackingUnavailable: MLflow does not answer in time.
            TrackingError: MLflow refuses.
        """
        with self._mlflow.client() as client:
            return tuple(sorted(entry.path for entry in client.list_artifacts(run_id)))

    def register(
        self,
        run_id: str,
        artifact: str,
        *,
        name: str,
        alias: str,
        description: str,
        tags: Mapping[str, str],
    ) -> str:
        """Register a run's artifact under a name, and return its version.

        An artifact that has a version already keeps it, with the new description and tags.

        Args:
            run_id: The run.
            artifact: Path of the model within the run.
            name: Name of the registered model; created when it is new.
            alias: Given to this version, and taken from any other.
            description: Description of the version.
            tags: Tags of the version.

        Raises:
            TrackingUnavailable: MLflow does not answer in time.
            TrackingError: The run has no such artifact, or MLflow refuses.
        """
        with self._mlflow.client() as client:
            source = _source(client, run_id, artifact)
            tags = {**tags, ARTIFACT_TAG: artifact}
            version = self._existing(client, run_id, artifact, name)
            if version is None:
                _create_model(client, name)
                created = client.create_model_version(
                    name, source, run_id=run_id, tags=tags, await_creation_for=0
                )
                version = str(created.version)
            client.update_model_version(name, version, description=description)
            for key, value in tags.items():
                client.set_model_version_tag(name, version, key, value)
            client.set_registered_model_alias(name, alias, version)
            return version

    def _existing(self, client: Any, run_id: str, artifact: str, name: str) -> str | None:
        for version in client.search_model_versions(f"run_id = '{run_id}'"):
            if version.name == name and version.tags.get(ARTIFACT_TAG) == artifact:
                return str(version.version)
        return None


def _source(client: Any, run_id: str, artifact: str) -> str:
    """Return the address of an artifact that is a folder, or of the folder that holds it.

    Raises:
        TrackingError: The run has no such artifact.
    """
    path = PurePosixPath(artifact)
    parent = "" if path.parent == PurePosixPath() else str(path.parent)
    entries = client.list_artifacts(run_id, parent or None)
    found = next((entry for entry in entries if entry.path == str(path)), None)
    if found is None:
        raise TrackingError(
            f"Run {run_id} has no artifact {artifact!r} "
            f"(there are: {', '.join(entry.path for entry in entries) or 'none'}).",
            hint="name one of them by --artifact.",
        )
    folder = str(path) if found.is_dir else parent
    return f"{client.get_run(run_id).info.artifact_uri.rstrip('/')}/{folder}".rstrip("/")


def _create_model(client: Any, name: str) -> None:
    with Accepting(ALREADY_EXISTS):
        client.create_registered_model(name)

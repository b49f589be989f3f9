"""MLflow's model registry: a trial's artifact under a name, with a version and an alias.

A version points at the artifact as the trial left it; it need not be an MLflow model. MLflow
downloads versions as folders, so the version of a single file is the folder that holds it, and a
tag names the file:

    mlflow.artifacts.download_artifacts("models:/NAME@champion/model.pt")

Tags of a version hold the digests of its files as they were registered, so that a model that was
replaced afterwards is told from the one that was chosen.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from studyflow.errors import TrackingError
from studyflow.tracking.mlflow.client import ALREADY_EXISTS, Accepting, Connection
from studyflow.tracking.mlflow.search import all_pages
from studyflow.tracking.model_digest import differences, digest_of, digests_in, listed

ARTIFACT_TAG: Final = "studyflow.artifact"
"""Tag of a version: path of the model within its run."""

DIGEST_TAG: Final = "studyflow.digest"
"""Tag of a version: SHA-256 of all its files."""

FILES_TAG: Final = "studyflow.files"
"""Tag of a version: SHA-256 of each of its files, if they are not too many."""

PAGE_SIZE: Final = 1000
"""Model versions that MLflow is asked for at once."""

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


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """A version of a registered model, and what has become of its files."""

    name: str
    version: str
    aliases: tuple[str, ...]
    run_id: str
    artifact: str
    digest: str | None
    """SHA-256 of all files when it was registered; `None` for versions that have none."""
    problem: str | None = None
    """What is not as it was registered, in words; `None` when all is."""

    @property
    def is_sound(self) -> bool:
        """Whether its files are known to be those that were registered."""
        return self.digest is not None and self.problem is None


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

        An artifact that has a version already keeps it, with the new description and tags. The
        artifact is downloaded once, for its digests.

        Args:
            run_id: The run.
            artifact: Path of the model within the run.
            name: Name of the registered model; created when it is new.
            alias: Given to this version, and taken from any other.
            description: Description of the version.
            tags: Tags of the version.

        Raises:
            TrackingUnavailable: MLflow does not answer in time.
            TrackingError: The run has no such artifact, its version has other files than it was
                registered with, or MLflow refuses.
        """
        with self._mlflow.client() as client:
            source = _source(client, run_id, artifact)
            existing = self._existing(client, run_id, artifact, name)
            files = _digests(client, run_id, artifact)
            if existing is not None:
                _require_sound(_described(existing, files))
            tags = {
                **tags,
                ARTIFACT_TAG: artifact,
                DIGEST_TAG: digest_of(files),
                FILES_TAG: listed(files),
            }
            version = None if existing is None else str(existing.version)
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

    def of_study(self, study: str) -> tuple[RegisteredModel, ...]:
        """Return the versions that a study's `retrain` registered and that have an alias, checked.

        Each model is downloaded once, for its digests.

        Args:
            study: Name of the study.

        Raises:
            TrackingUnavailable: MLflow does not answer in time.
            TrackingError: MLflow refuses.
        """
        found = []
        with self._mlflow.client() as client:
            for version in _versions(client, ""):
                if version.tags.get("studyflow.study") != study or ARTIFACT_TAG not in version.tags:
                    continue
                # A search does not say which aliases a version has.
                whole = client.get_model_version(version.name, version.version)
                if whole.aliases:
                    artifact = whole.tags[ARTIFACT_TAG]
                    entry, _ = _found(client, whole.run_id, artifact)
                    files = {} if entry is None else _digests(client, whole.run_id, artifact)
                    found.append(_described(whole, files))
        return tuple(found)

    def _existing(self, client: Any, run_id: str, artifact: str, name: str) -> Any:
        for version in _versions(client, f"run_id = '{run_id}'"):
            if version.name == name and version.tags.get(ARTIFACT_TAG) == artifact:
                return version
        return None


def _versions(client: Any, text: str) -> Iterator[Any]:
    """Yield all model versions that a filter of MLflow's finds."""
    yield from all_pages(
        lambda token: client.search_model_versions(text, max_results=PAGE_SIZE, page_token=token)
    )


def _source(client: Any, run_id: str, artifact: str) -> str:
    """Return the address of an artifact that is a folder, or of the folder that holds it.

    Raises:
        TrackingError: The run has no such artifact.
    """
    found, entries = _found(client, run_id, artifact)
    if found is None:
        raise TrackingError(
            f"Run {run_id} has no artifact {artifact!r} "
            f"(there are: {', '.join(entry.path for entry in entries) or 'none'}).",
            hint="name one of them by --artifact.",
        )
    folder = found.path if found.is_dir else _parent(found.path)
    return f"{client.get_run(run_id).info.artifact_uri.rstrip('/')}/{folder}".rstrip("/")


def _found(client: Any, run_id: str, artifact: str) -> tuple[Any, Sequence[Any]]:
    """Return the entry of an artifact, `None` when it is gone, and all entries of its folder."""
    path = str(PurePosixPath(artifact))
    entries = client.list_artifacts(run_id, _parent(path) or None)
    return next((entry for entry in entries if entry.path == path), None), entries


def _parent(path: str) -> str:
    parent = PurePosixPath(path).parent
    return "" if parent == PurePosixPath() else str(parent)


def _create_model(client: Any, name: str) -> None:
    with Accepting(ALREADY_EXISTS):
        client.create_registered_model(name)


def _digests(client: Any, run_id: str, artifact: str) -> dict[str, str]:
    """Return the digests of an artifact's files, which are downloaded."""
    with tempfile.TemporaryDirectory(prefix="studyflow-model-") as folder:
        return digests_in(Path(client.download_artifacts(run_id, artifact, folder)))


def _described(version: Any, files: Mapping[str, str]) -> RegisteredModel:
    digest = version.tags.get(DIGEST_TAG)
    listing = version.tags.get(FILES_TAG, "")
    return RegisteredModel(
        name=str(version.name),
        version=str(version.version),
        aliases=tuple(version.aliases or ()),
        run_id=str(version.run_id),
        artifact=version.tags[ARTIFACT_TAG],
        digest=digest,
        problem=None if digest is None else differences(digest, listing, files),
    )


def _require_sound(model: RegisteredModel) -> None:
    if model.problem is not None:
        raise TrackingError(
            f"Version {model.version} of the model {model.name!r} is not what was registered: "
            f"{model.problem} (artifact {model.artifact!r} of run {model.run_id}).",
            hint="find out who changed it; to register it as it is, delete the version first.",
        )

"""The MLflow experiment that holds a study's runs."""

from __future__ import annotations

import logging
import threading
from typing import Any, Final

from studyflow.errors import TrackingError
from studyflow.tracking import keys
from studyflow.tracking.mlflow.client import (
    ALREADY_EXISTS,
    Accepting,
    Connection,
    artifact_folder,
)
from studyflow.tracking.mlflow.documents import TrackedStudy

_log = logging.getLogger(__name__)

CREATE_ATTEMPTS: Final = 3


class Experiment:
    """Finds and creates one experiment, and restores it when somebody deleted it.

    Every method raises `TrackingUnavailable` when MLflow does not answer in time and
    `TrackingError` when it refuses.

    Args:
        mlflow: Where the experiment is.
        study: The study; what it shows becomes tags of the experiment.
        name: Name of the experiment.
    """

    def __init__(self, mlflow: Connection, study: TrackedStudy, name: str) -> None:
        self._mlflow = mlflow
        self._study = study
        self._name = name
        self._lock = threading.RLock()
        self._id: str | None = None

    @property
    def known_id(self) -> str | None:
        """Its id, if this process has found it; nothing is contacted."""
        return self._id

    def peek(self) -> str | None:
        """Return its id without changing anything; `None` when there is none, or it is deleted."""
        with self._mlflow.client() as client:
            found = client.get_experiment_by_name(self._name)
        if found is None or found.lifecycle_stage == "deleted":
            return None
        return str(found.experiment_id)

    def find(self) -> str | None:
        """Return its id; `None` when there is none. A deleted one is restored."""
        with self._lock:
            if self._id is None:
                self._id = self._find()
            return self._id

    def find_or_create(self) -> str:
        """Return its id, after creating it if need be.

        Raises:
            TrackingUnavailable: MLflow does not answer in time.
            TrackingError: MLflow refuses, or neither shows the experiment nor creates it.
        """
        with self._lock:
            for _ in range(CREATE_ATTEMPTS):
                self._id = self.find() or self._create()
                if self._id is not None:
                    return self._id
        raise TrackingError(
            f"MLflow has an experiment {self._name!r} and does not show it.",
            hint="is it somebody else's? Name another one for this study.",
        )

    def restore_if_deleted(self) -> bool:
        """Return whether the experiment had been deleted, and is restored now."""
        with self._lock:
            if self._id is None:
                return False
            with self._mlflow.client() as client:
                if client.get_experiment(self._id).lifecycle_stage != "deleted":
                    return False
                self._restore(client, self._id)
            return True

    def set_tags(self, tags: dict[str, str]) -> None:
        """Set tags of the experiment."""
        experiment = self.find_or_create()
        with self._mlflow.client() as client:
            for key, value in tags.items():
                client.set_experiment_tag(experiment, key, value)

    def forget(self) -> None:
        """Forget its id; the next use finds it again."""
        with self._lock:
            self._id = None

    def _find(self) -> str | None:
        with self._mlflow.client() as client:
            found = client.get_experiment_by_name(self._name)
            if found is None:
                return None
            if found.lifecycle_stage == "deleted":
                self._restore(client, found.experiment_id)
            for key, value in self._study.experiment_tags.items():
                if key not in found.tags:
                    client.set_experiment_tag(found.experiment_id, key, value)
        return str(found.experiment_id)

    def _create(self) -> str | None:
        """Create the experiment; return `None` when somebody else has just done so."""
        folder = artifact_folder(self._mlflow.uri)
        location = None
        if folder is not None:
            location = (folder.absolute() / keys.artifact_path(self._name)).as_uri()
        with self._mlflow.client() as client, Accepting(ALREADY_EXISTS):
            return str(
                client.create_experiment(
                    self._name, artifact_location=location, tags=self._study.experiment_tags
                )
            )
        return None

    def _restore(self, client: Any, experiment_id: str) -> None:
        client.restore_experiment(experiment_id)
        _log.warning(
            "MLflow experiment %r had been deleted and is restored, because its study goes on.",
            self._name,
        )

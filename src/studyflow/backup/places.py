"""Which parts a backup has by the settings, and where each of them is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from studyflow.backup.manifest import Kind, Part
from studyflow.errors import BackupError
from studyflow.settings import Settings
from studyflow.storage import redacted

_KINDS: Final[Mapping[str, Kind]] = {
    "journal": Kind.JOURNAL,
    "sqlite": Kind.SQLITE,
    "postgresql": Kind.POSTGRESQL,
    "postgres": Kind.POSTGRESQL,
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where one part is, or is to be."""

    part: Part
    kind: Kind
    path: Path | None = None
    """File or folder; `None` for a server."""
    url: str = ""
    """Address of a server, with its password."""

    @property
    def shown(self) -> str:
        """Where it is, without password."""
        return redacted(self.url) if self.path is None else str(self.path)


@dataclass(frozen=True, slots=True)
class Places:
    """All parts of one installation, in the order of a backup."""

    home: Path
    """Where whoever runs studies here leaves their locks."""
    places: tuple[Place, ...]
    left_out: Mapping[str, str]
    """Parts that a backup cannot reach, and why."""

    def place(self, part: Part) -> Place | None:
        """Return where a part is; `None` when it is out of reach."""
        return next((place for place in self.places if place.part is part), None)


def find_places(
    settings: Settings, *, mlflow_database: str | None = None, artifacts: str | None = None
) -> Places:
    """Return where everything is that belongs into a backup.

    Args:
        settings: Of the studies.
        mlflow_database: URL of MLflow's database, where MLflow is a server.
        artifacts: Folder that MLflow's server keeps artifacts in.

    Raises:
        BackupError: The study storage is of a kind that has its own tools for backups.
    """
    left_out: dict[str, str] = {}
    database = mlflow_database or _own_database(settings)
    places: list[Place] = []
    if database is None:
        left_out[Part.MLFLOW] = (
            f"MLflow is a server, {redacted(settings.tracking_uri or '')}: name its database by "
            "--mlflow-database"
        )
    elif (place := _database(Part.MLFLOW, database)) is None:
        left_out[Part.MLFLOW] = f"{redacted(database)} has tools of its own for backups"
    else:
        places.append(place)
    folder = artifacts or (_embedded_artifacts(database) if database else None)
    if folder is None:
        left_out[Part.ARTIFACTS] = "MLflow's server keeps them: name its folder by --artifacts"
    elif (path := _folder(folder)) is None:
        left_out[Part.ARTIFACTS] = f"the store {urlsplit(folder).scheme}:// is backed up by itself"
    else:
        places.append(Place(Part.ARTIFACTS, Kind.FOLDER, path))
    places.append(Place(Part.FILES, Kind.FOLDER, settings.home / "studies"))
    studies = _database(Part.STUDIES, settings.storage_url)
    if studies is None:
        raise BackupError(
            f"The study storage {redacted(settings.storage_url)} is neither a file nor PostgreSQL, "
            "and only these are backed up.",
            hint="use the database's own tools, such as mysqldump; see docs/backup.md.",
        )
    places.append(studies)
    return Places(settings.home, tuple(places), left_out)


def _own_database(settings: Settings) -> str | None:
    """Return the URL of the database that MLflow is used by here; `None` when it is a server."""
    if settings.tracking_uri is None:
        return f"sqlite:///{settings.home / 'mlflow.db'}"
    return None if settings.tracking_uri.startswith(("http:", "https:")) else settings.tracking_uri


def _embedded_artifacts(database: str) -> str | None:
    """Return where an embedded MLflow keeps artifacts: beside its database."""
    place = _database(Part.MLFLOW, database)
    return None if place is None or place.path is None else str(place.path.parent / "mlartifacts")


def _database(part: Part, url: str) -> Place | None:
    """Return the place of a database; `None` for one of a kind that is not backed up here."""
    scheme, _, rest = url.partition("://")
    kind = _KINDS.get(scheme.partition("+")[0])
    if kind is None:
        return None
    if kind is Kind.POSTGRESQL:
        return Place(part, kind, url=f"postgresql://{rest}")
    return Place(part, kind, Path(rest.removeprefix("/").partition("?")[0]).absolute())


def _folder(address: str) -> Path | None:
    """Return the folder at a path or `file://` address; `None` for another store."""
    if "://" not in address and not address.startswith("file:"):
        return Path(address).absolute()  # whatever characters it holds
    parts = urlsplit(address)
    if parts.scheme not in ("", "file"):
        return None
    return Path(parts.path).absolute()

"""What an archive says of itself: when and by what it was made, and the digest of every file."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from studyflow.errors import BackupError
from studyflow.reasons import Code

FORMAT: Final = 1
"""Format of archives that are written; others cannot be restored."""


class Kind(enum.StrEnum):
    """What a part of an archive is a copy of."""

    JOURNAL = "journal"
    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"
    FOLDER = "folder"


class Part(enum.StrEnum):
    """A part of an archive, in the order of backups."""

    MLFLOW = "mlflow"
    """MLflow's database."""
    ARTIFACTS = "artifacts"
    """MLflow's artifacts."""
    FILES = "files"
    """What local trials have left on this machine: logs, artifacts, checkpoints, reports."""
    STUDIES = "studies"
    """The study storage."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a part."""

    path: str
    """Its name in the archive, `PART/...`."""
    size: int
    """Bytes; 0 for a link or a folder."""
    sha256: str
    """Digest of its content; of what a link points to, for a link."""


@dataclass(frozen=True, slots=True)
class PartEntry:
    """One part of an archive."""

    part: Part
    kind: Kind
    source: str
    """Where it was, without password."""
    members: tuple[Member, ...]

    @property
    def n_bytes(self) -> int:
        """Size of its files, bytes."""
        return sum(member.size for member in self.members)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an archive holds."""

    created_at: str
    """UTC, ISO 8601."""
    versions: Mapping[str, str]
    """Of studyflow, Python and the packages and programs that wrote what is in it."""
    parts: tuple[PartEntry, ...]
    left_out: Mapping[str, str]
    """Parts that are not in it, and why."""

    def to_json(self) -> str:
        """Return the document that `from_json` reads."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """Return the manifest in a document.

        Raises:
            BackupError: It is of a later format, or none.
        """
        try:
            document: dict[str, Any] = json.loads(text)
            number = document["format"]
            if number == FORMAT:
                return _read(document)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise BackupError(
                "The archive's manifest cannot be read.",
                hint="restore another backup.",
                code=Code.BACKUP_DAMAGED,
            ) from error
        raise BackupError(
            f"The archive is of format {number!r}, and this studyflow reads format {FORMAT}.",
            hint="restore it with the studyflow that made it, or a later one.",
        )


def _read(document: Mapping[str, Any]) -> Manifest:
    return Manifest(
        created_at=str(document["created_at"]),
        versions={str(name): str(version) for name, version in document["versions"].items()},
        parts=tuple(
            PartEntry(
                part=Part(entry["part"]),
                kind=Kind(entry["kind"]),
                source=str(entry["source"]),
                members=tuple(
                    Member(str(m["path"]), int(m["size"]), str(m["sha256"]))
                    for m in entry["members"]
                ),
            )
            for entry in document["parts"]
        ),
        left_out={str(part): str(why) for part, why in document["left_out"].items()},
    )

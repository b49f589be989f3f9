"""Refuses storages in files that several machines could write to at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from studyflow.errors import StudyError

MOUNTS: Final = Path("/proc/self/mountinfo")
"""Where Linux lists what is mounted; elsewhere nothing is known, and nothing refused."""

_NETWORK_TYPES: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "fuse.sshfs", "fuse.s3fs", "fuse.gcsfuse"}
)
"""File systems on which a lock may not reach other machines, or a write not arrive in order."""

_CLUSTER_TYPES: Final = frozenset(
    {"9p", "beegfs", "ceph", "fuse.glusterfs", "gpfs", "lustre", "ocfs2", "gfs2", "virtiofs"}
)
"""Those whose locks reach other machines, or do not, as their administrator has chosen."""


def refuse_network_file(path: Path, mounts: Path = MOUNTS) -> None:
    """Return if a storage may live in this file.

    Args:
        path: The file; it need not exist yet.
        mounts: Linux's list of mounts.

    Raises:
        StudyError: It is on a network share.
    """
    kind = _kind_of(path, mounts)
    if kind in _NETWORK_TYPES:
        raise StudyError(
            f"The study file {path} is on a network share ({kind}), where locks may not reach "
            "other machines and a study could be damaged.",
            hint="set STUDYFLOW_STORAGE to a database, or to a file on a local disk such as "
            f"journal:////var/tmp/{path.name}; everything else may stay on the share.",
        )


def is_on_network(path: Path, mounts: Path = MOUNTS) -> bool:
    """Return whether a path is known to be on a network share, where locks prove nothing.

    Args:
        path: A file or folder; it need not exist yet.
        mounts: Linux's list of mounts.
    """
    return _kind_of(path, mounts) in _NETWORK_TYPES | _CLUSTER_TYPES


def _kind_of(path: Path, mounts: Path) -> str | None:
    try:
        table = mounts.read_text()
    except OSError:
        return None
    return file_system(path.resolve(), table)


def file_system(path: Path, mounts: str) -> str | None:
    """Return the type of the file system that holds an absolute path, or `None`.

    Args:
        path: Absolute, without symbolic links.
        mounts: The text of `/proc/self/mountinfo`; see its manual page, proc(5).
    """
    found, kind = Path(), None
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields, types = before.split(), after.split()
        if len(fields) < 5 or not types:
            continue
        point = Path(_unescape(fields[4]))
        # Of two mounts at one point the later one hides the other.
        if path.is_relative_to(point) and len(point.parts) >= len(found.parts):
            found, kind = point, types[0]
    return kind


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)

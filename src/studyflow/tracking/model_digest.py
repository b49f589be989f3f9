"""What a model's files are, as digests: whether they are still those that were registered.

Pure but for reading files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

FILES_LIMIT_CHARS: Final = 4000
"""Longest list of files that a version's tag holds; of a model with more files only the digest of
all is kept, and a difference is not told file by file."""

SHOWN_LIMIT: Final = 5
"""How many differences a message names."""


def digests_in(path: Path) -> dict[str, str]:
    """Return the SHA-256 of a file, or of each file below a folder, by its path within it."""
    if path.is_file():
        return {path.name: _digest(path)}
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return {file.relative_to(path).as_posix(): _digest(file) for file in files}


def digest_of(files: Mapping[str, str]) -> str:
    """Return one SHA-256 of all files: of their paths and digests, in the order of the paths."""
    return hashlib.sha256(json.dumps(sorted(files.items())).encode()).hexdigest()


def listed(files: Mapping[str, str]) -> str:
    """Return files and digests as text for `differences`; empty when it would be too long."""
    text = json.dumps(dict(files), separators=(",", ":"), ensure_ascii=False)
    return text if len(text) <= FILES_LIMIT_CHARS else ""


def differences(digest: str, listing: str, found: Mapping[str, str]) -> str | None:
    """Return what is not as it was, in words; `None` when nothing is.

    Args:
        digest: Of all files, as it was.
        listing: The files as `listed` wrote them, as they were; empty when that is not known.
        found: The files as they are.
    """
    if digest_of(found) == digest:
        return None
    try:
        before = dict(json.loads(listing)) if listing else {}
    except (ValueError, TypeError):
        before = {}
    if digest_of(before) != digest:  # nobody knows what it was, or somebody changed the list
        return "its files have another digest"
    changes = [
        *(
            f"{name} was changed"
            for name in before
            if found.get(name, before[name]) != before[name]
        ),
        *(f"{name} is gone" for name in before if name not in found),
        *(f"{name} is new" for name in found if name not in before),
    ]
    more = f" and {len(changes) - SHOWN_LIMIT} more" if len(changes) > SHOWN_LIMIT else ""
    return ", ".join(changes[:SHOWN_LIMIT]) + more


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

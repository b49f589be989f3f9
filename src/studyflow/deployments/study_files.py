"""The study files that a person can choose by name: those of a checkout, or of the image."""

from __future__ import annotations

from pathlib import Path
from typing import Final

PATTERNS: Final = ("studies/*.yaml", "images/*/study*.yaml")
"""Where study files lie: in the orchestrator's image, and in a checkout."""


def study_files(folder: Path) -> tuple[str, ...]:
    """Return the study files below a folder, as paths from there, in alphabetical order."""
    found = (path for pattern in PATTERNS for path in folder.glob(pattern) if path.is_file())
    return tuple(sorted(path.relative_to(folder).as_posix() for path in found))

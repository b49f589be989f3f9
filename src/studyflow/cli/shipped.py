"""The flows and the examples: beside the package in a clone, within it in a wheel (`setup.py`)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from studyflow.errors import StudyflowError

_FLOW_FILES: Final = ("deploy.py", "run_study.py", "retrain_best.py", "compare_samplers.py")
_TITLE: Final = re.compile(r"^# .*\n+", re.MULTILINE)


@dataclass(frozen=True)
class Example:
    """A study with its training script, to be copied and changed."""

    name: str
    folder: Path
    """Where its files are; to be read only."""
    summary: str
    """Its README's first sentence."""

    @property
    def study_files(self) -> tuple[str, ...]:
        """Names of its study files; the shortest study first."""
        names = [path.name for path in self.folder.glob("study*.yaml")]
        return tuple(sorted(names, key=lambda name: ("short" not in name, name)))


def flows_folder() -> Path:
    """Return the folder of the flows' files.

    Raises:
        StudyflowError: They are missing: this is no clone, and no installed wheel.
    """
    # In the orchestrator's image they are where a worker starts its runs, too.
    for folder in (*_places("flows", "flows"), Path.cwd() / "flows"):
        if all((folder / name).is_file() for name in _FLOW_FILES):
            return folder
    raise _missing("files of the flows")


def examples() -> tuple[Example, ...]:
    """Return the examples by name.

    Raises:
        StudyflowError: They are missing: this is no clone, and no installed wheel.
    """
    for folder in _places("images", "examples"):
        found = sorted(path.parent for path in folder.glob("*/study.yaml"))
        if found:
            return tuple(Example(path.name, path, _summary(path)) for path in found)
    raise _missing("examples")


def _places(in_clone: str, in_wheel: str) -> tuple[Path, Path]:
    package = Path(__file__).parents[1]
    return package.parents[1] / in_clone, package / "shipped" / in_wheel


def _missing(what: str) -> StudyflowError:
    return StudyflowError(
        f"The {what} are neither in the package studyflow nor beside it.",
        hint="install studyflow as a wheel (pip install studyflow), or use a clone of the "
        "repository.",
    )


def _summary(folder: Path) -> str:
    readme = (folder / "README.md").read_text(encoding="utf-8")
    text = " ".join(_TITLE.sub("", readme, count=1).split("\n\n")[0].split())
    return re.split(r"(?<=\.)\s", text)[0]

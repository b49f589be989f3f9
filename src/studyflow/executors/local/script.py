"""Whether the script of a study's command is there, and which one may be meant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from studyflow.reasons import Code, Reason
from studyflow.spec.problems import suggest_name

MAX_NAMED: Final = 5
"""Most scripts that a message names."""

_WITH_VALUE: Final = ("-X", "-W")
"""Options of Python whose value is a word of its own."""


def missing_script(command: Sequence[str], folder: Path) -> Reason | None:
    """Return that the script of a `python FILE.py` is not there; `None` if it is, or there is none.

    Args:
        command: Program and arguments.
        folder: Folder that the script's path starts from.
    """
    script = script_of(command)
    if script is None or (folder / script).is_file():
        return None
    return Reason(
        Code.FILE_REFUSED,
        f"The script {script!r} of trial.command does not exist in {folder}.",
        f"{_instead(script, folder)}paths in trial.command start from the folder of the study "
        "file.",
    )


def script_of(command: Sequence[str]) -> str | None:
    """Return the Python script that a command runs; `None` for a module, code or other program."""
    if not command or not Path(command[0]).name.startswith("python"):
        return None
    words = iter(command[1:])
    for word in words:
        if word in _WITH_VALUE:
            next(words, None)
        elif word.startswith(("-c", "-m")):
            return None
        elif not word.startswith("-"):
            return word if word.endswith(".py") else None
    return None


def _instead(script: str, folder: Path) -> str:
    """Return which script may be meant, or which there are; empty where there is none."""
    try:
        paths = [*folder.glob("*.py"), *folder.glob("[!._]*/*.py")]
    except OSError:
        return ""
    known = sorted(str(path.relative_to(folder)) for path in paths)
    same = [name for name in known if Path(name).name == Path(script).name]
    close = same[0] if same else suggest_name(script, known)
    if close is not None:
        return f"did you mean {close}? "
    beside = [name for name in known if "/" not in name]
    if not beside:
        return ""
    more = f" and {len(beside) - MAX_NAMED} more" if len(beside) > MAX_NAMED else ""
    return f"there are {', '.join(beside[:MAX_NAMED])}{more}; "

"""What is wrong with a study file: a broken rule by path, and a problem by line and column."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from studyflow.reasons import Code, Finding, Level

Path = tuple[str | int, ...]
"""Keys and list positions from the top of the file to a value."""


@dataclass(frozen=True, slots=True)
class BrokenRule:
    """One broken rule, before anyone knows where in a file it stands."""

    path: Path
    """The value that breaks the rule."""
    message: str
    """Rule and value, without a full stop."""
    hint: str
    """The fix, without a full stop."""
    is_about_key: bool = False
    """Whether the key itself is wrong rather than the value under it."""
    code: Code = Code.VALUE_WRONG

    @property
    def concerns_keys(self) -> bool:
        """Whether the keys of a mapping are wrong: one is missing from it, or unknown."""
        return self.code in (Code.KEY_MISSING, Code.KEY_UNKNOWN)


@dataclass(frozen=True, slots=True)
class Problem:
    """One broken rule at its place in a study file."""

    path: str
    """Such as `search_space.lr.low` or `objectives[0].metric`; empty for the whole file."""
    line: int
    """From 1; 0 when there is no file."""
    column: int
    """In characters, from 1; 0 when there is no file."""
    message: str
    """Rule and value."""
    hint: str
    """The fix."""
    source: str = "study.yaml"
    """Name of the file."""
    code: Code = Code.STUDY_FILE_WRONG

    @classmethod
    def at(cls, broken: BrokenRule, line: int = 0, column: int = 0, source: str = "") -> Problem:
        """Return a broken rule at its place; without a line there is no file."""
        path = show_path(broken.path)
        return cls(path, line, column, broken.message, broken.hint, source, broken.code)

    @property
    def finding(self) -> Finding:
        """The same in the form of all diagnoses."""
        where = f"{self.source}:{self.line}:{self.column}" if self.line else self.source
        evidence = (where,) if where else ()
        return Finding(self.code, Level.PROBLEM, self.path, self.message, self.hint, evidence)

    def __str__(self) -> str:
        place = f"{self.source}:{self.line}:{self.column}: " if self.line else ""
        path = f"{self.path}: " if self.path else ""
        # Names and values come from the file: a line end among them must not break the line.
        line = f"{place}{path}{self.message}. Hint: {_ended(self.hint)}"
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def _ended(sentence: str) -> str:
    """Return a sentence with a full stop, unless it has an end of its own."""
    return sentence if sentence.endswith(("?", ".")) else f"{sentence}."


def show_path(path: Path) -> str:
    """Return a path as people write it, such as `objectives[0].metric`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def suggest_name(wrong: str, known: Iterable[str]) -> str | None:
    """Return the known name that a wrong one was probably meant to be."""
    known = list(known)
    # Long names cost time quadratic in their length, and no known name is that long.
    if begun := [name for name in known if len(wrong) > 2 and name.startswith(wrong)]:
        return begun[0]
    close = difflib.get_close_matches(wrong[:100].lower(), known, n=1, cutoff=0.6)
    return close[0] if close else None

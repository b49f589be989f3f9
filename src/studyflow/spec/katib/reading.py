"""A manifest that is read key by key: what nobody takes from it can be listed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from studyflow.spec.problems import BrokenRule, Path, show_path


@dataclass(frozen=True, slots=True)
class Change:
    """One part of an experiment that is not in the study file as it was."""

    path: Path
    """Where it stands in the experiment."""
    value: Any
    message: str
    """What became of it, a sentence without a full stop."""
    hint: str
    """What to do about it, without a full stop; empty when there is nothing to do."""
    is_left_out: bool = False
    """Whether the study file has nothing for it."""

    def __str__(self) -> str:
        shown = "" if isinstance(self.value, Mapping | list) else f": {self.value}"
        text = f"{show_path(self.path)}{shown[:80]} - {self.message}"
        return f"{text}. {self.hint[:1].upper()}{self.hint[1:]}." if self.hint else f"{text}."


@dataclass
class Notes:
    """What is found on the way: changes, and what makes the experiment impossible to read."""

    changes: list[Change] = field(default_factory=list)
    broken: list[BrokenRule] = field(default_factory=list)

    def changed(self, path: Path, value: Any, message: str, hint: str = "") -> None:
        """Note that something is otherwise in the study file."""
        self.changes.append(Change(path, value, message, hint))

    def left_out(self, path: Path, value: Any, message: str, hint: str) -> None:
        """Note that the study file has nothing for something."""
        self.changes.append(Change(path, value, message, hint, is_left_out=True))

    def wrong(self, path: Path, message: str, hint: str) -> None:
        """Note what no experiment may say."""
        self.broken.append(BrokenRule(path, message, hint))


class Part:
    """A mapping of a manifest whose keys are taken one by one.

    Args:
        data: The mapping; anything else counts as an empty one.
        path: Where it stands.
        notes: Where changes and mistakes are noted.
    """

    def __init__(self, data: Any, path: Path, notes: Notes) -> None:
        self.path = path
        self.notes = notes
        self._rest = dict(data) if isinstance(data, Mapping) else {}
        self._parts: list[Part] = []

    def __contains__(self, key: str) -> bool:
        return key in self._rest

    def keys(self) -> tuple[str, ...]:
        """Return the keys that nobody has taken yet."""
        return tuple(self._rest)

    def take(self, key: str) -> Any:
        """Take a value; `None` if it is not there."""
        return self._rest.pop(key, None)

    def peek(self, key: str) -> Any:
        """Return a value without taking it; `None` if it is not there."""
        return self._rest.get(key)

    def at(self, *keys: str | int) -> Path:
        """Return the path of something below."""
        return (*self.path, *keys)

    def part(self, key: str) -> Part:
        """Take a mapping, to be read key by key as well; an empty one if it is not there."""
        is_mapping = isinstance(self._rest.get(key), Mapping)
        found = Part(self._rest.pop(key) if is_mapping else {}, self.at(key), self.notes)
        self._parts.append(found)
        return found

    def parts(self, key: str) -> list[Part]:
        """Take a list of mappings, each to be read key by key."""
        listed = self._rest.get(key)
        if not isinstance(listed, list):
            return []
        del self._rest[key]
        found = [Part(one, self.at(key, i), self.notes) for i, one in enumerate(listed)]
        self._parts += found
        return found

    def settings(self, key: str) -> Part:
        """Take a list of `{name, value}` as one mapping."""
        listed = self.take(key)
        pairs = listed if isinstance(listed, list) else []
        named = {str(one["name"]): one.get("value") for one in pairs if "name" in one}
        found = Part(named, self.at(key), self.notes)
        self._parts.append(found)
        return found

    def number(self, key: str) -> float | None:
        """Take a number, which Katib writes as a text; what is none is noted as wrong."""
        value = self.take(key)
        if value is None or value == "":
            return None
        try:
            return float(value)
        except (TypeError, ValueError):
            self.notes.wrong(
                self.at(key), f"must be a number, but it is {value!r}", "correct the experiment"
            )
            return None

    def whole(self, key: str) -> int | None:
        """Take a whole number; what is none is noted as wrong."""
        value = self.take(key)
        if value is None or value == "":
            return None
        try:
            return int(str(value))
        except ValueError:
            self.notes.wrong(
                self.at(key),
                f"must be a whole number, but it is {value!r}",
                "correct the experiment",
            )
            return None

    def rest(self) -> Iterator[tuple[Path, Any]]:
        """Yield what nobody has taken, here and below, in the order of the manifest."""
        for key, value in self._rest.items():
            if value not in (None, {}, [], ""):
                yield self.at(key), value
        for part in self._parts:
            yield from part.rest()

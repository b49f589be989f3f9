"""Study files: YAML 1.2 in, a `StudySpec` or every problem with line and column out.

The text is composed, not loaded: PyYAML's nodes know where they stand. Sizes are bounded before
anything is built, so no file can hang or exhaust the reader.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, Final, TypeVar

import yaml
from yaml.composer import Composer
from yaml.parser import Parser
from yaml.reader import Reader, ReaderError
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from studyflow.errors import SpecError
from studyflow.spec.check import check_mapping
from studyflow.spec.models import StudySpec
from studyflow.spec.problems import BrokenRule, Path, Problem
from studyflow.spec.scalars import MAP, PATTERNS, SEQ, STR, read_scalar

SIZE_LIMIT_BYTES: Final = 1024 * 1024
"""Longest study file; a thousand parameters take a tenth of it."""

DEPTH_LIMIT: Final = 20
"""Deepest nesting; a study needs six levels."""

NODE_LIMIT: Final = 100_000
"""Most values in a file, aliases followed: a few lines of aliases can stand for billions."""


_T = TypeVar("_T")

Findings = tuple[BrokenRule, ...]

Rules = Callable[[Mapping[str, Any]], Findings]
"""More rules for a parsed study file, such as those for its pods where pods are meant to run."""


def read_study(path: FilePath, rules: Rules | None = None) -> StudySpec:
    """Return the study that a file describes.

    Args:
        path: The file.
        rules: What it must keep to besides being a study.

    Raises:
        SpecError: The file cannot be read or is wrong; every problem is in the message, with line
            and column, rule, value and fix.
    """
    source = path.name or str(path)
    try:
        with path.open("rb") as file:
            raw = file.read(SIZE_LIMIT_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path.
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        problem = Problem(
            path="",
            line=0,
            column=0,
            message=f"Cannot read {path}: {reason}",
            hint="check the path and its permissions",
            source=source,
        )
        raise spec_error((problem,), source) from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode(errors="replace")) + 1
        problem = Problem(
            path="",
            line=line,
            column=column,
            message=f"the file must be UTF-8, but it holds the byte 0x{raw[error.start]:02x}",
            hint="save it as UTF-8 in your editor",
            source=source,
        )
        # A cut in the middle of a character is the size limit's doing.
        if len(raw) <= SIZE_LIMIT_BYTES:
            raise spec_error((problem,), source) from error
        text = raw.decode(errors="replace")
    return read_text(text, source=source, rules=rules)


def read_text(text: str, *, source: str = "study.yaml", rules: Rules | None = None) -> StudySpec:
    """Return the study that a text describes.

    Raises:
        SpecError: The text is wrong; every problem is in the message.
    """
    spec, problems = find_problems(text, source=source, rules=rules)
    if spec is None:
        raise spec_error(problems, source)
    return spec


def read_mapping(mapping: Mapping[str, Any]) -> StudySpec:
    """Return the study that an already parsed mapping describes.

    Raises:
        SpecError: The mapping is wrong; every problem is in the message, by its path.
    """
    spec, findings = check_mapping(mapping)
    if spec is None:
        problems = tuple(map(Problem.at, findings))
        raise spec_error(problems, "the study")
    return spec


def find_problems(
    text: str, *, source: str = "study.yaml", rules: Rules | None = None
) -> tuple[StudySpec | None, tuple[Problem, ...]]:
    """Return the study that a text describes, or `None` and everything wrong with it.

    Never raises. Problems come in the order of the file.

    Args:
        text: A study file.
        source: Its name, for the problems.
        rules: What it must keep to besides being a study.
    """

    def check(data: Any) -> tuple[StudySpec | None, Findings]:
        spec, findings = check_mapping(data)
        if rules is not None and isinstance(data, dict):
            known = {finding.path for finding in findings}
            more = rules(data)
            findings = (*findings, *(one for one in more if one.path not in known))
        return spec, findings

    return find_problems_in(text, source, check)


def find_problems_in(
    text: str, source: str, check: Callable[[Any], tuple[_T | None, Findings]]
) -> tuple[_T | None, tuple[Problem, ...]]:
    """Return what a YAML text describes, or `None` and everything wrong with it.

    Args:
        text: The whole file.
        source: Its name, for the problems.
        check: Takes the parsed text; returns what it describes and all that is wrong with it.
    """
    try:
        document = _read_yaml(text)
    except _NotYaml as error:
        return None, (Problem("", error.line, error.column, error.message, error.hint, source),)
    found, findings = check(document.data)
    # A value that is wrong as YAML has no meaning that a rule could be broken by.
    located = [(f, document.position(f)) for f in findings if f.path not in document.spoiled]
    located += [(f, (mark.line + 1, mark.column + 1)) for f, mark in document.findings]
    problems = [Problem.at(f, *position, source) for f, position in located]
    if problems:
        return None, tuple(sorted(problems, key=lambda p: (p.line, p.column, p.path)))
    return found, ()


def spec_error(problems: Sequence[Problem], source: str) -> SpecError:
    """Return the error that holds all problems of a study."""
    count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
    return SpecError(f"{source} has {count}:", problems=tuple(str(p) for p in problems))


class _NotYaml(Exception):
    """The text cannot be read as one YAML document."""

    def __init__(self, line: int, column: int, message: str, hint: str) -> None:
        super().__init__(message)
        self.line = line
        self.column = column
        self.message = message
        self.hint = hint


@dataclass
class _Document:
    """Plain values, where they stand, and what was wrong with them as YAML."""

    data: Any = None
    values: dict[Path, yaml.Mark] = field(default_factory=dict)
    keys: dict[Path, yaml.Mark] = field(default_factory=dict)
    findings: list[tuple[BrokenRule, yaml.Mark]] = field(default_factory=list)
    spoiled: set[Path] = field(default_factory=set)
    """Values that were replaced by something else, because YAML gives them no meaning."""
    n_nodes: int = 0

    def spoil(self, node: yaml.Node, path: Path) -> None:
        """Note that a tag and its value do not fit, or that the tag is unknown."""
        self.findings.append((_bad_tag(node, path), node.start_mark))
        self.spoiled.add(path)

    def position(self, finding: BrokenRule) -> tuple[int, int]:
        """Return line and column: of a scalar itself, of the key of a mapping or list."""
        path = finding.path
        value: Any = self.data
        for part in path:
            value = value[part] if _has(value, part) else None
        is_container = isinstance(value, dict | list)
        marks = (self.keys, self.values)
        if not finding.is_about_key and not is_container:
            marks = (self.values, self.keys)
        mark = marks[0].get(path) or marks[1].get(path)
        return (1, 1) if mark is None else (mark.line + 1, mark.column + 1)


def _has(value: Any, part: str | int) -> bool:
    if isinstance(value, dict):
        return part in value
    return isinstance(value, list) and isinstance(part, int) and part < len(value)


class _CoreResolver(BaseResolver):
    """Tags of YAML 1.2's core schema."""


for _tag, _pattern, _first in PATTERNS:
    _CoreResolver.add_implicit_resolver(_tag, _pattern, list(_first))


class _Composer(Reader, Scanner, Parser, Composer, _CoreResolver):
    """PyYAML up to nodes, with a bound on depth; no Python object is ever constructed."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        _CoreResolver.__init__(self)
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self._depth > DEPTH_LIMIT:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise _too_deep(mark)
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


def _too_deep(mark: yaml.Mark) -> _NotYaml:
    return _NotYaml(
        mark.line + 1,
        mark.column + 1,
        f"values must nest at most {DEPTH_LIMIT} deep, but here they go deeper",
        "close the brackets that were opened, or check the indentation",
    )


def _read_yaml(text: str) -> _Document:
    if len(text) > SIZE_LIMIT_BYTES or len(text.encode(errors="replace")) > SIZE_LIMIT_BYTES:
        raise _NotYaml(
            1,
            1,
            f"a study file must be at most {SIZE_LIMIT_BYTES} bytes long, but this one is longer",
            "is this the right file? Long lists of values belong into the training script",
        )
    node = _compose(text.removeprefix("\ufeff"))
    if node is None:
        raise _NotYaml(
            1, 1, "the file must describe a study, but it is empty", "begin with `name: ...`"
        )
    document = _Document()
    document.values[()] = node.start_mark
    document.data = _plain(node, (), document, ())
    return document


def _compose(text: str) -> Any:
    """Return the top node of the only document, `None` when there is none."""
    try:
        composer = _Composer(text)
        node = composer.get_single_node()
    except ReaderError as error:
        before = text[: error.position]
        code = error.character if isinstance(error.character, int) else ord(error.character)
        raise _NotYaml(
            before.count("\n") + 1,
            len(before) - before.rfind("\n"),
            f"the file must hold printable characters only, but here is U+{code:04X}",
            "remove that character",
        ) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (1, 1) if mark is None else (mark.line + 1, mark.column + 1)
        raise _NotYaml(line, column, *_explain(error, text, line)) from error
    except (ValueError, OverflowError) as error:
        # PyYAML turns escapes such as "\UFFFFFFFF" into characters without a look at their range.
        raise _NotYaml(
            1,
            1,
            "the file must be YAML, but an escape in it names no character",
            r"look for \U and \u with digits that are no character",
        ) from error
    return node


def _explain(error: yaml.MarkedYAMLError, text: str, line: int) -> tuple[str, str]:
    """Return message and hint for an error of PyYAML's scanner, parser or composer."""
    problem = error.problem or ""
    if "but found another document" in problem:
        return "a file must hold one study, but here begins another document", (
            "remove the line `---`, or move the second study to a file of its own"
        )
    if "undefined alias" in problem:
        return f"an alias must have an anchor before it, but this one has none ({problem[6:]})", (
            "add the anchor, or put the text in quotes if `*` belongs to it"
        )
    lines = text.splitlines()
    here = lines[line - 1] if line <= len(lines) else ""
    if "'\\t'" in problem or here[: len(here) - len(here.lstrip())].count("\t"):
        return "YAML must be indented by blanks, but here is a tab", "replace tabs by blanks"
    if "mapping values are not allowed" in problem:
        return "a colon must not stand here (YAML: mapping values are not allowed here)", (
            "check the indentation, or put the text with the colon in quotes"
        )
    reason = f"{error.context}, {problem}" if error.context else problem
    return f"the file must be YAML, but it breaks off here (YAML: {reason})", (
        "check brackets, quotes and indentation here and on the line before"
    )


def _plain(node: Any, path: Path, document: _Document, above: tuple[int, ...]) -> Any:
    """Return a node as plain Python and note where everything stands."""
    document.n_nodes += 1
    if document.n_nodes > NODE_LIMIT:
        raise _NotYaml(
            node.start_mark.line + 1,
            node.start_mark.column + 1,
            f"a study must hold at most {NODE_LIMIT} values, but aliases make it hold more",
            "write out what the aliases stand for",
        )
    if id(node) in above:
        raise _NotYaml(
            node.start_mark.line + 1,
            node.start_mark.column + 1,
            "an alias must not stand inside of what it stands for, but this value holds itself",
            "write out what the alias stands for",
        )
    if len(above) > DEPTH_LIMIT:
        raise _too_deep(node.start_mark)
    above = (*above, id(node))
    if isinstance(node, yaml.ScalarNode):
        try:
            return read_scalar(node.tag, node.value)
        except ValueError:
            document.spoil(node, path)
            return node.value[:100]
    expected = SEQ if isinstance(node, yaml.SequenceNode) else MAP
    if node.tag != expected:
        document.spoil(node, path)
    if isinstance(node, yaml.SequenceNode):
        items = []
        for i, item in enumerate(node.value):
            document.values[(*path, i)] = document.keys[(*path, i)] = item.start_mark
            items.append(_plain(item, (*path, i), document, above))
        return items
    return _plain_mapping(node, path, document, above)


def _plain_mapping(
    node: Any, path: Path, document: _Document, above: tuple[int, ...]
) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            finding = BrokenRule(
                path, "a key must be a text, but here is a list or mapping", "give it a name"
            )
            document.findings.append((finding, key.start_mark))
            continue
        # Keys are names whatever they look like: `1: x` names a parameter "1".
        name = key.value
        below = (*path, name)
        if name in mapping:
            first = document.keys[below].line + 1
            finding = BrokenRule(
                below,
                f"a key must stand once, but {name[:60]!r} stands in line {first} too",
                "remove one of them",
            )
            document.findings.append((finding, key.start_mark))
            continue
        document.keys[below] = key.start_mark
        document.values[below] = value.start_mark
        mapping[name] = _plain(value, below, document, above)
    return mapping


def _bad_tag(node: Any, path: Path) -> BrokenRule:
    if node.tag in (STR, *(tag for tag, _, _ in PATTERNS)):
        kind = node.tag.rpartition(":")[2]
        value = node.value if len(node.value) <= 60 else f"{node.value[:57]}..."
        return BrokenRule(path, f"must be written as {kind}, but it is {value!r}", "fix the value")
    return BrokenRule(
        path,
        f"a value must be plain YAML, but it has the tag {node.tag[:60]!r}",
        "remove the tag (the word that begins with `!`)",
    )

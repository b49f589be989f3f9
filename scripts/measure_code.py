"""Measures of the code's shape, as a table; `--list` names what each number counts.

    python scripts/measure_code.py [--list] [FOLDER]

Standard library only. FOLDER is a checkout, by default the one that holds this script. Every number
comes from the syntax trees, so comments and texts do not change it. None is a gate: a number that
grows is a question to whoever reads the change.
"""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

LONG_FILE: Final = 450
"""Lines above which a file is listed."""

_MESSAGES: Final = re.compile(
    r"\b(message|messages|msg|hint|reason|explanation|detail|describe|described)\b"
    r"|\bstr\((error|exc|exception|e|err|cause)\)"
)
"""What reads like words for people where it is taken apart or compared."""
_TEXT_TESTS: Final = frozenset(
    {"startswith", "endswith", "partition", "rpartition", "find", "index"}
)
"""Methods of a text by which a caller may decide."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """One parsed Python file."""

    path: Path
    """Relative to the checkout."""
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree."""
        return ast.parse(self.text, str(self.path))

    @cached_property
    def n_lines(self) -> int:
        """Number of lines, blank ones and comments too."""
        return len(self.text.splitlines())

    def at(self, node: ast.AST, what: str = "") -> str:
        """Return where a node is, `path:line`, and what it is."""
        return f"{self.path}:{getattr(node, 'lineno', 1)} {what}".rstrip()


@dataclass(frozen=True)
class Measure:
    """One row of the table."""

    name: str
    value: str
    aim: str
    found: tuple[str, ...] = ()
    """What the value counts, or what it misses: one line each."""


def read_sources(root: Path, folder: str) -> list[Source]:
    """Return the Python files below a folder of a checkout, by path."""
    return [
        Source(path.relative_to(root), path.read_text(encoding="utf-8"))
        for path in sorted((root / folder).rglob("*.py"))
    ]


def measure(root: Path) -> list[Measure]:
    """Return all rows for the checkout at `root`."""
    source, tests = read_sources(root, "src"), read_sources(root, "tests")
    own = [file for file in source if "testing" not in file.path.parts]
    return [
        _largest_class(source),
        _long_files(source),
        _top_modules(root),
        _per_thousand("broad excepts per 1,000 lines", "≤ 0.5", source, _broad_excepts),
        _per_thousand("asserts per 1,000 lines, without testing/", "≤ 0.5", own, _asserts),
        _public_docstrings(source),
        _raises_sections(source),
        _test_lines(source, tests),
        _per_thousand("private reaches per 1,000 lines of tests", "≤ 0.5", tests, _private_reaches),
        _decisions_by_words(source),
    ]


def _largest_class(source: Sequence[Source]) -> Measure:
    classes = sorted(
        (
            (_length(node), file.at(node, node.name))
            for file in source
            for node in ast.walk(file.tree)
            if isinstance(node, ast.ClassDef)
        ),
        reverse=True,
    )
    found = tuple(f"{length:5d} {place}" for length, place in classes[:10])
    length, place = classes[0]
    return Measure("largest class, lines", f"{length} ({place.split()[-1]})", "300", found)


def _long_files(source: Sequence[Source]) -> Measure:
    long = sorted(((f.n_lines, str(f.path)) for f in source if f.n_lines > LONG_FILE), reverse=True)
    found = tuple(f"{lines:5d} {path}" for lines, path in long)
    return Measure(f"files over {LONG_FILE} lines", str(len(long)), "0", found)


def _top_modules(root: Path) -> Measure:
    names = sorted(
        path.name
        for path in (root / "src" / "studyflow").glob("*.py")
        if not path.name.startswith("__")
    )
    return Measure("modules directly under src/studyflow", str(len(names)), "≤ 10", tuple(names))


def _broad_excepts(file: Source) -> Iterator[str]:
    """Yield the handlers that catch any exception."""
    for node in ast.walk(file.tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        names = {type_.id for type_ in caught if isinstance(type_, ast.Name)}
        if node.type is None or names & {"Exception", "BaseException"}:
            yield file.at(node)


def _asserts(file: Source) -> Iterator[str]:
    """Yield the assert statements."""
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Assert):
            yield file.at(node, ast.unparse(node.test))


def _public_docstrings(source: Sequence[Source]) -> Measure:
    described = missing = 0
    found: list[str] = []
    for file in source:
        for name, node in _public(file):
            if ast.get_docstring(node):
                described += 1
            else:
                missing += 1
                found.append(file.at(node, name))
    return Measure(
        "public docstrings", _share(described, described + missing), "≥ 90 %", tuple(found)
    )


def _raises_sections(source: Sequence[Source]) -> Measure:
    described = missing = 0
    found: list[str] = []
    for file in source:
        for name, node in _public(file):
            if not isinstance(node, Function) or not _raises(node):
                continue
            if re.search(r"^\s*Raises:", ast.get_docstring(node) or "", re.MULTILINE):
                described += 1
            else:
                missing += 1
                found.append(file.at(node, name))
    return Measure(
        "of public functions that raise, with `Raises`",
        _share(described, described + missing),
        "≥ 85 %",
        tuple(found),
    )


def _test_lines(source: Sequence[Source], tests: Sequence[Source]) -> Measure:
    n_tests, n_source = (sum(file.n_lines for file in files) for files in (tests, source))
    found = (f"{n_tests} lines of tests", f"{n_source} lines of source")
    return Measure("test lines per source line", f"{n_tests / n_source:.2f}", "≥ 1.0", found)


def _private_reaches(file: Source) -> Iterator[str]:
    """Yield uses of `other._name`, except of names that the file itself defines."""
    own = {
        node.name
        for node in ast.walk(file.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    own |= {
        node.attr
        for node in ast.walk(file.tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and _is_self(node.value)
    }
    for node in ast.walk(file.tree):
        if not isinstance(node, ast.Attribute) or _is_self(node.value):
            continue
        if ast.unparse(node) == "os._exit":  # documented, whatever its name says
            continue
        if node.attr.startswith("_") and not node.attr.startswith("__") and node.attr not in own:
            yield file.at(node, ast.unparse(node))


def _decisions_by_words(source: Sequence[Source]) -> Measure:
    found = tuple(line for file in source for line in _parsed_messages(file))
    return Measure("decisions by the words of a message (likely)", str(len(found)), "0", found)


def _parsed_messages(file: Source) -> Iterator[str]:
    """Yield where a text for people is searched for words, or taken apart by them."""
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In | ast.NotIn):
            is_text = isinstance(node.left, ast.Constant) and isinstance(node.left.value, str)
            subject = node.comparators[0]
            is_container = isinstance(subject, ast.Tuple | ast.List | ast.Set | ast.Dict)
            if is_text and not is_container and _is_message(subject):
                yield file.at(node, ast.unparse(node))
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in _TEXT_TESTS
            and node.args
            and _holds_words(node.args[0])
            and _is_message(node.func.value)
        ):
            yield file.at(node, ast.unparse(node))


def _is_message(node: ast.expr) -> bool:
    return _MESSAGES.search(ast.unparse(node)) is not None


def _holds_words(node: ast.expr) -> bool:
    """Return whether a text is more than white space: `partition` at a line's end decides nothing.

    A name counts, since it may stand for any text.
    """
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str) and bool(node.value.strip())
    return True


def _public(file: Source) -> Iterator[tuple[str, ast.Module | ast.ClassDef | Function]]:
    """Yield the module, and its public classes, functions and methods, with their dotted names."""
    if any(part.startswith("_") for part in file.path.with_suffix("").parts if part != "__init__"):
        return
    if file.tree.body:
        yield file.path.stem, file.tree
    yield from _public_members(file.tree.body, "")


def _public_members(
    body: Iterable[ast.stmt], prefix: str
) -> Iterator[tuple[str, ast.ClassDef | Function]]:
    for node in body:
        if not isinstance(node, ast.ClassDef | Function) or node.name.startswith("_"):
            continue
        if _is_overload(node):
            continue
        yield prefix + node.name, node
        if isinstance(node, ast.ClassDef):
            yield from _public_members(node.body, f"{prefix}{node.name}.")


def _is_overload(node: ast.ClassDef | Function) -> bool:
    names = {ast.unparse(decorator).rpartition(".")[2] for decorator in node.decorator_list}
    return bool(names & {"overload", "setter"})


def _raises(function: Function) -> bool:
    """Return whether the function's own body raises an exception, other than one it caught."""
    inner: list[ast.AST] = list(function.body)
    while inner:
        node = inner.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            continue
        if isinstance(node, ast.Raise) and node.exc is not None:
            return True
        inner.extend(ast.iter_child_nodes(node))
    return False


def _per_thousand(
    name: str, aim: str, files: Sequence[Source], find: Callable[[Source], Iterator[str]]
) -> Measure:
    found = tuple(line for file in files for line in find(file))
    n_lines = sum(file.n_lines for file in files)
    return Measure(name, f"{1000 * len(found) / n_lines:.2f} ({len(found)})", aim, found)


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in {"self", "cls"}


def _length(node: ast.ClassDef) -> int:
    assert node.end_lineno is not None, "parsed from a text"
    return node.end_lineno - node.lineno + 1


def _share(part: int, whole: int) -> str:
    return f"{100 * part / max(whole, 1):.0f} % ({part} of {whole})"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--list", action="store_true", help="name what each number counts")
    options = parser.parse_args(arguments)
    rows = measure(options.folder)
    first, second = (max(len(text) for text in column) for column in _columns(rows))
    print(f"{'measure':{first}}  {'now':{second}}  aim")
    for row in rows:
        print(f"{row.name:{first}}  {row.value:{second}}  {row.aim}")
        if options.list:
            for line in row.found:
                print(f"    {line}")


def _columns(rows: Sequence[Measure]) -> tuple[list[str], list[str]]:
    return [row.name for row in rows], [row.value for row in rows]


if __name__ == "__main__":
    main()

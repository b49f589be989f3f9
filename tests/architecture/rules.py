"""What the code's shape must keep to, as functions from syntax trees to what breaks it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
SOURCE: Final = ROOT / "src" / "studyflow"

WORDS: Final = frozenset(
    {"message", "messages", "msg", "hint", "reason", "note", "told", "said", "why", "explanation"}
)
"""Names under which this code holds words for people."""
ERRORS: Final = frozenset({"error", "err", "exc", "e", "exception", "failure", "cause"})
"""Names under which it holds exceptions."""
TEXT_TESTS: Final = frozenset(
    {"startswith", "endswith", "partition", "rpartition", "find", "rfind", "index", "count"}
    | {"removeprefix", "removesuffix", "split", "rsplit"}
)
"""Methods of a text that tell what is in it."""
PATTERN_TESTS: Final = frozenset({"search", "match", "fullmatch", "findall", "finditer", "sub"})
"""Functions of `re`, and methods of its patterns."""
TEXT_COPIES: Final = frozenset(
    {"lower", "upper", "casefold", "strip", "lstrip", "rstrip", "format"}
)


@dataclass(frozen=True)
class Module:
    """One Python file of the package."""

    name: str
    """Its path below the package, such as `study/verdict.py`."""
    tree: ast.Module

    @classmethod
    def read(cls, path: Path) -> Module:
        return cls(str(path.relative_to(SOURCE)), ast.parse(path.read_text(encoding="utf-8")))


def modules() -> list[Module]:
    """Return all modules of the package, by path."""
    return [Module.read(path) for path in sorted(SOURCE.rglob("*.py"))]


# ---- decisions by words --------------------------------------------------------------------------


def decisions_by_words(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and text of each place that decides by the words of a message."""
    for node in ast.walk(tree):
        if (isinstance(node, ast.Compare) and _compares_words(node)) or (
            isinstance(node, ast.Call) and _tests_words(node)
        ):
            yield node.lineno, ast.unparse(node)


def _compares_words(node: ast.Compare) -> bool:
    sides = (node.left, *node.comparators)
    for operator, left, right in zip(node.ops, sides, sides[1:], strict=False):
        if isinstance(operator, ast.In | ast.NotIn) and (
            _is_words(right) or (_is_words(left) and not _is_own_memory(right))
        ):
            return True
        if isinstance(operator, ast.Eq | ast.NotEq):
            pair = ((left, right), (right, left))
            if any(_is_words(one) and _is_some_text(other) for one, other in pair):
                return True
    return False


def _tests_words(node: ast.Call) -> bool:
    if not isinstance(node.func, ast.Attribute):
        return False
    if node.func.attr in TEXT_TESTS and _is_words(node.func.value):
        return not _takes_lines(node)
    return node.func.attr in PATTERN_TESTS and any(map(_is_words, node.args))


def _takes_lines(node: ast.Call) -> bool:
    """Whether a text is only cut into lines: showing the first one decides nothing."""
    return bool(node.args) and isinstance(node.args[0], ast.Constant) and node.args[0].value == "\n"


def _is_own_memory(node: ast.expr) -> bool:
    """Whether an expression is `self.something`: asking whether a note was told before is fine."""
    return isinstance(node, ast.Attribute) and (
        isinstance(node.value, ast.Name) and node.value.id == "self"
    )


def _is_some_text(node: ast.expr) -> bool:
    """Whether an expression is a text that is not empty: asking whether there are words is fine."""
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str) and bool(node.value)
    )


def _is_words(node: ast.expr) -> bool:
    """Whether an expression holds words for people, as far as its names tell."""
    match node:
        case ast.Name(id=name):
            return name in WORDS
        case ast.Attribute(attr=name):
            return name in WORDS
        case ast.Call(func=ast.Name(id="str" | "repr"), args=[about, *_]):
            is_error = isinstance(about, ast.Name) and about.id in ERRORS
            return is_error or _is_words(about)
        case ast.Call(func=ast.Attribute(value=value, attr=method)):
            return method in TEXT_COPIES and _is_words(value)
        case ast.Subscript(value=value, slice=ast.Slice()):
            return _is_words(value)
        case ast.BoolOp(values=values):
            return any(map(_is_words, values))
        case ast.NamedExpr(value=value):
            return _is_words(value)
    return False


# ---- sizes and broad excepts ---------------------------------------------------------------------


def long_classes(tree: ast.AST, limit: int) -> Iterator[tuple[str, int]]:
    """Yield name and number of lines of each class that is longer than the limit."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            n_lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if n_lines > limit:
                yield node.name, n_lines


def broad_excepts(tree: ast.AST) -> Iterator[int]:
    """Yield the line of each `except` that catches everything, or nearly."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        if any(
            kind is None
            or (isinstance(kind, ast.Name) and kind.id in ("Exception", "BaseException"))
            for kind in kinds
        ):
            yield node.lineno


# ---- executors -----------------------------------------------------------------------------------


def executor_comparisons(tree: ast.AST, names: frozenset[str]) -> Iterator[tuple[int, str]]:
    """Yield line and text of each place that compares something with the name of an executor."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and any(
            isinstance(side, ast.Constant) and side.value in names
            for side in (node.left, *node.comparators)
        ):
            yield node.lineno, ast.unparse(node)

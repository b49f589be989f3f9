"""The shape of the code: nobody decides by words, and nothing grows without being asked about.

Who may import whom is `tool.importlinter` in `pyproject.toml`.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Final, get_args

import pytest
from tests.architecture.rules import (
    SOURCE,
    broad_excepts,
    decisions_by_words,
    executor_comparisons,
    long_classes,
    modules,
)

from studyflow.settings import ExecutorName

MODULES: Final = modules()

PARSERS: Final[Mapping[str, str]] = {
    "executors/diagnosis/failures.py": "a script's exceptions are lines of its log",
    "executors/kubernetes/words.py": "Kubernetes' scheduler, quotas and kubelets give no codes",
    "study/stop_rules.py": "failures are alike when a script's own words are, without numbers",
    "trial/causes.py": "allocators say only in words that memory is short",
}
"""The modules that turn somebody else's words into codes, and why they have to read them."""

LONGEST_CLASS: Final = 300

LONG_CLASSES: Final[Mapping[str, int]] = {}
"""Classes that are longer, by name, with their lines. This list only shrinks."""

MOST_TOP_LEVEL_MODULES: Final = 10
"""Modules directly under `studyflow`, without `__init__` and `__main__`."""

MOST_BROAD_EXCEPTS: Final = 22
"""Handlers of `except Exception` in the package. This number only shrinks."""


def test_nobody_decides_by_the_words_of_a_message() -> None:
    found = {
        module.name: [f"line {line}: {text}" for line, text in decisions_by_words(module.tree)]
        for module in MODULES
        if module.name not in PARSERS and not module.name.startswith("testing/")
    }
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_every_parser_of_foreign_words_is_one() -> None:
    decides = {module.name for module in MODULES if any(decisions_by_words(module.tree))}
    assert set(PARSERS) - decides == set(), "these read no words any more: strike them out"


@pytest.mark.parametrize(
    "line",
    [
        'if "exceeded quota" in reason: pass',
        'if pending.reason.startswith("The image"): pass',
        'told, _, hint = record.message.partition(" Hint: ")',
        'is_missing = finding.message.endswith(" is missing")',
        'if str(error) == "no such run": pass',
        'if "locked" in str(error).lower(): pass',
        "match = re.search(PATTERN, outcome.message)",
        "match = _QUOTA.search(pending.reason)",
        'if message[:10] == "Cannot use": pass',
        "if reason in KNOWN_SENTENCES: pass",
        'text = reason.removeprefix("Unschedulable: ")',
    ],
)
def test_a_decision_by_words_is_found(line: str) -> None:
    assert len(list(decisions_by_words(ast.parse(line)))) == 1


@pytest.mark.parametrize(
    "line",
    [
        "if reason.code is Cause.QUOTA: pass",
        'if message == "": pass',
        "if not record.message: pass",
        "if note not in self._notes: pass",
        'first = str(error).partition("\\n")[0]',
        'shown = f"{reason.message} Hint: {reason.hint}"',
        'if name.startswith("studyflow"): pass',
    ],
)
def test_what_decides_by_nothing_of_a_message_is_fine(line: str) -> None:
    assert list(decisions_by_words(ast.parse(line))) == []


def test_no_class_is_longer_than_can_be_held_in_the_head() -> None:
    found = {
        f"{module.name}: {name}": n_lines
        for module in MODULES
        for name, n_lines in long_classes(module.tree, LONGEST_CLASS)
    }
    assert found == LONG_CLASSES


def test_few_modules_stand_at_the_top() -> None:
    names = {path.stem for path in SOURCE.glob("*.py")} - {"__init__", "__main__"}
    assert len(names) <= MOST_TOP_LEVEL_MODULES, sorted(names)


def test_broad_excepts_become_fewer() -> None:
    found = [f"{m.name}:{line}" for m in MODULES for line in broad_excepts(m.tree)]
    assert len(found) <= MOST_BROAD_EXCEPTS, "\n".join(found)


def test_sizes_and_broad_excepts_are_found() -> None:
    tree = ast.parse(
        "class A:\n    x = 1\n    y = 2\n"
        "try:\n    pass\nexcept (ValueError, Exception):\n    pass\n"
        "try:\n    pass\nexcept ValueError:\n    pass\n"
    )
    assert list(long_classes(tree, 2)) == [("A", 3)]
    assert list(long_classes(tree, 3)) == []
    assert list(broad_excepts(tree)) == [6]


def test_what_differs_between_executors_is_said_by_their_kinds() -> None:
    names = frozenset(get_args(ExecutorName))
    found = {
        module.name: list(executor_comparisons(module.tree, names))
        for module in MODULES
        if not module.name.startswith("testing/")
    }
    assert {name: lines for name, lines in found.items() if lines} == {}
    tree = ast.parse('if settings.executor != "kubernetes" or "local" == name: pass')
    assert len(list(executor_comparisons(tree, names))) == 2

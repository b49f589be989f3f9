"""What became of the long forms of tests when they last ran: kept in a file, shown on the page.

`make test-long` writes the file; each test there has the date of its own last run.
"""

from __future__ import annotations

import ast
import json
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILE = Path(__file__).with_name("last_long_run.json")


@dataclass(frozen=True, slots=True)
class LongRun:
    """One long test's last run."""

    test: str
    """As pytest names it."""
    date: str
    """UTC, as in 2026-11-30."""
    outcome: str
    """`passed` or `failed`."""
    seconds: int
    did: str = ""
    """What the test says of itself by `record_property("did", ...)`."""


def last_runs(path: Path = FILE) -> tuple[LongRun, ...]:
    """Return what the file holds, sorted by test; nothing where there is no file."""
    if not path.exists():
        return ()
    return tuple(LongRun(**run) for run in json.loads(path.read_text()))


def long_tests(root: Path = ROOT) -> frozenset[str]:
    """Return the names `file::test` of tests of which the source marks all or some cases long."""
    return frozenset(
        f"{path.relative_to(root)}::{name}"
        for path in (root / "tests").rglob("test_*.py")
        if "mark.long" in (text := path.read_text())
        for name in _long_tests(ast.parse(text))
    )


def _long_tests(tree: ast.Module) -> set[str]:
    """Return the tests that are marked long, or have a fixture of that module that is."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    marked = {
        node.name
        for node in functions
        if any("pytest.mark.long" in ast.unparse(mark) for mark in node.decorator_list)
    }
    return {
        node.name
        for node in functions
        if node.name.startswith("test_")
        and not marked.isdisjoint([node.name, *(argument.arg for argument in node.args.args)])
    }


def section(runs: Collection[LongRun], known: Collection[str]) -> str:
    """Return the page's section on the long tests.

    Args:
        runs: What became of those that ran.
        known: All of them, as `file::test`.
    """
    missing = sorted(set(known) - {run.test.partition("[")[0] for run in runs})
    rows = [
        *(
            f"| `{_short(run.test)}` | {run.did} | {run.date} | {run.outcome} | "
            f"{_duration(run.seconds)} |"
            for run in runs
        ),
        *(f"| `{_short(test)}` | | not yet | | |" for test in missing),
    ]
    n_passed = sum(run.outcome == "passed" for run in runs)
    head = (
        "## The long forms\n\n"
        "Some tests have a long form: more faults, real outages and time limits, a thousand times "
        f"the examples. These\nrun at night (`make test-long`); {n_passed} of {len(runs)} cases "
        "passed when they last ran.\n\n"
        "| test | what it did | last run | result | took |\n|---|---|---|---|---|\n"
    )
    return head + "".join(f"{row}\n" for row in rows)


def _short(test: str) -> str:
    return test.removeprefix("tests/")


def _duration(seconds: int) -> str:
    return f"{seconds} s" if seconds < 120 else f"{round(seconds / 60)} min"


class Recorder:
    """Puts the outcomes of a test run into the file; a plugin for pytest.

    Args:
        path: The file.
    """

    def __init__(self, path: Path = FILE) -> None:
        self._path = path
        self._runs: dict[str, LongRun] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take in one step of a test: of its setup and its end only failures count."""
        if report.skipped or (report.passed and report.when != "call"):
            return
        did = dict(report.user_properties).get("did", "")
        self._runs[report.nodeid] = LongRun(
            test=report.nodeid,
            date=time.strftime("%Y-%m-%d", time.gmtime()),
            outcome=report.outcome,
            seconds=round(report.duration),
            did=str(did),
        )

    def write(self) -> None:
        """Write the file anew: what ran now, and what the file says of the other tests."""
        runs = {run.test: run for run in last_runs(self._path)} | self._runs
        known = long_tests()
        kept = [run for _, run in sorted(runs.items()) if run.test.partition("[")[0] in known]
        text = json.dumps([asdict(run) for run in kept], indent=1)
        self._path.write_text(text + "\n")

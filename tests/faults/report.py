"""Runs the tests of the fault table and tells how many of its rows hold; a plugin for pytest.

python -m pytest -p tests.faults.report -m fault --write-reliability docs/reliability.md
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from tests.faults.catalogue import CONTRACT, FAULTS, Fault
from tests.faults.long_run import Recorder, last_runs, long_tests, section

ROOT = Path(__file__).parents[2]
SUITES = (
    "src/studyflow/testing/executor_contract/attempts.py",
    "src/studyflow/testing/executor_contract/endings.py",
    "src/studyflow/testing/tracker_contract.py",
)

HEAD = Path(__file__).with_name("reliability-head.md")
"""What stands above the table in docs/reliability.md."""


def fault_tests(root: Path = ROOT) -> dict[str, tuple[str, ...]]:
    """Return the tests of each fault, as `file::test`, from the marks in the sources."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted((root / "tests").rglob("test_*.py")):
        text = path.read_text()
        if "mark.fault" not in text:
            continue
        tree = ast.parse(text)
        for name, faults in _marked(tree.body, _marks_of_module(tree)):
            for fault in faults:
                found[fault].append(f"{path.relative_to(root)}::{name}")
    for suite in SUITES:
        text = (root / suite).read_text()
        for name, contract_faults in CONTRACT.items():
            if f"def {name}(" in text:
                for fault in contract_faults:
                    found[fault].append(f"{suite}::{name}")
    return {fault: tuple(dict.fromkeys(tests)) for fault, tests in sorted(found.items())}


def _marked(
    body: Sequence[ast.stmt], outer: tuple[str, ...]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the name and the faults of every test, with those of its class and module."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from _marked(node.body, (*outer, *_faults(node.decorator_list)))
        elif isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            faults = (*outer, *_faults(node.decorator_list))
            if faults:
                yield node.name, faults


def _faults(expressions: Sequence[ast.expr]) -> tuple[str, ...]:
    return tuple(
        str(argument.value)
        for expression in expressions
        if isinstance(expression, ast.Call) and ast.unparse(expression.func) == "pytest.mark.fault"
        for argument in expression.args
        if isinstance(argument, ast.Constant)
    )


def _marks_of_module(tree: ast.Module) -> tuple[str, ...]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
            marks = node.value
            return _faults(marks.elts if isinstance(marks, ast.List | ast.Tuple) else [marks])
    return ()


def state_of(fault: Fault, tests: Sequence[str]) -> str:
    """Return what the table says of a row whose tests pass."""
    if fault.struck:
        return f"struck out: {fault.struck}"
    if not tests:
        return "not tested"
    return f"in part: {fault.left}" if fault.left else "holds"


def reliability_page(tests: Mapping[str, Sequence[str]]) -> str:
    """Return docs/reliability.md."""
    rows = []
    for fault in FAULTS:
        names = "<br>".join(f"`{_short(test)}`" for test in tests.get(fault.id, ()))
        state = state_of(fault, tests.get(fault.id, ()))
        rows.append(f"| {fault.id} | {fault.fault} | {fault.promise} | {state} | {names} |")
    n_hold = sum(state_of(f, tests.get(f.id, ())) == "holds" for f in FAULTS)
    table = "\n".join(rows) + f"\n\n{n_hold} of {len(FAULTS)} rows hold.\n"
    return f"{HEAD.read_text()}{table}\n{section(last_runs(), long_tests())}"


def _short(test: str) -> str:
    path, _, name = test.partition("::")
    return f"{path.removeprefix('tests/').removeprefix('src/studyflow/')}::{name}"


# ---- the plugin ----------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option for the page."""
    parser.addoption("--write-reliability", metavar="FILE", help="Write the fault table there.")
    parser.addoption(
        "--write-long-run", action="store_true", help="Keep what became of the long tests."
    )


class _Outcomes:
    """Gathers what became of the tests of each fault."""

    def __init__(self) -> None:
        self.by_fault: dict[str, list[str]] = defaultdict(list)
        self._faults: dict[str, tuple[str, ...]] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            marks = item.iter_markers("fault")
            self._faults[item.nodeid] = tuple(str(fault) for mark in marks for fault in mark.args)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or not report.passed:
            for fault in self._faults.get(report.nodeid, ()):
                self.by_fault[fault].append(report.outcome)


def pytest_configure(config: pytest.Config) -> None:
    """Begin to gather."""
    config.pluginmanager.register(_Outcomes(), "fault-outcomes")
    if config.getoption("--write-long-run") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(), "long-run")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the table or keep what became of the long tests, and write the page."""
    recorder = config.pluginmanager.get_plugin("long-run")
    if isinstance(recorder, Recorder):
        recorder.write()
    else:
        _print_table(terminalreporter, config)
    path = config.getoption("--write-reliability")
    if path:
        Path(path).write_text(reliability_page(fault_tests()))


def _print_table(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    outcomes = config.pluginmanager.get_plugin("fault-outcomes")
    assert isinstance(outcomes, _Outcomes)
    terminalreporter.section("faults")
    n_hold = 0
    for fault in FAULTS:
        seen = outcomes.by_fault[fault.id]
        state = _seen_state(fault, seen)
        n_hold += state == "holds"
        passed = seen.count("passed")
        terminalreporter.write_line(f"{fault.id} {passed:4} passed  {fault.fault}: {state}")
    terminalreporter.write_line(f"{n_hold} of {len(FAULTS)} rows hold")


def _seen_state(fault: Fault, outcomes: Sequence[str]) -> str:
    if "failed" in outcomes:
        return "BROKEN"
    return state_of(fault, [outcome for outcome in outcomes if outcome == "passed"])

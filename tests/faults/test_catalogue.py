"""The fault table is whole, and the page about it says what the tests say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.faults.catalogue import CONTRACT, FAULTS, Fault
from tests.faults.long_run import LongRun, Recorder, last_runs, long_tests, section
from tests.faults.report import ROOT, SUITES, fault_tests, reliability_page, state_of


def test_the_table_has_every_row_once_and_in_order() -> None:
    assert [fault.id for fault in FAULTS] == [f"F{n:02}" for n in range(1, len(FAULTS) + 1)]


def test_no_test_is_marked_with_a_fault_that_is_not_in_the_table() -> None:
    assert fault_tests().keys() <= {fault.id for fault in FAULTS}


def test_every_contract_test_of_the_table_exists() -> None:
    suites = "".join((ROOT / suite).read_text() for suite in SUITES)

    assert [name for name in CONTRACT if f"def {name}(" not in suites] == []


def test_the_page_says_what_the_tests_say() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text()

    assert page == reliability_page(fault_tests()), "make faults writes it anew"


def test_only_long_tests_that_there_are_have_a_last_run() -> None:
    assert {run.test.partition("[")[0] for run in last_runs()} <= long_tests()


def test_what_became_of_a_long_test_is_kept_and_shown(tmp_path: Path) -> None:
    test = f"{min(long_tests())}[100]"
    file = tmp_path / "runs.json"
    for outcome in ("failed", "passed"):
        recorder = Recorder(file)
        recorder.pytest_runtest_logreport(_report(test, "setup", "passed", 1.0))
        recorder.pytest_runtest_logreport(_report(test, "call", outcome, 1200.0))
        recorder.pytest_runtest_logreport(_report(test, "teardown", "passed", 1.0))
        recorder.write()
    [run] = last_runs(file)

    assert run == LongRun(test, run.date, "passed", 1200, "100 faults")
    page = section((run,), ["tests/test_other.py::test_never"])
    assert "1 of 1 cases passed" in page
    assert f"| 100 faults | {run.date} | passed | 20 min |" in page
    assert page.endswith("| `test_other.py::test_never` | | not yet | | |\n")


def _report(test: str, when: Any, outcome: Any, seconds: float) -> pytest.TestReport:
    did = [("did", "100 faults")]
    where = ("", 0, "")
    return pytest.TestReport(
        test, where, {}, outcome, None, when, duration=seconds, user_properties=did
    )


def test_a_row_holds_only_whole_and_tested() -> None:
    assert state_of(Fault("F01", "", ""), ["a"]) == "holds"
    assert state_of(Fault("F01", "", ""), []) == "not tested"
    assert state_of(Fault("F01", "", "", left="the rest"), ["a"]) == "in part: the rest"
    assert state_of(Fault("F01", "", "", struck="no"), []) == "struck out: no"


def test_marks_of_modules_classes_and_tests_are_found(tmp_path: Path) -> None:
    for suite in SUITES:
        (tmp_path / suite).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / suite).write_text("")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").write_text(
        """
import pytest
pytestmark = [pytest.mark.slow, pytest.mark.fault("F01")]
@pytest.mark.fault("F02")
class TestB:
    @pytest.mark.fault("F03", "F04")
    def test_c(self): ...
def test_d(): ...
"""
    )

    assert fault_tests(tmp_path) == {
        "F01": ("tests/test_a.py::test_c", "tests/test_a.py::test_d"),
        "F02": ("tests/test_a.py::test_c",),
        "F03": ("tests/test_a.py::test_c",),
        "F04": ("tests/test_a.py::test_c",),
    }

"""The fault table is whole, and the page about it says what the tests say."""

from __future__ import annotations

from pathlib import Path

from tests.faults.catalogue import CONTRACT, FAULTS, Fault
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

"""Cells of a table: which values a text may stand for, and how a value is written."""

from __future__ import annotations

import re
from typing import Any

import pytest

from studyflow.spec.cells import is_comma_number, meanings, read_number, write_cell

pytestmark = pytest.mark.fault("F72")

ALIKE = ("adam", None, "1", 2, "", " x", "true", "null")


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("adam", "adam"),
        (0.1, "0.1"),
        (True, "true"),
        (None, "null"),
        ("1", '"1"'),
        ("1e5", '"1e5"'),
        ("1,5", '"1,5"'),
        ("", '""'),
        (" x", '" x"'),
        ("True", '"True"'),
        ("none", '"none"'),
        ("NaN", '"NaN"'),  # pandas would read these as missing
        ("N/A", '"N/A"'),
        ("=1+1", '"=1+1"'),  # a spreadsheet would run this
        ('"a"', '"\\"a\\""'),
        ("[1]", '"[1]"'),
        ("a\nb", '"a\\nb"'),
        ("a\u202eb", '"a\\u202eb"'),
        ("größer, als", "größer, als"),
    ],
)
def test_a_value_is_marked_only_where_its_cell_could_mean_something_else(
    value: Any, cell: str
) -> None:
    assert write_cell(value) == cell
    assert meanings(cell, (value,)) == (value,)


def test_choices_that_look_alike_are_written_apart() -> None:
    cells = [write_cell(choice, ALIKE) for choice in ALIKE]

    assert cells == ["adam", "[null]", '"1"', "2", '""', '" x"', '"true"', '"null"']
    assert [meanings(cell, ALIKE) for cell in cells] == [(choice,) for choice in ALIKE]


@pytest.mark.parametrize(
    ("text", "choices", "meant"),
    [
        ("", ("adam", None), [None]),  # as pandas writes None
        ("", ("adam", ""), [""]),
        ("", (None, ""), [None, ""]),
        ("None", (None, "adam"), [None]),
        ("None", (None, "None"), [None, "None"]),
        ("True", (True, "true"), [True]),
        ("true", (True, "true"), [True, "true"]),
        ("1", ("1", 2), ["1"]),
        ("1", (1, "1"), [1, "1"]),
        ("2.0", ("1", 2), [2]),
        ("1e2", (100, "a"), [100]),
        (" x", ("x", " x"), ["x", " x"]),
        (" x", ("x",), ["x"]),
        ("9007199254740993", (9007199254740992, 9007199254740993), [9007199254740993]),
        ("1_000", (1000,), []),
        ("yes", (True, False), []),
        ("[1]", (1, "1"), [1]),
        ("[[[", ("a",), []),
        ('"', ('"',), ['"']),
    ],
)
def test_a_cell_means_every_choice_that_it_may_stand_for(
    text: str, choices: tuple[Any, ...], meant: list[Any]
) -> None:
    found = meanings(text, choices)

    assert [(value, type(value)) for value in found] == [(value, type(value)) for value in meant]


@pytest.mark.parametrize("text", ["1,5", "0,01", "1,234.5", "1.234,5", "-1,0", ",5", "1 234,5"])
def test_a_number_with_a_comma_is_no_number_and_is_known_as_one(text: str) -> None:
    assert is_comma_number(text)
    with pytest.raises(ValueError, match=re.escape(text)):
        read_number(text)


@pytest.mark.parametrize("text", ["", "-", "1_000", "0x10", "1d5", "5 %", "١", "a,b", ","])
def test_other_texts_are_no_numbers_at_all(text: str) -> None:
    assert not is_comma_number(text)
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        read_number(text)


def test_whole_numbers_keep_every_digit() -> None:
    assert read_number("9007199254740993") == 9007199254740993
    assert read_number("1e2") == 100.0
    assert read_number("9" * 5000) == float("inf")

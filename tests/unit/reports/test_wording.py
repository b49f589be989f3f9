"""Numbers, times and names as people read them."""

from __future__ import annotations

import math

import pytest

from studyflow.reports.wording import (
    columns,
    markdown,
    number,
    one_line,
    percent,
    plural,
    seconds,
    utc,
    value,
)
from studyflow.trial import ParamValue


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (0.04213, "0.04213"),
        (0.0421349, "0.04213"),
        (1.2e-05, "1.2e-5"),
        (1.0, "1"),
        (30, "30"),
        (9_999_999, "9999999"),
        (10_000_000, "1e7"),
        (-2.5e10, "-2.5e10"),
        (0.0, "0"),
        (math.inf, "inf"),
        (math.nan, "nan"),
    ],
)
def test_a_number_takes_few_characters(given: float, text: str) -> None:
    assert number(given) == text


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        (3, "3"),
        (0.123456, "0.1235"),
        ("adam", "adam"),
        ("a\nb\t c", "a b c"),
    ],
)
def test_a_value_is_written_as_in_a_study_file(given: ParamValue, text: str) -> None:
    assert value(given) == text


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (None, "–"),
        (math.inf, "–"),
        (math.nan, "–"),
        (0.0, "0.0 s"),
        (0.44, "0.4 s"),
        (9.94, "9.9 s"),
        (10.0, "10 s"),
        (59.4, "59 s"),
        (59.5, "1 min"),
        (60.0, "1 min"),
        (200.0, "3 min 20 s"),
        (3599.4, "59 min 59 s"),
        (3600.0, "1 h"),
        (7500.0, "2 h 5 min"),
        (86_399.0, "1 d"),
        (86_400.0, "1 d"),
        (95_000.0, "1 d 2 h"),
        (20 * 86_400.0, "20 d"),
    ],
)
def test_a_duration_has_two_units_at_most(given: float | None, text: str) -> None:
    assert seconds(given) == text


def test_a_time_is_told_in_utc() -> None:
    assert utc(1_764_000_000.0) == "2025-11-24 16:00:00 UTC"
    assert utc(None) == utc(math.nan) == "–"


@pytest.mark.parametrize(
    ("given", "limit", "text"),
    [
        ("  a \r\n b\t", None, "a b"),
        ("red\x1b[31m alert", None, "red [31m alert"),
        ("abc\u202edef", None, "abc def"),
        ("a\u200bb", None, "a b"),
        ("abcdef", 6, "abcdef"),
        ("abcdefg", 6, "abcde…"),
        ("abcd  efg", 6, "abcd…"),
        ("", 6, ""),
        ("x" * 10_000, 3, "xx…"),
    ],
)
def test_a_text_is_one_line_in_which_nothing_hides(
    given: str, limit: int | None, text: str
) -> None:
    assert one_line(given, limit) == text


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("plain text", "plain text"),
        ("a_b*c", r"a\_b\*c"),
        ("[x](http://y)", r"\[x\](http://y)"),
        ("a | b", r"a \| b"),
        ("<script>", r"&lt;script\>"),
        ("a & b", "a &amp; b"),
        ("# title", r"\# title"),
        ("- item", r"\- item"),
        ("1. first", r"1\. first"),
        ("1.5 s", "1.5 s"),
        ("`code`", r"\`code\`"),
        ("~~gone~~", r"\~\~gone\~\~"),
        ("one\n# two", "one # two"),
    ],
)
def test_markdown_shows_a_text_as_it_is(given: str, text: str) -> None:
    assert markdown(given) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 trials"), (1, "1 trial"), (2, "2 trials"), (1000, "1000 trials")]
)
def test_one_thing_is_no_plural(count: int, text: str) -> None:
    assert plural(count, "trial") == text


@pytest.mark.parametrize(("text", "n"), [("", 0), ("loss", 4), ("损失", 4), ("e\u0301", 1)])
def test_columns_are_those_of_a_terminal(text: str, n: int) -> None:
    assert columns(text) == n


@pytest.mark.parametrize(
    ("share", "text"),
    [(1.0, "100 %"), (0.505, "50 %"), (0.01, "1 %"), (0.0099, "less than 1 %")],
)
def test_a_share_has_no_decimals(share: float, text: str) -> None:
    assert percent(share) == text

"""Tables: which rows are whole, and what is said about those that are not."""

from __future__ import annotations

import pytest

from studyflow.errors import TableError
from studyflow.study.table import MAX_FLAWS, Flaw, read_table, refusal

pytestmark = pytest.mark.fault("F72")


def flaws(text: str) -> list[str]:
    """Return what is wrong with a table's rows, without what to do about it."""
    return [str(flaw).partition(" (")[0] for flaw in read_table(text.encode(), "t.csv").flaws]


def test_rows_come_with_the_line_on_which_they_begin() -> None:
    table = read_table(b'\xef\xbb\xbf\r\n lr , note\r\n1,"a\r\nb"\r\n\r\n,,\r\n2,c\r\n', "t.csv")

    assert table.header == ("lr", "note")
    assert table.rows == ((3, {"lr": "1", "note": "a\r\nb"}), (7, {"lr": "2", "note": "c"}))


@pytest.mark.parametrize(
    ("text", "known", "header"),
    [
        ("a,b\n1,2\n", (), ("a", "b")),
        ("a;b\n1,5;2\n", (), ("a", "b")),
        ("a\tb\n1\t2\n", (), ("a", "b")),
        ('"a;b;c",d\n1,2\n', (), ("a;b;c", "d")),
        ("lr,name;with;semicolons\n1,2\n", ("lr",), ("lr", "name;with;semicolons")),
        ("loss\n1\n", (), ("loss",)),
    ],
)
def test_cells_are_separated_by_what_separates_the_header(
    text: str, known: tuple[str, ...], header: tuple[str, ...]
) -> None:
    assert read_table(text.encode(), "t.csv", known).header == header


def test_all_rows_that_are_not_whole_are_named() -> None:
    text = 'lr,n,loss\n0,01,5,1\n0.1,5\n0.2,6,1\n0.3,"7"x,1\n0.4,8,1\n0.5,"9,1\n0.6,9,1\n'

    assert flaws(text) == [
        "row 2: it has 4 cells for 3 columns, and '1' is the first too many",
        "row 3, column loss: the row ends before it, with 2 cells for 3 columns",
        "row 5: its quotes cannot be read: ',' expected after '\"'",
        "row 7: a quote is opened and never closed",
    ]


def test_a_quoted_text_that_has_swallowed_rows_is_named_and_one_of_several_lines_is_not() -> None:
    swallowed = 'lr,loss,note\n0.1,1,"a\n0.2,2,b\n0.3,3,c"\n'
    lines = 'lr,loss,note\n0.1,1,"first, then\nsecond"\n'

    assert flaws(swallowed) == [
        "row 2, column note: its quoted text goes on for 3 lines, which look like rows"
    ]
    assert flaws(lines) == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "t.csv is empty"),
        (b"\n  \n", "t.csv is empty"),
        (b"lr,loss\n", "t.csv has a header and no rows"),
        ("lr,loss\n1,2\n".encode("utf-16"), "t.csv is UTF-16 or UTF-32"),
        ("lr,loss\n1,2\n".encode("utf-16-le"), "t.csv is UTF-16 or UTF-32"),
        ("lr,loss\n1,2\n".encode("utf-16-be"), "t.csv is UTF-16 or UTF-32"),
        ("lr,loss\n1,2\n".encode("utf-32"), "t.csv is UTF-16 or UTF-32"),
        ("lr,note\n1,ä\n".encode("latin-1"), "t.csv, line 2: the byte 0xe4 is not UTF-8"),
        (b"lr,loss\n1,2\n3,\0\n", "t.csv, line 3: a table must hold no NUL characters"),
        (b'"lr,loss\n1,2\n', "row 1: a quote is opened and never closed"),
    ],
)
def test_what_is_no_table_is_refused_with_the_reason(data: bytes, message: str) -> None:
    with pytest.raises(TableError) as refused:
        read_table(data, "t.csv")

    assert message in str(refused.value)


def test_a_refusal_names_the_first_flaws_and_counts_the_others() -> None:
    many = [Flaw(row, "", "short") for row in range(MAX_FLAWS + 6, 1, -1)]

    lines = str(refusal("t.csv", many)).splitlines()

    assert lines[0] == "t.csv can be read in more than one way, so nothing is taken over:"
    assert lines[1:3] == ["  row 2: short", "  row 3: short"]
    assert lines[-1] == "  and 5 more"
    assert len(lines) == MAX_FLAWS + 2

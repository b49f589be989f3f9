"""Reads a CSV file as rows of cells, and names every row that is ambiguous. Pure.

Nothing is guessed: a row with a cell too many is as ambiguous as a quote that was left open, and
one ambiguous row is enough to take over none.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from studyflow.errors import TableError
from studyflow.spec.cells import show_cell

SEPARATORS: Final = (",", ";", "\t")
MAX_FLAWS: Final = 20
"""Flaws of a table that are shown one by one; the others are counted."""


@dataclass(frozen=True)
class Flaw:
    """A cell or row of a table that can be read in more than one way."""

    row: int
    """Line of the file where the row begins, from 1; the header is the first."""
    column: str
    """Name of the column; empty if it is about the row as a whole."""
    text: str
    """What is wrong there, and what to do about it in parentheses."""

    def __str__(self) -> str:
        return f"row {self.row}{', column ' * bool(self.column)}{self.column}: {self.text}"


@dataclass(frozen=True)
class Table:
    """The rows of a table that are whole."""

    header: tuple[str, ...]
    """Names of the columns, without blanks around them."""
    rows: tuple[tuple[int, Mapping[str, str]], ...]
    """Line where the row begins, and cells by column."""
    flaws: tuple[Flaw, ...]
    """The rows that are ambiguous."""


def read_table(data: bytes, name: str, known: Collection[str] = ()) -> Table:
    """Return a table separated by commas, semicolons or tabs; rows without any text are left out.

    Args:
        data: The file's content.
        name: What to call it.
        known: Names of columns that are looked for: what separates most of them in the header
            separates cells.

    Raises:
        TableError: It is no table, or no text in UTF-8.
    """
    text = _decode(data, name)
    separator = max(SEPARATORS, key=lambda s: _fit(text, s, known))
    header: tuple[str, ...] = ()
    rows: list[tuple[int, Mapping[str, str]]] = []
    flaws: list[Flaw] = []
    lines = io.StringIO(text, newline="").readlines()
    reader = csv.reader(lines, delimiter=separator, strict=True)
    while True:
        row = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            flaws.append(Flaw(row, "", _quotes(lines[row - 1 : reader.line_num], error)))
            continue
        if not any(cell.strip() for cell in cells):
            continue
        if not header:
            header = tuple(cell.strip() for cell in cells)
        elif (flaw := _shape(row, cells, header, separator)) is not None:
            flaws.append(flaw)
        else:
            rows.append((row, dict(zip(header, cells, strict=True))))
    if not header:
        if flaws:
            raise refusal(name, flaws)
        raise TableError(f"{name} is empty.", hint="the first line names the columns.")
    if not rows and not flaws:
        raise TableError(f"{name} has a header and no rows.", hint="one row is one evaluation.")
    return Table(header, tuple(rows), tuple(flaws))


def refusal(name: str, flaws: Collection[Flaw]) -> TableError:
    """Return the error that names the flaws of a table, by row."""
    ordered = sorted(dict.fromkeys(flaws), key=lambda flaw: flaw.row)
    lines = [str(flaw) for flaw in ordered[:MAX_FLAWS]]
    if len(ordered) > MAX_FLAWS:
        lines.append(f"and {len(ordered) - MAX_FLAWS} more")
    return TableError(
        f"{name} can be read in more than one way, so nothing is taken over:", flaws=tuple(lines)
    )


def _decode(data: bytes, name: str) -> str:
    hint = "save it as UTF-8; spreadsheets call that `CSV UTF-8`."
    is_wide = data.startswith((b"\xff\xfe", b"\xfe\xff")) or (
        len(data) >= 4 and (not any(data[:64:2]) or not any(data[1:64:2]))
    )
    if is_wide:
        raise TableError(f"{name} is UTF-16 or UTF-32, and tables are read as UTF-8.", hint=hint)
    if (offset := data.find(b"\0")) >= 0:
        raise TableError(
            f"{name}, line {_line_at(data, offset)}: a table must hold no NUL characters.",
            hint="export it again; the file may be damaged.",
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TableError(
            f"{name}, line {_line_at(data, error.start)}: the byte 0x{data[error.start]:02x} is "
            "not UTF-8, so the file has another encoding.",
            hint=hint,
        ) from error


def _line_at(data: bytes, offset: int) -> int:
    return data[:offset].count(b"\n") + 1


def _fit(text: str, separator: str, known: Collection[str]) -> tuple[int, int]:
    """Return how many known columns, and how many columns, a separator finds in the header."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        header = next((cells for cells in reader if any(c.strip() for c in cells)), [])
    except csv.Error:
        return 0, 0
    return sum(cell.strip() in known for cell in header), len(header)


def _quotes(lines: list[str], error: csv.Error) -> str:
    """Return what is wrong with the quotes of a row, given its lines."""
    if sum(line.count('"') for line in lines) % 2:
        return "a quote is opened and never closed (close it, or write a quote in a text twice)"
    return f"its quotes cannot be read: {error} (write a quote in a text twice)"


def _shape(row: int, cells: list[str], header: tuple[str, ...], separator: str) -> Flaw | None:
    """Return what makes a row ambiguous by its shape alone; `None` if nothing does."""
    if len(cells) > len(header):
        surplus = show_cell(cells[len(header)])
        return Flaw(
            row,
            "",
            f"it has {len(cells)} cells for {len(header)} columns, and {surplus!r} is the first "
            "too many (write numbers with a decimal point, and texts with separators in quotes)",
        )
    if len(cells) < len(header):
        return Flaw(
            row,
            header[len(cells)],
            f"the row ends before it, with {len(cells)} cells for {len(header)} columns (an empty "
            "cell needs its separator)",
        )
    for column, cell in zip(header, cells, strict=True):
        n_ends = cell.replace("\r\n", "\n").replace("\r", "\n").count("\n")
        is_rows = cell.count(separator) == n_ends * (len(header) - 1)
        if n_ends and len(header) > 1 and is_rows:
            return Flaw(
                row,
                column,
                f"its quoted text goes on for {n_ends + 1} lines, which look like rows (close the "
                "quote where the text ends)",
            )
    return None

"""What a cell of a table means for a parameter. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from studyflow.spec.cells import meanings, read_number, show_cell, write_cell
from studyflow.spec.parameters import CategoricalParameter, IntParameter, Parameter
from studyflow.spec.values import Scalar, show_scalar
from studyflow.trial import ParamValue


class Ambiguous(ValueError):
    """A cell means more than one choice."""


def read_value(parameter: Parameter, text: str) -> ParamValue:
    """Return the value that a cell means for a parameter.

    Raises:
        Ambiguous: It may mean several choices.
        ValueError: It means none.
    """
    if isinstance(parameter, CategoricalParameter):
        found = meanings(text, parameter.choices)
        if len(found) > 1:
            raise Ambiguous(_ways_to_write(text, found, parameter.choices))
        if not found:
            raise ValueError(text)
        return found[0]
    number = read_number(text.strip())
    if not isinstance(parameter, IntParameter):
        return float(text)  # an integer of 400 digits is infinite, not too large
    if isinstance(number, float):
        if not number.is_integer():  # also refuses infinities and NaN
            raise ValueError(text)
        return int(number)
    return number


def _ways_to_write(text: str, found: Sequence[Scalar], choices: Sequence[Scalar]) -> str:
    cell = f"{show_cell(text)!r}" if text.strip() else "an empty cell"
    ways = []
    for choice in found:
        written = write_cell(choice, choices)
        in_file = '"' + written.replace('"', '""') + '"' if '"' in written else written
        ways.append(f"{in_file} for {show_scalar(choice)}")
    meant = " or ".join(show_scalar(choice) for choice in found)
    return f"{cell} may mean {meant} (in the file, write {', '.join(ways)})"

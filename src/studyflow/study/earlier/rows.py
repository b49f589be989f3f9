"""Which rows of a table fit into a study. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from studyflow.reasons import Code, Reason
from studyflow.spec import StudySpec
from studyflow.spec.cells import is_comma_number, meanings, read_number, show_cell
from studyflow.spec.parameters import CategoricalParameter, Parameter, describe
from studyflow.study import storage_form as form
from studyflow.study.earlier.columns import Columns
from studyflow.study.earlier.results import Earlier, Misfit, is_known, make_trial
from studyflow.study.earlier.values import Ambiguous, read_value
from studyflow.study.table import Flaw, refusal
from studyflow.trial import Cause, ParamValue

_FINISHED_STATES: Final = frozenset(("", "complete", "finished"))
"""States of results, ours and MLflow's; a row without a state is one."""
_UNFINISHED_STATUSES: Final = frozenset(("running", "scheduled", "failed", "killed"))
"""MLflow's statuses of runs whose values are not their last."""

_NO_VALUE: Final = object()


def from_rows(
    spec: StudySpec,
    rows: Sequence[tuple[int, Mapping[str, str]]],
    source: str,
    columns: Columns,
    flaws: Sequence[Flaw] = (),
) -> Earlier:
    """Return which rows of a table fit into a study.

    Args:
        spec: The study that is to have them.
        rows: Line number, and cells by column.
        source: What to call the table.
        columns: Column of each parameter and metric; see `find_columns`.
        flaws: What is doubtful about other rows.

    Raises:
        TableError: A row can be read in more than one way; the error names all such rows.
    """
    found = [*flaws, *columns.flaws]
    fitting, misfits = [], []
    for line, cells in rows:
        made = _from_row(spec, line, cells, columns, source)
        if isinstance(made, list):
            found += made
        elif isinstance(made, Misfit):
            misfits.append(made)
        else:
            fitting.append(made)
    if found:
        raise refusal(source, found)
    return Earlier(source, tuple(fitting), tuple(misfits), _unread(spec, rows, columns))


class _Row:
    """Reads one row; what is wrong with it gathers in `flaws` and `reasons`.

    Args:
        spec: The study.
        line: Number of the row's line.
        cells: Its cells by column.
        columns: Column of each parameter and metric.
    """

    def __init__(
        self, spec: StudySpec, line: int, cells: Mapping[str, str], columns: Columns
    ) -> None:
        self._spec = spec
        self._line = line
        self._cells = cells
        self._columns = columns
        self.flaws: list[Flaw] = []
        """What can be read in more than one way."""
        self.reasons: list[Reason] = []
        """Why the row is not taken over."""

    def params(self) -> dict[str, ParamValue]:
        """Return the searched parameters, as far as the row has them."""
        space, params = self._spec.space, dict[str, ParamValue]()
        for name in space:
            column = self._columns.params.get(name)
            is_empty = column is None or not self._cells[column].strip()
            if column is None or (is_empty and name not in space.active(params)):
                continue
            value = self._param(space[name], name, column)
            if value is not _NO_VALUE:
                params[name] = value
        return params

    def _param(self, parameter: Parameter, name: str, column: str) -> Any:
        """Return what a cell means for a parameter; `_NO_VALUE` if that is not one thing."""
        text = self._cells[column]
        try:
            value = read_value(parameter, text)
        except Ambiguous as error:
            self.flaws.append(Flaw(self._line, column, str(error)))
            return _NO_VALUE
        except ValueError:
            if _is_numeric(parameter) and is_comma_number(text.strip()):
                self.flaws.append(_comma(self._line, column, text))
            elif text.strip():
                self.reasons.append(_outside(name, text, parameter))
            return _NO_VALUE
        if not parameter.contains(value):
            self.reasons.append(_outside(name, text, parameter))
        return value

    def check_fixed(self) -> None:
        """Find out whether a fixed parameter had another value."""
        for name, value in self._spec.fixed.items():
            column = self._columns.params.get(name)
            text = "" if column is None else self._cells[column]
            if column is None or not text.strip() or meanings(text, (value,)):
                continue
            if isinstance(value, int | float) and is_comma_number(text.strip()):
                self.flaws.append(_comma(self._line, column, text))
            shown = show_cell(text.strip())
            message = f"{name} is fixed to {value!r} now, and it was {shown}"
            self.reasons.append(Reason(Code.FIXED_OTHERWISE, message))

    def metrics(self) -> dict[str, float]:
        """Return the study's metrics."""
        metrics: dict[str, float] = {}
        for name in self._spec.metrics:
            column = self._columns.metrics[name]
            text = self._cells[column].strip()
            try:
                metrics[name] = float(read_number(text))
            except (ValueError, OverflowError):
                if is_comma_number(text):
                    self.flaws.append(_comma(self._line, column, text))
                message = f"{name} is no number: {show_cell(text) or 'empty'}"
                self.reasons.append(Reason(Code.RESULT_INCOMPLETE, message))
            else:
                if not math.isfinite(metrics[name]):
                    self.reasons.append(Reason(Code.RESULT_INCOMPLETE, f"{name} is not finite"))
        return metrics


def _from_row(
    spec: StudySpec, line: int, cells: Mapping[str, str], columns: Columns, source: str
) -> FrozenTrial | Misfit | list[Flaw]:
    """Return the trial of a row, or why there is none, or what can be read in more than one way."""
    if (reason := _unfinished(cells, columns)) is not None:
        return Misfit(f"row {line}", (reason,))
    row = _Row(spec, line, cells, columns)
    params = row.params()
    row.check_fixed()
    metrics = row.metrics()
    if row.flaws:
        return row.flaws
    outside = (Reason(Code.OUTSIDE_SPACE, problem) for problem in spec.space.problems(params))
    if reasons := tuple(row.reasons) or tuple(outside):
        return Misfit(f"row {line}", reasons)
    constraints: dict[str, float] = {}
    for constraint in spec.constraints:
        constraints |= constraint.violations(metrics[constraint.metric])
    return make_trial(
        spec,
        OptunaState.COMPLETE,
        params,
        {form.CAUSE: Cause.OK, form.METRICS: metrics, form.TAKEN_OVER: source},
        values=[metrics[objective.metric] for objective in spec.objectives],
        constraints=constraints or None,
    )


def _outside(name: str, text: str, parameter: Parameter) -> Reason:
    message = f"{name}={show_cell(text.strip())} is not in {describe(parameter)}"
    return Reason(Code.OUTSIDE_SPACE, message)


def _unfinished(cells: Mapping[str, str], columns: Columns) -> Reason | None:
    """Return why a row is no result by its own account, or `None`."""
    state, status = (
        "" if name in columns.read else cells.get(name, "").strip().lower()
        for name in ("state", "status")
    )
    if state not in _FINISHED_STATES:
        return Reason(Code.RESULT_UNFINISHED, f"its state is {show_cell(state)}")
    if status in _UNFINISHED_STATUSES:
        return Reason(Code.RESULT_UNFINISHED, f"its status is {status}")
    return None


def _comma(line: int, column: str, text: str) -> Flaw:
    shown = show_cell(text.strip())
    way_out = "write numbers with a decimal point, and thousands without separators"
    return Flaw(line, column, f"a number must not hold commas, but it is {shown!r} ({way_out})")


def _is_numeric(parameter: Parameter) -> bool:
    if not isinstance(parameter, CategoricalParameter):
        return True
    return any(isinstance(c, int | float) and not isinstance(c, bool) for c in parameter.choices)


def _unread(
    spec: StudySpec, rows: Sequence[tuple[int, Mapping[str, str]]], columns: Columns
) -> tuple[str, ...]:
    """Return columns with MLflow's prefix for parameters that the study does not have."""
    header = rows[0][1] if rows else {}
    names = [
        column for column in header if column.startswith("params.") and column not in columns.read
    ]
    return tuple(name.removeprefix("params.") for name in names if not is_known(spec, name))

"""Earlier results as a study's first trials: from another Optuna study, or from rows of a table.

What is taken over teaches the sampler and costs no budget, as after a fork. Deciding what fits is
pure; `take_over` writes it, and writes nothing twice.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import optuna
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from studyflow.errors import SpecError, StudyMismatch
from studyflow.spec import StudySpec
from studyflow.spec.cells import is_comma_number, meanings, read_number, show_cell, write_cell
from studyflow.spec.space import (
    CategoricalParameter,
    IntParameter,
    Parameter,
    Scalar,
    describe,
    show_scalar,
)
from studyflow.study import storage_form as form
from studyflow.study.identity import check_identity
from studyflow.study.study import Study
from studyflow.study.table import Flaw, refusal
from studyflow.trial import Cause, ParamValue

_FINISHED_STATES: Final = frozenset(("", "complete", "finished"))
"""States of results, ours and MLflow's; a row without a state is one."""
_UNFINISHED_STATUSES: Final = frozenset(("running", "scheduled", "failed", "killed"))
"""MLflow's statuses of runs whose values are not their last."""

_PARAM_PREFIXES: Final = ("params.", "param.")
_METRIC_PREFIXES: Final = ("metrics.", "metric.")
"""What MLflow's tables and ours write before a name."""
_OTHER_COLUMNS: Final = frozenset(
    [
        *("number", "trial", "state", "cause", "attempt", "duration_seconds", "started_at"),
        *("finished_at", "message", "run_id", "experiment_id", "status", "artifact_uri"),
        *("start_time", "end_time"),
    ]
)
"""Columns that such tables have beside those with a prefix: never a parameter there."""


@dataclass(frozen=True)
class Misfit:
    """A result that is not taken over."""

    label: str
    """Which one, such as `row 7` or `trial 3`."""
    reason: str


@dataclass(frozen=True)
class Earlier:
    """Earlier results, sorted out. Nothing is written yet."""

    source: str
    """Where they come from; kept with each trial."""
    fitting: tuple[FrozenTrial, ...]
    misfits: tuple[Misfit, ...]
    ignored: tuple[str, ...] = ()
    """Parameters of the results that the study does not have."""


def from_study(spec: StudySpec, source: optuna.Study, name: str) -> Earlier:
    """Return which trials of another Optuna study fit into this one.

    A study that studyflow did not make is read as far as it goes.

    Args:
        spec: The study that is to have them.
        source: The study that has them.
        name: What to call it.

    Raises:
        StudyMismatch: It has other objectives or directions.
    """
    directions = [direction.name.lower() for direction in source.directions]
    if directions != list(spec.directions):
        raise StudyMismatch(
            f"The study {name!r} has the directions {', '.join(directions)}, and "
            f"{spec.name!r} has {', '.join(spec.directions)}.",
            hint="results of another question would mislead the sampler.",
        )
    names = source.metric_names or _stored_metrics(source)
    wanted = [objective.metric for objective in spec.objectives]
    if names is not None and names != wanted:
        raise StudyMismatch(
            f"The study {name!r} optimises {', '.join(names)}, and {spec.name!r} optimises "
            f"{', '.join(wanted)}.",
            hint="results of another question would mislead the sampler.",
        )
    fitting, misfits, ignored = [], [], dict[str, None]()
    for frozen in source.get_trials(deepcopy=False):
        ignored |= dict.fromkeys(n for n in frozen.params if not _is_known(spec, n))
        reason = _misfit(spec, frozen)
        if reason is None:
            fitting.append(_copy(spec, frozen, name))
        else:
            misfits.append(Misfit(f"trial {frozen.number}", reason))
    return Earlier(name, tuple(fitting), tuple(misfits), tuple(ignored))


@dataclass(frozen=True)
class Columns:
    """The column of each parameter and metric that a table has."""

    params: Mapping[str, str]
    metrics: Mapping[str, str]
    flaws: tuple[Flaw, ...] = ()
    """Columns that may be another's."""

    @property
    def read(self) -> frozenset[str]:
        """The columns that are read."""
        return frozenset((*self.params.values(), *self.metrics.values()))


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
        elif isinstance(made, str):
            misfits.append(Misfit(f"row {line}", made))
        else:
            fitting.append(made)
    if found:
        raise refusal(source, found)
    return Earlier(source, tuple(fitting), tuple(misfits), _unread(spec, rows, columns))


def find_columns(spec: StudySpec, header: Sequence[str], named: Mapping[str, str]) -> Columns:
    """Return the column of every parameter and metric of a study.

    That is the one of the same name, or with `params.` or `metrics.` before it, as MLflow and the
    tables of a report have it. A conditional parameter and a fixed one may have none.

    Args:
        spec: The study.
        header: The columns that there are.
        named: Columns that a person named, by parameter or metric.

    Raises:
        SpecError: A column is missing, or a name is neither parameter nor metric.
    """
    params, metrics = (*spec.search_space, *spec.fixed), spec.metrics
    unknown = [name for name in named if not column_owners(spec, name)]
    if unknown:
        raise SpecError(
            f"{', '.join(unknown)} is no parameter and no metric of {spec.name!r}. "
            f"Hint: name one of {', '.join((*params, *metrics))}."
        )
    for name in named:
        if len(column_owners(spec, name)) > 1:
            raise SpecError(
                f"{name} is a parameter and a metric of {spec.name!r}. "
                f"Hint: name params.{name} or metrics.{name}."
            )
    chosen = {column_owners(spec, name)[0]: column for name, column in named.items()}
    found: dict[tuple[str, str], str] = {}
    missing, flaws = list[str](), list[Flaw]()
    for prefixes, names in ((_PARAM_PREFIXES, params), (_METRIC_PREFIXES, metrics)):
        for name in names:
            owner = (prefixes[0], name)
            candidates = _candidates(name, prefixes, header)
            if owner in chosen:
                candidates = [column for column in header if column == chosen[owner]]
            if candidates:
                found[owner] = candidates[0]
                flaws += _twins(_option(spec, owner), candidates, header)
            elif owner in chosen or owner[0] == "metrics." or not _may_be_absent(spec, name):
                missing.append(name)
    if missing:
        raise SpecError(
            f"No column for {', '.join(missing)}; the columns are: {', '.join(header)}. "
            f"Hint: name it: --column {missing[0]}=COLUMN"
        )
    shared = Counter(found.values())
    for owner, column in found.items():
        if shared[column] > 1:
            name = _option(spec, owner)
            way_out = f"name the columns: --column {name}=COLUMN"
            flaws.append(Flaw(1, column, f"it may be that of {name}, or another's ({way_out})"))
    return Columns(
        {name: column for (prefix, name), column in found.items() if prefix == "params."},
        {name: column for (prefix, name), column in found.items() if prefix == "metrics."},
        tuple(flaws),
    )


def column_owners(spec: StudySpec, name: str) -> list[tuple[str, str]]:
    """Return what a name of `--column` may stand for: prefix and name of parameters and metrics."""
    return [
        (prefix, known)
        for prefix, names in (
            ("params.", (*spec.search_space, *spec.fixed)),
            ("metrics.", spec.metrics),
        )
        for known in names
        if name in (known, prefix + known)
    ]


def _option(spec: StudySpec, owner: tuple[str, str]) -> str:
    """Return by what name `--column` knows a parameter or metric: with its prefix if both have it.

    Args:
        spec: The study.
        owner: Prefix and name.
    """
    prefix, name = owner
    return name if len(column_owners(spec, name)) == 1 else prefix + name


def column_names(spec: StudySpec) -> frozenset[str]:
    """Return every name under which a table may have a parameter or a metric."""
    names = {(prefix, n) for n in (*spec.search_space, *spec.fixed) for prefix in _PARAM_PREFIXES}
    names |= {(prefix, n) for n in spec.metrics for prefix in _METRIC_PREFIXES}
    return frozenset(text for prefix, n in names for text in (n, prefix + n))


def _candidates(name: str, prefixes: Sequence[str], header: Sequence[str]) -> list[str]:
    """Return the columns that may be those of a name, one for each time that they stand there."""
    marked = [column for column in header if column in [prefix + name for prefix in prefixes]]
    if marked and name in _OTHER_COLUMNS:
        return marked
    return [*(column for column in header if column == name), *marked]


def _twins(name: str, candidates: Sequence[str], header: Sequence[str]) -> list[Flaw]:
    """Return the doubt whether one of several columns is that of a name."""
    if len(candidates) == 1:
        return []
    first, second = candidates[:2]
    if first != second:
        way_out = f"name one: --column {name}={second}"
        return [Flaw(1, first, f"the column {second} may be that of {name} too ({way_out})")]
    places = [str(i) for i, column in enumerate(header, start=1) if column == first]
    text = f"there are several of this name, at places {', '.join(places)} (rename or remove one)"
    return [Flaw(1, first, text)]


def without_known(earlier: Earlier, existing: Sequence[FrozenTrial]) -> tuple[FrozenTrial, ...]:
    """Return the fitting trials that a study does not have yet from the same source."""
    known = Counter(
        _fingerprint(frozen)
        for frozen in existing
        if frozen.user_attrs.get(form.TAKEN_OVER) == earlier.source
    )
    new = []
    for frozen in earlier.fitting:
        key = _fingerprint(frozen)
        if known[key]:
            known[key] -= 1
        else:
            new.append(frozen)
    return tuple(new)


def take_over(
    spec: StudySpec, storage: optuna.storages.BaseStorage, earlier: Earlier
) -> tuple[FrozenTrial, ...]:
    """Write the fitting trials into a study, which is made if need be; return the new ones.

    Raises:
        StudyMismatch: The stored study has other objectives or another search space.
    """
    study = optuna.create_study(
        study_name=spec.name,
        storage=storage,
        directions=list(spec.directions),
        load_if_exists=True,
        sampler=optuna.samplers.RandomSampler(),
    )
    check_identity(spec, study)
    new = without_known(earlier, study.get_trials(deepcopy=False))
    for frozen in new:
        study.add_trial(frozen)
    # Last, so that points to try first which are among these results are not tried again.
    Study.open(
        spec,
        storage,
        make_sampler=lambda _seed, _n_trials: optuna.samplers.RandomSampler(),
        pruner=optuna.pruners.NopPruner(),
    )
    return new


def _is_known(spec: StudySpec, name: str) -> bool:
    return name in spec.search_space or name in spec.fixed


def _may_be_absent(spec: StudySpec, name: str) -> bool:
    parameter = spec.search_space.get(name)
    return name in spec.fixed or (parameter is not None and bool(parameter.when))


def _stored_metrics(source: optuna.Study) -> list[str] | None:
    identity = source.user_attrs.get(form.IDENTITY)
    return None if identity is None else [o["metric"] for o in identity["objectives"]]


def _fixed_otherwise(spec: StudySpec, params: Mapping[str, Any]) -> str | None:
    """Return which fixed parameter had another value, or `None`."""
    for name, value in spec.fixed.items():
        if name in params and params[name] != value:
            return f"{name} is fixed to {value!r} now, and it was {params[name]!r}"
    return None


def _misfit(spec: StudySpec, frozen: FrozenTrial) -> str | None:
    """Return why a trial is not taken over, or `None` when it fits."""
    if not frozen.state.is_finished():
        return f"it is {frozen.state.name.lower()}, not finished"
    cause = frozen.user_attrs.get(form.CAUSE)
    if cause == Cause.CANCELLED:
        return "it was cancelled"
    if frozen.state is OptunaState.FAIL and cause is None:
        return "it failed, and nothing says why"
    params = {n: v for n, v in frozen.params.items() if n in spec.search_space}
    if problems := spec.space.problems(params):
        return "; ".join(problems)
    if frozen.state is not OptunaState.COMPLETE:
        return _fixed_otherwise(spec, frozen.params)
    if not all(math.isfinite(value) for value in frozen.values or ()):
        return "a value is not finite"
    bounds = [name for c in spec.constraints for name in c.violations(0.0)]
    if lacking := [name for name in bounds if name not in frozen.constraints]:
        return f"it has no value for the constraint {lacking[0]}"
    return _fixed_otherwise(spec, frozen.params)


def _copy(spec: StudySpec, frozen: FrozenTrial, source: str) -> FrozenTrial:
    params = {n: v for n, v in frozen.params.items() if n in spec.search_space}
    attrs = {k: v for k, v in frozen.user_attrs.items() if k != form.RUN_ID}  # its old run
    point = frozen.system_attrs.get(form.POINT)
    return _make(
        spec,
        frozen.state,
        params,
        {**attrs, form.TAKEN_OVER: source},
        values=frozen.values if frozen.state is OptunaState.COMPLETE else None,
        intermediate_values=frozen.intermediate_values,
        system_attrs={} if point is None else {form.POINT: point},
        constraints=frozen.constraints or None,
    )


def _from_row(
    spec: StudySpec, line: int, cells: Mapping[str, str], columns: Columns, source: str
) -> FrozenTrial | str | list[Flaw]:
    """Return the trial of a row, or why there is none, or what can be read in more than one way."""
    if reason := _unfinished(cells, columns):
        return reason
    flaws, reasons = list[Flaw](), list[str]()
    params: dict[str, ParamValue] = {}
    for name in spec.space:
        parameter, column = spec.space[name], columns.params.get(name)
        is_empty = column is None or not cells[column].strip()
        if column is None or (is_empty and name not in spec.space.active(params)):
            continue
        text = cells[column]
        try:
            params[name] = read_value(parameter, text)
        except Ambiguous as error:
            flaws.append(Flaw(line, column, str(error)))
        except ValueError:
            if _is_numeric(parameter) and is_comma_number(text.strip()):
                flaws.append(_comma(line, column, text))
            elif not is_empty:
                reasons.append(_outside(name, text, parameter))
        else:
            if not parameter.contains(params[name]):
                reasons.append(_outside(name, text, parameter))
    for name, value in spec.fixed.items():
        text = cells[columns.params[name]] if name in columns.params else ""
        if not text.strip() or meanings(text, (value,)):
            continue
        if isinstance(value, int | float) and is_comma_number(text.strip()):
            flaws.append(_comma(line, columns.params[name], text))
        reasons.append(f"{name} is fixed to {value!r} now, and it was {show_cell(text.strip())}")
    metrics: dict[str, float] = {}
    for name in spec.metrics:
        text = cells[columns.metrics[name]].strip()
        try:
            metrics[name] = float(read_number(text))
        except (ValueError, OverflowError):
            if is_comma_number(text):
                flaws.append(_comma(line, columns.metrics[name], text))
            reasons.append(f"{name} is no number: {show_cell(text) or 'empty'}")
        else:
            if not math.isfinite(metrics[name]):
                reasons.append(f"{name} is not finite")
    if flaws:
        return flaws
    if reasons or (reasons := list(spec.space.problems(params))):
        return "; ".join(reasons)
    constraints: dict[str, float] = {}
    for constraint in spec.constraints:
        constraints |= constraint.violations(metrics[constraint.metric])
    return _make(
        spec,
        OptunaState.COMPLETE,
        params,
        {form.CAUSE: Cause.OK, form.METRICS: metrics, form.TAKEN_OVER: source},
        values=[metrics[objective.metric] for objective in spec.objectives],
        constraints=constraints or None,
    )


def _outside(name: str, text: str, parameter: Parameter) -> str:
    return f"{name}={show_cell(text.strip())} is not in {describe(parameter)}"


def _unfinished(cells: Mapping[str, str], columns: Columns) -> str | None:
    """Return why a row is no result by its own account, or `None`."""
    state, status = (
        "" if name in columns.read else cells.get(name, "").strip().lower()
        for name in ("state", "status")
    )
    if state not in _FINISHED_STATES:
        return f"its state is {show_cell(state)}"
    return f"its status is {status}" if status in _UNFINISHED_STATUSES else None


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


def _comma(line: int, column: str, text: str) -> Flaw:
    shown = show_cell(text.strip())
    way_out = "write numbers with a decimal point, and thousands without separators"
    return Flaw(line, column, f"a number must not hold commas, but it is {shown!r} ({way_out})")


def _is_numeric(parameter: Parameter) -> bool:
    if not isinstance(parameter, CategoricalParameter):
        return True
    return any(isinstance(c, int | float) and not isinstance(c, bool) for c in parameter.choices)


def _make(
    spec: StudySpec,
    state: OptunaState,
    params: Mapping[str, ParamValue],
    user_attrs: Mapping[str, Any],
    **more: Any,
) -> FrozenTrial:
    space = spec.space
    return optuna.trial.create_trial(
        state=state,
        params=space.on_grid(params),
        distributions={name: space[name].distribution() for name in params},
        user_attrs=dict(user_attrs),
        **more,
    )


def _unread(
    spec: StudySpec, rows: Sequence[tuple[int, Mapping[str, str]]], columns: Columns
) -> tuple[str, ...]:
    """Return columns with MLflow's prefix for parameters that the study does not have."""
    header = rows[0][1] if rows else {}
    names = [
        column for column in header if column.startswith("params.") and column not in columns.read
    ]
    return tuple(name.removeprefix("params.") for name in names if not _is_known(spec, name))


def _fingerprint(frozen: FrozenTrial) -> str:
    values = frozen.values if frozen.state is OptunaState.COMPLETE else None
    params = {  # an older studyflow kept 0.30000000000000004 of a grid for 0.3
        name: f"{value:.12g}" if isinstance(value, float) else value
        for name, value in frozen.params.items()
    }
    return json.dumps([frozen.state.name, params, values], sort_keys=True)

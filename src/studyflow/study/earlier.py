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
from studyflow.space import (
    CategoricalParameter,
    IntParameter,
    Parameter,
    Scalar,
    describe,
    same_scalar,
)
from studyflow.spec import StudySpec
from studyflow.study import storage_form as form
from studyflow.study.study import Study, check_identity
from studyflow.trial import Cause, ParamValue

_WORDS: Final[Mapping[str, bool | None]] = {
    "true": True,
    "false": False,
    "null": None,
    "none": None,
}
"""How files write the choices that are no texts and no numbers, in small letters."""

_FINISHED_STATE: Final = "complete"


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


def from_rows(
    spec: StudySpec,
    rows: Sequence[tuple[int, Mapping[str, str]]],
    source: str,
    columns: Mapping[str, str],
) -> Earlier:
    """Return which rows of a table fit into a study.

    Args:
        spec: The study that is to have them.
        rows: Line number, and cells by column.
        source: What to call the table.
        columns: Column of each parameter and metric; see `find_columns`.
    """
    fitting, misfits = [], []
    for line, cells in rows:
        made = _from_row(spec, cells, columns, source)
        if isinstance(made, str):
            misfits.append(Misfit(f"row {line}", made))
        else:
            fitting.append(made)
    return Earlier(source, tuple(fitting), tuple(misfits), _unread(spec, rows, columns))


def find_columns(
    spec: StudySpec, header: Sequence[str], named: Mapping[str, str]
) -> dict[str, str]:
    """Return the column of every parameter and metric of a study.

    That is the one of the same name, or with MLflow's `params.` or `metrics.` before it. A
    conditional parameter and a fixed one may have none.

    Args:
        spec: The study.
        header: The columns that there are.
        named: Columns that a person named, by parameter or metric.

    Raises:
        SpecError: A column is missing, or a name is neither parameter nor metric.
    """
    known = [*spec.search_space, *spec.fixed, *spec.metrics]
    unknown = [name for name in named if name not in known]
    if unknown:
        raise SpecError(
            f"{', '.join(unknown)} is no parameter and no metric of {spec.name!r}. "
            f"Hint: name one of {', '.join(known)}."
        )
    columns, missing = {}, []
    for name in known:
        prefix = "metrics." if name in spec.metrics else "params."
        candidates = (named[name],) if name in named else (name, prefix + name)
        found = next((column for column in candidates if column in header), None)
        if found is not None:
            columns[name] = found
        elif name in named or not _may_be_absent(spec, name):
            missing.append(name)
    if missing:
        raise SpecError(
            f"No column for {', '.join(missing)}; the columns are: {', '.join(header)}. "
            f"Hint: name it: --column {missing[0]}=COLUMN"
        )
    return columns


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
    spec: StudySpec, cells: Mapping[str, str], columns: Mapping[str, str], source: str
) -> FrozenTrial | str:
    """Return the trial of a row, or why there is none."""
    state = cells.get("state", "").strip().lower()
    if state and state not in (_FINISHED_STATE, "finished"):  # ours, and MLflow's
        return f"its state is {state}"
    texts = {name: cells.get(column, "").strip() for name, column in columns.items()}
    params: dict[str, ParamValue] = {}
    for name, parameter in spec.search_space.items():
        if not (text := texts.get(name, "")):
            continue
        try:
            params[name] = read_value(parameter, text)
        except ValueError:
            return f"{name}={text[:40]} is not in {describe(parameter)}"
    if problems := spec.space.problems(params):
        return "; ".join(problems)
    for name, value in spec.fixed.items():
        if (text := texts.get(name, "")) and not _means(text, value):
            return f"{name} is fixed to {value!r} now, and it was {text[:40]}"
    metrics: dict[str, float] = {}
    for name in spec.metrics:
        try:
            metrics[name] = float(texts[name])
        except ValueError:
            return f"{name} is no number: {texts[name][:40] or 'empty'}"
        if not math.isfinite(metrics[name]):
            return f"{name} is not finite"
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


def read_value(parameter: Parameter, text: str) -> ParamValue:
    """Return the value that a cell means for a parameter.

    Raises:
        ValueError: It means none.
    """
    if isinstance(parameter, CategoricalParameter):
        for choice in parameter.choices:
            if _means(text, choice):
                return choice
        raise ValueError(text)
    number = float(text)
    if not isinstance(parameter, IntParameter):
        return number
    if not number.is_integer():  # also refuses infinities and NaN
        raise ValueError(text)
    return int(number)


def _means(text: str, value: Scalar) -> bool:
    """Whether a cell's text stands for a value, whose type the cell cannot show."""
    if isinstance(value, str):
        return text == value
    if value is None or isinstance(value, bool):
        word = text.lower()
        return word in _WORDS and same_scalar(_WORDS[word], value)
    try:
        return float(text) == value
    except ValueError:
        return False


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
        params=dict(params),
        distributions={name: space[name].distribution() for name in params},
        user_attrs=dict(user_attrs),
        **more,
    )


def _unread(
    spec: StudySpec, rows: Sequence[tuple[int, Mapping[str, str]]], columns: Mapping[str, str]
) -> tuple[str, ...]:
    """Return columns with MLflow's prefix for parameters that the study does not have."""
    header = rows[0][1] if rows else {}
    read = set(columns.values())
    names = [column for column in header if column.startswith("params.") and column not in read]
    return tuple(name.removeprefix("params.") for name in names if not _is_known(spec, name))


def _fingerprint(frozen: FrozenTrial) -> str:
    values = frozen.values if frozen.state is OptunaState.COMPLETE else None
    return json.dumps([frozen.state.name, frozen.params, values], sort_keys=True)

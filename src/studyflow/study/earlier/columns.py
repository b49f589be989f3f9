"""Which column of a table holds which parameter or metric of a study. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from studyflow.errors import SpecError
from studyflow.spec import StudySpec
from studyflow.study.table import Flaw

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


def column_names(spec: StudySpec) -> frozenset[str]:
    """Return every name under which a table may have a parameter or a metric."""
    names = {(prefix, n) for n in (*spec.search_space, *spec.fixed) for prefix in _PARAM_PREFIXES}
    names |= {(prefix, n) for n in spec.metrics for prefix in _METRIC_PREFIXES}
    return frozenset(text for prefix, n in names for text in (n, prefix + n))


def _option(spec: StudySpec, owner: tuple[str, str]) -> str:
    """Return by what name `--column` knows a parameter or metric: with its prefix if both have it.

    Args:
        spec: The study.
        owner: Prefix and name.
    """
    prefix, name = owner
    return name if len(column_owners(spec, name)) == 1 else prefix + name


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
    positions = [str(i) for i, column in enumerate(header, start=1) if column == first]
    shown = ", ".join(positions)
    text = f"there are several of this name, at positions {shown} (rename or remove one)"
    return [Flaw(1, first, text)]


def _may_be_absent(spec: StudySpec, name: str) -> bool:
    parameter = spec.search_space.get(name)
    return name in spec.fixed or (parameter is not None and bool(parameter.when))

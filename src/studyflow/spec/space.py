"""The search space: which parameters a study searches, over what, and under which conditions.

A space is a tree. A parameter with `when` exists only where its parents have one of the named
values; everything here treats an inactive parameter as absent, never as a default.

Two encodings are offered: Optuna's distributions, for samplers, and the unit cube, for models and
pictures. Both keep log scales and grids exact.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from studyflow.errors import SpaceError
from studyflow.spec.conditions import condition_problems
from studyflow.spec.parameters import (
    FloatParameter,
    Parameter,
    describe,
)
from studyflow.spec.values import plain, same_scalar, show_scalar
from studyflow.trial import ParamValue

if TYPE_CHECKING:
    import optuna


class SearchSpace(Mapping[str, Parameter]):
    """The parameters by name, parents before their children, otherwise in the order given.

    Args:
        parameters: Parameters by name.

    Raises:
        SpaceError: A condition names an unknown parent or an impossible value, or conditions form
            a circle.
    """

    def __init__(self, parameters: Mapping[str, Parameter]) -> None:
        problems = condition_problems(parameters)
        if problems:
            raise SpaceError("; ".join(f"{p.name}: {p.message} ({p.hint})" for p in problems))
        self._parameters: dict[str, Parameter] = {}
        waiting = dict(parameters)
        while waiting:
            for name in [n for n, p in waiting.items() if not p.conditions.keys() & waiting.keys()]:
                self._parameters[name] = waiting.pop(name)

    def __getitem__(self, name: str) -> Parameter:
        return self._parameters[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __len__(self) -> int:
        return len(self._parameters)

    def __repr__(self) -> str:
        return f"SearchSpace({self._parameters!r})"

    @property
    def cardinality(self) -> int | None:
        """How many different points there are; `None` when a parameter is a continuum.

        Conditional branches are counted, not multiplied out: a child multiplies only the values of
        its parent under which it exists.
        """
        if any(parameter.cardinality is None for parameter in self.values()):
            return None
        return math.prod(self._count(family) for family in self._families())

    def _families(self) -> list[list[str]]:
        """Return the names in groups that no condition connects, parents before children."""
        families: list[list[str]] = []
        for name, parameter in self.items():
            kin = [f for f in families if any(parent in f for parent in parameter.conditions)]
            families = [f for f in families if f not in kin]
            families.append([*(n for n in self if any(n in f for f in kin)), name])
        return families

    def _count(self, family: list[str]) -> int:
        """Count the points of one family.

        Walks it from parents to children and keeps, instead of every partial point, how many of
        them leave the same later parameters without a chance to exist.
        """
        counts: Counter[frozenset[str]] = Counter({frozenset(): 1})
        for name in family:
            parameter = self[name]
            children = {n: self[n].conditions[name] for n in family if name in self[n].conditions}
            named = {value for values in children.values() for value in values}
            ends: Counter[frozenset[str]] = Counter()
            for value in named:
                ends[frozenset(n for n, values in children.items() if value not in values)] += 1
            ends[frozenset(children)] += (parameter.cardinality or 1) - len(named)
            after: Counter[frozenset[str]] = Counter()
            for ended, count in counts.items():
                if name in ended:
                    after[(ended - {name}) | frozenset(children)] += count
                else:
                    for more, n_values in ends.items():
                        after[ended | more] += count * n_values
            counts = after
        return counts.total()

    def _holds(self, name: str, params: Mapping[str, Any]) -> bool:
        return all(
            parent in params and any(same_scalar(params[parent], value) for value in values)
            for parent, values in self[name].conditions.items()
        )

    def active(self, params: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names of the parameters that exist given the values of the others.

        Names in `params` that do not exist there are ignored, so a full set may be passed too.
        """
        active: dict[str, Any] = {}
        for name in self:
            if self._holds(name, active):
                active[name] = params.get(name, _Missing)
        return tuple(active)

    def problems(self, params: Mapping[str, Any]) -> tuple[str, ...]:
        """Return what keeps `params` from being one complete point of this space, a line each."""
        active = self.active(params)
        lines = []
        for name in active:
            if name not in params:
                lines.append(f"{name} is missing")
            elif not self[name].contains(params[name]):
                value = show_scalar(params[name])
                lines.append(f"{name}={value} is not in {describe(self[name])}")
        for name in params:
            if name not in self:
                lines.append(f"{name} is not a parameter of this search space")
            elif name not in active:
                parents = ", ".join(self[name].conditions)
                lines.append(f"{name} does not exist under these values of {parents}")
        return tuple(lines)

    def on_grid(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the same values, with floats that are points of a grid up to rounding exactly so.

        Names that are no parameters keep their values.
        """
        found = dict(params)
        for name, parameter in self.items():
            if name in found and isinstance(parameter, FloatParameter):
                found[name] = parameter.on_grid(found[name])
        return found

    def nearest(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the same values, with floats that have a step moved to the nearest point."""
        found = dict(params)
        for name, parameter in self.items():
            if name in found and isinstance(parameter, FloatParameter) and parameter.grid:
                found[name] = parameter.grid.value(parameter.grid.nearest(found[name]))
        return found

    def suggest(self, trial: optuna.Trial) -> dict[str, ParamValue]:
        """Draw one point from an Optuna trial, parents first, and return it.

        A parameter that the trial already has is not drawn again.
        """
        params: dict[str, ParamValue] = {}
        for name in self:
            if self._holds(name, params):
                params[name] = plain(trial._suggest(name, self[name].distribution()))
        return params

    def distributions(self) -> dict[str, optuna.distributions.BaseDistribution]:
        """Return every parameter as Optuna knows it, conditional ones too."""
        return {name: parameter.distribution() for name, parameter in self.items()}

    def to_unit(self, params: Mapping[str, Any]) -> list[float]:
        """Return the point in the unit cube, one coordinate a parameter, 0.5 where inactive."""
        active = self.active(params)
        return [self[n].to_unit(params[n]) if n in active else 0.5 for n in self]

    def from_unit(self, unit: Sequence[float]) -> dict[str, ParamValue]:
        """Return the point at a place in the unit cube, with its active parameters only."""
        params: dict[str, ParamValue] = {}
        for name, coordinate in zip(self, unit, strict=True):
            if self._holds(name, params):
                params[name] = self[name].from_unit(coordinate)
        return params


class _Missing:
    """Stands for the value of an active parameter that was not given; equal to no condition."""

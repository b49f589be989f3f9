"""Conditions between parameters that can never be met."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from studyflow.spec.parameters import FloatParameter, Parameter, describe
from studyflow.spec.values import show_scalar


@dataclass(frozen=True, slots=True)
class ConditionProblem:
    """A condition that can never be met."""

    name: str
    """The parameter that has the condition."""
    parent: str
    """The parent that the condition names."""
    message: str
    hint: str


def condition_problems(
    parameters: Mapping[str, Parameter],
) -> tuple[ConditionProblem, ...]:
    """Return every condition that cannot be met."""
    problems = []
    parents = {n: {c for c in p.conditions if c in parameters} for n, p in parameters.items()}
    for name, parameter in parameters.items():
        for parent, values in parameter.conditions.items():
            if parent == name:
                message = "when must name another parameter, but it names the parameter itself"
                hint = "name the parameter that this one depends on"
            elif parent not in parameters:
                others = ", ".join(n for n in parameters if n != name) or "no other"
                message = f"when must name a searched parameter, but there is no {parent!r}"
                hint = f"there are: {others}"
            elif isinstance(parameters[parent], FloatParameter):
                # Whether a float equals a value is a matter of rounding, and of luck without step.
                message = f"when must name an int or categorical parameter, but {parent} is a float"
                hint = f"add a categorical parameter that decides, or make {parent} one"
            elif not values:
                message = f"when must name a value of {parent}, but the list is empty"
                hint = f"name values out of {describe(parameters[parent])}, or drop the condition"
            elif wrong := [v for v in values if not parameters[parent].contains(v)]:
                domain = describe(parameters[parent])
                value = show_scalar(wrong[0])
                message = f"when must name values of {parent}, but {value} is not in {domain}"
                hint = "the type counts too: 1, 1.0, true and '1' are four different values"
            elif name == next(iter(circle := _circle(name, parents)), None) and parent in circle:
                # One problem for each circle, not one for each of its members.
                message = f"conditions must not form a circle, but {' and '.join(circle)} do"
                hint = "drop the condition of one of them"
            else:
                continue
            problems.append(ConditionProblem(name, parent, message, hint))
    return tuple(problems)


def _circle(name: str, parents: Mapping[str, set[str]]) -> list[str]:
    """Return the parameters that depend on this one and that it depends on, in their order."""
    above = _ancestors(name, parents)
    return [n for n in parents if n in above and name in _ancestors(n, parents)]


def _ancestors(name: str, parents: Mapping[str, set[str]]) -> set[str]:
    """Return all that a parameter depends on; itself only when it stands in a circle."""
    seen: set[str] = set()
    waiting = [*parents[name]]
    while waiting:
        if (above := waiting.pop()) not in seen:
            seen.add(above)
            waiting.extend(parents[above])
    return seen

"""The branches of a conditional search space, as figures name them."""

from __future__ import annotations

from studyflow.reports import wording
from studyflow.reports.data import StudyData
from studyflow.spec.values import same_scalar
from studyflow.trial import ParamValue


def branch(data: StudyData, name: str) -> str:
    """Return the conditions under which a parameter exists, such as `optimizer = sgd`.

    Empty for one that always does. Conditions of its parents are included.
    """
    parts: list[str] = []
    waiting = [name]
    while waiting:
        for parent, allowed in data.space[waiting.pop(0)].conditions.items():
            values = " or ".join(wording.value(value) for value in allowed)
            part = f"{wording.one_line(parent, 40)} = {values}"
            if part not in parts:
                parts.append(part)
                waiting.append(parent)
    return " and ".join(reversed(parts))


def can_meet(data: StudyData, one: str, other: str) -> bool:
    """Whether two parameters can exist in one trial."""
    first, second = (_demands(data, name) for name in (one, other))
    return all(
        any(same_scalar(a, b) for a in first[parent] for b in second[parent])
        for parent in first.keys() & second.keys()
    )


def _demands(data: StudyData, name: str) -> dict[str, list[ParamValue]]:
    """Return the values that each parameter above must have, by its name."""
    found: dict[str, list[ParamValue]] = {}
    waiting = [name]
    while waiting:
        for parent, allowed in data.space[waiting.pop()].conditions.items():
            before = found.get(parent)
            kept = [v for v in allowed if before is None or any(same_scalar(v, b) for b in before)]
            found[parent] = list(kept)
            waiting.append(parent)
    return found

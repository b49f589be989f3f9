"""Katib's parameters as those of a study file."""

from __future__ import annotations

import math
from typing import Any, Final

from studyflow.spec.float_grid import FloatGrid
from studyflow.spec.katib.reading import Part

_RANGES: Final = {"double": "float", "int": "int"}
_NORMAL: Final = {"normal": False, "logNormal": True}


def parameter(part: Part, *, has_priors: bool) -> tuple[str, dict[str, Any]] | None:
    """Return name and definition of a parameter; `None`, with a note, if it is none.

    Args:
        part: One entry of `spec.parameters`.
        has_priors: Whether the sampler of the study uses priors.
    """
    name, kind = part.take("name"), part.take("parameterType")
    space = part.part("feasibleSpace")
    if not isinstance(name, str) or not name:
        part.notes.wrong(part.at("name"), "a parameter must have a name", "correct the experiment")
        return None
    if kind in _RANGES:
        found = _range(space, _RANGES[kind], has_priors=has_priors)
    elif kind in ("categorical", "discrete"):
        found = _choices(space, is_number=kind == "discrete")
    else:
        part.notes.wrong(
            part.at("parameterType"),
            f"must be double, int, discrete or categorical, but it is {kind!r}",
            "correct the experiment",
        )
        return None
    return None if found is None else (name, found)


def _range(space: Part, kind: str, *, has_priors: bool) -> dict[str, Any] | None:
    number = space.number if kind == "float" else space.whole
    low, high, step = number("min"), number("max"), number("step")
    distribution = space.take("distribution")
    if low is None or high is None:
        if not space.notes.broken:
            space.notes.wrong(space.path, "must have min and max", "correct the experiment")
        return None
    found: dict[str, Any] = {"type": kind, "low": low, "high": high}
    if distribution in ("logUniform", "logNormal"):
        found["log"] = True
    if step is not None and "log" in found:
        space.notes.left_out(
            space.at("step"),
            step,
            "a logarithmic parameter has no step in a study file",
            "let the script round the value, or drop log",
        )
    elif step is not None:
        found["step"] = step
    if distribution in _NORMAL:
        _normal(space, distribution, found, has_priors=has_priors)
    elif distribution not in (None, "uniform", "logUniform"):
        space.notes.left_out(
            space.at("distribution"),
            distribution,
            "no such distribution is known, so the range is searched evenly",
            "see `prior` and `log` in a study file",
        )
    return found


def _normal(space: Part, distribution: str, found: dict[str, Any], *, has_priors: bool) -> None:
    """Put a prior of Katib's mean and deviation on a parameter: min and max are three of these."""
    low, high = found["low"], found["high"]
    if not has_priors or low >= high:
        space.notes.left_out(
            space.at("distribution"),
            distribution,
            "the sampler has no priors, so the range is searched evenly",
            "with `sampler: {type: botorch}` write a `prior` with mean and sd",
        )
        return
    if _NORMAL[distribution]:
        ends = math.log10(low), math.log10(high)
        mean = min(max(10 ** (sum(ends) / 2), low), high)
        deviation = (ends[1] - ends[0]) / 6
    else:
        mean, deviation = (low + high) / 2, (high - low) / 6
    found["prior"] = {"mean": float(f"{mean:.6g}"), "sd": float(f"{deviation:.6g}")}
    space.notes.changed(
        space.at("distribution"),
        distribution,
        "became a prior of the same mean and deviation, whose weight falls as trials finish",
    )


def _choices(space: Part, *, is_number: bool) -> dict[str, Any] | None:
    listed = space.take("list")
    if not isinstance(listed, list) or not listed:
        space.notes.wrong(space.at("list"), "must name values", "correct the experiment")
        return None
    texts = [str(value) for value in dict.fromkeys(listed)]
    if len(texts) < len(listed):
        space.notes.changed(space.at("list"), listed, "each value stands once")
    numbers = _numbers(texts)
    if is_number and numbers is None:
        space.notes.wrong(
            space.at("list"), "must hold numbers only", "make the parameter categorical"
        )
        return None
    if is_number and numbers is not None:
        return _evenly_spaced(numbers) or _in_no_order(space, numbers)
    if numbers is not None:
        space.notes.changed(
            space.at("list"),
            listed,
            "the choices are texts, as in Katib",
            "write them without quotes if the script takes numbers from `params`",
        )
    return {"type": "categorical", "choices": texts}


def _numbers(texts: list[str]) -> list[int] | list[float] | None:
    for kind in (int, float):
        try:
            found: Any = [kind(text) for text in texts]
        except ValueError:
            continue
        return found if all(math.isfinite(value) for value in found) else None
    return None


def _evenly_spaced(numbers: list[int] | list[float]) -> dict[str, Any] | None:
    """Return a range with a step, if the numbers are one."""
    ordered = sorted(numbers)
    low, high = ordered[0], ordered[-1]
    if len(ordered) < 3:
        return None
    if isinstance(low, int):
        step: float = ordered[1] - low
        is_range = ordered == list(range(int(low), int(high) + 1, int(step)))
    else:
        step = float(f"{(high - low) / (len(ordered) - 1):.12g}")
        grid = FloatGrid(low, high, step)
        is_range = grid.size == len(ordered) and all(
            math.isclose(grid.value(i), value, rel_tol=1e-9, abs_tol=1e-9 * step)
            for i, value in enumerate(ordered)
        )
    if not is_range:
        return None
    kind = "int" if isinstance(low, int) else "float"
    return {"type": kind, "low": low, "high": high, "step": step}


def _in_no_order(space: Part, numbers: list[int] | list[float]) -> dict[str, Any]:
    space.notes.changed(
        space.at("list"),
        list(numbers),
        "became choices, of which the sampler does not know the order",
        "an int or float with `log` or `step` may suit it better",
    )
    return {"type": "categorical", "choices": list(numbers)}

"""Under which values of others a parameter exists: learnt from the points that have it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    IntDistribution,
)

from studyflow.samplers.arrays import BoolArray

Conditions = Mapping[str, Mapping[str, Sequence[Any]]]
"""Child to parent to the parent's values under which the child exists; all parents must agree."""

MAX_PARENT_VALUES: Final = 16
"""Integers of more values than this are sizes, not counts: nothing exists because of them."""

MAX_CHANCE: Final = 0.05
"""A threshold is believed if points in random order would be sorted by it at most this often, all
that have the parameter to one side. It takes three points of eight, or two of ten."""


def learn_conditions(
    space: Mapping[str, BaseDistribution], observed: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, list[Any]]]:
    """Return the conditions that explain which parameters the observed points have.

    A parameter is conditional on a parent if, among the points that have the parent, its presence
    is a function of the parent's value, and it is absent wherever the parent is. The presence set
    of a child is then strictly inside that of its parent, so no cycle can arise. Of several
    explanations the parent present in the fewest points is kept (the nearest in a nested tree),
    then the one with the fewest choices. Parent values never seen count as allowing the child.

    Where no category explains it, an integer may (the number of layers, say), if the child exists
    on one side of a threshold only and chance would hardly sort the points so (`MAX_CHANCE`); of
    several integers the one that chance explains least. Values never seen between the two sides
    count as allowing the child.

    Args:
        space: The union of all parameters.
        observed: Parameters of finished points.
    """
    learned: dict[str, dict[str, list[Any]]] = {}
    for child in sorted(space):
        presence = np.array([child in params for params in observed], dtype=np.bool_)
        if presence.all() or not presence.any():
            continue
        found = (_explain(presence, parent, space[parent], observed) for parent in space)
        explanations = [explanation for explanation in found if explanation is not None]
        if explanations:
            likeliest = min(explanations)
            learned[child] = {likeliest.parent: likeliest.allowed}
    return learned


@dataclass(frozen=True, order=True)
class _Explanation:
    """Why a parameter exists at some points only; of several the least is to be believed."""

    is_threshold: bool
    uncertainty: float
    """Of a category, how many points have the parent; of a threshold, the log probability that
    chance alone would sort the points so."""
    n_values: int
    parent: str
    allowed: list[Any] = field(compare=False)
    """Values of the parent under which the parameter exists."""


def _explain(
    presence: BoolArray,
    parent: str,
    distribution: BaseDistribution,
    observed: Sequence[Mapping[str, Any]],
) -> _Explanation | None:
    """Return how a parent's value decides which points have the parameter, `None` if it does not.

    Args:
        presence: Which of the points have the parameter, `n`; a mix.
        parent: The parameter that may decide it. (None explains itself: there would have to be
            points that have it and lack it.)
        distribution: That of the parent.
        observed: All parameters of the points.
    """
    values = _parent_values(distribution)
    known = np.array([parent in params for params in observed], dtype=np.bool_)
    if len(values) < 2 or (presence & ~known).any():
        return None
    with_child, without = (
        {
            values.index(params[parent])
            for params, here, has in zip(observed, presence, known, strict=True)
            if has and here == wanted and params[parent] in values
        }
        for wanted in (True, False)
    )
    if not with_child or not without or with_child & without:
        return None
    n_known = int(known.sum())
    if isinstance(distribution, CategoricalDistribution):
        allowed = [value for i, value in enumerate(values) if i not in without]
        return _Explanation(False, float(n_known), len(values), parent, allowed)
    log_chance = math.log(2.0) - _log_subsets(n_known, int(presence.sum()))
    allowed = [values[i] for i in _side_of(with_child, without, len(values))]
    if not allowed or log_chance > math.log(MAX_CHANCE):
        return None
    return _Explanation(True, log_chance, len(values), parent, allowed)


def _parent_values(distribution: BaseDistribution) -> Sequence[Any]:
    """Return the values that other parameters may depend on; none for a continuum."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    if not isinstance(distribution, IntDistribution):
        return ()
    low, high, step = distribution.low, distribution.high, distribution.step
    return range(low, high + 1, step) if (high - low) // step < MAX_PARENT_VALUES else ()


def _side_of(ours: set[int], others: set[int], count: int) -> range:
    """Return the indices beyond all the others, on our side of them; none if the two overlap."""
    if min(ours) > max(others):
        return range(max(others) + 1, count)
    if max(ours) < min(others):
        return range(min(others))
    return range(0)


def _log_subsets(n: int, k: int) -> float:
    """Return the logarithm of the number of ways to choose `k` of `n`."""
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)

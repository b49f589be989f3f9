"""What can be wrong with the arguments of `BoTorchSampler`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from studyflow.samplers.space.conditions import Conditions
from studyflow.samplers.space.dimension import Dimension, make_dimension
from studyflow.samplers.space.encoding import make_encoding
from studyflow.spec.prior import Prior, check_choice_prior, check_number_prior


def check_space(
    space: Mapping[str, BaseDistribution] | None, conditions: Conditions | None
) -> None:
    """Return if the declared space and its conditions fit together.

    Args:
        space: As `BoTorchSampler` takes it; `None` where it is learnt from the trials.
        conditions: As `BoTorchSampler` takes them.

    Raises:
        ValueError: They do not; the message has one line for each problem.
    """
    problems: list[str] = []
    for name, distribution in (space or {}).items():
        try:
            make_dimension(name, distribution)
        except ValueError as error:
            problems.append(f"search_space.{error}")
    if conditions and not problems:
        problems += _condition_problems(space, conditions)
    if problems:
        raise ValueError("\n".join(problems))


def _condition_problems(
    space: Mapping[str, BaseDistribution] | None, conditions: Conditions
) -> list[str]:
    if space is None:
        return ["conditions: need search_space, which declares the parameters they are about."]
    problems: list[str] = []
    for child, parents in conditions.items():
        problems += [
            f"conditions.{child}: {name!r} is not in search_space."
            for name in (child, *parents)
            if name not in space
        ]
        for parent, values in parents.items():
            distribution = space.get(parent)
            if distribution is None:
                continue
            dimension = make_dimension(parent, distribution)
            if dimension.size is None and not distribution.single():
                problems.append(
                    f"conditions.{child}: parent {parent!r} must have countable values, "
                    "but is a continuous float."
                )
                continue
            unknown = [v for v in values if not _is_value(v, distribution, dimension)]
            if unknown:
                known = (
                    f"one of {list(distribution.choices)}"
                    if isinstance(distribution, CategoricalDistribution)
                    else "in its range"
                )
                problems.append(
                    f"conditions.{child}.{parent}: each value must be {known}, but got {unknown}."
                )
    if not problems:
        try:
            make_encoding(space, conditions)
        except ValueError as error:
            problems.append(f"conditions: {error}")
    return problems


def _is_value(value: Any, distribution: BaseDistribution, dimension: Dimension) -> bool:
    if isinstance(distribution, FloatDistribution) and distribution.single():
        return bool(value == distribution.low)  # its axis has no length, and nothing a code there
    return not np.isnan(dimension.encode(value))


def read_priors(
    priors: Mapping[str, Prior | Mapping[str, Any]] | None,
    space: Mapping[str, BaseDistribution] | None,
) -> dict[str, Prior]:
    """Return the priors of parameters, by name.

    Args:
        priors: As `BoTorchSampler` takes them.
        space: The declared space that they have to fit; `None` where it is learnt from the trials.

    Raises:
        ValueError: They are wrong, or do not fit; the message has one line for each problem.
    """
    found: dict[str, Prior] = {}
    problems: list[str] = []
    for name, given in (priors or {}).items():
        try:
            prior = given if isinstance(given, Prior) else Prior.model_validate(given)
            if space is not None and name not in space:
                problems.append(f"priors.{name}: {name!r} is not in search_space.")
            elif space is not None:
                _check_prior(prior, space[name])
            found[name] = prior
        except ValidationError as error:
            problems += [
                f"priors.{'.'.join(map(str, (name, *wrong['loc'])))}: {wrong['msg']}"
                for wrong in error.errors()
            ]
        except PydanticCustomError as error:
            problems.append(f"priors.{name}: {error.message()}")
    if problems:
        raise ValueError("\n".join(problems))
    return found


def _check_prior(prior: Prior, distribution: BaseDistribution) -> None:
    if isinstance(distribution, CategoricalDistribution):
        check_choice_prior(prior, tuple(distribution.choices))
    elif isinstance(distribution, FloatDistribution | IntDistribution):
        check_number_prior(prior, distribution.low, distribution.high)


def check_device(device: str) -> None:
    """Return if torch can compute on the device, such as `cpu` or `cuda:0`.

    Raises:
        ValueError: It cannot.
    """
    if device == "cpu":
        return
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n", 1)[0]
        raise ValueError(f"device: {device!r} cannot be used here ({reason}).") from error

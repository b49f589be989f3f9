"""Priors of parameters: what they may say, and that they belong to no study's identity."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError
from tests.unit.spec.spaces import choices, floats, ints

from studyflow.spec.prior import Prior


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: floats(0, 1, prior=p), {"mean": 1.5, "sd": 1}),
        (lambda p: ints(1, 9, prior=p), {"mean": 0, "sd": 1}),
        (lambda p: ints(1, 9, prior=p), {"good": [3]}),
        (lambda p: floats(0, 1, prior=p), {"good": [0.5, 0.2]}),
        (lambda p: floats(0, 1, prior=p), {"good": [0.5, 1.2]}),
        (lambda p: floats(0, 1, prior=p), {"good": ["a", "b"]}),
        (lambda p: choices("a", "b", prior=p), {"good": ["c"]}),
        (lambda p: choices("a", "b", prior=p), {"mean": 1, "sd": 1}),
        (lambda p: choices(1, 2, prior=p), {"good": [True]}),
    ],
)
@pytest.mark.fault("F48")
def test_a_prior_that_does_not_fit_its_parameter_is_refused(make: Any, message: Any) -> None:
    with pytest.raises(ValidationError, match="prior"):
        make(message)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({}, "none of them"),
        ({"mean": 1}, "mean"),
        ({"sd": 1}, "sd"),
        ({"mean": 1, "sd": 1, "good": [1, 2]}, "mean and sd and good"),
    ],
)
def test_a_prior_is_a_bell_or_a_range(given: Any, named: str) -> None:
    with pytest.raises(ValidationError, match=f"but this one has {named}"):
        Prior.model_validate(given)


@pytest.mark.parametrize(
    "parameter",
    [
        floats(1e-5, 1e-1, log=True, prior={"mean": 3e-4, "sd": 0.5}),
        ints(1, 9, prior={"good": [2, 4]}),
        floats(0, 1, step=0.1, prior={"mean": 1, "sd": 0.3}),
        choices("adam", None, True, prior={"good": [None, True]}),
    ],
)
def test_a_prior_that_fits_is_taken_and_written_as_it_was(parameter: Any) -> None:
    again = type(parameter).model_validate(
        parameter.model_dump(mode="json", exclude_defaults=True) | {"type": parameter.type}
    )

    assert again == parameter
    assert again.prior is not None

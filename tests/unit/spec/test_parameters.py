"""What each kind of parameter takes, and how it is described."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError
from tests.optuna_values import is_accepted
from tests.unit.spec.spaces import choices, floats, ints

from studyflow.spec.parameters import describe


@pytest.mark.parametrize(
    ("parameter", "inside", "outside"),
    [
        (floats(0, 1), [0, 1, 0.5], [-1e-9, 1.1, True, "0.5", None, float("nan"), 10**400]),
        (floats(0, 0.3, step=0.1), [0.1, 0.2, 0.1 + 0.1, 0.3, 3 * 0.1], [0.15, 0.4]),
        (floats(0, 1, step=1 / 3), [0, 1, 1 / 3, 0.999999999999], [0.333, 1.1, True, 10**400]),
        (floats(0, 1, step=0.0909), [0.9999], [1, 1 / 11]),
        (ints(2, 9, step=3), [2, 5, 8], [9, 3, 5.0, True, "5"]),
        (choices(1, "1", None), [1, "1", None], [1.0, True, "", 0]),
    ],
)
def test_contains(parameter: Any, inside: list[Any], outside: list[Any]) -> None:
    assert [value for value in inside if not parameter.contains(value)] == []
    assert [value for value in outside if parameter.contains(value)] == []


def test_a_domain_is_described_with_all_the_digits_that_tell_its_bounds() -> None:
    assert describe(floats(0, 0.1, step=0.05)) == "[0, 0.1] step 0.05"
    assert describe(floats(0, 1, step=1 / 11)) == "[0, 1] step 0.09090909090909091"
    assert describe(ints(1, 2**53)) == "[1, 9007199254740992]"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: floats(2, 1), "low must not be above high, but low=2 and high=1"),
        (lambda: floats(0, 1, log=True), "a log scale needs low above 0, but low=0"),
        (lambda: ints(0, 1, log=True), "a log scale needs low above 0, but low=0"),
        (lambda: ints(1, 9, log=True, step=2), "log and step exclude each other"),
        (lambda: floats(0, 1, step=2), "step must not be above high - low = 1, but step=2"),
        (lambda: floats(0, 1, step=0), "greater than 0"),
        (lambda: floats(0, 1e300, step=1e-300), "is lost in rounding"),
        (lambda: floats(-1e308, 1e308), "high - low must be a finite number"),
        (lambda: floats(0, float("inf")), "finite"),
        (lambda: ints(0, 2**53 + 1), "less than or equal to 9007199254740992"),
        (lambda: ints(True, 3), "valid integer"),
        (lambda: choices(), "at least 1"),
        (lambda: choices("a", "a"), "choices must differ, but 'a' equals 'a'"),
        (lambda: choices(1, 1.0), "choices must differ, but 1.0 equals 1"),
        (lambda: choices(True, 1), "choices must differ, but 1 equals true"),
        (lambda: choices(float("nan")), "choices must be finite, but nan is among them"),
    ],
)
@pytest.mark.fault("F48")
def test_impossible_parameters_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message.replace("(", r"\(")):
        make()


@pytest.mark.parametrize(
    "parameter",
    [
        floats(0, 1),
        floats(1e-4, 1, log=True),
        floats(0, 1, step=0.3),  # the last step ends at 0.9
        floats(0.1, 0.7, step=0.2),
        ints(1, 10),
        ints(2, 9, step=3),
        ints(1, 1024, log=True),
        choices("a", None, 1, 0.5, False),
    ],
)
def test_optuna_knows_the_same_parameter_and_does_not_warn(parameter: Any) -> None:
    distribution = parameter.distribution()

    for unit in (0.0, 0.2, 0.5, 0.77, 1.0):
        value = parameter.from_unit(unit)
        assert is_accepted(distribution, value)
        assert parameter.contains(value)


def test_a_grid_is_counted_in_decimals() -> None:
    assert floats(0, 0.3, step=0.1).cardinality == 4
    assert floats(0.1, 0.7, step=0.2).cardinality == 4
    assert floats(0, 1, step=0.3).cardinality == 4


@pytest.mark.parametrize(
    ("parameter", "text"),
    [
        (floats(1e-4, 1e-2, log=True), "[0.0001, 0.01] log"),
        (ints(2, 9, step=3), "[2, 9] step 3"),
        (choices("a", None, True, 2), "{'a', null, true, 2}"),
    ],
)
def test_domains_are_described_in_a_few_characters(parameter: Any, text: str) -> None:
    assert describe(parameter) == text

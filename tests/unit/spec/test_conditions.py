"""Conditions that can never be met."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.spec.spaces import floats, ints

from studyflow.errors import SpaceError
from studyflow.spec.conditions import condition_problems
from studyflow.spec.space import SearchSpace


@pytest.mark.parametrize(
    ("parameters", "problems"),
    [
        ({"a": ints(0, 1, when={"a": 1})}, [("a", "a")]),
        ({"a": ints(0, 1, when={"b": 1})}, [("a", "b")]),
        ({"a": ints(0, 1, when={"b": 0.5}), "b": floats(0, 1)}, [("a", "b")]),
        ({"a": ints(0, 1, when={"b": 1.0}), "b": ints(0, 1)}, [("a", "b")]),
        ({"a": ints(0, 1, when={"b": []}), "b": ints(0, 1)}, [("a", "b")]),
        ({"a": ints(0, 1, when={"b": 1}), "b": ints(0, 1, when={"a": 1})}, [("a", "b")]),
        (
            {
                "below": ints(0, 1, when={"a": 1}),
                "a": ints(0, 1, when={"b": 1}),
                "b": ints(0, 1, when={"c": 1}),
                "c": ints(0, 1, when={"a": 1}),
            },
            [("a", "b")],
        ),
    ],
)
def test_impossible_conditions_are_named_once(
    parameters: dict[str, Any], problems: list[tuple[str, str]]
) -> None:
    assert [(p.name, p.parent) for p in condition_problems(parameters)] == problems
    with pytest.raises(SpaceError, match=problems[0][0]):
        SearchSpace(parameters)

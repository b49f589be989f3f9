"""What training code may pass as metrics and steps, and what it is told otherwise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from studyflow.sdk.metrics import (
    STEP_LIMIT,
    list_names,
    name_value,
    read_keep,
    read_metrics,
    read_step,
    shorten,
)


class Tensor:
    """What a tensor library's arrays look like from outside."""

    def __init__(self, element: Any, shape: tuple[int, ...] = ()) -> None:
        self.shape = shape
        self._element = element

    def item(self) -> Any:
        if math.prod(self.shape) != 1:
            raise ValueError("only one element tensors can be converted to Python scalars")
        return self._element


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1, 1.0),
        (0.5, 0.5),
        (Decimal("0.25"), 0.25),
        (Fraction(1, 4), 0.25),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3.0),
        (np.array(2.0), 2.0),
        (np.array([2.0]), 2.0),
        (np.array([[2.0]]), 2.0),
        (Tensor(0.5), 0.5),
        (Tensor(0.5, (1, 1)), 0.5),
        (math.inf, math.inf),
        (-math.inf, -math.inf),
    ],
)
def test_a_number_of_any_kind_is_a_metric(value: Any, number: float) -> None:
    assert read_metrics("finish", {"loss": value}) == {"loss": number}


def test_nan_is_passed_on_for_the_study_to_judge() -> None:
    assert math.isnan(read_metrics("report", {"loss": math.nan})["loss"])


@pytest.mark.parametrize(
    "value",
    [
        *(True, np.True_, "0.5", b"0.5", None, [0.5], {}, 1j, Unprintable()),
        *(np.array([1.0, 2.0]), np.array([]), np.array(1j), np.array([True])),
        *(Tensor(0.5, (2,)), Tensor(True), Tensor("0.5"), np.ma.masked),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_number_is_refused_with_its_name_and_kind(value: Any) -> None:
    kind = type(value).__name__
    with pytest.raises(TypeError, match=r"finish: loss must be a number or a tensor") as caught:
        read_metrics("finish", {"loss": value})
    assert f"({kind})." in str(caught.value)


def test_a_number_beyond_all_floats_is_refused_as_such() -> None:
    with pytest.raises(TypeError, match=r"within the range of floats, up to 1\.8e308"):
        read_metrics("finish", {"loss": 10**5000})


@pytest.mark.parametrize("name", ["loss", "val/loss", "top-1.acc", "lr:0", "a b", "x" * 250])
def test_a_name_that_mlflow_takes_is_taken(name: str) -> None:
    assert read_metrics("report", {name: 1.0}) == {name: 1.0}


@pytest.mark.parametrize("name", ["", "损失", "a\nb", "a=b", "a,b", "x" * 251])
def test_another_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="report: a metric's name"):
        read_metrics("report", {name: 1.0})


# ---- the positional value of finish --------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "metrics", "expected", "named"),
    [
        (0.5, {}, ("loss",), {"loss": 0.5}),
        (0.5, {"acc": 0.9}, ("loss",), {"loss": 0.5, "acc": 0.9}),
        (0.5, {}, None, {"value": 0.5}),
        (0.5, {}, (), {"value": 0.5}),
        (None, {"loss": 0.5}, ("loss",), {"loss": 0.5}),
        (None, {}, None, {}),
        (0.0, {}, ("loss",), {"loss": 0.0}),
    ],
)
def test_a_value_without_a_name_is_the_only_metric_s(
    value: Any,
    metrics: Mapping[str, Any],
    expected: tuple[str, ...] | None,
    named: Mapping[str, Any],
) -> None:
    assert name_value(value, metrics, expected) == named


@pytest.mark.parametrize(
    ("value", "metrics", "expected", "message"),
    [
        (None, {}, ("loss",), r"no value was given .* The study expects 'loss'\."),
        (None, {}, (), r"The study expects a metric\."),
        (0.5, {}, ("loss", "ms"), r"the study expects 'loss', 'ms': pass them by name instead of"),
        (0.5, {"loss": 0.5}, ("loss",), r"'loss' is given twice, without and with its name\."),
        (0.5, {"value": 0.5}, None, r"'value' is given twice"),
    ],
)
def test_a_value_whose_metric_is_not_clear_is_refused(
    value: Any, metrics: Mapping[str, Any], expected: tuple[str, ...] | None, message: str
) -> None:
    with pytest.raises(TypeError, match=f"finish: .*{message}"):
        name_value(value, metrics, expected)


# ---- whole numbers -------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [0, 7, np.int64(7), STEP_LIMIT - 1])
def test_a_step_is_a_whole_number_from_0_on(step: Any) -> None:
    assert read_step(step) == int(step)


@pytest.mark.parametrize(
    ("step", "kind", "message"),
    [
        (-1, ValueError, r"report: the step must be 0 or more, not -1 \(int\)\."),
        (
            STEP_LIMIT,
            ValueError,
            r"report: the step must be below 2\*\*63, not 9223372036854775808",
        ),
        (10**5000, ValueError, r"report: the step must be below 2\*\*63, not 0x"),
        (1.0, TypeError, "report: the step must be an integer"),
        ("1", TypeError, "report: the step must be an integer"),
        (None, TypeError, "report: the step must be an integer"),
        (True, TypeError, "report: the step must be an integer"),
    ],
    ids=["negative", "64 bits", "huge", "float", "text", "none", "truth"],
)
def test_another_step_is_refused(step: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        read_step(step)


def test_a_number_of_checkpoints_to_keep_is_1_or_more() -> None:
    assert read_keep(1) == 1
    with pytest.raises(ValueError, match=r"checkpoint: keep must be 1 or more, not 0 \(int\)\."):
        read_keep(0)
    with pytest.raises(TypeError, match="checkpoint: keep must be an integer"):
        read_keep(1.5)


# ---- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1 (int)"),
        ("a\n b", r"'a\n b' (str)"),
        ([1,  2], "[1, 2] (list)"),
        (Unprintable(), "<no repr> (Unprintable)"),
        ("x" * 100, f"'{'x' * 58}… (str)"),
        (-(1 << 5000), f"-0x1{'0' * 55}… (int)"),
    ],
    ids=["int", "line end", "list", "no repr", "long", "huge"],
)  # fmt: skip
def test_a_value_is_shown_by_its_beginning_and_its_kind(value: Any, text: str) -> None:
    assert shorten(value) == text


def test_of_many_names_the_first_are_listed() -> None:
    assert list_names(["a", "b"]) == "'a', 'b'"
    assert list_names([]) == ""
    assert list_names(list("abcdefghij"), limit=2) == "'a', 'b' and 8 more"

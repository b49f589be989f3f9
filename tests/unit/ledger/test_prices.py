"""Prices of GPUs as the settings have them."""

from __future__ import annotations

import pytest
from tests.unit.study.studies import make_spec

from studyflow.errors import StudyflowError
from studyflow.ledger.limits import missing_price
from studyflow.ledger.prices import NO_PRICES, Prices
from studyflow.reasons import Code
from studyflow.trial.cost import Allocation

PRICES = Prices.parse("nvidia.com/gpu=2.5, slot=0.1\ngpu.example/model=h100=9.8,zone=b=1")


@pytest.mark.parametrize(
    ("allocation", "price"),
    [
        (Allocation(1, "nvidia.com/gpu"), 2.5),
        (Allocation(4, "nvidia.com/gpu"), 2.5),
        (Allocation(1, "amd.com/gpu"), None),
        (Allocation(), 0.1),
        (Allocation(1, "nvidia.com/gpu", {"gpu.example/model": "h100"}), 9.8),
        (Allocation(1, "nvidia.com/gpu", {"gpu.example/model": "a100"}), 2.5),
        (Allocation(1, "nvidia.com/gpu", {"gpu.example/model": "h100", "zone": "b"}), 9.8),
    ],
)
def test_a_label_of_the_node_comes_before_the_resource(
    allocation: Allocation, price: float | None
) -> None:
    assert PRICES.of(allocation) == price


def test_a_price_of_every_gpu_holds_for_those_without_one_of_their_own() -> None:
    prices = Prices.parse("gpu=1,nvidia.com/gpu=2")
    assert prices.of(Allocation(1, "gpu")) == 1
    assert prices.of(Allocation(1, "amd.com/gpu")) == 1
    assert prices.of(Allocation(1, "nvidia.com/gpu")) == 2
    assert prices.of(Allocation()) is None


def test_a_limit_of_money_without_a_price_is_a_broken_rule() -> None:
    spec = make_spec(budget={"n_trials": 3, "cost": 10})
    found = missing_price(spec, NO_PRICES)
    assert found is not None
    assert (found.path, found.code) == (("budget", "cost"), Code.PRICE_MISSING)
    assert "STUDYFLOW_PRICES=slot=PRICE" in found.hint
    assert missing_price(spec, Prices.parse("slot=0.1")) is None
    assert missing_price(make_spec(), NO_PRICES) is None


@pytest.mark.parametrize(
    "text", ["nvidia.com/gpu", "=2", "gpu=", "gpu=cheap", "gpu=-1", "gpu=inf", "gpu=1,gpu=2"]
)
def test_a_wrong_entry_is_named_with_the_fix(text: str) -> None:
    with pytest.raises(StudyflowError, match="STUDYFLOW_PRICES") as caught:
        Prices.parse(text)
    assert "RESOURCE=PRICE" in str(caught.value)


def test_no_text_means_no_prices() -> None:
    assert Prices.parse(" , ") == NO_PRICES
    assert not NO_PRICES
    assert PRICES

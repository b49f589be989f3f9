"""Prices of GPUs, as the settings have them. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from studyflow.errors import StudyflowError
from studyflow.trial.cost import Allocation

PLACE: Final = "slot"
"""Name of what an attempt has that holds no GPU."""

ANY: Final = "gpu"
"""Name of every GPU that has no price of its own, and of those of a machine without a cluster."""

PRICES_VARIABLE: Final = "STUDYFLOW_PRICES"

_SEPARATORS: Final = re.compile(r"[,\s]+")


@dataclass(frozen=True, slots=True)
class Prices:
    """Price of an hour of one GPU, in whatever currency `budget.cost` is meant."""

    by_resource: Mapping[str, float] = field(default_factory=dict)
    """By the name of the resource, such as `nvidia.com/gpu`; `slot` for an attempt without any."""
    by_label: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """By a label of the node and its value; it comes before the resource's."""

    @classmethod
    def parse(cls, text: str) -> Prices:
        """Return the prices of a text such as `nvidia.com/gpu=2.1,gke-accelerator=h100=9.8`.

        Raises:
            StudyflowError: An entry names no price, a wrong one, or what has one already.
        """
        resources: dict[str, float] = {}
        labels: dict[tuple[str, str], float] = {}
        for entry in filter(None, _SEPARATORS.split(text)):
            name, _, number = entry.rpartition("=")
            price = _price(number)
            label, _, value = name.partition("=")
            is_known = name in resources or (label, value) in labels
            if not label or price is None or is_known:
                problem = "has a price already" if is_known else "is no name and price"
                raise StudyflowError(
                    f"{PRICES_VARIABLE}: {entry!r} {problem}.",
                    hint="write RESOURCE=PRICE or LABEL=VALUE=PRICE, such as nvidia.com/gpu=2.1, "
                    "separated by commas: the price of an hour of one GPU.",
                )
            if value:
                labels[label, value] = price
            else:
                resources[label] = price
        return cls(resources, labels)

    def of(self, allocation: Allocation) -> float | None:
        """Return the price of an hour of one GPU of an allocation, or of its place; `None` without.

        Of several labels with a price, the dearest one counts.
        """
        found = [self.by_label.get(label) for label in allocation.labels.items()]
        prices = [price for price in found if price is not None]
        if prices:
            return max(prices)
        if not allocation.gpus:
            return self.by_resource.get(PLACE)
        return self.by_resource.get(allocation.resource or ANY, self.by_resource.get(ANY))

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self.by_resource or self.by_label)


NO_PRICES: Final = Prices()


def _price(text: str) -> float | None:
    try:
        price = float(text)
    except ValueError:
        return None
    return price if 0 <= price < math.inf else None

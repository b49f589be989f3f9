"""What a proposal depends on besides the history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from studyflow.samplers.candidates import SearchEffort
from studyflow.samplers.cost import ExpectedCost
from studyflow.samplers.deadline import NEVER, Deadline
from studyflow.samplers.memory import Memory
from studyflow.samplers.prior import SpacePrior


@dataclass(frozen=True)
class ProposalRequest:
    """What a proposal depends on besides the history."""

    maximize: tuple[bool, ...]
    """Direction of each objective."""
    exact: bool
    """The objectives have no noise."""
    fixed: Mapping[int, float]
    """Codes of parameters that are decided already, by index."""
    fantasy_seed: int
    search_seed: int
    device: str
    deadline: Deadline = NEVER
    effort: SearchEffort | None = None
    """How hard to search; `None` for what suits the acquisition function."""
    prior: SpacePrior | None = None
    """What is believed of the space; `None` if nothing is."""
    cost: ExpectedCost | None = None
    """What trials are expected to cost; `None` if that counts for nothing."""
    memory: Memory | None = None
    """What is kept from one proposal to the next; it changes none of them."""

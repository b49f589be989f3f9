"""What a proposal depends on besides the history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from studyflow.samplers.deadline import NEVER, Deadline


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

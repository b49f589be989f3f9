"""The pause policy of each pruner that has one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from studyflow.spec import StudySpec
from studyflow.study.pausing.policy import PausePolicy
from studyflow.study.pausing.promotion import promotion_of

_POLICIES: Final[tuple[Callable[[StudySpec], PausePolicy | None], ...]] = (promotion_of,)
"""Each returns the policy of a study file, or `None` for a pruner that is not its own."""


def pause_policy(spec: StudySpec) -> PausePolicy | None:
    """Return the policy that a study file's pruner asks for; `None` if it pauses nothing."""
    for policy_of in _POLICIES:
        if (policy := policy_of(spec)) is not None:
            return policy
    return None

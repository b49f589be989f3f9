"""Executors that follow the protocol as it was before: they go on working for one version.

What is in `ExecutorTraits` now were four properties, of which `place` is called `site`.
"""

from __future__ import annotations

import warnings
from typing import Any, TypeVar, cast

from studyflow.executors.protocol import Executor, ExecutorTraits
from studyflow.trial.former_names import FormerProperty

E = TypeVar("E", bound=Executor)


class FormerNames:
    """What an executor says of itself, under the names that this had before."""

    place = FormerProperty("site")
    slots = FormerProperty("traits.slots")
    canary_seconds = FormerProperty("traits.canary_seconds")
    brings_points = FormerProperty("traits.brings_points")


def of_present_protocol(executor: E) -> E:
    """Return the executor as the protocol is now; one that follows the earlier one is wrapped.

    Whoever takes in an executor that others may have written calls this first.
    """
    if hasattr(executor, "traits"):
        return executor
    warnings.warn(
        f"{type(executor).__name__} follows an earlier protocol of executors. Hint: give it "
        "`traits` instead of slots, canary_seconds and brings_points, and `site` instead of place; "
        "see studyflow.executors.protocol.",
        DeprecationWarning,
        stacklevel=3,
    )
    return cast("E", _Wrapped(executor))


class _Wrapped:
    """An executor of the earlier protocol; whatever else it has is still there."""

    def __init__(self, earlier: Any) -> None:
        self._earlier = earlier

    @property
    def traits(self) -> ExecutorTraits:
        """What a runner has to know of it."""
        usual = ExecutorTraits()
        return ExecutorTraits(
            slots=getattr(self._earlier, "slots", usual.slots),
            canary_seconds=getattr(self._earlier, "canary_seconds", usual.canary_seconds),
            brings_points=getattr(self._earlier, "brings_points", usual.brings_points),
        )

    @property
    def site(self) -> str:
        """Where its attempts are."""
        name: str = self._earlier.place
        return name

    def __getattr__(self, name: str) -> Any:
        if name == "_earlier":  # a copy that is being made has none yet
            raise AttributeError(name)
        return getattr(self._earlier, name)

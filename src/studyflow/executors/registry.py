"""The executors that there are.

A new one is a package with its kind, a line here, and its name in `studyflow.settings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from studyflow.executors.kind import ExecutorKind
from studyflow.executors.kubernetes.kind import KUBERNETES
from studyflow.executors.local.kind import LOCAL
from studyflow.settings import ExecutorName

EXECUTORS: Final[Mapping[ExecutorName, ExecutorKind]] = {
    kind.name: kind for kind in (LOCAL, KUBERNETES)
}
"""All kinds of executors, by name."""


def executor_kind(name: ExecutorName) -> ExecutorKind:
    """Return what is known of the executor of a name."""
    return EXECUTORS[name]

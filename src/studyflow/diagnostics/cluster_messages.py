"""What Kubernetes says of a pod that found no room, turned into data.

Its scheduler and its API server give no codes for that: this module reads their words, and nobody
else does.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Final


class Want(enum.StrEnum):
    """What a pod that found no node is missing."""

    RESOURCE = "resource"
    """Nodes that could take it have no room."""
    TOLERATION = "toleration"
    """Nodes keep pods away that do not tolerate their taint."""
    AFFINITY = "affinity"
    """No other node has the labels that the pod asks for."""
    VOLUME = "volume"
    """Its volume is not there, or is tied to another node."""
    HEALTHY_NODE = "healthy node"
    """Nodes are cordoned, not ready or cut off."""
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Shortage:
    """The reason that counts among those that a scheduler gives, one for each node."""

    want: Want
    what: str = ""
    """The resource, or the taint's key."""


@dataclass(frozen=True, slots=True)
class ExceededQuota:
    """What a ResourceQuota has against one more pod, in Kubernetes' quantities."""

    name: str
    resource: str
    """Such as `requests.nvidia.com/gpu`."""
    requested: str
    used: str
    limit: str


_QUOTA: Final = re.compile(
    r"exceeded quota: (?P<name>[^,]+), requested: (?P<resource>\S+?)=(?P<requested>[^,\s]+).*?"
    r" used: .*?(?P=resource)=(?P<used>[^,\s]+).* limited: .*?(?P=resource)=(?P<limit>[^,\s]+)"
)


def exceeded_quota(message: str) -> ExceededQuota | None:
    """Return which quota a pod exceeds; `None` when the message does not say it in this form.

    Args:
        message: Such as `exceeded quota: team, requested: pods=1, used: pods=8, limited: pods=8`.
    """
    match = _QUOTA.search(message)
    return None if match is None else ExceededQuota(**match.groupdict())


_REASON: Final = re.compile(r"(?:^|[,:] )(\d+) (?=\D)")
_INSUFFICIENT: Final = re.compile(r"Insufficient ([\w./-]+?)[.,]?$")
_TAINT: Final = re.compile(r"taints? \{([^:}]*)")
_OF_CONTROL_PLANE: Final = tuple(
    f"node-role.kubernetes.io/{role}" for role in ("master", "control-plane")
)
_OF_ILL_NODES: Final = "node.kubernetes.io/"


def shortage(message: str) -> Shortage:
    """Return what a pod is missing, from the message of its condition `PodScheduled`.

    A node of which a pod wants too much would take a smaller one, so that reason comes first; but
    nodes without the resource say the same. So a taint that has the resource's name comes before.

    Args:
        message: Such as `0/3 nodes are available: 2 Insufficient cpu, 1 node(s) had taint …`.
    """
    told = message.partition("preemption:")[0]
    texts = _REASON.split((told.partition("nodes are available:")[2] or told).strip())[2::2]
    reasons = [_read(text.strip()) for text in texts or [told]]
    scarce = [reason for reason in reasons if reason.want is Want.RESOURCE]
    for reason in reasons:
        if reason.want is Want.TOLERATION and any(reason.what in s.what for s in scarce):
            return reason
    order = (
        Want.VOLUME,
        Want.RESOURCE,
        Want.TOLERATION,
        Want.AFFINITY,
        Want.HEALTHY_NODE,
        Want.OTHER,
    )
    # The dearest resource: a pod that finds no GPU may find no memory either, and asks for both.
    return min(reasons, key=lambda r: (order.index(r.want), "/" not in r.what))


def _read(reason: str) -> Shortage:
    if match := _INSUFFICIENT.search(reason.rstrip(".,")):
        return Shortage(Want.RESOURCE, match[1])
    lowered = reason.lower()
    if match := _TAINT.search(reason):
        key = match[1].strip()
        if key in _OF_CONTROL_PLANE:
            return Shortage(Want.OTHER, key)
        if key.startswith(_OF_ILL_NODES):
            return Shortage(Want.HEALTHY_NODE, key)
        return Shortage(Want.TOLERATION, key)
    if "volume" in lowered or "persistentvolumeclaim" in lowered:
        return Shortage(Want.VOLUME)
    if "affinity" in lowered or "selector" in lowered:
        return Shortage(Want.AFFINITY)
    if "unschedulable" in lowered or "not ready" in lowered:
        return Shortage(Want.HEALTHY_NODE)
    return Shortage(Want.OTHER)

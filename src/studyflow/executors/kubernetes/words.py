"""What Kubernetes says in words alone, turned into data.

Its scheduler, its quotas and its kubelets have no codes for what is asked here: this module reads
their messages, and nobody else does.
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


_OVER_QUOTA: Final = "exceeded quota"
"""What the API server says of an object that a ResourceQuota leaves no room for. The answer's code
and reason are those of a missing right, 403 `Forbidden`."""

_NODE_TROUBLE: Final = re.compile(
    r"deadline ?exceeded|failed to reserve|error reserving|is reserved for|connection refused|"
    r"connection error|error while dialing|transport is closing|ttrpc: closed",
    re.IGNORECASE,
)
"""What kubelets pass on of a container runtime that is too busy or was started again: the same
container can be made a little later, or on another node."""

_NEVER: Final = re.compile(r"not found|forbidden|violates|invalid", re.IGNORECASE)
"""What an event of a pod that cannot be made says when waiting does not help."""

_OF_DISK: Final = ("ephemeral", "EmptyDir", "emptyDir")
"""What kubelets say of a pod that wrote more than it asked for."""

_N_NODES: Final = re.compile(r"0/(\d+) nodes are available")
_N_EXCLUDED: Final = re.compile(
    r"(\d+) node\(s\) "
    r"(?:didn't match (?:Pod's )?node (?:affinity|selector)|had (?:untolerated )?taint|"
    r"were unschedulable)"
)
"""What the scheduler says of nodes that are out of bounds for a pod, whoever else ends there."""


def is_over_quota(message: str) -> bool:
    """Return whether a ResourceQuota leaves no room, by an event or the answer to a request."""
    return _OVER_QUOTA in message


def is_node_trouble(message: str) -> bool:
    """Return whether a kubelet says that its container runtime is in trouble."""
    return _NODE_TROUBLE.search(message) is not None


def is_hopeless(message: str) -> bool:
    """Return whether an event of a pod that cannot be made says that waiting does not help."""
    return _NEVER.search(message) is not None


def is_out_of_disk(message: str) -> bool:
    """Return whether a kubelet evicted a pod for what the pod itself wrote."""
    return any(word in message for word in _OF_DISK)


def is_excluded_everywhere(message: str) -> bool:
    """Return whether the scheduler says that no node would take the pod if all were empty."""
    n_nodes = _N_NODES.search(message)
    n_excluded = sum(int(count) for count in _N_EXCLUDED.findall(message))
    return n_nodes is not None and n_excluded == int(n_nodes.group(1))


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

"""Rules for where a trial's pod runs: nodes, taints, affinity, priority, runtime, scheduler."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from studyflow.spec.pods.metadata import key_problem
from studyflow.spec.pods.walking import (
    Table,
    View,
    a_mapping,
    allowed_name,
    anything,
    forbid,
    items,
    mapping,
    one_of,
    refuse,
    refused,
    show,
    text,
    whole,
)
from studyflow.spec.problems import BrokenRule, Path

HOST_LABEL: Final = "kubernetes.io/hostname"
"""The label that names a node to its scheduler. Its value is the node's name nearly everywhere;
where it is another, a pod may come to a node that it avoids. A condition on the name itself is
refused by some autoscalers. A pod that keeps away from nodes needs nobody's leave."""

SERVICE_ACCOUNT: Final = allowed_name("service account", "service_accounts")
RUNTIME_CLASS: Final = allowed_name("runtime class", "runtime_classes")
SCHEDULER: Final = allowed_name("scheduler", "scheduler_names")
QUEUE: Final = allowed_name("queue", "queues")
_PRIORITY: Final = allowed_name("priority class", "priority_classes")


def priority_class(value: Any, path: Path, view: View) -> Iterator[BrokenRule]:
    """Look for a priority class that trials may not have."""
    if isinstance(value, str) and value.startswith("system-"):
        message = f"the classes system-* are of the cluster's own parts, but this is {value!r}"
        yield refuse(path, message, "use a class made for trials, or none")
    else:
        yield from _PRIORITY(value, path, view)


def node_selector(value: Any, path: Path, view: View) -> Iterator[BrokenRule]:
    """Look for node labels that trials may not choose nodes by."""
    yield from a_mapping(value, path, view)
    for key, wanted in value.items() if isinstance(value, Mapping) else ():
        if not isinstance(key, str):
            continue
        if problem := key_problem(key):
            message = f"must be the key of a node's label, but it is {show(key)}: {problem}"
            yield refuse((*path, key), message, "see `kubectl get nodes --show-labels`")
        elif not isinstance(wanted, str):
            yield from text(wanted, (*path, key), view)
        elif not view.platform.allows_node_label(key, [wanted]):
            yield _no_node(f"{key}={wanted}", (*path, key), view)


def _no_node(condition: str, path: Path, view: View) -> BrokenRule:
    allowed = [
        f"{key}={'|'.join(values) or '*'}"
        for key, values in (view.platform.node_selectors or {}).items()
    ]
    listed = " or ".join(allowed) or "none"
    message = f"nodes must be chosen by labels for trials ({listed}), but this is {condition[:80]}"
    return forbid(path, message, view, "node_selectors")


_OPERATORS: Final = ("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt")


def _node_condition(value: Any, path: Path, view: View) -> Iterator[BrokenRule]:
    yield from mapping(
        {"key": text, "operator": one_of(_OPERATORS), "values": items(text)}, "a condition"
    )(value, path, view)
    if not isinstance(value, Mapping) or not isinstance(value.get("key"), str):
        return
    key, operator, values = value["key"], value.get("operator"), value.get("values")
    if key == HOST_LABEL and operator == "NotIn":
        return
    wanted = None
    if operator == "In" and isinstance(values, list | tuple):
        wanted = [one for one in values if isinstance(one, str)]
    if not view.platform.allows_node_label(key, wanted):
        yield _no_node(f"{key} {operator}", path, view)


_NODE_TERM: Final = mapping(
    {
        "matchExpressions": items(_node_condition),
        "matchFields": refused(
            "a trial's pod must not name its node", "choose nodes by labels: matchExpressions"
        ),
    },
    "a term",
)
_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED: Final = "preferredDuringSchedulingIgnoredDuringExecution"
_WEIGHT: Final = whole(1, at_most=100)
_OTHERS: Final = refused(
    "a pod's affinity must look at its own namespace, and not bind the pods of others",
    "remove it",
)
_POD_TERM: Final = mapping(
    {
        "labelSelector": anything,
        "topologyKey": text,
        "matchLabelKeys": items(text),
        "mismatchLabelKeys": items(text),
        "namespaces": _OTHERS,
        "namespaceSelector": _OTHERS,
    },
    "a term",
)
_NODE_AFFINITY: Final = mapping(
    {
        _REQUIRED: mapping({"nodeSelectorTerms": items(_NODE_TERM)}, "a required affinity"),
        _PREFERRED: items(
            mapping({"weight": _WEIGHT, "preference": _NODE_TERM}, "a preferred affinity")
        ),
    },
    "an affinity",
)
_POD_AFFINITY: Final = mapping(
    {
        _REQUIRED: items(_POD_TERM),
        _PREFERRED: items(
            mapping({"weight": _WEIGHT, "podAffinityTerm": _POD_TERM}, "a preferred affinity")
        ),
    },
    "an affinity",
)
AFFINITY: Final = mapping(
    {
        "nodeAffinity": _NODE_AFFINITY,
        "podAffinity": _POD_AFFINITY,
        "podAntiAffinity": _POD_AFFINITY,
    },
    "an affinity",
)

_TOLERATION_FIELDS: Final[Table] = {
    "key": text,
    "operator": one_of(("Exists", "Equal")),
    "value": text,
    "effect": one_of(("", "NoSchedule", "PreferNoSchedule", "NoExecute")),
    "tolerationSeconds": whole(-(2**31)),
}


def _toleration(value: Any, path: Path, view: View) -> Iterator[BrokenRule]:
    problems = list(mapping(_TOLERATION_FIELDS, "a toleration")(value, path, view))
    yield from problems
    if not problems and not view.platform.allows_toleration(value):
        allowed = " or ".join(map(str, view.platform.tolerations or ())) or "none"
        shown = f"{value.get('key') or '*'}:{value.get('effect') or '*'}"
        message = f"taints that trials tolerate must be among {allowed}, but this is {shown[:80]}"
        yield forbid(path, message, view, "tolerations")


TOLERATIONS: Final = items(_toleration)

PLACEMENT: Final[Table] = {
    "nodeSelector": node_selector,
    "tolerations": TOLERATIONS,
    "affinity": AFFINITY,
    "topologySpreadConstraints": anything,
    "priorityClassName": priority_class,
    "runtimeClassName": RUNTIME_CLASS,
    "schedulerName": SCHEDULER,
    "nodeName": refused(
        "a trial's pod must not name its node: that passes the scheduler and its quotas by",
        "choose nodes by labels: trial.kubernetes.node_selector",
    ),
    "priority": refused("a priority must come from its class", "set priority_class"),
    "preemptionPolicy": refused("a priority must come from its class", "set priority_class"),
    "overhead": refused("a pod's overhead must come from its runtime class", "remove it"),
}
"""The rules for the fields of a pod that say where it runs."""

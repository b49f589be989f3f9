"""What a runner may do in the trials' namespace, and what it needs: the Role in words of the API.

`k8s/base/team/rbac.yaml` grants exactly `NEEDED`; a test compares the two. In its own namespace,
that of the servers, a runner needs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple


class Right(NamedTuple):
    """One verb on one kind of object."""

    group: str
    """API group; empty for the core."""
    resource: str
    verb: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}"


NEEDED: Final = frozenset(
    Right(group, resource, verb)
    for group, resource, verbs in (
        ("batch", "jobs", ("create", "get", "list", "watch", "patch", "delete")),
        ("", "pods", ("list", "watch")),
        ("", "pods/log", ("get",)),
        ("", "events", ("list",)),
    )
    for verb in verbs
)
"""What launching trials, following them and reading their logs takes."""

OPTIONAL: Final = frozenset(
    (
        Right("kueue.x-k8s.io", "workloads", "list"),
        Right("visibility.kueue.x-k8s.io", "localqueues/pendingworkloads", "get"),
    )
)
"""What tells more about a Job that waits in a queue of Kueue's."""

_EVERYONE: Final = frozenset(
    {"selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"}
)
"""What Kubernetes lets every user create: questions about oneself."""


def granted(rules: Sequence[Mapping[str, Any]]) -> frozenset[Right]:
    """Return the rights that rules of a `SelfSubjectRulesReview` grant; `*` stays as it is.

    Rules about single objects by name are left out: they reach no trial's Job.
    """
    return frozenset(
        Right(group, resource, verb)
        for rule in rules
        if not rule.get("resourceNames")
        for group in rule.get("apiGroups") or ("",)
        for resource in rule.get("resources") or ()
        for verb in rule.get("verbs") or ()
    )


def surplus(
    rights: Iterable[Right], useful: frozenset[Right] = NEEDED | OPTIONAL
) -> tuple[Right, ...]:
    """Return the rights that a runner has no use for, by resource and verb.

    Args:
        rights: What it has in a namespace.
        useful: What it has a use for there.
    """
    return tuple(
        sorted(
            (r for r in rights if r not in useful and r.resource not in _EVERYONE),
            key=lambda right: (right.resource, right.verb),
        )
    )


def describe(rights: Iterable[Right]) -> str:
    """Return rights by resource, such as `jobs: create, get; pods: list`."""
    by_resource: dict[str, list[str]] = {}
    for right in sorted(rights, key=lambda right: (right.resource, right.verb)):
        by_resource.setdefault(right.resource, []).append(right.verb)
    return "; ".join(f"{resource}: {', '.join(verbs)}" for resource, verbs in by_resource.items())

"""Whether a cluster answers, and whether this user may run attempts there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from studyflow.errors import StudyflowError
from studyflow.executors.kubernetes import rights
from studyflow.reasons import Code, Finding, Level

_ROLE: Final = "k8s/base/team/rbac.yaml"


def check_cluster(namespace: str | None) -> tuple[Finding, ...]:
    """Return whether the cluster answers, and whether this user has the rights of the Role.

    A runner that is a pod itself should have no rights in its own namespace, that of the servers.

    Args:
        namespace: Namespace of the trials; `None` for the configured one.
    """
    # The client takes half a second to import.
    from studyflow.executors.kubernetes.client import KubernetesApi

    try:
        api = KubernetesApi(namespace)
    except StudyflowError as error:
        return (_refused(error),)
    try:
        missing = [right for right in sorted(rights.NEEDED) if not api.may(right)]
        more = rights.surplus(rights.granted(api.rules()))
        own = api.own_namespace
        at_home = (
            rights.surplus(rights.granted(api.rules(own)), frozenset())
            if own is not None and own != api.namespace
            else ()
        )
    except StudyflowError as error:
        return (_refused(error),)
    finally:
        api.close()
    where = f"namespace {api.namespace!r}"
    answers = Finding.ok("cluster", f"{api.host} answers, {where}")
    return (answers, *_judge_rights(missing, more, where), *_judge_home(at_home, own))


def _judge_rights(
    missing: Sequence[rights.Right], more: Sequence[rights.Right], where: str
) -> Iterator[Finding]:
    if missing:
        yield Finding(
            Code.RIGHTS_MISSING,
            Level.PROBLEM,
            "rights",
            f"missing in {where}: {rights.describe(missing)}",
            f"apply the Role of {_ROLE} and bind it to this user",
        )
    if more:
        yield Finding(
            Code.RIGHTS_SURPLUS,
            Level.WARNING,
            "rights",
            f"more than a runner needs in {where}: {rights.describe(more)}",
            f"run studies with the Role of {_ROLE} alone",
        )
    if not missing and not more:
        yield Finding.ok("rights", f"exactly those of the Role in {where}")


def _judge_home(more: Sequence[rights.Right], own: str | None) -> Iterator[Finding]:
    if more:
        yield Finding(
            Code.RIGHTS_SURPLUS,
            Level.WARNING,
            "rights",
            f"more than a runner needs in its own namespace {own!r}: {rights.describe(more)}",
            f"a Role of an earlier version? kubectl -n {own} delete rolebinding,role "
            "studyflow-runner",
        )


def _refused(error: StudyflowError) -> Finding:
    return Finding.because(Level.PROBLEM, "cluster", error.reason)

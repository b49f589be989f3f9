"""Whether a cluster answers, and whether this user may run attempts there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from studyflow.errors import StudyflowError
from studyflow.executors.kubernetes import rights
from studyflow.reasons import Code, Finding, Level

_ROLE: Final = "k8s/base/servers/rbac.yaml"


def check_cluster(namespace: str | None) -> tuple[Finding, ...]:
    """Return whether the cluster answers, and whether this user has the rights of the Role.

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
    except StudyflowError as error:
        return (_refused(error),)
    finally:
        api.close()
    where = f"namespace {api.namespace!r}"
    answers = Finding.ok("cluster", f"{api.host} answers, {where}")
    return (answers, *_judge_rights(missing, more, where))


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


def _refused(error: StudyflowError) -> Finding:
    return Finding.because(Level.PROBLEM, "cluster", error.reason)

"""What attempts wait for in the cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from studyflow.diagnostics.blockers.thresholds import shown
from studyflow.diagnostics.snapshot import Snapshot
from studyflow.executors.kubernetes.survey import PendingAttempt, Survey
from studyflow.executors.kubernetes.words import Want, exceeded_quota, shortage
from studyflow.reasons import Cause, Code, Finding, Level, ReasonCode
from studyflow.reports.wording import plural, seconds
from studyflow.spec import StudySpec

Waiting = Sequence[PendingAttempt]
"""Attempts that wait for the same; one or more."""


def pending_attempts(snapshot: Snapshot, spec: StudySpec) -> Iterator[Finding]:
    """Yield what the attempts wait for that have not begun."""
    if snapshot.cluster is None:
        return
    level = Level.WARNING if snapshot.cluster.running else Level.PROBLEM
    groups: dict[str, list[PendingAttempt]] = {}
    for pending in snapshot.cluster.pending:
        if pending.reason is not None:
            subject = _SUBJECTS.get(pending.reason.code, "pod")
            groups.setdefault(subject, []).append(pending)
    for subject, waiting in groups.items():
        message, hint = _DESCRIPTIONS[subject](waiting, snapshot.cluster, spec)
        numbers = ", ".join(str(pending.attempt.number) for pending in waiting)
        longest = max(pending.seconds for pending in waiting)
        first = waiting[0].reason
        yield Finding(
            Code.CONTAINER_WAITING if first is None else first.code,
            level,
            subject,
            shown(message),
            hint,
            (
                f"Waiting, up to {seconds(longest)} long: trial {numbers}.",
                f"The cluster says: {shown(_said(waiting))}",
            ),
        )


def full_quotas(snapshot: Snapshot, _: StudySpec) -> Iterator[Finding]:
    """Yield the quotas that keep even Jobs from being made: then no event says so."""
    cluster = snapshot.cluster
    left = snapshot.n_left
    if cluster is None or (left is not None and left <= len(cluster.running)):
        return
    if any(p.reason is not None and p.reason.code is Cause.QUOTA for p in cluster.pending):
        return
    for full in cluster.full_quotas:
        yield Finding(
            Cause.QUOTA,
            Level.WARNING if cluster.running else Level.PROBLEM,
            "quota",
            f"The quota {full.name} leaves no room for one more trial: of {full.hard} "
            f"{full.resource}, {full.used} are used.",
            _fewer(cluster, "raise the quota, or let others finish"),
        )


def _said(waiting: Waiting) -> str:
    """Return what the cluster says of the first attempt."""
    reason = waiting[0].reason
    return "" if reason is None else reason.message


def _queued(waiting: Waiting, _: Survey, __: StudySpec) -> tuple[str, str]:
    queue, n = waiting[0].queue, plural(len(waiting), "Job")
    verb, them = ("is", "it") if len(waiting) == 1 else ("are", "them")
    if not queue:
        return f"{n} {verb} suspended, and no queue is named that would start {them}.", (
            'someone did that by hand: kubectl patch job NAME -p \'{"spec": {"suspend": false}}\'.'
        )
    return f"{n} {verb} suspended: Kueue's queue {queue} has not admitted {them} yet.", (
        f"kubectl describe localqueue {queue} shows what is before them; does Kueue run, and is "
        "the queue's quota large enough for one trial?"
    )


def _over_quota(waiting: Waiting, cluster: Survey, _: StudySpec) -> tuple[str, str]:
    said, n = _said(waiting), plural(len(waiting), "trial")
    verb = "waits" if len(waiting) == 1 else "wait"
    hint, quota = _fewer(cluster, "raise the quota, or let others finish"), exceeded_quota(said)
    if quota is None:
        return f"{n} {verb} for room in a quota: {shown(said)}", hint
    return (
        f"{n} {verb} for room in the quota {quota.name}: of {quota.limit} {quota.resource}, "
        f"{quota.used} are used and a trial asks for {quota.requested}."
    ), hint


def _without_node(waiting: Waiting, cluster: Survey, spec: StudySpec) -> tuple[str, str]:
    said = _said(waiting)
    missing, n, one = shortage(said), plural(len(waiting), "pod"), len(waiting) == 1
    match missing.want:
        case Want.RESOURCE:
            wanted = waiting[0].requests.get(missing.what)
            asked = missing.what if wanted is None else f"{missing.what}: {wanted}"
            return (
                f"{n} {'asks' if one else 'ask'} for {asked} and no node has that free."
            ), _fewer(
                cluster,
                "wait for others to end, ask for less (trial.resources), or see whether any node "
                "has so much: kubectl describe nodes",
            )
        case Want.TOLERATION:
            return (
                f"{n} {'finds' if one else 'find'} no node: those that could take "
                f"{'it' if one else 'them'} keep other pods away by the taint {missing.what}."
            ), (
                "let trials tolerate it: trial.kubernetes.tolerations: "
                f"[{{key: {missing.what}, operator: Exists}}]."
            )
        case Want.AFFINITY:
            labels = ", ".join(f"{k}={v}" for k, v in spec.trial.kubernetes.node_selector.items())
            wanted = f"the labels {labels}" if labels else "what its affinity asks for"
            return f"{n} {'finds' if one else 'find'} no node that has {wanted}.", (
                "compare trial.kubernetes.node_selector and affinity with kubectl get nodes "
                "--show-labels."
            )
        case Want.VOLUME:
            return f"{n} {'waits' if one else 'wait'} for a volume: {shown(said)}", (
                "kubectl get pvc shows whether each claim of trial.kubernetes is bound; one that "
                "several nodes mount is ReadWriteMany."
            )
        case Want.HEALTHY_NODE:
            return f"{n} {'finds' if one else 'find'} no node that is ready: {shown(said)}", (
                "kubectl get nodes; kubectl uncordon NODE gives one back."
            )
        case _:
            return f"{n} {'finds' if one else 'find'} no node: {shown(said)}", (
                "kubectl describe pod shows what the scheduler has against each node."
            )


def _fewer(cluster: Survey, hint: str) -> str:
    """Return a hint, with the parallelism that fits where the study's own trials take room."""
    n = len(cluster.running)
    return f"{hint}; {n} run now: --max-parallel-trials {n} asks for no more." if n else f"{hint}."


def _without_image(waiting: Waiting, _: Survey, __: StudySpec) -> tuple[str, str]:
    return _said(waiting), (
        "is its name right, does the node reach the registry, and does it have the pull secret "
        "(trial.kubernetes.image_pull_secrets)?"
    )


def _not_admitted(waiting: Waiting, _: Survey, __: StudySpec) -> tuple[str, str]:
    n = plural(len(waiting), "trial")
    return f"The cluster refuses to make the pods of {n}: {_said(waiting)}", (
        "change what the policy or webhook objects to (studyflow render FILE prints the Job; "
        "trial.kubernetes.pod_template patches it), or the policy."
    )


def _other_wait(waiting: Waiting, _: Survey, __: StudySpec) -> tuple[str, str]:
    reason = waiting[0].reason
    n, verb = plural(len(waiting), "pod"), "does" if len(waiting) == 1 else "do"
    own = None if reason is None else reason.hint
    return (
        f"{n} {verb} not start: {_said(waiting)}",
        own or "kubectl describe pod shows its events.",
    )


_SUBJECTS: Final[Mapping[ReasonCode, str]] = {
    Code.IN_QUEUE: "queue",
    Cause.QUOTA: "quota",
    Cause.UNSCHEDULABLE: "node",
    Cause.IMAGE_PULL: "image",
    Code.POD_REFUSED: "admission",
}
"""What a wait is about; `pod` for all others."""

_DESCRIPTIONS: Final[Mapping[str, Callable[[Waiting, Survey, StudySpec], tuple[str, str]]]] = {
    "queue": _queued,
    "quota": _over_quota,
    "node": _without_node,
    "image": _without_image,
    "admission": _not_admitted,
    "pod": _other_wait,
}
"""Message and hint, by subject."""

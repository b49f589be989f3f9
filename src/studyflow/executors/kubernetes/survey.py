"""What a study has in a cluster at one moment, for whoever only reads: nothing there is changed.

The executor decides what an attempt ends with and writes it on its Job; a survey leaves all of that
to the study's runner, and says what each attempt that has not begun waits for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Final

from studyflow.errors import ExecutorError, ExecutorUnavailable
from studyflow.executors.kubernetes.api import ClusterApi
from studyflow.executors.kubernetes.judging import judge
from studyflow.executors.kubernetes.names import attempt_of, queue_of, study_selector
from studyflow.executors.kubernetes.objects import (
    Object,
    by_owner,
    created_at,
    first_pod,
    uid_of,
)
from studyflow.executors.kubernetes.observation import Judgement, Observation, Wait, wait_of
from studyflow.executors.protocol import AttemptId, AttemptState
from studyflow.reasons import Reason
from studyflow.spec.pods.ours import CONTAINER

MAX_EVENT_REQUESTS: Final = 5
"""Pending attempts whose events are asked for: they mostly wait for the same thing."""

_AMOUNT: Final = re.compile(r"^(\d+(?:\.\d+)?)([numkKMGTPE]?i?)$")
_UNITS: Final = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    "k": Decimal(1000),
    **{unit: Decimal(1000) ** power for power, unit in enumerate("MGTPE", start=2)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", start=1)},
}


@dataclass(frozen=True, slots=True)
class PendingAttempt:
    """An attempt whose script has not begun."""

    attempt: AttemptId
    wait: Wait
    reason: Reason | None
    """Why it has not begun; `None` when nothing is out of the ordinary."""
    seconds: float
    """How long its Job, or its pod if there is one, has been there."""
    is_blocked: bool = False
    """Whether no attempt of the study can begin, whatever its parameters."""
    requests: Mapping[str, str] = field(default_factory=dict)
    """What its pod asks for, by resource."""
    queue: str = ""
    """Kueue's queue that its Job is in; empty without one."""


@dataclass(frozen=True, slots=True)
class FullQuota:
    """A limit of the namespace that leaves no room for one more trial."""

    name: str
    """The ResourceQuota's name."""
    resource: str
    """Such as `requests.nvidia.com/gpu`."""
    used: str
    hard: str


@dataclass(frozen=True, slots=True)
class Survey:
    """A study's attempts in a namespace, by number."""

    namespace: str
    running: tuple[AttemptId, ...] = ()
    pending: tuple[PendingAttempt, ...] = ()
    full_quotas: tuple[FullQuota, ...] = ()
    """Empty also where this user may not read quotas."""


def survey(api: ClusterApi, study: str, requests: Mapping[str, str], now: float) -> Survey:
    """Return what a study has in a cluster.

    Args:
        api: The cluster.
        study: Name of the study.
        requests: What a trial's pod asks for, by resource.
        now: Seconds since the epoch.

    Raises:
        ExecutorUnavailable: The API server does not answer.
        ExecutorError: It refuses.
    """
    jobs, _ = api.list_objects("jobs", study_selector(study))
    pods, _ = api.list_objects("pods", study_selector(study))
    own_pods = by_owner(pods)
    running, pending, n_asked = [], [], 0
    for job in jobs:
        attempt = attempt_of(job["metadata"].get("labels") or {})
        if attempt is None:
            continue
        pod = first_pod(job, own_pods.get(uid_of(job), ()))
        made_at = created_at(pod or job)
        seconds = 0.0 if made_at is None else max(now - made_at, 0.0)
        seen = Observation(job=job, pod=pod, waiting_seconds=seconds, **_PATIENT)
        found = judge(seen)
        if found.state is AttemptState.RUNNING:
            running.append(attempt)
            continue
        if found.wants_events and n_asked < MAX_EVENT_REQUESTS:
            n_asked += 1
            found = judge(replace(seen, events=api.events(uid_of(pod or job))))
        if found.state is AttemptState.PENDING or found.blocks_study:
            pending.append(_pending(attempt, job, pod, found, seconds))
    return Survey(
        api.namespace,
        tuple(sorted(running)),
        tuple(sorted(pending, key=lambda one: one.attempt)),
        tuple(full_quotas(_quotas(api), requests)),
    )


_PATIENT: Final[dict[str, Any]] = {
    # When a wait has been too long is the runner's to say.
    "image_pull_seconds": float("inf"),
    "pending_seconds": float("inf"),
}


def _pending(
    attempt: AttemptId,
    job: Object,
    pod: Object | None,
    found: Judgement,
    seconds: float,
) -> PendingAttempt:
    return PendingAttempt(
        attempt,
        wait_of(job, pod),
        found.reason,
        seconds,
        is_blocked=found.blocks_study,
        requests=_requests(job),
        queue=queue_of(job) or "",
    )


def _requests(job: Mapping[str, Any]) -> dict[str, str]:
    containers = job["spec"]["template"]["spec"]["containers"]
    resources = next((c.get("resources") for c in containers if c["name"] == CONTAINER), None)
    return {k: str(v) for k, v in ((resources or {}).get("requests") or {}).items()}


def _quotas(api: ClusterApi) -> Sequence[Mapping[str, Any]]:
    """Return the namespace's quotas; none without the right to see them."""
    try:
        return api.list_objects("resourcequotas", "")[0]
    except ExecutorUnavailable:
        raise
    except ExecutorError:  # no right of a runner: what a quota refused stands in the Job's events
        return ()


def full_quotas(
    quotas: Sequence[Mapping[str, Any]], requests: Mapping[str, str]
) -> Iterator[FullQuota]:
    """Yield the limits that leave no room for one more trial.

    Args:
        quotas: ResourceQuotas as the API has them.
        requests: What a trial's pod asks for, by resource.
    """
    # A trial's limits are its requests.
    wanted = {f"{prefix}{k}": v for k, v in requests.items() for prefix in ("", *_OF_PODS)}
    wanted |= {"pods": "1", "count/pods": "1", "count/jobs.batch": "1"}
    for quota in quotas:
        status = quota.get("status") or {}
        used = status.get("used") or {}
        for resource, hard in (status.get("hard") or {}).items():
            if resource not in wanted:
                continue
            taken = str(used.get(resource, "0"))
            if amount(taken) + amount(wanted[resource]) > amount(str(hard)):
                yield FullQuota(quota["metadata"]["name"], resource, taken, str(hard))


_OF_PODS: Final = ("requests.", "limits.")


def amount(quantity: str) -> Decimal:
    """Return a quantity of Kubernetes, such as `500m` or `4Gi`, as a number; 0 for no quantity."""
    match = _AMOUNT.match(quantity)
    return Decimal(match[1]) * _UNITS.get(match[2], Decimal(1)) if match else Decimal(0)

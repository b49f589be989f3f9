"""The last look at a Job before it is sent: whatever made it, no trial's pod breaks a rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from studyflow.spec.pods.ours import CONTAINER
from studyflow.spec.pods.placement import QUEUE
from studyflow.spec.pods.platform import Platform
from studyflow.spec.pods.resources import judge_resources
from studyflow.spec.pods.template import judge_template
from studyflow.spec.pods.walking import View
from studyflow.spec.problems import BrokenRule, Path

_TEMPLATE: Path = ("spec", "template")


@dataclass(frozen=True, slots=True)
class Ours:
    """What studyflow, or whoever runs it, has put into a pod: no study file asked for it."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    service_account: str | None = None
    """The account of pods whose study file names none."""
    image: str | None = None
    """The script's image by its digest, where the file names it by a tag."""


def judge_job(
    job: Mapping[str, Any], platform: Platform, ours: Ours, queue: str | None
) -> tuple[BrokenRule, ...]:
    """Return every rule that a finished Job breaks, by its places in the Job.

    Args:
        job: The Job, as it would be sent.
        platform: What the platform allows.
        ours: What no study file asked for.
        queue: Kueue's local queue, if it waits in one.
    """
    if ours.service_account is not None:
        accounts = (*platform.service_accounts, ours.service_account)
        platform = platform.model_copy(update={"service_accounts": accounts})
    template = job["spec"]["template"]
    view = View(
        platform,
        is_finished=True,
        own_labels=frozenset((*ours.labels.items(), *ours.annotations.items())),
        trusted_image=ours.image,
    )
    pod: Path = (*_TEMPLATE, "spec")
    return (
        *judge_template(template, _TEMPLATE, view),
        *judge_resources(template["spec"], pod, (*pod, "containers", CONTAINER), view),
        *(() if queue is None else QUEUE(queue, ("metadata", "labels"), view)),
    )

"""What a study's first trial would be in a cluster, without asking one."""

from __future__ import annotations

from typing import Any

from studyflow.executors.kubernetes.manifest import build_job, with_pod_paths
from studyflow.settings import Settings
from studyflow.spec import StudySpec
from studyflow.spec.pods import read_platform, resources
from studyflow.trial import TrackingRef, Trial


def first_job(spec: StudySpec, settings: Settings) -> dict[str, Any]:
    """Return the Job that a study's first trial would become; the study names an image.

    Its parameters are the first enqueued point, or else the middle of the search space.

    Raises:
        ExecutorBlocked: The study file asks for a pod that no trial may have, or not here.
        PlatformError: The platform's file is wrong.
    """
    middle = spec.space.from_unit([0.5] * len(spec.space))
    first = dict(spec.enqueue[0]) if spec.enqueue else {}
    params = spec.space.on_grid({**middle, **first})
    active = {name: params[name] for name in spec.space.active(params)}
    uri = settings.trial_tracking_uri or settings.tracking_uri
    trial = Trial(
        study=spec.name,
        number=0,
        params={**active, **spec.fixed},
        budget=spec.trial.budget,
        metrics=spec.metrics,
        tracking=None if uri is None else TrackingRef(uri, "RUN-ID"),
    )
    return build_job(
        spec,
        with_pod_paths(trial, spec.trial.kubernetes),
        service_account=settings.trial_service_account,
        platform=read_platform(settings.platform),
    )


def pod_requests(spec: StudySpec, settings: Settings) -> dict[str, str]:
    """Return what a trial's pod asks for, by resource; its GPUs alone while there is no image."""
    if spec.trial.image is None:
        gpus = spec.trial.resources.gpu
        return {"gpu": str(gpus)} if gpus else {}
    return resources.pod_requests(first_job(spec, settings)["spec"]["template"]["spec"])

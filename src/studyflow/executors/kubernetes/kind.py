"""Pods of a cluster as a kind of executor."""

from __future__ import annotations

from typing import Final

from studyflow.errors import PlatformError
from studyflow.executors.kind import ExecutorKind, ExecutorSetup
from studyflow.executors.kubernetes.executor import KubernetesExecutor
from studyflow.executors.kubernetes.preflight import check_cluster
from studyflow.executors.kubernetes.preview import pod_requests
from studyflow.executors.run_tokens import RunTokens
from studyflow.reasons import Finding, Level
from studyflow.settings import Settings
from studyflow.spec import Problem, StudySpec
from studyflow.spec.pods import PLATFORM_VARIABLE, judge_study, read_platform


def _open(setup: ExecutorSetup) -> KubernetesExecutor:
    settings = setup.settings
    reached = settings.trial_tracking_uri or settings.tracking_uri
    if reached is None or not reached.startswith("http"):
        setup.on_note(
            "MLflow is a file on this machine, which pods do not reach: no metrics by step, no "
            "artifacts. Hint: set MLFLOW_TRACKING_URI to an MLflow server."
        )
    return _executor(setup)


def _executor(setup: ExecutorSetup) -> KubernetesExecutor:
    # The client takes half a second to import, and most runners need none.
    from studyflow.executors.kubernetes.client import KubernetesApi

    return KubernetesExecutor(
        setup.spec,
        api=KubernetesApi(setup.settings.namespace),
        root=setup.root,
        image=setup.pinned_image(),
        on_image=setup.on_image,
        tracking_uri=setup.settings.trial_tracking_uri,
        service_account=setup.settings.trial_service_account,
        tokens=RunTokens(setup.settings.mlflow_token_key, setup.spec.trial.timeout_seconds),
        platform=lambda: read_platform(setup.settings.platform),
        redact=setup.redact,
    )


def _preflight(settings: Settings, study: StudySpec | None) -> tuple[Finding, ...]:  # noqa: ARG001
    return check_cluster(settings.namespace)


def _judge(study: StudySpec, settings: Settings) -> tuple[Problem, ...]:
    broken = judge_study(study.trial, read_platform(settings.platform))
    return tuple(Problem.at(one) for one in broken)


def _policy(settings: Settings) -> tuple[Finding, ...]:
    try:
        platform = read_platform(settings.platform)
    except PlatformError as error:
        message = error.whole_reason.message
        return (Finding(error.code, Level.PROBLEM, "platform", message, error.hint),)
    source = (
        f"{PLATFORM_VARIABLE} names no file, so the defaults hold."
        if settings.platform is None
        else f"{settings.platform}."
    )
    return (Finding.ok("platform", f"{source} {platform.describe()}"),)


KUBERNETES: Final = ExecutorKind(
    name="kubernetes",
    description="pods on Kubernetes",
    subject="cluster",
    open=_open,
    open_reader=_executor,
    preflight=_preflight,
    policy=_policy,
    judge=_judge,
    requests=pod_requests,
    extra="kubernetes",
    outlives_runner=True,
    shares_files=False,
    needs_image=True,
    runs_pods=True,
    long_wait_hint="do pods wait for new nodes, or is the image pulled each time "
    "(trial.kubernetes.image_pull_policy)? Fewer trials at once wait less.",
)

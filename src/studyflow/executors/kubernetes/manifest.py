"""From a study and an attempt to the Job that runs it. Pure: the same input, the same manifest.

Everything is a plain dictionary as the API takes it, so that `studyflow render` prints exactly what
would be sent, and a golden test holds it.

Newer fields are dropped silently by older servers, so nothing here depends on one: retries,
deadlines and the meaning of an ending are the runner's, read from the pod's status.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from studyflow.errors import ExecutorBlocked
from studyflow.executors.kubernetes.names import (
    QUEUE_LABEL,
    STUDY_ANNOTATION,
    attempt_labels,
    job_name,
    study_key,
)
from studyflow.executors.plain_mlflow import mlflow_variables
from studyflow.executors.protocol import AttemptId
from studyflow.reasons import Reason
from studyflow.spec import StudySpec
from studyflow.spec.kubernetes import CheckpointSpec, KubernetesSpec, VolumeSpec
from studyflow.spec.pods import (
    Ours,
    Platform,
    container_security,
    hold,
    judge_job,
    judge_study,
    strategic_merge,
)
from studyflow.spec.pods.ours import (
    CHECKPOINT_PATH,
    CHECKPOINTS,
    CONTAINER,
    SCRATCH,
    SHARED_MEMORY,
    TERMINATION_PATH,
    pod_deadline,
)
from studyflow.spec.pods.placement import HOST_LABEL
from studyflow.spec.problems import BrokenRule, show_path
from studyflow.trial import TRIAL_VARIABLE, Trial
from studyflow.trial.checkpoint_folders import (
    CheckpointFolders,
    attempt_folder,
    retired_attempts,
)

AVOIDED_ANNOTATION: Final = "studyflow.dev/avoided-nodes"
"""On a Job: the nodes that its pod keeps away from, by our decision."""

TRIAL_CHECKPOINT_PATH: Final = "/var/run/studyflow/trial-checkpoints"
"""Where a pod finds the checkpoints of all attempts of its trial, to read."""

RETIRED_CHECKPOINT_PATH: Final = "/var/run/studyflow/retired-checkpoints"
"""Where it finds those of attempts before the previous one, by number, to clear."""

TTL_SECONDS: Final = 7 * 24 * 3600
"""A Job is deleted when its outcome is recorded. This is the net under a runner that never comes
back; a week leaves time to see what its trials ended with."""


def with_pod_paths(
    trial: Trial, kubernetes: KubernetesSpec, tracking_uri: str | None = None
) -> Trial:
    """Return the attempt as its script in the pod will see it.

    Args:
        trial: The attempt.
        kubernetes: How the study's pods are made.
        tracking_uri: MLflow's address as pods reach it, if it is not the runner's.
    """
    tracking = trial.tracking
    if tracking is not None and tracking_uri is not None:
        tracking = replace(tracking, uri=tracking_uri)
    if tracking is not None and not tracking.uri.startswith(("http://", "https://")):
        tracking = None  # a database file of the runner's machine
    checkpoints = None if kubernetes.checkpoints is None else _checkpoint_folders(trial.attempt)
    return replace(
        trial,
        tracking=tracking,
        outcome_path=TERMINATION_PATH,
        metrics_path=None,
        artifact_dir=None,
        stop_path=None,
        checkpoint_dir=None if checkpoints is None else checkpoints.files,
        checkpoints=checkpoints,
    )


def _checkpoint_folders(attempt: int) -> CheckpointFolders:
    return CheckpointFolders(
        own=CHECKPOINT_PATH,
        trial=TRIAL_CHECKPOINT_PATH,
        retired=tuple(f"{RETIRED_CHECKPOINT_PATH}/{n}" for n in retired_attempts(attempt)),
    )


def build_job(
    spec: StudySpec,
    trial: Trial,
    *,
    image: str | None = None,
    avoid: Collection[str] = (),
    service_account: str | None = None,
    token: str | None = None,
    platform: Platform | None = None,
) -> dict[str, Any]:
    """Return the Job of one attempt. No Job that it returns breaks a rule for trials' pods.

    Args:
        spec: The study; `trial.image` must be set.
        trial: The attempt, as `with_pod_paths` returns it.
        image: Image to run instead of the study file's: the same one by its digest.
        avoid: Nodes where the pod must not run.
        service_account: Of the pod, if the study file names none; `None` for the namespace's own.
        token: What the attempt writes to its MLflow run with; `None` where MLflow asks for none.
        platform: What the platform allows; the defaults without one.

    Raises:
        ExecutorBlocked: The study file asks for a pod that no trial may have, or not here.
    """
    platform = platform or Platform()
    kubernetes = spec.trial.kubernetes
    _block(judge_study(spec.trial, platform))
    attempt = AttemptId(trial.number, trial.attempt)
    own: dict[str, dict[str, str]] = {
        "labels": attempt_labels(spec.name, attempt),
        "annotations": {STUDY_ANNOTATION: spec.name},
    }
    pod = _pod(spec, trial, image or spec.trial.image or "", service_account, token)
    base = {"metadata": own, "spec": pod}
    asked = {
        "metadata": {
            "labels": {**kubernetes.labels, **own["labels"]},
            "annotations": {**kubernetes.annotations, **own["annotations"]},
        },
        "spec": pod,
    }
    job: dict[str, Any] = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(spec.name, attempt),
            "labels": dict(own["labels"]),
            "annotations": dict(own["annotations"]),
        },
        "spec": {
            # Attempts are the runner's: each has a Job of its own, and none is repeated here.
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "ttlSecondsAfterFinished": TTL_SECONDS,
            # The file's patch before what must hold: it wins even over what no rule has foreseen.
            "template": hold(strategic_merge(asked, kubernetes.pod_template), base),
        },
    }
    if avoid:
        keep_away(job["spec"]["template"], sorted(avoid))
        job["metadata"]["annotations"][AVOIDED_ANNOTATION] = ",".join(sorted(avoid))
    if kubernetes.queue is not None:
        job["metadata"]["labels"][QUEUE_LABEL] = kubernetes.queue
        job["spec"]["suspend"] = True  # Kueue starts it; a server that knows neither starts it now
    ours = Ours(own["labels"], own["annotations"], service_account, image)
    _block(judge_job(job, platform, ours, kubernetes.queue))
    return job


def _block(broken: Sequence[BrokenRule]) -> None:
    """Refuse to make a Job that breaks rules.

    Raises:
        ExecutorBlocked: There are some.
    """
    if not broken:
        return
    first, *others = broken
    message = f"No trial may have this pod: {show_path(first.path)}: {first.message}"
    if others:
        places = ", ".join(sorted({show_path(other.path) for other in others})[:5])
        message = f"{message} (and {len(others)} more: {places})"
    raise ExecutorBlocked.because(
        Reason(first.code, f"{message}.", f"{first.hint}; `studyflow check` lists all problems.")
    )


def keep_away(template: dict[str, Any], nodes: Sequence[str]) -> None:
    """Add to a pod template that its pod must not run on these nodes, whatever else it asks for.

    Terms of a required affinity are alternatives, so each of them gets the condition.
    """
    condition = {"key": HOST_LABEL, "operator": "NotIn", "values": list(nodes)}
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    affinity = dict(template["spec"].get("affinity") or {})
    node_affinity = dict(affinity.get("nodeAffinity") or {})
    terms = (node_affinity.get(required) or {}).get("nodeSelectorTerms") or [{}]
    node_affinity[required] = {
        "nodeSelectorTerms": [
            {**term, "matchExpressions": [*(term.get("matchExpressions") or ()), condition]}
            for term in terms
        ]
    }
    template["spec"] = {
        **template["spec"],
        "affinity": {**affinity, "nodeAffinity": node_affinity},
    }


def avoided_nodes(job: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the nodes that `build_job` was told to avoid."""
    text = (job["metadata"].get("annotations") or {}).get(AVOIDED_ANNOTATION) or ""
    return tuple(node for node in text.split(",") if node)


def escaped(text: str) -> str:
    """Return what the kubelet turns into `text` again.

    In commands and variables it expands `$(NAME)`, and makes one dollar of two wherever they stand.
    """
    return text.replace("$", "$$")


def unescaped(text: str) -> str:
    """Return what `escaped` was given."""
    return text.replace("$$", "$")


def _pod(
    spec: StudySpec, trial: Trial, image: str, service_account: str | None, token: str | None
) -> dict[str, Any]:
    kubernetes = spec.trial.kubernetes
    volumes, mounts = _volumes(kubernetes, trial)
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": kubernetes.stop_grace_seconds,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": kubernetes.run_as_user,
            "runAsGroup": kubernetes.run_as_user,
            "fsGroup": kubernetes.run_as_user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": CONTAINER,
                "image": image,
                "imagePullPolicy": kubernetes.image_pull_policy,
                "command": [escaped(word) for word in spec.trial.command],
                "env": _environment(spec, trial, token),
                "resources": _resources(spec),
                "securityContext": container_security(),
                "terminationMessagePath": TERMINATION_PATH,
                "terminationMessagePolicy": "File",
                "volumeMounts": mounts,
            }
        ],
        "volumes": volumes,
    }
    if kubernetes.env_from_secrets:
        pod["containers"][0]["envFrom"] = [
            {"secretRef": {"name": name}} for name in kubernetes.env_from_secrets
        ]
    deadline = pod_deadline(spec.trial.timeout_seconds)
    if deadline is not None:
        pod["activeDeadlineSeconds"] = deadline
    optional = {
        "nodeSelector": dict(kubernetes.node_selector),
        "tolerations": [dict(toleration) for toleration in kubernetes.tolerations],
        "affinity": dict(kubernetes.affinity),
        "priorityClassName": kubernetes.priority_class,
        "serviceAccountName": kubernetes.service_account or service_account,
        "imagePullSecrets": [{"name": name} for name in kubernetes.image_pull_secrets],
    }
    return pod | {key: value for key, value in optional.items() if value}


def _environment(spec: StudySpec, trial: Trial, token: str | None) -> list[dict[str, Any]]:
    variables = {
        # A root file system that cannot be written to: caches and settings go to the scratch space.
        "HOME": "/tmp",  # noqa: S108 - inside the pod
        # A killed script loses what Python still buffers: the lines that say why.
        "PYTHONUNBUFFERED": "1",
        "MPLCONFIGDIR": "/tmp/matplotlib",  # noqa: S108
        **spec.trial.env,
    }
    variables |= mlflow_variables(trial, variables, token)
    plain = [{"name": name, "value": escaped(value)} for name, value in variables.items()]
    secret = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": source.secret, "key": source.key}}}
        for name, source in spec.trial.kubernetes.secret_env.items()
    ]
    document = {"name": TRIAL_VARIABLE, "value": escaped(trial.to_json())}
    return [*plain, *secret, document]


def _resources(spec: StudySpec) -> dict[str, Any]:
    given = trial_resources(spec)
    # Equal requests and limits: what a trial measures must not depend on its neighbours.
    return {"requests": given, "limits": dict(given)} if given else {}


def trial_resources(spec: StudySpec) -> dict[str, str]:
    """Return what a trial asks for, by resource."""
    wanted = spec.trial.resources
    amounts = {
        "cpu": wanted.cpu,
        "memory": wanted.memory,
        spec.trial.kubernetes.gpu_resource: str(wanted.gpu) if wanted.gpu else None,
    }
    return {name: amount for name, amount in amounts.items() if amount is not None}


def _volumes(
    kubernetes: KubernetesSpec, trial: Trial
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    volumes: list[dict[str, Any]] = [
        {"name": SCRATCH, "emptyDir": {"sizeLimit": kubernetes.scratch}},
        {
            "name": SHARED_MEMORY,
            "emptyDir": {"medium": "Memory", "sizeLimit": kubernetes.shared_memory},
        },
    ]
    mounts: list[dict[str, Any]] = [
        {"name": SCRATCH, "mountPath": "/tmp"},  # noqa: S108 - inside the pod
        # 64 MiB, the default, is too little for PyTorch's data loaders.
        {"name": SHARED_MEMORY, "mountPath": "/dev/shm"},  # noqa: S108
    ]
    # A kubelet waits forever for a pod that has two volumes of one claim: one volume, and mounts.
    claims: dict[str, str] = {}
    if kubernetes.checkpoints is not None:
        claim = kubernetes.checkpoints
        volumes.append({"name": CHECKPOINTS, "persistentVolumeClaim": {"claimName": claim.claim}})
        mounts += _checkpoint_mounts(claim, trial)
        claims[claim.claim] = CHECKPOINTS
    written = {volume.claim for volume in kubernetes.volumes if not volume.read_only}
    for i, volume in enumerate(kubernetes.volumes):
        name = f"volume-{i}" if volume.claim is None else claims.get(volume.claim, f"volume-{i}")
        if volume.claim is None or volume.claim not in claims:
            is_written = volume.claim in written
            volumes.append({"name": name, **_source(volume, is_written=is_written)})
        if volume.claim is not None:
            claims[volume.claim] = name
        mount: dict[str, Any] = {"name": name, "mountPath": volume.mount_path}
        if volume.sub_path is not None:
            mount["subPath"] = volume.sub_path
        if volume.read_only:
            mount["readOnly"] = True
        mounts.append(mount)
    return volumes, mounts


def _checkpoint_mounts(claim: CheckpointSpec, trial: Trial) -> list[dict[str, Any]]:
    """Return how an attempt reaches the checkpoints of its trial.

    A pod on a lost node runs on. It can write into its own folder and into those of attempts before
    the previous one, and so into none that a later attempt uses.
    """
    folder = f"{claim.sub_path.strip('/')}/{study_key(trial.study)}/{trial.number}"
    paths = {CHECKPOINT_PATH: attempt_folder(folder, trial.attempt)} | {
        f"{RETIRED_CHECKPOINT_PATH}/{n}": attempt_folder(folder, n)
        for n in retired_attempts(trial.attempt)
    }
    return [
        *(
            {"name": CHECKPOINTS, "mountPath": path, "subPath": sub_path}
            for path, sub_path in paths.items()
        ),
        {
            "name": CHECKPOINTS,
            "mountPath": TRIAL_CHECKPOINT_PATH,
            "subPath": folder,
            "readOnly": True,
        },
    ]


def _source(volume: VolumeSpec, *, is_written: bool) -> dict[str, Any]:
    if volume.claim is not None:
        source: dict[str, Any] = {"claimName": volume.claim}
        if not is_written:
            source["readOnly"] = True
        return {"persistentVolumeClaim": source}
    if volume.config_map is not None:
        return {"configMap": {"name": volume.config_map}}
    if volume.secret is not None:
        return {"secret": {"secretName": volume.secret}}
    return {"emptyDir": {"sizeLimit": volume.empty_dir}}

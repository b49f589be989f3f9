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

from studyflow.executors.kubernetes.names import (
    QUEUE_LABEL,
    STUDY_ANNOTATION,
    attempt_labels,
    job_name,
    study_key,
)
from studyflow.executors.plain_mlflow import mlflow_variables
from studyflow.executors.protocol import AttemptId
from studyflow.spec import StudySpec
from studyflow.spec.kubernetes import CheckpointSpec, KubernetesSpec, VolumeSpec
from studyflow.trial import TRIAL_VARIABLE, Trial
from studyflow.trial.checkpoint_folders import (
    CheckpointFolders,
    attempt_folder,
    retired_attempts,
)

CONTAINER: Final = "trial"
"""Name of the one container; a patch in the study file finds it by this name."""

TERMINATION_PATH: Final = "/dev/termination-log"
"""Where `sdk.finish` writes: the kubelet puts the file's content into the pod's status."""

AVOIDED_ANNOTATION: Final = "studyflow.dev/avoided-nodes"
"""On a Job: the nodes that its pod keeps away from, by our decision."""

NODE_LABEL: Final = "kubernetes.io/hostname"
"""The label that names a node to its scheduler. Its value is the node's name nearly everywhere;
where it is another, the pod may come to an avoided node again. A condition on the name itself is
refused by some autoscalers."""

CHECKPOINT_PATH: Final = "/var/run/studyflow/checkpoints"
"""Where a pod finds its attempt's folder for checkpoints."""

TRIAL_CHECKPOINT_PATH: Final = "/var/run/studyflow/trial-checkpoints"
"""Where it finds those of all attempts of its trial, to read."""

RETIRED_CHECKPOINT_PATH: Final = "/var/run/studyflow/retired-checkpoints"
"""Where it finds those of attempts before the previous one, by number, to clear."""

TTL_SECONDS: Final = 7 * 24 * 3600
"""A Job is deleted when its outcome is recorded. This is the net under a runner that never comes
back; a week leaves time to see what its trials ended with."""

START_ALLOWANCE_SECONDS: Final = 900
"""Added to the trial's time limit for the pod's own deadline, which counts from the moment the node
took it and so includes pulling the image. The executor ends a trial that is over its limit; this
deadline frees the GPU when no runner is there to do so."""

LONGEST_DEADLINE_SECONDS: Final = 2**31 - 1


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
) -> dict[str, Any]:
    """Return the Job of one attempt.

    Args:
        spec: The study; `trial.image` must be set.
        trial: The attempt, as `with_pod_paths` returns it.
        image: Image to run instead of the study file's: the same one by its digest.
        avoid: Nodes where the pod must not run.
        service_account: Of the pod, if the study file names none; `None` for the namespace's own.
        token: What the attempt writes to its MLflow run with; `None` where MLflow asks for none.
    """
    kubernetes = spec.trial.kubernetes
    attempt = AttemptId(trial.number, trial.attempt)
    labels = attempt_labels(spec.name, attempt)
    annotations = {STUDY_ANNOTATION: spec.name}
    template = {
        "metadata": {
            "labels": {**kubernetes.labels, **labels},
            "annotations": {**kubernetes.annotations, **annotations},
        },
        "spec": _pod(spec, trial, image or spec.trial.image or "", service_account, token),
    }
    job: dict[str, Any] = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(spec.name, attempt),
            "labels": dict(labels),
            "annotations": dict(annotations),
        },
        "spec": {
            # Attempts are the runner's: each has a Job of its own, and none is repeated here.
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "ttlSecondsAfterFinished": TTL_SECONDS,
            "template": strategic_merge(template, kubernetes.pod_template),
        },
    }
    if avoid:
        keep_away(job["spec"]["template"], sorted(avoid))
        job["metadata"]["annotations"][AVOIDED_ANNOTATION] = ",".join(sorted(avoid))
    if kubernetes.queue is not None:
        job["metadata"]["labels"][QUEUE_LABEL] = kubernetes.queue
        job["spec"]["suspend"] = True  # Kueue starts it; a server that knows neither starts it now
    return job


def keep_away(template: dict[str, Any], nodes: Sequence[str]) -> None:
    """Add to a pod template that its pod must not run on these nodes, whatever else it asks for.

    Terms of a required affinity are alternatives, so each of them gets the condition.
    """
    condition = {"key": NODE_LABEL, "operator": "NotIn", "values": list(nodes)}
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
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"]},
                    "readOnlyRootFilesystem": True,
                    "runAsNonRoot": True,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
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
    if spec.trial.timeout_seconds is not None:
        deadline = int(spec.trial.timeout_seconds) + START_ALLOWANCE_SECONDS
        pod["activeDeadlineSeconds"] = min(deadline, LONGEST_DEADLINE_SECONDS)
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
        {"name": "scratch", "emptyDir": {"sizeLimit": kubernetes.scratch}},
        {
            "name": "shared-memory",
            "emptyDir": {"medium": "Memory", "sizeLimit": kubernetes.shared_memory},
        },
    ]
    mounts: list[dict[str, Any]] = [
        {"name": "scratch", "mountPath": "/tmp"},  # noqa: S108 - inside the pod
        # 64 MiB, the default, is too little for PyTorch's data loaders.
        {"name": "shared-memory", "mountPath": "/dev/shm"},  # noqa: S108
    ]
    if kubernetes.checkpoints is not None:
        claim = kubernetes.checkpoints
        volumes.append({"name": "checkpoints", "persistentVolumeClaim": {"claimName": claim.claim}})
        mounts += _checkpoint_mounts(claim, trial)
    for i, volume in enumerate(kubernetes.volumes):
        name = f"volume-{i}"
        volumes.append({"name": name, **_source(volume)})
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
            {"name": "checkpoints", "mountPath": path, "subPath": sub_path}
            for path, sub_path in paths.items()
        ),
        {
            "name": "checkpoints",
            "mountPath": TRIAL_CHECKPOINT_PATH,
            "subPath": folder,
            "readOnly": True,
        },
    ]


def _source(volume: VolumeSpec) -> dict[str, Any]:
    if volume.claim is not None:
        source: dict[str, Any] = {"claimName": volume.claim}
        if volume.read_only:
            source["readOnly"] = True
        return {"persistentVolumeClaim": source}
    if volume.config_map is not None:
        return {"configMap": {"name": volume.config_map}}
    if volume.secret is not None:
        return {"secret": {"secretName": volume.secret}}
    return {"emptyDir": {"sizeLimit": volume.empty_dir}}


_MERGE_KEYS: Final[Mapping[str, str]] = {
    "containers": "name",
    "initContainers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "imagePullSecrets": "name",
    "ports": "containerPort",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
}
"""Lists whose entries are merged by a key, as the API's `patchMergeKey` says for pods. Other lists,
such as `command` or `tolerations`, are replaced as a whole."""


def strategic_merge(base: Any, patch: Any, name: str = "") -> Any:
    """Return `base` changed by a strategic merge patch, as `kubectl patch` would for a pod.

    Mappings are merged, `null` removes a key, `$patch: delete` removes an entry of a keyed list and
    `$patch: replace` puts the patch in the place of a mapping. Neither argument is changed.
    """
    if isinstance(patch, Mapping):
        changes = {key: value for key, value in patch.items() if key != "$patch"}
        keeps = isinstance(base, Mapping) and patch.get("$patch") != "replace"
        merged = dict(base) if keeps else {}
        for key, value in changes.items():
            if value is None:
                merged.pop(key, None)
            else:
                merged[key] = strategic_merge(merged.get(key), value, key)
        return merged
    if isinstance(patch, list | tuple) and name in _MERGE_KEYS:
        return _merge_entries(base if isinstance(base, list) else [], patch, _MERGE_KEYS[name])
    return patch


def _merge_entries(base: list[Any], patch: Sequence[Any], merge_key: str) -> list[Any]:
    entries = list(base)
    for change in patch:
        own = change.get(merge_key) if isinstance(change, Mapping) else None
        at = next((i for i, entry in enumerate(entries) if own == _get(entry, merge_key)), None)
        if own is None:
            entries.append(change)  # of no form that the API takes; it says so better than we could
        elif change.get("$patch") == "delete":
            if at is not None:
                del entries[at]
        elif at is None:
            entries.append(strategic_merge(None, change))
        else:
            entries[at] = strategic_merge(entries[at], change)
    return entries


def _get(entry: Any, key: str) -> Any:
    return entry.get(key) if isinstance(entry, Mapping) else None

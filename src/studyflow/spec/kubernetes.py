"""`trial.kubernetes`: what a trial's pod needs beyond command, image and resources."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field, model_validator

from studyflow.spec.parts import QUANTITY, Part, Seconds, Text
from studyflow.spec.values import Real, Whole, broken_rule

_DNS_NAME: Final = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"

ObjectName = Annotated[str, Field(pattern=_DNS_NAME)]
"""Name of a Kubernetes object: small letters, digits, dashes and dots."""

RESERVED_PATHS: Final = ("/tmp", "/dev/shm", "/var/run/studyflow")  # noqa: S108 - inside the pod
"""Mount paths that every trial's pod has already."""


class SecretKeySpec(Part):
    """One value of a Secret. The study file holds its name only."""

    secret: ObjectName = Field(description="Name of the Secret, in the trials' namespace.")
    key: str = Field(min_length=1, max_length=253, description="Key within the Secret.")


class VolumeSpec(Part):
    """A volume in a trial's pod. Name exactly one source."""

    mount_path: str = Field(pattern=r"^/.+$", description="Where the script finds it.")
    claim: ObjectName | None = Field(default=None, description="A PersistentVolumeClaim.")
    config_map: ObjectName | None = Field(default=None, description="A ConfigMap.")
    secret: ObjectName | None = Field(default=None, description="A Secret, as files.")
    empty_dir: Text | None = Field(
        default=None, pattern=QUANTITY, description="Scratch space of this size, such as `20Gi`."
    )
    sub_path: str | None = Field(default=None, min_length=1, description="A folder within it.")
    read_only: bool = Field(default=False, description="Whether the script may only read it.")

    @model_validator(mode="after")
    def _check(self) -> VolumeSpec:
        sources = ("claim", "config_map", "secret", "empty_dir")
        named = [name for name in sources if getattr(self, name) is not None]
        if len(named) != 1:
            raise broken_rule(
                f"a volume must have one source, but it has {', '.join(named) or 'none'}",
                f"name one of {', '.join(sources)}",
            )
        taken = self.mount_path.rstrip("/")
        if taken in ("", *RESERVED_PATHS) or taken.startswith("/var/run/studyflow/"):
            raise broken_rule(
                f"a volume must not be mounted at {self.mount_path}, which every trial's pod has",
                "mount it elsewhere; `scratch` and `shared_memory` set the sizes of those",
            )
        return self


class CheckpointSpec(Part):
    """Where checkpoints outlive an attempt: each attempt has its own folder in the claim."""

    claim: ObjectName = Field(
        description="A PersistentVolumeClaim that several nodes can mount (ReadWriteMany)."
    )
    sub_path: str = Field(
        default="studyflow-checkpoints", min_length=1, description="Folder within the claim."
    )


class KubernetesSpec(Part):
    """How a trial's pod is made. Without effect on trials that run as local processes."""

    gpu_resource: str = Field(
        default="nvidia.com/gpu",
        pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$",
        description="What `resources.gpu` counts; for a MIG slice its name, such as "
        "`nvidia.com/mig-1g.5gb`.",
    )
    node_selector: dict[str, Text] = Field(
        default_factory=dict, description="Labels that the node must have."
    )
    tolerations: tuple[dict[str, Any], ...] = Field(
        default=(), description="Taints that the pod tolerates, as in a pod's manifest."
    )
    affinity: dict[str, Any] = Field(
        default_factory=dict, description="Affinity, as in a pod's manifest."
    )
    priority_class: ObjectName | None = Field(
        default=None, description="PriorityClass of the pods."
    )
    service_account: ObjectName | None = Field(
        default=None,
        description="Service account of the pods, in the trials' namespace; they never get its "
        "token. Without one, the installation's (`studyflow-trial`), or the namespace's.",
    )
    image_pull_policy: Literal["IfNotPresent", "Always", "Never"] = Field(
        default="IfNotPresent", description="When the node asks the registry for the image."
    )
    image_pull_secrets: tuple[ObjectName, ...] = Field(
        default=(), description="Secrets for the registry."
    )
    secret_env: dict[str, SecretKeySpec] = Field(
        default_factory=dict, description="Environment variables from Secrets, by variable."
    )
    env_from_secrets: tuple[ObjectName, ...] = Field(
        default=(), description="Secrets all of whose keys become environment variables."
    )
    volumes: tuple[VolumeSpec, ...] = Field(
        default=(), description="Data sets and whatever else the script reads or writes."
    )
    checkpoints: CheckpointSpec | None = Field(
        default=None,
        description="Where `sdk.checkpoint` and `sdk.checkpoint_dir()` save; without it, within "
        "the pod, and a repeated attempt starts from nothing.",
    )
    shared_memory: Text = Field(
        default="1Gi",
        pattern=QUANTITY,
        description="Size of /dev/shm, which PyTorch's data loaders need; counts as memory.",
    )
    scratch: Text = Field(
        default="10Gi", pattern=QUANTITY, description="Size of /tmp on the node's disk."
    )
    queue: ObjectName | None = Field(
        default=None, description="Kueue's local queue; the Job then waits for its admission."
    )
    labels: dict[str, Text] = Field(default_factory=dict, description="More labels of the pods.")
    annotations: dict[str, Text] = Field(
        default_factory=dict, description="Annotations of the pods."
    )
    run_as_user: Whole = Field(
        default=10001, ge=1, le=2**31 - 1, description="User and group id of the script, not 0."
    )
    stop_grace_seconds: Whole = Field(
        default=20,
        ge=1,
        le=3600,
        description="Time between SIGTERM and SIGKILL for a trial that is stopped.",
    )
    pending_timeout_seconds: Seconds = Field(
        default=3600.0,
        description="A trial that found no node for this long ends its attempt while no other "
        "trial runs; with no room at all the study would wait for ever.",
    )
    image_pull_timeout_seconds: Seconds = Field(
        default=300.0, description="How long the image may fail to be pulled."
    )
    canary_seconds: Real = Field(
        default=10.0,
        ge=0,
        le=3600,
        description="The first trial of a study runs alone for this long, or until it has reported "
        "a value: an image or a script that cannot start costs one pod. 0 starts all at once.",
    )
    pod_template: dict[str, Any] = Field(
        default_factory=dict,
        description="Strategic merge patch of the pod template, for everything else; the "
        "container is named `trial`.",
        examples=[{"spec": {"runtimeClassName": "nvidia"}}],
    )

    @model_validator(mode="after")
    def _check(self) -> KubernetesSpec:
        paths = [volume.mount_path.rstrip("/") for volume in self.volumes]
        twice = sorted({path for path in paths if paths.count(path) > 1})
        if twice:
            raise broken_rule(
                f"two volumes must not have one mount_path, but {', '.join(twice)} stands twice",
                "mount one of them elsewhere",
            )
        unknown = sorted(set(self.pod_template) - {"metadata", "spec"})
        if unknown:
            raise broken_rule(
                f"pod_template must hold metadata and spec only, but it holds {', '.join(unknown)}",
                "it is a patch of the Job's spec.template",
            )
        return self

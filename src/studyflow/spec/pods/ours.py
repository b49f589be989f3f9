"""What is studyflow's own in a trial's pod: names that a study file leaves alone."""

from __future__ import annotations

import posixpath
import re
from typing import Final

CONTAINER: Final = "trial"
"""Name of the container that runs the script; a patch in the study file finds it by this name."""

TERMINATION_PATH: Final = "/dev/termination-log"
"""Where `sdk.finish` writes: the kubelet puts the file's content into the pod's status."""

CHECKPOINT_PATH: Final = "/var/run/studyflow/checkpoints"
"""Where a pod finds its attempt's folder for checkpoints."""

SCRATCH: Final = "scratch"
SHARED_MEMORY: Final = "shared-memory"
CHECKPOINTS: Final = "checkpoints"
"""Names of the volumes that pods have by fields of their own."""

START_ALLOWANCE_SECONDS: Final = 900
"""Added to the trial's time limit for the pod's own deadline, which counts from the moment the node
took it and so includes pulling the image. The executor ends a trial that is over its limit; this
deadline frees the GPU when no runner is there to do so."""

LONGEST_DEADLINE_SECONDS: Final = 2**31 - 1

_OWN_VOLUME: Final = re.compile(rf"({SCRATCH}|{SHARED_MEMORY}|{CHECKPOINTS}|volume-\d+)\Z")

_OWN_PATHS: Final = (
    "/tmp",  # noqa: S108 - inside the pod
    "/dev",  # shared memory, and the termination message
    "/proc",
    "/sys",
    "/run/studyflow",
    "/run/secrets",
)
"""Where no volume of a study is mounted; `/var/run` is `/run` in most images."""

_BELOW_TOO: Final = frozenset(_OWN_PATHS) - {"/tmp"}  # noqa: S108
"""Those where nothing below is mounted either: a cache may lie in `/tmp/cache`."""

_OWN_VARIABLES: Final = frozenset({"MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_RUN_CONTEXT"})
"""Lead MLflow in the script to the trial's run."""

DEVICE_VARIABLES: Final = (
    "AMD_VISIBLE_DEVICES",
    "ASCEND_VISIBLE_DEVICES",
    "HABANA_VISIBLE_DEVICES",
    "MTHREADS_VISIBLE_DEVICES",
    "NVIDIA_GDRCOPY",
    "NVIDIA_GDS",
    "NVIDIA_IMEX_CHANNELS",
    "NVIDIA_MIG_CONFIG_DEVICES",
    "NVIDIA_MIG_MONITOR_DEVICES",
    "NVIDIA_MOFED",
    "NVIDIA_NVSWITCH",
    "NVIDIA_VISIBLE_DEVICES",
)
"""Variables by which a container runtime gives a container devices that nobody has counted: all
GPUs of its node, for instance, among them those of other trials."""

DEVICE_FOLDER: Final = "/run/nvidia-container-devices"
"""Where mounts ask the same of NVIDIA's container runtime, by the names of their paths."""

NO_DEVICES: Final = ("", "none", "void")
"""Values of those variables that ask for no device."""

TOKEN_VARIABLE: Final = "MLFLOW_TRACKING_TOKEN"  # noqa: S105 - a name
"""Holds what an attempt writes to its run with, where MLflow asks for it; elsewhere a study may set
it by `secret_env`, and by nothing else."""


def pod_deadline(timeout_seconds: float | None) -> int | None:
    """Return `activeDeadlineSeconds` of a trial with this time limit; `None` without one."""
    if timeout_seconds is None:
        return None
    return min(int(timeout_seconds) + START_ALLOWANCE_SECONDS, LONGEST_DEADLINE_SECONDS)


def is_own_volume(name: str) -> bool:
    """Whether a volume of this name comes from a field of `trial.kubernetes`."""
    return _OWN_VOLUME.match(name) is not None


def is_own_variable(name: str) -> bool:
    """Whether the script's environment variable of this name is set by studyflow."""
    return name.startswith("STUDYFLOW_") or name in _OWN_VARIABLES


def asks_for_devices(mount_path: str) -> bool:
    """Whether a mount at this path asks the container runtime for devices."""
    path = posixpath.normpath("/" + mount_path.lstrip("/"))
    path = path.removeprefix("/var") if path.startswith("/var/run/") else path
    return path == DEVICE_FOLDER or path.startswith(f"{DEVICE_FOLDER}/")


def own_path_at(mount_path: str) -> str | None:
    """Return what of every pod's own a mount at this path would hide; `None` when it hides none."""
    path = posixpath.normpath("/" + mount_path.lstrip("/"))
    if path == "/var/run" or path.startswith("/var/run/"):
        path = path.removeprefix("/var")
    for own in _OWN_PATHS:
        hides = path == "/" or path == own or own.startswith(f"{path}/")
        if hides or (own in _BELOW_TOO and path.startswith(f"{own}/")):
            return own
    if path == "/var":
        return "/run/studyflow"
    return None

"""Rules for the containers of a trial's pod, whichever list they stand in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from studyflow.spec.pods.looking import entries_of, field_of
from studyflow.spec.pods.ours import (
    CHECKPOINTS,
    CONTAINER,
    DEVICE_VARIABLES,
    NO_DEVICES,
    TOKEN_VARIABLE,
    asks_for_devices,
    is_own_variable,
    own_path_at,
)
from studyflow.spec.pods.security import CONTAINER_SECURITY
from studyflow.spec.pods.sources import (
    CONFIG_MAP_KEY,
    FIELD,
    RESOURCE_FIELD,
    SECRET,
    one_source,
    path_within,
)
from studyflow.spec.pods.walking import (
    Rule,
    Table,
    View,
    a_mapping,
    anything,
    flag,
    forbid,
    items,
    mapping,
    named_items,
    one_of,
    optional,
    own,
    part_name,
    quantity,
    refuse,
    refused,
    show,
    text,
    whole,
)
from studyflow.spec.problems import BrokenRule, Path

_VARIABLE: Final = re.compile(r"[A-Za-z_.-][A-Za-z0-9_.-]*\Z", re.ASCII)


def _image(value: Any, path: Path, view: View) -> Iterator[BrokenRule]:
    if view.is_script and not view.is_finished:
        yield from refused("studyflow sets this itself", "set trial.image")(value, path, view)
        return
    yield from image_rule(value, path, view)


def image_rule(value: Any, path: Path, view: View) -> Iterator[BrokenRule]:
    """Look for an image that does not come from where the platform's images come from."""
    if not isinstance(value, str):
        yield from text(value, path, view)
    elif value != view.trusted_image and not view.platform.allows_image(value):
        listed = " or ".join(view.platform.images or ()) or "nowhere"
        message = f"images must come from {listed}, but this one is {show(value)}"
        yield forbid(path, message, view, "images")


def _of_script(hint: str, otherwise: Rule) -> Rule:
    """Return a rule for what a study sets in other containers, and by a field in the script's."""
    script = own(hint, otherwise)

    def rule(value: Any, path: Path, view: View) -> Iterator[BrokenRule]:
        yield from (script if view.is_script else otherwise)(value, path, view)

    return rule


def _variable(value: Any, path: Path, view: View) -> Iterator[BrokenRule]:
    yield from mapping(
        {
            "name": _variable_name,
            "value": text,
            "valueFrom": one_source(
                {
                    "secretKeyRef": SECRET_KEY,
                    "configMapKeyRef": CONFIG_MAP_KEY,
                    "fieldRef": FIELD,
                    "resourceFieldRef": RESOURCE_FIELD,
                },
                "a variable's source",
            ),
        },
        "a variable",
    )(value, path, view)
    if isinstance(value, Mapping) and isinstance(value.get("name"), str):
        yield from device_variable(value["name"], value.get("value"), path)
    if isinstance(value, Mapping) and "value" in value and "valueFrom" in value:
        yield refuse(
            path,
            "a variable must have one value, but this one has value and valueFrom",
            "remove one of them, or rename it if the other one is a field's",
        )


def device_variable(name: str, value: Any, path: Path) -> Iterator[BrokenRule]:
    """Look for a variable that gives a container devices which it did not ask Kubernetes for.

    Args:
        name: Of the variable.
        value: Its value; `None` when it comes from elsewhere.
        path: Where it stands.
    """
    if name in DEVICE_VARIABLES and value not in NO_DEVICES:
        message = f"a trial must ask for devices by counting them, but {name} asks for some too"
        yield refuse(path, message, "remove it; use trial.resources.gpu")


def _variable_name(value: Any, path: Path, view: View) -> Iterator[BrokenRule]:
    if not isinstance(value, str) or _VARIABLE.match(value) is None:
        yield refuse(path, f"must be a variable's name, but it is {show(value)}", "rename it")
    elif view.is_script and not view.is_finished and is_own_variable(value):
        message = f"studyflow's own variables must stay as they are, but {value!r} is one"
        yield refuse(path, message, "use another name")
    elif view.is_script and not view.is_finished and value == TOKEN_VARIABLE:
        message = (
            f"what a trial logs in to MLflow with must come from a Secret, but {value!r} is here"
        )
        yield refuse(path, message, "for an MLflow of your own use trial.kubernetes.secret_env")


SECRET_KEY: Final = mapping({"name": SECRET, "key": text, "optional": flag}, "a Secret's key")

_ENV_FROM: Final = mapping(
    {
        "prefix": text,
        "configMapRef": mapping({"name": text, "optional": flag}, "a ConfigMap's name"),
        "secretRef": mapping({"name": SECRET, "optional": flag}, "a Secret's name"),
    },
    "a source of variables",
)


def mount_path(value: Any, path: Path, view: View) -> Iterator[BrokenRule]:
    """Look for a path that hides what the script's container has, or that is none."""
    is_path = isinstance(value, str) and value.startswith("/") and ":" not in value
    if not is_path or ".." in value.split("/"):
        yield refuse(
            path,
            f"must be an absolute path without '..' and ':', but it is {show(value)}",
            "write the path as the script sees it, such as /data",
        )
    elif asks_for_devices(value):
        message = f"a trial must ask for devices by counting them, but {value!r} asks for some too"
        yield refuse(path, message, "remove it; use trial.resources.gpu")
    elif view.is_script and not view.is_finished and (hidden := own_path_at(value)) is not None:
        message = f"a mount must not hide {hidden} of a trial's pod, but it is at {value!r}"
        yield refuse(path, message, "mount it elsewhere, such as below /data")


SUB_PATH: Final = path_within("name a folder below the volume's top, without '/' at its beginning")
"""The rule for the part of a volume that is mounted."""


def _mounted(value: Any, path: Path, view: View) -> Iterator[BrokenRule]:
    if not isinstance(value, str):
        yield from text(value, path, view)
    elif value == CHECKPOINTS and not view.is_finished:
        message = "each trial has a folder of its own in the checkpoints, but this mounts them all"
        yield refuse(path, message, "call sdk.checkpoint_dir() in the script")


_MOUNT: Final = mapping(
    {
        "name": _mounted,
        "mountPath": mount_path,
        "subPath": SUB_PATH,
        "subPathExpr": SUB_PATH,
        "readOnly": flag,
        "recursiveReadOnly": one_of(("Disabled", "IfPossible", "Enabled")),
        "mountPropagation": one_of(("None",), "mounts of a trial's pod do not reach its node"),
    },
    "a mount",
)

_PORT: Final = mapping(
    {
        "name": text,
        "containerPort": whole(1, at_most=65535),
        "protocol": one_of(("TCP", "UDP", "SCTP")),
        "hostPort": refused(
            "a trial's pod must not take ports of its node", "remove it: containerPort is enough"
        ),
        "hostIP": refused(
            "a trial's pod must not take addresses of its node", "remove it: the pod has its own"
        ),
    },
    "a port",
)

_HOST: Final = refused(
    "a probe must ask its own pod: the node sends it, past the network policies",
    "remove host; without it the pod itself is asked",
)
_HANDLERS: Final[Table] = {
    "exec": mapping({"command": items(text)}, "a command"),
    "httpGet": mapping(
        {"path": text, "port": anything, "scheme": text, "httpHeaders": anything, "host": _HOST},
        "a request",
    ),
    "tcpSocket": mapping({"port": anything, "host": _HOST}, "a connection"),
    "grpc": mapping({"port": anything, "service": text}, "a call"),
    "sleep": mapping({"seconds": whole(0)}, "a pause"),
}
_PROBE: Final = mapping(
    {
        **_HANDLERS,
        "initialDelaySeconds": whole(0),
        "periodSeconds": whole(1),
        "timeoutSeconds": whole(1),
        "successThreshold": whole(1),
        "failureThreshold": whole(1),
        "terminationGracePeriodSeconds": whole(1, at_most=3600),
    },
    "a probe",
)
_LIFECYCLE: Final = mapping(
    {
        "postStart": mapping(_HANDLERS, "a hook"),
        "preStop": mapping(_HANDLERS, "a hook"),
        "stopSignal": refused(
            "a trial must be stopped by SIGTERM", "remove it: the SDK ends the script by SIGTERM"
        ),
    },
    "a container's hooks",
)


def _amounts(value: Any, path: Path, view: View) -> Iterator[BrokenRule]:
    yield from a_mapping(value, path, view)
    for name, given in value.items() if isinstance(value, Mapping) else ():
        if isinstance(name, str):
            yield from quantity(given, (*path, name), view)


_RESOURCES: Final = mapping(
    {
        "limits": _amounts,
        "requests": _amounts,
        "claims": refused(
            "a trial must ask for devices by counting them", "use trial.resources.gpu"
        ),
    },
    "a container's resources",
)


def _restart_policy(value: Any, path: Path, view: View) -> Iterator[BrokenRule]:
    if not view.is_init or value != "Always":
        message = f"a container must not be restarted in its pod, but it says {show(value)}"
        yield refuse(path, message, "remove it; `Always` makes an init container a sidecar")


_FIELDS: Final[Table] = {
    "name": part_name("a container"),
    "image": _image,
    "imagePullPolicy": one_of(("IfNotPresent", "Always", "Never")),
    "command": _of_script("set trial.command", items(text)),
    "args": _of_script("set trial.command, which holds the arguments too", items(text)),
    "workingDir": optional(text),
    "env": named_items(_variable),
    "envFrom": items(_ENV_FROM),
    "resources": _RESOURCES,
    "volumeMounts": named_items(_MOUNT, "mountPath"),
    "volumeDevices": refused("a trial's pod must not use raw devices", "mount the claim instead"),
    "ports": items(_PORT),
    "livenessProbe": _PROBE,
    "readinessProbe": _PROBE,
    "startupProbe": _PROBE,
    "lifecycle": _LIFECYCLE,
    "securityContext": CONTAINER_SECURITY,
    "terminationMessagePath": _of_script(
        "remove it: sdk.finish writes there",
        text,
    ),
    "terminationMessagePolicy": _of_script(
        "remove it: sdk.finish writes a file", one_of(("File", "FallbackToLogsOnError"))
    ),
    "restartPolicy": _restart_policy,
    "restartPolicyRules": refused(
        "a container must not be restarted in its pod", "remove it: studyflow repeats attempts"
    ),
    "resizePolicy": anything,
    "stdin": flag,
    "stdinOnce": flag,
    "tty": flag,
}
_CONTAINER: Final = mapping(_FIELDS, "a container")


def containers(*, is_init: bool) -> Rule:
    """Return the rule for one of a pod's two lists of containers."""

    def rule(value: Any, path: Path, view: View) -> Iterator[BrokenRule]:
        def judge(value: Any, path: Path, view: View) -> Iterator[BrokenRule]:
            name = field_of(value, "name")
            is_script = name == CONTAINER and not is_init
            if not (is_script or view.platform.extra_containers):
                message = (
                    "a pod must have the script's container alone here, but it has "
                    f"{show(name)} too"
                )
                yield forbid(path, message, view, "extra_containers: true")
            inner = replace(view, is_script=is_script, is_init=is_init)
            yield from _CONTAINER(value, path, inner)

        yield from named_items(judge)(value, path, view)

    return rule


def names_twice(pod: Any, path: Path) -> Iterator[BrokenRule]:
    """Look for a name in both lists of containers; the script's is taken in any case."""
    taken = {CONTAINER, *_names(field_of(pod, "containers"))}
    for i, name in enumerate(_names(field_of(pod, "initContainers"))):
        if name in taken:
            yield refuse(
                (*path, "initContainers", i, "name"),
                f"containers of one pod must differ in their names, but {name!r} is taken",
                "rename it",
            )


def _names(containers: Any) -> list[str]:
    names = [field_of(item, "name") for item in entries_of(containers)]
    return [name if isinstance(name, str) else "" for name in names]

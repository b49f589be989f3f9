"""Rules for security contexts: those of Pod Security's "restricted" standard, and a little more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from studyflow.spec.pods.walking import (
    Table,
    View,
    items,
    mapping,
    one_of,
    only,
    refuse,
    refused,
    show,
    text,
    whole,
)
from studyflow.spec.problems import BrokenRule, Path

_USER: Final = whole(
    1,
    "user 0 is root, on the node too: choose another, or trial.kubernetes.run_as_user",
    at_most=2**31 - 1,
)
_GROUP: Final = whole(1, "group 0 is root's, on the node too: choose another", at_most=2**31 - 1)

_RUNTIME_DEFAULT: Final = mapping(
    {
        "type": only(
            "RuntimeDefault", "remove it: the container runtime's profile holds for every trial"
        )
    },
    "a profile",
)

SELINUX_TYPES: Final = ("container_t", "container_init_t", "container_kvm_t")
"""Types that confine a container."""

_SELINUX: Final = mapping(
    {
        "type": one_of(SELINUX_TYPES),
        "level": text,
        "user": refused("a trial's pod must not choose an SELinux user", "remove it"),
        "role": refused("a trial's pod must not choose an SELinux role", "remove it"),
    },
    "SELinux options",
)

_WINDOWS: Final = refused("a trial's pod must run on Linux", "remove windowsOptions")

_COMMON: Final[Table] = {
    "runAsNonRoot": only(True, "remove it: no trial runs as root"),
    "runAsUser": _USER,
    "runAsGroup": _GROUP,
    "seccompProfile": _RUNTIME_DEFAULT,
    "appArmorProfile": _RUNTIME_DEFAULT,
    "seLinuxOptions": _SELINUX,
    "windowsOptions": _WINDOWS,
}

SAFE_SYSCTLS: Final = (
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_syncookies",
)
"""Kernel settings that Kubernetes calls safe: they belong to the pod."""

POD_SECURITY: Final = mapping(
    {
        **_COMMON,
        "fsGroup": _GROUP,
        "fsGroupChangePolicy": one_of(("OnRootMismatch", "Always")),
        "supplementalGroups": items(_GROUP),
        "supplementalGroupsPolicy": one_of(("Merge", "Strict")),
        "seLinuxChangePolicy": one_of(("MountOption", "Recursive")),
        "sysctls": items(
            mapping(
                {
                    "name": one_of(SAFE_SYSCTLS, "the others belong to the node"),
                    "value": text,
                },
                "a kernel setting",
            )
        ),
    },
    "a pod's security context",
)


def _dropped(value: Any, path: Path, view: View) -> Iterator[BrokenRule]:
    yield from items(text)(value, path, view)
    if isinstance(value, list | tuple) and "ALL" not in value:
        yield refuse(path, f"must hold 'ALL', but it is {list(value)[:9]!r}", "write [ALL]")


def _added(value: Any, path: Path, view: View) -> Iterator[BrokenRule]:  # noqa: ARG001
    if value != []:
        named = ", ".join(map(str, value)) if isinstance(value, list) else show(value)
        message = f"a container must have no capabilities, but it adds {named[:100]}"
        yield refuse(path, message, "remove it; a program that needs one cannot be a trial")


CONTAINER_SECURITY: Final = mapping(
    {
        **_COMMON,
        "allowPrivilegeEscalation": only(False, "remove it: no container gains rights"),
        "privileged": only(False, "remove it: a privileged container owns its node"),
        "capabilities": mapping({"drop": _dropped, "add": _added}, "capabilities"),
        "procMount": only("Default", "remove it: /proc stays masked"),
        "readOnlyRootFilesystem": only(
            True, "remove it: /tmp is writable, and trial.kubernetes.volumes add more (empty_dir)"
        ),
    },
    "a container's security context",
)

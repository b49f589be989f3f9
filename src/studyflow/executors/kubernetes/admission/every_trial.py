"""The rules that hold for every trial's pod, whatever the platform allows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from studyflow.executors.kubernetes.admission.cel import (
    Validation,
    all_of,
    any_of,
    listed,
    literal,
    unset_or,
)
from studyflow.executors.kubernetes.names import COMMON_LABELS
from studyflow.spec.pods.metadata import ORDER_DOMAINS, ORDER_NAMES
from studyflow.spec.pods.ours import (
    CONTAINER,
    DEVICE_FOLDER,
    DEVICE_VARIABLES,
    NO_DEVICES,
    TERMINATION_PATH,
)
from studyflow.spec.pods.security import SAFE_SYSCTLS, SELINUX_TYPES
from studyflow.spec.pods.sources import HARMLESS_FIELD
from studyflow.spec.pods.volumes import VOLUME_KINDS
from studyflow.trial import TRIAL_VARIABLE

_ORDERS: Final = literal(
    rf"^([a-z0-9.-]+\.)?{any_of(ORDER_DOMAINS)}/|^{any_of(ORDER_NAMES)}"
    r"|^(container\.)?(apparmor|seccomp)\.security\."
)

_FIELD: Final = literal(f"^({HARMLESS_FIELD})$")

VARIABLES: Final[Mapping[str, str]] = {
    "pod": "object.spec",
    "containers": "object.spec.containers + "
    "(has(object.spec.initContainers) ? object.spec.initContainers : [])",
    "volumes": "has(object.spec.volumes) ? object.spec.volumes : []",
    "labels": "has(object.metadata.labels) ? object.metadata.labels : {}",
    "annotations": "has(object.metadata.annotations) ? object.metadata.annotations : {}",
    "env": "(object.spec.containers + "
    "(has(object.spec.initContainers) ? object.spec.initContainers : []))"
    ".filter(c, has(c.env)).map(c, c.env.filter(e, has(e.valueFrom)))",
    "sources": "(has(object.spec.volumes) ? object.spec.volumes : [])"
    ".filter(v, has(v.projected) && has(v.projected.sources)).map(v, v.projected.sources)",
}

_SECURITY: Final = "has(c.securityContext)"


def _handlers() -> Iterator[str]:
    """Yield the conditions that no probe and no hook names a host."""
    probes = [f"c.{name}" for name in ("livenessProbe", "readinessProbe", "startupProbe")]
    hooks = [f"c.lifecycle.{name}" for name in ("postStart", "preStop")]
    for handler in (*probes, *hooks):
        for kind in ("httpGet", "tcpSocket"):
            path = f"{handler}.{kind}"
            has = [f"!has({handler})", f"!has({path})", f"!has({path}.host)"]
            if handler in hooks:
                has.insert(0, "!has(c.lifecycle)")
            yield f"({' || '.join(has)})"


def _selinux(context: str) -> str:
    """Return the condition that a security context keeps to the types that confine containers."""
    options = f"{context}.seLinuxOptions"
    return (
        f"(!has({options}) || (!has({options}.user) && !has({options}.role) && "
        f"(!has({options}.type) || {options}.type in {listed(SELINUX_TYPES)})))"
    )


RULES: Final[tuple[Validation, ...]] = (
    Validation(
        " && ".join(
            f"'{key}' in variables.labels && variables.labels['{key}'] == '{value}'"
            for key, value in COMMON_LABELS.items()
        ),
        "a trial's pod must have the labels of a trial",
    ),
    Validation(
        "variables.labels.all(k, !k.startsWith('app.kubernetes.io/') || k in "
        f"{listed(COMMON_LABELS)})",
        "a trial's pod must have no other labels app.kubernetes.io/*",
    ),
    Validation(
        f"!variables.labels.exists(k, k.matches({_ORDERS})) && "
        f"!variables.annotations.exists(k, k.matches({_ORDERS}))",
        "a trial's pod must give no orders to network plugins, runtimes or identity webhooks",
    ),
    Validation(
        "has(variables.pod.automountServiceAccountToken) && "
        "variables.pod.automountServiceAccountToken == false",
        "a trial's pod must not mount a service account's token",
    ),
    Validation(
        all_of(
            "v",
            " || ".join(f"has(v.{kind})" for kind in VOLUME_KINDS),
            "volumes",
        ),
        f"volumes of a trial's pod must be one of {', '.join(VOLUME_KINDS)}",
    ),
    Validation(
        "variables.sources.all(l, l.all(s, has(s.configMap) || has(s.secret) || "
        "has(s.downwardAPI)))",
        "a trial's pod must not get tokens or certificates as files",
    ),
    Validation(
        " && ".join(
            f"({unset_or(f'variables.pod.{name}', f'variables.pod.{name} == false')})"
            for name in ("hostNetwork", "hostPID", "hostIPC", "hostUsers")
        ),
        "a trial's pod must not share its node's network, processes, memory or users",
    ),
    Validation(
        unset_or("variables.pod.nodeName", "variables.pod.nodeName == ''"),
        "a trial's pod must not name its node",
    ),
    Validation(
        "variables.pod.restartPolicy == 'Never'",
        "a trial's pod must not restart its containers",
    ),
    Validation(
        unset_or(
            "variables.pod.priorityClassName",
            "!variables.pod.priorityClassName.startsWith('system-')",
        ),
        "a trial's pod must not have a priority of the cluster's own parts",
    ),
    Validation(
        "has(variables.pod.securityContext) && "
        "has(variables.pod.securityContext.runAsNonRoot) && "
        "variables.pod.securityContext.runAsNonRoot && "
        "has(variables.pod.securityContext.seccompProfile) && "
        "variables.pod.securityContext.seccompProfile.type == 'RuntimeDefault' && "
        "(!has(variables.pod.securityContext.runAsUser) || "
        "variables.pod.securityContext.runAsUser > 0) && "
        "!has(variables.pod.securityContext.windowsOptions) && "
        "(!has(variables.pod.securityContext.appArmorProfile) || "
        "variables.pod.securityContext.appArmorProfile.type == 'RuntimeDefault')",
        "a trial's pod must not run as root, and under the container runtime's profiles",
    ),
    Validation(
        "!has(variables.pod.securityContext) || "
        "((!has(variables.pod.securityContext.runAsGroup) || "
        "variables.pod.securityContext.runAsGroup > 0) && "
        "(!has(variables.pod.securityContext.fsGroup) || "
        "variables.pod.securityContext.fsGroup > 0) && "
        "(!has(variables.pod.securityContext.supplementalGroups) || "
        "variables.pod.securityContext.supplementalGroups.all(g, g > 0)) && "
        "(!has(variables.pod.securityContext.sysctls) || "
        f"variables.pod.securityContext.sysctls.all(s, s.name in {listed(SAFE_SYSCTLS)})) && "
        f"{_selinux('variables.pod.securityContext')})",
        "a trial's pod must not have root's group, unsafe kernel settings or another SELinux type",
    ),
    Validation(
        "!has(variables.pod.resourceClaims) || size(variables.pod.resourceClaims) == 0",
        "a trial must ask for devices by counting them",
    ),
    Validation(
        all_of("c", f"{_SECURITY} && {_selinux('c.securityContext')}", "containers"),
        "no container of a trial's pod may have another SELinux type",
    ),
    Validation(
        all_of(
            "c",
            f"{_SECURITY} && has(c.securityContext.allowPrivilegeEscalation) && "
            "!c.securityContext.allowPrivilegeEscalation && "
            "(!has(c.securityContext.privileged) || !c.securityContext.privileged) && "
            "(!has(c.securityContext.procMount) || c.securityContext.procMount == 'Default') && "
            "!has(c.securityContext.windowsOptions)",
            "containers",
        ),
        "no container of a trial's pod may be privileged or gain rights",
    ),
    Validation(
        all_of(
            "c",
            f"{_SECURITY} && has(c.securityContext.capabilities) && "
            "has(c.securityContext.capabilities.drop) && "
            "'ALL' in c.securityContext.capabilities.drop && "
            "(!has(c.securityContext.capabilities.add) || "
            "size(c.securityContext.capabilities.add) == 0)",
            "containers",
        ),
        "every container of a trial's pod must drop all capabilities, and add none",
    ),
    Validation(
        all_of(
            "c",
            f"{_SECURITY} && has(c.securityContext.runAsNonRoot) && "
            "c.securityContext.runAsNonRoot && "
            "(!has(c.securityContext.runAsUser) || c.securityContext.runAsUser > 0) && "
            "has(c.securityContext.readOnlyRootFilesystem) && "
            "c.securityContext.readOnlyRootFilesystem",
            "containers",
        ),
        "every container of a trial's pod must run as another user than root, on a root file "
        "system that is read-only",
    ),
    Validation(
        all_of(
            "c",
            f"{_SECURITY} && has(c.securityContext.seccompProfile) && "
            "c.securityContext.seccompProfile.type == 'RuntimeDefault' && "
            "(!has(c.securityContext.appArmorProfile) || "
            "c.securityContext.appArmorProfile.type == 'RuntimeDefault')",
            "containers",
        ),
        "every container of a trial's pod must run under the container runtime's profiles",
    ),
    Validation(
        all_of(
            "c",
            "!has(c.ports) || c.ports.all(p, !has(p.hostPort) || p.hostPort == 0)",
            "containers",
        ),
        "a trial's pod must not take ports of its node",
    ),
    Validation(
        all_of(
            "c",
            f"!has(c.env) || c.env.all(e, !(e.name in {listed(DEVICE_VARIABLES)}) || "
            f"(has(e.value) && e.value in {listed(NO_DEVICES)}))",
            "containers",
        )
        + " && "
        + all_of(
            "c",
            "!has(c.volumeMounts) || c.volumeMounts.all(m, "
            f"!m.mountPath.contains({literal(DEVICE_FOLDER.rpartition('/')[2])}))",
            "containers",
        ),
        "a trial must ask for devices by counting them, not of its node's container runtime",
    ),
    Validation(
        all_of("c", "!has(c.volumeDevices)", "containers"),
        "a trial's pod must not use raw devices",
    ),
    Validation(
        all_of(
            "c",
            "!has(c.volumeMounts) || c.volumeMounts.all(m, !has(m.mountPropagation) || "
            "m.mountPropagation == 'None')",
            "containers",
        ),
        "mounts of a trial's pod must not reach its node",
    ),
    Validation(
        all_of("c", " && ".join(_handlers()), "containers"),
        "a probe or hook of a trial's pod must ask its own pod",
    ),
    Validation(
        "variables.env.all(l, l.all(e, !has(e.valueFrom.fieldRef) || "
        f"e.valueFrom.fieldRef.fieldPath.matches({_FIELD}))) && "
        "variables.volumes.all(v, !has(v.downwardAPI) || !has(v.downwardAPI.items) || "
        "v.downwardAPI.items.all(i, !has(i.fieldRef) || "
        f"i.fieldRef.fieldPath.matches({_FIELD}))) && "
        "variables.sources.all(l, l.all(s, !has(s.downwardAPI) || !has(s.downwardAPI.items) || "
        "s.downwardAPI.items.all(i, !has(i.fieldRef) || "
        f"i.fieldRef.fieldPath.matches({_FIELD}))))",
        "a trial must not learn of its node",
    ),
    Validation(
        f"variables.pod.containers.exists_one(c, c.name == '{CONTAINER}' && "
        f"has(c.terminationMessagePath) && c.terminationMessagePath == '{TERMINATION_PATH}' && "
        f"has(c.env) && c.env.exists_one(e, e.name == '{TRIAL_VARIABLE}'))",
        f"a trial's pod must have the container {CONTAINER!r}, with its trial and its outcome",
    ),
)

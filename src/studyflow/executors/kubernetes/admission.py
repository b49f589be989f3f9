"""The rules for trials' pods as a ValidatingAdmissionPolicy, which the API server itself enforces.

The runner refuses a study file that breaks a rule, but whoever may create Jobs among the trials can
do so without a runner. The policy holds for every pod of such a namespace. It needs Kubernetes
1.30.

It looks at pods, since nothing comes after them. What the API server or its plugins add to them is
allowed; a sidecar that a webhook injects has to keep the rules too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from studyflow.executors.kubernetes.names import COMMON_LABELS
from studyflow.spec.pods import Platform
from studyflow.spec.pods.images import prefix
from studyflow.spec.pods.metadata import ORDER_DOMAINS, ORDER_NAMES
from studyflow.spec.pods.ours import CONTAINER, TERMINATION_PATH
from studyflow.spec.pods.placement import HOST_LABEL
from studyflow.spec.pods.platform import LISTS, SERVERS
from studyflow.spec.pods.security import SAFE_SYSCTLS, SELINUX_TYPES
from studyflow.spec.pods.volumes import VOLUME_KINDS
from studyflow.trial import TRIAL_VARIABLE

POLICY_NAME: Final = "studyflow-trials"

TRIALS: Final[Mapping[str, str]] = {"studyflow.dev/holds": "trials"}
"""The label of the namespaces that hold trials."""

_ADDED_TAINTS: Final = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
"""Taints that the API server lets every pod tolerate for a while."""


def _escaped(text: str) -> str:
    """Return the pattern of a text."""
    return re.escape(text).replace(r"\-", "-")


def _any_of(texts: Iterable[str]) -> str:
    return f"({'|'.join(map(_escaped, texts))})"


def _literal(text: str) -> str:
    """Return a text as CEL writes it."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _listed(texts: Iterable[str]) -> str:
    return f"[{', '.join(map(_literal, texts))}]"


_ORDERS: Final = _literal(
    rf"^([a-z0-9.-]+\.)?{_any_of(ORDER_DOMAINS)}/|^{_any_of(ORDER_NAMES)}"
    r"|^(container\.)?(apparmor|seccomp)\.security\."
)

_FIELD: Final = _literal(
    r"^(metadata\.(name|namespace|uid|labels|annotations)(\[.*\])?|status\.podIPs?)$"
)


class Validation(NamedTuple):
    """What must hold of a pod."""

    expression: str
    """The condition, in CEL."""
    message: str
    """What is told to whoever creates a pod that does not meet it."""


def admission_policy(platform: Platform) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the policy and its binding to the namespaces of trials.

    Args:
        platform: What the platform allows besides what holds of every trial.
    """
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": POLICY_NAME},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "resourceRules": [
                    {
                        "apiGroups": [""],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE"],
                        "resources": ["pods"],
                    }
                ]
            },
            "variables": [{"name": n, "expression": e} for n, e in _VARIABLES.items()],
            "validations": [
                {"expression": expression, "message": message, "reason": "Forbidden"}
                for expression, message in (*_RULES, *_platform_rules(platform))
            ],
        },
    }
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": POLICY_NAME},
        "spec": {
            "policyName": POLICY_NAME,
            "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": {"matchLabels": dict(TRIALS)}},
        },
    }
    return policy, binding


def _all(each: str, condition: str, of: str) -> str:
    """Return the condition that holds for all entries of a list of a pod's."""
    return f"variables.{of}.all({each}, {condition})"


def _unset_or(path: str, condition: str) -> str:
    return f"!has({path}) || {condition}"


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
        f"(!has({options}.type) || {options}.type in {_listed(SELINUX_TYPES)})))"
    )


_VARIABLES: Final[Mapping[str, str]] = {
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

_RULES: Final[tuple[Validation, ...]] = (
    Validation(
        " && ".join(
            f"'{key}' in variables.labels && variables.labels['{key}'] == '{value}'"
            for key, value in COMMON_LABELS.items()
        ),
        "a trial's pod must have the labels of a trial",
    ),
    Validation(
        "variables.labels.all(k, !k.startsWith('app.kubernetes.io/') || k in "
        f"{_listed(COMMON_LABELS)})",
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
        _all(
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
            f"({_unset_or(f'variables.pod.{name}', f'variables.pod.{name} == false')})"
            for name in ("hostNetwork", "hostPID", "hostIPC", "hostUsers")
        ),
        "a trial's pod must not share its node's network, processes, memory or users",
    ),
    Validation(
        _unset_or("variables.pod.nodeName", "variables.pod.nodeName == ''"),
        "a trial's pod must not name its node",
    ),
    Validation(
        "variables.pod.restartPolicy == 'Never'",
        "a trial's pod must not restart its containers",
    ),
    Validation(
        _unset_or(
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
        f"variables.pod.securityContext.sysctls.all(s, s.name in {_listed(SAFE_SYSCTLS)})) && "
        f"{_selinux('variables.pod.securityContext')})",
        "a trial's pod must not have root's group, unsafe kernel settings or another SELinux type",
    ),
    Validation(
        "!has(variables.pod.resourceClaims) || size(variables.pod.resourceClaims) == 0",
        "a trial must ask for devices by counting them",
    ),
    Validation(
        _all("c", f"{_SECURITY} && {_selinux('c.securityContext')}", "containers"),
        "no container of a trial's pod may have another SELinux type",
    ),
    Validation(
        _all(
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
        _all(
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
        _all(
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
        _all(
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
        _all(
            "c",
            "!has(c.ports) || c.ports.all(p, !has(p.hostPort) || p.hostPort == 0)",
            "containers",
        ),
        "a trial's pod must not take ports of its node",
    ),
    Validation(
        _all("c", "!has(c.volumeDevices)", "containers"),
        "a trial's pod must not use raw devices",
    ),
    Validation(
        _all(
            "c",
            "!has(c.volumeMounts) || c.volumeMounts.all(m, !has(m.mountPropagation) || "
            "m.mountPropagation == 'None')",
            "containers",
        ),
        "mounts of a trial's pod must not reach its node",
    ),
    Validation(
        _all("c", " && ".join(_handlers()), "containers"),
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


def _named(platform: Platform, kind: str, value: str) -> str | None:
    """Return the condition that trials may use something by its name; `None` for any."""
    listed: Sequence[str] | None = getattr(platform, LISTS[kind])
    of_servers = SERVERS.get(kind)
    no_server = f"!{value}.matches({_literal(f'^({of_servers})$')})" if of_servers else ""
    if listed is None:
        return no_server or None
    exact = [name for name in listed if "*" not in name]
    patterns = [_escaped(name).replace(r"\*", ".*") for name in listed if "*" in name]
    condition = f"{value} in {_listed(exact)}"
    if patterns:
        matched = f"{value}.matches({_literal('^(' + '|'.join(patterns) + ')$')})"
        condition += f" || ({matched} && {no_server})" if no_server else f" || {matched}"
    return f"({condition})"


def _platform_rules(platform: Platform) -> Iterator[Validation]:
    ask = f"; ask {platform.contact}"
    for kind, places in _PLACES.items():
        for value, around in places:
            condition = _named(platform, kind, value)
            if condition is not None:
                yield Validation(around.format(condition), f"a trial must not use this {kind}{ask}")
    if platform.images is not None:
        yield Validation(
            _all("c", _from(platform.images), "containers"),
            f"images of trials must come from {', '.join(platform.images) or 'nowhere'}{ask}",
        )
    if platform.node_selectors is not None:
        yield from _node_rules(platform.node_selectors, ask)
    if platform.tolerations is not None:
        yield _toleration_rule(platform, ask)
    for name, most in platform.max_resources.items():
        told = f"a trial must ask for at most {most} of {name}{ask}"
        yield Validation(_resource_rule(name, most), told)
    if not platform.extra_containers:
        yield Validation(
            "size(variables.containers) == 1",
            f"a trial's pod must have its script's container alone{ask}",
        )


_OF_RESOURCES: Final = (
    "(has(t.key) && variables.containers.exists(c, has(c.resources) && "
    "has(c.resources.limits) && t.key in c.resources.limits))"
)
"""A plugin of the API server lets pods tolerate the taints of what they ask for."""

_ENV_FROM: Final = (
    "variables.containers.all(c, !has(c.envFrom) || c.envFrom.all(f, !has(f.secretRef) || {}))"
)

_PLACES: Final[Mapping[str, Sequence[tuple[str, str]]]] = {
    "service account": (
        (
            "variables.pod.serviceAccountName",
            "!has(variables.pod.serviceAccountName) || {}",
        ),
    ),
    "Secret": (
        (
            "e.valueFrom.secretKeyRef.name",
            "variables.env.all(l, l.all(e, !has(e.valueFrom.secretKeyRef) || {}))",
        ),
        ("f.secretRef.name", _ENV_FROM),
        ("v.secret.secretName", "variables.volumes.all(v, !has(v.secret) || {})"),
        ("s.secret.name", "variables.sources.all(l, l.all(s, !has(s.secret) || {}))"),
        (
            "p.name",
            "!has(variables.pod.imagePullSecrets) || variables.pod.imagePullSecrets.all(p, {})",
        ),
    ),
    "claim": (
        (
            "v.persistentVolumeClaim.claimName",
            "variables.volumes.all(v, !has(v.persistentVolumeClaim) || {})",
        ),
    ),
    "priority class": (
        (
            "variables.pod.priorityClassName",
            "!has(variables.pod.priorityClassName) || {}",
        ),
    ),
    "runtime class": (
        ("variables.pod.runtimeClassName", "!has(variables.pod.runtimeClassName) || {}"),
    ),
    "scheduler": (("variables.pod.schedulerName", "!has(variables.pod.schedulerName) || {}"),),
}
"""Where a pod names things: the expression of the name, and the condition around a name's own."""


def _from(prefixes: Sequence[str]) -> str:
    """Return the condition that a container's image comes from one of these registries."""
    conditions = [_lies_in(*parts) for text in prefixes if (parts := prefix(text)) is not None]
    return " || ".join(conditions) or "false"


def _lies_in(host: str, *folders: str) -> str:
    """Return the condition that an image lies in a registry, or in a folder of it.

    Images whose name begins without a registry are Docker Hub's, in `library` without a folder.
    """
    below, end = "/".join(map(_escaped, folders)), "(/|:|@|$)"
    if host != "docker.io":
        return _matches(f"^{_escaped(host)}/{below}{end}" if folders else f"^{_escaped(host)}/")
    hub = r"((index\.|registry-1\.)?docker\.io/)"
    if not folders:
        other = f"({_matches('^[^/.:]+/')} && !c.image.startsWith('localhost/'))"
        return f"{_matches(f'^{hub}|^[^/]+$')} || {other}"
    if folders == ("library",):
        return _matches(f"^{hub}?(library/|[^/]+$)")
    if folders[0] == "library":
        rest = "/".join(map(_escaped, folders[1:]))
        return _matches(f"^{hub}?(library/)?{rest}{end}")
    return _matches(f"^{hub}?{below}{end}")


def _matches(pattern: str) -> str:
    return f"c.image.matches({_literal(pattern)})"


def _node_rules(selectors: Mapping[str, Sequence[str]], ask: str) -> Iterator[Validation]:
    known = _listed(selectors)
    limited = {key: values for key, values in selectors.items() if values}
    values = " && ".join(
        f"(k != {_literal(key)} || variables.pod.nodeSelector[k] in {_listed(allowed)})"
        for key, allowed in limited.items()
    )
    condition = f"k in {known}" + (f" && {values}" if values else "")
    message = f"nodes of trials must be chosen by labels for trials{ask}"
    yield Validation(
        f"!has(variables.pod.nodeSelector) || variables.pod.nodeSelector.all(k, {condition})",
        message,
    )
    expressions = " && ".join(
        f"(x.key != {_literal(key)} || (x.operator == 'In' && x.values.all(w, w in "
        f"{_listed(allowed)})))"
        for key, allowed in limited.items()
    )
    expression = f"(x.key == {_literal(HOST_LABEL)} && x.operator == 'NotIn') || "
    expression += f"(x.key in {known}" + (f" && {expressions})" if expressions else ")")
    term = (
        f"(!has(t.matchExpressions) || t.matchExpressions.all(x, {expression})) && "
        "!has(t.matchFields)"
    )
    affinity = "variables.pod.affinity.nodeAffinity"
    required = f"{affinity}.requiredDuringSchedulingIgnoredDuringExecution"
    preferred = f"{affinity}.preferredDuringSchedulingIgnoredDuringExecution"
    none = f"!has(variables.pod.affinity) || !has({affinity})"
    yield Validation(
        f"{none} || !has({required}) || {required}.nodeSelectorTerms.all(t, {term})",
        message,
    )
    of_preference = term.replace("t.match", "t.preference.match")
    expression = f"{none} || !has({preferred}) || {preferred}.all(t, {of_preference})"
    yield Validation(expression, message)


def _toleration_rule(platform: Platform, ask: str) -> Validation:
    allowed = [
        f"(has(t.key) && t.key in {_listed(_ADDED_TAINTS)})",
        _OF_RESOURCES,
    ]
    for one in platform.tolerations or ():
        conditions = []
        if one.key is not None:
            conditions.append(f"has(t.key) && t.key == {_literal(one.key)}")
            if one.value is not None:
                conditions.append("(!has(t.operator) || t.operator == 'Equal')")
                conditions.append(f"has(t.value) && t.value == {_literal(one.value)}")
        if one.effect is not None:
            conditions.append(f"has(t.effect) && t.effect == {_literal(one.effect)}")
        allowed.append(f"({' && '.join(conditions) or 'true'})")
    condition = " || ".join(allowed)
    return Validation(
        f"!has(variables.pod.tolerations) || variables.pod.tolerations.all(t, {condition})",
        f"taints that trials tolerate must be for trials{ask}",
    )


def _resource_rule(name: str, most: str) -> str:
    """Return the condition that a pod asks for no more than this.

    Containers that run beside each other are summed, and every init container is looked at alone.
    """
    limits = "c.resources.limits"
    stated = f"has(c.resources) && has({limits})"
    if name == "gpu":
        amount = (
            f"({stated} ? {limits}.map(k, k.contains('/') ? "
            f"quantity({limits}[k]).asApproximateFloat() : 0.0).sum() : 0.0)"
        )
    else:
        amount = (
            f"({stated} && {_literal(name)} in {limits} ? "
            f"quantity({limits}[{_literal(name)}]).asApproximateFloat() : 0.0)"
        )
    bound = f"quantity({_literal(most)}).asApproximateFloat()"
    beside = f"variables.pod.containers.map(c, {amount}).sum()"
    sidecars = (
        "(has(variables.pod.initContainers) ? variables.pod.initContainers.map(c, "
        f"has(c.restartPolicy) && c.restartPolicy == 'Always' ? {amount} : 0.0).sum() : 0.0)"
    )
    each = f"variables.containers.all(c, {amount} <= {bound})"
    rule = f"{each} && {beside} + {sidecars} <= {bound}"
    if name in ("cpu", "memory"):
        rule = f"{_all('c', f'{stated} && {_literal(name)} in {limits}', 'containers')} && {rule}"
    return rule

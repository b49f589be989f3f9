"""The rules for trials' pods that the platform's own file makes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from studyflow.executors.kubernetes.admission.cel import (
    Validation,
    all_of,
    escaped,
    listed,
    literal,
)
from studyflow.spec.pods import Platform
from studyflow.spec.pods.images import prefix
from studyflow.spec.pods.placement import HOST_LABEL
from studyflow.spec.pods.platform import LISTS, SERVERS

_ADDED_TAINTS: Final = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
"""Taints that the API server lets every pod tolerate for a while."""

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


def platform_rules(platform: Platform) -> Iterator[Validation]:
    """Yield what must hold of a trial's pod because this platform says so."""
    ask = f"; ask {platform.contact}"
    for kind, places in _PLACES.items():
        for value, around in places:
            condition = _named(platform, kind, value)
            if condition is not None:
                yield Validation(around.format(condition), f"a trial must not use this {kind}{ask}")
    if platform.images is not None:
        yield Validation(
            all_of("c", _from(platform.images), "containers"),
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


def _named(platform: Platform, kind: str, value: str) -> str | None:
    """Return the condition that trials may use something by its name; `None` for any."""
    names: Sequence[str] | None = getattr(platform, LISTS[kind])
    of_servers = SERVERS.get(kind)
    no_server = f"!{value}.matches({literal(f'^({of_servers})$')})" if of_servers else ""
    if names is None:
        return no_server or None
    exact = [name for name in names if "*" not in name]
    patterns = [escaped(name).replace(r"\*", ".*") for name in names if "*" in name]
    condition = f"{value} in {listed(exact)}"
    if patterns:
        matched = f"{value}.matches({literal('^(' + '|'.join(patterns) + ')$')})"
        condition += f" || ({matched} && {no_server})" if no_server else f" || {matched}"
    return f"({condition})"


def _from(prefixes: Sequence[str]) -> str:
    """Return the condition that a container's image comes from one of these registries."""
    conditions = [_lies_in(*parts) for text in prefixes if (parts := prefix(text)) is not None]
    return " || ".join(conditions) or "false"


def _lies_in(host: str, *folders: str) -> str:
    """Return the condition that an image lies in a registry, or in a folder of it.

    Images whose name begins without a registry are Docker Hub's, in `library` without a folder.
    """
    below, end = "/".join(map(escaped, folders)), "(/|:|@|$)"
    if host != "docker.io":
        return _matches(f"^{escaped(host)}/{below}{end}" if folders else f"^{escaped(host)}/")
    hub = r"((index\.|registry-1\.)?docker\.io/)"
    if not folders:
        other = f"({_matches('^[^/.:]+/')} && !c.image.startsWith('localhost/'))"
        return f"{_matches(f'^{hub}|^[^/]+$')} || {other}"
    if folders == ("library",):
        return _matches(f"^{hub}?(library/|[^/]+$)")
    if folders[0] == "library":
        rest = "/".join(map(escaped, folders[1:]))
        return _matches(f"^{hub}?(library/)?{rest}{end}")
    return _matches(f"^{hub}?{below}{end}")


def _matches(pattern: str) -> str:
    return f"c.image.matches({literal(pattern)})"


def _node_rules(selectors: Mapping[str, Sequence[str]], ask: str) -> Iterator[Validation]:
    known = listed(selectors)
    limited = {key: values for key, values in selectors.items() if values}
    values = " && ".join(
        f"(k != {literal(key)} || variables.pod.nodeSelector[k] in {listed(allowed)})"
        for key, allowed in limited.items()
    )
    condition = f"k in {known}" + (f" && {values}" if values else "")
    message = f"nodes of trials must be chosen by labels for trials{ask}"
    yield Validation(
        f"!has(variables.pod.nodeSelector) || variables.pod.nodeSelector.all(k, {condition})",
        message,
    )
    expressions = " && ".join(
        f"(x.key != {literal(key)} || (x.operator == 'In' && x.values.all(w, w in "
        f"{listed(allowed)})))"
        for key, allowed in limited.items()
    )
    expression = f"(x.key == {literal(HOST_LABEL)} && x.operator == 'NotIn') || "
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
        f"(has(t.key) && t.key in {listed(_ADDED_TAINTS)})",
        _OF_RESOURCES,
    ]
    for one in platform.tolerations or ():
        conditions = []
        if one.key is not None:
            conditions.append(f"has(t.key) && t.key == {literal(one.key)}")
            if one.value is not None:
                conditions.append("(!has(t.operator) || t.operator == 'Equal')")
                conditions.append(f"has(t.value) && t.value == {literal(one.value)}")
        if one.effect is not None:
            conditions.append(f"has(t.effect) && t.effect == {literal(one.effect)}")
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
            f"({stated} && {literal(name)} in {limits} ? "
            f"quantity({limits}[{literal(name)}]).asApproximateFloat() : 0.0)"
        )
    bound = f"quantity({literal(most)}).asApproximateFloat()"
    beside = f"variables.pod.containers.map(c, {amount}).sum()"
    sidecars = (
        "(has(variables.pod.initContainers) ? variables.pod.initContainers.map(c, "
        f"has(c.restartPolicy) && c.restartPolicy == 'Always' ? {amount} : 0.0).sum() : 0.0)"
    )
    each = f"variables.containers.all(c, {amount} <= {bound})"
    rule = f"{each} && {beside} + {sidecars} <= {bound}"
    if name in ("cpu", "memory"):
        rule = f"{all_of('c', f'{stated} && {literal(name)} in {limits}', 'containers')} && {rule}"
    return rule

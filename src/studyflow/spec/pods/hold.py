"""What must hold of every trial's pod, put on last: it wins over whatever a patch has said."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from studyflow.spec.pods.looking import entries_of, field_of
from studyflow.spec.pods.metadata import owner_of
from studyflow.spec.pods.ours import (
    CONTAINER,
    TOKEN_VARIABLE,
    is_own_variable,
    is_own_volume,
    own_path_at,
)

_POD_FIELDS: Final = (
    "restartPolicy",
    "automountServiceAccountToken",
    "serviceAccountName",
    "terminationGracePeriodSeconds",
)
"""Fields of the pod that are what studyflow made them, or absent."""

_POD_NEVER: Final = (
    "serviceAccount",
    "nodeName",
    "hostNetwork",
    "hostPID",
    "hostIPC",
    "hostUsers",
    "ephemeralContainers",
    "resourceClaims",
    "priority",
)
"""Fields that no trial's pod has; absent, each has its safe value. `hostUsers: false` is kept."""

_SCRIPT_FIELDS: Final = (
    "image",
    "command",
    "args",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "restartPolicy",
)

_CONTEXT: Final[dict[str, Any]] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""What every container's security context says."""

_CONTEXT_NEVER: Final = ("privileged", "procMount", "windowsOptions", "appArmorProfile")


def container_security() -> dict[str, Any]:
    """Return the security context that every container of a trial's pod has."""
    return copy.deepcopy(_CONTEXT)


def hold(template: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """Return a patched template with all that must hold of it. Neither argument is changed.

    What is of no form that the API takes is left to the rules, which refuse it.

    Args:
        template: The template with the study file's patch.
        base: The template before it, as studyflow made it; its labels and annotations are
            studyflow's own alone.
    """
    metadata = _mapping(template.get("metadata"))
    return {
        **template,
        "metadata": {
            **metadata,
            "labels": _keys(metadata.get("labels"), base["metadata"]["labels"], is_label=True),
            "annotations": _keys(
                metadata.get("annotations"), base["metadata"]["annotations"], is_label=False
            ),
        },
        "spec": _pod(_mapping(template.get("spec")), base["spec"]),
    }


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _keys(given: Any, own: Mapping[str, str], *, is_label: bool) -> dict[str, Any]:
    """Return labels or annotations: a study's own beside those that studyflow has set."""
    studys = {
        key: value
        for key, value in _mapping(given).items()
        if not isinstance(key, str) or owner_of(key, is_label=is_label) is None
    }
    return {**studys, **own}


def _pod(pod: dict[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    user_namespace = pod.get("hostUsers") is False
    held = {k: v for k, v in pod.items() if k not in (*_POD_FIELDS, *_POD_NEVER)}
    held |= {key: base[key] for key in _POD_FIELDS if key in base}
    if user_namespace:
        held["hostUsers"] = False
    if "activeDeadlineSeconds" in base:
        wanted, most = held.get("activeDeadlineSeconds"), base["activeDeadlineSeconds"]
        is_earlier = isinstance(wanted, int) and 0 < wanted < most
        held["activeDeadlineSeconds"] = wanted if is_earlier else most
    held["securityContext"] = _security(
        held.get("securityContext"), base["securityContext"], ("runAsNonRoot", "seccompProfile")
    )
    held["containers"] = _containers(held.get("containers"), base["containers"][0])
    if isinstance(held.get("initContainers"), list | tuple):
        held["initContainers"] = [_contained(one) for one in held["initContainers"]]
    held["volumes"] = _own_kept(held.get("volumes"), base["volumes"], "name", is_own_volume)
    return held


def _security(given: Any, base: Mapping[str, Any], fields: tuple[str, ...]) -> dict[str, Any]:
    context = {k: v for k, v in _mapping(given).items() if k not in _CONTEXT_NEVER}
    for key in ("runAsUser", "runAsGroup", "fsGroup"):
        if key in context and not _is_no_root(context[key]):
            del context[key]
        if key in base:
            context.setdefault(key, base[key])
    return {**context, **{key: base[key] for key in fields}}


def _is_no_root(identity: Any) -> bool:
    return isinstance(identity, int) and not isinstance(identity, bool) and identity > 0


def _containers(given: Any, script: Mapping[str, Any]) -> list[Any]:
    containers = [_contained(one) for one in entries_of(given)]
    for i, container in enumerate(containers):
        if field_of(container, "name") == CONTAINER:
            containers[i] = _script(dict(container), script)
            return containers
    return [_script(dict(script), script), *containers]


def _contained(container: Any) -> Any:
    """Return a container with the security context that each of them has."""
    if not isinstance(container, Mapping):
        return container
    context = _security(container.get("securityContext"), container_security(), tuple(_CONTEXT))
    return {**container, "securityContext": context}


def _script(container: dict[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    held = {k: v for k, v in container.items() if k not in _SCRIPT_FIELDS}
    held |= {key: base[key] for key in _SCRIPT_FIELDS if key in base}
    login = {one["name"] for one in base["env"]} & {TOKEN_VARIABLE}
    held["env"] = _own_kept(
        held.get("env"),
        base["env"],
        "name",
        lambda name: is_own_variable(name) or name in login,
    )
    mounted = {one["mountPath"] for one in base["volumeMounts"]}
    held["volumeMounts"] = _own_kept(
        held.get("volumeMounts"),
        base["volumeMounts"],
        "mountPath",
        lambda path: path in mounted or own_path_at(path) is not None,
    )
    return held


def _own_kept(
    given: Any, base: Sequence[Mapping[str, Any]], key: str, is_own: Callable[[str], bool]
) -> list[Any]:
    """Return a list in which the entries that are studyflow's are as studyflow made them.

    Args:
        given: The patched list.
        base: The list before the patch.
        key: What its entries are told apart by.
        is_own: Whether the entry of a key is studyflow's.
    """
    missing = {one[key]: one for one in base if is_own(one[key])}
    kept: list[Any] = []
    for entry in entries_of(given):
        name = field_of(entry, key)
        if not isinstance(name, str) or not is_own(name):
            kept.append(entry)
        elif name in missing:
            kept.append(missing.pop(name))
    return [*kept, *missing.values()]

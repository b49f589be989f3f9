"""A pod's template as the section `trial`: image, command, resources, variables and placement."""

from __future__ import annotations

import re
from typing import Any, Final

from studyflow.spec.katib.reading import Part
from studyflow.spec.parts import QUANTITY

_ELSEWHERE: Final = "trial.kubernetes.pod_template takes what a trial's pod may have"


def read_pod(template: Part, primary: Any, trial: dict[str, Any]) -> list[str]:
    """Write what a template says of its pod; return the words of its command, none if it has none.

    Args:
        template: The template.
        primary: Name of the container that trains; the first one where it is `None`.
        trial: The section `trial`, written to.
    """
    kubernetes: dict[str, Any] = trial["kubernetes"]
    metadata = template.part("metadata")
    for key in ("labels", "annotations"):
        if (given := metadata.take(key)) is not None:
            kubernetes[key] = {**kubernetes.get(key, {}), **given}
    spec = template.part("spec")
    spec.take("restartPolicy")
    _placement(spec, kubernetes)
    sources = _volumes(spec)
    containers = spec.parts("containers")
    names = [one.take("name") for one in containers]
    chosen = names.index(primary) if primary in names else 0
    for i, one in enumerate(containers):
        if i != chosen:
            for key in one.keys():  # noqa: SIM118
                one.take(key)
            one.notes.left_out(
                one.path,
                names[i],
                "only the container that trains is carried over",
                _ELSEWHERE,
            )
    return _container(containers[chosen], sources, trial) if containers else []


def _placement(spec: Part, kubernetes: dict[str, Any]) -> None:
    renamed = {
        "nodeSelector": "node_selector",
        "tolerations": "tolerations",
        "affinity": "affinity",
        "priorityClassName": "priority_class",
        "serviceAccountName": "service_account",
        "terminationGracePeriodSeconds": "stop_grace_seconds",
    }
    for theirs, ours in renamed.items():
        if (value := spec.take(theirs)) not in (None, {}, [], ""):
            kubernetes[ours] = value
    secrets = [one.take("name") for one in spec.parts("imagePullSecrets")]
    if secrets:
        kubernetes["image_pull_secrets"] = secrets


def _volumes(spec: Part) -> dict[str, dict[str, Any]]:
    """Return the sources of the pod's volumes in our words, by the volumes' names."""
    found: dict[str, dict[str, Any]] = {}
    for volume in spec.parts("volumes"):
        name = str(volume.take("name"))
        if "persistentVolumeClaim" in volume:
            claim = volume.part("persistentVolumeClaim")
            found[name] = {"claim": claim.take("claimName")}
            if claim.take("readOnly"):
                found[name]["read_only"] = True
        elif "configMap" in volume:
            found[name] = {"config_map": volume.part("configMap").take("name")}
        elif "secret" in volume:
            found[name] = {"secret": volume.part("secret").take("secretName")}
        elif "emptyDir" in volume:
            scratch = volume.part("emptyDir")
            in_memory = scratch.take("medium") == "Memory"
            size = scratch.take("sizeLimit")
            found[name] = (
                {"shared_memory": size or "1Gi"} if in_memory else {"empty_dir": size or "10Gi"}
            )
            if size is None:
                volume.notes.changed(volume.path, name, "has a size here", "see empty_dir")
    return found


def _container(part: Part, sources: dict[str, dict[str, Any]], trial: dict[str, Any]) -> list[str]:
    kubernetes: dict[str, Any] = trial["kubernetes"]
    if (image := part.take("image")) is not None:
        trial["image"] = image
    if (policy := part.take("imagePullPolicy")) is not None:
        kubernetes["image_pull_policy"] = policy
    _resources(part.part("resources"), trial)
    _variables(part, trial)
    _mounts(part, sources, kubernetes)
    security = part.part("securityContext")
    if (user := security.take("runAsUser")) is not None:
        if user:
            kubernetes["run_as_user"] = user
        else:
            security.notes.left_out(
                security.at("runAsUser"),
                user,
                "no trial runs as root",
                "let the image's files be readable for user 10001; /tmp is writable",
            )
    command, arguments = part.take("command") or [], part.take("args") or []
    if arguments and not command:
        part.notes.changed(
            part.at("args"),
            arguments,
            "is the whole command here, for only the image knows its entrypoint",
            "write the entrypoint before it in trial.command",
        )
    return [str(word) for word in (*command, *arguments)]


def _resources(part: Part, trial: dict[str, Any]) -> None:
    limits, requests = part.part("limits"), part.part("requests")
    found: dict[str, Any] = {}
    for name in dict.fromkeys((*limits.keys(), *requests.keys())):
        limit, request = limits.take(name), requests.take(name)
        value = request if limit is None else limit
        if limit is not None and request not in (None, limit):
            part.notes.changed(
                requests.at(name), request, f"requests and limits are alike here: {limit}"
            )
        if name == "cpu" or (name == "memory" and re.match(QUANTITY, str(value))):
            found[name] = str(value)
        elif "/" in name and str(value).isdigit() and "gpu" not in found:
            found["gpu"] = int(value)
            if name != "nvidia.com/gpu":
                trial["kubernetes"]["gpu_resource"] = name
        else:
            hint = "see scratch in trial.kubernetes" if "storage" in name else _ELSEWHERE
            part.notes.left_out(part.at(name), value, "resources have no such field", hint)
    trial["resources"] = found


def _variables(part: Part, trial: dict[str, Any]) -> None:
    kubernetes: dict[str, Any] = trial["kubernetes"]
    plain, secret = {}, {}
    for one in part.parts("env"):
        name = str(one.take("name"))
        if "value" in one:
            plain[name] = str(one.take("value"))
        else:
            key = one.part("valueFrom").part("secretKeyRef")
            if key.keys():
                secret[name] = {"secret": key.take("name"), "key": key.take("key")}
    trial["env"] = plain
    if secret:
        kubernetes["secret_env"] = secret
    whole = [
        one.part("secretRef").take("name") for one in part.parts("envFrom") if "secretRef" in one
    ]
    if whole:
        kubernetes["env_from_secrets"] = whole


def _mounts(part: Part, sources: dict[str, dict[str, Any]], kubernetes: dict[str, Any]) -> None:
    volumes = []
    for one in part.parts("volumeMounts"):
        name, path = str(one.take("name")), str(one.take("mountPath"))
        source = sources.get(name)
        if source is None:
            one.notes.left_out(
                one.path, path, "volumes of this kind are not lent to trials", "use a claim"
            )
            continue
        if (size := source.get("shared_memory")) is not None:
            if path == "/dev/shm":  # noqa: S108 - inside the pod
                kubernetes["shared_memory"] = size
            else:
                one.notes.left_out(
                    one.path, path, "memory is mounted at /dev/shm only", "use empty_dir"
                )
            continue
        volume = {"mount_path": path, **source}
        if (below := one.take("subPath")) is not None:
            volume["sub_path"] = below
        if one.take("readOnly"):
            volume["read_only"] = True
        volumes.append(volume)
    if volumes:
        kubernetes["volumes"] = volumes

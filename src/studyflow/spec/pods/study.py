"""What a study file says about its pod, judged as a whole: fields, patch and sums."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from pydantic import ValidationError

from studyflow.spec.kubernetes import KubernetesSpec
from studyflow.spec.models import TrialSpec
from studyflow.spec.pods.containers import SUB_PATH, device_variable, image_rule, mount_path
from studyflow.spec.pods.looking import entries_of, field_of
from studyflow.spec.pods.merge import strategic_merge
from studyflow.spec.pods.ours import CONTAINER, is_own_variable, pod_deadline
from studyflow.spec.pods.placement import (
    AFFINITY,
    QUEUE,
    SERVICE_ACCOUNT,
    TOLERATIONS,
    node_selector,
    priority_class,
)
from studyflow.spec.pods.platform import Platform
from studyflow.spec.pods.resources import judge_resources
from studyflow.spec.pods.sources import SECRET
from studyflow.spec.pods.template import ANNOTATIONS, LABELS, judge_patch
from studyflow.spec.pods.volumes import CLAIM
from studyflow.spec.pods.walking import Rule, View, refuse
from studyflow.spec.problems import BrokenRule, Path

_KUBERNETES: Final[Path] = ("trial", "kubernetes")
_PATCH: Final[Path] = (*_KUBERNETES, "pod_template")


def judge_study(trial: TrialSpec, platform: Platform) -> tuple[BrokenRule, ...]:
    """Return everything that a study file says about its pod and may not say here.

    Args:
        trial: The file's section `trial`.
        platform: What the platform allows.

    Returns:
        Broken rules by their places in the file, in no particular order; none when all is well.
    """
    view = View(platform, deadline_seconds=pod_deadline(trial.timeout_seconds))
    patch = trial.kubernetes.pod_template
    return (
        *_fields(trial, replace(view, is_script=True)),
        *judge_patch(patch, _PATCH, view),
        *_doubled_variables(trial.kubernetes),
        *_unfenced_checkpoints(trial.kubernetes),
        *_sums(trial, view),
    )


def judge_data(data: Mapping[str, Any], platform: Platform) -> tuple[BrokenRule, ...]:
    """Return the same of a parsed study file that may be wrong in other ways too.

    Where its section `trial` is wrong itself, only the patch is judged.
    """
    section = data.get("trial")
    try:
        return judge_study(TrialSpec.model_validate(section), platform)
    except ValidationError:
        patch = field_of(section, "kubernetes", "pod_template")
        if not isinstance(patch, Mapping):
            return ()
        return tuple(judge_patch(patch, _PATCH, View(platform)))


def _fields(trial: TrialSpec, view: View) -> Iterator[BrokenRule]:
    kubernetes = trial.kubernetes
    named: list[tuple[Rule, Any, Path]] = [
        (LABELS, kubernetes.labels, ("labels",)),
        (ANNOTATIONS, kubernetes.annotations, ("annotations",)),
        (node_selector, kubernetes.node_selector, ("node_selector",)),
        (TOLERATIONS, kubernetes.tolerations, ("tolerations",)),
        (AFFINITY, kubernetes.affinity, ("affinity",)),
    ]
    single: list[tuple[Rule, str | None, str]] = [
        (SERVICE_ACCOUNT, kubernetes.service_account, "service_account"),
        (priority_class, kubernetes.priority_class, "priority_class"),
        (QUEUE, kubernetes.queue, "queue"),
    ]
    named += [(rule, value, (key,)) for rule, value, key in single if value is not None]
    named += _secrets(kubernetes)
    named += _volumes(kubernetes)
    for rule, value, below in named:
        yield from rule(value, (*_KUBERNETES, *below), view)
    if trial.image is not None:
        yield from image_rule(trial.image, ("trial", "image"), view)
    for name, value in trial.env.items():
        yield from device_variable(name, value, ("trial", "env", name))
    for name in kubernetes.secret_env:
        yield from device_variable(name, None, (*_KUBERNETES, "secret_env", name))
        if is_own_variable(name) and not name.startswith("STUDYFLOW_"):  # refused for every study
            yield refuse(
                (*_KUBERNETES, "secret_env", name),
                f"studyflow's own variables must stay as they are, but {name!r} is one",
                "use another name",
                is_about_key=True,
            )


def _secrets(kubernetes: KubernetesSpec) -> Iterator[tuple[Rule, Any, Path]]:
    for name, source in kubernetes.secret_env.items():
        yield SECRET, source.secret, ("secret_env", name, "secret")
    for field in ("env_from_secrets", "image_pull_secrets"):
        for i, secret in enumerate(getattr(kubernetes, field)):
            yield SECRET, secret, (field, i)


def _volumes(kubernetes: KubernetesSpec) -> Iterator[tuple[Rule, Any, Path]]:
    for i, volume in enumerate(kubernetes.volumes):
        place = ("volumes", i)
        yield mount_path, volume.mount_path, (*place, "mount_path")
        if volume.sub_path is not None:
            yield SUB_PATH, volume.sub_path, (*place, "sub_path")
        if volume.secret is not None:
            yield SECRET, volume.secret, (*place, "secret")
        if volume.claim is not None:
            yield CLAIM, volume.claim, (*place, "claim")
    if kubernetes.checkpoints is not None:
        claim = kubernetes.checkpoints
        yield CLAIM, claim.claim, ("checkpoints", "claim")
        yield SUB_PATH, claim.sub_path.strip("/"), ("checkpoints", "sub_path")


def _doubled_variables(kubernetes: KubernetesSpec) -> Iterator[BrokenRule]:
    """Look for variables of the patch that have a value from a Secret already."""
    containers = field_of(kubernetes.pod_template, "spec", "containers")
    for i, container in enumerate(entries_of(containers)):
        if field_of(container, "name") != CONTAINER:
            continue
        for k, variable in enumerate(entries_of(container.get("env"))):
            name = field_of(variable, "name")
            if isinstance(name, str) and name in kubernetes.secret_env:
                yield refuse(
                    (*_PATCH, "spec", "containers", i, "env", k, "name"),
                    f"a variable must have one value, but {name!r} stands in secret_env too",
                    "remove one of them",
                )


def _unfenced_checkpoints(kubernetes: KubernetesSpec) -> Iterator[BrokenRule]:
    """Look for mounts of the checkpoints' claim beside the folder that each attempt has there."""
    if kubernetes.checkpoints is None:
        return
    claim = kubernetes.checkpoints.claim
    patched = entries_of(field_of(kubernetes.pod_template, "spec", "volumes"))
    named = [
        *(
            (volume.claim, (*_KUBERNETES, "volumes", i, "claim"))
            for i, volume in enumerate(kubernetes.volumes)
        ),
        *(
            (
                field_of(volume, "persistentVolumeClaim", "claimName"),
                (*_PATCH, "spec", "volumes", i, "persistentVolumeClaim", "claimName"),
            )
            for i, volume in enumerate(patched)
        ),
    ]
    for name, path in named:
        if name == claim:
            yield refuse(
                path,
                "the checkpoints' claim must be mounted for checkpoints alone, each attempt's own, "
                f"but {claim!r} is a volume too",
                "use another claim for data",
            )


def _sums(trial: TrialSpec, view: View) -> Iterator[BrokenRule]:
    if not view.platform.max_resources:
        return
    wanted = trial.resources
    asked = {
        "cpu": wanted.cpu,
        "memory": wanted.memory,
        trial.kubernetes.gpu_resource: str(wanted.gpu) if wanted.gpu else None,
    }
    given = {name: amount for name, amount in asked.items() if amount is not None}
    folders: Iterable[tuple[str, str]] = [
        ("scratch", trial.kubernetes.scratch),
        *(
            (f"volume-{i}", volume.empty_dir)
            for i, volume in enumerate(trial.kubernetes.volumes)
            if volume.empty_dir is not None
        ),
    ]
    base = {
        "containers": [
            {"name": CONTAINER, "resources": {"requests": given, "limits": dict(given)}}
        ],
        "volumes": [{"name": name, "emptyDir": {"sizeLimit": size}} for name, size in folders],
    }
    patch = trial.kubernetes.pod_template.get("spec")
    pod = strategic_merge(base, patch) if isinstance(patch, Mapping) else base
    yield from judge_resources(pod, (*_PATCH, "spec"), ("trial", "resources"), view)

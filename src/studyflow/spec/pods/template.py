"""The rules for a trial's pod as a whole: what a study file adds to it, and the finished template.

`judge_patch` looks at `trial.kubernetes.pod_template`, `judge_template` at what became of it. Both
apply the same tables; in a finished template studyflow's own parts are expected.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from studyflow.spec.pods.containers import containers, names_twice
from studyflow.spec.pods.looking import entries_of, field_of
from studyflow.spec.pods.metadata import key_problem, label_value_problem, owner_of
from studyflow.spec.pods.ours import CONTAINER
from studyflow.spec.pods.placement import PLACEMENT, SERVICE_ACCOUNT
from studyflow.spec.pods.security import POD_SECURITY
from studyflow.spec.pods.sources import SECRET
from studyflow.spec.pods.volumes import VOLUMES
from studyflow.spec.pods.walking import (
    Rule,
    Table,
    View,
    anything,
    flag,
    mapping,
    named_items,
    one_of,
    only,
    optional,
    own,
    refuse,
    refused,
    show,
    text,
    whole,
)
from studyflow.spec.problems import BrokenRule, Path


def keys_of_study(*, is_label: bool) -> Rule:
    """Return the rule for a study's labels or annotations."""
    what = "label" if is_label else "annotation"
    one = "a label" if is_label else "an annotation"

    def rule(value: Any, path: Path, view: View) -> Iterator[BrokenRule]:
        if not isinstance(value, Mapping):
            message = f"must be a mapping, but it is {show(value)}"
            yield refuse(path, message, "write KEY: VALUE")
            return
        for key, given in value.items():
            below = (*path, key if isinstance(key, str) else repr(key))
            if not isinstance(key, str) or not isinstance(given, str):
                message = f"{what}s must be texts, but this is {show(key)}: {show(given)}"
                yield refuse(below, message, "put it in quotes")
            elif (key, given) not in view.own_labels:
                yield from _key(key, given, below)

    def _key(key: str, given: str, below: Path) -> Iterator[BrokenRule]:
        if (owner := owner_of(key, is_label=is_label)) is not None:
            queue = "; for Kueue set trial.kubernetes.queue" if "kueue" in key.lower() else ""
            message = f"{one} of {owner} must not be set here, but {show(key)} is one"
            hint = f"use a name of your own, such as example.org/{what}{queue}"
            yield refuse(below, message, hint, is_about_key=True)
        elif problem := key_problem(key):
            message = f"must be the key of {one}, but it is {show(key)}: {problem}"
            yield refuse(below, message, "rename it", is_about_key=True)
        elif is_label and (problem := label_value_problem(given)):
            message = f"must be the value of a label, but it is {show(given)}: {problem}"
            yield refuse(below, message, "shorten it, or make it an annotation")

    return rule


LABELS: Final = keys_of_study(is_label=True)
ANNOTATIONS: Final = keys_of_study(is_label=False)

_NODE_SPACES: Final = "remove it: a trial's pod shares no names, network or processes of its node"


def _deadline(value: Any, path: Path, view: View) -> Iterator[BrokenRule]:
    found = list(whole(1)(value, path, view))
    yield from found
    if not found and view.deadline_seconds is not None and value > view.deadline_seconds:
        message = f"must be at most {view.deadline_seconds} (by trial.timeout_seconds), but it is "
        yield refuse(path, f"{message}{value}", "raise trial.timeout_seconds")


_SPEC: Final[Table] = {
    **PLACEMENT,
    "restartPolicy": only("Never", "remove it: studyflow repeats attempts itself"),
    "automountServiceAccountToken": only(
        False, "remove it: no trial gets a service account's token"
    ),
    "serviceAccountName": own("set trial.kubernetes.service_account", SERVICE_ACCOUNT),
    "serviceAccount": refused(
        "studyflow sets the service account itself", "set trial.kubernetes.service_account"
    ),
    "activeDeadlineSeconds": _deadline,
    "terminationGracePeriodSeconds": own(
        "set trial.kubernetes.stop_grace_seconds", whole(1, at_most=3600)
    ),
    "hostNetwork": only(False, _NODE_SPACES),
    "hostPID": only(False, _NODE_SPACES),
    "hostIPC": only(False, _NODE_SPACES),
    "hostUsers": only(False, _NODE_SPACES),
    "shareProcessNamespace": flag,
    "securityContext": POD_SECURITY,
    "containers": containers(is_init=False),
    "initContainers": containers(is_init=True),
    "ephemeralContainers": refused(
        "a pod must be made without ephemeral containers", "use `kubectl debug` on a running pod"
    ),
    "volumes": VOLUMES,
    "imagePullSecrets": named_items(mapping({"name": SECRET}, "a Secret's name")),
    "resourceClaims": refused(
        "a trial must ask for devices by counting them", "use trial.resources.gpu"
    ),
    "resources": refused("a trial must ask for resources by container", "use trial.resources"),
    "os": mapping({"name": one_of(("linux",))}, "an operating system"),
    "enableServiceLinks": optional(flag),
    "hostname": text,
    "subdomain": text,
    "setHostnameAsFQDN": flag,
    "hostAliases": anything,
    "dnsPolicy": one_of(("ClusterFirst", "Default", "None")),
    "dnsConfig": anything,
}

_TEMPLATE: Final = mapping(
    {
        "metadata": mapping({"labels": LABELS, "annotations": ANNOTATIONS}, "a pod's metadata"),
        "spec": mapping(_SPEC, "a pod"),
    },
    "a pod's template",
)


def judge_patch(patch: Any, path: Path, view: View) -> Iterator[BrokenRule]:
    """Yield what a study file's patch of the template may not say.

    Args:
        patch: The patch.
        path: Where it stands.
        view: What else is known.
    """
    yield from _TEMPLATE(patch, path, view)
    yield from names_twice(field_of(patch, "spec"), (*path, "spec"))


def judge_template(template: Any, path: Path, view: View) -> Iterator[BrokenRule]:
    """Yield what a finished template may not say, and what it lacks.

    Args:
        template: The Job's `spec.template`.
        path: Where it stands in the Job.
        view: What else is known; `is_finished`.
    """
    yield from _TEMPLATE(template, path, view)
    yield from names_twice(field_of(template, "spec"), (*path, "spec"))
    listed = entries_of(field_of(template, "spec", "containers"))
    if not any(field_of(one, "name") == CONTAINER for one in listed):
        message = f"a pod must have the container {CONTAINER!r}, but it has none of that name"
        yield refuse((*path, "spec", "containers"), message, "leave it in")

"""What must hold of a trial's pod wins over a patch, even where no rule has looked at it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.spec.pods.hostile import HONEST, HOSTILE
from tests.unit.spec.pods.test_study_files import a_job, a_spec, a_trial

from studyflow.errors import ExecutorBlocked
from studyflow.executors.kubernetes.manifest import build_job, with_pod_paths
from studyflow.spec.pods import Ours, Platform, hold, judge_job, strategic_merge
from studyflow.trial import TRIAL_VARIABLE, TrackingRef, Trial

SERVERS = ("studyflow", "studyflow-postgres", "studyflow-artifacts", "studyflow-notify")


def plain() -> dict[str, Any]:
    """The template without a patch, whose metadata is studyflow's alone."""
    template: dict[str, Any] = a_job({"checkpoints": {"claim": "c"}})["spec"]["template"]
    return template


def secrets(value: Any, key: str = "") -> Iterator[str]:
    """Every Secret that a manifest names, by whatever field."""
    if isinstance(value, dict):
        if key in ("secretKeyRef", "secretRef", "secret", "imagePullSecrets"):
            yield from (value[name] for name in ("name", "secretName") if name in value)
        for inner, item in value.items():
            yield from secrets(item, inner)
    elif isinstance(value, list):
        for item in value:
            yield from secrets(item, key)


def check_invariants(template: dict[str, Any]) -> None:
    """What the brief of every trial's pod says, looked up without the code that sets it."""
    metadata, pod = template["metadata"], template["spec"]
    assert metadata["labels"]["app.kubernetes.io/component"] == "trial"
    assert metadata["labels"]["studyflow.dev/trial"] == "7"
    reserved = {
        key
        for key in metadata["labels"]
        if "kubernetes.io/" in key or "k8s.io/" in key or key.startswith("studyflow")
    }
    assert reserved == {
        "app.kubernetes.io/name",
        "app.kubernetes.io/component",
        "app.kubernetes.io/managed-by",
        "studyflow.dev/study",
        "studyflow.dev/trial",
        "studyflow.dev/attempt",
    }
    assert pod["automountServiceAccountToken"] is False
    assert pod["restartPolicy"] == "Never"
    assert pod.get("serviceAccountName") in (None, "studyflow-trial", "default")
    assert not {"serviceAccount", "nodeName", "ephemeralContainers", "priority"} & set(pod)
    assert not any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC", "hostUsers"))
    assert pod["activeDeadlineSeconds"] <= 3600 + 900
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    scripts = [one for one in pod["containers"] if one["name"] == "trial"]
    assert len(scripts) == 1
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["readOnlyRootFilesystem"] is True
        assert context["runAsNonRoot"] is True
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not context.get("privileged")
        assert context.get("procMount", "Default") == "Default"
        assert context.get("runAsUser", 1) > 0
    (script,) = scripts
    assert script["image"] == "registry.example/demo:1"
    assert script["command"] == ["python", "train.py"]
    assert script["terminationMessagePath"] == "/dev/termination-log"
    assert script["terminationMessagePolicy"] == "File"
    told = [one for one in script["env"] if one["name"] == TRIAL_VARIABLE]
    assert [Trial.from_json(one["value"]).number for one in told] == [7]
    mounts = [one["mountPath"] for one in script["volumeMounts"]]
    assert mounts[:2] == ["/tmp", "/dev/shm"]


@pytest.mark.parametrize("name", [name for name, (k, _) in HOSTILE.items() if "pod_template" in k])
@pytest.mark.fault("F87")
def test_what_must_hold_wins_without_any_rule(name: str) -> None:
    base = plain()
    patch = HOSTILE[name][0]["pod_template"]

    held = hold(strategic_merge(base, patch), base)

    pod = held["spec"]
    pod["containers"] = [one for one in pod["containers"] if isinstance(one, dict)]
    for container in pod["containers"]:
        container.setdefault("name", "nameless")
    check_invariants(held)


def test_what_must_hold_holds_already_and_changes_nothing() -> None:
    base = plain()
    before = json.dumps(base)

    assert hold(base, base) == base
    assert json.dumps(hold(base, base)) == before, "and not the order either"
    assert hold(hold(base, base), base) == base


def test_a_patch_that_breaks_a_rule_unseen_is_seen_in_the_finished_job() -> None:
    job = a_job({})
    metadata = job["spec"]["template"]["metadata"]
    ours = Ours(dict(metadata["labels"]), dict(metadata["annotations"]))
    assert judge_job(job, Platform(), ours, None) == ()

    job["spec"]["template"]["spec"]["hostNetwork"] = True
    job["spec"]["template"]["spec"]["volumes"].append({"name": "x", "hostPath": {"path": "/"}})
    metadata["labels"]["app.kubernetes.io/component"] = "runner"
    job["spec"]["template"]["spec"]["containers"][0]["name"] = "other"

    found = {one.path[2:] for one in judge_job(job, Platform(), ours, "anyone")}
    assert found == {
        ("spec", "hostNetwork"),
        ("spec", "volumes", 2, "hostPath"),
        ("metadata", "labels", "app.kubernetes.io/component"),
        ("spec", "containers"),
    }
    (queue,) = judge_job(a_job({}), Platform(queues=("ours",)), ours, "theirs")
    assert queue.path == ("metadata", "labels")


def test_whoever_runs_studyflow_chooses_the_account_of_pods() -> None:
    spec = a_spec({})
    placed = with_pod_paths(a_trial(), spec.trial.kubernetes)

    job = build_job(spec, placed, service_account="studyflow-team-a")

    assert job["spec"]["template"]["spec"]["serviceAccountName"] == "studyflow-team-a"


def test_a_token_for_mlflow_is_the_attempts_own() -> None:
    spec = a_spec({})
    base = build_job(spec, replace(a_trial(), tracking=TrackingRef("http://m", "r")), token="own")
    template = base["spec"]["template"]
    patch = HOSTILE["another login to MLflow"][0]["pod_template"]

    held = hold(strategic_merge(template, patch), template)

    env = {one["name"]: one["value"] for one in held["spec"]["containers"][0]["env"]}
    assert env["MLFLOW_TRACKING_TOKEN"] == "own"


def test_an_image_by_its_digest_is_as_good_as_the_files_name() -> None:
    spec = a_spec({})
    placed = with_pod_paths(a_trial(), spec.trial.kubernetes)
    pinned = "mirror.example/demo@sha256:" + "a" * 64

    job = build_job(
        spec, placed, image=pinned, platform=Platform(images=("registry.example/demo",))
    )

    assert job["spec"]["template"]["spec"]["containers"][0]["image"] == pinned


# ---- any patch at all ----------------------------------------------------------------------------

FOUL = [patch["pod_template"] for patch, _ in HOSTILE.values() if "pod_template" in patch]
FAIR = [patch["pod_template"] for patch in HONEST.values() if "pod_template" in patch]
PODS = [one["spec"] for one in (*FAIR, *FOUL) if isinstance(one.get("spec"), dict)]
KEYS = sorted({key for pod in PODS for key in pod})
NAMES = ["name", "env", "value", "image", "emptyDir", "secret", "secretName", "mountPath"]
NAMES += ["securityContext", "privileged", "runAsUser", "labels", "$patch", "sizeLimit"]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-1, 3)
    | st.sampled_from(["trial", "studyflow", "ALL", "scratch", "/tmp", "Never", "1Gi"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(NAMES),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@st.composite
def patches(draw: st.DrawFn) -> dict[str, Any]:
    """Fragments of hostile and honest patches, joined, with some values put anywhere."""
    patch: Any = {}
    fragments = draw(st.lists(st.sampled_from(FAIR), max_size=4))
    if draw(st.integers(0, 3)) == 0:
        fragments.append(draw(st.sampled_from(FOUL)))
    for fragment in fragments:
        patch = strategic_merge(patch, fragment)
    if draw(st.integers(0, 3)) == 0 and isinstance(patch.get("spec", {}), dict):
        extra = draw(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=2))
        patch = {**patch, "spec": {**patch.get("spec", {}), **extra}}
    return dict(patch)


@pytest.mark.slow
@settings(derandomize=True, deadline=None, max_examples=300)
@given(patch=patches())
@pytest.mark.fault("F87")
def test_whatever_patch_gets_through_the_job_keeps_what_must_hold(patch: dict[str, Any]) -> None:
    try:
        job = a_job({"pod_template": patch})
    except ExecutorBlocked:
        return  # refused, by a reason and not a stack trace

    template = job["spec"]["template"]
    if template["spec"].get("hostUsers") is False:
        del template["spec"]["hostUsers"]
    check_invariants(template)
    kinds = {kind for volume in template["spec"]["volumes"] for kind in set(volume) - {"name"}}
    allowed = {"emptyDir", "persistentVolumeClaim", "configMap", "secret", "projected"}
    assert kinds <= {*allowed, "downwardAPI"}
    assert "serviceAccountToken" not in json.dumps(template)
    assert not set(secrets(template)) & set(SERVERS)


@pytest.mark.slow
@settings(derandomize=True, deadline=None, max_examples=300)
@given(patch=st.dictionaries(st.sampled_from(["spec", "metadata"]), VALUES))
def test_no_patch_at_all_is_too_much_for_the_rules(patch: dict[str, Any]) -> None:
    with contextlib.suppress(ExecutorBlocked):
        check_invariants(a_job({"pod_template": patch})["spec"]["template"])

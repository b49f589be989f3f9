"""From study and attempt to the Job: the golden one, and every rule that shaped it.

`python tests/unit/executors/kubernetes/test_manifest.py` writes the golden file anew.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from studyflow.executors.kubernetes.manifest import avoided_nodes, build_job, with_pod_paths
from studyflow.executors.run_tokens import RunTokens
from studyflow.spec import StudySpec
from studyflow.spec.pods import Platform, strategic_merge
from studyflow.spec.pods.ours import CHECKPOINT_PATH, LONGEST_DEADLINE_SECONDS, TERMINATION_PATH
from studyflow.trial import TRIAL_VARIABLE, TrackingRef, Trial
from studyflow.trial.run_token import RunToken, read_token

GOLDEN = Path(__file__).parents[3] / "golden" / "job.yaml"
MLFLOW = TrackingRef("http://mlflow:5000", "0123abc")
KEY = "k" * 32


def a_spec(
    kubernetes: dict[str, Any] | None = None, *, name: str = "demo", **trial: Any
) -> StudySpec:
    return StudySpec.from_mapping(
        {
            "name": name,
            "objectives": [{"metric": "loss", "direction": "minimize"}],
            "search_space": {"x": {"type": "float", "low": 0, "high": 1}},
            "budget": {"n_trials": 3},
            "trial": {
                "command": ["python", "train.py"],
                "image": "registry.example/demo:1",
                "kubernetes": kubernetes or {},
                **trial,
            },
        }
    )


def a_trial(**changes: Any) -> Trial:
    given: dict[str, Any] = {"params": {"x": 0.5}, "metrics": ("loss",), "tracking": MLFLOW}
    return Trial("demo", **{"number": 7, "attempt": 2, **given, **changes})


def a_job(
    kubernetes: dict[str, Any] | None = None, platform: Platform | None = None, **trial: Any
) -> dict[str, Any]:
    spec = a_spec(kubernetes, **trial)
    placed = with_pod_paths(a_trial(), spec.trial.kubernetes)
    return build_job(spec, placed, platform=platform)


def pod_of(job: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = job["spec"]["template"]["spec"]
    return pod


def container_of(job: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod_of(job)["containers"]
    assert isinstance(container, dict)
    return container


def env_of(job: dict[str, Any]) -> dict[str, Any]:
    entries = container_of(job)["env"]
    assert len({entry["name"] for entry in entries}) == len(entries)
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in entries}


def expanded(text: str, variables: dict[str, str] | None = None) -> str:
    """Return what the kubelet makes of a value, by `forked/golang/expansion` of Kubernetes."""
    out, at = "", 0
    while at < len(text):
        rest = text[at + 1 :]
        if text[at] != "$" or not rest:
            out, at = out + text[at], at + 1
        elif rest[0] == "$":
            out, at = out + "$", at + 2
        elif rest[0] == "(" and ")" in rest:
            name = rest[1 : rest.index(")")]
            out, at = out + (variables or {}).get(name, f"$({name})"), at + len(name) + 3
        else:
            out, at = out + "$" + rest[0], at + 2
    return out


def golden_job() -> dict[str, Any]:
    """Return a Job that uses everything a study file can ask for."""
    kubernetes = {
        "gpu_resource": "nvidia.com/mig-1g.5gb",
        "node_selector": {"pool": "gpu"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}},
        "priority_class": "low",
        "service_account": "trials",
        "image_pull_secrets": ["registry"],
        "secret_env": {"TOKEN": {"secret": "hub", "key": "token"}},
        "env_from_secrets": ["object-store"],
        "volumes": [
            {"mount_path": "/data", "claim": "mnist", "sub_path": "v2", "read_only": True},
            {"mount_path": "/etc/demo", "config_map": "demo"},
            {"mount_path": "/certs", "secret": "certs", "read_only": True},
            {"mount_path": "/big", "empty_dir": "50Gi"},
        ],
        "checkpoints": {"claim": "checkpoints"},
        "queue": "team-a",
        "labels": {"team": "a"},
        "annotations": {"sidecar.istio.io/inject": "false"},
        "pod_template": {"spec": {"runtimeClassName": "nvidia"}},
    }
    return a_job(
        kubernetes,
        Platform(service_accounts=("trials",)),
        resources={"cpu": "2", "memory": "4Gi", "gpu": 1},
        env={"OMP_NUM_THREADS": "2"},
        timeout_seconds=1800,
    )


def test_the_golden_job_is_made_to_the_letter() -> None:
    assert golden_job() == yaml.safe_load(GOLDEN.read_text())


def test_the_same_attempt_makes_the_same_job() -> None:
    assert json.dumps(golden_job()) == json.dumps(golden_job())


def test_the_installations_service_account_is_for_studies_that_name_none() -> None:
    trial = with_pod_paths(a_trial(), a_spec().trial.kubernetes)

    for named, expected in ((None, "studyflow-trial"), ("mine", "mine")):
        job = build_job(
            a_spec({"service_account": named}),
            trial,
            service_account="studyflow-trial",
            platform=Platform(service_accounts=("mine",)),
        )
        assert pod_of(job)["serviceAccountName"] == expected
    assert "serviceAccountName" not in pod_of(a_job())


# ---- what must be so whatever the study file says ----------------------------------------------


@pytest.mark.parametrize("job", [a_job(), golden_job()], ids=["plain", "golden"])
@pytest.mark.fault("F52")
def test_every_container_passes_the_restricted_policy(job: dict[str, Any]) -> None:
    pod = pod_of(job)
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert pod["restartPolicy"] == "Never"
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    for container in pod["containers"] + pod.get("initContainers", []):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["readOnlyRootFilesystem"] is True
        assert context["runAsNonRoot"] is True
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert "privileged" not in context
        assert "ports" not in container
    assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"}
    assert not any("hostPath" in volume for volume in pod["volumes"])


@pytest.mark.fault("F51")
def test_secrets_are_named_and_never_read() -> None:
    job = golden_job()
    container = container_of(job)

    assert env_of(job)["TOKEN"] == {"secretKeyRef": {"name": "hub", "key": "token"}}
    assert container["envFrom"] == [{"secretRef": {"name": "object-store"}}]
    assert {"name": "volume-2", "secret": {"secretName": "certs"}} in pod_of(job)["volumes"]


def test_attempts_are_the_runners_and_a_job_repeats_none() -> None:
    spec = a_job()["spec"]

    assert (spec["backoffLimit"], spec["completions"], spec["parallelism"]) == (0, 1, 1)
    assert spec["ttlSecondsAfterFinished"] == 7 * 24 * 3600
    assert "suspend" not in spec
    assert "activeDeadlineSeconds" not in pod_of(a_job())


def test_the_container_says_its_outcome_by_the_termination_message() -> None:
    job = a_job()
    container = container_of(job)

    assert container["terminationMessagePath"] == TERMINATION_PATH
    assert container["terminationMessagePolicy"] == "File"
    assert Trial.from_json(env_of(job)[TRIAL_VARIABLE]).outcome_path == TERMINATION_PATH
    assert container["command"] == ["python", "train.py"]


def test_labels_of_the_study_file_stand_beside_ours() -> None:
    job = a_job({"labels": {"team": "a"}})
    labels = job["spec"]["template"]["metadata"]["labels"]

    assert labels["studyflow.dev/trial"] == "7"
    assert labels["team"] == "a"
    assert job["metadata"]["labels"].items() <= labels.items()
    assert job["metadata"]["annotations"]["studyflow.dev/study-name"] == "demo"


# ---- what the study file asks for --------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "deadline"),
    [(None, None), (0.3, 900), (1800, 2700), (1e9, 1_000_000_900)],
)
def test_the_pods_deadline_leaves_time_to_start(
    seconds: float | None, deadline: int | None
) -> None:
    job = a_job(timeout_seconds=seconds)

    assert pod_of(job).get("activeDeadlineSeconds") == deadline
    assert (deadline or 0) <= LONGEST_DEADLINE_SECONDS


@pytest.mark.parametrize(
    ("resources", "wanted"),
    [
        ({}, {}),
        ({"gpu": 0}, {}),
        ({"cpu": "500m"}, {"cpu": "500m"}),
        ({"memory": "4Gi", "gpu": 2}, {"memory": "4Gi", "nvidia.com/mig-1g.5gb": "2"}),
    ],
)
def test_requests_equal_limits(resources: dict[str, Any], wanted: dict[str, str]) -> None:
    job = a_job({"gpu_resource": "nvidia.com/mig-1g.5gb"}, resources=resources)

    both = {"requests": wanted, "limits": wanted} if wanted else {}
    assert container_of(job)["resources"] == both


def test_a_gpu_is_nvidias_unless_the_file_says_otherwise() -> None:
    assert container_of(a_job(resources={"gpu": 1}))["resources"]["limits"] == {
        "nvidia.com/gpu": "1"
    }


@pytest.mark.fault("F52")
def test_scratch_and_shared_memory_have_a_size() -> None:
    volumes = {
        v["name"]: v for v in pod_of(a_job({"shared_memory": "2Gi", "scratch": 5}))["volumes"]
    }

    assert volumes["shared-memory"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "2Gi"}
    assert volumes["scratch"]["emptyDir"] == {"sizeLimit": "5"}


def test_a_claim_that_is_mounted_more_than_once_is_one_volume_of_the_pod() -> None:
    pod = pod_of(
        a_job(
            {
                "checkpoints": {"claim": "shared", "sub_path": "checkpoints"},
                "volumes": [
                    {"mount_path": "/data", "claim": "data", "read_only": True, "sub_path": "a"},
                    {"mount_path": "/out", "claim": "data", "sub_path": "b"},
                    {"mount_path": "/ref", "claim": "ref", "read_only": True},
                ],
            }
        )
    )
    claims = {
        volume["name"]: volume["persistentVolumeClaim"]
        for volume in pod["volumes"]
        if "persistentVolumeClaim" in volume
    }
    assert claims == {
        "checkpoints": {"claimName": "shared"},
        "volume-0": {"claimName": "data"},
        "volume-2": {"claimName": "ref", "readOnly": True},
    }
    mounts = {mount["mountPath"]: mount for mount in pod["containers"][0]["volumeMounts"]}
    assert [(mounts[path]["name"], mounts[path].get("readOnly")) for path in ("/data", "/out")] == [
        ("volume-0", True),
        ("volume-0", None),
    ]


def test_every_volume_is_mounted_once_and_every_mount_has_its_volume() -> None:
    job = golden_job()
    mounts = container_of(job)["volumeMounts"]

    assert {m["name"] for m in mounts} == {v["name"] for v in pod_of(job)["volumes"]}
    assert len({m["mountPath"] for m in mounts}) == len(mounts)


CHECKPOINTS = {"checkpoints": {"claim": "c", "sub_path": "/a/b/"}}


def checkpoint_mounts(attempt: int, number: int = 7) -> dict[str, tuple[str, bool]]:
    """Return what an attempt's pod reaches of the claim: mount path, its part of it, read-only."""
    spec = a_spec(CHECKPOINTS)
    trial = with_pod_paths(a_trial(number=number, attempt=attempt), spec.trial.kubernetes)
    mounts = container_of(build_job(spec, trial))["volumeMounts"]
    return {
        mount["mountPath"]: (mount["subPath"], mount.get("readOnly", False))
        for mount in mounts
        if mount["name"] == "checkpoints"
    }


@pytest.mark.fault("F81")
@pytest.mark.parametrize("attempt", [1, 2, 3, 4, 5, 12])
def test_a_pod_can_write_over_no_checkpoint_of_its_predecessor_or_a_successor(
    attempt: int,
) -> None:
    trial = "a/b/demo-2a97516c/7"
    mounts = checkpoint_mounts(attempt)
    writable = {path for path, read_only in mounts.values() if not read_only}
    reachable = {path for path, read_only in mounts.values() if read_only}

    assert mounts[CHECKPOINT_PATH] == (f"{trial}/.attempts/{attempt}", False)
    assert reachable == {trial}
    others = {
        f"{trial}/.attempts/{other}"
        for other in range(attempt - 1, attempt + 9)
        if other != attempt
    }
    assert not writable & others
    assert all(path.startswith(f"{trial}/.attempts/") for path in writable)


@pytest.mark.fault("F03")
def test_a_pod_reaches_the_checkpoints_of_its_trial_and_of_no_other() -> None:
    for number in (7, 8):
        parts = {path.split("/")[3] for path, _ in checkpoint_mounts(4, number).values()}
        assert parts == {str(number)}


def test_a_script_is_told_where_its_checkpoints_are() -> None:
    spec = a_spec(CHECKPOINTS)
    told = with_pod_paths(a_trial(attempt=4), spec.trial.kubernetes)

    assert told.checkpoints is not None
    assert told.checkpoint_dir == f"{CHECKPOINT_PATH}/files"
    assert {told.checkpoints.own, told.checkpoints.trial, *told.checkpoints.retired} == set(
        checkpoint_mounts(4)
    )
    without = with_pod_paths(a_trial(), a_spec().trial.kubernetes)
    assert (without.checkpoint_dir, without.checkpoints) == (None, None)


REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


@pytest.mark.fault("F12")
def test_an_attempt_keeps_away_from_nodes_whatever_else_the_study_asks_for() -> None:
    away = {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": ["n1", "n2"]}
    zones = [{"key": "zone", "operator": "In", "values": [zone]} for zone in "ab"]
    spec = a_spec(
        {
            "affinity": {"podAntiAffinity": {REQUIRED: []}},
            "pod_template": {
                "spec": {
                    "affinity": {
                        "nodeAffinity": {
                            REQUIRED: {
                                "nodeSelectorTerms": [{"matchExpressions": [z]} for z in zones]
                            }
                        }
                    }
                }
            },
        }
    )
    job = build_job(spec, a_trial(), avoid={"n2", "n1"})
    plain = build_job(a_spec(), a_trial(), avoid=["n1", "n2"])

    assert pod_of(job)["affinity"] == {
        "podAntiAffinity": {REQUIRED: []},
        "nodeAffinity": {
            REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": [z, away]} for z in zones]}
        },
    }
    assert pod_of(plain)["affinity"] == {
        "nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": [away]}]}}
    }
    assert avoided_nodes(job) == ("n1", "n2")
    assert avoided_nodes(build_job(spec, a_trial())) == ()
    again = build_job(spec, a_trial())
    assert "zone" in str(again)
    assert "NotIn" not in str(again), "the study's own template is left as it was"


@pytest.mark.fault("F11")
def test_a_queue_admits_the_job_before_its_pod_is_made() -> None:
    job = a_job({"queue": "team-a"})

    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    assert job["spec"]["suspend"] is True


def test_the_image_is_the_files_or_the_one_that_is_given() -> None:
    spec = a_spec()
    pinned = build_job(spec, a_trial(), image="registry.example/demo@sha256:abc")

    assert container_of(build_job(spec, a_trial()))["image"] == "registry.example/demo:1"
    assert container_of(pinned)["image"] == "registry.example/demo@sha256:abc"


@pytest.mark.parametrize(
    ("tracking", "uri", "told"),
    [
        (None, None, None),
        (None, "http://inside:5000", None),
        (MLFLOW, None, MLFLOW),
        (MLFLOW, "http://inside:5000", TrackingRef("http://inside:5000", "0123abc")),
        (TrackingRef("sqlite:////home/me/mlflow.db", "r"), None, None),
        (TrackingRef("sqlite:////x.db", "r"), "https://mlflow", TrackingRef("https://mlflow", "r")),
    ],
)
def test_a_pod_is_told_of_mlflow_where_it_can_reach_it(
    tracking: TrackingRef | None, uri: str | None, told: TrackingRef | None
) -> None:
    spec = a_spec()
    placed = with_pod_paths(a_trial(tracking=tracking), spec.trial.kubernetes, uri)
    env = env_of(build_job(spec, placed))

    assert placed.tracking == told
    assert env.get("MLFLOW_TRACKING_URI") == (told.uri if told else None)
    assert env.get("MLFLOW_RUN_ID") == (told.run_id if told else None)
    assert ("MLFLOW_RUN_CONTEXT" in env) is (told is not None)
    assert (placed.metrics_path, placed.stop_path, placed.artifact_dir) == (None, None, None)


# ---- values that look like something else ------------------------------------------------------

HOSTILE = [
    "$(HOME)",
    "$$(HOME)",
    "$$",
    "$$$(x)",
    "$",
    "a$",
    "$()",
    "`id`",
    "'; rm -rf /",
    "\n\0",
    "🦊",
]


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.fault("F43")
def test_what_looks_like_a_reference_reaches_the_script_as_it_is(value: str) -> None:
    spec = a_spec(env={"FLAG": value} if "\0" not in value else {})
    trial = a_trial(params={"x": value})
    env = env_of(build_job(spec, trial))

    assert Trial.from_json(expanded(env[TRIAL_VARIABLE], {"HOME": "/tmp", "x": "y"})) == trial
    if "\0" not in value:
        assert expanded(env["FLAG"], {"HOME": "/tmp", "x": "y"}) == value


@settings(derandomize=True, deadline=None, max_examples=300)
@given(value=st.text("$()ab", max_size=12))
def test_no_value_at_all_is_expanded(value: str) -> None:
    spec = a_spec(env={"FLAG": value}, command=["python", value or "x"])
    job = build_job(spec, a_trial(params={"x": value}))
    env = env_of(job)

    assert expanded(env["FLAG"], {"a": "!", "": "!"}) == value
    assert Trial.from_json(expanded(env[TRIAL_VARIABLE], {"a": "!"})).params == {"x": value}
    assert expanded(container_of(job)["command"][1], {"a": "!", "": "!"}) == (value or "x")


# ---- the patch ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "patch", "merged"),
    [
        ({"a": 1, "b": 2}, {}, {"a": 1, "b": 2}),
        ({"a": 1, "b": 2}, {"b": 3, "c": 4}, {"a": 1, "b": 3, "c": 4}),
        ({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}}, {"a": {"x": 1, "y": 3}}),
        ({"a": 1, "b": 2}, {"a": None, "z": None}, {"b": 2}),
        ({"a": {"x": 1}}, {"a": {"$patch": "replace", "y": 2}}, {"a": {"y": 2}}),
        ({}, {"a": {"$patch": "replace", "y": 2}}, {"a": {"y": 2}}),
        ({}, {"a": {"b": {"c": None, "d": 1}}}, {"a": {"b": {"d": 1}}}),
        # Lists with a merge key.
        (
            {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
            {"env": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}]},
            {
                "env": [
                    {"name": "A", "value": "1"},
                    {"name": "B", "value": "3"},
                    {"name": "C", "value": "4"},
                ]
            },
        ),
        (
            {"volumes": [{"name": "a"}, {"name": "b"}]},
            {"volumes": [{"name": "a", "$patch": "delete"}, {"name": "z", "$patch": "delete"}]},
            {"volumes": [{"name": "b"}]},
        ),
        (
            {},
            {"volumes": [{"name": "a", "$patch": "delete"}, {"name": "b"}]},
            {"volumes": [{"name": "b"}]},
        ),
        (
            {"containers": [{"name": "trial", "volumeMounts": [{"mountPath": "/a", "name": "x"}]}]},
            {"containers": [{"name": "trial", "volumeMounts": [{"mountPath": "/a", "name": "y"}]}]},
            {"containers": [{"name": "trial", "volumeMounts": [{"mountPath": "/a", "name": "y"}]}]},
        ),
        (
            {"containers": [{"name": "trial", "image": "i"}]},
            {"containers": [{"name": "proxy", "image": "p"}]},
            {"containers": [{"name": "trial", "image": "i"}, {"name": "proxy", "image": "p"}]},
        ),
        (
            {"containers": [{"name": "trial", "securityContext": {"a": 1, "b": 2}}]},
            {"containers": [{"name": "trial", "securityContext": {"$patch": "replace", "c": 3}}]},
            {"containers": [{"name": "trial", "securityContext": {"c": 3}}]},
        ),
        # Other lists are replaced as a whole.
        ({"command": ["a", "b"]}, {"command": ["c"]}, {"command": ["c"]}),
        (
            {"tolerations": [{"key": "a"}]},
            {"tolerations": [{"key": "b"}]},
            {"tolerations": [{"key": "b"}]},
        ),
        ({"a": {"x": 1}}, {"a": "text"}, {"a": "text"}),
        ({"a": "text"}, {"a": {"x": 1}}, {"a": {"x": 1}}),
    ],
)
def test_a_patch_is_merged_as_kubectl_would(base: Any, patch: Any, merged: Any) -> None:
    before = copy.deepcopy((base, patch))

    assert strategic_merge(base, patch) == merged
    assert (base, patch) == before


def test_the_patch_of_a_study_file_reaches_pod_and_container() -> None:
    job = a_job(
        {
            "pod_template": {
                "metadata": {"labels": {"team": "b"}},
                "spec": {
                    "runtimeClassName": "nvidia",
                    "containers": [{"name": "trial", "workingDir": "/app"}],
                    "enableServiceLinks": None,
                },
            }
        }
    )

    assert job["spec"]["template"]["metadata"]["labels"]["team"] == "b"
    assert job["spec"]["template"]["metadata"]["labels"]["studyflow.dev/trial"] == "7"
    assert pod_of(job)["runtimeClassName"] == "nvidia"
    assert "enableServiceLinks" not in pod_of(job)
    assert container_of(job)["workingDir"] == "/app"
    assert container_of(job)["image"] == "registry.example/demo:1"


JSON = st.recursive(
    st.none() | st.integers(0, 3) | st.sampled_from(["replace", "delete", "a"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "env", "volumes", "$patch", "command"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(patch=st.dictionaries(st.sampled_from(["spec", "metadata"]), JSON))
def test_no_patch_at_all_is_too_much(patch: dict[str, Any]) -> None:
    base = {"metadata": {"labels": {}}, "spec": {"env": [{"name": "a"}], "volumes": []}}

    strategic_merge(base, patch)


if __name__ == "__main__":
    GOLDEN.write_text(yaml.safe_dump(golden_job(), sort_keys=False, width=100))


def test_a_pod_has_the_token_of_its_attempt_where_mlflow_asks_for_one() -> None:
    now = 1_000_000.0
    token = RunTokens(KEY, 60.0, clock=lambda: now).of(a_trial()) or ""
    env = env_of(build_job(a_spec(), a_trial(), token=token))
    read = read_token(env["MLFLOW_TRACKING_TOKEN"], KEY, now)
    assert isinstance(read, RunToken)
    assert (read.study, read.run_id, read.number, read.attempt) == ("demo", MLFLOW.run_id, 7, 2)


def test_without_a_key_or_a_run_there_is_no_token() -> None:
    assert RunTokens(None, 60.0).of(a_trial()) is None
    assert RunTokens(KEY, 60.0).of(a_trial(tracking=None)) is None
    assert "MLFLOW_TRACKING_TOKEN" not in env_of(a_job())

"""What a platform allows: read from its file, and held against study files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from tests.unit.spec.pods.test_study_files import a_job, a_spec, document

from studyflow.cli import main
from studyflow.errors import ExecutorBlocked, PlatformError
from studyflow.reasons import Code
from studyflow.spec.pods import Platform, judge_study, read_platform
from studyflow.spec.pods.images import lies_in, prefix, repository
from studyflow.spec.pods.quantities import amount
from studyflow.spec.problems import show_path

ROOT = Path(__file__).parents[4]
EXAMPLE = ROOT / "k8s" / "platform.yaml"


def refused(platform: Platform, kubernetes: dict[str, Any], **trial: Any) -> list[str]:
    broken = judge_study(a_spec(kubernetes, **trial).trial, platform)
    assert {one.code for one in broken} <= {Code.PLATFORM_FORBIDS}
    return [show_path(one.path).removeprefix("trial.") for one in broken]


def test_the_defaults_are_safe_and_otherwise_open() -> None:
    assert Platform().model_dump() == {
        "contact": "whoever runs the cluster",
        "service_accounts": ("studyflow-trial", "default"),
        "secrets": None,
        "claims": None,
        "node_selectors": None,
        "tolerations": None,
        "priority_classes": None,
        "runtime_classes": None,
        "scheduler_names": ("default-scheduler",),
        "queues": None,
        "images": None,
        "max_resources": {},
        "extra_containers": True,
    }
    assert read_platform(None) == Platform()


@pytest.mark.parametrize(
    ("field", "kubernetes", "place"),
    [
        ("secrets", {"secret_env": {"A": {"secret": "theirs", "key": "k"}}}, "secret_env.A.secret"),
        ("secrets", {"env_from_secrets": ["theirs"]}, "env_from_secrets[0]"),
        ("secrets", {"image_pull_secrets": ["theirs"]}, "image_pull_secrets[0]"),
        ("secrets", {"volumes": [{"mount_path": "/a", "secret": "theirs"}]}, "volumes[0].secret"),
        ("claims", {"volumes": [{"mount_path": "/a", "claim": "theirs"}]}, "volumes[0].claim"),
        ("claims", {"checkpoints": {"claim": "theirs"}}, "checkpoints.claim"),
        ("priority_classes", {"priority_class": "theirs"}, "priority_class"),
        ("queues", {"queue": "theirs"}, "queue"),
        (
            "runtime_classes",
            {"pod_template": {"spec": {"runtimeClassName": "theirs"}}},
            "pod_template.spec.runtimeClassName",
        ),
        (
            "scheduler_names",
            {"pod_template": {"spec": {"schedulerName": "theirs"}}},
            "pod_template.spec.schedulerName",
        ),
        ("service_accounts", {"service_account": "theirs"}, "service_account"),
    ],
)
@pytest.mark.fault("F87")
def test_a_name_that_is_not_listed_is_refused(
    field: str, kubernetes: dict[str, Any], place: str
) -> None:
    wanted = [f"kubernetes.{place}"]

    assert refused(Platform.model_validate({field: ["ours", "our-*"]}), kubernetes) == wanted
    assert refused(Platform.model_validate({field: []}), kubernetes) == wanted
    assert refused(Platform.model_validate({field: ["theirs"]}), kubernetes) == []
    assert refused(Platform.model_validate({field: ["th*s"]}), kubernetes) == []


def test_what_is_the_servers_is_allowed_by_its_exact_name_alone() -> None:
    mine = {"secret_env": {"A": {"secret": "studyflow-mlflow", "key": "k"}}}

    assert refused(Platform(secrets=("*",)), mine) == ["kubernetes.secret_env.A.secret"]
    assert refused(Platform(secrets=("studyflow-*",)), mine) == ["kubernetes.secret_env.A.secret"]
    assert refused(Platform(secrets=("studyflow-mlflow",)), mine) == []
    assert refused(Platform(service_accounts=("*",)), {"service_account": "studyflow-runner"})


def test_a_refusal_says_rule_value_and_whom_to_ask() -> None:
    platform = Platform(contact="the ML platform team (#ml)", queues=("team-a", "team-b"))

    (broken,) = judge_study(a_spec({"queue": "team-c"}).trial, platform)

    assert broken.message == (
        "the queue must be one that trials may use (team-a or team-b), but it is 'team-c'"
    )
    assert broken.hint == (
        "ask the ML platform team (#ml): `queues` in the platform's file can allow it"
    )
    with pytest.raises(ExecutorBlocked, match="team-c") as caught:
        a_job({"queue": "team-c"}, platform)
    assert caught.value.code is Code.PLATFORM_FORBIDS


# ---- where pods run ------------------------------------------------------------------------------

NODES = Platform(node_selectors={"pool": ("gpu", "cpu"), "zone": ()})
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def node_affinity(**condition: Any) -> dict[str, Any]:
    term = {"matchExpressions": [condition]}
    return {"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [term]}}}}


@pytest.mark.parametrize(
    ("kubernetes", "is_allowed"),
    [
        ({"node_selector": {"pool": "gpu", "zone": "anything"}}, True),
        ({"node_selector": {"pool": "control"}}, False),
        ({"node_selector": {"node-role.kubernetes.io/control-plane": ""}}, False),
        ({"pod_template": {"spec": {"nodeSelector": {"pool": "control"}}}}, False),
        (node_affinity(key="pool", operator="In", values=["gpu"]), True),
        (node_affinity(key="pool", operator="In", values=["gpu", "control"]), False),
        (node_affinity(key="pool", operator="NotIn", values=["gpu"]), False),
        (node_affinity(key="zone", operator="Exists"), True),
        (node_affinity(key="disk", operator="Exists"), False),
        (node_affinity(key="kubernetes.io/hostname", operator="NotIn", values=["n1"]), True),
        (node_affinity(key="kubernetes.io/hostname", operator="In", values=["n1"]), False),
    ],
)
def test_nodes_are_chosen_by_labels_for_trials(
    kubernetes: dict[str, Any], is_allowed: bool
) -> None:
    assert (refused(NODES, kubernetes) == []) is is_allowed


@pytest.mark.parametrize(
    ("toleration", "is_allowed"),
    [
        ({"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}, True),
        ({"key": "gpu", "operator": "Exists"}, False),  # every effect
        ({"key": "gpu", "value": "a", "effect": "NoSchedule"}, True),
        ({"key": "team", "value": "a"}, True),
        ({"key": "team", "value": "b"}, False),
        ({"key": "team", "operator": "Exists"}, False),  # every value
        ({"operator": "Exists"}, False),  # every taint
        ({"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}, False),
    ],
)
def test_a_toleration_tolerates_no_more_than_is_allowed(
    toleration: dict[str, Any], is_allowed: bool
) -> None:
    platform = Platform.model_validate(
        {"tolerations": [{"key": "gpu", "effect": "NoSchedule"}, {"key": "team", "value": "a"}]}
    )
    patch = {"pod_template": {"spec": {"tolerations": [toleration]}}}

    assert (refused(platform, {"tolerations": [toleration]}) == []) is is_allowed
    assert (refused(platform, patch) == []) is is_allowed
    everything = Platform.model_validate({"tolerations": [{}]})
    assert refused(everything, {"tolerations": [toleration]}) == []


# ---- images --------------------------------------------------------------------------------------

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("image", "parts"),
    [
        ("busybox", ("docker.io", "library", "busybox")),
        ("busybox:1", ("docker.io", "library", "busybox")),
        ("team/x", ("docker.io", "team", "x")),
        ("index.docker.io/x", ("docker.io", "library", "x")),
        ("registry.example/team/x:1", ("registry.example", "team", "x")),
        (f"registry.example/team/x@{DIGEST}", ("registry.example", "team", "x")),
        (f"registry.example/team/x:1@{DIGEST}", ("registry.example", "team", "x")),
        ("registry.example:5000/x", ("registry.example:5000", "x")),
        ("localhost/x", ("localhost", "x")),
        ("Registry.Example/x", ("registry.example", "x")),
        ("registry.example/team/../x", None),
        ("registry.example//x", None),
        ("registry.example/Team/x", None),
        ("registry.example/x@sha256:abc", None),
        ("registry.example/x:", None),
        ("https://registry.example/x", None),
        ("x\n", None),
        ("", None),
        ("a" * 100_000 + "!", None),
    ],
)
def test_an_image_lies_in_a_registry_and_folders(image: str, parts: tuple[str, ...] | None) -> None:
    assert repository(image) == parts


@pytest.mark.parametrize(
    ("allowed", "image", "is_allowed"),
    [
        ("registry.example/team", "registry.example/team/x:1", True),
        ("registry.example/team", f"registry.example/team/x@{DIGEST}", True),
        ("registry.example/team", "registry.example/team/sub/x", True),
        ("registry.example/team", "registry.example/team-evil/x", False),
        ("registry.example/team", "registry.example/teamx", False),
        ("registry.example/team", "registry.example.evil/team/x", False),
        ("registry.example/team", "evil.example/registry.example/team/x", False),
        ("registry.example/team", "registry.example:5000/team/x", False),
        ("registry.example/team/x", "registry.example/team/x:2", True),
        ("registry.example/team/x", "registry.example/team/x-y:2", False),
        ("registry.example", "registry.example/anything/x", True),
        ("registry.example", "busybox", False),
        ("docker.io/library", "python:3.12", True),
        ("docker.io/library", "team/x", False),
        ("docker.io", "team/x", True),
        ("docker.io", "localhost/x", False),
    ],
)
def test_images_come_from_whole_folders(allowed: str, image: str, is_allowed: bool) -> None:
    assert lies_in(image, (allowed,)) is is_allowed
    platform = Platform(images=(allowed,))
    assert (refused(platform, {}, image=image) == []) is is_allowed
    beside = {"spec": {"initContainers": [{"name": "a", "image": image}]}}
    script = f"{allowed}/x" if prefix(allowed) else ""
    assert (refused(platform, {"pod_template": beside}, image=script) == []) is is_allowed


# ---- resources -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quantity", "value"),
    [
        ("2", 2),
        (2, 2),
        ("500m", 0.5),
        ("1.5", 1.5),
        ("16Gi", 16 * 1024**3),
        ("16G", 16e9),
        ("2e3", 2000),
        ("1E3", 1000),
        ("1E", 1e18),
        ("-1", None),
        ("1GB", None),
        ("Infinity", None),
        ("", None),
        (True, None),
        (None, None),
        ("1" * 30, None),
    ],
)
def test_amounts_are_kubernetes(quantity: Any, value: float | None) -> None:
    found = amount(quantity)
    assert (None if found is None else float(found)) == value


def beside(restart: str | None = None, **limits: str) -> dict[str, Any]:
    one: dict[str, Any] = {"name": "b", "image": "x", "resources": {"limits": limits}}
    if restart is None:
        return {"pod_template": {"spec": {"containers": [one]}}}
    if restart:
        one["restartPolicy"] = restart
    return {"pod_template": {"spec": {"initContainers": [one]}}}


ASKS = {"cpu": "2", "memory": "4Gi", "gpu": 1}
MOST = {"cpu": "4", "memory": "8Gi", "gpu": 2, "ephemeral-storage": "20Gi"}


@pytest.mark.parametrize(
    ("kubernetes", "resources", "places"),
    [
        ({}, ASKS, []),
        ({}, {**ASKS, "cpu": "4001m"}, ["resources"]),
        ({}, {**ASKS, "memory": "8.5Gi"}, ["resources"]),
        ({}, {**ASKS, "gpu": 3}, ["resources"]),
        ({"gpu_resource": "any.example/name"}, {**ASKS, "gpu": 3}, ["resources"]),
        ({}, {"memory": "1Gi"}, ["resources"]),  # no limit of the CPU
        ({}, {"cpu": "1"}, ["resources"]),
        ({"scratch": "21Gi"}, ASKS, ["resources"]),
        ({"volumes": [{"mount_path": "/a", "empty_dir": "11Gi"}]}, ASKS, ["resources"]),
        (beside(cpu="2", memory="4Gi"), ASKS, []),
        (beside(cpu="3", memory="4Gi"), ASKS, ["kubernetes.pod_template.spec"]),
        (beside(cpu="1"), ASKS, ["kubernetes.pod_template.spec"]),
        (
            beside(cpu="1", memory="1Gi", **{"amd.com/gpu": "2"}),
            ASKS,
            ["kubernetes.pod_template.spec"],
        ),
        (beside("", cpu="4", memory="8Gi"), ASKS, []),  # before the script, not beside it
        (beside("", cpu="5", memory="1Gi"), ASKS, ["kubernetes.pod_template.spec"]),
        (beside("Always", cpu="3", memory="1Gi"), ASKS, ["kubernetes.pod_template.spec"]),
        (
            {
                "pod_template": {
                    "spec": {
                        "containers": [
                            {"name": "trial", "resources": {"requests": {"nvidia.com/gpu": "9"}}}
                        ]
                    }
                }
            },
            ASKS,
            ["resources"],
        ),
        (
            {"pod_template": {"spec": {"volumes": [{"name": "a", "emptyDir": {}}]}}},
            ASKS,
            ["resources"],
        ),
    ],
)
def test_a_trial_asks_for_no_more_than_it_may(
    kubernetes: dict[str, Any], resources: dict[str, Any], places: list[str]
) -> None:
    platform = Platform.model_validate({"max_resources": MOST})

    assert refused(platform, kubernetes, resources=resources) == places
    if places:
        with pytest.raises(ExecutorBlocked):
            a_job(kubernetes, platform, resources=resources)
    else:
        a_job(kubernetes, platform, resources=resources)


def test_a_platform_may_refuse_containers_beside_the_script() -> None:
    alone = Platform(extra_containers=False)

    assert refused(alone, beside(cpu="1")) == ["kubernetes.pod_template.spec.containers[0]"]
    assert refused(alone, beside("Always")) == ["kubernetes.pod_template.spec.initContainers[0]"]
    assert refused(alone, {"pod_template": {"spec": {"containers": [{"name": "trial"}]}}}) == []


# ---- the file ------------------------------------------------------------------------------------


def test_the_example_is_a_platforms_file_with_every_entry() -> None:
    platform = read_platform(EXAMPLE)

    assert set(yaml.safe_load(EXAMPLE.read_text())) == set(Platform.model_fields)
    assert platform.allows_image("registry.example/team/train:1")
    assert not platform.allows_image("registry.example/team-evil/train:1")


def test_every_mistake_in_the_file_is_told_by_its_place(tmp_path: Path) -> None:
    path = tmp_path / "platform.yaml"
    path.write_text(
        """\
contact: ""
secrets: [team_a]
image: [x]
images: [team/x, "registry.example/x:1", registry.example/x]
max_resources: {cpus: 4, cpu: lots}
tolerations: [{key: a, effect: Never}]
queues: team-a
extra_containers: "no, thanks"
"""
    )

    with pytest.raises(PlatformError) as caught:
        read_platform(path)

    places = [line.split(": ")[:2] for line in caught.value.problems]
    assert places == [
        ["platform.yaml:1:10", "contact"],
        ["platform.yaml:2:11", "secrets[0]"],
        ["platform.yaml:3:1", "image"],
        ["platform.yaml:4:10", "images[0]"],
        ["platform.yaml:4:18", "images[1]"],
        ["platform.yaml:5:23", "max_resources.cpus"],
        ["platform.yaml:5:31", "max_resources.cpu"],
        ["platform.yaml:6:32", "tolerations[0].effect"],
        ["platform.yaml:7:9", "queues"],
        ["platform.yaml:8:19", "extra_containers"],
    ]
    assert all(" Hint: " in line for line in caught.value.problems)
    assert str(caught.value).startswith(f"The platform's file {path} has 10 problems:\n")


@pytest.mark.parametrize("text", ["[]", "text", "a: [", "\x00", "---\n{}\n---\n{}"])
def test_a_file_of_another_kind_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "platform.yaml"
    path.write_text(text)

    with pytest.raises(PlatformError):
        read_platform(path)


def test_a_file_that_is_not_there_lifts_no_limit(tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(yaml.safe_dump(document({})))
    missing = {"STUDYFLOW_PLATFORM": str(tmp_path / "platform.yaml")}

    for command in ("check", "render"):
        done = CliRunner().invoke(main, [command, str(study)], env=missing)
        assert done.exit_code == 2
        assert "Cannot read the platform's file" in done.output
        assert "no study runs on the cluster without it" in done.output


def test_a_command_holds_a_file_against_the_platforms(tmp_path: Path) -> None:
    study, platform = tmp_path / "study.yaml", tmp_path / "platform.yaml"
    study.write_text(yaml.safe_dump(document({"queue": "team-b"})))
    platform.write_text("contact: Ada\nqueues: [team-a]\n")
    env = {"STUDYFLOW_PLATFORM": str(platform)}

    for command in ("check", "render"):
        done = CliRunner().invoke(main, [command, str(study)], env=env)
        assert done.exit_code == 2
        assert "ask Ada: `queues` in the platform's file can allow it" in done.output


def test_a_platform_says_what_it_allows() -> None:
    assert Platform().describe() == (
        "Allowed are service accounts: studyflow-trial, default; schedulers: default-scheduler; "
        "Secrets: any but the servers'; claims: any but the servers'. Not limited: "
        "priority classes, runtime classes, queues, node selectors, tolerations, images, "
        "resources of a trial, extra containers."
    )
    assert read_platform(EXAMPLE).describe().endswith("Not limited: none.")

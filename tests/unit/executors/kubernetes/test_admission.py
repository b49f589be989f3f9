"""The admission policy, evaluated by a library for CEL over pods as the API server sees them.

No API server of the tests knows the kind. What it adds to a pod before it asks the policy is added
here; `quantity` and `sum`, which are Kubernetes' own, stand in by a few lines.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import celpy
import celpy.celtypes as cel
import pytest
import yaml
from celpy.adapter import json_to_cel
from celpy.evaluation import CELEvalError
from tests.kubernetes_schema import validate
from tests.unit.spec.pods.hostile import HONEST, HOSTILE
from tests.unit.spec.pods.test_study_files import a_job

from studyflow.errors import ExecutorBlocked
from studyflow.executors.kubernetes.admission import admission_policy
from studyflow.spec.pods import Platform, read_platform, strategic_merge
from studyflow.spec.pods.quantities import amount

K8S = Path(__file__).parents[4] / "k8s"
ENVIRONMENT = celpy.Environment()


def _quantity(text: Any) -> Any:
    return cel.DoubleType(float(amount(str(text)) or 0))


def _sum(numbers: Any) -> Any:
    return cel.DoubleType(sum(float(number) for number in numbers))


FUNCTIONS = {"quantity": _quantity, "asApproximateFloat": lambda number: number, "sum": _sum}


class Policy:
    """A policy that was compiled."""

    def __init__(self, platform: Platform) -> None:
        spec = admission_policy(platform)[0]["spec"]
        self.variables = {one["name"]: _compiled(one["expression"]) for one in spec["variables"]}
        self.rules = [(one["message"], _compiled(one["expression"])) for one in spec["validations"]]

    def refusals(self, pod: dict[str, Any]) -> list[str]:
        """Return what is told of a pod; an error of a condition refuses it too."""
        known = {"object": json_to_cel(pod)}
        known["variables"] = cel.MapType(
            {
                cel.StringType(name): program.evaluate(dict(known))
                for name, program in self.variables.items()
            }
        )
        refused = []
        for message, program in self.rules:
            try:
                is_met = bool(program.evaluate(dict(known)))
            except CELEvalError:
                is_met = False
            if not is_met:
                refused.append(message)
        return refused


def _compiled(expression: str) -> Any:
    return ENVIRONMENT.program(ENVIRONMENT.compile(expression), functions=FUNCTIONS)


def as_pod(template: dict[str, Any]) -> dict[str, Any]:
    """Return the pod of a template, with what the API server adds before it asks a policy."""
    pod = copy.deepcopy(template)
    metadata, spec = pod["metadata"], pod["spec"]
    metadata["labels"] |= {"job-name": "j", "batch.kubernetes.io/job-name": "j"}
    metadata["annotations"] |= {"kubernetes.io/limit-ranger": "set"}
    if isinstance(spec, dict):
        spec.setdefault("serviceAccountName", spec.get("serviceAccount") or "default")
        spec.setdefault("schedulerName", "default-scheduler")
        taint = {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
        spec["tolerations"] = [
            *(spec.get("tolerations") or []),
            {"key": "node.kubernetes.io/not-ready", **taint},
            {"key": "node.kubernetes.io/unreachable", **taint},
        ]
    return {"apiVersion": "v1", "kind": "Pod", **pod}


@pytest.fixture(scope="module")
def policy() -> Policy:
    return Policy(Platform())


def test_the_file_is_what_the_command_prints() -> None:
    text = (K8S / "admission" / "trial-policy.yaml").read_text()

    assert tuple(yaml.safe_load_all(text)) == admission_policy(Platform())


@pytest.mark.parametrize("version", ["1.30", "1.31", "1.34", "1.37"])
@pytest.mark.parametrize("platform", [Platform(), read_platform(K8S / "platform.yaml")])
def test_policy_and_binding_follow_the_schema(platform: Platform, version: str) -> None:
    for manifest in admission_policy(platform):
        validate(manifest, version)


def test_the_binding_is_of_the_namespaces_that_hold_trials() -> None:
    policy, binding = admission_policy(Platform())
    namespaces = [
        yaml.safe_load(path.read_text())
        for path in (
            K8S / "base/trials/namespace.yaml",
            K8S / "overlays/team/trials/namespace.yaml",
        )
    ]

    assert binding["spec"]["policyName"] == policy["metadata"]["name"]
    (label,) = binding["spec"]["matchResources"]["namespaceSelector"]["matchLabels"].items()
    assert all(label in one["metadata"]["labels"].items() for one in namespaces)
    servers = yaml.safe_load((K8S / "base/servers/namespace.yaml").read_text())
    assert label not in servers["metadata"]["labels"].items()
    assert policy["spec"]["failurePolicy"] == "Fail"


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_trials_pod_is_admitted(name: str, policy: Policy) -> None:
    pod = as_pod(a_job(HONEST[name])["spec"]["template"])

    assert policy.refusals(pod) == []


LEFT_TO_THE_RUNNER = {
    # The API server itself refuses, ignores or cannot tell these.
    "the node's network by case",
    "a field of a future Kubernetes",
    "a merge key",
    "a finalizer",
    "another namespace",
    "one label less",
    "a label that is a number",
    "two volumes of one name",
    "a mount out of its volume",
    "a mount with options",
    "a secret in other letters",
    "a claim with a blank",
    "a mount by an expression",
    "an amount below nothing",
    "an ephemeral container",
    "two containers of one name",
    "a resource by a claim",
    "the node's files beside an empty folder",
    "a variable from a file of the node",
    "a priority",
    "another system",
    # What harms nobody but the study itself.
    "a long grace",
    "a later deadline",
    "no deadline",
    "another program",
    "more arguments",
    "another image",
    "an outcome from the log",
    "another run",
    "another trial",
    "another login to MLflow",
    "a container that restarts",
    "another scratch",
    "a field's volume",
    "no volumes",
    "a mount over everything",
    "a mount over the outcome",
    "a mount over the checkpoints",
    "everybody's checkpoints",
    "everybody's checkpoints by the patch",
    # The cluster's own webhooks set keys of these domains, too.
    "the node's files by a mesh's sidecar",
}
"""Hostile files that the policy has no rule for."""


def hostile_pods() -> dict[str, dict[str, Any]]:
    """Pods of hostile patches as an API client would send them: without the runner's rules."""
    base = a_job({})["spec"]["template"]
    pods = {}
    for name, (kubernetes, _) in HOSTILE.items():
        patch = kubernetes.get("pod_template", {})
        if "$" in str(patch) or not isinstance(patch.get("spec", {}), dict) or not patch:
            continue
        merged = strategic_merge(base, patch)
        containers = merged["spec"].get("containers")
        if "labels" not in merged["metadata"] or not all(
            isinstance(one, dict) and "name" in one for one in containers
        ):
            continue
        pods[name] = as_pod(merged)
    return pods


PODS = hostile_pods()


@pytest.mark.parametrize("name", PODS)
@pytest.mark.fault("F87")
def test_a_hostile_pod_is_refused_or_left_to_the_runner(name: str, policy: Policy) -> None:
    assert bool(policy.refusals(PODS[name])) is (name not in LEFT_TO_THE_RUNNER), name


def test_most_hostile_pods_are_refused() -> None:
    assert len(set(PODS) - LEFT_TO_THE_RUNNER) >= 50
    assert not LEFT_TO_THE_RUNNER - set(HOSTILE)


# ---- what the platform allows --------------------------------------------------------------------

PLATFORM = Platform.model_validate(
    {
        "service_accounts": ["default", "team-*"],
        "secrets": ["hub", "our-*"],
        "claims": ["data"],
        "node_selectors": {"pool": ["gpu"], "zone": []},
        "tolerations": [{"key": "gpu", "effect": "NoSchedule"}, {"key": "team", "value": "a"}],
        "priority_classes": ["low"],
        "runtime_classes": ["nvidia"],
        "scheduler_names": ["default-scheduler", "mine"],
        "images": ["registry.example/team", "registry.example/demo", "docker.io/library"],
        "max_resources": {"cpu": "4", "memory": "8Gi", "gpu": "2"},
    }
)
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def asks(**fields: Any) -> dict[str, Any]:
    return {"pod_template": {"spec": fields}}


def on(**condition: Any) -> dict[str, Any]:
    return {"matchExpressions": [condition]}


def beside(**limits: str) -> dict[str, Any]:
    resources = {"limits": limits}
    one = {"name": "b", "image": "registry.example/team/x", "resources": resources}
    return asks(containers=[one])


def pulled(image: str) -> dict[str, Any]:
    limits = {"cpu": "1", "memory": "1Gi"}
    one = {"name": "b", "image": image, "resources": {"limits": limits}}
    return asks(initContainers=[one])


CASES: list[tuple[dict[str, Any], bool]] = [
    ({}, True),
    ({"service_account": "team-a"}, True),
    ({"service_account": "theirs"}, False),
    ({"service_account": "studyflow-runner"}, False),
    ({"secret_env": {"A": {"secret": "hub", "key": "k"}}}, True),
    ({"secret_env": {"A": {"secret": "our-own", "key": "k"}}}, True),
    ({"secret_env": {"A": {"secret": "theirs", "key": "k"}}}, False),
    ({"env_from_secrets": ["theirs"]}, False),
    ({"image_pull_secrets": ["theirs"]}, False),
    ({"volumes": [{"mount_path": "/a", "secret": "theirs"}]}, False),
    ({"volumes": [{"mount_path": "/a", "claim": "data"}]}, True),
    ({"volumes": [{"mount_path": "/a", "claim": "theirs"}]}, False),
    ({"priority_class": "low"}, True),
    ({"priority_class": "high"}, False),
    (asks(runtimeClassName="nvidia"), True),
    (asks(runtimeClassName="kata"), False),
    (asks(schedulerName="mine"), True),
    (asks(schedulerName="theirs"), False),
    ({"node_selector": {"pool": "gpu", "zone": "z"}}, True),
    ({"node_selector": {"pool": "control"}}, False),
    ({"node_selector": {"disk": "ssd"}}, False),
    ({"tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]}, True),
    ({"tolerations": [{"key": "gpu", "operator": "Exists"}]}, False),
    ({"tolerations": [{"key": "team", "value": "a"}]}, True),
    ({"tolerations": [{"key": "team", "operator": "Exists"}]}, False),
    ({"tolerations": [{"operator": "Exists"}]}, False),
    (beside(cpu="2", memory="4Gi"), True),
    (beside(cpu="3", memory="4Gi"), False),
    (beside(cpu="1"), False),
    (beside(cpu="1", memory="1Gi", **{"amd.com/gpu": "2"}), False),
    *(
        ({"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [term]}}}}, allowed)
        for term, allowed in (
            (on(key="pool", operator="In", values=["gpu"]), True),
            (on(key="pool", operator="In", values=["control"]), False),
            (on(key="pool", operator="Exists"), False),
            (on(key="zone", operator="Exists"), True),
            (on(key="disk", operator="Exists"), False),
            (on(key="kubernetes.io/hostname", operator="NotIn", values=["n"]), True),
        )
    ),
    (
        {
            "affinity": {
                "nodeAffinity": {
                    PREFERRED: [{"weight": 1, "preference": on(key="disk", operator="Exists")}]
                }
            }
        },
        False,
    ),
    *(
        (pulled(image), allowed)
        for image, allowed in (
            ("registry.example/team/x:1", True),
            ("registry.example/team@sha256:" + "a" * 64, True),
            ("registry.example/team-evil/x", False),
            ("registry.example:5000/team/x", False),
            ("registryxexample/team/x", False),
            ("python:3.12", True),
            ("docker.io/library/python", True),
            ("index.docker.io/python", True),
            ("team/x", False),
        )
    ),
]


@pytest.mark.parametrize(("kubernetes", "is_allowed"), CASES)
def test_policy_and_runner_allow_the_same(kubernetes: dict[str, Any], is_allowed: bool) -> None:
    resources = {"cpu": "2", "memory": "4Gi", "gpu": 1}
    open_to_all = Platform.model_validate(
        {
            "service_accounts": ["*", "studyflow-runner"],
            "scheduler_names": ["*"],
            "tolerations": [{}],
        }
    )

    pod = as_pod(a_job(kubernetes, open_to_all, resources=resources)["spec"]["template"])
    refused = RULED.refusals(pod)

    assert (refused == []) is is_allowed, refused
    if is_allowed:
        a_job(kubernetes, PLATFORM, resources=resources)
    else:
        assert all("ask whoever runs the cluster" in message for message in refused)
        with pytest.raises(ExecutorBlocked):
            a_job(kubernetes, PLATFORM, resources=resources)


RULED = Policy(PLATFORM)


def test_docker_hub_as_a_whole_is_not_this_machine() -> None:
    hub = Policy(Platform(images=("docker.io", "registry.example")))

    for image, is_allowed in (
        ("team/x", True),
        ("x:1", True),
        ("localhost/x", False),
        ("evil.example/x", False),
        ("evil:5000/x", False),
        ("docker.io/a/b", True),
    ):
        pod = as_pod(a_job({}, image="registry.example/demo:1")["spec"]["template"])
        pod["spec"]["containers"][0]["image"] = image
        assert (hub.refusals(pod) == []) is is_allowed, image


def test_a_pod_without_a_trial_is_refused(policy: Policy) -> None:
    pod = as_pod(a_job({})["spec"]["template"])
    pod["spec"]["containers"][0]["env"] = []

    assert len(policy.refusals(pod)) == 1
    assert len(policy.refusals({"metadata": {}, "spec": {"containers": [{"name": "x"}]}})) > 5

"""What the manifests promise about safety, read from what kubectl would send."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

Manifest = dict[str, Any]
Render = Callable[[str], tuple[Manifest, ...]]

K8S = Path(__file__).parents[3] / "k8s"
OVERLAYS = ["overlays/local", "overlays/gpu", "overlays/external"]
FOLDERS = ["base", *OVERLAYS]
VERSIONS = ["1.25", "1.28", "1.31", "1.34", "1.37"]

IMAGES = re.compile(r"registry\.example/studyflow/[a-z-]+:[0-9.]+|docker\.io/library/postgres:15")


def pods(manifests: tuple[Manifest, ...]) -> Iterator[tuple[str, Manifest]]:
    """The pod template of every manifest that has one, with its owner's name."""
    for manifest in manifests:
        template = manifest.get("spec", {}).get("template")
        if template is not None:
            yield f"{manifest['kind']}/{manifest['metadata']['name']}", template


def containers(pod: Manifest) -> list[Manifest]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def named(manifests: tuple[Manifest, ...], kind: str) -> dict[str, Manifest]:
    return {m["metadata"]["name"]: m for m in manifests if m["kind"] == kind}


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, str):
        yield value


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("folder", FOLDERS)
def test_every_manifest_follows_the_schema(folder: str, version: str, render: Render) -> None:
    for manifest in render(folder):
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_flow_runs_job_follows_the_schema_but_for_what_the_worker_insists_on(
    flow_run_job: Manifest, version: str
) -> None:
    pod = flow_run_job["spec"]["template"]["spec"]
    spec = {k: v for k, v in flow_run_job["spec"].items() if k != "podReplacementPolicy"}
    spec["template"] = {
        **flow_run_job["spec"]["template"],
        "spec": {k: v for k, v in pod.items() if k not in ("parallelism", "completions")},
    }
    kubernetes_validate.validate({**flow_run_job, "spec": spec}, version, strict=True)


def check_restricted(owner: str, pod: Manifest) -> None:
    """Pod Security's "restricted", and what the security baseline adds to it."""
    spec = pod["spec"]
    assert not {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"} & set(spec), owner
    assert spec["enableServiceLinks"] is False, owner
    assert spec["securityContext"]["runAsNonRoot"] is True, owner
    assert spec["securityContext"]["runAsUser"] > 0, owner
    assert spec["securityContext"]["runAsGroup"] > 0, owner
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, owner
    for container in containers(pod):
        name = f"{owner}: {container['name']}"
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
        }, name
        assert not any("hostPort" in port for port in container.get("ports", [])), name
        assert container["resources"]["requests"].keys() == {"cpu", "memory", "ephemeral-storage"}
        assert container["resources"]["limits"].keys() == {"memory", "ephemeral-storage"}, name
        assert container["imagePullPolicy"] == "IfNotPresent", name
    for volume in spec.get("volumes", []):
        kinds = volume.keys() - {"name"}
        assert kinds <= {"emptyDir", "configMap", "persistentVolumeClaim"}, owner
        assert "sizeLimit" in volume.get("emptyDir", {"sizeLimit": ""}), owner


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_container_is_restricted(folder: str, render: Render) -> None:
    found = list(pods(render(folder)))

    assert len(found) >= 3
    for owner, pod in found:
        check_restricted(owner, pod)


def test_a_flow_run_is_restricted(flow_run_job: Manifest) -> None:
    flow_run_job = yaml.safe_load(yaml.safe_dump(flow_run_job))
    flow_run_job["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = "IfNotPresent"
    check_restricted("flow run", flow_run_job["spec"]["template"])


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_namespace_enforces_the_restricted_standard(folder: str, render: Render) -> None:
    (namespace,) = named(render(folder), "Namespace").values()

    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_server_has_probes(folder: str, render: Render) -> None:
    for owner, pod in pods(render(folder)):
        for container in pod["spec"]["containers"]:
            probes = {"startupProbe", "readinessProbe", "livenessProbe"}
            assert probes <= container.keys(), owner


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.fault("F52")
def test_only_who_asks_kubernetes_has_a_token(folder: str, render: Render) -> None:
    accounts = named(render(folder), "ServiceAccount")
    with_token = {
        pod["spec"]["serviceAccountName"]
        for _, pod in pods(render(folder))
        if pod["spec"].get("automountServiceAccountToken") is not False
    }

    assert accounts["studyflow-trial"]["automountServiceAccountToken"] is False
    assert accounts["studyflow-server"]["automountServiceAccountToken"] is False
    assert with_token == {"studyflow-worker"}


JOBS = {
    "apiGroups": ["batch"],
    "resources": ["jobs"],
    "verbs": ["create", "get", "list", "watch", "delete"],
}
TRIAL_JOBS = {**JOBS, "verbs": ["create", "get", "list", "watch", "patch", "delete"]}
TRIAL_PODS = {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]}
PODS = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}
LOGS = {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]}
EVENTS = {"apiGroups": [""], "resources": ["events"], "verbs": ["list"]}


@pytest.mark.parametrize("folder", FOLDERS)
def test_rights_are_exactly_these(folder: str, render: Render) -> None:
    manifests = render(folder)
    bindings = {
        (subject["name"], binding["roleRef"]["kind"], binding["roleRef"]["name"])
        for binding in named(manifests, "RoleBinding").values()
        for subject in binding["subjects"]
    }

    assert {name: role["rules"] for name, role in named(manifests, "Role").items()} == {
        "studyflow-runner": [TRIAL_JOBS, TRIAL_PODS, LOGS, EVENTS],
        "studyflow-worker": [JOBS, PODS, LOGS],
    }
    assert bindings == {
        ("studyflow-runner", "Role", "studyflow-runner"),
        ("studyflow-worker", "Role", "studyflow-worker"),
    }
    assert not named(manifests, "ClusterRole")
    assert not named(manifests, "ClusterRoleBinding")


def peers(rules: list[Manifest], direction: str) -> set[tuple[str, int]]:
    """Who a policy opens, as (component or address block, port)."""
    found = set()
    for rule in rules:
        for peer in rule[direction]:
            if "ipBlock" in peer:
                who = peer["ipBlock"]["cidr"]
            else:
                who = next(iter(peer["podSelector"]["matchLabels"].values()))
            found |= {(who, port["port"]) for port in rule["ports"]}
    return found


EGRESS = {
    "default-deny": set(),
    "dns": {("kube-dns", 53), ("169.254.20.10/32", 53)},
    "trial": {("mlflow", 5000)},
    "runner": {
        ("mlflow", 5000),
        ("prefect-server", 4200),
        ("postgres", 5432),
        ("0.0.0.0/0", 443),
        ("0.0.0.0/0", 6443),
    },
    "prefect-worker": {("prefect-server", 4200), ("0.0.0.0/0", 443), ("0.0.0.0/0", 6443)},
    "prefect-server": {("postgres", 5432)},
    "mlflow": {("postgres", 5432)},
    "postgres": set(),
}
INGRESS = {
    "prefect-server": {("prefect-worker", 4200), ("runner", 4200)},
    "mlflow": {("runner", 5000), ("trial", 5000)},
    "postgres": {("prefect-server", 5432), ("mlflow", 5432), ("runner", 5432)},
}


@pytest.mark.parametrize("folder", ["base", "overlays/local", "overlays/gpu"])
def test_pods_reach_these_and_nobody_else(folder: str, render: Render) -> None:
    policies = named(render(folder), "NetworkPolicy")

    egress = {n: peers(p["spec"].get("egress", []), "to") for n, p in policies.items()}
    ingress = {n: peers(p["spec"].get("ingress", []), "from") for n, p in policies.items()}

    assert egress == EGRESS
    assert {name: who for name, who in ingress.items() if who} == INGRESS


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_pod_without_a_policy_of_its_own_reaches_names_only(folder: str, render: Render) -> None:
    policies = named(render(folder), "NetworkPolicy")
    for_all = [name for name, p in policies.items() if p["spec"]["podSelector"] == {}]

    assert for_all == ["default-deny", "dns"]
    assert policies["default-deny"]["spec"]["policyTypes"] == ["Ingress", "Egress"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_trial_reaches_names_and_mlflow_wherever_the_rest_is(folder: str, render: Render) -> None:
    trial = named(render(folder), "NetworkPolicy")["trial"]["spec"]

    assert trial["podSelector"]["matchLabels"] == {"app.kubernetes.io/component": "trial"}
    assert trial["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in trial
    assert peers(trial["egress"], "to") == {("mlflow", 5000)}


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.fault("F52")
def test_no_policy_opens_the_clouds_metadata_address(folder: str, render: Render) -> None:
    blocks = [
        peer["ipBlock"]
        for policy in named(render(folder), "NetworkPolicy").values()
        for rule in policy["spec"].get("egress", [])
        for peer in rule["to"]
        if "ipBlock" in peer
    ]

    assert blocks
    for block in blocks:
        assert block == {"cidr": "169.254.20.10/32"} or block == {
            "cidr": "0.0.0.0/0",
            "except": ["169.254.0.0/16"],
        }


@pytest.mark.parametrize("folder", FOLDERS)
def test_policies_and_services_select_pods_that_exist(folder: str, render: Render) -> None:
    manifests = render(folder)
    components = {
        pod["metadata"]["labels"]["app.kubernetes.io/component"] for _, pod in pods(manifests)
    }
    components |= {"trial", "runner"}  # made by the flow run and by Prefect's worker
    component = "app.kubernetes.io/component"

    for policy in named(manifests, "NetworkPolicy").values():
        labels = policy["spec"]["podSelector"].get("matchLabels", {})
        assert set(labels.values()) <= components
    for service in named(manifests, "Service").values():
        assert service["spec"]["selector"][component] in components


def test_a_flow_run_carries_the_label_that_its_policy_selects(flow_run_job: Manifest) -> None:
    labels = flow_run_job["spec"]["template"]["metadata"]["labels"]

    assert labels == {"app.kubernetes.io/component": "runner"}


@pytest.mark.parametrize("folder", ["base", "overlays/gpu", "overlays/external"])
def test_no_secret_is_in_the_manifests(folder: str, render: Render) -> None:
    manifests = render(folder)

    assert not named(manifests, "Secret")
    for manifest in manifests:
        for text in strings(manifest):
            assert not re.search(r"[a-z0-9+]+://[^/\s]*:[^/\s$]+@", text), text


@pytest.mark.parametrize("folder", FOLDERS)
def test_passwords_and_urls_come_by_reference(folder: str, render: Render) -> None:
    telling = re.compile(r"PASSWORD$|AUTH_STRING$|_URI$|CONNECTION_URL$|STORAGE$|ACCESS_KEY")
    for owner, pod in pods(render(folder)):
        for container in containers(pod):
            for variable in container.get("env", []):
                if telling.search(variable["name"]):
                    assert variable.keys() == {"name", "valueFrom"}, (owner, variable["name"])
                    assert "secretKeyRef" in variable["valueFrom"], (owner, variable["name"])


def test_what_the_base_refers_to_is_what_new_secrets_makes(render: Render) -> None:
    referred: dict[str, set[str]] = {}
    for _, pod in pods(render("base")):
        for container in containers(pod):
            for variable in container.get("env", []):
                reference = variable.get("valueFrom", {}).get("secretKeyRef")
                if reference:
                    referred.setdefault(reference["name"], set()).add(reference["key"])
    local = named(render("overlays/local"), "Secret")

    referred["studyflow"].add("storage-url")  # by the flow run's Job
    assert referred == {name: set(secret["data"]) for name, secret in local.items()}


@pytest.mark.parametrize("folder", FOLDERS)
def test_images_are_ours_or_postgresql(folder: str, render: Render) -> None:
    for owner, pod in pods(render(folder)):
        for container in containers(pod):
            assert IMAGES.fullmatch(container["image"]), owner


@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_reports_to_a_vendor(folder: str, render: Render) -> None:
    deployments = named(render(folder), "Deployment")
    server = deployments["prefect-server"]["spec"]["template"]["spec"]["containers"][0]
    settings = {v["name"]: v.get("value") for v in server["env"]}

    assert settings["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    dockerfile = (K8S.parent / "Dockerfile").read_text()
    assert "MLFLOW_DISABLE_TELEMETRY=true" in dockerfile
    assert "DO_NOT_TRACK=true" in dockerfile


@pytest.mark.parametrize("folder", FOLDERS)
def test_mlflow_answers_to_its_services_name(folder: str, render: Render) -> None:
    mlflow = named(render(folder), "Deployment")["mlflow"]["spec"]["template"]["spec"]
    (allowed,) = [a for a in mlflow["containers"][0]["args"] if a.startswith("--allowed-hosts=")]

    assert {"mlflow:*", "mlflow.$(NAMESPACE).svc.cluster.local:*", "localhost:*"} <= set(
        allowed.removeprefix("--allowed-hosts=").split(",")
    )


def test_the_external_overlay_keeps_nothing_in_the_cluster(render: Render) -> None:
    manifests = render("overlays/external")
    claims = [
        volume
        for _, pod in pods(manifests)
        for volume in pod["spec"]["volumes"]
        if "persistentVolumeClaim" in volume
    ]

    assert not named(manifests, "StatefulSet")
    assert not named(manifests, "PersistentVolumeClaim")
    assert claims == []


def test_the_gpu_overlay_keeps_servers_off_the_gpus(render: Render) -> None:
    manifests = render("overlays/gpu")

    for owner, pod in pods(manifests):
        assert pod["spec"]["priorityClassName"] == "studyflow-server", owner
        affinity = pod["spec"]["affinity"]["nodeAffinity"]
        (preferred,) = affinity["preferredDuringSchedulingIgnoredDuringExecution"]
        assert preferred["preference"]["matchExpressions"] == [
            {"key": "nvidia.com/gpu.present", "operator": "DoesNotExist"}
        ], owner
    assert set(named(manifests, "PriorityClass")) == {"studyflow-trial", "studyflow-server"}


def test_kustomizations_are_of_a_form_that_old_and_new_kubectl_read() -> None:
    known = {
        "namespace", "bases", "resources", "images", "patchesStrategicMerge",
        "configMapGenerator", "secretGenerator", "generatorOptions",
    }  # fmt: skip
    for path in K8S.rglob("kustomization.yaml"):
        document = yaml.safe_load(path.read_text())
        assert document.keys() <= known, path
        # Folders there are unknown to the kustomize 2.0.3 in kubectl 1.14 to 1.20.
        assert all(name.endswith(".yaml") for name in document.get("resources", [])), path

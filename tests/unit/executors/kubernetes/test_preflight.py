"""What a runner needs of a cluster, and what it calls a problem."""

from __future__ import annotations

from typing import Any

import pytest

from studyflow.errors import ExecutorUnavailable
from studyflow.executors.kubernetes.preflight import check_cluster
from studyflow.executors.kubernetes.rights import NEEDED, Right
from studyflow.reasons import Level


class FakeApi:
    """A cluster that grants what it is told to."""

    granted: frozenset[Right] = NEEDED
    is_up = True
    host = "https://cluster"

    def __init__(self, namespace: str | None) -> None:
        self.namespace = namespace or "default"

    def may(self, right: Right) -> bool:
        if not self.is_up:
            raise ExecutorUnavailable("The Kubernetes API does not answer.", hint="is it up?")
        return right in self.granted

    def rules(self) -> list[dict[str, Any]]:
        rules = [
            {"apiGroups": [r.group], "resources": [r.resource], "verbs": [r.verb]}
            for r in self.granted
        ]
        everyone = {
            "apiGroups": ["authorization.k8s.io"],
            "resources": ["selfsubjectaccessreviews"],
            "verbs": ["create"],
        }
        return [*rules, everyone]

    def close(self) -> None:
        pass


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> type[FakeApi]:
    class Api(FakeApi):
        pass

    monkeypatch.setattr("studyflow.executors.kubernetes.client.KubernetesApi", Api)
    return Api


def test_exactly_the_rights_of_the_role_are_well(api: type[FakeApi]) -> None:
    cluster, rights = check_cluster("trials")

    assert (cluster.level, rights.level) == (Level.OK, Level.OK)
    assert rights.message == "exactly those of the Role in namespace 'trials'"


def test_missing_rights_are_a_problem_and_surplus_ones_a_warning(api: type[FakeApi]) -> None:
    lost = {Right("batch", "jobs", "patch"), Right("", "events", "list")}
    api.granted = (NEEDED - lost) | {Right("", "secrets", "get")}

    _, missing, surplus = check_cluster("trials")

    assert missing.level is Level.PROBLEM
    assert missing.message == "missing in namespace 'trials': events: list; jobs: patch"
    assert surplus.level is Level.WARNING
    assert "secrets: get" in surplus.message


def test_a_cluster_that_is_away_is_one_problem(api: type[FakeApi]) -> None:
    api.is_up = False

    (found,) = check_cluster("trials")

    assert (found.level, found.hint) == (Level.PROBLEM, "is it up?")

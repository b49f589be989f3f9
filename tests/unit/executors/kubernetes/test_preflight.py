"""What a runner needs of a cluster, and what it calls a problem."""

from __future__ import annotations

from typing import Any

import pytest

from studyflow.errors import ExecutorUnavailable
from studyflow.executors.kubernetes.preflight import check_cluster
from studyflow.executors.kubernetes.rights import NEEDED, Right
from studyflow.reasons import Code, Level


class FakeApi:
    """A cluster that grants what it is told to."""

    granted: frozenset[Right] = NEEDED
    granted_at_home: frozenset[Right] = frozenset()
    own_namespace: str | None = None
    is_up = True
    host = "https://cluster"

    def __init__(self, namespace: str | None) -> None:
        self.namespace = namespace or "default"

    def may(self, right: Right) -> bool:
        if not self.is_up:
            raise ExecutorUnavailable("The Kubernetes API does not answer.", hint="is it up?")
        return right in self.granted

    def rules(self, namespace: str | None = None) -> list[dict[str, Any]]:
        granted = self.granted if namespace in (None, self.namespace) else self.granted_at_home
        rules = [
            {"apiGroups": [r.group], "resources": [r.resource], "verbs": [r.verb]} for r in granted
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


def test_a_runner_in_a_pod_should_have_no_rights_among_the_servers(api: type[FakeApi]) -> None:
    api.own_namespace = "servers"
    assert [f.level for f in check_cluster("trials")] == [Level.OK, Level.OK]
    api.granted_at_home = frozenset({Right("batch", "jobs", "create")})

    _, _, at_home = check_cluster("trials")

    assert (at_home.level, at_home.code) == (Level.WARNING, Code.RIGHTS_SURPLUS)
    assert at_home.message == (
        "more than a runner needs in its own namespace 'servers': jobs: create"
    )
    assert at_home.hint is not None
    assert "kubectl -n servers delete rolebinding,role studyflow-runner" in at_home.hint


def test_where_trials_are_in_the_runners_own_namespace_its_rights_are_judged_once(
    api: type[FakeApi],
) -> None:
    api.own_namespace = "trials"

    assert [f.level for f in check_cluster("trials")] == [Level.OK, Level.OK]

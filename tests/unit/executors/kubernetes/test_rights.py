"""The rights that a runner needs are those that the manifests grant, no more and no fewer."""

from __future__ import annotations

from pathlib import Path

import yaml

from studyflow.executors.kubernetes.rights import (
    NEEDED,
    OPTIONAL,
    Right,
    describe,
    granted,
    surplus,
)

ROLES = Path(__file__).parents[4] / "k8s" / "base" / "team" / "rbac.yaml"


def test_the_role_grants_what_is_needed_and_nothing_else() -> None:
    (role,) = (
        document
        for document in yaml.safe_load_all(ROLES.read_text())
        if (document["kind"], document["metadata"]["name"]) == ("Role", "studyflow-runner")
    )

    assert granted(role["rules"]) == NEEDED


def test_a_rule_about_one_object_grants_nothing_here() -> None:
    rule = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": ["a"]}

    assert granted([rule]) == frozenset()
    assert granted([{**rule, "resourceNames": []}]) == {Right("", "secrets", "get")}


def test_surplus_is_what_neither_trials_nor_every_user_has() -> None:
    rights = {
        *NEEDED,
        Right("authorization.k8s.io", "selfsubjectaccessreviews", "create"),
        Right("", "secrets", "list"),
        Right("", "secrets", "get"),
        Right("*", "*", "*"),
    }

    assert describe(surplus(rights)) == "*: *; secrets: get, list"
    assert surplus(NEEDED | OPTIONAL) == ()
    assert surplus(NEEDED, frozenset()) == tuple(sorted(NEEDED, key=lambda r: (r[1], r[2])))

"""What Kubernetes' words about a pod without room come to."""

from __future__ import annotations

import pytest

from studyflow.diagnostics.cluster_messages import (
    ExceededQuota,
    Shortage,
    Want,
    exceeded_quota,
    shortage,
)

GPU = "nvidia.com/gpu"


@pytest.mark.parametrize(
    ("reasons", "found"),
    [
        (f"3 Insufficient {GPU}.", Shortage(Want.RESOURCE, GPU)),
        (f"2 Insufficient memory, 3 Insufficient {GPU}.", Shortage(Want.RESOURCE, GPU)),
        (
            (
                "1 node(s) had taint {node-role.kubernetes.io/master: }, that the pod didn't "
                "tolerate, 2 Insufficient cpu."
            ),
            Shortage(Want.RESOURCE, "cpu"),
        ),
        (
            f"2 Insufficient {GPU}, 1 node(s) had untolerated taint {{{GPU}: present}}.",
            Shortage(Want.TOLERATION, GPU),
        ),
        (
            "1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }.",
            Shortage(Want.HEALTHY_NODE, "node.kubernetes.io/not-ready"),
        ),
        ("3 node(s) didn't match Pod's node affinity/selector.", Shortage(Want.AFFINITY)),
        ("3 node(s) had volume node affinity conflict.", Shortage(Want.VOLUME)),
        ("1 Too many pods.", Shortage(Want.OTHER)),
    ],
)
def test_of_the_schedulers_reasons_the_one_that_counts_is_told(
    reasons: str, found: Shortage
) -> None:
    assert shortage(f"0/3 nodes are available: {reasons}") == found


def test_a_message_of_another_form_is_no_error() -> None:
    assert shortage("no node takes it") == Shortage(Want.OTHER)


def test_an_exceeded_quota_is_read_with_its_numbers() -> None:
    told = (
        'Error creating: pods "demo-0-1-" is forbidden: exceeded quota: team, requested: '
        "requests.nvidia.com/gpu=1,pods=1, used: requests.nvidia.com/gpu=8,pods=3, limited: "
        "requests.nvidia.com/gpu=8,pods=9"
    )
    assert exceeded_quota(told) == ExceededQuota("team", f"requests.{GPU}", "1", "8", "8")


def test_a_quota_that_is_told_in_another_form_is_not_guessed_at() -> None:
    assert exceeded_quota("exceeded quota: team") is None
    assert exceeded_quota("") is None

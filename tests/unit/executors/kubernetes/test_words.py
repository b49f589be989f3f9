"""What Kubernetes' words about a pod come to."""

from __future__ import annotations

import pytest

from studyflow.executors.kubernetes.words import (
    ExceededQuota,
    Shortage,
    Want,
    exceeded_quota,
    is_excluded_everywhere,
    is_hopeless,
    is_node_trouble,
    is_out_of_disk,
    is_over_quota,
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


@pytest.mark.parametrize(
    ("told", "is_over"),
    [
        ('pods "a" is forbidden: exceeded quota: team, requested: pods=1', True),
        ("exceeded quota: a quota that gives no numbers", True),
        ('jobs.batch is forbidden: User "x" cannot create resource "jobs"', False),
        ("failed quota: team: must specify limits.memory", False),
    ],
)
def test_a_full_quota_is_told_from_a_missing_right(told: str, is_over: bool) -> None:
    assert is_over_quota(told) is is_over


@pytest.mark.parametrize(
    ("told", "is_trouble"),
    [
        ("context deadline exceeded", True),
        ("DeadlineExceeded", True),
        ("failed to reserve container name", True),
        ("transport is closing", True),
        ("ttrpc: closed", True),
        ("no command specified", False),
        ("executable file not found in $PATH", False),
        ("", False),
    ],
)
def test_a_runtime_in_trouble_is_told_from_a_container_that_cannot_be(
    told: str, is_trouble: bool
) -> None:
    assert is_node_trouble(told) is is_trouble


@pytest.mark.parametrize(
    ("told", "is_so"),
    [
        ('secret "db" not found', True),
        ('pods "a" is forbidden: violates PodSecurity "restricted:latest"', True),
        ("Invalid value: 70000: must be between 1 and 65535", True),
        ("timed out waiting for the condition", False),
        ("Internal error occurred: failed calling webhook", False),
    ],
)
def test_what_no_waiting_brings_is_told_from_what_may_come(told: str, is_so: bool) -> None:
    assert is_hopeless(told) is is_so


@pytest.mark.parametrize(
    ("told", "is_so"),
    [
        ("Container trial exceeded its local ephemeral storage limit 1Gi.", True),
        ('Usage of EmptyDir volume "scratch" exceeds the limit "1Gi".', True),
        ("The node was low on resource: memory.", False),
        ("The node had condition: [DiskPressure].", False),
    ],
)
def test_a_pod_s_own_writing_is_told_from_a_node_s_need(told: str, is_so: bool) -> None:
    assert is_out_of_disk(told) is is_so


@pytest.mark.parametrize(
    ("told", "is_so"),
    [
        ("0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector.", True),
        (
            "0/2 nodes are available: 1 node(s) were unschedulable, 1 node(s) had taint {a: b}.",
            True,
        ),
        (
            "0/3 nodes are available: 2 node(s) didn't match node selector, 1 Insufficient cpu.",
            False,
        ),
        ("0/3 nodes are available: 3 Insufficient nvidia.com/gpu.", False),
        ("3 node(s) didn't match Pod's node affinity/selector.", False),
        ("no node takes it", False),
    ],
)
def test_nodes_that_would_never_do_are_told_from_full_ones(told: str, is_so: bool) -> None:
    assert is_excluded_everywhere(told) is is_so

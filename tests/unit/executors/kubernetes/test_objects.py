"""What a Job and a pod say, field by field, whatever is missing of them."""

from __future__ import annotations

from typing import Any

import pytest

from studyflow.executors.kubernetes.objects import (
    condition,
    exit_code_of,
    first_pod,
    node_of,
    repository_of,
    seconds,
)

JOB = {"metadata": {"name": "j", "uid": "own"}}


def a_pod(name: str, created: str, owner: str = "own") -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "creationTimestamp": created,
            "ownerReferences": [{"uid": owner}],
        }
    }


def test_an_attempt_is_its_job_s_first_pod() -> None:
    later = a_pod("a", "2026-01-01T00:00:02Z")
    first = a_pod("z", "2026-01-01T00:00:01Z")
    stranger = a_pod("s", "2026-01-01T00:00:00Z", "another")

    assert first_pod(JOB, [later, stranger, first]) is first
    assert first_pod(JOB, [stranger, {"metadata": {"name": "orphan"}}]) is None


def test_a_condition_is_found_by_type_and_status() -> None:
    pod = {"status": {"conditions": [{"type": "PodScheduled", "status": "False", "message": "no"}]}}

    assert condition(pod, "PodScheduled") == pod["status"]["conditions"][0]
    assert condition(pod, "PodScheduled", "True") is None
    assert condition({}, "PodScheduled") is None


def test_a_pod_without_a_node_has_none() -> None:
    assert node_of({"metadata": {}, "spec": {"nodeName": "node-1"}}) == "node-1"
    assert node_of({"metadata": {}}) is None
    assert node_of(None) is None


@pytest.mark.parametrize(
    ("terminated", "code"),
    [
        ({"exitCode": 0}, 0),
        ({"exitCode": 3}, 3),
        ({"exitCode": 137}, -9),
        ({"exitCode": 128}, 128),
        ({"exitCode": 255}, 255),
        ({}, None),
    ],
)
def test_a_signal_is_a_negative_exit_code(terminated: dict[str, Any], code: int | None) -> None:
    assert exit_code_of(terminated) == code


@pytest.mark.parametrize(
    ("image", "repository"),
    [
        ("python", "docker.io/library/python"),
        ("python:3.12", "docker.io/library/python"),
        ("me/demo:1", "docker.io/me/demo"),
        ("localhost/demo", "localhost/demo"),
        ("registry:5000/demo:1", "registry:5000/demo"),
        ("registry.example/demo@sha256:abc", "registry.example/demo"),
    ],
)
def test_two_names_of_one_image_have_one_repository(image: str, repository: str) -> None:
    assert repository_of(image) == repository


def test_what_is_no_time_is_none() -> None:
    assert seconds("2026-01-01T00:00:00Z") == 1767225600.0
    assert seconds(None) is None
    assert seconds("soon") is None

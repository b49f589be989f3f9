"""A study's image is pinned once, by a digest that other nodes can pull."""

from __future__ import annotations

import pytest

from studyflow.executors.kubernetes.image_pin import ImagePin

DIGEST = "registry.example/demo@sha256:abc"


def test_an_image_is_pinned_by_the_first_pod_that_shows_it() -> None:
    told: list[str] = []
    pin = ImagePin("registry.example/demo:1", None, told.append)

    for image_id in ("", "docker-pullable://" + DIGEST, "registry.example/demo@sha256:def"):
        pin.learn(image_id)

    assert pin.pinned == DIGEST
    assert told == [DIGEST]


@pytest.mark.parametrize(
    ("name", "pinned", "shown"),
    [
        (DIGEST, None, DIGEST),  # it is one already
        ("registry.example/demo:1", None, "mirror.example/demo@sha256:abc"),
        ("registry.example/demo:1", None, "sha256:abc"),  # loaded by hand
    ],
)
def test_what_other_nodes_could_not_pull_is_no_pin(
    name: str, pinned: str | None, shown: str
) -> None:
    pin = ImagePin(name, pinned, None)

    pin.learn(shown)

    assert pin.pinned == pinned

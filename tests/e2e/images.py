"""Names of our images, as the cluster has them."""

from __future__ import annotations

import os

REGISTRY = os.environ.get("STUDYFLOW_TEST_REGISTRY", "registry.example/studyflow")
TAG = os.environ.get("STUDYFLOW_TEST_TAG", "0.2.0")


def image(name: str) -> str:
    """Return the full name of one of our images."""
    return f"{REGISTRY}/{name}:{TAG}"

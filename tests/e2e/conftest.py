"""A real cluster: whichever KUBECONFIG names. Run by `make test-cluster`, left out by `make test`.

The images must be there already (`make images`, loaded or pushed); STUDYFLOW_TEST_REGISTRY and
STUDYFLOW_TEST_TAG say under which names.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.kubectl import Kubectl
from tests.e2e.stack import Stack, deployed

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    wanted = os.environ.get("STUDYFLOW_CLUSTER_TESTS") == "1"
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.timeout(900))
            if not wanted:
                item.add_marker(pytest.mark.skip(reason="needs a cluster: make test-cluster"))


@pytest.fixture
def namespace() -> Iterator[str]:
    """A namespace of the test's own."""
    name = f"studyflow-test-{uuid.uuid4().hex[:8]}"
    kubectl = Kubectl(name)
    kubectl("create", "namespace", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """The whole system, in its own namespace."""
    with deployed() as stack:
        yield stack


@pytest.fixture
def kubectl(namespace: str) -> Kubectl:
    """The cluster's own command line, as a side door to the namespace."""
    return Kubectl(namespace)

"""A real cluster: whichever KUBECONFIG names. Run by `make test-cluster`, left out by `make test`.

The images must be there already (`make images`, loaded or pushed); STUDYFLOW_TEST_REGISTRY and
STUDYFLOW_TEST_TAG say under which names.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.kubectl import Kubectl
from tests.e2e.stack import Stack, deployed

HERE = Path(__file__).parent


# They share the namespaces of the whole system.
_SYSTEM = {
    *("test_backup.py", "test_docs.py", "test_form.py", "test_mlflow_gate.py", "test_rights.py"),
    "test_system.py",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave them out unless they are wanted, and put those last that want the cluster alone."""
    wanted = os.environ.get("STUDYFLOW_CLUSTER_TESTS") == "1"
    # Those of the whole system take longest: of the cluster's tests they go first.
    items.sort(key=lambda item: (_is_here(item) and item.path.name not in _SYSTEM, _is_alone(item)))
    for item in items:
        if _is_here(item):
            item.add_marker(pytest.mark.cluster)
            # Alone: after all that it waits for.
            item.add_marker(pytest.mark.timeout(3600 if _is_alone(item) else 900))
            if not wanted:
                item.add_marker(pytest.mark.skip(reason="needs a cluster: make test-cluster"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Run the tests of the whole system in one process, and all others wherever there is one."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0].rpartition("/")[2]
            return "system" if file in _SYSTEM else nodeid

    return Scheduling(config, log)


def _is_here(item: pytest.Item) -> bool:
    return item.path.is_relative_to(HERE)


def _is_alone(item: pytest.Item) -> bool:
    return item.get_closest_marker("alone") is not None


@contextmanager
def _cluster(*, alone: bool) -> Iterator[None]:
    """Hold the cluster against tests that run side by side with this one."""
    with (Path(tempfile.gettempdir()) / "studyflow-test-cluster.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


@pytest.fixture(autouse=True)
def _holds_cluster(request: pytest.FixtureRequest) -> Iterator[None]:
    with _cluster(alone=_is_alone(request.node)):
        yield


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
    with _cluster(alone=False), deployed() as stack:
        yield stack


@pytest.fixture
def kubectl(namespace: str) -> Kubectl:
    """The cluster's own command line, as a side door to the namespace."""
    return Kubectl(namespace)

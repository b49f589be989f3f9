"""`flows/register.py`: what Prefect's server has after the worker's first step, once and again."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from tests.flows.loading import ROOT, loaded

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

TEMPLATE = ROOT / "k8s" / "base" / "servers" / "flow-run-job.yaml"


@pytest.fixture(scope="module")
def register() -> Iterator[ModuleType]:
    """The script, over a server of the test's own."""
    with loaded("register") as module:
        yield module


def register_for(module: ModuleType, image: str) -> int:
    arguments = ["--job-template", str(TEMPLATE), "--image", image, "--namespace", "team-a"]
    exit_code: int = module.main(arguments)
    return exit_code


def what_the_server_has() -> tuple[Any, dict[str, Any]]:
    """Return the work pool, and the deployments by name."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        found = client.read_deployments()
        assert len({deployment.name for deployment in found}) == len(found)
        pool = client.read_work_pool("studyflow")
        return pool, {deployment.name: deployment for deployment in found}


def test_registering_twice_leaves_one_pool_and_a_deployment_of_each_flow_as_the_second_says(
    register: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)

    assert register_for(register, "registry.example/studyflow/orchestrator:1") == 0
    _, first = what_the_server_has()
    assert register_for(register, "registry.example/studyflow/orchestrator:2") == 0
    pool, found = what_the_server_has()
    second = found["run-study"]

    variables = pool.base_job_template["variables"]["properties"]
    assert pool.type == "kubernetes"
    assert variables["image"]["default"] == "registry.example/studyflow/orchestrator:2"
    assert variables["namespace"]["default"] == "team-a"
    assert sorted(found) == ["compare-samplers", "retrain-best", "run-study"]
    assert {name: d.id for name, d in found.items()} == {name: d.id for name, d in first.items()}
    assert set(found["compare-samplers"].parameter_openapi_schema["properties"]) >= {
        "samplers",
        "seeds",
    }
    assert (second.name, second.work_pool_name) == ("run-study", "studyflow")
    assert second.entrypoint == "flows/run_study.py:run_study"
    assert second.path == str(ROOT)  # the working folder, which in the image is the same
    assert not second.pull_steps
    assert second.parameters == {"study": "studies/blackbox.yaml"}
    assert set(second.parameter_openapi_schema["properties"]) >= {"study", "n_trials"}

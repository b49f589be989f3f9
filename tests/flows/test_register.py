"""`flows/register.py`: what Prefect's server has after the worker's first step, once and again."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from tests.flows.loading import ROOT, loaded

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

TEMPLATE = ROOT / "k8s" / "base" / "pool" / "flow-run-job.yaml"


@pytest.fixture(scope="module")
def register() -> Iterator[ModuleType]:
    """The script, over a server of the test's own."""
    with loaded("register") as module:
        yield module


def register_for(module: ModuleType, image: str, *more: str) -> int:
    arguments = ["--job-template", str(TEMPLATE), "--image", image, "--namespace", "servers"]
    exit_code: int = module.main([*arguments, *more])
    return exit_code


def what_the_server_has(name: str = "studyflow") -> tuple[Any, dict[str, Any]]:
    """Return a work pool, and the deployments of all by name."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        found = client.read_deployments()
        assert len({deployment.name for deployment in found}) == len(found)
        pool = client.read_work_pool(name)
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

    job = pool.base_job_template["job_configuration"]["job_manifest"]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert pool.type == "kubernetes"
    assert container["image"] == "registry.example/studyflow/orchestrator:2"
    assert job["metadata"]["namespace"] == "servers"
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


@pytest.mark.fault("F52")
def test_a_team_s_pool_is_registered_beside_the_other_and_lets_no_flow_run_choose_its_rights(
    register: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectHTTPStatusError

    monkeypatch.chdir(ROOT)
    image = "registry.example/studyflow/orchestrator:1"
    assert register_for(register, image) == 0
    assert register_for(register, image, "--team", "team-a") == 0
    pool, found = what_the_server_has("studyflow-team-a")
    deployment = found["run-study-team-a"]

    pod = pool.base_job_template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == "studyflow-runner-team-a"
    assert deployment.work_pool_name == "studyflow-team-a"
    assert found["run-study"].work_pool_name == "studyflow"
    with get_client(sync_client=True) as client:
        for chosen in (
            {"image": "evil.example/x"},
            {"env": {"STUDYFLOW_PLATFORM": "/tmp/mine.yaml"}},
            {"env.STUDYFLOW_PLATFORM": "/tmp/mine.yaml"},
            {"trials_namespace": "studyflow-team-b"},
            {"service_account": "studyflow-runner"},
        ):
            with pytest.raises(PrefectHTTPStatusError, match="422"):
                client.create_flow_run_from_deployment(deployment.id, job_variables=chosen)
        run = client.create_flow_run_from_deployment(
            deployment.id, job_variables={"memory_limit": "4Gi"}
        )
        assert run.job_variables == {"memory_limit": "4Gi"}


def test_a_team_s_name_that_kubernetes_would_refuse_registers_nothing(
    register: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        register_for(register, "registry.example/studyflow/orchestrator:1", "--team", "Team A")

    assert ended.value.code == 2
    assert "a team's name must have" in capsys.readouterr().err

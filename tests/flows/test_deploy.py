"""`flows/deploy.py` and `prefect.yaml`: what Prefect's server has of a study."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from zoneinfo import ZoneInfo

import jsonschema
import pytest
import yaml
from tests.flows.loading import ROOT, loaded

from studyflow.deployments.deployment import Deployment

# Prefect and its server warn about their own dependencies; ours stay errors everywhere else.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180), pytest.mark.filterwarnings("default")]


STUDY = """
name: nightly
objectives: [{metric: loss, direction: minimize}]
search_space: {x: {type: float, low: 0, high: 1}}
budget: {n_trials: 4}
trial: {command: [python, train.py]}
"""


@pytest.fixture(scope="module")
def deploy() -> Iterator[ModuleType]:
    """The script, over a server of the test's own."""
    with loaded("deploy") as module:
        yield module


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "nightly.yaml").write_text(STUDY)
    monkeypatch.chdir(tmp_path)
    return "studies/nightly.yaml"


def make_pool(kind: str) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists

    with get_client(sync_client=True) as client:
        try:
            client.create_work_pool(WorkPoolCreate(name=f"{kind}-pool", type=kind))
        except ObjectAlreadyExists:
            return


def read(name: str) -> Any:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return client.read_deployment_by_name(f"run-study/{name}")


def pause(deployment_id: Any) -> None:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        client.pause_deployment(deployment_id)


def run(deploy: ModuleType, *arguments: Any, **given: Any) -> int:
    exit_code: int = deploy.main([Deployment(*arguments, **given).to_json()])
    return exit_code


def test_pods_get_the_studys_text_and_the_flow_of_their_image(
    deploy: ModuleType, study: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_pool("kubernetes")
    given = {"cron": "0 3 * * 1", "timezone": "Europe/Berlin", "each_run": "warm", "n_trials": 7}
    assert run(deploy, study, pool="kubernetes-pool", tags=("gpu",), **given) == 0
    made = read("nightly")
    assert made.parameters == {"study": STUDY, "each_run": "warm", "n_trials": 7}
    assert (made.work_pool_name, made.tags) == ("kubernetes-pool", ["studyflow", "gpu"])
    assert made.entrypoint == "flows/run_study.py:run_study"
    (step,) = made.pull_steps
    assert step["prefect.deployments.steps.set_working_directory"]["directory"] == "/opt/studyflow"
    (schedule,) = made.schedules
    assert (schedule.schedule.cron, schedule.schedule.timezone) == ("0 3 * * 1", "Europe/Berlin")
    assert "enum" not in str(made.parameter_openapi_schema["properties"]["study"])
    shown = capsys.readouterr().out
    assert "runs at '0 3 * * 1' (Europe/Berlin), each run: warm, on collision: skip" in shown


def test_deploying_again_changes_schedule_and_collision_and_leaves_one_deployment(
    deploy: ModuleType, study: str, tmp_path: Path
) -> None:
    make_pool("process")
    first = {"interval": "6h", "on_collision": "queue", "concurrency_limit": 2}
    assert run(deploy, study, name="again", pool="process-pool", **first) == 0
    queued = read("again")
    pause(queued.id)  # as Prefect does when a served deployment is served no longer
    assert run(deploy, study, name="again", pool="process-pool", cron="0 1 * * *") == 0
    made = read("again")
    limits = [
        (d.global_concurrency_limit.limit, d.concurrency_options.collision_strategy.value)
        for d in (queued, made)
    ]
    assert limits == [(2, "ENQUEUE"), (1, "CANCEL_NEW")]
    assert (queued.id, made.paused) == (made.id, False)
    assert [schedule.schedule.cron for schedule in made.schedules] == ["0 1 * * *"]
    # A process of this machine reads the file anew, and its form offers the files beside it.
    assert made.parameters["study"] == str(tmp_path / study)
    offered = made.parameter_openapi_schema["properties"]["study"]["anyOf"]
    assert [variant.get("enum") for variant in offered] == [None, ["studies/nightly.yaml"]]


def test_a_run_is_finished_by_the_clock_of_its_schedule(
    deploy: ModuleType, study: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from prefect.client.orchestration import get_client

    from studyflow.orchestration.schedule_zones import zone_of_run

    make_pool("process")
    (tmp_path / study).write_text(STUDY.replace("n_trials: 4", "n_trials: 4, finish_by: '07:00'"))
    given = {"pool": "process-pool", "cron": "0 22 * * *", "timezone": "Asia/Tokyo"}
    assert run(deploy, study, name="zoned", **given) == 0
    assert "each run is finished by 07:00 (Asia/Tokyo)" in capsys.readouterr().out
    with get_client(sync_client=True) as client:
        begun = client.create_flow_run_from_deployment(read("zoned").id)
    assert zone_of_run(begun) == ZoneInfo("Asia/Tokyo")


def test_runs_that_join_have_no_limit(deploy: ModuleType, study: str) -> None:
    make_pool("process")
    assert run(deploy, study, name="joining", pool="process-pool", on_collision="join") == 0
    assert read("joining").global_concurrency_limit is None


def test_a_wrong_cron_and_a_wrong_study_are_told_together_and_nothing_is_registered(
    deploy: ModuleType, study: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from prefect.exceptions import ObjectNotFound

    (tmp_path / study).write_text(STUDY.replace("low: 0", "low: 2"))
    assert run(deploy, study, name="wrong", cron="0 25 * * *") == 2
    told = capsys.readouterr().err
    assert "'0 25 * * *'" in told
    assert "low must not be above high" in told
    with pytest.raises(ObjectNotFound):
        read("wrong")


def test_a_missing_pool_is_named_with_the_ways_out(
    deploy: ModuleType, study: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(deploy, study, pool="none-such") == 1
    told = capsys.readouterr().err
    assert "no work pool 'none-such'" in told
    assert "--serve" in told


def test_a_server_that_ends_with_the_run_is_refused_since_it_never_schedules(
    deploy: ModuleType, study: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        assert run(deploy, study, serve=True, cron="0 3 * * *") == 3
    told = capsys.readouterr().err
    assert "never starts a scheduled run" in told
    assert "studyflow ui" in told


def test_serving_starts_the_runs_here(
    deploy: ModuleType, study: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from studyflow.orchestration import deployments

    served: list[Any] = []
    monkeypatch.setattr(deployments, "serve", lambda made, **_: served.append(made))
    assert run(deploy, study, name="here", serve=True, interval="1d") == 0
    assert [made.full_name for made in served] == ["run-study/here"]
    assert read("here").work_pool_name is None


@pytest.mark.parametrize(
    "entry", yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
)
def test_the_deployments_of_prefect_yaml_are_ones_that_the_flow_and_the_image_take(
    deploy: ModuleType, entry: dict[str, Any]
) -> None:
    from prefect.flows import load_flow_from_entrypoint

    from studyflow.orchestration.deployments import is_cron

    flow: Any = load_flow_from_entrypoint(str(ROOT / entry["entrypoint"]))
    schema = flow.parameters.model_dump()
    jsonschema.validate(entry["parameters"], {**schema, "type": "object"})
    study = entry["parameters"]["study"]
    assert f" {study}\n" in (ROOT / "Dockerfile").read_text(), "the image has the study's file"
    assert all(is_cron(schedule["cron"]) for schedule in entry["schedules"])

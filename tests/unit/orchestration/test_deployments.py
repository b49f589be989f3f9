"""Prefect's form of a deployment: schedule, limit, and what is said of it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from studyflow.deployments.deployment import Deployment
from studyflow.errors import PrefectError
from studyflow.spec import StudySpec

pytestmark = pytest.mark.filterwarnings("default")

ROOT = Path(__file__).parents[3]
SPEC = StudySpec.from_mapping(
    {
        "name": "demo",
        "objectives": [{"metric": "loss", "direction": "minimize"}],
        "search_space": {"x": {"type": "float", "low": 0, "high": 1}},
        "budget": {"n_trials": 3},
        "trial": {"command": ["python", "train.py"]},
    }
)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "runs when someone starts it, each run: continue, on collision: skip"),
        (
            {"cron": "0 3 * * 1", "timezone": "Europe/Berlin", "each_run": "warm"},
            "runs at '0 3 * * 1' (Europe/Berlin), each run: warm, on collision: skip",
        ),
        (
            {"interval": "6h", "on_collision": "queue"},
            "runs every 6:00:00, each run: continue, on collision: queue",
        ),
    ],
)
def test_a_deployment_is_described_on_one_line(given: dict[str, Any], told: str) -> None:
    from studyflow.orchestration.deployments import describe

    assert describe(Deployment("study.yaml", **given)) == told


def test_a_schedule_is_a_cron_expression_or_an_interval_or_none() -> None:
    from studyflow.orchestration.deployments import schedule_of

    cron = schedule_of(Deployment("study.yaml", cron="0 3 * * *", timezone="Europe/Berlin"))
    every = schedule_of(Deployment("study.yaml", interval="90"))

    assert cron is not None
    assert (cron.cron, cron.timezone) == ("0 3 * * *", "Europe/Berlin")
    assert every is not None
    assert every.interval == timedelta(seconds=90)
    assert schedule_of(Deployment("study.yaml")) is None


@pytest.mark.parametrize(
    ("on_collision", "limit", "found"),
    [
        ("skip", None, (1, "CANCEL_NEW")),
        ("queue", 3, (3, "ENQUEUE")),
        ("join", None, None),
    ],
)
def test_only_runs_that_join_have_no_limit(
    on_collision: Any, limit: int | None, found: tuple[int, str] | None
) -> None:
    from studyflow.orchestration.deployments import limit_of

    made = limit_of(Deployment("study.yaml", on_collision=on_collision, concurrency_limit=limit))

    assert (made and (made.limit, made.collision_strategy.value)) == found


def test_a_namespace_becomes_the_job_variable_of_the_cluster_s_pool(tmp_path: Path) -> None:
    from prefect.client.schemas.objects import WorkPool

    from studyflow.orchestration.deployments import build

    (tmp_path / "study.yaml").write_text(SPEC.to_yaml())
    file, flows = str(tmp_path / "study.yaml"), ROOT / "flows"
    pods, processes = (
        WorkPool(name="some", type=kind, default_queue_id=uuid4())
        for kind in ("kubernetes", "process")
    )

    for namespace, variables in ((None, {}), ("a", {"trials_namespace": "a"})):
        made = build(Deployment(file, namespace=namespace), SPEC, pods, flows)
        assert made.job_variables == variables
    for pool in (processes, None):
        with pytest.raises(PrefectError, match="are processes"):
            build(Deployment(file, namespace="a"), SPEC, pool, flows)


def test_the_job_variable_is_one_of_the_cluster_s_pool() -> None:
    from studyflow.deployments.deployment import TRIALS_NAMESPACE

    template = yaml.safe_load((ROOT / "k8s" / "base" / "pool" / "flow-run-job.yaml").read_text())

    assert TRIALS_NAMESPACE in template["variables"]["properties"]


@pytest.mark.parametrize(("text", "is_one"), [("0 3 * * 1", True), ("0 25 * * *", False)])
def test_prefects_scheduler_knows_what_a_cron_expression_is(text: str, is_one: bool) -> None:
    from studyflow.orchestration.deployments import is_cron

    assert is_cron(text) is is_one


@pytest.mark.parametrize(
    ("finish_by", "given", "told"),
    [
        (None, {}, None),
        ("2026-03-01T07:00+01:00", {}, None),
        ("07:00", {}, "each run is finished by 07:00 (the zone of the machine that runs it)"),
        (
            "07:00",
            {"cron": "0 22 * * *", "timezone": "Europe/Berlin"},
            "each run is finished by 07:00 (Europe/Berlin)",
        ),
    ],
)
def test_a_deployment_says_in_which_zone_its_runs_are_finished(
    finish_by: str | None, given: dict[str, Any], told: str | None
) -> None:
    from studyflow.orchestration.deployments import describe_finish

    document = SPEC.model_dump(mode="json", exclude_unset=True)
    budget = {"n_trials": 3, "finish_by": finish_by}
    spec = StudySpec.from_mapping({**document, "budget": budget})
    assert describe_finish(Deployment("study.yaml", **given), spec) == told

"""In which time zone `budget.finish_by` of a deployment's run is read."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Self
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest

from studyflow.errors import PrefectError, PrefectUnavailable

pytestmark = pytest.mark.filterwarnings("default")

BERLIN, TOKYO = "Europe/Berlin", "Asia/Tokyo"


def cron(zone: str | None) -> Any:
    from prefect.client.schemas.objects import DeploymentSchedule
    from prefect.client.schemas.schedules import CronSchedule

    return DeploymentSchedule(id=uuid4(), schedule=CronSchedule(cron="0 22 * * *", timezone=zone))


def every(zone: str | None) -> Any:
    from prefect.client.schemas.objects import DeploymentSchedule
    from prefect.client.schemas.schedules import IntervalSchedule

    interval = IntervalSchedule(interval=timedelta(hours=6), timezone=zone)
    return DeploymentSchedule(id=uuid4(), schedule=interval)


def run_of(maker: UUID | None, deployment: UUID | None = None) -> Any:
    from prefect.client.schemas.objects import FlowRun

    by = None if maker is None else {"id": maker, "type": "SCHEDULE", "display_value": "nightly"}
    found = {"flow_id": uuid4(), "created_by": by, "deployment_id": deployment}
    return FlowRun.model_validate(found)


@pytest.mark.parametrize(
    ("schedules", "own", "zone"),
    [
        ([], None, None),
        ([cron(None)], 0, None),
        ([cron(BERLIN)], 0, BERLIN),
        ([cron("UTC")], 0, "UTC"),
        ([every(None)], 0, None),  # where Prefect writes UTC by itself
        ([every(TOKYO)], 0, TOKYO),
        ([cron(BERLIN), cron(TOKYO)], 1, TOKYO),
        ([cron(BERLIN), cron(TOKYO)], None, None),  # a person started it
        ([cron(BERLIN), every(BERLIN)], None, BERLIN),
    ],
)
def test_a_run_has_the_zone_of_its_schedule(
    schedules: list[Any], own: int | None, zone: str | None
) -> None:
    from studyflow.orchestration.schedule_zones import named_zone

    assert named_zone(schedules, run_of(None if own is None else schedules[own].id)) == zone


class Server:
    """Prefect's client: it has one deployment, or fails."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def read_deployment(self, _: UUID) -> Any:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self

    @property
    def schedules(self) -> Any:
        return self._answer


def asked(answer: Any, monkeypatch: pytest.MonkeyPatch) -> ZoneInfo | None:
    from studyflow.orchestration import schedule_zones

    monkeypatch.setattr(schedule_zones, "get_client", lambda **_: Server(answer))
    return schedule_zones.zone_of_run(run_of(None, uuid4()))


def test_the_server_says_what_the_schedule_names(monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx
    from prefect.exceptions import ObjectNotFound

    from studyflow.orchestration.schedule_zones import zone_of_run

    assert zone_of_run(None) is None
    assert zone_of_run(run_of(None)) is None, "no deployment made it"
    assert asked([cron(BERLIN)], monkeypatch) == ZoneInfo(BERLIN)
    assert asked([cron(None)], monkeypatch) is None
    assert asked(ObjectNotFound(Exception()), monkeypatch) is None
    with pytest.raises(PrefectUnavailable, match="in which time zone"):
        asked(httpx.ConnectError("refused"), monkeypatch)
    odd = cron(BERLIN)
    odd.schedule.timezone = "Mars/Olympus"
    with pytest.raises(PrefectError, match="Mars/Olympus"):
        asked([odd], monkeypatch)

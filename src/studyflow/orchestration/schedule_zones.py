"""The time zone that a deployment's schedule names, in which `budget.finish_by` is read."""

from __future__ import annotations

from collections.abc import Sequence
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import DeploymentSchedule, FlowRun
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule
from prefect.exceptions import ObjectNotFound

from studyflow.errors import PrefectError, PrefectUnavailable


def zone_of_run(run: FlowRun | None) -> ZoneInfo | None:
    """Return the zone that the schedule of a run's deployment names; `None` if none does.

    Raises:
        PrefectUnavailable: Prefect's server does not say.
        PrefectError: This machine does not know the zone.
    """
    if run is None or run.deployment_id is None:
        return None
    try:
        with get_client(sync_client=True) as prefect:
            schedules = prefect.read_deployment(run.deployment_id).schedules
    except ObjectNotFound:  # deleted while its runs go on
        return None
    except httpx.HTTPError as error:
        raise PrefectUnavailable(
            f"Prefect's server does not say in which time zone budget.finish_by is: {error}",
            hint="start the run again once the server answers, or write a time with its zone.",
        ) from error
    name = named_zone(schedules, run)
    try:
        return None if name is None else ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise PrefectError(
            f"The schedule's time zone {name!r}, in which budget.finish_by is read, is not known "
            "on this machine.",
            hint="install its tzdata (pip install tzdata), or write a time with its zone.",
        ) from error


def named_zone(schedules: Sequence[DeploymentSchedule], run: FlowRun) -> str | None:
    """Return the zone that the schedule of a run names, or else the one that all of them name.

    A run that a person started belongs to no schedule.

    Args:
        schedules: Those of the run's deployment.
        run: The run.
    """
    maker = run.created_by
    own = [s for s in schedules if maker is not None and s.id is not None and s.id == maker.id]
    names = {_name_of(schedule) for schedule in own or schedules}
    return names.pop() if len(names) == 1 else None


def _name_of(schedule: DeploymentSchedule) -> str | None:
    match schedule.schedule:
        case CronSchedule(timezone=name):
            return name
        case IntervalSchedule(timezone=name) | RRuleSchedule(timezone=name):
            return None if name == "UTC" else name  # Prefect writes it where none is named
    return None

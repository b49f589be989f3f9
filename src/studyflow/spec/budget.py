"""What a study may spend: trials, GPU-hours, money, and time."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Final, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from studyflow.spec.parts import Part, Seconds
from studyflow.spec.values import Real, Whole, broken_rule

AtLimit = Literal["finish", "stop"]

LIMITS: Final = ("n_trials", "gpu_hours", "cost", "finish_by", "timeout_seconds")
"""What can end a study, by its name in the study file. A budget has at least one of them."""

_TIME_OF_DAY: Final = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")


class BudgetSpec(Part):
    """How much a study may spend. Whichever limit comes first ends it."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={"anyOf": [{"required": [name]} for name in LIMITS]},
    )

    n_trials: Whole | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Trials to finish: those that returned a value, were pruned or failed by "
        "their parameters or script. Attempts lost to the infrastructure are not counted. Left "
        "out, as many as another limit allows.",
        examples=[30],
    )
    max_parallel_trials: Whole = Field(
        default=1, ge=1, le=10_000, description="Trials that run at once."
    )
    gpu_hours: Real | None = Field(
        default=None,
        gt=0,
        description="GPU-hours over all runs and runners, lost attempts included; hours of their "
        "places for trials without a GPU. A trial starts only if what it is expected to need fits.",
        examples=[40],
    )
    cost: Real | None = Field(
        default=None,
        gt=0,
        description="The same in money, by the prices in STUDYFLOW_PRICES.",
        examples=[200],
    )
    finish_by: str | None = Field(
        default=None,
        description="When the study is to be finished: a local time of the runner's machine such "
        "as `07:00`, the next one when the study first starts a trial under it, or an ISO time "
        "with its zone. A trial starts only if it is expected to end by then.",
        examples=["07:00", "2026-03-01T07:00+01:00"],
    )
    timeout_seconds: Seconds | None = Field(
        default=None,
        description="After this long a run of the study starts no further trial; running ones "
        "finish. Every run counts anew.",
    )
    at_limit: AtLimit = Field(
        default="finish",
        description="What becomes of running trials when gpu_hours or cost are spent, or finish_by "
        "is over: they finish, or are stopped at their next checkpoint.",
    )

    @field_validator("finish_by")
    @classmethod
    def _check_time(cls, text: str | None) -> str | None:
        if text is not None and read_time(text) is None:
            raise broken_rule(
                f"finish_by must be a time of day or a time with its zone, but it is {text!r}",
                "write 07:00, or 2026-03-01T07:00+01:00",
            )
        return text

    @model_validator(mode="after")
    def _check_limits(self) -> BudgetSpec:
        if all(getattr(self, name) is None for name in LIMITS):
            raise broken_rule(
                f"a budget must have one of {', '.join(LIMITS)}, but it has none",
                "add n_trials, the trials to finish, or another limit",
            )
        return self

    @property
    def is_metered(self) -> bool:
        """Whether the study is limited by what its attempts cost, or by a time of the clock."""
        return not (self.gpu_hours is None and self.cost is None and self.finish_by is None)


def read_time(text: str) -> time | datetime | None:
    """Return a time of day, or a time with its zone; `None` for what is neither."""
    if (found := _TIME_OF_DAY.fullmatch(text)) is not None:
        return time(int(found[1]), int(found[2]))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if moment.tzinfo is None else moment


def is_time_of_day(text: str | None) -> bool:
    """Return whether `finish_by` is a time of the clock, whose day and zone are still open."""
    return text is not None and isinstance(read_time(text), time)


def moment_of(text: str, now: float, zone: tzinfo | None = None) -> float:
    """Return when `finish_by` is, in seconds since the epoch.

    A time of day is the next one by the clock on the wall. In the night when that clock is put
    forward, a time that it skips is as long after midnight as on any other day; in the night when
    it is put back, a time that it shows twice is the first of the two that is still to come.

    Args:
        text: A valid `budget.finish_by`.
        now: Seconds since the epoch.
        zone: Zone of a time of day; `None` for this machine's.

    Raises:
        ValueError: The text is no such time.
    """
    found = read_time(text)
    if found is None:
        raise ValueError(f"no time: {text!r}")
    if isinstance(found, datetime):
        return found.timestamp()
    today = datetime.fromtimestamp(now, zone).date()
    days = (datetime.combine(today + timedelta(days=n), found, zone) for n in (0, 1))
    return next(moment for day in days for moment in _moments(day) if moment > now)


def _moments(local: datetime) -> tuple[float, ...]:
    """Return when the clock on the wall shows a time: once, or twice where it is put back."""
    first, second = local.timestamp(), local.replace(fold=1).timestamp()
    return (first, second) if second > first else (first,)


def fixed_moment(text: str, now: float, zone: tzinfo | None = None) -> str:
    """Return `finish_by` as a time with its zone, the same moment for whoever reads it.

    Args:
        text: A valid `budget.finish_by`.
        now: Seconds since the epoch; a time of day is the next one after that.
        zone: Zone of a time of day; `None` for this machine's.

    Raises:
        ValueError: The text is no such time.
    """
    if isinstance(read_time(text), datetime):
        return text
    moment = datetime.fromtimestamp(moment_of(text, now, zone), UTC).astimezone(zone)
    return moment.isoformat(timespec="minutes")

"""What a study has spent and has left, from its stored trials alone, in rows for people. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from studyflow.ledger.durations import sample_of
from studyflow.ledger.limits import (
    Account,
    Balance,
    InFlight,
    LimitKind,
    Recorded,
    account,
    expectation,
    requested,
)
from studyflow.ledger.prices import NO_PRICES, Prices
from studyflow.ledger.rows import all_rows
from studyflow.ledger.sums import Spending, spending
from studyflow.reasons import Reason
from studyflow.spec import StudySpec
from studyflow.trial.record import TrialRecord, TrialState

_NEGLIGIBLE: Final = 0.001
"""Part of all hours below which start-up is not worth a word."""


@dataclass(frozen=True, slots=True)
class Statement:
    """How a study stands."""

    spec: StudySpec
    total: Spending
    """What its ended attempts cost."""
    account: Account
    """How its budget stands."""
    price: float | None = None
    """Price of an hour of one unit of one more attempt; `None` where nobody has set one."""

    @property
    def unit(self) -> str:
        """What is counted: GPU-hours, or slot-hours where no attempt has held a GPU."""
        has_gpus = self.total.gpu_seconds or self.spec.trial.resources.gpu
        is_mixed = has_gpus and self.total.place_seconds
        return "GPU- and slot-hours" if is_mixed else "GPU-hours" if has_gpus else "slot-hours"

    @property
    def balances(self) -> tuple[Balance, ...]:
        """How each limit stands."""
        return self.account.balances

    @property
    def is_spent(self) -> bool:
        """Whether a limit has no room for one more trial of the usual kind."""
        return any(not balance.has_room_for(balance.typical) for balance in self.balances)

    @property
    def blocker(self) -> Reason | None:
        """Why one more trial of the usual kind does not fit into the budget; `None` if it does."""
        seconds = self.account.durations.typical_seconds
        return self.account.blocker(requested(self.spec), self.price, seconds)

    def rows(self) -> tuple[tuple[str, str], ...]:
        """Return (what, how much) for people; nothing for a study that has neither run nor limits.

        Hours of ended attempts are exact but for estimates; those of running ones are not.
        """
        rows = []
        if self.total.n_attempts:
            rows.append(("spent", self._spent()))
        rows += [(f"budget.{each.kind}", describe(each, self.unit)) for each in self.balances]
        if self.spec.budget.finish_by is not None:
            rows.append(("budget.finish_by", self.spec.budget.finish_by))
        if self.balances:
            rows.append(("one trial", self._expected()))
        return tuple(rows)

    def numbers(self) -> dict[str, Any]:
        """Return the same as JSON values, for programs."""
        parts = ("limit", "spent", "committed", "left", "forecast")
        return {
            "unit": self.unit,
            "hours": self.total.unit_hours,
            "lost_hours": self.total.lost_seconds / 3600,
            "startup_hours": self.total.startup_seconds / 3600,
            "cost": self.total.money,
            "n_attempts": self.total.n_attempts,
            "n_estimates": self.total.n_estimates,
            "budget": {
                balance.kind.value: {part: getattr(balance, part) for part in parts}
                for balance in self.balances
            },
        }

    def tags(self) -> dict[str, str]:
        """Return the same as tags of the study's run."""
        if not self.total.n_attempts and not self.balances:
            return {}
        numbers = self.numbers()
        budget = numbers.pop("budget")
        tags = {f"studyflow.spent.{name}": _shown(value) for name, value in numbers.items()}
        for kind, parts in budget.items():
            tags |= {f"studyflow.budget.{kind}.{part}": _shown(v) for part, v in parts.items()}
        return tags

    def _spent(self) -> str:
        total = self.total
        parts = [f"{total.unit_hours:.4g} {self.unit}"]
        if total.money:
            parts.append(f"cost {total.money:.2f}")
        if total.lost_seconds:
            parts.append(f"{total.lost_seconds / 3600:.3g} lost with attempts")
        if total.startup_seconds > _NEGLIGIBLE * total.unit_seconds:
            parts.append(f"{total.startup_seconds / 3600:.3g} until first reports")
        if total.n_estimates:
            parts.append(f"{total.n_estimates} of {total.n_attempts} attempts estimated")
        return ", ".join(parts)

    def _expected(self) -> str:
        durations, balance = self.account.durations, self.balances[0]
        unit = self.unit if balance.kind is LimitKind.GPU_HOURS else "in money"
        if durations.n_trials:
            return f"about {balance.typical:.3g} {unit}, by {durations.n_trials} that have ended"
        if self.spec.trial.timeout_seconds is not None:
            limit = "trial.timeout_seconds"
            return f"counts as {balance.typical:.3g} {unit} until one has ended ({limit})"
        if self.spec.budget.n_trials is None:
            return (
                "not known until one has ended; nothing bounds the first ones without "
                "trial.timeout_seconds"
            )
        return (
            f"counts as {balance.typical:.3g} {unit} until one has ended, an equal share; nothing "
            "bounds the first ones without trial.timeout_seconds"
        )


def statement(
    spec: StudySpec,
    records: Sequence[TrialRecord],
    *,
    n_left: int | None,
    prices: Prices = NO_PRICES,
    now: float | None = None,
    finish_at: float | None = None,
) -> Statement:
    """Return how a study stands.

    Args:
        spec: The study.
        records: Its trials.
        n_left: How many trials it may still start by `n_trials`; `None` for any number.
        prices: What an hour costs today; without one, what it cost last.
        now: Seconds since the epoch; by default the latest time that the trials know.
        finish_at: When it is to be finished, in seconds since the epoch; `None` for no such time.
    """
    gpus, allocation = spec.trial.resources.gpu, requested(spec)
    rows, price = all_rows(records, gpus), prices.of(allocation)
    if price is None:
        price = next((row.price for row in reversed(rows) if row.price is not None), None)
    now = _latest(records) if now is None else now
    ended = sorted(records, key=lambda record: record.finished_at or 0.0)
    samples = [sample for record in ended if (sample := sample_of(record)) is not None]
    durations = expectation(spec, samples, allocation, price)
    running = []
    for record in records:
        if record.state is TrialState.RUNNING:
            begun = None if record.begin is None else record.begin.at
            held = 0.0 if begun is None or not record.has_attempt else max(now - begun, 0.0)
            left = durations.remaining_seconds(record.params, held)
            running.append(InFlight(max(gpus, 1), price, held, left))
    found = account(
        spec,
        recorded=Recorded().add(rows),
        in_flight=running,
        durations=durations,
        allocation=allocation,
        price=price,
        n_left=n_left,
        now=now,
        finish_at=finish_at,
    )
    return Statement(spec, spending(rows), found, price)


def describe(balance: Balance, unit: str) -> str:
    """Return how a limit stands, for people."""
    of = f"{balance.limit:g}"
    if balance.kind is LimitKind.GPU_HOURS:
        of = f"{of} {unit}"
    text = f"{balance.spent:.4g} of {of} spent, {balance.committed:.3g} committed"
    text = f"{text}, {balance.left:.3g} left"
    if balance.overshoot > 0:
        return f"{text}; may end {balance.overshoot:.3g} above it, by what is in flight"
    return f"{text}; forecast {balance.forecast:.3g}"


def _shown(value: Any) -> str:
    return f"{value:.4f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _latest(records: Iterable[TrialRecord]) -> float:
    """Return the latest time that trials know."""
    times = [record.finished_at for record in records]
    times += [row.recorded_at for record in records for row in record.costs]
    times += [record.begin.at for record in records if record.begin is not None]
    return max((time for time in times if time is not None), default=0.0)

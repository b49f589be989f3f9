"""What fits into a budget: spent, committed, left, and what is still to come. Pure."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from studyflow.ledger.durations import Durations, Sample, assumed, learn
from studyflow.ledger.prices import PLACE, PRICES_VARIABLE, Prices
from studyflow.reasons import Code, Reason
from studyflow.spec import StudySpec
from studyflow.spec.problems import BrokenRule
from studyflow.trial.cost import Allocation, AttemptCost

_ROUNDING: Final = 1e-9
"""Part of a limit that sums of floating point numbers may be wrong by."""


class LimitKind(enum.StrEnum):
    """A limit of the budget, by its name in the study file."""

    GPU_HOURS = "gpu_hours"
    COST = "cost"


@dataclass(frozen=True, slots=True)
class InFlight:
    """An attempt that runs, or is about to: what it holds, and for how long."""

    units: int
    """GPUs, or 1 for its place."""
    price: float | None
    """Price of an hour of one of them."""
    elapsed_seconds: float
    """For how long it has held them."""
    remaining_seconds: float
    """For how much longer it is expected to."""

    def hours(self, kind: LimitKind, seconds: float) -> float:
        """Return what some of its seconds cost, in the unit of a limit."""
        rate = 1.0 if kind is LimitKind.GPU_HOURS else self.price or 0.0
        return rate * self.units * seconds / 3600


@dataclass(slots=True)
class Recorded:
    """What ended attempts cost, added up as they end."""

    unit_seconds: float = 0.0
    money: float = 0.0
    unpriced_unit_seconds: float = 0.0
    """Of attempts without a price, such as those before there were prices."""

    def add(self, rows: Iterable[AttemptCost]) -> Recorded:
        """Take in rows of the ledger, and return this object."""
        for row in rows:
            self.unit_seconds += row.unit_seconds
            if row.money is None:
                self.unpriced_unit_seconds += row.unit_seconds
            else:
                self.money += row.money
        return self

    def copy(self) -> Recorded:
        """Return the same as another object."""
        return Recorded(self.unit_seconds, self.money, self.unpriced_unit_seconds)

    def amount(self, kind: LimitKind, price: float | None) -> float:
        """Return it in the unit of a limit; what has no price is taken at today's.

        Args:
            kind: The limit.
            price: Price of an hour of one unit today.
        """
        if kind is LimitKind.GPU_HOURS:
            return self.unit_seconds / 3600
        return self.money + (price or 0.0) * self.unpriced_unit_seconds / 3600


@dataclass(frozen=True, slots=True)
class Balance:
    """How one limit of the budget stands, in its own unit."""

    kind: LimitKind
    limit: float
    recorded: float
    """What ended attempts cost."""
    accrued: float
    """What running ones have cost so far."""
    committed: float
    """What these are expected to cost from now on."""
    typical: float
    """What one more trial is expected to cost."""
    still_wanted: float
    """What all trials would cost that `n_trials` leaves to start; infinite without such a limit."""

    @property
    def spent(self) -> float:
        """What all attempts have cost so far."""
        return self.recorded + self.accrued

    @property
    def left(self) -> float:
        """What is neither spent nor committed."""
        return max(self.limit - self.spent - self.committed, 0.0)

    @property
    def forecast(self) -> float:
        """What the study is expected to have cost in the end: with as many trials as still fit."""
        if self.typical <= 0:
            return self.spent + self.committed
        fitting = math.floor(self.left / self.typical + _ROUNDING) * self.typical
        return self.spent + self.committed + min(self.still_wanted, fitting)

    @property
    def overshoot(self) -> float:
        """By how much it is expected to exceed its limit: by what is in flight."""
        return max(self.spent + self.committed - self.limit, 0.0)

    @property
    def is_reached(self) -> bool:
        """Whether the limit is spent."""
        return self.spent >= self.limit * (1 - _ROUNDING)

    def has_room_for(self, amount: float) -> bool:
        """Return whether an amount fits into what is left."""
        allowed = self.limit * (1 + _ROUNDING)
        return self.spent + self.committed + amount <= allowed and not self.is_reached


@dataclass(frozen=True, slots=True)
class Account:
    """How a study's budget stands at one moment."""

    balances: tuple[Balance, ...]
    durations: Durations
    now: float
    """Seconds since the epoch."""
    finish_at: float | None = None
    """When the study is to be finished; `None` for no such time."""

    def blocker(
        self, allocation: Allocation, price: float | None, seconds: float, *, is_next: bool = True
    ) -> Reason | None:
        """Return why a trial does not fit into what is left; `None` if it does.

        Args:
            allocation: What it would hold.
            price: Price of an hour of one unit of it.
            seconds: For how long.
            is_next: Whether any next trial is meant, not a certain one.
        """
        one = InFlight(max(allocation.gpus, 1), price, 0.0, seconds)
        what = "The next trial" if is_next else "This trial"
        for balance in self.balances:
            needs = one.hours(balance.kind, seconds)
            if not balance.has_room_for(needs):
                return _does_not_fit(what, balance, needs, has_gpus=allocation.gpus > 0)
        if self.finish_at is not None and self.now + seconds > self.finish_at:
            if self.now >= self.finish_at:
                message = "The time in budget.finish_by is over."
            else:
                message = (
                    f"{what} is expected to take {seconds:.3g} s, and budget.finish_by is in "
                    f"{self.finish_at - self.now:.3g} s."
                )
            return Reason(
                Code.FINISH_TIME_REACHED, message, "give budget.finish_by a later time, with a date"
            )
        return None

    @property
    def reached(self) -> Reason | None:
        """Which limit is reached, so that running trials end if `at_limit` says so."""
        for balance in self.balances:
            if balance.is_reached:
                return Reason(_CODES[balance.kind], f"budget.{balance.kind} is spent.")
        if self.finish_at is not None and self.now >= self.finish_at:
            return Reason(Code.FINISH_TIME_REACHED, "The time in budget.finish_by is over.")
        return None


def spent_text(found: Account, unit: str) -> str:
    """Return in few words how a budget stands: `1.2 of 40 GPU-hours, cost 3.1 of 200`.

    Args:
        found: How the budget stands.
        unit: What `gpu_hours` counts here: GPU-hours or slot-hours.
    """
    parts = []
    for balance in found.balances:
        amount = f"{balance.spent:.3g} of {balance.limit:g}"
        is_hours = balance.kind is LimitKind.GPU_HOURS
        parts.append(f"{amount} {unit}" if is_hours else f"cost {amount}")
    if found.finish_at is not None:
        left = max(found.finish_at - found.now, 0.0) / 3600
        parts.append(f"{left:.2g} h until finish_by")
    return ", ".join(parts)


_CODES: Final = {LimitKind.GPU_HOURS: Code.GPU_HOURS_SPENT, LimitKind.COST: Code.COST_SPENT}


def requested(spec: StudySpec) -> Allocation:
    """Return what an attempt asks for, by the study file."""
    gpus, kubernetes = spec.trial.resources.gpu, spec.trial.kubernetes
    return Allocation(gpus, kubernetes.gpu_resource if gpus else None, kubernetes.node_selector)


def missing_price(spec: StudySpec, prices: Prices) -> BrokenRule | None:
    """Return that a study is limited by money and nobody has set a price; `None` if all is well."""
    allocation = requested(spec)
    if spec.budget.cost is None or prices.of(allocation) is not None:
        return None
    name = allocation.resource or PLACE
    return BrokenRule(
        ("budget", "cost"),
        f"cost is {spec.budget.cost:g}, but {name} has no price",
        f"set {PRICES_VARIABLE}={name}=PRICE, the price of an hour of one",
        code=Code.PRICE_MISSING,
    )


def limits_of(spec: StudySpec) -> dict[LimitKind, float]:
    """Return the limits of a study's budget, in their units."""
    given = {LimitKind.GPU_HOURS: spec.budget.gpu_hours, LimitKind.COST: spec.budget.cost}
    return {kind: limit for kind, limit in given.items() if limit is not None}


def expectation(
    spec: StudySpec, samples: Sequence[Sample], allocation: Allocation, price: float | None
) -> Durations:
    """Return what trials are expected to take.

    Before one has ended it is `trial.timeout_seconds`; without that, an equal share of the budget
    for each of `n_trials`; without that either, nothing, so that each place gets a first trial.
    """
    if samples:
        return learn(spec, samples)
    if spec.trial.timeout_seconds is not None:
        return assumed(spec.trial.timeout_seconds)
    n_trials = spec.budget.n_trials
    if n_trials is None:
        return assumed(0.0)
    one = InFlight(max(allocation.gpus, 1), price, 0.0, 0.0)
    rates = {kind: one.hours(kind, 1.0) for kind in LimitKind}
    shares = [
        limit / n_trials / rates[kind] for kind, limit in limits_of(spec).items() if rates[kind] > 0
    ]
    return assumed(min(shares, default=0.0))


def account(
    spec: StudySpec,
    *,
    recorded: Recorded,
    in_flight: Iterable[InFlight],
    durations: Durations,
    allocation: Allocation,
    price: float | None,
    n_left: int | None,
    now: float,
    finish_at: float | None = None,
) -> Account:
    """Return how a study's budget stands.

    Args:
        spec: The study.
        recorded: What ended attempts cost.
        in_flight: The attempts that run or are about to.
        durations: What trials take.
        allocation: What one more would hold.
        price: Price of an hour of one unit of it.
        n_left: How many trials `n_trials` leaves to start; `None` for any number.
        now: Seconds since the epoch.
        finish_at: When the study is to be finished.
    """
    running = tuple(in_flight)
    one = InFlight(max(allocation.gpus, 1), price, 0.0, durations.typical_seconds)
    balances = []
    for kind, limit in limits_of(spec).items():
        typical = one.hours(kind, durations.typical_seconds)
        balances.append(
            Balance(
                kind,
                limit,
                recorded.amount(kind, price),
                sum(held.hours(kind, held.elapsed_seconds) for held in running),
                sum(held.hours(kind, held.remaining_seconds) for held in running),
                typical,
                math.inf if n_left is None else n_left * typical,
            )
        )
    return Account(tuple(balances), durations, now, finish_at)


def _does_not_fit(what: str, balance: Balance, needs: float, *, has_gpus: bool) -> Reason:
    unit = {
        LimitKind.GPU_HOURS: " GPU-hours" if has_gpus else " slot-hours",
        LimitKind.COST: "",
    }[balance.kind]
    name = f"budget.{balance.kind}"
    if balance.is_reached:
        message = f"{name} is spent: {balance.spent:.4g} of {balance.limit:.4g}{unit}."
    else:
        committed = f" and {balance.committed:.4g} committed" if balance.committed > 0 else ""
        message = (
            f"{what} is expected to cost {needs:.4g}{unit}, and {name} leaves {balance.left:.4g}: "
            f"{balance.spent:.4g} of {balance.limit:.4g} spent{committed}."
        )
    return Reason(_CODES[balance.kind], message, f"raise {name} to go on")

"""What the runner and the process that makes suggestions tell each other, pickled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from studyflow.samplers.ahead.policy import Plan
from studyflow.samplers.explanation import SUGGESTION_ATTR
from studyflow.samplers.history import CAUSE_ATTR
from studyflow.samplers.strategy import Strategy, Suggested
from studyflow.trial.cost_form import COST


@dataclass(frozen=True, slots=True)
class Setup:
    """The first thing that the process is told."""

    strategy: Strategy
    ask_seconds: float


@dataclass(frozen=True, slots=True)
class Update:
    """What has changed since the last update, and what is wanted now."""

    trials: tuple[FrozenTrial, ...]
    """Trials that are new or have changed, as the sampler sees them."""
    directions: tuple[StudyDirection, ...]
    """One per objective."""
    n_news: int
    """How much has happened so far that a suggestion should know of."""
    next_number: int
    """Number of the next trial."""
    wanted: Plan


@dataclass(frozen=True, slots=True)
class Prepared:
    """A suggestion for a trial that does not exist yet."""

    number: int
    n_news: int
    """What it knows of: see `Update`."""
    suggested: Suggested
    seconds: float
    """How long it took."""
    is_search_short: bool
    serial: int
    """Its number among all suggestions."""
    after: int | None
    """Serial of the one for the trial before that it stands aside for; `None` if that has begun."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The process cannot go on."""

    reason: str


Answer = Prepared | Failed

_WITH_CURVE: Final = (TrialState.COMPLETE, TrialState.PRUNED)


def as_sampler_sees(trial: FrozenTrial, space: Mapping[str, BaseDistribution]) -> FrozenTrial:
    """Return what a suggestion may depend on of a trial, and little else.

    What a running trial reports changes no suggestion, and is left out.

    Args:
        trial: As the storage gives it.
        space: Its equal distributions take the place of the trial's own, of which there are many.
    """
    return FrozenTrial(
        number=trial.number,
        state=trial.state,
        value=None,
        values=trial.values,
        datetime_start=trial.datetime_start,
        datetime_complete=trial.datetime_complete,
        params=trial.params,
        distributions={
            name: space[name] if space.get(name) == own else own
            for name, own in trial.distributions.items()
        },
        user_attrs=_counting(trial),
        system_attrs={
            key: value
            for key, value in trial.system_attrs.items()
            if not key.startswith(SUGGESTION_ATTR)
        },
        intermediate_values=trial.intermediate_values if trial.state in _WITH_CURVE else {},
        trial_id=trial._trial_id,
    )


def is_same_to_sampler(one: FrozenTrial, other: FrozenTrial) -> bool:
    """Return whether two views of a trial give the same suggestions."""
    return (
        one.state is other.state
        and one.params == other.params
        and one.system_attrs == other.system_attrs
        and (not one.state.is_finished() or one.user_attrs == other.user_attrs)
    )


def _counting(trial: FrozenTrial) -> dict[str, Any]:
    """Return the user attributes that a suggestion may depend on: how it ended, what it cost."""
    if not trial.state.is_finished():
        return {}
    return {
        key: value
        for key, value in trial.user_attrs.items()
        if key == CAUSE_ATTR or key.startswith(COST)
    }

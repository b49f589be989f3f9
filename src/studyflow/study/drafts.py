"""A trial while this runner writes it: what is read of it has what is not stored yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from studyflow.storage import TrialChange
from studyflow.storage.database_trials import own_copy
from studyflow.study import storage_form as form

NOTHING: Final = TrialChange()


@dataclass(slots=True)
class Draft:
    """One trial and what is to be written of it, all by one write.

    Made by `Draft.of`, or by `Draft.new` for a trial that is not stored yet.
    """

    shown: FrozenTrial
    """The trial as its writer sees it; each write changes it."""
    stored_attrs: dict[str, Any]
    """Its user attributes, those of other attempts among them."""
    expected: Mapping[str, Any]
    """Its ownership as its writer saw it: the condition of the write."""
    end: TrialChange = NOTHING
    """What is written with its state."""
    n_trials: int | None = None
    """For a trial that is not stored yet: how many trials the study has without it."""
    study_id: int = -1
    """For the same, Optuna's id of the study."""
    change: TrialChange = field(default=NOTHING)
    """What is to be written."""

    @classmethod
    def of(cls, stored: FrozenTrial, end: TrialChange = NOTHING) -> Draft:
        """Return a draft of a stored trial.

        Args:
            stored: The trial with whatever is stored of it.
            end: What is written with its state.
        """
        return cls(
            own_copy(form.of_one_attempt(stored)),
            dict(stored.user_attrs),
            form.ownership(stored.user_attrs),
            end,
        )

    @classmethod
    def new(cls, template: FrozenTrial, n_trials: int, study_id: int) -> Draft:
        """Return a draft of a trial that is not stored yet.

        Args:
            template: What it is so far.
            n_trials: How many trials the study has without it.
            study_id: Optuna's id of the study.
        """
        return cls(template, template.user_attrs, {}, n_trials=n_trials, study_id=study_id)

    @property
    def has_changed(self) -> bool:
        """Whether anything is to be written."""
        return self.change != NOTHING

    def set_param(self, name: str, value: float, distribution: BaseDistribution) -> None:
        """Choose a parameter; its value is as Optuna stores it."""
        self.change = replace(
            self.change, params={**self.change.params, name: (value, distribution)}
        )
        self.shown.params[name] = distribution.to_external_repr(value)
        self.shown.distributions[name] = distribution

    def set_intermediate_value(self, step: int, value: float) -> None:
        """Report a value."""
        self.change = replace(self.change, intermediate={**self.change.intermediate, step: value})
        self.shown.intermediate_values[step] = value

    def set_user_attr(self, key: str, value: Any) -> None:
        """Set a user attribute."""
        self.change = replace(self.change, user_attrs={**self.change.user_attrs, key: value})
        self.shown.user_attrs[key] = self.stored_attrs[key] = value

    def set_system_attr(self, key: str, value: Any) -> None:
        """Set a system attribute; a pruner's own note belongs to this attempt from now on."""
        if key.startswith(form.RUNG):
            for name, attr in form.with_rung(self.stored_attrs, key).items():
                self.set_user_attr(name, attr)
        self.change = replace(self.change, system_attrs={**self.change.system_attrs, key: value})
        self.shown.system_attrs[key] = value

    def with_state(self, state: TrialState, values: Sequence[float] | None) -> TrialChange:
        """Return all that is to be written, and the state with it."""
        return replace(
            self.change,
            user_attrs={**self.change.user_attrs, **self.end.user_attrs},
            system_attrs={**self.change.system_attrs, **self.end.system_attrs},
            state=state,
            values=values,
        )

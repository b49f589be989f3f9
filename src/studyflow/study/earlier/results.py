"""Earlier results, sorted out by whether they fit into a study, and written into it once.

What is taken over informs the sampler and costs no budget, as after a fork.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from studyflow.reasons import Reason
from studyflow.spec import StudySpec
from studyflow.study import storage_form as form
from studyflow.study.identity import check_identity
from studyflow.study.study import Study
from studyflow.trial import ParamValue


@dataclass(frozen=True)
class Misfit:
    """A result that is not taken over."""

    label: str
    """Which one, such as `row 7` or `trial 3`."""
    reasons: tuple[Reason, ...]
    """Why, at least one."""

    def __str__(self) -> str:
        return "; ".join(map(str, self.reasons))


@dataclass(frozen=True)
class Earlier:
    """Earlier results, sorted out. Nothing is written yet."""

    source: str
    """Where they come from; kept with each trial."""
    fitting: tuple[FrozenTrial, ...]
    misfits: tuple[Misfit, ...]
    ignored: tuple[str, ...] = ()
    """Parameters of the results that the study does not have."""


def without_known(earlier: Earlier, existing: Sequence[FrozenTrial]) -> tuple[FrozenTrial, ...]:
    """Return the fitting trials that a study does not have yet from the same source."""
    known = Counter(
        _fingerprint(frozen)
        for frozen in existing
        if frozen.user_attrs.get(form.TAKEN_OVER) == earlier.source
    )
    new = []
    for frozen in earlier.fitting:
        key = _fingerprint(frozen)
        if known[key]:
            known[key] -= 1
        else:
            new.append(frozen)
    return tuple(new)


def take_over(
    spec: StudySpec, storage: optuna.storages.BaseStorage, earlier: Earlier
) -> tuple[FrozenTrial, ...]:
    """Write the fitting trials into a study, which is made if need be; return the new ones.

    Raises:
        StudyMismatch: The stored study has other objectives or another search space.
    """
    study = optuna.create_study(
        study_name=spec.name,
        storage=storage,
        directions=list(spec.directions),
        load_if_exists=True,
        sampler=optuna.samplers.RandomSampler(),
    )
    check_identity(spec, study)
    new = without_known(earlier, study.get_trials(deepcopy=False))
    for frozen in new:
        study.add_trial(frozen)
    # Last, so that points to try first which are among these results are not tried again.
    Study.open(
        spec,
        storage,
        make_sampler=lambda _seed, _n_trials: optuna.samplers.RandomSampler(),
        pruner=optuna.pruners.NopPruner(),
    )
    return new


def make_trial(
    spec: StudySpec,
    state: OptunaState,
    params: Mapping[str, ParamValue],
    user_attrs: Mapping[str, Any],
    **more: Any,
) -> FrozenTrial:
    """Return a trial as a study is given it, with its parameters as the study writes them."""
    space = spec.space
    return optuna.trial.create_trial(
        state=state,
        params=space.on_grid(params),
        distributions={name: space[name].distribution() for name in params},
        user_attrs=dict(user_attrs),
        **more,
    )


def is_known(spec: StudySpec, name: str) -> bool:
    """Return whether a study has a parameter of this name."""
    return name in spec.search_space or name in spec.fixed


def _fingerprint(frozen: FrozenTrial) -> str:
    values = frozen.values if frozen.state is OptunaState.COMPLETE else None
    params = {  # an older studyflow kept 0.30000000000000004 of a grid for 0.3
        name: f"{value:.12g}" if isinstance(value, float) else value
        for name, value in frozen.params.items()
    }
    return json.dumps([frozen.state.name, params, values], sort_keys=True)

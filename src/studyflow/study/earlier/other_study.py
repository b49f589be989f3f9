"""Which trials of another Optuna study fit into a study. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from studyflow.errors import StudyMismatch
from studyflow.reasons import Code, Reason
from studyflow.spec import StudySpec
from studyflow.study import storage_form as form
from studyflow.study.earlier.results import Earlier, Misfit, is_known, make_trial
from studyflow.trial import Cause


def from_study(spec: StudySpec, source: optuna.Study, name: str) -> Earlier:
    """Return which trials of another Optuna study fit into this one.

    A study that studyflow did not make is read as far as it goes.

    Args:
        spec: The study that is to have them.
        source: The study that has them.
        name: What to call it.

    Raises:
        StudyMismatch: It has other objectives or directions.
    """
    directions = [direction.name.lower() for direction in source.directions]
    if directions != list(spec.directions):
        raise StudyMismatch(
            f"The study {name!r} has the directions {', '.join(directions)}, and "
            f"{spec.name!r} has {', '.join(spec.directions)}.",
            hint="results of another question would mislead the sampler.",
        )
    names = source.metric_names or _stored_metrics(source)
    wanted = [objective.metric for objective in spec.objectives]
    if names is not None and names != wanted:
        raise StudyMismatch(
            f"The study {name!r} optimises {', '.join(names)}, and {spec.name!r} optimises "
            f"{', '.join(wanted)}.",
            hint="results of another question would mislead the sampler.",
        )
    fitting, misfits, ignored = [], [], dict[str, None]()
    for frozen in source.get_trials(deepcopy=False):
        ignored |= dict.fromkeys(n for n in frozen.params if not is_known(spec, n))
        reasons = _misfit(spec, frozen)
        if not reasons:
            fitting.append(_copy(spec, frozen, name))
        else:
            misfits.append(Misfit(f"trial {frozen.number}", reasons))
    return Earlier(name, tuple(fitting), tuple(misfits), tuple(ignored))


def _misfit(spec: StudySpec, frozen: FrozenTrial) -> tuple[Reason, ...]:
    """Return why a trial is not taken over; nothing when it fits."""
    if not frozen.state.is_finished():
        return _because(Code.RESULT_UNFINISHED, f"it is {frozen.state.name.lower()}, not finished")
    cause = frozen.user_attrs.get(form.CAUSE)
    if cause in (Cause.CANCELLED, Cause.BUDGET):
        return _because(Code.RESULT_UNFINISHED, "it was cancelled, or ended by its budget")
    if frozen.state is OptunaState.FAIL and cause is None:
        return _because(Code.RESULT_UNFINISHED, "it failed, and nothing says why")
    params = {n: v for n, v in frozen.params.items() if n in spec.search_space}
    if problems := spec.space.problems(params):
        return _because(Code.OUTSIDE_SPACE, *problems)
    if frozen.state is not OptunaState.COMPLETE:
        return _fixed_otherwise(spec, frozen.params)
    if not all(math.isfinite(value) for value in frozen.values or ()):
        return _because(Code.RESULT_INCOMPLETE, "a value is not finite")
    bounds = [name for c in spec.constraints for name in c.violations(0.0)]
    if lacking := [name for name in bounds if name not in frozen.constraints]:
        return _because(Code.RESULT_INCOMPLETE, f"it has no value for the constraint {lacking[0]}")
    return _fixed_otherwise(spec, frozen.params)


def _because(code: Code, *messages: str) -> tuple[Reason, ...]:
    return tuple(Reason(code, message) for message in messages)


def _fixed_otherwise(spec: StudySpec, params: Mapping[str, Any]) -> tuple[Reason, ...]:
    """Return that a fixed parameter had another value; nothing when none had."""
    for name, value in spec.fixed.items():
        if name in params and params[name] != value:
            message = f"{name} is fixed to {value!r} now, and it was {params[name]!r}"
            return _because(Code.FIXED_OTHERWISE, message)
    return ()


def _copy(spec: StudySpec, frozen: FrozenTrial, source: str) -> FrozenTrial:
    params = {n: v for n, v in frozen.params.items() if n in spec.search_space}
    attrs = {k: v for k, v in frozen.user_attrs.items() if k != form.RUN_ID}  # its old run
    point = frozen.system_attrs.get(form.POINT)
    return make_trial(
        spec,
        frozen.state,
        params,
        {**attrs, form.TAKEN_OVER: source},
        values=frozen.values if frozen.state is OptunaState.COMPLETE else None,
        intermediate_values=frozen.intermediate_values,
        system_attrs={} if point is None else {form.POINT: point},
        constraints=frozen.constraints or None,
    )


def _stored_metrics(source: optuna.Study) -> list[str] | None:
    try:
        return [objective["metric"] for objective in source.user_attrs[form.IDENTITY]["objectives"]]
    except (KeyError, TypeError):  # of a study that studyflow did not make
        return None

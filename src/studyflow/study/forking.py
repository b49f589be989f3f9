"""Takes over the finished trials of another study that fit into this one's search space."""

from __future__ import annotations

import logging

import optuna

from studyflow.spec import StudySpec
from studyflow.study import storage_form as form
from studyflow.study.stored import load_records

_log = logging.getLogger(__name__)


def may_take_over(study: optuna.Study) -> bool:
    """Return whether a study is new, or its runner was killed while it took over trials."""
    trials = study.get_trials(deepcopy=False)
    return form.FORKED_FROM not in study.user_attrs and all(
        form.TAKEN_OVER in trial.user_attrs for trial in trials
    )


def take_over(spec: StudySpec, source: optuna.Study, target: optuna.Study) -> None:
    """Copy the finished trials of another study that are points of this one's search space."""
    space, old = spec.space, load_records(source)[0]
    if old is not None and [o.metric for o in old.objectives] != [
        o.metric for o in spec.objectives
    ]:
        _log.warning("Took over no trial of %s: it has other objectives", source.study_name)
        return
    taken, there = 0, len(target.get_trials(deepcopy=False))
    trials = source.get_trials(deepcopy=False)
    for frozen in trials:
        params = space.on_grid({n: v for n, v in frozen.params.items() if n in space})
        attrs = {k: v for k, v in frozen.user_attrs.items() if k != form.RUN_ID}  # its old run
        fits = frozen.state.is_finished() and not space.problems(params)
        if not fits or form.is_cancelled(frozen):
            continue
        point = frozen.system_attrs.get(form.POINT)
        taken += 1
        if taken > there:  # the others were copied before a crash, in this same order
            target.add_trial(
                optuna.trial.create_trial(
                    state=frozen.state,
                    params=params,
                    distributions={name: space[name].distribution() for name in params},
                    values=frozen.values,
                    intermediate_values=frozen.intermediate_values,
                    user_attrs={**attrs, form.TAKEN_OVER: source.study_name},
                    system_attrs={} if point is None else {form.POINT: point},
                    constraints=frozen.constraints or None,
                )
            )
    target.set_user_attr(form.FORKED_FROM, source.study_name)
    _log.info("Took over %d of %d trials of %s", taken, len(trials), source.study_name)

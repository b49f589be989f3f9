"""Katib's objective, algorithm, early stopping and limits as sections of a study file."""

from __future__ import annotations

from typing import Any, Final

from studyflow.spec.katib.reading import Part

PARALLEL_TRIALS: Final = 3
"""What Katib takes where an experiment does not say how many trials run at once."""

TRIALS: Final = 100
"""Trials of a study whose experiment names no limit: a study file must have one."""

_SAMPLERS: Final = {
    "random": "random",
    "grid": "grid",
    "bayesianoptimization": "botorch",
    "tpe": "tpe",
    "multivariate-tpe": "tpe",
    "cmaes": "cmaes",
    "sobol": "qmc",
    "hyperband": "random",
}
"""Our sampler for each of Katib's algorithms; Hyperband draws its points at random."""

_SETTINGS: Final = {
    "botorch": {"n_initial_points": ("n_startup_trials", "whole")},
    "tpe": {
        "n_startup_trials": ("n_startup_trials", "whole"),
        "startup_trials": ("n_startup_trials", "whole"),
        "n_ei_candidates": ("n_ei_candidates", "whole"),
        "n_EI_candidates": ("n_ei_candidates", "whole"),
        "ei_candidates": ("n_ei_candidates", "whole"),
    },
    "cmaes": {"sigma": ("sigma0", "number")},
}
"""Our name for each of an algorithm's settings, and what it holds. `random_state` all have."""

_NOT_HERE: Final = {
    "pbt": "population based training changes parameters while trials run, as no sampler here does",
    "enas": "neural architecture search is not part of studyflow",
    "darts": "neural architecture search is not part of studyflow",
}


def objective(part: Part, document: dict[str, Any]) -> dict[str, str]:
    """Write objective and stop rule.

    Args:
        part: `spec.objective`.
        document: The study file, written to.

    Returns:
        Of each metric that the trials collect, which of its values Katib takes: `min`, `max` or
        `latest`. The objective's is first.
    """
    metric, direction, goal = (
        part.take("objectiveMetricName"),
        part.take("type"),
        part.number("goal"),
    )
    if not isinstance(metric, str) or direction not in ("minimize", "maximize"):
        part.notes.wrong(
            part.path,
            "must have objectiveMetricName, and type minimize or maximize",
            "correct the experiment",
        )
        return {}
    document["objectives"] = [{"metric": metric, "direction": direction}]
    if goal is not None:
        document["stop"] = {"target": goal}
    others = part.take("additionalMetricNames")
    names = [metric, *(others if isinstance(others, list) else [])]
    best = {"minimize": "min", "maximize": "max"}[direction]
    chosen = {str(name): best for name in names}
    strategies = part.take("metricStrategies")
    for one in strategies if isinstance(strategies, list) else []:
        if one.get("name") in chosen and one.get("value") in ("min", "max", "latest"):
            chosen[one["name"]] = one["value"]
    return chosen


def sampler(part: Part, document: dict[str, Any]) -> None:
    """Write the sampler, and for Hyperband its pruner.

    Args:
        part: `spec.algorithm`.
        document: The study file, written to; its search space is there.
    """
    name = part.take("algorithmName")
    settings = part.settings("algorithmSettings")
    if name in _NOT_HERE or name not in _SAMPLERS:
        why = _NOT_HERE.get(name, "no such algorithm is known here")
        part.notes.left_out(
            part.at("algorithmName"),
            name,
            f"{why}; the study has the sampler botorch",
            "choose another one by sampler.type, if that suits the study better",
        )
        return
    kind = _SAMPLERS[name]
    chosen: dict[str, Any] = {"type": kind}
    if name == "multivariate-tpe":
        chosen["multivariate"] = True
    if (seed := settings.whole("random_state")) is not None:
        chosen["seed"] = seed
        if kind in ("random", "grid"):
            part.notes.changed(
                settings.at("random_state"), seed, "another generator, so other points"
            )
    for theirs, (ours, form) in _SETTINGS.get(kind, {}).items():
        value = settings.whole(theirs) if form == "whole" else settings.number(theirs)
        if value is not None:
            chosen[ours] = value
    if name == "hyperband":
        _hyperband(settings, document)
    if name == "bayesianoptimization":
        part.notes.changed(
            part.at("algorithmName"),
            name,
            "became studyflow's own Gaussian process, not scikit-optimize's",
        )
    document["sampler"] = chosen


def _hyperband(settings: Part, document: dict[str, Any]) -> None:
    """Write Hyperband as a pruner: its resource is the trial's steps, not a parameter."""
    resource = settings.take("resource_name")
    most, eta = settings.number("r_l"), settings.number("eta")
    pruner: dict[str, Any] = {"type": "hyperband"}
    if eta is not None:
        pruner["reduction_factor"] = max(2, round(eta))
    document["pruner"] = pruner
    if most is not None and most >= 1:
        document["trial"]["budget"] = int(most)
    if document["search_space"].pop(str(resource), None) is None:
        return
    hint = "report each epoch; the pruner stops the training, and nothing is trained twice"
    if most is not None and most >= 1:
        document["fixed"] = {str(resource): int(most)}
        message = (
            f"is fixed to {int(most)}, which is trial.budget as well: no trial starts with less"
        )
    else:
        message = "is left to the script: set trial.budget to the most steps of a trial"
    settings.notes.changed(settings.at("resource_name"), resource, message, hint)


def pruner(part: Part, document: dict[str, Any]) -> None:
    """Write the pruner.

    Args:
        part: `spec.earlyStopping`.
        document: The study file, written to.
    """
    name = part.take("algorithmName")
    settings = part.settings("algorithmSettings")
    if name is None:
        return
    if name != "medianstop":
        part.notes.left_out(
            part.at("algorithmName"),
            name,
            "no such rule is known here, so no trial is pruned",
            "choose a pruner by pruner.type",
        )
        return
    least, first = settings.whole("min_trials_required"), settings.whole("start_step")
    document["pruner"] = {
        "type": "median",
        "n_startup_trials": 3 if least is None else least,
        "n_warmup_steps": 4 if first is None else first,
    }
    part.notes.changed(
        part.at("algorithmName"),
        name,
        "became the pruner median, which compares values at the same step; Katib compares with "
        "averages of the earlier trials",
    )


def budget(part: Part, document: dict[str, Any]) -> None:
    """Write how many trials there are, and when failures end the study.

    Args:
        part: `spec`.
        document: The study file, written to.
    """
    parallel, most = part.whole("parallelTrialCount"), part.whole("maxTrialCount")
    failed = part.whole("maxFailedTrialCount")
    if most is None:
        part.notes.changed(
            part.at("maxTrialCount"),
            "none",
            f"Katib goes on without an end, and a study file must have one: {TRIALS} trials",
            "choose budget.n_trials",
        )
    n_trials = TRIALS if most is None else most
    document["budget"] = {
        "n_trials": n_trials,
        "max_parallel_trials": PARALLEL_TRIALS if parallel is None else parallel,
    }
    if failed is not None:
        document.setdefault("stop", {})["alike_failures"] = failed + 1
        part.notes.changed(
            part.at("maxFailedTrialCount"),
            failed,
            f"became stop.alike_failures: {failed + 1}, which counts failures by one and the same "
            "error; out of memory, NaN and timeouts teach the sampler and end nothing",
        )

"""`studyflow explain`: why a study is stuck or slow, and why a trial got its parameters."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from studyflow.cli import exits, pauses
from studyflow.cli.options import json_option, settings_options
from studyflow.cli.studies import load_study
from studyflow.reports import StudyData
from studyflow.reports.wording import number, one_line, percent, plural, value
from studyflow.samplers.levels import FALLBACK_LEVELS, MODEL_LEVELS, SuggestionLevel
from studyflow.settings import Settings
from studyflow.spec import StudySpec
from studyflow.trial.record import TrialRecord, TrialState

_LEVELS: Final = {
    SuggestionLevel.MODEL: "suggested by the full model, with one lengthscale for each parameter",
    SuggestionLevel.ISOTROPIC: "suggested by the model with one lengthscale for all parameters",
    SuggestionLevel.PRIOR: "suggested by the model with its prior hyperparameters, nothing fitted",
    SuggestionLevel.STARTUP: "space-filling start-up point: too little had finished to model",
    SuggestionLevel.SPACE_FILLING: "space-filling point, since no model gave one",
    SuggestionLevel.RANDOM: "independent draw of each parameter, since the space could not be read",
    SuggestionLevel.QUASI_RANDOM: "quasi-random point, since the study's sampler failed",
}
"""What each level of the sampler's fallback chain means."""

_WARPS: Final = {
    "none": "none",
    "half-rank": "half-rank (heavy tail: the bad half counts by its ranks)",
}
_LABEL_WIDTH: Final = 14


@click.command()
@click.argument("study")
@click.option("--trial", "trial_number", type=int, help="Explain this trial's parameters instead.")
@click.option(
    "--model", "of_model", is_flag=True, help="Say how often the model's predictions came true."
)
@json_option
@settings_options(with_executor=True)
def explain(
    study: str,
    trial_number: int | None,
    of_model: bool,
    as_json: bool,
    settings: Settings,
) -> None:
    """Say why a study (file or name) is stuck or slow, and what to do about it.

    Looks at its trials, its runner, the cluster (with --executor kubernetes), MLflow and Prefect,
    each for a few seconds, and changes nothing. Exit code 1 when something has to be done before
    it goes on, 3 when its storage does not answer. What the messages mean: docs/troubleshooting.md.

    With --trial: why that trial got its parameters.
    """
    if of_model and trial_number is not None:
        raise click.UsageError("--trial explains one trial and --model all; give one of them.")
    if of_model or trial_number is not None:
        document, lines = _explain_suggestions(load_study(study, settings), trial_number)
        code = 0
    else:
        document, lines, code = _explain_blockers(study, settings)
    if as_json:
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        click.echo("\n".join(lines))
    sys.exit(code)


def _explain_suggestions(
    data: StudyData, trial_number: int | None
) -> tuple[dict[str, Any], list[str]]:
    if trial_number is None:
        document = calibration_document(data)
        return document, [str(document["summary"])]
    document = trial_document(data, _find(data, trial_number))
    return document, list(trial_lines(document))


def _explain_blockers(study: str, settings: Settings) -> tuple[dict[str, Any], list[str], int]:
    from studyflow.cli.blockers import blocker_lines, blockers_document
    from studyflow.diagnostics import Level, Named, find_blockers, take_snapshot, throughput
    from studyflow.storage import quiet_optuna

    quiet_optuna()
    path = Path(study)
    spec = StudySpec.from_yaml(path) if path.suffix in (".yaml", ".yml") else None
    snapshot = take_snapshot(Named(study, spec), settings, lambda: load_study(study, settings))
    found, speed = find_blockers(snapshot), throughput(snapshot)
    code = exits.FAILED if any(one.level is Level.PROBLEM for one in found) else 0
    if snapshot.storage.absence is not None:
        code = exits.UNAVAILABLE
    document = blockers_document(snapshot, found, speed)
    return document, list(blocker_lines(snapshot, found, speed)), code


def _find(data: StudyData, wanted: int) -> TrialRecord:
    for record in data.trials:
        if record.number == wanted:
            return record
    numbers = [record.number for record in data.trials]
    there = f"its trials are {numbers[0]} to {numbers[-1]}" if numbers else "it has no trials yet"
    raise click.BadParameter(
        f"the study {data.spec.name!r} has no trial {wanted}; {there}.", param_hint="--trial"
    )


def calibration_document(data: StudyData) -> dict[str, Any]:
    """Return how often predictions came true, as JSON values, with a paragraph that says it."""
    from studyflow.reports import predictions

    objectives, sentences = [], []
    levels = [predictions.level_of(record) for record in data.trials]
    n_startup = levels.count(SuggestionLevel.STARTUP)
    n_by_model = sum(level in MODEL_LEVELS for level in levels)
    n_failed = sum(level in FALLBACK_LEVELS for level in levels)
    for i, metric in enumerate(data.metrics):
        judged = predictions.calibration(predictions.predictions(data, i))
        objectives.append(
            {
                "metric": metric,
                "n_judged": judged.count,
                "within_1_sd": judged.within_1_sd,
                "within_2_sd": judged.within_2_sd,
                "verdict": judged.verdict,
            }
        )
        if judged.count:
            sentences.append(
                f"{one_line(metric)}: {judged.sentence} made before the trial ran and "
                f"{judged.within_1_sd} within 1 sd (expected: about {0.95 * judged.count:.0f} and "
                f"{0.68 * judged.count:.0f}): {judged.verdict}."
            )
    head = (
        f"Study {one_line(data.spec.name)}: of {plural(len(data.trials), 'trial')}, {n_by_model} "
        f"{'was' if n_by_model == 1 else 'were'} suggested by a model and {n_startup} by the "
        "start-up design"
    )
    lower = f"; {n_failed} came from a lower level of the sampler's fallback chain."
    head += lower if n_failed else "."
    if not sentences:
        sentences = ["No prediction can be compared with a result yet."]
    tail = "Why a single trial was tried: studyflow explain STUDY --trial N"
    return {
        "study": data.spec.name,
        "n_trials": len(data.trials),
        "n_by_model": n_by_model,
        "n_startup": n_startup,
        "n_from_lower_rungs": n_failed,
        "objectives": objectives,
        "summary": " ".join([head, *sentences]) + f"\n{tail}",
    }


def trial_document(data: StudyData, record: TrialRecord) -> dict[str, Any]:
    """Return what is known of a trial's suggestion, as JSON values."""
    from studyflow.reports import predictions

    stored = dict(record.suggestion or {})
    level = predictions.level_of(record)
    return {
        "study": data.spec.name,
        "trial": record.number,
        "state": record.state.value,
        "is_paused": record.is_paused,
        "attempts": pauses.attempts_document(record),
        "params": data.params(record),
        "origin": _origin(data, record, level),
        "rung": level,
        "reason": stored.get("reason"),
        "objectives": [_objective(data, record, i) for i in range(len(data.metrics))],
        "acquisition": stored.get("acquisition"),
        "acquisition_value": _finite(stored.get("acquisition_value")),
        "is_repeat": stored.get("is_repeat") is True,
        "is_time_up": stored.get("is_time_up") is True,
        "expected_cost": _finite(stored.get("expected_cost")),
        "cost_power": _finite(stored.get("cost_power")),
        "n_data": stored.get("n_data"),
        "n_pending": stored.get("n_pending"),
        "milliseconds": _finite(stored.get("milliseconds")),
    }


def _origin(data: StudyData, record: TrialRecord, level: str | None) -> str:
    """Return where the parameters come from, in a sentence without its end."""
    sampler = data.spec.sampler.type
    given = "parameters given by hand (`enqueue`)"
    if record.state is TrialState.WAITING:
        return f"{given}; it has not been asked for yet"
    if record.is_taken_over:
        return "copied from another study (`--fork`): nothing was suggested here"
    if record.number in data.enqueued:
        return given if level is None else f"{given}, and the sampler gave those left open"
    if level is not None:
        known = {name.value: words for name, words in _LEVELS.items()}
        return known.get(
            level, f"suggestion of a kind this version does not know: {one_line(level)}"
        )
    if sampler == "botorch":
        return (
            "no explanation is stored: drawn at random, as where no trial before it had these "
            "parameters"
        )
    return f"chosen by Optuna's sampler `{sampler}`, which leaves no explanation"


def _objective(data: StudyData, record: TrialRecord, i: int) -> dict[str, Any]:
    """Return one objective's prediction, truth and hopes."""
    from studyflow.reports import predictions
    from studyflow.samplers.acquisition.improvement import improvement_over

    is_complete = any(record.number == other.number for other in data.complete)
    truth = data.value(record, i) if is_complete else None
    entry = predictions.objective_entry(record, i) or {}
    promise = predictions.predicted(record, i)
    document: dict[str, Any] = {
        "metric": data.metrics[i],
        "direction": data.spec.directions[i],
        "predicted": None if promise is None else promise[0],
        "sd": None if promise is None else promise[1],
        "sd_of_function": _finite(entry.get("predicted_sd")),
        "sd_of_noise": _finite(entry.get("noise_sd")),
        "truth": truth,
        "off_by_sd": None,
        "best_before": None,
        "chance_to_improve": None,
        "expected_improvement": None,
        "warp": entry.get("warp"),
        "lengthscales": predictions.lengthscales(record, i),
    }
    if promise is None:
        return document
    if truth is not None:
        document["off_by_sd"] = (truth - promise[0]) / promise[1]
    best = _best_before(data, record, i)
    document["best_before"] = None if data.is_multi_objective else best
    # A warp bends the scale below the best: there the two numbers would say nothing of the gain.
    if best is not None and not data.is_multi_objective and entry.get("warp") == "none":
        # Of the function itself: the doubt about it without the noise of one measurement.
        hope = improvement_over(
            best,
            mean=promise[0],
            sd=document["sd_of_function"] or promise[1],
            maximize=data.spec.directions[i] == "maximize",
        )
        document["chance_to_improve"] = hope.chance
        document["expected_improvement"] = hope.expected
    return document


def _best_before(data: StudyData, record: TrialRecord, i: int) -> float | None:
    """Return the best feasible value that was known when a trial was asked for."""
    known = [
        data.value(other, i)
        for other in data.complete
        if other.is_feasible and other.number != record.number and _was_known(other, record)
    ]
    if not known:
        return None
    return max(known) if data.spec.directions[i] == "maximize" else min(known)


def _was_known(other: TrialRecord, record: TrialRecord) -> bool:
    if other.finished_at is None or record.started_at is None:
        return other.number < record.number
    return other.finished_at <= record.started_at


def trial_lines(document: dict[str, Any]) -> Iterator[str]:
    """Yield the lines that tell a person what `trial_document` holds."""
    state = "paused" if document["is_paused"] else document["state"]
    yield f"Trial {document['trial']} of {one_line(document['study'])} ({state})"
    shown = ", ".join(f"{one_line(k)}={value(v)}" for k, v in document["params"].items())
    yield _line("parameters", shown or "none yet")
    yield _line("why", f"{document['origin']}.")
    if document["reason"]:
        yield _line("", f"Not a better level because: {one_line(str(document['reason']), 300)}.")
    if document["is_time_up"]:
        yield _line("", "Its time (`sampler.ask_seconds`) was up: the best that was there by then.")
    if document["is_repeat"]:
        yield _line("", "Every point of the space had been tried: this one is measured again.")
    for label, text in pauses.attempt_lines(document["attempts"]):
        yield _line(label, text)
    for objective in document["objectives"]:
        yield from _objective_lines(objective, document["n_data"])
    if document["acquisition"] is not None:
        yield _line("acquisition", _acquisition_text(document))
    if document["expected_cost"] is not None and document["cost_power"] is not None:
        hours = number(document["expected_cost"] / 3600, 2)
        yield _line(
            "cost",
            f"{hours} hours of a GPU or slot expected; the improvement was weighed by 1 / cost^"
            f"{number(document['cost_power'], 2)}: cheap trials first, while budget is left.",
        )
    if document["rung"] is not None:
        yield _line("based on", _basis_text(document))


def _objective_lines(objective: dict[str, Any], n_data: Any) -> Iterator[str]:
    from studyflow.reports.predictions import relevance

    metric = one_line(objective["metric"])
    truth, predicted = objective["truth"], objective["predicted"]
    if predicted is None:
        if truth is not None:
            yield _line("result", f"{metric} {number(truth)}; nothing had been predicted.")
        return
    text = f"{metric} {number(predicted)} ± {number(objective['sd'], 2)} (sd)"
    off = objective["off_by_sd"]
    if off is None:
        text += "; no result to compare with."
    else:
        better = (off > 0) == (objective["direction"] == "maximize")
        word = "as expected" if abs(off) < 0.05 else "better" if better else "worse"
        by = "" if word == "as expected" else f"{abs(off):.1f} sd "
        surprise = ", which the model did not foresee" if abs(off) > 2 else ""
        text += f"; came true: {number(truth)}, {by}{word}{surprise}."
    yield _line("predicted", text)
    if objective["best_before"] is not None:
        hope = f"better than {number(objective['best_before'])}, the best known then"
        if objective["chance_to_improve"] is not None:
            hope += (
                f": a chance of {percent(objective['chance_to_improve'])}, on average "
                f"{number(objective['expected_improvement'], 2)} gained"
            )
        yield _line("hoped for", f"{hope}.")
    if objective["lengthscales"]:
        listed = ", ".join(
            f"{one_line(name)} {relevance(scale)} ({number(scale, 2)})"
            for name, scale in objective["lengthscales"].items()
        )
        few = isinstance(n_data, int) and n_data < 2 * len(objective["lengthscales"])
        doubt = f"; a first guess, from {plural(n_data, 'trial')}" if few else ""
        yield _line("what matters", f"{listed}; lengthscales in units of the range{doubt}.")
    warp = objective["warp"]
    yield _line("transform", f"{_WARPS.get(str(warp), one_line(str(warp)))}.")


def _acquisition_text(document: dict[str, Any]) -> str:
    name, found = one_line(str(document["acquisition"])), document["acquisition_value"]
    if found is None:
        return f"{name}."
    text = f"{name} {number(found)}"
    if name == "log-expected-improvement":
        gain = number(math.exp(min(found, 700.0)), 2)
        text += f": on average a gain of {gain} of the values' spread so far"
    elif name == "log-probability-of-feasibility":
        text += f": nothing feasible is known; a chance of {percent(math.exp(min(found, 0.0)))}"
    return f"{text}."


def _basis_text(document: dict[str, Any]) -> str:
    parts = []
    if isinstance(n_data := document["n_data"], int):
        parts.append(plural(n_data, "finished trial"))
    if isinstance(n_pending := document["n_pending"], int):
        parts.append(f"{n_pending} running")
    if (milliseconds := document["milliseconds"]) is not None:
        parts.append(f"{milliseconds:.0f} ms")
    return f"{', '.join(parts) or 'unknown'}."


def _line(label: str, text: str) -> str:
    return f"  {label:<{_LABEL_WIDTH}}{text}"


def _finite(given: Any) -> float | None:
    """Return a finite number, or `None` for anything else that storage may hold."""
    if isinstance(given, bool) or not isinstance(given, int | float):
        return None
    return float(given) if math.isfinite(given) else None

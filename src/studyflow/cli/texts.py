"""Parameters, values, durations and trials as short texts on one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from studyflow.observers.observer import Progress
from studyflow.reasons import Reason
from studyflow.spec import StudySpec
from studyflow.study import has_its_trials
from studyflow.trial import ParamValue
from studyflow.trial.record import TrialRecord, TrialState

if TYPE_CHECKING:
    from studyflow.tracking.registry import RegisteredModel


def sentences(reason: Reason) -> str:
    """Return a reason and its hint as two sentences, whatever a foreign message ends with."""
    message = reason.message.rstrip()
    if reason.hint and message and message[-1] not in ".!?:":
        message += "."
    return str(replace(reason, message=message))


def value_text(value: ParamValue) -> str:
    """Return a parameter's value, short."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def varied(spec: StudySpec, params: Mapping[str, ParamValue]) -> dict[str, ParamValue]:
    """Return the parameters that the study varies: without fixed ones and single choices."""
    single = {name for name, one in spec.search_space.items() if one.cardinality == 1}
    return {n: v for n, v in params.items() if n not in single and n not in spec.fixed}


def params_text(params: Mapping[str, ParamValue]) -> str:
    """Return parameters on one line."""
    return " ".join(f"{name}={value_text(value)}" for name, value in params.items())


def result_text(spec: StudySpec, record: TrialRecord) -> str:
    """Return what a finished trial ended with, on one line."""
    took = (
        "" if record.duration_seconds is None else f" after {seconds_text(record.duration_seconds)}"
    )
    if record.state is TrialState.COMPLETE:
        infeasible = "" if record.is_feasible else " (breaks a constraint)"
        return f"{values_text(spec, record)}{infeasible}{took}"
    if record.state is TrialState.PRUNED:
        return f"pruned{took}: {record.reason}"
    return f"failed ({record.cause}){took}: {record.reason}"


def values_text(spec: StudySpec, record: TrialRecord) -> str:
    """Return the objectives of a complete trial."""
    values = record.values or ()
    return " ".join(f"{o.metric}={v:.6g}" for o, v in zip(spec.objectives, values, strict=False))


def best_text(spec: StudySpec, best: Sequence[TrialRecord]) -> str:
    """Return the best trial, or how many share the Pareto front."""
    if not best:
        return "none yet"
    if len(spec.objectives) > 1:
        return f"{len(best)} trials on the Pareto front"
    shown = params_text(varied(spec, best[0].params))
    return f"{values_text(spec, best[0])} (trial {best[0].number}: {shown})"


def progress_text(spec: StudySpec, progress: Progress) -> str:
    """Return a study's progress on one line."""
    note = f"; {progress.note}" if progress.note else ""
    n_paused = sum(record.is_paused for record in progress.running)
    paused = f", {n_paused} paused" if n_paused else ""
    ends = f" ({ended_text(progress)})" if ended_text(progress) else ""
    spent = f"{progress.spent}, " if progress.spent else ""
    running = f"{len(progress.running) - n_paused} running{paused}"
    so_far = f"{seconds_text(progress.elapsed_seconds)} so far"
    return (
        f"{counted_text(progress)}{ends}, {running}, {spent}{so_far}, "
        f"{time_left_text(progress)}, best {best_text(spec, progress.best)}{note}"
    )


def ended_text(progress: Progress) -> str:
    """Return how many trials failed or were pruned; empty if none."""
    counts = ((progress.n_failed, "failed"), (progress.n_pruned, "pruned"))
    return ", ".join(f"{n} {how}" for n, how in counts if n)


def counted_text(progress: Progress) -> str:
    """Return how many trials are finished, and of how many where their number is a limit."""
    n = progress.n_finished
    if progress.n_trials is not None:
        return f"{n} of {progress.n_trials} trials"
    return f"{n} trial" if n == 1 else f"{n} trials"


def time_left_text(progress: Progress) -> str:
    """Return the time left if trials finish at the rate so far."""
    if has_its_trials(progress.n_trials, progress.n_finished):
        return "done"
    if progress.remaining_seconds is None:
        return "time left unknown"
    return f"about {seconds_text(progress.remaining_seconds)} left"


def seconds_text(seconds: float) -> str:
    """Return a duration as people say it: `4.2 s`, `3 min 20 s`, `5 h 10 min`."""
    if round(seconds) < 60:
        return f"{seconds:.1f} s" if round(seconds, 1) < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def model_lines(model: RegisteredModel) -> list[str]:
    """Return where a registered model is loaded from, and whether it is what was registered."""
    addresses = [f"models:/{model.name}@{alias}" for alias in model.aliases]
    what = f"{model.artifact} of run {model.run_id}"
    if model.problem is not None:
        state = f"NOT what was registered: {model.problem}"
    elif model.digest is None:
        state = "registered without digests, so nobody can tell whether its files were changed"
    else:
        state = f"its files are as they were registered (sha256 {model.digest[:16]}...)"
    return [f"{', '.join(addresses)}  version {model.version}: {what}", f"  {state}"]

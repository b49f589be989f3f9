"""What a terminal shows of a simulated study: a forecast, or a replay."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from studyflow.cli.texts import seconds_text
from studyflow.reports import StudyData
from studyflow.simulation.forecast import Assumptions, Forecast, Interval
from studyflow.simulation.replay import Replay
from studyflow.simulation.result import Simulation
from studyflow.spec import StudySpec
from studyflow.trial.record import TrialState


@dataclass(frozen=True)
class Forecasts:
    """A study before it runs, at several widths."""

    spec: StudySpec
    left: StudySpec
    """What of it is still to be run."""
    assumed: Assumptions
    made: tuple[Forecast, ...]
    """One for each width."""
    unit: str
    """What is counted: GPU-hours or slot-hours."""
    explained: float | None
    """Share of earlier results that the model of quality explains; `None` without one."""


# ---- a replay ------------------------------------------------------------------------------------


def print_replay(made: Replay, data: StudyData, *, as_json: bool) -> None:
    """Print a study as it was and as it would have been, and what that says and does not say."""
    unit = data.statement.unit
    if as_json:
        click.echo(json.dumps(_replay_json(made, unit), indent=2, ensure_ascii=False))
        return
    metric = made.spec.objectives[0].metric
    table = Table()
    for heading in ("", "as it was", "replayed"):
        table.add_column(heading, justify="right" if heading else "left")
    pair = (made.as_it_was, made.changed)
    has_one = not data.is_multi_objective
    rows: list[tuple[str, list[str]]] = [
        ("pruner", [data.spec.pruner.type, _shown_pruner(made, data)]),
        ("trials at once", [str(one.spec.budget.max_parallel_trials) for one in pair]),
        ("takes", [seconds_text(one.seconds) for one in pair]),
        (unit, [f"{one.unit_seconds / 3600:.4g}" for one in pair]),
        ("trials", [str(len(one.records)) for one in pair]),
        *(
            (f"  {state.value}", [str(one.n_in(state)) for one in pair])
            for state in TrialState
            if any(one.n_in(state) for one in pair)
        ),
    ]
    if has_one:
        rows.append((f"best {metric}", [_best(one) for one in pair]))
    for label, cells in rows:
        table.add_row(escape(label), *map(escape, cells))
    console = Console()
    console.print(table)
    for line in (_saved(made, unit), *_caveats(made, unit)):
        console.print(escape(line), highlight=False, soft_wrap=True)


def _shown_pruner(made: Replay, data: StudyData) -> str:
    name = made.spec.pruner.type
    return name if name != "none" or data.spec.pruner.type == "none" else "as it was"


def _best(one: Simulation) -> str:
    return "none" if one.best is None else f"{one.best_value:.6g} (trial {one.best.number})"


def _saved(made: Replay, unit: str) -> str:
    saved = round(made.saved_unit_seconds, 3)  # sums of the same times differ in the last digit
    share = abs(saved) / made.as_it_was.unit_seconds if made.as_it_was.unit_seconds else 0.0
    verb = "saves" if saved >= 0 else "costs"
    text = f"The change {verb} {abs(saved) / 3600:.4g} {unit} ({share:.0%})"
    seconds = made.as_it_was.seconds - made.changed.seconds
    faster = "sooner" if seconds >= 0 else "later"
    text += f" and ends {seconds_text(abs(seconds))} {faster}"
    lost = made.as_it_was.best_value != made.changed.best_value
    return f"{text}; it misses the best trial." if lost else f"{text}; the best trial stays."


def _caveats(made: Replay, unit: str) -> list[str]:
    told = "The same trials in the same order: what a sampler would have made of other results is "
    lines = [f"{told}not replayed. Reports lie evenly over a trial's time."]
    if made.n_cut:
        lines.append(
            f"{made.n_cut} trials had been stopped early. What would have come is not known, so "
            f"they end there again at the latest ({made.n_cut_again} of them did)."
        )
    if made.n_without_curve:
        lines.append(
            f"{made.n_without_curve} trials reported nothing, so no pruner could stop them."
        )
    if made.n_left_out:
        lines.append(
            f"{made.n_left_out} trials are left out: cancelled, lost, imported, or not ended."
        )
    if made.lost_seconds:
        lines.append(f"{made.lost_seconds / 3600:.4g} {unit} lost with attempts are left out.")
    return lines


def _replay_json(made: Replay, unit: str) -> dict[str, Any]:
    def side(one: Simulation) -> dict[str, Any]:
        return {
            "pruner": one.spec.pruner.type,
            "max_parallel_trials": one.spec.budget.max_parallel_trials,
            "seconds": one.seconds,
            "hours": one.unit_seconds / 3600,
            "n_trials": len(one.records),
            "states": {s.value: one.n_in(s) for s in TrialState if one.n_in(s)},
            "best": None
            if one.best is None
            else {"trial": one.best.number, "value": one.best_value},
            "reason": str(one.outcome.reason.code),
        }

    return {
        "study": made.spec.name,
        "unit": unit,
        "as_it_was": side(made.as_it_was),
        "replayed": side(made.changed),
        "saved_hours": made.saved_unit_seconds / 3600,
        "saved_seconds": made.as_it_was.seconds - made.changed.seconds,
        "n_left_out": made.n_left_out,
        "n_stopped_early": made.n_cut,
        "n_stopped_there_again": made.n_cut_again,
        "n_without_curve": made.n_without_curve,
        "lost_hours": made.lost_seconds / 3600,
    }


# ---- a forecast ----------------------------------------------------------------------------------


def print_forecasts(shown: Forecasts, *, as_json: bool) -> None:
    """Print how long a study takes and what it costs at each width, and what that rests on."""
    if as_json:
        click.echo(json.dumps(_forecast_json(shown), indent=2, ensure_ascii=False))
        return
    console = Console()
    console.print(_forecast_table(shown))
    for line in _notes(shown):
        console.print(escape(line), highlight=False, soft_wrap=True)


def _forecast_table(shown: Forecasts) -> Table:
    table = Table()
    spec, made = shown.spec, shown.made
    for heading in ("at once", "takes", shown.unit, "trials"):
        table.add_column(heading, justify="right")
    has_quality = any(one.best_value is not None for one in made)
    if has_quality:
        table.add_column(escape(f"best {spec.objectives[0].metric}"), justify="right")
    for one in made:
        cells = [
            str(one.parallel),
            _span(one.seconds, seconds_text),
            _span(one.unit_hours, lambda hours: f"{hours:.4g}"),
            _span(one.n_trials, lambda n: f"{n:.0f}"),
        ]
        if has_quality:
            cells.append("" if one.best_value is None else _span(one.best_value, _six))
        table.add_row(*map(escape, cells))
    return table


def _six(value: float) -> str:
    return f"{value:.6g}"


def _span(interval: Interval, show: Callable[[float], str]) -> str:
    numbers = (interval.median, interval.low, interval.high)
    middle, low, high = (show(number) for number in numbers)
    return middle if low == high else f"{middle}\n{low} to {high}"


def _notes(shown: Forecasts) -> list[str]:
    spec, assumed, made = shown.spec, shown.assumed, shown.made
    left, explained, n = shown.left, shown.explained, made[0].n_repetitions
    told = f"Medians of {n} repetitions, and what 90 % of them lie between"
    lines = [
        f"{told}; {_still_to_run(left)}.",
        f"How long a trial takes: {assumed.source}.",
    ]
    if assumed.is_bound:
        lines.append("So these are bounds. Give --trial-seconds for an estimate.")
    lines.append(
        f"A pod starts in {assumed.pod_seconds:.3g} s, and its training "
        f"{assumed.startup_seconds:.3g} s later. An hour of a running attempt loses "
        f"{assumed.losses_per_hour:.3g}."
    )
    lost = max(one.lost_hours.median for one in made)
    if lost > 0:
        lines.append(f"{lost:.3g} hours of these are lost with attempts.")
    if explained is None:
        lines.append(
            "Quality is not known, and parameters are drawn at random. Name a study of the same "
            "space for it: --like STUDY."
        )
    else:
        lines.append(
            f"Quality is by a model of earlier results that explains {explained:.0%} of them when "
            "they are left out: a rough guide."
        )
    if spec.pruner.type != "none":
        lines.append(f"No curves are known before a study: {spec.pruner.type} stops nothing here.")
    codes = sorted({code for one in made for code in one.endings})
    if codes:
        lines.append(f"Some repetitions end before all trials have: {', '.join(codes)}.")
    return lines


def _still_to_run(left: StudySpec) -> str:
    if left.budget.n_trials is None:
        return "as many trials are run as the limits allow"
    return f"{left.budget.n_trials} trials are still to be run"


def _forecast_json(shown: Forecasts) -> dict[str, Any]:
    assumed = shown.assumed

    def interval(found: Interval | None) -> dict[str, float] | None:
        if found is None:
            return None
        return {"median": found.median, "low": found.low, "high": found.high}

    return {
        "study": shown.spec.name,
        "unit": shown.unit,
        "n_trials": shown.left.budget.n_trials,
        "trial_seconds": assumed.durations.typical_seconds,
        "spread": assumed.durations.spread,
        "source": assumed.source,
        "is_bound": assumed.is_bound,
        "pod_seconds": assumed.pod_seconds,
        "startup_seconds": assumed.startup_seconds,
        "losses_per_hour": assumed.losses_per_hour,
        "model_explains": shown.explained,
        "widths": [
            {
                "max_parallel_trials": one.parallel,
                "seconds": interval(one.seconds),
                "hours": interval(one.unit_hours),
                "lost_hours": interval(one.lost_hours),
                "n_trials": interval(one.n_trials),
                "best_value": interval(one.best_value),
                "n_repetitions": one.n_repetitions,
                "endings": list(one.endings),
            }
            for one in shown.made
        ],
    }

"""`studyflow compare`: two studies side by side."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from studyflow.cli.options import json_option, settings_options
from studyflow.cli.studies import load_study
from studyflow.cli.texts import seconds_text, value_text
from studyflow.errors import StudyMismatch
from studyflow.reports import StudyData
from studyflow.reports.chart import as_file
from studyflow.reports.equal_budgets import (
    Judgement,
    Measure,
    draw_equal_budgets,
    judge_equal_budgets,
)
from studyflow.settings import Settings
from studyflow.spec import describe_differences
from studyflow.trial import ParamValue
from studyflow.trial.record import TrialRecord


@dataclass(frozen=True)
class Side:
    """What a comparison says of one study."""

    name: str
    sampler: str
    best: TrialRecord | None
    """The best feasible trial of its own, taken-over ones left out; `None` without any."""
    trials_to_target: int | None
    """Finished trials until one was as good as the first study's best; `None` for never."""
    n_finished: int
    """Finished trials of its own."""
    states: Mapping[str, int]
    """How many of its own trials are in each state that occurs."""
    n_taken_over: int
    """Trials that it took over from another study."""
    trial_seconds: float
    """Time of all finished trials together."""
    wall_seconds: float | None
    """From the start of the first trial to the end of the last one; `None` without any."""

    @property
    def best_value(self) -> float | None:
        """Objective of the best trial."""
        return None if self.best is None else _value(self.best)


@dataclass(frozen=True)
class PairComparison:
    """Two studies of one question."""

    metric: str
    direction: str
    a: Side
    b: Side
    params: Mapping[str, tuple[ParamValue, ParamValue]]
    """Parameters whose values in the two best trials differ; `None` too where one has none."""
    space: tuple[str, ...]
    """Differences of the search spaces, a line each."""
    judgements: tuple[Judgement, ...] = ()
    """Who is better at equal trials, time and hours."""
    unit: str = "GPU-hours"
    """What the hours are of."""

    @property
    def winner(self) -> str | None:
        """Name of the study with the better best value; `None` for a tie or without values."""
        a, b = self.a.best_value, self.b.best_value
        if a is None or b is None or a == b:
            return None
        return self.a.name if (a < b) == (self.direction == "minimize") else self.b.name


@click.command()
@click.argument("a")
@click.argument("b")
@click.option(
    "--picture",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write an SVG picture of both searches, by trials, time and GPU-hours.",
)
@json_option
@settings_options()
def compare(
    a: str,
    b: str,
    picture: Path | None,
    as_json: bool,
    settings: Settings,
) -> None:
    """Show two studies (files or names) of one metric side by side.

    How good their best trials are, how many trials each needed for the first one's best, time,
    states, and which parameters of the two best configurations differ; and which is better where
    both have used as many trials, as much time and as many GPU-hours. Trials that were taken over
    from another study count for neither.
    """
    one, other = load_study(a, settings), load_study(b, settings)
    found = compare_studies(one, other)
    if picture is not None:
        drawn = as_file(draw_equal_budgets(one, other))
        picture.write_text(drawn, encoding="utf-8", newline="")
    if as_json:
        click.echo(json.dumps(_as_json(found), indent=2, ensure_ascii=False))
        return
    console = Console()
    console.print(_table(found))
    if found.winner is not None:
        console.print(
            f"[bold green]Better at their ends:[/] {escape(found.winner)}", highlight=False
        )
    for judged in found.judgements:
        console.print(escape(judgement_text(found, judged)), highlight=False, soft_wrap=True)
    if picture is not None:
        console.print(escape(f"  picture  {picture}"), highlight=False, soft_wrap=True)
    for line in found.space:
        console.print(escape(f"  differs: {line}"), highlight=False, soft_wrap=True)


def judgement_text(found: PairComparison, judged: Judgement) -> str:
    """Return in one line who is better at an equal budget."""
    budget = {
        Measure.TRIALS: f"{judged.at:g} trials",
        Measure.SECONDS: seconds_text(judged.at),
        Measure.HOURS: f"{judged.at:.3g} {found.unit}",
    }[judged.measure]
    values = ["none yet" if v is None else f"{v:.6g}" for v in (judged.a, judged.b)]
    winner = judged.winner or "neither"
    return f"  after {budget} each: {winner} is better ({' against '.join(values)})"


def compare_studies(a: StudyData, b: StudyData) -> PairComparison:
    """Return what can be said of two studies with the same objective.

    Raises:
        StudyMismatch: Their objectives differ, or they have several.
    """
    differences = describe_differences(
        {"objectives": a.spec.identity()["objectives"]},
        {"objectives": b.spec.identity()["objectives"]},
    )
    if differences:
        raise StudyMismatch(
            f"{a.spec.name!r} and {b.spec.name!r} cannot be compared: they answer different "
            "questions.",
            differences=differences,
            hint="compare studies with the same metric and direction.",
        )
    if a.is_multi_objective:
        raise StudyMismatch(
            f"{a.spec.name!r} and {b.spec.name!r} have {len(a.metrics)} objectives, and no single "
            "best value that could be compared.",
            hint="their reports show the Pareto fronts.",
        )
    best_of_a = _best(a)
    target = None if best_of_a is None else _value(best_of_a)
    left, right = _side(a, target), _side(b, target)
    return PairComparison(
        metric=a.metrics[0],
        direction=a.spec.directions[0],
        a=left,
        b=right,
        params=_differing_params(left.best, right.best),
        space=describe_differences(
            {"search_space": a.spec.identity()["search_space"]},
            {"search_space": b.spec.identity()["search_space"]},
        ),
        judgements=judge_equal_budgets(a, b),
        unit=a.statement.unit,
    )


def _side(data: StudyData, target: float | None) -> Side:
    own = data.counted
    starts = [r.started_at for r in own if r.started_at is not None]
    ends = [r.finished_at for r in own if r.finished_at is not None]
    return Side(
        name=data.spec.name,
        sampler=data.spec.sampler.type,
        best=_best(data),
        trials_to_target=None if target is None else _trials_to(data, target),
        n_finished=len(own),
        states=Counter(record.state.value for record in data.trials if not record.is_taken_over),
        n_taken_over=sum(record.is_taken_over for record in data.records),
        trial_seconds=sum(record.duration_seconds or 0.0 for record in own),
        wall_seconds=max(max(ends) - min(starts), 0.0) if starts and ends else None,
    )


def _best(data: StudyData) -> TrialRecord | None:
    sign = _sign(data)
    return min(
        (record for record in data.counted if record.is_feasible and record.values is not None),
        key=lambda record: (sign * _value(record), record.number),
        default=None,
    )


def _trials_to(data: StudyData, target: float) -> int | None:
    """Return how many trials had ended when one was as good as the target."""
    sign = _sign(data)
    for count, record in enumerate(data.counted, start=1):
        if record.is_feasible and sign * _value(record) <= sign * target:
            return count
    return None


def _differing_params(
    a: TrialRecord | None, b: TrialRecord | None
) -> dict[str, tuple[ParamValue, ParamValue]]:
    if a is None or b is None:
        return {}
    names = dict.fromkeys((*a.params, *b.params))
    pairs = {name: (a.params.get(name), b.params.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _sign(data: StudyData) -> float:
    return 1.0 if data.spec.directions[0] == "minimize" else -1.0


def _value(record: TrialRecord) -> float:
    assert record.values is not None, "a feasible trial has values"
    return record.values[0]


def _table(found: PairComparison) -> Table:
    a, b = found.a, found.b
    table = Table()
    for heading in ("", a.name, b.name):
        table.add_column(escape(heading), justify="left" if not heading else "right")
    for label, left, right in (
        ("sampler", a.sampler, b.sampler),
        (f"best {found.metric} ({found.direction})", _best_text(a), _best_text(b)),
        (
            f"trials to {a.name}'s best",
            _count_text(a.trials_to_target),
            _count_text(b.trials_to_target),
        ),
        ("finished trials", str(a.n_finished), str(b.n_finished)),
        *(
            (f"  {state}", str(a.states.get(state, 0)), str(b.states.get(state, 0)))
            for state in dict.fromkeys((*a.states, *b.states))
        ),
        *(
            [("  taken over beside them", str(a.n_taken_over), str(b.n_taken_over))]
            if a.n_taken_over or b.n_taken_over
            else []
        ),
        ("time of all trials", seconds_text(a.trial_seconds), seconds_text(b.trial_seconds)),
        ("first start to last end", _seconds_text(a), _seconds_text(b)),
    ):
        table.add_row(escape(label), left, right)
    if found.params:
        table.add_section()
        table.caption = "below the line: what differs between the two best configurations"
    for name, (of_a, of_b) in found.params.items():
        table.add_row(escape(name), escape(_param_text(of_a)), escape(_param_text(of_b)))
    return table


def _best_text(side: Side) -> str:
    if side.best is None:
        return "none yet"
    return f"{side.best_value:.6g} (trial {side.best.number})"


def _count_text(count: int | None) -> str:
    return "not reached" if count is None else str(count)


def _seconds_text(side: Side) -> str:
    return "" if side.wall_seconds is None else seconds_text(side.wall_seconds)


def _param_text(value: ParamValue) -> str:
    return "" if value is None else value_text(value)


def _as_json(found: PairComparison) -> dict[str, Any]:
    def side(of: Side) -> dict[str, Any]:
        return {
            "study": of.name,
            "sampler": of.sampler,
            "best": None
            if of.best is None
            else {
                "trial": of.best.number,
                "value": of.best_value,
                "params": dict(of.best.params),
            },
            "trials_to_target": of.trials_to_target,
            "n_finished": of.n_finished,
            "states": dict(of.states),
            "n_taken_over": of.n_taken_over,
            "trial_seconds": of.trial_seconds,
            "wall_seconds": of.wall_seconds,
        }

    return {
        "metric": found.metric,
        "direction": found.direction,
        "target": found.a.best_value,
        "better": found.winner,
        "a": side(found.a),
        "b": side(found.b),
        "params": {name: list(pair) for name, pair in found.params.items()},
        "search_space": list(found.space),
        "at_equal": {
            judged.measure.value: {
                "at": judged.at,
                "unit": found.unit if judged.measure is Measure.HOURS else judged.measure.value,
                "a": judged.a,
                "b": judged.b,
                "better": judged.winner,
            }
            for judged in found.judgements
        },
    }

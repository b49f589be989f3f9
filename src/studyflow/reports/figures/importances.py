"""How much each parameter explains of the objective.

The bars are Optuna's fANOVA. Its own figure shows them alone; this one sets the main effects of a
Gaussian process beside them, and says how well that process predicts: a bar means nothing where
nothing can be predicted.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from studyflow.reports import chart, surrogate, svg, wording
from studyflow.reports.chart import Drawing, Key, Panel
from studyflow.reports.data import Omitted, StudyData
from studyflow.reports.objective_scale import ObjectiveScale
from studyflow.reports.svg import Canvas
from studyflow.spec.parameters import CategoricalParameter

if TYPE_CHECKING:
    import optuna

SERIES: Final = ("complete", "pruned", "target", "enqueued", "running", "best")
"""Classes of several objectives, in order."""

MIN_TRIALS: Final = 8
"""Complete trials below which an importance would be noise."""
MAX_TRIALS: Final = 400
"""Trials that are looked at; of more, evenly spaced ones, so that the page stays quick."""
MAX_BARS: Final = 20
TRIALS_FOR_EACH: Final = 10
"""Complete trials for each parameter from which importances are told without a second opinion;
with fewer, and with one that agrees, only a parameter that explains half or more is named."""
TRUSTED: Final = 0.3
"""Share of variance that the Gaussian process must explain to be asked for a second opinion."""


def importances(data: StudyData) -> Drawing | Omitted:
    """Return the parameters' importances as bars, by the evaluator of Optuna that is named."""
    found = [parameter_importances(data, i) for i in range(len(data.metrics))]
    first = found[0]
    if isinstance(first, Omitted):
        return first
    effects = _second_opinion(data)
    shares = [each if not isinstance(each, Omitted) else {} for each in found]
    wide, narrow = chart.wide_and_narrow(lambda width: _panel(data, shares, effects, width))
    listed = ", ".join(f"{n} {wording.percent(s)}" for n, s in list(first.items())[:5])
    return Drawing(
        title=_title(data, first, effects),
        note=_note(data, first, effects),
        alt=f"Bars of parameter importances by {evaluator_name(data)}: {listed}.",
        panels=wide,
        narrow=narrow,
        keys=_keys(data, has_second=bool(effects)),
    )


def _note(data: StudyData, shares: dict[str, float], effects: dict[str, float]) -> str:
    name = evaluator_name(data)
    note = f"bars: {name} (Optuna) · {wording.plural(len(data.complete), 'complete trial')}"
    if (cut := len(shares) - MAX_BARS) > 0:
        note += f" · the {wording.plural(cut, 'least important parameter')} not shown"
    if effects:
        model, _ = surrogate.fitted(data, 0)
        leaders = [max(each, key=each.__getitem__) for each in (shares, effects)]
        if leaders[0] != leaders[1]:
            other = f"the Gaussian process {leaders[1]}"
            note += f"\nthey disagree: {name} puts {leaders[0]} first, {other}"
        note += (
            "\ndiamonds: main effects of a Gaussian process, which explains "
            f"{wording.percent(model.explained)} of the variance of trials left out; the words "
            "beside a bar say where it expects the better values"
        )
    return note


def _keys(data: StudyData, *, has_second: bool) -> tuple[Key, ...]:
    names = evaluator_name(data)
    keys = [
        Key(metric if data.is_multi_objective else names, "band", SERIES[i % len(SERIES)])
        for i, metric in enumerate(data.metrics)
    ]
    return (*keys, Key("Gaussian process", "diamond", "best")) if has_second else tuple(keys)


def _panel(
    data: StudyData, shares: Sequence[dict[str, float]], effects: dict[str, float], width: float
) -> Panel:
    bars = list(shares[0])[:MAX_BARS]
    words = [direction_of(data, bar) if effects else "" for bar in bars]
    count = len(shares)
    row = 24.0 if count == 1 else 12.0 * count + 12.0
    canvas = Canvas(width, row * len(bars) + 14)
    left = min(max(svg.width_of(bar) for bar in bars) + 12, width * 0.34)
    remark = max((svg.width_of(text) for text in words), default=0.0) if width > 500 else 0.0
    room = width - left - remark - 54
    widest = max(0.01, *(v for each in shares for v in each.values()), *effects.values())
    for i, (bar, text) in enumerate(zip(bars, words, strict=True)):
        top = 6 + i * row
        middle = top + row / 2 - 2
        canvas.text(left - 8, middle + 4, svg.cut(bar, left - 10), "tick", "end")
        end = left
        for j, each in enumerate(shares):
            value = each.get(bar, 0.0)
            height = (row - 8) / count
            length = max(room * value / widest, 1.0)
            cls = SERIES[j % len(SERIES)]
            canvas.add(
                "rect", cls=cls, x=left, y=top + j * height, width=length, height=height - 1, rx=2
            )
            if count == 1:
                end = left + length
        place = left + room * effects.get(bar, 0.0) / widest
        if effects:
            canvas.mark("diamond", place, middle, 5, "best")
            end = max(end, place + 6) if place - end > -6 and place - end < 40 else end
        if count == 1:
            canvas.text(end + 5, middle + 4, wording.percent(shares[0].get(bar, 0.0)), "tick")
        if remark:
            canvas.text(width - 2, middle + 4, text, "quiet", "end")
    listed = ", ".join(f"{n} {wording.percent(s)}" for n, s in list(shares[0].items())[:5])
    return Panel(canvas, f"Importance of each parameter: {listed}.")


def direction_of(data: StudyData, name: str, objective: int = 0) -> str:
    """Return where a parameter's better values lie, such as `lower is better`, by the model."""
    model, _ = surrogate.fitted(data, objective)
    parameter = data.space[name]
    units = surrogate.grid(parameter)
    curve = model.dependence([list(data.space).index(name)], [units])
    if data.spec.directions[objective] == "maximize":
        curve = -curve
    best = int(curve.argmin())
    if isinstance(parameter, CategoricalParameter):
        return f"best: {wording.one_line(wording.value(parameter.choices[best]), 24)}"
    if best in (0, len(units) - 1):
        is_steady = float(curve.max()) == float(curve[-1 if best == 0 else 0])
        word = "lower" if best == 0 else "higher"
        return f"{word} is better" if is_steady else f"best at the {word} end"
    return f"best near {rough(float(parameter.from_unit(float(units[best]))))}"


def rough(position: float) -> str:
    """Return a number to two digits; whole numbers stay whole."""
    return str(round(position)) if 100 <= abs(position) < 1e7 else wording.number(position, 2)


def evaluator_name(data: StudyData) -> str:
    """Return the name of Optuna's evaluator that fits the space.

    fANOVA explains the whole range; only PED-ANOVA knows conditional parameters.
    """
    return "PED-ANOVA" if any(p.conditions for p in data.space.values()) else "fANOVA"


def parameter_importances(data: StudyData, objective: int = 0) -> dict[str, float] | Omitted:
    """Return each parameter's share of the objective's variation, the largest first.

    The shares add up to 1. Parameters with one value only are left out.
    """
    key = f"importances {objective}"
    if key not in data.memo:
        data.memo[key] = _compute(data, objective)
    found: dict[str, float] | Omitted = data.memo[key]
    return found


def _compute(data: StudyData, objective: int) -> dict[str, float] | Omitted:
    if len(data.complete) < MIN_TRIALS:
        return Omitted(
            f"importances need {MIN_TRIALS} complete trials; there "
            f"{'is' if len(data.complete) == 1 else 'are'} {len(data.complete)}"
        )
    values = [record.values[objective] for record in data.complete if record.values is not None]
    if min(values) == max(values):
        return Omitted("all trials returned the same value, so no parameter explains anything")
    from optuna.importance import (
        BaseImportanceEvaluator,
        FanovaImportanceEvaluator,
        PedAnovaImportanceEvaluator,
        get_param_importances,
    )

    study = _study(data, objective)
    seen: dict[str, set[Any]] = {}
    for trial in study.get_trials(deepcopy=False):
        for name, position in trial.params.items():
            seen.setdefault(name, set()).add(position)
    varied = [n for n, p in data.space.items() if p.cardinality != 1 and n in seen]
    if not varied:
        return Omitted("no parameter has more than one value")
    if all(len(seen[name]) == 1 for name in varied):
        return Omitted("all trials have the same parameters, as far as floats tell them apart")
    if len({round(trial.value or 0.0, 9) for trial in study.get_trials(deepcopy=False)}) == 1:
        return Omitted("all trials returned nearly the same value, so nothing explains anything")
    evaluator: BaseImportanceEvaluator
    if evaluator_name(data) == "fANOVA":
        evaluator = FanovaImportanceEvaluator(n_trees=24, max_depth=32, seed=0)
    else:
        evaluator = PedAnovaImportanceEvaluator()
    try:
        shares = get_param_importances(study, evaluator=evaluator, params=varied)
    except RuntimeError as error:  # "zero total variance in all trees"
        return Omitted(f"no parameter explains anything of the values ({error})")
    found = {name: float(share) for name, share in shares.items()}
    return dict(sorted(found.items(), key=lambda item: (-item[1], varied.index(item[0]))))


def ranked_parameters(data: StudyData, objective: int = 0) -> tuple[str, ...]:
    """Return the parameters, the most important first where that is known.

    Where a Gaussian process predicts well its opinion counts: with few trials it finds smooth
    effects that trees miss.
    """
    found = parameter_importances(data, objective)
    if isinstance(found, Omitted):
        return tuple(data.space)
    model, _ = surrogate.fitted(data, objective)
    effects = surrogate.main_effects(data, objective) if model.explained >= TRUSTED else {}
    ranked = sorted(found, key=lambda name: -max(effects.get(name, 0.0), 0.3 * found[name]))
    return (*ranked, *(name for name in data.space if name not in ranked))


def _second_opinion(data: StudyData) -> dict[str, float]:
    """Return the main effects of the Gaussian process where it can be trusted, else nothing."""
    if data.is_multi_objective:
        return {}
    model, _ = surrogate.fitted(data, 0)
    return surrogate.main_effects(data, 0) if model.explained >= TRUSTED else {}


def _title(data: StudyData, shares: dict[str, float], effects: dict[str, float]) -> str:
    names = list(shares)
    if len(names) == 1:
        return f"{names[0]} is the only parameter"
    count = len(data.complete)
    are_many = count >= TRIALS_FOR_EACH * len(names)
    agree = max(effects, key=effects.__getitem__) == names[0] if effects else are_many
    if not agree or not (are_many or shares[names[0]] >= 0.5):
        return f"{wording.plural(count, 'trial')} do not tell which parameter matters most"
    total, leaders = 0.0, []
    for name in names[:3]:
        leaders.append(name)
        total += shares[name]
        if total >= 0.6:
            break
    listed = leaders[0] if len(leaders) == 1 else f"{', '.join(leaders[:-1])} and {leaders[-1]}"
    verb = "explains" if len(leaders) == 1 else "explain"
    of = f" of {data.metrics[0]}" if len(data.metrics) > 1 else ""
    return f"{listed} {verb} {100 * total:.0f} % of the variation{of} ({evaluator_name(data)})"


def _study(data: StudyData, objective: int) -> optuna.Study:
    """Return the complete trials as a study in memory with one objective.

    Numbers are positions in [0, 1], on the axes that the figures draw: fANOVA's forest computes
    with 32 bits, in which a wide range has no end and a narrow one no inside.
    """
    import optuna

    logger = logging.getLogger("optuna.storages._in_memory")
    here = threading.get_ident()

    def drop(record: logging.LogRecord) -> bool:
        """Keep `A new study created` off the terminal."""
        return record.thread != here

    logger.addFilter(drop)
    try:
        study = optuna.create_study(direction=data.spec.directions[objective])
    finally:
        logger.removeFilter(drop)
    distributions = {
        name: parameter.distribution()
        if isinstance(parameter, CategoricalParameter)
        else optuna.distributions.FloatDistribution(0.0, 1.0)
        for name, parameter in data.space.items()
    }
    observed = [data.value(record, objective) for record in data.complete]
    scale = ObjectiveScale(observed, data.spec.directions[objective])
    records = data.complete
    stride = -(-len(records) // MAX_TRIALS)
    moment = datetime.fromtimestamp(0, UTC).replace(tzinfo=None)
    trials = []
    for record in records[::stride]:
        params = {
            name: value
            if isinstance(data.space[name], CategoricalParameter)
            else min(max(data.space[name].to_unit(value), 0.0), 1.0)
            for name, value in data.searched(record).items()
        }
        trial = optuna.trial.create_trial(
            params=params,
            distributions={name: distributions[name] for name in params},
            value=scale.unit(data.value(record, objective)),
        )
        trial.datetime_start = trial.datetime_complete = moment
        trials.append(trial)
    study.add_trials(trials)
    return study

"""How much each parameter explains of the objective.

The bars are Optuna's fANOVA. Its own figure shows them alone; this one sets the main effects of a
Gaussian process beside them, and says how well that process predicts: a bar means nothing where
nothing can be predicted.
"""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from studyflow.reports import style, surrogate, wording
from studyflow.reports.data import Omitted, StudyData
from studyflow.reports.objective_scale import ObjectiveScale
from studyflow.spec.parameters import CategoricalParameter

if TYPE_CHECKING:
    import optuna
    from matplotlib.figure import Figure

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


def importances(data: StudyData) -> Figure | Omitted:
    """Return the parameters' importances as bars, by the evaluator of Optuna that is named."""
    found = [parameter_importances(data, i) for i in range(len(data.metrics))]
    first = found[0]
    if isinstance(first, Omitted):
        return first
    name = evaluator_name(data)
    bars = list(first)[:MAX_BARS]
    count = len(found)
    figure = style.new_figure(9.0, 1.3 + max(len(bars) * (0.34 + 0.1 * (count - 1)), 0.9))
    axes = figure.subplots()
    style.dress(axes, grid="x")
    effects = _second_opinion(data)
    widest = max(*first.values(), *effects.values(), 0.01)

    def beside(value: float, bar: str) -> float:
        """Return where a bar's label begins: at its end, or after a diamond that lies there."""
        mark = effects.get(bar, -1.0)
        return mark + 0.01 * widest if -0.02 < (mark - value) / widest < 0.09 else value

    height = 0.72 / count
    top = 0.0
    for i, shares in enumerate(found):
        if isinstance(shares, Omitted):
            continue
        values = [shares.get(bar, 0.0) for bar in bars]
        positions = [row + (i - (count - 1) / 2) * height for row in range(len(bars))]
        axes.barh(
            positions,
            values,
            height=height * 0.92,
            color=style.SERIES[i % len(style.SERIES)],
            label=style.label(data.metrics[i]),
        )
        for position, value, bar in zip(positions, values, bars, strict=True):
            axes.annotate(
                f"{100 * value:.0f} %",
                (beside(value, bar), position),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                size=style.NOTE_SIZE,
                color=style.INK,
            )
        top = max(top, *values)
    if effects:
        shown = [effects.get(bar, 0.0) for bar in bars]
        top = max(top, *shown)
        axes.scatter(
            shown,
            range(len(bars)),
            marker="D",
            s=46,
            color=style.PRUNED,
            edgecolor=style.INK,
            linewidth=0.8,
            zorder=3,
        )
    axes.set_yticks(range(len(bars)), [style.label(bar) for bar in bars])
    axes.invert_yaxis()
    axes.set_xlim(0, min(max(top * 1.12, 0.1), 1.1))
    axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
    if count > 1:
        style.legend(axes, loc="lower right")
    cut = len(first) - len(bars)
    note = f"bars: {name} (Optuna) · {wording.plural(len(data.complete), 'complete trial')}"
    if cut > 0:
        note += f" · the {wording.plural(cut, 'least important parameter')} not shown"
    if effects:
        model, _ = surrogate.fitted(data, 0)
        leaders = [max(shares, key=shares.__getitem__) for shares in (first, effects)]
        if leaders[0] != leaders[1]:
            note += (
                f"\nthey disagree: {name} puts {style.label(leaders[0])} first, the Gaussian "
                f"process {style.label(leaders[1])}"
            )
        note += (
            "\ndiamonds: main effects of a Gaussian process, which explains "
            f"{100 * model.explained:.0f} % of the variance of trials left out"
        )
    style.set_title(figure, _title(data, first, effects), note)
    listed = ", ".join(f"{n} {100 * s:.0f} %" for n, s in list(first.items())[:5])
    style.describe(figure, f"Bars of parameter importances by {name}: {listed}.")
    return figure


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
        return f"{style.label(names[0])} is the only parameter"
    count = len(data.complete)
    are_many = count >= TRIALS_FOR_EACH * len(names)
    agree = max(effects, key=effects.__getitem__) == names[0] if effects else are_many
    if not agree or not (are_many or shares[names[0]] >= 0.5):
        return f"{wording.plural(count, 'trial')} do not tell which parameter matters most"
    total, leaders = 0.0, []
    for name in names[:3]:
        leaders.append(style.label(name))
        total += shares[name]
        if total >= 0.6:
            break
    listed = leaders[0] if len(leaders) == 1 else f"{', '.join(leaders[:-1])} and {leaders[-1]}"
    verb = "explains" if len(leaders) == 1 else "explain"
    of = f" of {style.label(data.metrics[0])}" if len(data.metrics) > 1 else ""
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

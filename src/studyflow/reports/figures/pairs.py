"""Two parameters at a time: what the model expects, and where the trials lie.

Optuna's `plot_contour` and `plot_rank` draw every pair twice, and empty panels for parameters that
never meet. Here one pair is shown at a time, chosen by the reader; those that never meet are none.
"""

from __future__ import annotations

import itertools
from typing import Final

import numpy as np

from studyflow.reports import chart, surrogate, wording
from studyflow.reports.axis import ParameterAxis
from studyflow.reports.chart import Drawing, Frame, Key, Panel
from studyflow.reports.data import Omitted, StudyData
from studyflow.reports.figures.branches import branch, can_meet
from studyflow.reports.figures.importances import ranked_parameters
from studyflow.reports.figures.partial_dependence import no_model
from studyflow.reports.maps import draw_map, map_units
from studyflow.reports.svg import Canvas
from studyflow.spec.parameters import CategoricalParameter
from studyflow.spec.values import same_scalar
from studyflow.trial.record import TrialState

MAX_PARAMETERS: Final = 8
"""Most parameters that can be chosen: 28 pairs."""
MARKS: Final = 200
"""Trials of a pair beyond which none can be pointed at: there are up to 28 pictures of them."""
CELLS: Final = 21
"""Points along a numeric parameter at which the model is asked."""
_WIDTH: Final = 420.0


def pairs(data: StudyData) -> Drawing | Omitted:
    """Return one panel for each pair of parameters that can meet, the most telling pair first."""
    tried = [r for r in data.trials if r.state is not TrialState.WAITING and data.searched(r)]
    if not tried:
        return Omitted("no trial has been started yet")
    names = [n for n in ranked_parameters(data) if data.space[n].cardinality != 1]
    chosen = names[:MAX_PARAMETERS]
    order = list(data.space)
    found = [
        sorted(pair, key=order.index)
        for pair in itertools.combinations(chosen, 2)
        if can_meet(data, *pair)
    ]
    if not found:
        return Omitted("there are no two parameters that vary together")
    has_model = no_model(data) is None
    keys = [Key("trial", "dot", "on-map"), Key("best", "star", "best")]
    if data.states.get(TrialState.FAILED):
        keys.append(Key("failed", "cross", "failed"))
    if has_model:
        keys += [Key("worse", "band", "v1"), Key("better", "band", "v8")]
    note = f"a Gaussian process's expectation of {data.metrics[0]} as colour" if has_model else ""
    if len(chosen) < len(names):
        note += f"{' · ' if note else ''}{len(chosen)} of {len(names)} parameters"
    return Drawing(
        title=f"Where {wording.plural(len(tried), 'trial')} looked, two parameters at a time",
        note=note,
        alt=f"Trials by two of {', '.join(chosen)} at a time.",
        panels=tuple(_panel(data, x, y, has_model=has_model) for x, y in found),
        keys=tuple(keys),
        is_choice=True,
    )


def _panel(data: StudyData, across: str, up: str, *, has_model: bool) -> Panel:
    x, y = ParameterAxis(across, data.space[across], 5), ParameterAxis(up, data.space[up], 6)
    canvas = Canvas(_WIDTH, 340)
    frame = Frame(canvas, x.axis, y.axis, grid="none" if has_model else "both")
    if has_model:
        _draw_map(data, frame, (x, y), (across, up))
    known = {r.number: data.searched(r) for r in data.trials if r.state is not TrialState.WAITING}
    both = {n: p for n, p in known.items() if across in p and up in p}
    places = {
        n: (frame.across(x.share(p[across])), frame.up(y.share(p[up]))) for n, p in both.items()
    }
    failed = {r.number for r in data.trials if r.state is TrialState.FAILED}
    size = chart.radius(len(places)) * 0.85
    if len(places) > MARKS:
        canvas.dots((at for n, at in places.items() if n not in failed), size, "ink")
    else:
        for n, (left, top) in places.items():
            if n in failed:
                canvas.mark("cross", left, top, size, "failed", n)
            elif n not in data.best_numbers:
                canvas.mark("dot", left, top, size, "on-map", n)
    for n in data.best_numbers & places.keys():
        canvas.mark("star", *places[n], size + 3, "best on-best", n)
    where = " and ".join(dict.fromkeys(part for n in (across, up) if (part := branch(data, n))))
    name = f"{across} and {up}" + (f" ({where})" if where else "")
    best = ", ".join(
        f"{wording.value(both[n][across])} and {wording.value(both[n][up])}"
        for n in sorted(data.best_numbers & both.keys())[:3]
    )
    told = f"; the best at {best}" if best else ""
    return Panel(canvas, f"{len(places)} trials by {across} and {up}{told}.", name=name)


def _draw_map(
    data: StudyData,
    frame: Frame,
    axes: tuple[ParameterAxis, ParameterAxis],
    names: tuple[str, str],
) -> None:
    """Colour the frame by what the process expects, relative to all that it expects there."""
    model, _ = surrogate.fitted(data, 0)
    columns = [list(data.space).index(name) for name in names]
    units = [map_units(axis.parameter, CELLS) for axis in axes]
    expected = model.dependence(columns, units)
    if data.spec.directions[0] == "minimize":
        expected = -expected
    possible = _possible(data, names)
    known = expected if possible is None else expected[possible]
    spread = float(known.max() - known.min()) or 1.0
    goodness = np.clip((expected - known.min()) / spread, 0.0, 0.9999)
    draw_map(frame, axes, units, goodness, possible)


def _possible(
    data: StudyData, names: tuple[str, str]
) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]] | None:
    """Return which cells can occur: a child needs its parent's right choice; `None` for all."""
    for child, parent, is_across in ((names[0], names[1], False), (names[1], names[0], True)):
        allowed = data.space[child].conditions.get(parent)
        above = data.space[parent]
        if allowed is not None and isinstance(above, CategoricalParameter):
            fits = np.array([any(same_scalar(c, v) for v in allowed) for c in above.choices])
            count = len(map_units(data.space[child], CELLS))
            return np.tile(fits[:, None], (1, count)) if is_across else np.tile(fits, (count, 1))
    return None

"""Several samplers on one problem, each with several seeds: what each found, and how soon."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from studyflow.reports import chart, svg, wording
from studyflow.reports.axis import number_axis, objective_axis
from studyflow.reports.chart import Drawing, Frame, Key, Panel
from studyflow.reports.data import StudyData
from studyflow.reports.objective_scale import ObjectiveScale
from studyflow.reports.svg import Canvas, Shape

FloatArray = npt.NDArray[np.float64]

QUARTILES_FROM: Final = 5
"""Runs from which a band holds the middle half of them; with fewer it holds all."""
SERIES: Final = ("complete", "pruned", "target", "enqueued", "running", "best")
"""Classes of the samplers' colours, in order."""
_MARKERS: Final[tuple[Shape, ...]] = (
    "dot",
    "square",
    "up",
    "diamond",
    "down",
    "ring",
    "cross",
    "star",
)


@dataclass(frozen=True)
class Run:
    """One study of a comparison."""

    sampler: str
    seed: int
    data: StudyData


@dataclass(frozen=True)
class SamplerRow:
    """What a table says of one sampler."""

    sampler: str
    n_runs: int
    median: float | None
    """Median over the runs of the best value that each had at its end; `None` without any."""
    best: float | None
    worst: float | None
    mean_rank: float
    """Rank among the samplers with the same seed, from 1, averaged; ties share a rank."""
    median_trials: int | None
    """Trials after which the median run was as good as the least successful sampler's at its end;
    `None` if it never was."""


@dataclass(frozen=True)
class Comparison:
    """The runs of one problem under several samplers, in the order of the samplers."""

    name: str
    metric: str
    direction: str
    runs: tuple[Run, ...]

    @cached_property
    def samplers(self) -> tuple[str, ...]:
        """The samplers, in the order in which they first appear."""
        return tuple(dict.fromkeys(run.sampler for run in self.runs))

    @cached_property
    def n_trials(self) -> int:
        """Trials of the longest run."""
        return max((len(run.data.counted) for run in self.runs), default=0)

    @cached_property
    def curves(self) -> Mapping[str, FloatArray]:
        """Best value so far by sampler, `runs x trials`; NaN before a run's first value.

        A run that ended early keeps its last value: it would have had that at least.
        """
        return {
            sampler: np.stack(
                [
                    best_so_far(run.data, self.n_trials)
                    for run in self.runs
                    if run.sampler == sampler
                ]
            )
            for sampler in self.samplers
        }

    @cached_property
    def rows(self) -> tuple[SamplerRow, ...]:
        """One row for each sampler, the best by mean rank first."""
        ranks = self._mean_ranks()
        medians = {sampler: self.middle(curve) for sampler, curve in self.curves.items()}
        ends = [curve[-1] for curve in medians.values() if curve.size and not np.isnan(curve[-1])]
        slowest = None if not ends else float(max(ends) if self._is_minimised else min(ends))
        rows = []
        for sampler, curve in self.curves.items():
            finals = curve[:, -1][~np.isnan(curve[:, -1])] if self.n_trials else np.empty(0)
            low, high = (float(finals.min()), float(finals.max())) if finals.size else (None, None)
            rows.append(
                SamplerRow(
                    sampler,
                    n_runs=len(curve),
                    median=float(np.median(finals)) if finals.size else None,
                    best=low if self._is_minimised else high,
                    worst=high if self._is_minimised else low,
                    mean_rank=ranks[sampler],
                    median_trials=self._first_as_good(medians[sampler], slowest),
                )
            )
        return tuple(sorted(rows, key=lambda row: row.mean_rank))

    @property
    def headline(self) -> str:
        """One clause: who was best."""
        first = self.rows[0] if self.rows else None
        if first is None or first.median is None:
            return f"{self.name}: no run has a result yet"
        return (
            f"{first.sampler} found the best {self.metric}: {wording.number(first.median)} in the "
            f"median of {wording.plural(first.n_runs, 'run')}"
        )

    @property
    def caveat(self) -> str:
        """One clause: from whom its runs do not tell the best; empty where they do."""
        if not self.rows or self.rows[0].median is None:
            return ""
        first, *others = self.rows
        rivals = [row.sampler for row in others if self._overlaps(first, row)]
        return f"its runs overlap with those of {', '.join(rivals)}" if rivals else ""

    @property
    def verdict(self) -> str:
        """Headline and caveat, without a full stop."""
        return "; ".join(filter(None, (self.headline, self.caveat)))

    def middle(self, curve: FloatArray) -> FloatArray:
        """Return the median over the runs, `trials`; NaN while half of them have no value."""
        return _quantile(curve, 0.5, worst=math.inf if self._is_minimised else -math.inf)

    def band(self, curve: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the ends of what is drawn around the median, both `trials`."""
        share = 0.25 if len(curve) >= QUARTILES_FROM else 0.0
        worst = math.inf if self._is_minimised else -math.inf
        return _quantile(curve, share, worst=worst), _quantile(curve, 1 - share, worst=worst)

    @property
    def _is_minimised(self) -> bool:
        return self.direction == "minimize"

    def _mean_ranks(self) -> dict[str, float]:
        by_seed: dict[int, dict[str, float]] = {}
        for run in self.runs:
            final = best_so_far(run.data, self.n_trials)[-1] if self.n_trials else math.nan
            cost = final if self._is_minimised else -final
            by_seed.setdefault(run.seed, {})[run.sampler] = math.inf if math.isnan(cost) else cost
        ranks: dict[str, list[float]] = {sampler: [] for sampler in self.samplers}
        for costs in by_seed.values():
            for sampler, cost in costs.items():
                ahead = sum(other < cost for other in costs.values())
                equal = sum(other == cost for other in costs.values())
                ranks[sampler].append(ahead + (equal + 1) / 2)
        return {sampler: float(np.mean(found)) for sampler, found in ranks.items()}

    def _first_as_good(self, middle: FloatArray, value: float | None) -> int | None:
        if value is None:
            return None
        with np.errstate(invalid="ignore"):
            reached = np.flatnonzero(middle <= value if self._is_minimised else middle >= value)
        return int(reached[0]) + 1 if reached.size else None

    def _overlaps(self, first: SamplerRow, other: SamplerRow) -> bool:
        """Whether the better sampler's worst run is no better than the other's best."""
        if first.worst is None or other.best is None:
            return False
        return first.worst >= other.best if self._is_minimised else first.worst <= other.best


def best_so_far(data: StudyData, n_trials: int) -> FloatArray:
    """Return the best feasible value after each finished trial, `n_trials`; NaN before the first.

    Failed trials count too: they cost as much.
    """
    better = min if data.spec.directions[0] == "minimize" else max
    complete = {record.number for record in data.complete}
    best, found = math.nan, list[float]()
    for record in data.counted:
        if record.number in complete and record.is_feasible:
            value = data.value(record, 0)
            best = value if math.isnan(best) else better(best, value)
        found.append(best)
    found = found[:n_trials]
    return np.array(found + [best] * (n_trials - len(found)))


def _quantile(curve: FloatArray, share: float, *, worst: float) -> FloatArray:
    if not curve.size:
        return np.empty(curve.shape[1])
    filled = np.where(np.isnan(curve), worst, curve)
    method = "linear" if np.isfinite(filled).all() else "nearest"
    values = np.quantile(filled, share, axis=0, method=method)  # type: ignore[call-overload]
    return np.where(np.isfinite(values), values, math.nan)


def comparison_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Return the table's heads and cells."""
    metric = comparison.metric
    heads = ["sampler", "runs", f"median {metric}", "best", "worst", "mean rank", "trials to match"]
    cells = [
        [
            row.sampler,
            str(row.n_runs),
            *("–" if v is None else wording.number(v) for v in (row.median, row.best, row.worst)),
            f"{row.mean_rank:.2f}",
            "–" if row.median_trials is None else str(row.median_trials),
        ]
        for row in comparison.rows
    ]
    return heads, cells


def comparison_markdown(comparison: Comparison) -> str:
    """Return headline, table and how to read it."""
    heads, cells = comparison_table(comparison)
    lines = [[wording.markdown(text, 40) for text in heads]]
    lines += [[wording.markdown(sampler, 40), *numbers] for sampler, *numbers in cells]
    lines.insert(1, ["---"] * len(heads))
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return (
        f"**{wording.markdown(comparison.verdict)}.**\n\n"
        f"{table}\n\n"
        f"{comparison.n_trials} trials in each run. *Trials to match*: after how many the median "
        "run was as good as that of the least successful sampler at its end. *Mean rank*: 1 is "
        "always the best. Few seeds tell little: what overlaps may change places with the next.\n"
    )


def comparison_csv(comparison: Comparison) -> str:
    """Return every run's best value after each trial, one line for each."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["sampler", "seed", "trial", comparison.metric])
    for run in comparison.runs:
        for number, value in enumerate(best_so_far(run.data, comparison.n_trials), 1):
            writer.writerow([run.sampler, run.seed, number, "" if math.isnan(value) else value])
    return out.getvalue()


def draw_comparison(comparison: Comparison) -> Drawing:
    """Return the best value so far by trial: medians with bands, one colour for each sampler."""
    most = max((row.n_runs for row in comparison.rows), default=0)
    band = "the middle half" if most >= QUARTILES_FROM else "all"
    wide, narrow = chart.wide_and_narrow(lambda width: _panel(comparison, width))
    return Drawing(
        title=comparison.headline,
        note=f"{comparison.name}, {comparison.direction} · line: median of "
        f"{wording.plural(most, 'run')}, band: {band} of them"
        + (f" · {comparison.caveat}" if comparison.caveat else ""),
        alt=f"The best {comparison.metric} so far by number of trials, one line for each of "
        f"{', '.join(comparison.samplers)}. {comparison.verdict}.",
        panels=wide,
        narrow=narrow,
        keys=tuple(
            Key(row.sampler, _MARKERS[i % len(_MARKERS)], SERIES[i % len(SERIES)])
            for i, row in enumerate(comparison.rows)
        ),
    )


def _panel(comparison: Comparison, width: float) -> Panel:
    curves = comparison.curves
    finite = np.concatenate([c[~np.isnan(c)] for c in curves.values()]) if curves else np.empty(0)
    scale = ObjectiveScale([float(v) for v in finite], comparison.direction)
    last = max(comparison.n_trials, 2)
    x = number_axis("trials finished", 1, last, most=10 if width > 500 else 5, is_whole=True)
    canvas = Canvas(width, 380 if width > 500 else 300)
    frame = Frame(canvas, x, objective_axis(f"best {comparison.metric} so far", scale), grid="both")
    for i, row in enumerate(comparison.rows):
        curve = curves[row.sampler]
        cls = SERIES[i % len(SERIES)]
        low, high = (_places(frame, scale, end) for end in comparison.band(curve))
        if low and high:
            edge = svg.steps(low) + svg.steps_back(high) + "z"
            canvas.add("path", cls=f"{cls} band", d=edge)
        middle = _places(frame, scale, comparison.middle(curve))
        dash = " dash" if i // len(SERIES) % 2 else ""
        canvas.add("path", cls=f"{cls} stroke{dash}", d=svg.steps(middle))
        for left, top in middle[i % max(len(middle) // 6, 1) :: max(len(middle) // 6, 1)]:
            canvas.mark(_MARKERS[i % len(_MARKERS)], left, top, 4.5, cls)
    return Panel(canvas, f"{comparison.verdict}.")


def _places(frame: Frame, scale: ObjectiveScale, curve: FloatArray) -> list[tuple[float, float]]:
    """Return where a curve goes, from its first value on; what lies beyond stays at the edge."""
    return [
        frame.at(n, min(max(float(value), scale.low), scale.high))
        for n, value in enumerate(curve, 1)
        if not math.isnan(value)
    ]


def as_rows(comparison: Comparison) -> Sequence[Mapping[str, str]]:
    """Return the table as one mapping for each sampler, for pages that take those."""
    heads, cells = comparison_table(comparison)
    return [dict(zip(heads, row, strict=True)) for row in cells]

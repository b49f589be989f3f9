"""How figures look: colours, sizes, fonts, axes. Nothing here touches Matplotlib's global settings.

Colours are those of Okabe and Ito, told apart by people with any of the common colour blindnesses;
where a colour carries meaning, a marker's shape says the same.
"""

from __future__ import annotations

import io
import logging
import math
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from studyflow.reports import wording
from studyflow.spec.space import CategoricalParameter, FloatParameter, IntParameter, Parameter
from studyflow.trial import ParamValue

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

INK: Final = "#1f2933"
QUIET: Final = "#66727f"
GRID: Final = "#e3e7eb"
PAPER: Final = "#ffffff"
COMPLETE: Final = "#0072B2"
BEST: Final = "#D55E00"
PRUNED: Final = "#E69F00"
FAILED: Final = "#000000"
INFEASIBLE: Final = "#8a949e"
RUNNING: Final = "#56B4E9"
ENQUEUED: Final = "#CC79A7"
TARGET: Final = "#009E73"
SERIES: Final = (COMPLETE, PRUNED, TARGET, ENQUEUED, RUNNING, BEST)
"""Colours of several objectives, in order."""
ORDER_MAP: Final = "viridis_r"
"""Colours by trial number: early trials light, late ones dark."""


def value_map(direction: str) -> str:
    """Return the colours of an objective: the better, the darker."""
    return "viridis" if direction == "minimize" else "viridis_r"


TITLE_SIZE: Final = 13.0
LABEL_SIZE: Final = 10.0
TICK_SIZE: Final = 9.0
NOTE_SIZE: Final = 8.5
DPI: Final = 110

NAME_LIMIT: Final = 26
"""Longest name on an axis; longer ones are cut with `…`."""

FONTS: Final = (
    "DejaVu Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "PingFang SC",
    "Hiragino Sans GB",
    "Microsoft YaHei",
    "SimHei",
    "Arial Unicode MS",
    "Noto Sans",
    "Noto Sans Arabic",
    "Noto Sans Devanagari",
    "Noto Emoji",
)
"""Fonts tried in turn, character by character; those that are not installed are passed over."""

_FONT_LOCK: Final = threading.Lock()
_FONT_FILES: Final = ("noto", "wqy", "wenquanyi", "sourcehan", "source-han")


def new_figure(width: float, height: float, *, constrained: bool = True) -> Figure:
    """Return an empty figure with its own canvas, of that many inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(
        figsize=(width, height),
        dpi=DPI,
        facecolor=PAPER,
        layout="constrained" if constrained else None,
    )
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure) -> bytes:
    """Return the figure as a PNG file, the same bytes for the same figure."""
    from matplotlib.text import Text

    families = list(_families())
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_fontfamily(families)
    out = io.BytesIO()
    figure.savefig(
        out,
        format="png",
        dpi=DPI,
        facecolor=PAPER,
        metadata={"Software": None, "Description": str(figure.get_label())},
    )
    return out.getvalue()


def set_title(figure: Figure, title: str, note: str = "") -> None:
    """Write the answer above the figure and, smaller, what else must be known to read it."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    height = figure.get_figheight()
    head = 0.36 + (0.22 * (note.count("\n") + 1) if note else 0.0)
    if isinstance(engine := figure.get_layout_engine(), ConstrainedLayoutEngine):
        engine.set(rect=(0.0, 0.0, 1.0, 1.0 - head / height), w_pad=0.08, h_pad=0.06)
    left = 0.12 / figure.get_figwidth()
    options: dict[str, Any] = {"ha": "left", "va": "top", "in_layout": False}
    figure.text(
        left, 1 - 0.09 / height, title, size=TITLE_SIZE, weight="bold", color=INK, **options
    )
    if note:
        figure.text(left, 1 - 0.36 / height, note, size=NOTE_SIZE, color=QUIET, **options)


def describe(figure: Figure, text: str) -> None:
    """Keep what the figure shows, in words, with the figure: the page's alt text."""
    figure.set_label(wording.one_line(text))


def dress(axes: Axes, *, grid: Literal["both", "x", "y", "none"] = "both") -> None:
    """Give axes a light frame, readable ticks and a quiet grid."""
    axes.set_facecolor(PAPER)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(QUIET)
        axes.spines[side].set_linewidth(0.8)
    axes.tick_params(
        labelsize=TICK_SIZE, colors=QUIET, labelcolor=INK, length=3, labelfontfamily=_families()
    )
    axes.tick_params(which="minor", length=0)
    if grid != "none":
        axes.grid(visible=True, axis=grid, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)


def colour_bar(figure: Figure, points: Any, title: str, **options: Any) -> None:
    """Add a quiet colour bar, opaque whatever the points are."""
    bar = figure.colorbar(points, **options)
    bar.set_label(title, size=NOTE_SIZE, color=INK)
    bar.ax.tick_params(
        labelsize=TICK_SIZE, colors=QUIET, labelcolor=INK, labelfontfamily=_families()
    )
    bar.outline.set_visible(False)
    if bar.solids is not None:
        bar.solids.set_alpha(1.0)
    if title == "trial":
        whole_numbers(bar.ax.yaxis)


def whole_numbers(axis: Axis, most: int = 9) -> None:
    """Let ticks stand at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=most, integer=True, min_n_ticks=1))


def legend(axes: Axes, **options: Any) -> None:
    """Add a legend when there is something to tell apart."""
    handles, _ = axes.get_legend_handles_labels()
    if handles:
        axes.legend(
            **{
                "fontsize": NOTE_SIZE,
                "frameon": True,
                "framealpha": 0.9,
                "edgecolor": GRID,
                "labelcolor": INK,
                "borderpad": 0.5,
                "handletextpad": 0.5,
                **options,
            }
        )


def label(text: str, limit: int = NAME_LIMIT) -> str:
    """Return a text from outside, fit to be drawn.

    It is one line of at most `limit` characters; `$` starts no formula; characters that no
    installed font has are written as their code point, such as `<5B66>`, instead of a box.
    """
    line = wording.one_line(text, limit)
    drawn = "".join(c if _has_glyph(c) else f"<{ord(c):04X}>" for c in line)
    return drawn.replace("$", r"\$")


def axis_name(name: str, inches: float) -> str:
    """Return a name cut in its middle, so that it fits beside an axis of that length.

    Numbered names differ at their ends, and named groups at their beginnings.
    """
    room = max(int(inches / 0.088), 6)
    line = wording.one_line(name)
    if wording.columns(line) <= room:
        return label(line, room)
    while len(line) > 3 and wording.columns(line) > room - 1:
        middle = len(line) // 2
        line = line[:middle] + line[middle + 1 :]
    middle = (len(line) + 1) // 2
    return label(f"{line[:middle]}…{line[middle:]}", len(line) + 1)


def alpha(count: int) -> float:
    """Return how opaque each of so many marks should be."""
    return float(min(max(1.15 - 0.22 * math.log10(max(count, 1)), 0.35), 0.9))


def size(count: int) -> float:
    """Return the area of each of so many marks, in square points."""
    return float(min(max(70 - 18 * math.log10(max(count, 1)), 9.0), 45.0))


# Axes of parameters -----------------------------------------------------------------------------


def place(parameter: Parameter, given: ParamValue) -> float:
    """Return where a value stands on its parameter's axis; categories are numbered."""
    if isinstance(parameter, CategoricalParameter):
        return float(parameter.index(given))
    assert isinstance(given, int | float)
    return parameter.to_unit(given) if _is_extreme(parameter) else float(given)


def at_unit(parameter: Parameter, unit: float) -> float:
    """Return the place on a parameter's axis at a coordinate in [0, 1], off any grid."""
    if isinstance(parameter, CategoricalParameter):
        return unit * len(parameter.choices) - 0.5
    if _is_extreme(parameter):
        return unit
    low, high = float(parameter.low), float(parameter.high)
    return low * (high / low) ** unit if parameter.log else low + unit * (high - low)


def limits(parameter: Parameter) -> tuple[float, float]:
    """Return the ends of a parameter's axis, with a little room beyond its bounds."""
    if isinstance(parameter, CategoricalParameter):
        return -0.6, len(parameter.choices) - 0.4
    if _is_extreme(parameter):
        return -0.05, 1.05
    low, high = float(parameter.low), float(parameter.high)
    if low == high:
        room = abs(low) * 0.5 or 0.5
        return low - room, high + room
    if parameter.log:
        room = (high / low) ** 0.05
        return low / room, high * room
    room = 0.05 * (high - low)
    return low - room, high + room


def _is_extreme(parameter: Parameter) -> bool:
    """Whether Matplotlib cannot compute with a parameter's range: its axis then is the unit one."""
    if isinstance(parameter, CategoricalParameter) or parameter.low == parameter.high:
        return False
    low, high = float(parameter.low), float(parameter.high)
    least, largest = (low, high) if parameter.log else (high - low, max(abs(low), abs(high)))
    return least < 1e-150 or largest > 1e150


def is_log(parameter: Parameter) -> bool:
    """Whether the parameter's axis is logarithmic."""
    return (
        not isinstance(parameter, CategoricalParameter)
        and parameter.log
        and parameter.low < parameter.high
        and not _is_extreme(parameter)
    )


def ticks(parameter: Parameter, most: int = 5) -> tuple[list[float], list[str]]:
    """Return the places of ticks on a parameter's axis and their labels."""
    if isinstance(parameter, CategoricalParameter):
        n = len(parameter.choices)
        shown = range(0, n, max(math.ceil(n / max(2 * most, 8)), 1))
        return [float(i) for i in shown], [
            label(wording.value(parameter.choices[i]), 12) for i in shown
        ]
    values = tick_values(parameter, most)
    return [place(parameter, v) for v in values], [wording.number(v, 6) for v in values]


def tick_values(parameter: FloatParameter | IntParameter, most: int = 5) -> list[float]:
    """Return the values at which ticks of a numeric parameter stand."""
    low, high = float(parameter.low), float(parameter.high)
    if low == high:
        return [low]
    if _is_extreme(parameter):
        return [float(f"{parameter.from_unit(unit):.3g}") for unit in (0.0, 0.5, 1.0)]
    if parameter.log:
        return log_ticks(low, high, most)
    return linear_ticks(low, high, most, whole=parameter.type == "int")


def set_parameter(
    axes: Axes, which: Literal["x", "y"], parameter: Parameter, *, most: int = 5
) -> None:
    """Scale one axis for a parameter and label its ticks."""
    places, labels = ticks(parameter, most)
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log" if is_log(parameter) else "linear")
    axis.set_ticks(places, labels)
    axis.set_ticks([], minor=True)
    (axes.set_xlim if which == "x" else axes.set_ylim)(*limits(parameter))
    if which == "x" and sum(len(text) + 2 for text in labels) > 5.5 * max(most, 3):
        for text in axis.get_ticklabels():
            text.set(rotation=35, ha="right", rotation_mode="anchor")


def linear_ticks(low: float, high: float, most: int, *, whole: bool = False) -> list[float]:
    """Return at most about `most` round places between two numbers."""
    from matplotlib.ticker import MaxNLocator

    locator = MaxNLocator(nbins=max(most - 1, 2), integer=whole, steps=[1, 2, 2.5, 5, 10])
    return [float(p) for p in locator.tick_values(low, high) if low <= p <= high] or [low, high]


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Return at most about `most` round places between two positive numbers."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    slack = 1 + 1e-9
    for factors in ((1,), (1, 3), (1, 2, 5), tuple(range(1, 10))):
        places = [
            float(f"{factor}e{power}")
            for power in range(first, last + 1)
            for factor in factors
            if low / slack <= float(f"{factor}e{power}") <= high * slack
        ]
        if len(places) >= min(3, most):
            break
    if len(places) < 2:
        return [low, high]
    stride = math.ceil(len(places) / most)
    return places[::stride]


# Axes of objectives -----------------------------------------------------------------------------


class ObjectiveScale:
    """The axis of one objective: logarithmic where values span decades, else without far outliers.

    Args:
        values: Finite values that will be drawn; may be empty.
        direction: `minimize` or `maximize`.
        room: Values further from the median than so many times the good half's spread are outliers.
    """

    LOG_RATIO: Final = 30.0
    """Positive values whose largest is this many times the smallest get a logarithmic axis."""
    LOG_ROOM: Final = 1e3
    """On a logarithmic axis values within so many times the median are no outliers."""
    LIMIT: Final = 1e100
    """Larger magnitudes are divergence, as for the sampler, and never stretch an axis: differences
    and squares of what is left are floats. Its inverse counts as 0."""
    EQUAL: Final = 1e-12
    """Values are equal if they differ by no more than this share of their magnitude."""

    def __init__(self, values: Sequence[float], direction: str, room: float = 4.0) -> None:
        ordered = sorted(v for v in values if abs(v) <= self.LIMIT)
        self.direction = direction
        self.is_log = False
        if not ordered:
            self.low, self.high = 0.0, 1.0
            return
        if len(ordered) >= 5:
            ordered = self._without_outliers(ordered, room)
        self.is_log = self._spans_decades(ordered)
        self.low, self.high = ordered[0], ordered[-1]
        magnitude = max(abs(self.low), abs(self.high))
        if self.high - self.low <= max(self.EQUAL * magnitude, 1 / self.LIMIT):
            room = 0.1 * magnitude if magnitude > 1 / self.LIMIT else 1.0
            self.low, self.high = self.low - room, self.high + room
        elif self.is_log:
            room = (self.high / self.low) ** 0.06
            self.low, self.high = self.low / room, self.high * room
        else:
            room = 0.06 * (self.high - self.low)
            self.low, self.high = self.low - room, self.high + room

    def _spans_decades(self, ordered: Sequence[float]) -> bool:
        return ordered[0] > 1 / self.LIMIT and ordered[-1] / ordered[0] > self.LOG_RATIO

    def _without_outliers(self, ordered: list[float], room: float) -> list[float]:
        """Return the values without far outliers on the bad side."""
        middle = ordered[len(ordered) // 2]
        is_log = self._spans_decades(ordered)
        if self.direction == "minimize":
            bound = middle + room * (middle - ordered[0])
            if is_log:
                bound = max(middle * self.LOG_ROOM, _power(middle / ordered[0], room) * middle)
            return [v for v in ordered if v <= bound]
        bound = middle - room * (ordered[-1] - middle)
        if is_log:
            bound = min(middle / self.LOG_ROOM, middle / _power(ordered[-1] / middle, room))
        return [v for v in ordered if v >= bound]

    def clip(self, value: float) -> float:
        """Return the value, or a place just within the axis' end where it lies beyond."""
        if not self.is_outside(value):
            return value
        return self.at(0.985 if value > self.high else 0.015)

    def at(self, unit: float) -> float:
        """Return the value at a place between the axis' ends, from 0 to 1."""
        if self.is_log:
            return float(self.low * (self.high / self.low) ** unit)
        return self.low + unit * (self.high - self.low)

    def is_outside(self, value: float) -> bool:
        """Whether the value lies beyond the axis."""
        return not self.low <= value <= self.high

    def unit(self, value: float) -> float:
        """Return the value's place between the axis' ends, from 0 to 1."""
        value = min(max(value, self.low), self.high)
        if self.is_log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def apply(self, axes: Axes, which: Literal["x", "y"] = "y", *, most: int = 6) -> None:
        """Scale one axis."""
        places = self.ticks(most)
        axis = axes.xaxis if which == "x" else axes.yaxis
        (axes.set_xscale if which == "x" else axes.set_yscale)("log" if self.is_log else "linear")
        axis.set_ticks(places, [wording.number(p, 6) for p in places])
        axis.set_ticks([], minor=True)
        (axes.set_xlim if which == "x" else axes.set_ylim)(self.low, self.high)

    def ticks(self, most: int = 6) -> list[float]:
        """Return where ticks stand."""
        if self.is_log:
            return log_ticks(self.low, self.high, most)
        return linear_ticks(self.low, self.high, most, whole=False)


def _power(base: float, exponent: float) -> float:
    """Return a power of a number of at least 1; infinity where it is no float."""
    try:
        return float(base**exponent)
    except OverflowError:
        return math.inf


# Fonts ------------------------------------------------------------------------------------------


@cache
def _families() -> list[str]:
    """Return those of `FONTS` that are installed; DejaVu Sans comes with Matplotlib."""
    from matplotlib import font_manager

    def is_news(record: logging.LogRecord) -> bool:
        """Keep quiet about a fallback font that has but one weight."""
        return not record.getMessage().startswith("findfont: Failed to find font weight")

    with _FONT_LOCK:
        logging.getLogger("matplotlib.font_manager").addFilter(is_news)
        known = set(font_manager.fontManager.get_font_names())
        if not known & set(FONTS[1:12]):
            # Matplotlib's list of fonts is cached on disk, and may be older than the fonts.
            for path in font_manager.findSystemFonts():
                if any(part in Path(path).name.lower() for part in _FONT_FILES):
                    try:
                        font_manager.fontManager.addfont(path)
                    except (OSError, RuntimeError, ValueError):
                        continue
            known = set(font_manager.fontManager.get_font_names())
    return [name for name in FONTS if name in known]


@cache
def _charmaps() -> tuple[frozenset[int], ...]:
    from matplotlib import font_manager, ft2font

    maps = []
    for family in _families():
        path = font_manager.findfont(font_manager.FontProperties(family=[family]))
        maps.append(frozenset(ft2font.FT2Font(path).get_charmap()))
    return tuple(maps)


def _has_glyph(character: str) -> bool:
    return character.isascii() or any(ord(character) in charmap for charmap in _charmaps())

"""How figures look: colours, sizes, titles, legends. Matplotlib's global settings stay as they are.

Colours are those of Okabe and Ito, told apart by people with any of the common colour blindnesses;
where a colour carries meaning, a marker's shape says the same.
"""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any, Final, Literal

from studyflow.reports import wording
from studyflow.reports.fonts import families, has_glyph

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

    installed = list(families())
    for text in figure.findobj(Text):
        if isinstance(text, Text):
            text.set_fontfamily(installed)
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
        labelsize=TICK_SIZE, colors=QUIET, labelcolor=INK, length=3, labelfontfamily=families()
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
        labelsize=TICK_SIZE, colors=QUIET, labelcolor=INK, labelfontfamily=families()
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
    drawn = "".join(c if has_glyph(c) else f"<{ord(c):04X}>" for c in line)
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

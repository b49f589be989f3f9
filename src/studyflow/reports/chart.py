"""Charts: a frame with two axes, the panels of a figure, and a figure as one file."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from studyflow.reports import svg
from studyflow.reports.axis import Axis
from studyflow.reports.svg import Canvas, Shape, clean, cut, number, width_of
from studyflow.reports.templating import text_of

WIDE: Final = 880.0
"""Natural width of a chart that takes a page's whole width."""
NARROW: Final = 360.0
"""The same on a screen of a telephone, where a wide chart's letters would be too small."""
SMALL: Final = 300.0
"""Natural width of one of several small panels."""

MANY: Final = 1500
"""Marks of a panel beyond which none can be pointed at: a page of 5 MB would not open."""

_EDGE: Final = 6.0
"""How far inside the frame the mark stands of a value beyond it."""


@dataclass(frozen=True)
class Key:
    """One line of a legend."""

    text: str
    shape: Shape | Literal["line", "dash", "band"]
    cls: str

    @property
    def picture(self) -> str:
        """The mark that it explains, as a small picture."""
        canvas = Canvas(16, 14)
        if self.shape == "line" or self.shape == "dash":
            canvas.line(0, 7, 16, 7, f"{self.cls} stroke {self.shape}")
        elif self.shape == "band":
            canvas.add("rect", cls=self.cls, x=1, y=2, width=14, height=10)
        else:
            canvas.mark(self.shape, 8, 7, 4.5, self.cls)
        head = '<svg viewBox="0 0 16 14" width="16" height="14" aria-hidden="true">'
        return f"{head}{canvas.body}</svg>"


@dataclass(frozen=True)
class Panel:
    """One picture of a figure."""

    canvas: Canvas
    alt: str
    """What it shows, in words."""
    group: str = ""
    """The branch of a conditional space that it belongs to; panels of one branch stand together."""
    name: str = ""
    """By which it is chosen, where a figure shows one panel at a time."""

    @property
    def html(self) -> str:
        """The panel as an element of a page."""
        width, height = number(self.canvas.width), number(self.canvas.height)
        return (
            f'<svg viewBox="0 0 {width} {height}" role="img" tabindex="0" '
            f'aria-label="{clean(self.alt)}">{self.canvas.body}</svg>'
        )


@dataclass(frozen=True)
class Drawing:
    """A figure: its answer in words, and its panels."""

    title: str
    """The answer, as one clause."""
    note: str
    """What else must be known to read it; lines end with a line feed."""
    alt: str
    """All of it in words, for those who cannot see it."""
    panels: tuple[Panel, ...]
    narrow: tuple[Panel, ...] = ()
    """In place of `panels` on a narrow screen; empty where those do."""
    keys: tuple[Key, ...] = ()
    is_choice: bool = False
    """Whether one panel is shown at a time, chosen by its name."""

    @property
    def groups(self) -> list[tuple[str, list[Panel]]]:
        """The panels by branch, in their order."""
        found: dict[str, list[Panel]] = {}
        for panel in self.panels:
            found.setdefault(panel.group, []).append(panel)
        return list(found.items())

    @property
    def is_wide(self) -> bool:
        """Whether each panel takes the page's whole width."""
        return bool(self.narrow)


@dataclass(frozen=True)
class Box:
    """Where a frame stands in its picture."""

    left: float
    top: float
    width: float
    height: float


class Frame:
    """Two axes and what is drawn between them.

    Args:
        canvas: The picture; the frame fills it.
        x: The axis across.
        y: The axis upwards.
        top: Room above the frame, for the name of the upright axis.
        grid: Which of the axes have lines at their ticks.
    """

    def __init__(
        self,
        canvas: Canvas,
        x: Axis,
        y: Axis,
        *,
        top: float = 24.0,
        grid: Literal["both", "x", "y", "none"] = "y",
    ) -> None:
        longest = max((width_of(cut(text, 110)) for _, text in y.ticks), default=0.0)
        left = longest + 12.0
        self.box = Box(left, top, canvas.width - left - 10.0, canvas.height - top - 42.0)
        self.canvas, self.x, self.y = canvas, x, y
        self._draw_axes(grid)

    def across(self, share: float) -> float:
        """Return the picture's coordinate of a place on the axis across."""
        return self.box.left + self.box.width * share

    def up(self, share: float) -> float:
        """Return the picture's coordinate of a place on the upright axis."""
        return self.box.top + self.box.height * (1.0 - share)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return the picture's coordinates of two numbers, kept within the frame."""
        return self.across(_clamped(self.x.share(x))), self.up(_clamped(self.y.share(y)))

    def mark(
        self, shape: Shape, across: float, y: float, size: float, cls: str, trial: int | None = None
    ) -> None:
        """Draw a mark at a place across and a number up; an arrow at the edge if it lies beyond."""
        place = self.y.share(y)
        beyond: Shape | None = "up" if place > 1.0 else "down" if place < 0.0 else None
        height = self.up(_clamped(place))
        if beyond is not None:
            height += _EDGE if beyond == "up" else -_EDGE
        name = f"{cls} beyond" if beyond else cls
        self.canvas.mark(beyond or shape, self.across(across), height, size, name, trial)

    def horizontal(self, y: float, cls: str) -> None:
        """Draw a line from side to side."""
        height = self.up(_clamped(self.y.share(y)))
        self.canvas.line(self.box.left, height, self.box.left + self.box.width, height, cls)

    def vertical(self, share: float, cls: str) -> None:
        """Draw a line from top to bottom."""
        x = self.across(share)
        self.canvas.line(x, self.box.top, x, self.box.top + self.box.height, cls)

    def say(self, text: str) -> None:
        """Write into an empty frame why it is."""
        middle = self.box.left + self.box.width / 2
        lines = textwrap.wrap(text, max(int(self.box.width / svg.CHARACTER), 8))
        for i, line in enumerate(lines):
            height = self.box.top + self.box.height / 2 + 16 * (i - (len(lines) - 1) / 2)
            self.canvas.text(middle, height, line, "quiet", "middle")

    def _draw_axes(self, grid: str) -> None:
        canvas, box = self.canvas, self.box
        bottom, right = box.top + box.height, box.left + box.width
        for share, text in self.y.ticks:
            height = self.up(share)
            if grid in ("both", "y"):
                canvas.line(box.left, height, right, height, "grid")
            canvas.text(box.left - 6, height + 4, cut(text, 110), "tick", "end")
        shown = _apart(self.x.ticks, box.width)
        room = box.width / max(len(shown), 1)
        for share, _ in self.x.ticks:
            across = self.across(share)
            if grid in ("both", "x"):
                canvas.line(across, box.top, across, bottom, "grid")
            canvas.line(across, bottom, across, bottom + 3, "axis")
        for share, text in shown:
            label = cut(text, max(room - 4, 24))
            half = width_of(label) / 2
            across = min(max(self.across(share), half + 1), canvas.width - half - 1)
            canvas.text(across, bottom + 16, label, "tick", "middle")
        canvas.line(box.left, bottom, right, bottom, "axis")
        name = cut(self.x.name, box.width)
        canvas.text(box.left + box.width / 2, canvas.height - 6, name, "name", "middle")
        canvas.text(2, 13, cut(self.y.name, canvas.width - 4), "name")


def wide_and_narrow(draw: Callable[[float], Panel]) -> tuple[tuple[Panel, ...], tuple[Panel, ...]]:
    """Return a chart twice: for a page's whole width, and for a narrow screen."""
    return (draw(WIDE),), (draw(NARROW),)


def radius(count: int) -> float:
    """Return the size of each of so many marks."""
    return 5.0 if count <= 20 else 4.2 if count <= 100 else 3.2 if count <= 500 else 2.4


def order_class(position: int, first: int, last: int) -> str:
    """Return the class of a trial by its age: `t0` for the first ones, `t5` for the last."""
    share = (position - first) / (last - first) if last > first else 1.0
    return f"t{min(int(share * 6), 5)}"


def worth_class(goodness: float) -> str:
    """Return the class of a value by its goodness in [0, 1]: `v0` for the worst, `v9` the best."""
    return f"v{min(max(int(goodness * 10), 0), 9)}"


def as_file(drawing: Drawing) -> str:
    """Return a figure as an SVG file of its own, with its title, note and legend."""
    head, width = [], max(WIDE, *(panel.canvas.width for panel in drawing.panels))
    canvas = Canvas(width, 0)
    top = 24.0
    for line in textwrap.wrap(drawing.title, int(width / 9)):
        canvas.text(8, top, line, "headline")
        top += 22
    for line in [part for text in drawing.note.split("\n") for part in textwrap.wrap(text, 125)]:
        canvas.text(8, top, line, "quiet")
        top += 17
    head.append(canvas.body)
    left = 8.0
    for key in drawing.keys:
        needed = width_of(key.text) + 38
        if left + needed > width:
            left, top = 8.0, top + 18
        head.append(
            f'<g transform="translate({number(left)} {number(top - 11)})">{key.picture}</g>'
        )
        head.append(svg.element("text", key.text, x=left + 20, y=top))
        left += needed
    top += 14 if drawing.keys else 0
    body, height = _placed(drawing, width, top)
    label = clean(drawing.alt)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {number(width)} {number(height)}" '
        f'width="{number(width)}" height="{number(height)}" role="img" aria-label="{label}">'
        f"<title>{clean(drawing.title)}</title><style>{style_sheet()}</style>"
        f'<rect class="card" width="100%" height="100%"/>{"".join(head)}{body}</svg>\n'
    )


def _placed(drawing: Drawing, width: float, top: float) -> tuple[str, float]:
    """Return the panels in rows below each other, and where they end."""
    placed, left, row = [], 0.0, 0.0
    panels = drawing.panels[:1] if drawing.is_choice else drawing.panels
    group = ""
    for panel in panels:
        canvas = panel.canvas
        if left and (left + canvas.width > width or panel.group != group):
            left, top, row = 0.0, top + row + 8, 0.0
        if panel.group and (panel.group != group):
            top += 20
            placed.append(svg.element("text", panel.group, cls="name", x=8, y=top - 4))
        group = panel.group
        placed.append(
            f'<svg x="{number(left)}" y="{number(top)}" width="{number(canvas.width)}" '
            f'height="{number(canvas.height)}">{canvas.body}</svg>'
        )
        left, row = left + canvas.width, max(row, canvas.height)
    return "".join(placed), top + row + 8


def style_sheet() -> str:
    """Return the colours and letters of all charts."""
    return text_of("studyflow.reports", "charts.css")


def _clamped(share: float) -> float:
    return min(max(share, 0.0), 1.0)


def _apart(ticks: Sequence[tuple[float, str]], width: float) -> list[tuple[float, str]]:
    """Return so many of the ticks that their labels do not touch."""
    longest = max((min(width_of(text), 70.0) for _, text in ticks), default=0.0)
    stride = max(-(-int(len(ticks) * (longest + 8)) // max(int(width), 1)), 1)
    return list(ticks[::stride])

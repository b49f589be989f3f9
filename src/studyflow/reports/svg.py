"""A small SVG writer: shapes with classes, so that a page's style sheet gives them their colours.

A library that draws SVG, such as Matplotlib, writes colours and fonts into each shape, takes a
second to import and ten times the bytes; a picture could then follow neither a dark page nor a
narrow one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Final, Literal

from studyflow.reports import wording

Shape = Literal["dot", "ring", "cross", "down", "up", "left", "right", "diamond", "square", "star"]
"""Marks of trials. A shape says the same as its colour, for those who see no colours."""

Attribute = float | str | None

CHARACTER: Final = 6.7
"""Width of a character of a label, in units of the picture, on average."""

_NOT_XML: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_TURNS: Final = {"down": 0, "left": 90, "up": 180, "right": 270}


class Canvas:
    """A picture while it is drawn. Its units are pixels at its natural size.

    Args:
        width: Width in pixels.
        height: Height in pixels.
    """

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self._parts: list[str] = []

    @property
    def body(self) -> str:
        """All that was drawn, without the element around it."""
        return "".join(self._parts)

    def add(self, tag: str, text: str | None = None, **attributes: Attribute) -> None:
        """Draw an element; `cls` is its class, and underscores in names stand for dashes."""
        self._parts.append(element(tag, text, **attributes))

    def line(self, x1: float, y1: float, x2: float, y2: float, cls: str) -> None:
        """Draw a straight line."""
        self.add("line", cls=cls, x1=x1, y1=y1, x2=x2, y2=y2)

    def text(self, x: float, y: float, text: str, cls: str = "", anchor: str = "start") -> None:
        """Write one line of text."""
        if text:
            where = None if anchor == "start" else anchor
            self.add("text", text, cls=cls or None, x=x, y=y, text_anchor=where)

    def mark(
        self, shape: Shape, x: float, y: float, size: float, cls: str, trial: int | None = None
    ) -> None:
        """Draw a mark of a radius; one of a trial can be pointed at."""
        self._parts.append(mark(shape, x, y, size, cls, trial))

    def dots(self, points: Iterable[tuple[float, float]], size: float, cls: str) -> None:
        """Draw many dots as one element, in a tenth of the bytes; none can be pointed at."""
        moves = "".join(f"M{number(x)} {number(y)}h0" for x, y in points)
        if moves:
            self.add("path", cls=f"many {cls}", d=moves, stroke_width=2 * size)


def element(tag: str, text: str | None = None, **attributes: Attribute) -> str:
    """Return an element; attributes that are `None` are left out."""
    cls = attributes.pop("cls", None)
    named = {"class": cls, **attributes} if cls else attributes
    given = "".join(
        f' {name.replace("_", "-")}="{_attribute(value)}"'
        for name, value in named.items()
        if value is not None
    )
    return f"<{tag}{given}/>" if text is None else f"<{tag}{given}>{clean(text)}</{tag}>"


def mark(shape: Shape, x: float, y: float, size: float, cls: str, trial: int | None = None) -> str:
    """Return a mark of a radius; `trial` is the number of the trial that it stands for."""
    named: dict[str, Attribute] = {"cls": cls, "data_n": trial}
    if shape in ("dot", "ring"):
        if shape == "ring":
            named["cls"] = f"{cls} hollow"
        return element("circle", None, **named, cx=x, cy=y, r=size)
    if shape == "square":
        named["cls"] = f"{cls} hollow"
        side = 2 * size
        return element("rect", None, **named, x=x - size, y=y - size, width=side, height=side)
    if shape == "cross":
        s = size * 0.8
        path = polyline([(x - s, y - s), (x + s, y + s)]) + polyline(
            [(x - s, y + s), (x + s, y - s)]
        )
        return element("path", None, **{**named, "cls": f"{cls} hollow"}, d=path)
    if shape == "diamond":
        corners = [(x, y - size), (x + size, y), (x, y + size), (x - size, y)]
    elif shape == "star":
        corners = [
            (x + r * math.sin(math.pi * i / 5), y - r * math.cos(math.pi * i / 5))
            for i in range(10)
            for r in (size * 1.5 if i % 2 == 0 else size * 0.68,)
        ]
    else:
        turn = math.radians(_TURNS[shape])
        corners = [
            (
                x + size * (a * math.cos(turn) - b * math.sin(turn)),
                y + size * (a * math.sin(turn) + b * math.cos(turn)),
            )
            for a, b in ((-1.0, -0.8), (1.0, -0.8), (0.0, 1.0))
        ]
    return element("path", None, **named, d=polyline(corners) + "z")


def polyline(points: Iterable[tuple[float, float]]) -> str:
    """Return a path through points."""
    moves = " ".join(f"{number(x)} {number(y)}" for x, y in points)
    return f"M{moves}" if moves else ""


def steps(points: Iterable[tuple[float, float]]) -> str:
    """Return a path that goes across to each point, and then up or down to it."""
    path = ""
    for x, y in points:
        path += f"H{number(x)}V{number(y)}" if path else f"M{number(x)} {number(y)}"
    return path


def steps_back(points: Sequence[tuple[float, float]]) -> str:
    """Return the rest of a path, from its end along the steps of `steps` to their beginning."""
    path, height = "", None
    for x, y in reversed(points):
        path += f"L{number(x)} {number(y)}" if height is None else f"V{number(y)}H{number(x)}"
        height = y
    return path


def number(value: float) -> str:
    """Return a coordinate with one decimal at most."""
    text = f"{value:.1f}"
    return text[:-2] if text.endswith(".0") else text


def width_of(text: str) -> float:
    """Return about how wide a label is, in units of the picture."""
    return CHARACTER * wording.columns(text)


def cut(text: str, room: float) -> str:
    """Return a label cut in its middle, so that it fits into a width.

    Numbered names differ at their ends, and named groups at their beginnings.
    """
    line = wording.one_line(text)
    most = max(int(room / CHARACTER), 3)
    if wording.columns(line) <= most:
        return line
    while len(line) > 2 and wording.columns(line) > most - 1:
        middle = len(line) // 2
        line = line[:middle] + line[middle + 1 :]
    middle = (len(line) + 1) // 2
    return f"{line[:middle]}…{line[middle:]}"


def clean(text: str) -> str:
    """Return a text from outside as XML and HTML show it: one line, escaped."""
    return escape(_NOT_XML.sub("�", wording.one_line(text)), quote=True)


def _attribute(value: float | str) -> str:
    return clean(value) if isinstance(value, str) else number(value)

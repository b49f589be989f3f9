"""Numbers, times and names as people read them, made safe for where they are shown."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from datetime import UTC, datetime
from typing import Final

from studyflow.trial import ParamValue

_MARKDOWN: Final = re.compile(r"([\\`*_\[\]|~>])|^([#+=-])|(?<=^\d)([.)])(?=\s|$)")


def number(value: float, digits: int = 4) -> str:
    """Return a number in a few characters, such as `0.0421`, `1.2e-5` or `30`."""
    if isinstance(value, int) and abs(value) < 10**7:
        return str(value)
    text = f"{value:.{digits}g}"
    if "e" in text:
        mantissa, exponent = text.split("e")
        return f"{mantissa}e{int(exponent)}"
    return text


def value(given: ParamValue, digits: int = 4) -> str:
    """Return a parameter's value in a few characters; `true`, `false` and `null` as in YAML."""
    if given is None or isinstance(given, bool):
        return json.dumps(given)
    if isinstance(given, int | float):
        return number(given, digits)
    return one_line(str(given))


def seconds(duration: float | None) -> str:
    """Return a duration such as `0.4 s`, `12 s`, `3 min 20 s` or `2 h 5 min`."""
    if duration is None or not math.isfinite(duration):
        return "–"
    if duration < 10:
        return f"{duration:.1f} s"
    whole = round(duration)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    minutes = round(whole / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"
    hours = round(minutes / 60)
    return f"{hours // 24} d {hours % 24} h" if hours % 24 else f"{hours // 24} d"


def utc(timestamp: float | None) -> str:
    """Return a point in time such as `2026-11-22 03:14:30 UTC`."""
    if timestamp is None or not math.isfinite(timestamp):
        return "–"
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def one_line(text: str, limit: int | None = None) -> str:
    """Return a text without control characters or line ends, cut with `…` at `limit`.

    Characters that turn the direction of writing or that are not drawn go too: they would let one
    name pose as another, or move a terminal's cursor.
    """
    if limit is not None:
        text = text[: 4 * limit]
    kept = (" " if unicodedata.category(c)[0] in "CZ" else c for c in text)
    text = " ".join("".join(kept).split())
    if limit is not None and len(text) > limit:
        text = text[: limit - 1].rstrip() + "…"
    return text


def markdown(text: str, limit: int | None = None) -> str:
    """Return a text that Markdown and HTML show as it is: in a sentence or in a table's cell."""
    text = one_line(text, limit).replace("&", "&amp;").replace("<", "&lt;")
    return _MARKDOWN.sub(lambda match: "\\" + match[0], text)


def plural(count: int, noun: str) -> str:
    """Return `1 trial`, `2 trials`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def columns(text: str) -> int:
    """Return how many columns of a terminal a text takes; Chinese characters take two."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def percent(share: float) -> str:
    """Return a share of 0 to 1 in percent, without decimals."""
    return f"{100 * share:.0f} %" if share >= 0.01 else "less than 1 %"

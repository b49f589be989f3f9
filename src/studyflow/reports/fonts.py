"""Fonts that are installed, and what they can draw."""

from __future__ import annotations

import logging
import threading
from functools import cache
from pathlib import Path
from typing import Final

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


@cache
def families() -> list[str]:
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
    for family in families():
        path = font_manager.findfont(font_manager.FontProperties(family=[family]))
        maps.append(frozenset(ft2font.FT2Font(path).get_charmap()))
    return tuple(maps)


def has_glyph(character: str) -> bool:
    """Return whether one of the installed fonts can draw a character."""
    return character.isascii() or any(ord(character) in charmap for charmap in _charmaps())

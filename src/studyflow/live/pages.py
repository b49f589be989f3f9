"""What the live pages show: HTML from a study as it stands. Everything of a study is escaped."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from studyflow.live.states import Standing, latest
from studyflow.reports import describe_state, wording
from studyflow.reports.chart import style_sheet
from studyflow.reports.templating import environment_of, text_of
from studyflow.trial.record import TrialRecord

if TYPE_CHECKING:
    import jinja2

PACKAGE: Final = "studyflow.live"
"""Whose templates make the pages."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A study that cannot be shown."""

    name: str
    why: str


def list_page(found: Sequence[Standing | Unreadable], storage: str) -> str:
    """Return the page of all studies."""
    return _render("list.html.j2", found=found, storage=storage)


def list_part(found: Sequence[Standing | Unreadable]) -> str:
    """Return the part of it that changes."""
    return _render("list_part.html.j2", found=found)


def study_page(standing: Standing, version: str) -> str:
    """Return the page of one study; its report is a frame in it."""
    return _render("study.html.j2", at=standing, version=version, now=time.time())


def study_part(standing: Standing, version: str) -> str:
    """Return the part of it that changes."""
    return _render("study_part.html.j2", at=standing, version=version, now=time.time())


def trial_page(standing: Standing, record: TrialRecord) -> str:
    """Return the page of one trial with its log."""
    return _render("trial.html.j2", at=standing, record=record, now=time.time())


def trial_part(standing: Standing, record: TrialRecord) -> str:
    """Return the part of it that changes, beside the log."""
    return _render("trial_part.html.j2", at=standing, record=record, now=time.time())


def message_page(title: str, text: str) -> str:
    """Return a page that says why there is no other."""
    return _render("message.html.j2", title=title, text=text)


def asset(name: str) -> str:
    """Return a style sheet or script.

    Raises:
        FileNotFoundError: There is none of that name.
    """
    if name == "charts.css":
        return style_sheet()
    if name not in ("live.css", "live.js"):
        raise FileNotFoundError(name)
    return text_of(PACKAGE, name)


def _render(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(values)


@cache
def _environment() -> jinja2.Environment:
    environment = environment_of(PACKAGE, "A live page")
    environment.globals |= {
        "w": wording,
        "describe_state": describe_state,
        "latest": latest,
        "path": lambda name: f"/studies/{quote(name, safe='')}",
        "Unreadable": Unreadable,
    }
    environment.tests["unreadable"] = lambda value: isinstance(value, Unreadable)
    return environment

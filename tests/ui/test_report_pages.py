"""The report in a browser: readable at any width, light and dark, by pointer and by keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys
from tests.ui.browser import Browser
from tests.ui.site import NEEDS_BROWSER
from tests.unit.reports.studies import STUDIES
from tests.unit.reports.test_replay import study as run_study

from studyflow.reports import build_report

pytestmark = NEEDS_BROWSER

KINDS = ("usual", "conditional", "two objectives", "one parameter", "thirty parameters")
LETTERS = """
const sizes = [...document.querySelectorAll("figure svg[role=img]")]
  .filter((svg) => svg.getBoundingClientRect().width)
  .map((svg) => 12 * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width);
return Math.min(...sizes);
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    return {name: build_report(STUDIES[name](), folder / name).html for name in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_a_report_fits_any_screen_light_and_dark(
    browser: Browser, reports: dict[str, Path], kind: str
) -> None:
    for width in (400, 800, 1280):
        for theme in ("light", "dark"):
            browser.look(width, theme)
            browser.open(reports[kind].as_uri())
            browser.script(
                "document.querySelectorAll('details').forEach((d) => { d.open = true; })"
            )
            room = browser.script("return document.documentElement.scrollWidth")
            browser.whole_picture(f"report-{kind.replace(' ', '-')}-{width}-{theme}")
            assert room <= width, "nothing lies beyond the window"
            assert browser.script(LETTERS) >= 9.0, "letters in pictures can be read"
            assert browser.complaints() == []


def test_figures_follow_a_dark_page(browser: Browser, reports: dict[str, Path]) -> None:
    colour = """
    const mark = document.querySelector("#convergence .complete");
    const text = document.querySelector("#convergence text");
    return [getComputedStyle(mark).fill, getComputedStyle(text).fill];
    """
    seen = []
    for theme in ("light", "dark"):
        browser.look(1280, theme)
        browser.open(reports["usual"].as_uri())
        seen.append(browser.script(colour))
    assert seen == [
        ["rgb(0, 114, 178)", "rgb(31, 41, 51)"],
        ["rgb(86, 180, 233)", "rgb(230, 234, 238)"],
    ]


def test_trials_are_reached_in_a_picture_by_keyboard(
    browser: Browser, reports: dict[str, Path]
) -> None:
    browser.look(1280, "light")
    browser.open(reports["usual"].as_uri())
    picture = "//section[@id='convergence']//div[@class='wide']/*[name()='svg']"
    tip = "return document.getElementById('tip').textContent"

    browser.press(picture, Keys.ARROW_RIGHT)
    assert browser.script(tip).startswith("trial 0\nstate complete\nval_loss 0.3")
    browser.press(picture, Keys.ARROW_RIGHT)
    assert browser.script(tip).startswith("trial 1\n")
    browser.press(picture, Keys.ENTER)
    assert browser.script("return document.activeElement.id") == "trial-1"


def test_two_parameters_are_chosen_for_a_contour(
    browser: Browser, reports: dict[str, Path]
) -> None:
    browser.look(800, "light")
    browser.open(reports["usual"].as_uri())
    shown = """
    return [...document.querySelectorAll("#pairs [data-panel]")].filter((p) => !p.hidden)
      .map((p) => p.querySelector("svg").getAttribute("aria-label"));
    """
    first = browser.script(shown)
    browser.press("//select[@data-choose]", Keys.ARROW_DOWN)
    second = browser.script(shown)
    assert len(first) == len(second) == 1
    assert first != second


def test_lines_outside_a_range_fade_by_keyboard(browser: Browser, reports: dict[str, Path]) -> None:
    browser.look(1280, "light")
    browser.open(reports["conditional"].as_uri())
    axis = "(//section[@id='parallel_coordinates']//div[@class='wide']//*[@class='handle'])[3]"
    note = "return document.querySelector('#parallel_coordinates .wide p').textContent"

    browser.press(axis, Keys.ARROW_UP)  # the lowest fifth: momentum, where it is absent too
    assert browser.script(note).endswith(" of 22 trials kept")
    away = browser.script("return document.querySelectorAll('#parallel_coordinates .away').length")
    assert 0 < away < 22
    browser.press(axis, Keys.ESCAPE)
    assert browser.script(note).startswith("Drag along an axis")


def test_the_search_is_replayed_by_keyboard(browser: Browser, tmp_path: Path) -> None:
    space = {"x": {"type": "float", "low": -2.0, "high": 2.0}}
    data = run_study({**space, "y": space["x"]}, lambda p: p["x"] ** 2 + p["y"] ** 2, 6)
    browser.look(800, "light")
    browser.open(build_report(data, tmp_path).html.as_uri())
    browser.script("document.getElementById('diagnostics').open = true")
    shown = """
    return [...document.querySelectorAll("#replay [data-frame]")]
      .filter((frame) => !frame.hidden).map((frame) => frame.dataset.frame.split(":")[0]);
    """
    assert browser.script(shown) == ["At the end"]
    browser.press("//figure[@id='replay']//input", Keys.ARROW_LEFT)
    assert browser.script(shown) == ["Before trial 5"]
    browser.picture("replay")
    assert browser.complaints() == []

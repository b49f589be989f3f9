"""The trials of studies on MLflow's pages: of a small one that was run, and of a large one."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from tests.prepared import put_mlflow_database
from tests.ui.browser import Browser, until
from tests.ui.site import NEEDS_BROWSER, Site, opened_site

from studyflow.tracking.mlflow import MLflowTracker, embedded_uri
from studyflow.tracking.protocol import StudyCard, StudySummary
from studyflow.tracking.sync import sync_study
from studyflow.trial import Cause
from studyflow.trial.attempt_files import AttemptFiles
from studyflow.trial.record import TrialRecord, TrialState, best_records

pytestmark = NEEDS_BROWSER

STUDY = """
name: small
objectives: [{metric: loss, direction: minimize}]
search_space:
  lr: {type: float, low: 1.0e-4, high: 1.0e-1, log: true}
  width: {type: int, low: 16, high: 512}
sampler: {type: random, seed: 1}
budget: {n_trials: 12, max_parallel_trials: 2}
trial: {command: [python, train.py]}
"""

TRAIN = """
from studyflow import sdk
trial = sdk.current_trial()
if trial.params["width"] > 400:
    raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
sdk.finish(loss=trial.params["lr"] + trial.params["width"] / 1000, accuracy=0.5)
"""

N_MANY, N_LARGE = 60, 1000
FEW_SECONDS = 30.0
"""Longest time for a page of the large study, on a busy machine."""


def large_study(n_trials: int) -> tuple[StudyCard, tuple[TrialRecord, ...]]:
    """Return a study of many trials, of which those of width 512 ran out of memory."""
    numbers = random.Random(0)
    records = []
    for number in range(n_trials):
        width = numbers.choice((64, 128, 256, 512))
        value = width / 1000 + numbers.random() + 0.001
        begin = 1.79e9 + 60 * number
        record = TrialRecord(
            number,
            TrialState.FAILED if width == 512 else TrialState.COMPLETE,
            {"lr": 10 ** numbers.uniform(-4, -1), "width": width},
            values=None if width == 512 else (value,),
            cause=Cause.CUDA_OOM if width == 512 else Cause.OK,
            attempt=1,
            started_at=begin,
            finished_at=begin + 50,
        )
        records.append(record)
    text = f"name: large-{n_trials}\n"
    name = f"large-{n_trials}"
    card = StudyCard(name, ("minimize",), ("loss",), text, parameters=("lr", "width"))
    return card, tuple(records)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("trials").resolve()
    (folder / "study.yaml").write_text(STUDY)
    (folder / "train.py").write_text(TRAIN)
    put_mlflow_database(folder / ".studyflow")
    Site(folder, "", "").studyflow("run", "study.yaml")
    with opened_site(folder) as opened:
        yield opened


@pytest.fixture
def browser() -> Iterator[Browser]:
    with Browser() as opened:
        yield opened


@pytest.fixture(params=[N_MANY, pytest.param(N_LARGE, marks=pytest.mark.long)])
def large(request: pytest.FixtureRequest, site: Site) -> tuple[StudyCard, tuple[TrialRecord, ...]]:
    """A study whose trials were sent to the site's MLflow."""
    request.node.user_properties.append(("did", f"{request.param} trials in Chromium"))
    card, records = large_study(request.param)
    tracker = MLflowTracker(embedded_uri(site.folder / ".studyflow"), card.name)
    best = best_records(records, card.directions)
    sync_study(
        tracker,
        card,
        records,
        lambda _: AttemptFiles(),
        summary=lambda: StudySummary(True, best, records, note_markdown="# A large study"),
    )
    tracker.close()
    return card, records


class TrialsPage:
    """MLflow's table of a study's trials, reached from the study's run."""

    def __init__(self, browser: Browser, site: Site, study: str) -> None:
        self._browser = browser
        self._site = site
        tracker = MLflowTracker(embedded_uri(site.folder / ".studyflow"), study, pages=site.mlflow)
        tracker.find_study()
        self._url = tracker.run_url() or ""

    def open_study(self) -> None:
        """Go to the study's run."""
        self._browser.read(self._url, "Child runs")

    def follow(self, title: str) -> None:
        """Follow a link of the study's description, which would open in a new window."""
        link = (
            f"return [...document.querySelectorAll('a')].find(a => a.innerText == '{title}').href"
        )
        self._browser.open(self._browser.wait(lambda: self._browser.script(link), title))

    def names(self) -> list[str]:
        """Return the trials that the table shows, from its top."""
        script = """return [...document.querySelectorAll('.ag-row')]
            .sort((a, b) => a.getAttribute('row-index') - b.getAttribute('row-index'))
            .map(row => row.innerText).join('\\n').match(/trial-\\d+/g) || []"""
        return list(self._browser.script(script))

    def tick(self, *rows: int) -> None:
        """Select trials by their place in the table."""
        for row in rows:
            script = (
                f"const boxes = [...document.querySelectorAll('[row-index=\"{row}\"] input')];"
                "const box = boxes.find(e => e.offsetParent); box && box.click();"
                "return Boolean(box)"
            )
            self._browser.wait(partial(self._browser.script, script), f"the box of row {row}")


def drawn(browser: Browser, kind: str) -> Any:
    """Return how many numbers a chart of this kind shows; nothing while there is none."""
    return browser.script(
        "return [...document.querySelectorAll('.js-plotly-plot')].flatMap(plot => plot.data || [])"
        f".filter(trace => trace.type === '{kind}')"
        ".map(trace => (trace.dimensions ? trace.dimensions[0].values : trace.z).length)[0]"
    )


def test_trials_are_reached_from_their_study_and_compared(browser: Browser, site: Site) -> None:
    page = TrialsPage(browser, site, "small")
    page.open_study()
    browser.wait_for("trial-0011")
    browser.picture("study")
    page.follow("Trials, best first")
    until(lambda: len(page.names()) == 12, "all trials")
    browser.picture("trials-best-first")
    assert all(name in browser.text for name in ("loss", "lr", "width", "studyflow.cause"))
    best = page.names()[:2]
    page.tick(0, 1)
    browser.click("//button[normalize-space(.)='Compare']")
    browser.wait_for("Comparing 2 Runs")
    browser.wait_for("Run details")
    text = browser.text
    assert all(name in text for name in (*best, "lr", "width", "loss", "accuracy"))
    browser.wait(lambda: drawn(browser, "parcoords") == 2, "parallel coordinates of two trials")
    browser.picture("compared")


def test_parallel_coordinates_and_contour_show_all_complete_trials(
    browser: Browser, site: Site
) -> None:
    page = TrialsPage(browser, site, "small")
    page.open_study()
    page.follow("Trials, best first")
    until(lambda: len(page.names()) == 12, "all trials")
    n_complete = browser.text.splitlines().count("ok")
    assert n_complete >= 4
    page.tick(*range(n_complete))
    browser.click("//button[normalize-space(.)='Compare']")
    browser.wait(lambda: drawn(browser, "parcoords") == n_complete, "parallel coordinates")
    browser.picture("parallel-coordinates")
    browser.click("//*[@role='tab'][contains(., 'Contour')]")
    browser.wait(lambda: drawn(browser, "contour") == n_complete, "a contour plot")
    browser.picture("contour")


def test_the_report_and_the_failed_trials_are_one_link_away(browser: Browser, site: Site) -> None:
    page = TrialsPage(browser, site, "small")
    page.open_study()
    page.follow("Failed trials")
    browser.wait_for("cuda-oom")
    browser.wait_for("CUDA out of memory")
    assert "\nok\n" not in browser.text
    browser.picture("failed-trials")
    page.open_study()
    page.follow("Report")
    browser.wait_for("report.html")
    browser.picture("report")


def test_many_trials_open_sorted_and_are_filtered_by_cause(
    browser: Browser, site: Site, large: tuple[StudyCard, tuple[TrialRecord, ...]]
) -> None:
    card, records = large
    ranked = sorted(
        (record for record in records if record.values), key=lambda record: record.values or ()
    )
    page = TrialsPage(browser, site, card.name)
    page.open_study()
    browser.picture("large-study")
    page.follow("Trials, best first")
    first = [f"trial-{record.number:04d}" for record in ranked[:5]]
    browser.wait(lambda: page.names()[:5] == first, "the best trials", FEW_SECONDS)
    browser.picture("large-best-first")
    few = str(len(records) - 1)[:-1]  # the numbers that begin so are about ten
    search = "//input[contains(@placeholder, 'metrics.')]"
    browser.write(
        search, f"tags.`studyflow.cause` = 'cuda-oom' and tags.`studyflow.trial` LIKE '{few}%'\n"
    )
    wanted = {
        f"trial-{record.number:04d}"
        for record in records
        if record.cause is Cause.CUDA_OOM and str(record.number).startswith(few)
    }
    browser.wait(lambda: set(page.names()) == wanted, "those out of memory", FEW_SECONDS)
    browser.picture("large-out-of-memory")

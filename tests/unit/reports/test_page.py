from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from studyflow.reports import StudyData, build_report
from studyflow.reports import figures as figures_package
from studyflow.reports.figures import FIGURES, FigureKind

from .studies import START, STUDIES

pytestmark = pytest.mark.slow


class Page(HTMLParser):
    """Collects what a browser would run, load or show."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def few_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave two figures, so that tests about the page are quick."""
    few = {name: FIGURES[name] for name in ("convergence", "timeline")}
    monkeypatch.setattr(figures_package, "FIGURES", few)


def test_a_report_has_its_page_figures_and_files(tmp_path: Path) -> None:
    report = build_report(STUDIES["usual"](), tmp_path / "new" / "report", generated_at=START)
    assert report.html.name == "report.html"
    assert list(report.figures) == list(FIGURES)
    assert all(
        path.read_text("utf-8").startswith("<svg xmlns=") for path in report.figures.values()
    )
    assert list(report.files) == ["trials.csv", "best_config.yaml", "best_config.json"]
    assert report.omitted == {}
    assert report.html.stat().st_size < 600_000
    assert json.loads(report.files["best_config.json"].read_text())["params"]["seed"] == 7


@pytest.mark.usefixtures("few_figures")
def test_every_study_has_a_page(study: StudyData, tmp_path: Path) -> None:
    report = build_report(study, tmp_path, generated_at=START)
    assert report.figures.keys() | report.omitted.keys() == {"convergence", "timeline"}
    assert "report made</dt><dd>2026-09-21 14:13:20 UTC" in report.html.read_text("utf-8")


@pytest.mark.usefixtures("few_figures")
def test_trials_that_were_taken_over_are_not_those_of_the_budget(tmp_path: Path) -> None:
    usual = STUDIES["usual"]()
    records = tuple(replace(record, is_taken_over=record.number < 10) for record in usual.records)
    report = build_report(replace(usual, records=records), tmp_path)
    facts = re.findall(r"<dt>([^<]+)</dt>\s*<dd>(\d+)<", report.html.read_text("utf-8"))
    assert dict(facts)["taken over"] == "10"
    assert int(dict(facts)["finished"]) == len(usual.finished) - 10


@pytest.mark.usefixtures("few_figures")
def test_the_page_loads_nothing(tmp_path: Path) -> None:
    report = build_report(STUDIES["usual"](), tmp_path, links={"MLflow": "http://mlflow:5000/x"})
    text = report.html.read_text("utf-8")
    page = Page(text)
    loads = [
        value
        for _, attributes in page.tags
        for key, value in attributes.items()
        if key in ("src", "srcset", "data", "poster", "xlink:href") and value is not None
    ]
    assert loads == []
    assert not page.all("link")
    assert "@import" not in text
    assert "url(" not in text
    addresses = [a["href"] or "" for a in page.all("a")]
    assert [a for a in addresses if not a.startswith("#")] == ["http://mlflow:5000/x"]
    assert "default-src 'none'" in str(page.all("meta"))


@pytest.mark.usefixtures("few_figures")
def test_a_hostile_study_runs_nothing(tmp_path: Path) -> None:
    report = build_report(
        STUDIES["hostile"](), tmp_path, links={"x": "javascript:alert(1)", "<b>": "a/b"}
    )
    text = report.html.read_text("utf-8")
    page = Page(text)
    assert "<script>alert(1)" not in text
    assert "<img src=x" not in text
    assert "{{ 1 }}" in text
    assert len(page.all("script")) == 1
    addresses = [a["href"] or "" for a in page.all("a")]
    assert [a for a in addresses if not a.startswith("#")] == ["a/b"]


@pytest.mark.usefixtures("few_figures")
def test_every_picture_has_words(tmp_path: Path) -> None:
    page = Page(build_report(STUDIES["usual"](), tmp_path).html.read_text("utf-8"))
    pictures = [each for each in page.all("svg") if each.get("role") == "img"]
    assert pictures
    assert all(len(each["aria-label"] or "") > 20 for each in pictures)
    assert all(each["tabindex"] == "0" for each in pictures), "reached by keyboard"


@pytest.mark.usefixtures("few_figures")
def test_the_same_study_gives_the_same_files(tmp_path: Path) -> None:
    first = build_report(STUDIES["usual"](), tmp_path / "a", generated_at=START)
    second = build_report(STUDIES["usual"](), tmp_path / "b", generated_at=START)
    assert first.html.read_bytes() == second.html.read_bytes()
    for name, path in first.figures.items():
        assert path.read_bytes() == second.figures[name].read_bytes()


def test_a_figure_that_breaks_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(data: StudyData) -> None:
        raise ZeroDivisionError("secret detail")

    kind = FigureKind("Broken", broken)  # type: ignore[arg-type]
    monkeypatch.setattr(figures_package, "FIGURES", {"broken": kind})
    report = build_report(STUDIES["usual"](), tmp_path)
    assert report.omitted == {
        "broken": "drawing it failed (ZeroDivisionError); the log has the details"
    }
    assert "secret detail" not in report.html.read_text("utf-8")
    assert "broken" in caplog.text


@pytest.mark.usefixtures("few_figures")
def test_an_old_picture_does_not_outlive_its_figure(tmp_path: Path) -> None:
    build_report(STUDIES["usual"](), tmp_path)
    report = build_report(STUDIES["no trial"](), tmp_path)
    assert not (tmp_path / "figures" / "convergence.svg").exists()
    assert report.figures == {}


@pytest.mark.usefixtures("few_figures")
def test_trials_stand_best_first_with_their_links_and_what_they_cost(tmp_path: Path) -> None:
    data = STUDIES["usual"]()
    best = data.best[0].number
    links = {best: {"log": "../attempts/x.log", "bad": "javascript:alert(1)"}}
    text = build_report(data, tmp_path, trial_links=links).html.read_text("utf-8")
    rows = [int(number) for number in re.findall(r'<tr id="trial-(\d+)"', text)]
    assert sorted(rows) == [r.number for r in data.trials]
    values = [data.records[number].values for number in rows]
    known = [v for v in values if v is not None]
    assert values == [*sorted(known), *[None] * (len(values) - len(known))]
    assert rows[0] == best
    assert '<a href="../attempts/x.log"' in text
    assert "javascript:" not in text
    assert '<th scope="col" class="num">slot-hours</th>' in text


@pytest.mark.usefixtures("few_figures")
def test_the_answer_and_the_gain_come_before_everything_else(tmp_path: Path) -> None:
    text = build_report(STUDIES["usual"](), tmp_path).html.read_text("utf-8")
    order = ['class="gain"', 'id="best"', 'id="convergence"', 'id="trials"']
    assert [text.index(part) for part in order] == sorted(text.index(part) for part in order)
    assert "% against the first configuration (trial 0)</p>" in text


@pytest.mark.usefixtures("few_figures")
def test_metrics_beside_the_objectives_have_columns(tmp_path: Path) -> None:
    usual = STUDIES["usual"]()
    records = tuple(replace(r, metrics={"val_loss": 1.0, "size_mb": 3.25}) for r in usual.records)
    text = build_report(replace(usual, records=records), tmp_path).html.read_text("utf-8")
    assert '<th scope="col" class="num">size_mb</th>' in text
    assert text.count('<td class="num">3.25</td>') == len(records)


def test_no_report_imports_a_library_for_pictures(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib\n"
        "from tests.unit.reports.studies import STUDIES\n"
        "from studyflow.reports import build_report\n"
        f"report = build_report(STUDIES['conditional'](), pathlib.Path({str(tmp_path)!r}))\n"
        "assert len(report.figures) == 10, report.omitted\n"
        "assert 'matplotlib' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

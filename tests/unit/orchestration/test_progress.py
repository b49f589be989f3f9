"""A study's progress on its page, over a server that goes away."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from studyflow.observers.observer import Progress

pytestmark = pytest.mark.filterwarnings("default")

ARTIFACT = UUID(int=1)


class Page:
    """Prefect's page: away for the first calls.

    Args:
        n_away: How many calls find no server.
    """

    def __init__(self, n_away: int) -> None:
        self.n_away = n_away
        self.n_calls = 0
        self.shown: list[Any] = []
        self.pauses: list[float] = []
        self.described = ""

    def create(self, progress: float, **_named: Any) -> UUID:
        self._call()
        self.shown.append(("created", progress))
        return ARTIFACT

    def update(self, artifact: UUID, progress: float, description: str) -> None:
        self.described = description
        self._call()
        self.shown.append((artifact, progress))

    def show_pause(self, is_paused: bool) -> None:
        self.shown.append("paused" if is_paused else "continued")

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def _call(self) -> None:
        self.n_calls += 1
        if self.n_calls <= self.n_away:
            raise ConnectionError("refused")


def show(page: Page, monkeypatch: pytest.MonkeyPatch, *reports: Progress) -> None:
    """Show the progress of a study, one report after another, and of its end."""
    from studyflow.orchestration import progress

    monkeypatch.setattr(progress, "create_progress_artifact", page.create)
    monkeypatch.setattr(progress, "update_progress_artifact", page.update)
    monkeypatch.setattr(progress, "show_pause", page.show_pause)
    monkeypatch.setattr(progress, "time", page)
    artifact = progress.ProgressArtifact("study", logging.getLogger("page"))
    artifact.close()
    for report in reports:
        artifact.take(report)
        artifact.keep_up()


def report(n_finished: int, *, is_paused: bool = False) -> Progress:
    return Progress("study", n_finished, 4, (), (), 1.0, None, is_paused=is_paused)


def test_the_artifact_is_made_once_and_then_updated(monkeypatch: pytest.MonkeyPatch) -> None:
    page, last = Page(0), report(3)
    show(page, monkeypatch, report(1), last, last)
    assert page.shown == [("created", 25.0), (ARTIFACT, 75.0)]


def test_the_artifact_says_what_is_spent_of_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    page = Page(0)
    show(page, monkeypatch, report(1), replace(report(2), spent="1.2 of 40 GPU-hours"))
    assert page.described == "Finished trials of study; spent 1.2 of 40 GPU-hours"


def test_a_pause_is_the_runs_state_until_the_study_continues(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page = Page(0)
    show(page, monkeypatch, report(1, is_paused=True), report(1))
    assert page.shown == [("created", 25.0), "paused", (ARTIFACT, 25.0), "continued"]


@pytest.mark.fault("F36")
def test_the_last_progress_is_tried_until_the_server_is_back_and_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    page = Page(3)
    with caplog.at_level(logging.INFO, "page"):
        show(page, monkeypatch, report(4))

    assert page.shown == [("created", 100.0)]
    assert page.pauses == [5.0] * 3
    told = [(r.levelname, r.getMessage()) for r in caplog.records if r.name == "page"]
    assert [level for level, _ in told] == ["WARNING", "INFO"]
    assert told[0][1].startswith("Prefect's server does not answer; the study goes on")
    assert told[1][1] == "Prefect's server is back."


@pytest.mark.fault("F36")
def test_a_server_that_stays_away_is_given_up_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    page = Page(10_000)
    show(page, monkeypatch, report(4))
    assert (page.shown, sum(page.pauses)) == ([], 600.0)


def test_without_a_number_of_trials_the_bar_shows_the_budget(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page = Page(0)
    endless = Progress("study", 7, None, (), (), 1.0, None, share=0.25)
    show(page, monkeypatch, replace(endless, share=None), endless)
    assert page.shown == [("created", 0.0), (ARTIFACT, 25.0)]

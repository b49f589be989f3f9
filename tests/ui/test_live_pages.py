"""The live pages in a browser: a study as it runs, its buttons, and a log as it is written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.ui.browser import Browser
from tests.ui.site import NEEDS_BROWSER
from tests.unit.study.studies import complete, make_spec, open_study

from studyflow.live import LiveServer, Studies
from studyflow.runner_lock import RunnerLock
from studyflow.settings import Settings
from studyflow.storage import open_storage
from studyflow.study import Study

pytestmark = NEEDS_BROWSER

REPORT = "return document.getElementById('report').contentDocument.body.innerText"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.resolve(home=tmp_path, environment={})


@pytest.fixture
def study(settings: Settings) -> Iterator[Study]:
    """A study with a finished trial and a running one, driven by this process."""
    spec = make_spec(name="my study", budget={"n_trials": 4})
    study = open_study(spec, open_storage(settings.storage_url))
    for number in range(2):
        study.ask()
        study.begin_attempt(number, 1)
    study.tell(0, complete(0.5), {"loss": 0.5})
    lock = settings.runner_lock("my study")
    lock.parent.mkdir(parents=True)
    held = RunnerLock(lock)
    assert held.take()
    yield study
    held.close()


def test_a_study_is_watched_and_steered_as_it_runs(settings: Settings, study: Study) -> None:
    log = settings.study_folder("my study") / "trials" / "1" / "attempt-1" / "log.txt"
    log.parent.mkdir(parents=True)
    log.write_text("epoch 1\n")
    with LiveServer(Studies(settings)) as server, Browser() as browser:
        browser.open(server.way_in)
        browser.wait_for("1 of 4")
        assert browser.address == f"{server.address}/", "without the key"
        browser.picture("live-list")
        browser.click("//a[text()='my study']")
        browser.wait_for("trial 1")
        browser.wait(lambda: "Lowest loss: 0.5" in browser.script(REPORT), "the report")
        browser.picture("live-study")

        study.tell(1, complete(0.25), {"loss": 0.25})
        browser.wait_for("2 of 4 trials")
        browser.wait(lambda: "Lowest loss: 0.25" in browser.script(REPORT), "the report anew")

        browser.click("//button[text()='Pause']")
        browser.click("//button[text()='Resume']")
        browser.wait_for("Pause")

        browser.open(f"{server.address}/studies/my%20study/trials/1")
        browser.wait_for("epoch 1")
        browser.picture("live-trial")
        assert browser.complaints() == []


def test_a_log_grows_on_its_page(settings: Settings, study: Study) -> None:
    log = settings.study_folder("my study") / "trials" / "1" / "attempt-1" / "log.txt"
    log.parent.mkdir(parents=True)
    log.write_text("epoch 1\n")
    with LiveServer(Studies(settings)) as server, Browser() as browser:
        browser.open(server.way_in)
        browser.open(f"{server.address}/studies/my%20study/trials/1")
        browser.wait_for("epoch 1")
        with log.open("a") as file:
            file.write("epoch 2\n")
        browser.wait_for("epoch 2")
        assert browser.text.count("epoch 1") == 1
        study.tell(1, complete(0.25), {"loss": 0.25})
        browser.wait_for("The trial has ended.")


def test_a_page_says_when_its_server_is_gone(settings: Settings, study: Study) -> None:
    with Browser() as browser:
        with LiveServer(Studies(settings)) as server:
            browser.open(server.way_in)
            browser.wait_for("my study")
        browser.wait_for("studyflow ui does not answer")
        assert "my study" in browser.text

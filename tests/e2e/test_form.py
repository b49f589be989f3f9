"""The form of Prefect's page in a cluster: a study of pods is triggered there, and cancelled."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml
from tests.e2e.images import image
from tests.e2e.kubectl import until
from tests.e2e.stack import Stack, finishing_after, study
from tests.ui.browser import Browser, is_installed
from tests.ui.form import (
    ENDS,
    choose,
    confirm,
    field,
    log_in,
    open_form,
    submit,
    tab,
    wait_for_state,
)
from tests.ui.site import Site

pytestmark = pytest.mark.skipif(not is_installed(), reason="needs Chromium with chromedriver")

DEPLOYMENT = "run-study"


@pytest.fixture
def site(stack: Stack) -> Site:
    return stack.site


@pytest.fixture
def browser(site: Site) -> Iterator[Browser]:
    with Browser() as opened:
        log_in(opened, site)
        yield opened


def test_a_study_is_pasted_into_the_form_and_its_numbers_changed(
    stack: Stack,
    site: Site,
    browser: Browser,
) -> None:
    document = study("pasted", n_trials=9, parallel=1)
    open_form(browser, site, DEPLOYMENT)
    browser.click(tab("study", "text or path"))
    browser.write(field("study", "textarea"), yaml.safe_dump(document))
    browser.click(tab("n_trials", "int"))
    browser.write(field("n_trials"), "3")
    browser.picture("cluster-form")
    run_id = submit(browser, site, DEPLOYMENT)

    assert wait_for_state(site, run_id, *ENDS)["state"]["name"] == "Completed"
    browser.read(site.page(run_id), "3 Task runs")
    browser.picture("cluster-run")
    assert [trial.state.name for trial in stack.trials(document["name"])] == ["COMPLETE"] * 3


def test_a_run_that_is_cancelled_on_its_page_leaves_no_pod(
    stack: Stack,
    site: Site,
    browser: Browser,
) -> None:
    command = finishing_after(6.0)
    document = study(
        "given-up", n_trials=20, parallel=2, command=command, image=image("trial-base")
    )
    name = document["name"]
    run_id = stack.start(document)
    until(lambda: len(stack.trials(name)) > 2 if stack.runs(name) else None, 240, "a third trial")
    browser.read(site.page(run_id), "Open menu")
    choose(browser, "Cancel")
    confirm(browser, "Cancel Flow Run")

    until(lambda: not stack.pods(name), 120, "no pod left")
    assert wait_for_state(site, run_id, *ENDS)["state"]["name"] == "Cancelled"
    browser.read(site.page(run_id), "Cancelled")
    browser.picture("cluster-cancelled")
    states = {trial.state.name for trial in stack.trials(name)}
    assert states == {"COMPLETE", "FAIL"}, "what was finished is kept"

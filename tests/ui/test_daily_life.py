"""The daily life of a study on Prefect's page: form, run, links, cancel, pause, schedule.

Prefect, MLflow and the served deployments are the commands that a person types. What a person does
with a run is done by the requests that the page sends, and in the long form by clicks in a browser;
pictures of the pages are kept.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from tests.docs.pages import ROOT, commands
from tests.ui.browser import Browser, until
from tests.ui.form import ENDS, RUN_SECONDS, field, open_form, submit, tab, wait_for_state
from tests.ui.person import Clicks, Person, Requests
from tests.ui.site import NEEDS_BROWSER, Site, in_browser, opened_site, serving, started

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TRIAL_SECONDS = 4
"""Long enough to interfere: a study's trials take longer than Prefect does to tell its run."""

STUDY = """
name: {name}
objectives: [{{metric: loss, direction: minimize}}]
search_space: {{x: {{type: float, low: -2, high: 2}}}}
sampler: {{type: random, seed: 1}}
budget: {{n_trials: 8, max_parallel_trials: 2}}
trial: {{command: [python, train.py, "{seconds}"]}}
"""

TRAIN = """
import sys, time
from studyflow import sdk
trial = sdk.current_trial()
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    time.sleep(0.05)
sdk.finish(loss=trial.params["x"] ** 2)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Prefect and MLflow by `studyflow ui`, over a folder with two studies."""
    folder = tmp_path_factory.mktemp("site").resolve()
    (folder / "train.py").write_text(TRAIN)
    (folder / "studies").mkdir()
    for name, seconds in (("quick", 0.1), ("long", TRIAL_SECONDS)):
        (folder / f"{name}.yaml").write_text(STUDY.format(name=name, seconds=seconds))
    (folder / "studies" / "listed.yaml").write_text(STUDY.format(name="listed", seconds=0.1))
    (folder / "studies" / "train.py").write_text(TRAIN)
    with opened_site(folder) as opened:
        yield opened


@pytest.fixture(scope="module")
def quick(site: Site) -> Iterator[None]:
    """A served deployment of a study whose trials take no time."""
    with started(site.folder, "deploy", "quick.yaml", "--serve", until_line="serving it"):
        yield


@pytest.fixture(scope="module")
def long(site: Site) -> Iterator[None]:
    """A served deployment of a study whose trials take long enough to interfere."""
    flags = ["--serve", "--each-run", "fresh"]
    with started(site.folder, "deploy", "long.yaml", *flags, until_line="serving it"):
        yield


@pytest.fixture
def browser() -> Iterator[Browser]:
    with Browser() as opened:
        yield opened


@pytest.fixture(
    params=["requests", pytest.param("clicks", marks=[pytest.mark.long, *NEEDS_BROWSER])]
)
def person(request: pytest.FixtureRequest, site: Site) -> Person:
    if request.param == "requests":
        return Requests(site)
    request.node.user_properties.append(("did", "clicks in Chromium"))
    return Clicks(request.getfixturevalue("browser"), site)


@in_browser
@pytest.mark.usefixtures("quick")
def test_a_study_is_run_from_the_form_and_its_page_leads_to_its_trials_in_mlflow(
    browser: Browser, site: Site
) -> None:
    open_form(browser, site, "quick")
    browser.click(tab("n_trials", "int"))
    browser.write(field("n_trials"), "3")
    browser.picture("form")
    run_id = submit(browser, site, "quick")

    browser.read(site.page(run_id), "trial 0 started", RUN_SECONDS)
    browser.picture("running")
    assert wait_for_state(site, run_id, *ENDS)["state"]["name"] == "Completed"
    assert site.status("quick")["n_finished"] == 3

    browser.read(site.page(run_id), "trial 2 loss=")
    browser.wait_for("the report in MLflow")
    browser.picture("run")
    study, report = browser.links(site.mlflow)
    browser.read(site.page(run_id, "Artifacts"), "quick-mlflow")
    browser.wait_for("quick-report")
    browser.picture("artifacts")
    browser.read(study, "Child runs")
    for number in range(3):
        browser.wait_for(f"trial-000{number}")
    browser.picture("mlflow-study")
    browser.read(report, "report.html")
    browser.picture("mlflow-report")


@in_browser
@pytest.mark.usefixtures("quick")
def test_the_form_offers_the_study_files_and_the_samplers_of_the_folder_that_serves(
    browser: Browser, site: Site
) -> None:
    open_form(browser, site, "quick")
    browser.click(tab("study", "file"))
    browser.click(field("study", "button[@aria-haspopup='listbox']"))
    browser.click("//*[@role='option'][contains(., 'studies/listed.yaml')]")
    browser.click(tab("sampler", "str"))
    browser.click(field("sampler", "button[@aria-haspopup='listbox']"))
    browser.click("//*[@role='option'][contains(., 'qmc')]")
    browser.click(tab("n_trials", "int"))
    browser.write(field("n_trials"), "2")
    browser.picture("form-choices")
    run_id = submit(browser, site, "quick")

    run = wait_for_state(site, run_id, *ENDS)
    assert (run["name"], run["state"]["name"]) == ("listed", "Completed")
    assert run["parameters"]["study"] == "studies/listed.yaml"
    assert run["parameters"]["sampler"] == "qmc"


@in_browser
@pytest.mark.usefixtures("quick")
def test_a_pasted_study_with_mistakes_ends_at_once_with_all_of_them(
    browser: Browser, site: Site
) -> None:
    open_form(browser, site, "quick")
    mistakes = "name: pasted\nobjectives: []\nbudget: {n_trials: 0}\n"
    browser.write(field("study", "textarea"), mistakes)
    run_id = submit(browser, site, "quick")

    state = wait_for_state(site, run_id, *ENDS)["state"]
    assert state["name"] == "Failed"
    assert "search_space" in state["message"]
    assert "budget.n_trials" in state["message"]
    browser.read(site.page(run_id, "Details"), "search_space")
    browser.picture("pasted-with-mistakes")


@in_browser
@pytest.mark.usefixtures("quick")
def test_a_number_that_no_study_takes_does_not_leave_the_form(browser: Browser, site: Site) -> None:
    open_form(browser, site, "quick")
    browser.click(tab("n_trials", "int"))
    browser.write(field("n_trials"), "0")
    browser.click("//button[.='Submit']")
    problems = (
        "return [...document.querySelectorAll('input:invalid')].map(e => e.validationMessage)"
    )
    told = browser.wait(lambda: browser.script(problems), "a message of the form")
    assert any("greater than or equal to 1" in message for message in told)
    browser.picture("form-refuses")


@pytest.mark.usefixtures("long")
def test_a_cancelled_run_leaves_no_process_and_keeps_what_is_finished(
    person: Person, site: Site
) -> None:
    run_id = person.start("long", n_trials=20)
    person.see(run_id, "trial 2 started")
    assert site.trials()
    person.cancel(run_id)

    run = wait_for_state(site, run_id, *ENDS)
    assert run["state"]["name"] == "Cancelled"
    until(lambda: not site.trials(), "the trials to end")
    status = site.status(run["name"])
    assert status["n_running"] == 0
    assert 2 <= status["n_finished"] < 20, "those that ended before, and no more"
    person.see(run_id, "Cancelled")
    person.picture("cancelled")


@pytest.mark.usefixtures("long")
def test_a_run_that_is_paused_on_its_page_finishes_its_trials_and_goes_on_when_resumed(
    person: Person, site: Site
) -> None:
    run_id = person.start("long", n_trials=12)
    person.see(run_id, "trial 1 started")
    person.pause(run_id)
    leaves = "Paused: this runner leaves when its running trials have finished."
    until(lambda: leaves in site.log(run_id), "the run to hear of it")
    name = site.run(run_id)["name"]
    until(lambda: not site.trials(), "the running trials to finish")
    until(lambda: site.status(name)["n_running"] == 0, "their results to be recorded")
    paused = site.status(name)
    assert paused["n_finished"] < 12  # Prefect tells the run within ten seconds
    assert (paused["n_running"], paused["problems"]) == (0, {})
    assert site.run(run_id)["state"]["name"] == "Suspended"

    # The page of a paused run does not bring itself up to date.
    person.see(run_id, "Suspended")
    person.see(run_id, leaves)
    person.picture("paused")
    person.resume(run_id)
    run = wait_for_state(site, run_id, *ENDS)
    assert (run["name"], run["state"]["name"]) == (name, "Completed")
    status = site.status(name)
    assert (status["n_finished"], status["problems"]) == (12, {})
    person.picture("resumed")


@pytest.mark.usefixtures("long")
def test_a_study_that_is_paused_by_command_says_so_on_its_runs_page(
    person: Person, site: Site
) -> None:
    run_id = person.start("long", n_trials=6)
    person.see(run_id, "trial 1 started")
    name = site.run(run_id)["name"]
    site.studyflow("pause", name)
    wait_for_state(site, run_id, "Study Paused")
    until(lambda: not site.trials(), "the running trials to finish")
    person.see(run_id, "Study Paused")
    person.picture("study-paused")
    assert site.status(name)["is_paused"]

    site.studyflow("resume", name)
    run = wait_for_state(site, run_id, *ENDS)
    assert run["state"]["name"] == "Completed"
    assert site.status(name)["n_finished"] == 6


@pytest.mark.parametrize(
    ("flow", "parameters"),
    [
        ("compare_samplers", {"samplers": ["random", "qmc"], "seeds": 1, "n_trials": 6}),
        pytest.param(
            *("retrain_best", {"top": 1, "repeats": 8, "register_model": False}),
            marks=pytest.mark.long,  # in short in tests/flows/test_retrain_best.py
        ),
    ],
    ids=["compare", "retrain"],
)
def test_what_follows_a_study_is_paused_and_resumed_on_its_page(
    person: Person, site: Site, flow: str, parameters: dict[str, Any]
) -> None:
    name = flow.replace("_", "-")
    file = site.folder / f"{flow}.yaml"
    file.write_text(STUDY.format(name=name, seconds=TRIAL_SECONDS) + "fixed: {seed: 0}\n")
    if flow == "retrain_best":
        site.studyflow("run", file.name, "--n-trials", "2")
    with serving(site, flow, {"study": str(file), **parameters}):
        deployment = site.deployment(name, name)
        run_id = site.ask(f"/deployments/{deployment}/create_flow_run", {})["id"]
        person.see(run_id, "trial 1")
        person.pause(run_id)
        until(lambda: "Paused" in site.log(run_id), "the run to hear of it")
        until(lambda: not site.trials(), "the running trials to finish")
        person.see(run_id, "Suspended")
        person.picture(f"{name}-paused")
        person.resume(run_id)
        assert wait_for_state(site, run_id, *ENDS)["state"]["name"] == "Completed"


def test_a_study_is_scheduled_by_the_command_of_the_page(site: Site) -> None:
    (site.folder / "study.yaml").write_text(STUDY.format(name="nightly", seconds=0.1))
    [command] = [c for c in commands(ROOT / "docs/schedules.md") if "--serve" in c]
    with started(site.folder, *shlex.split(command)[1:], until_line="serving it"):
        [schedule] = site.ask("/deployments/name/run-study/nightly")["schedules"]
        assert schedule["active"]
        assert schedule["schedule"]["cron"] == "0 3 * * *"
        assert schedule["schedule"]["timezone"] == "Europe/Berlin"


def test_a_schedule_starts_a_study_and_adds_trials_in_each_run(person: Person, site: Site) -> None:
    flags = ["--serve", "--name", "scheduled", "--interval", "10s", "--n-trials", "1"]
    with started(site.folder, "deploy", "studies/listed.yaml", *flags, until_line="serving it"):
        deployment = site.deployment("scheduled")

        def completed() -> list[Any]:
            query = {
                "deployments": {"id": {"any_": [deployment]}},
                "flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}},
            }
            found = site.ask("/flow_runs/filter", query)
            return found if len(found) >= 2 else []

        runs = until(completed, "two scheduled runs", RUN_SECONDS)
        assert all("auto-scheduled" in run["tags"] for run in runs)
        person.see_runs(deployment, "auto-scheduled")
        person.picture("scheduled")
    assert site.ask(f"/deployments/{deployment}")["paused"], "nobody would start its runs"

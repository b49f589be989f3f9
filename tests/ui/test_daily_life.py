"""The daily life of a study, in a browser: form, run, links, cancel, pause and resume, schedule.

Run by `make test-ui`, left out by `make test`: it needs Chromium and takes minutes. Prefect, MLflow
and the served deployments are the commands that a person types. Pictures of the pages are kept.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.ui.browser import Browser, free_port, is_installed, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        os.environ.get("STUDYFLOW_BROWSER_TESTS") != "1" or not is_installed(),
        reason="needs Chromium with chromedriver, and minutes: make test-ui",
    ),
]

START_SECONDS = 180.0
RUN_SECONDS = 180.0
"""Longest time for a run: the runner looks every 10 seconds, and the machine may be busy."""

ENDS = ("Completed", "Failed", "Cancelled", "Crashed")
"""States that a run does not leave."""

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


@dataclass(frozen=True)
class Site:
    """The servers of the tests, and the folder that the studies are served from."""

    folder: Path
    prefect: str
    mlflow: str

    def ask(self, path: str, body: Any = None) -> Any:
        """Return what Prefect's API answers."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.prefect}/api{path}", data, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def run(self, run_id: str) -> Any:
        """Return a flow run as Prefect has it."""
        return self.ask(f"/flow_runs/{run_id}")

    def log(self, run_id: str) -> str:
        """Return a flow run's log as Prefect has it."""
        query = {"logs": {"flow_run_id": {"any_": [run_id]}}}
        return "\n".join(record["message"] for record in self.ask("/logs/filter", query))

    def page(self, run_id: str, tab: str = "Logs") -> str:
        """Return the address of a flow run's page."""
        return f"{self.prefect}/v2/runs/flow-run/{run_id}?tab={tab}"

    def deployment(self, name: str) -> str:
        """Return the id of a deployment."""
        return str(self.ask(f"/deployments/name/run-study/{name}")["id"])

    def trials(self) -> list[psutil.Process]:
        """Return the processes that run a trial, and those that watch one."""
        script = str(self.folder / "train.py")
        return [p for p in psutil.process_iter() if script in _command_line(p)]

    def status(self, study: str) -> Any:
        """Return what `studyflow status` says."""
        return json.loads(self.studyflow("status", study, "--json"))[0]

    def studyflow(self, *arguments: str) -> str:
        """Run a command in the folder of the studies; return what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "studyflow", *arguments],
            cwd=self.folder,
            env=_environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        return done.stdout


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _environment() -> dict[str, str]:
    """Return an environment without places of its own, in which only the folder decides."""
    places = ("PREFECT_", "MLFLOW_", "STUDYFLOW_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(places)}
    return {**kept, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}


@contextmanager
def started(folder: Path, *arguments: str, until_line: str) -> Iterator[None]:
    """Run a command in the background, from the line that says it is ready to Ctrl-C."""
    log = folder / f"{arguments[0]}-{free_port()}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "studyflow", *arguments],
            cwd=folder,
            env=_environment(),
            stdout=output,
            stderr=output,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
    try:
        until(
            lambda: until_line in log.read_text() or process.poll() is not None,
            f"{until_line!r} of studyflow {' '.join(arguments)}",
            START_SECONDS,
        )
        assert process.poll() is None, log.read_text()
        yield
    finally:
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=60)
        finally:
            for left in psutil.wait_procs(children, timeout=30)[1]:
                left.kill()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Prefect and MLflow by `studyflow ui`, over a folder with two studies."""
    folder = tmp_path_factory.mktemp("site").resolve()
    (folder / "train.py").write_text(TRAIN)
    (folder / "studies").mkdir()
    for name, seconds in (("quick", 0.1), ("long", 8)):
        (folder / f"{name}.yaml").write_text(STUDY.format(name=name, seconds=seconds))
    (folder / "studies" / "listed.yaml").write_text(STUDY.format(name="listed", seconds=0.1))
    (folder / "studies" / "train.py").write_text(TRAIN)
    ports = free_port(), free_port()
    addresses = [f"http://127.0.0.1:{port}" for port in ports]
    flags = ["--prefect-port", str(ports[0]), "--mlflow-port", str(ports[1])]
    with started(folder, "ui", *flags, until_line="Ctrl-C ends both"):
        yield Site(folder, *addresses)


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


def open_form(browser: Browser, site: Site, deployment: str) -> None:
    """Go to a deployment's form the way a person does."""
    browser.open(f"{site.prefect}/v2/deployments")
    browser.click(f"//a[.='{deployment}']")
    browser.click("//button[normalize-space(.)='Run']")
    browser.click("//*[@role='menuitem'][contains(., 'Custom run')]")
    browser.wait_for("max_parallel_trials")


def field(name: str, kind: str = "input[@type='number']") -> str:
    """Return the field of a parameter."""
    return f"//label[starts-with(normalize-space(.), '{name}')]/following::{kind}[1]"


def tab(name: str, label: str) -> str:
    """Return the button that says of which kind a parameter's value is."""
    button = f"button[@role='tab'][.='{label}'][1]"
    return f"//label[starts-with(normalize-space(.), '{name}')]/following::{button}"


def submit(browser: Browser, site: Site, deployment: str) -> str:
    """Send the form off; return the flow run's id."""
    deployment_id = site.deployment(deployment)

    def runs() -> set[str]:
        of_deployment = {"deployments": {"id": {"any_": [deployment_id]}}}
        return {run["id"] for run in site.ask("/flow_runs/filter", of_deployment)}

    before = runs()
    form = browser.address
    for _ in range(3):  # a busy server refuses now and then: a person presses again
        browser.click("//button[.='Submit']")
        try:
            until(lambda: browser.address != form, "the form to close", 15)
            break
        except TimeoutError:
            continue
    (new,) = browser.wait(lambda: runs() - before, "a new flow run")
    return str(new)


def choose(browser: Browser, action: str) -> None:
    """Choose from the menu of a run's page."""
    browser.click("//button[.='Open menu']")
    browser.click(f"//*[@role='menuitem'][.='{action}']")


def confirm(browser: Browser, label: str) -> None:
    """Press a button of the dialog."""
    dialog = "//*[@role='alertdialog' or @role='dialog']"
    browser.click(f"{dialog}//button[normalize-space(.)='{label}']")


def wait_for_state(site: Site, run_id: str, *names: str) -> Any:
    """Return a run once it is in one of these states."""

    def is_there() -> Any:
        run = site.run(run_id)
        return run if run["state"]["name"] in names else None

    return until(is_there, f"a run in state {names}", RUN_SECONDS)


@pytest.mark.usefixtures("quick")
def test_a_study_is_run_from_the_form_and_its_page_leads_to_its_trials_in_mlflow(
    browser: Browser, site: Site
) -> None:
    open_form(browser, site, "quick")
    browser.click(tab("n_trials", "int"))
    browser.write(field("n_trials"), "3")
    browser.picture("form")
    run_id = submit(browser, site, "quick")

    browser.open(site.page(run_id))
    browser.wait_for("trial 0 started", RUN_SECONDS)
    browser.picture("running")
    assert wait_for_state(site, run_id, *ENDS)["state"]["name"] == "Completed"
    assert site.status("quick")["n_finished"] == 3

    browser.open(site.page(run_id))
    browser.wait_for("trial 2 loss=")
    browser.wait_for("the report in MLflow")
    browser.picture("run")
    study, report = browser.links(site.mlflow)
    browser.open(site.page(run_id, "Artifacts"))
    browser.wait_for("quick-mlflow")
    browser.wait_for("quick-report")
    browser.picture("artifacts")
    browser.open(study)
    browser.wait_for("Child runs")
    for number in range(3):
        browser.wait_for(f"trial-000{number}")
    browser.picture("mlflow-study")
    browser.open(report)
    browser.wait_for("report.html")
    browser.picture("mlflow-report")


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
    browser.open(site.page(run_id, "Details"))
    browser.wait_for("search_space")
    browser.picture("pasted-with-mistakes")


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
    browser: Browser, site: Site
) -> None:
    open_form(browser, site, "long")
    run_id = submit(browser, site, "long")
    browser.open(site.page(run_id))
    browser.wait_for("trial 2 started", RUN_SECONDS)
    assert site.trials()
    choose(browser, "Cancel")
    browser.picture("cancel")
    confirm(browser, "Cancel Flow Run")

    run = wait_for_state(site, run_id, *ENDS)
    assert run["state"]["name"] == "Cancelled"
    until(lambda: not site.trials(), "the trials to end")
    status = site.status(run["name"])
    assert status["n_running"] == 0
    assert 2 <= status["n_finished"] < 8, "those that ended before, and no more"
    browser.wait_for("Cancelled")
    browser.picture("cancelled")


@pytest.mark.usefixtures("long")
def test_a_run_that_is_paused_on_its_page_finishes_its_trials_and_goes_on_when_resumed(
    browser: Browser, site: Site
) -> None:
    open_form(browser, site, "long")
    run_id = submit(browser, site, "long")
    browser.open(site.page(run_id))
    browser.wait_for("trial 1 started", RUN_SECONDS)
    choose(browser, "Pause")
    confirm(browser, "Pause Flow Run")
    browser.wait_for("Suspended")
    leaves = "Paused: this runner leaves when its running trials have finished."
    until(lambda: leaves in site.log(run_id), "the run to hear of it")
    name = site.run(run_id)["name"]
    until(lambda: site.status(name)["n_running"] == 0, "the running trials to finish")
    paused = site.status(name)
    assert paused["n_finished"] < 8  # Prefect tells the run within ten seconds
    assert (paused["n_running"], paused["problems"]) == (0, {})
    assert not site.trials()
    assert site.run(run_id)["state"]["name"] == "Suspended"

    browser.open(site.page(run_id))  # the page of a paused run does not bring itself up to date
    browser.wait_for("Suspended")
    browser.wait_for(leaves)
    browser.picture("paused")
    choose(browser, "Resume")
    confirm(browser, "Resume")
    run = wait_for_state(site, run_id, *ENDS)
    assert (run["name"], run["state"]["name"]) == (name, "Completed")
    status = site.status(name)
    assert (status["n_finished"], status["problems"]) == (8, {})
    browser.picture("resumed")


@pytest.mark.usefixtures("long")
def test_a_study_that_is_paused_by_command_says_so_on_its_runs_page(
    browser: Browser, site: Site
) -> None:
    open_form(browser, site, "long")
    browser.click(tab("n_trials", "int"))
    browser.write(field("n_trials"), "4")
    run_id = submit(browser, site, "long")
    browser.open(site.page(run_id))
    browser.wait_for("trial 1 started", RUN_SECONDS)
    name = site.run(run_id)["name"]
    site.studyflow("pause", name)
    wait_for_state(site, run_id, "Study Paused")
    until(lambda: not site.trials(), "the running trials to finish")
    browser.wait_for("Study Paused")
    browser.picture("study-paused")
    assert site.status(name)["is_paused"]

    site.studyflow("resume", name)
    run = wait_for_state(site, run_id, *ENDS)
    assert run["state"]["name"] == "Completed"
    assert site.status(name)["n_finished"] == 4


def test_a_schedule_starts_a_study_and_adds_trials_in_each_run(
    browser: Browser, site: Site
) -> None:
    flags = ["--serve", "--name", "scheduled", "--interval", "20s", "--n-trials", "1"]
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
        browser.open(f"{site.prefect}/v2/deployments/deployment/{deployment}?tab=Runs")
        browser.wait_for("auto-scheduled")
        browser.picture("scheduled")
    assert site.ask(f"/deployments/{deployment}")["paused"], "nobody would start its runs"

"""What a person does on Prefect's page: fill in a deployment's form, and act on a run."""

from __future__ import annotations

from typing import Any

from tests.ui.browser import Browser, until
from tests.ui.site import Site

RUN_SECONDS = 180.0
"""Longest time for a run: the runner looks every 10 seconds, and the machine may be busy."""

ENDS = ("Completed", "Failed", "Cancelled", "Crashed")
"""States that a run does not leave."""


def log_in(browser: Browser, site: Site) -> None:
    """Tell Prefect's page who one is."""
    browser.read(f"{site.prefect}/v2/deployments", "Login")
    browser.write("//input[@placeholder='admin:pass']", site.login)
    browser.click("//button[.='Login']")
    browser.wait_for("Deployments")


def open_form(browser: Browser, site: Site, deployment: str) -> None:
    """Go to a deployment's form the way a person does."""
    browser.read(f"{site.prefect}/v2/deployments", deployment)
    # A flow of the same name has a link there too.
    browser.click(f"//a[.='{deployment}'][contains(@href, '/deployments/deployment/')]")
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

    try:
        return until(is_there, f"a run in state {names}", RUN_SECONDS)
    except TimeoutError as error:
        state = site.run(run_id)["state"]
        told = f"{error}; it is {state['name']}: {state['message']}. Its log:\n{site.log(run_id)}"
        raise TimeoutError(told) from None

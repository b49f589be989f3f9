"""A person at Prefect's page: by clicks in a browser, or by the requests that the page sends.

The requests show the same of studyflow in a fraction of the time. The clicks add that the page
sends them, and shows what comes of them.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from tests.ui.browser import Browser, until
from tests.ui.form import RUN_SECONDS, choose, confirm, field, open_form, submit, tab
from tests.ui.site import Site


class Person(Protocol):
    """What a person does with runs, and sees of them."""

    def start(self, deployment: str, n_trials: int | None = None) -> str:
        """Start a run from a deployment's form; return its id."""

    def cancel(self, run_id: str) -> None:
        """Cancel a run."""

    def pause(self, run_id: str) -> None:
        """Pause a run."""

    def resume(self, run_id: str) -> None:
        """Resume a run that is paused."""

    def see(self, run_id: str, text: str) -> None:
        """Wait until the run's page shows a text: one of its log, or the name of its state."""

    def see_runs(self, deployment_id: str, text: str) -> None:
        """Wait until the page of a deployment's runs shows a text."""

    def picture(self, name: str) -> None:
        """Keep a picture of the page."""


class Requests:
    """Sends what the page sends.

    Args:
        site: The servers.
    """

    def __init__(self, site: Site) -> None:
        self._site = site

    def start(self, deployment: str, n_trials: int | None = None) -> str:
        parameters = {} if n_trials is None else {"n_trials": n_trials}
        deployment_id = self._site.deployment(deployment)
        asked = {"state": {"type": "SCHEDULED"}, "parameters": parameters}
        return str(self._site.ask(f"/deployments/{deployment_id}/create_flow_run", asked)["id"])

    def cancel(self, run_id: str) -> None:
        self._set_state(run_id, {"type": "CANCELLING", "name": "Cancelling"})

    def pause(self, run_id: str) -> None:
        ends = datetime.now(UTC) + timedelta(seconds=300)
        details = {"pause_timeout": ends.isoformat(), "pause_reschedule": True}
        self._set_state(run_id, {"type": "PAUSED", "name": "Suspended", "state_details": details})

    def resume(self, run_id: str) -> None:
        assert self._site.ask(f"/flow_runs/{run_id}/resume", {})["status"] == "ACCEPT"

    def see(self, run_id: str, text: str) -> None:
        def is_there() -> bool:
            state = self._site.run(run_id)["state"]["name"]
            return text == state or text in self._site.log(run_id)

        until(is_there, repr(text), RUN_SECONDS)

    def see_runs(self, deployment_id: str, text: str) -> None:
        runs = {"deployments": {"id": {"any_": [deployment_id]}}}
        until(lambda: text in str(self._site.ask("/flow_runs/filter", runs)), repr(text))

    def picture(self, name: str) -> None:
        """Keep nothing: there is no page."""

    def _set_state(self, run_id: str, state: dict[str, Any]) -> None:
        answer = self._site.ask(f"/flow_runs/{run_id}/set_state", {"state": state, "force": True})
        assert answer["status"] == "ACCEPT"


class Clicks:
    """Clicks on the page.

    Args:
        browser: Where the page is shown.
        site: The servers.
    """

    def __init__(self, browser: Browser, site: Site) -> None:
        self._browser = browser
        self._site = site

    def start(self, deployment: str, n_trials: int | None = None) -> str:
        open_form(self._browser, self._site, deployment)
        if n_trials is not None:
            self._browser.click(tab("n_trials", "int"))
            self._browser.write(field("n_trials"), str(n_trials))
        return submit(self._browser, self._site, deployment)

    def cancel(self, run_id: str) -> None:
        self._act(run_id, "Cancel", "Cancel Flow Run")
        self.picture("cancel")

    def pause(self, run_id: str) -> None:
        self._act(run_id, "Pause", "Pause Flow Run")
        self._browser.wait_for("Suspended")

    def resume(self, run_id: str) -> None:
        for _ in range(3):  # a busy server refuses now and then: a person presses again
            self._act(run_id, "Resume", "Resume")
            try:
                until(
                    lambda: self._site.run(run_id)["state"]["type"] != "PAUSED", "a new state", 15
                )
            except TimeoutError:
                self.picture("still-paused")
            else:
                return
        raise TimeoutError(f"three clicks do not resume the run:\n{self._browser.text[:3000]}")

    def see(self, run_id: str, text: str) -> None:
        self._browser.read(self._site.page(run_id), text, RUN_SECONDS)

    def see_runs(self, deployment_id: str, text: str) -> None:
        page = f"{self._site.prefect}/v2/deployments/deployment/{deployment_id}?tab=Runs"
        self._browser.read(page, text)

    def picture(self, name: str) -> None:
        self._browser.picture(name)

    def _act(self, run_id: str, action: str, label: str) -> None:
        self._browser.read(self._site.page(run_id), "Open menu")
        choose(self._browser, action)
        confirm(self._browser, label)

"""Flow runs of a Prefect server elsewhere, by plain HTTP: started, looked at and followed.

Prefect need not be installed here. A run's page has everything that is read: its state, the lines
of its log, the progress of its study, and the trials that run.
"""

from __future__ import annotations

import json
import urllib.error
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

from studyflow.errors import PrefectError, PrefectUnavailable
from studyflow.servers.prefect import ask
from studyflow.storage import redacted

ANSWER_SECONDS: Final = 15.0
"""How long a request may take."""

LINES_AT_ONCE: Final = 200
"""Most lines of a log that Prefect's server gives at once."""

LATE_LINES: Final = timedelta(seconds=30)
"""Lines arrive in batches: for so long after a line, an older one may still come."""

_NOT_BEGUN: Final = frozenset({"SCHEDULED", "PENDING"})
_ENDED: Final = frozenset({"COMPLETED", "FAILED", "CANCELLED", "CRASHED"})
_FLOW: Final = "run-study"


@dataclass(frozen=True, slots=True)
class RemoteRun:
    """A flow run as its server has it."""

    id: str
    name: str
    """The study's name once it has begun."""
    kind: str
    """Prefect's type of its state, such as `RUNNING`."""
    state: str
    """Prefect's name of its state, such as `Late` or `Study Paused`."""
    message: str = ""

    @property
    def is_waiting(self) -> bool:
        """Whether nothing of it has begun."""
        return self.kind in _NOT_BEGUN

    @property
    def is_ended(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self.kind in _ENDED


@dataclass(frozen=True, slots=True)
class RemoteProgress:
    """The progress of a run's study, as its page shows it."""

    percent: float
    description: str


def as_run(document: Mapping[str, Any]) -> RemoteRun:
    """Return a flow run from the server's JSON."""
    state = document.get("state") or {}
    return RemoteRun(
        id=str(document["id"]),
        name=str(document.get("name") or ""),
        kind=str(state.get("type") or document.get("state_type") or ""),
        state=str(state.get("name") or document.get("state_name") or ""),
        message=str(state.get("message") or ""),
    )


class RemoteServer:
    """A Prefect server.

    Args:
        api: Address of its API.
        ui: Address of its pages; by default the API's without `/api`.
    """

    def __init__(self, api: str, ui: str | None = None) -> None:
        self._api = api.rstrip("/")
        self._ui = (ui or self._api.removesuffix("/api")).rstrip("/")

    def page_of(self, run: RemoteRun) -> str:
        """Return the address of a run's page."""
        return f"{self._ui}/runs/flow-run/{run.id}"

    def submit(
        self, deployment: str, parameters: Mapping[str, Any], tags: Sequence[str] = ()
    ) -> RemoteRun:
        """Start a run of a deployment; its worker takes it up.

        Args:
            deployment: Name of the deployment, with its flow's name if that is not `run-study`.
            parameters: Of the flow; those of the deployment hold beside them.
            tags: Tags of the run, beside the deployment's.

        Raises:
            PrefectUnavailable: The server does not answer.
            PrefectError: It has no such deployment, or refuses the parameters.
        """
        name = deployment if "/" in deployment else f"{_FLOW}/{deployment}"
        try:
            found = self._ask(f"deployments/name/{quote(name)}")
        except PrefectError as error:
            if not isinstance(error.__cause__, urllib.error.HTTPError):
                raise
            raise PrefectError(
                f"Prefect's server {redacted(self._api)} has no deployment {name!r}.",
                hint="on a cluster `make deploy` makes run-study/run-study; name another one by "
                "--deployment, or make one by `studyflow deploy`.",
            ) from error
        body = {
            "parameters": dict(parameters),
            "state": {"type": "SCHEDULED"},
            "tags": list(tags),
        }
        return as_run(self._ask(f"deployments/{found['id']}/create_flow_run", body))

    def read(self, run_id: str) -> RemoteRun:
        """Return a run as it is now.

        Raises:
            PrefectUnavailable: The server does not answer.
            PrefectError: It has no such run.
        """
        return as_run(self._ask(f"flow_runs/{run_id}"))

    def lines(self, run_id: str, after: datetime | None) -> Iterator[tuple[str, datetime, str]]:
        """Yield lines of a run's own log, without those of its tasks: id, time and text.

        Args:
            run_id: Id of the run.
            after: Time of the newest line that is known; `None` for all lines.

        Raises:
            PrefectUnavailable: The server does not answer.
        """
        wanted: dict[str, Any] = {"flow_run_id": {"any_": [run_id]}}
        if after is not None:
            wanted["timestamp"] = {"after_": (after - LATE_LINES).isoformat()}
        offset = 0
        while True:
            body = {
                "logs": wanted,
                "sort": "TIMESTAMP_ASC",
                "limit": LINES_AT_ONCE,
                "offset": offset,
            }
            found = self._ask("logs/filter", body)
            for line in found:
                if line.get("task_run_id") is None:
                    at = datetime.fromisoformat(line["timestamp"])
                    yield str(line["id"]), at, str(line["message"])
            if len(found) < LINES_AT_ONCE:
                return
            offset += len(found)

    def progress(self, run_id: str) -> RemoteProgress | None:
        """Return the progress of a run's study; `None` before its page shows any.

        Raises:
            PrefectUnavailable: The server does not answer.
        """
        for artifact in self._artifacts(run_id, "progress"):
            return RemoteProgress(
                float(artifact.get("data") or 0.0), str(artifact.get("description") or "")
            )
        return None

    def running_trials(self, run_id: str) -> tuple[str, ...]:
        """Return the names of the trials that run, where they are task runs.

        Raises:
            PrefectUnavailable: The server does not answer.
        """
        body = {
            "flow_runs": {"id": {"any_": [run_id]}},
            "task_runs": {"state": {"type": {"any_": ["RUNNING"]}}},
            "sort": "NAME_ASC",
        }
        return tuple(str(task["name"]) for task in self._ask("task_runs/filter", body))

    def links(self, run_id: str) -> tuple[str, ...]:
        """Return the links that a run has left on its page, as Markdown.

        Raises:
            PrefectUnavailable: The server does not answer.
        """
        found = [str(a.get("data") or "") for a in self._artifacts(run_id, "markdown")]
        return tuple(text for text in found if text.startswith("[") and "\n" not in text)

    def _artifacts(self, run_id: str, kind: str) -> list[dict[str, Any]]:
        wanted = {"flow_run_id": {"any_": [run_id]}, "type": {"any_": [kind]}}
        body = {"artifacts": wanted, "sort": "UPDATED_DESC"}
        found: list[dict[str, Any]] = self._ask("artifacts/filter", body)
        return found

    def _ask(self, path: str, body: Any = None) -> Any:
        try:
            return json.loads(ask(self._api, path, body, timeout=ANSWER_SECONDS))
        except urllib.error.HTTPError as error:
            if error.code >= 500 or error.code == 429:
                raise self._away(f"{error.code} {error.reason}") from error
            raise PrefectError(
                f"Prefect's server {redacted(self._api)} refuses {path.partition('/')[0]}: "
                f"{error.code} {error.reason}: {_detail(error)}",
                hint="PREFECT_API_AUTH_STRING or PREFECT_API_KEY says who you are."
                if error.code in (401, 403)
                else None,
            ) from error
        except (OSError, ValueError) as error:
            raise self._away(str(error)) from error

    def _away(self, why: str) -> PrefectUnavailable:
        return PrefectUnavailable(
            f"Prefect's server {redacted(self._api)} does not answer: {why}.",
            hint="is it running, and PREFECT_API_URL right? For a cluster: kubectl -n studyflow "
            "port-forward svc/prefect 4200",
        )


def _detail(error: urllib.error.HTTPError) -> str:
    """Return what the server says of a request that it refuses, cut to a sentence's length."""
    try:
        found = json.loads(error.read())
        text = str(found.get("detail") or found.get("exception_detail") or found)
    except (OSError, ValueError, AttributeError):
        text = ""
    return text[:500]

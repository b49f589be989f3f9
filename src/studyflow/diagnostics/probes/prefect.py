"""Asks Prefect's server about a study's flow runs, by plain HTTP: Prefect need not be installed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from studyflow.diagnostics.probes.answers import why_no_answer
from studyflow.diagnostics.snapshot import FlowRun
from studyflow.reasons import Code, Reason
from studyflow.servers.prefect import ask
from studyflow.spec import find_problems
from studyflow.storage import redacted

FLOW_NAME: Final = "run-study"
"""The flow of `flows/run_study.py`."""

_NOT_BEGUN: Final = ("SCHEDULED", "PENDING")
"""Types of a run's state before its code has named it."""

MAX_RUNS: Final = 50
"""Newest flow runs among which the study's is looked for."""


def why_away(api: str, error: Exception) -> Reason:
    """Return what to tell of a server that did not answer, or answered with something else.

    Args:
        api: Address of Prefect's API.
        error: What asking it raised.
    """
    return Reason(
        Code.ORCHESTRATOR_UNAVAILABLE,
        f"Prefect's server {redacted(api)} does not answer: {why_no_answer(error)}.",
        "start it, or correct or unset PREFECT_API_URL; without it, flow runs are not seen.",
    )


def newest_flow_run(api: str, study: str, called: str, now: float) -> FlowRun | None:
    """Return the newest flow run of a study that was to have begun by now; `None` without any.

    Args:
        api: Address of Prefect's API.
        study: Name of the study.
        called: Study file or name, as a person gives it.
        now: Seconds since the epoch.

    Raises:
        OSError: The server does not answer, or refuses.
        ValueError: It answers with something else.
    """
    return choose_flow_run(newest_runs(api, now), study, called, now)


def newest_runs(api: str, now: float) -> list[Mapping[str, Any]]:
    """Return the newest flow runs that were to have begun by now, as the server has them.

    Args:
        api: Address of Prefect's API.
        now: Seconds since the epoch.

    Raises:
        OSError: The server does not answer, or refuses.
        ValueError: It answers with something else.
    """
    body = {
        "flows": {"name": {"any_": [FLOW_NAME]}},
        "flow_runs": {
            "expected_start_time": {"before_": datetime.fromtimestamp(now, UTC).isoformat()}
        },
        "sort": "EXPECTED_START_TIME_DESC",
        "limit": MAX_RUNS,
    }
    found = json.loads(ask(api, "flow_runs/filter", body))
    if not isinstance(found, list):
        raise ValueError("no list of flow runs")
    return found


def choose_flow_run(
    runs: Sequence[Mapping[str, Any]], study: str, called: str, now: float
) -> FlowRun | None:
    """Return the first of these flow runs that is one of the study's.

    A run gets the study's name when it begins; before, its parameters say which study it is of: by
    the study file's text, or by its path as far as both paths go.
    One that is at work goes before newer ones that are not.
    """
    own = own_runs(runs, study, called)
    return _flow_run(own[0], now) if own else None


def own_runs(runs: Sequence[Mapping[str, Any]], study: str, called: str) -> list[Mapping[str, Any]]:
    """Return those of some flow runs that are a study's; one that is at work comes first.

    Args:
        runs: Flow runs as the server has them, the newest first.
        study: Name of the study.
        called: Study file or name, as a person gives it.
    """
    own = [run for run in runs if _is_of(run, study, called)]
    return sorted(own, key=lambda run: _state(run).get("type") != "RUNNING")


def _is_of(run: Mapping[str, Any], study: str, called: str) -> bool:
    if run.get("name") == study:
        return True
    if _kind(run) not in _NOT_BEGUN:
        return False
    given = str((run.get("parameters") or {}).get("study") or "")
    if "\n" in given:
        spec = find_problems(given)[0]
        return spec is not None and spec.name == study
    return bool(given) and _is_same_file(Path(given), Path(called))


def _is_same_file(one: Path, other: Path) -> bool:
    """Return whether two paths, from folders that may differ, end alike as far as both go."""
    n = min(len(one.parts), len(other.parts))
    return one.parts[-n:] == other.parts[-n:]


def _flow_run(run: Mapping[str, Any], now: float) -> FlowRun:
    state = _state(run)
    try:
        since = now - datetime.fromisoformat(str(state.get("timestamp"))).timestamp()
    except ValueError:
        since = None
    return FlowRun(
        name=str(run.get("name") or ""),
        state=str(state.get("name") or run.get("state_name") or ""),
        kind=_kind(run),
        message=str(state.get("message") or ""),
        since_seconds=None if since is None else max(since, 0.0),
    )


def _kind(run: Mapping[str, Any]) -> str:
    return str(_state(run).get("type") or run.get("state_type") or "")


def _state(run: Mapping[str, Any]) -> Mapping[str, Any]:
    state = run.get("state")
    return state if isinstance(state, Mapping) else {}

"""`studyflow submit` and `attach` as far as they need no server; with one: `tests/flows`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.unit.cli.test_cli import invoke, write_study

from studyflow.cli.submit import Follower
from studyflow.deployments.remote import RemoteProgress, RemoteRun, RemoteServer
from studyflow.errors import PrefectUnavailable

RUN = RemoteRun("1", "sent", "RUNNING", "Running")
START = datetime(2026, 1, 5, tzinfo=UTC)


class Server(RemoteServer):
    """A server whose answers are given for each look; `None` for one at which it is away."""

    def __init__(self, *looks: tuple[str, list[str]] | None) -> None:
        super().__init__("http://prefect/api")
        self._looks = list(looks)
        self._lines: list[str] = []

    def read(self, run_id: str) -> RemoteRun:
        look = self._looks.pop(0)
        if look is None:
            raise PrefectUnavailable("Prefect's server does not answer: refused.")
        kind, lines = look
        self._lines += lines
        return replace(RUN, id=run_id, kind=kind)

    def lines(self, run_id: str, after: datetime | None) -> Iterator[tuple[str, datetime, str]]:
        for n, text in enumerate(self._lines):
            yield f"{run_id}-{n}", START + timedelta(seconds=n), text

    def progress(self, run_id: str) -> RemoteProgress | None:
        return RemoteProgress(50.0, f"Finished trials of {run_id}")

    def running_trials(self, run_id: str) -> tuple[str, ...]:
        return (f"trial-{run_id}",)


def follow(server: Server) -> tuple[RemoteRun, list[str], list[tuple[str, ...]]]:
    said: list[str] = []
    running: list[tuple[str, ...]] = []
    follower = Follower(
        server, RUN, said.append, lambda _run, _progress, trials: running.append(trials),
        sleep=lambda _: None,
    )  # fmt: skip
    return follower.to_end(), said, running


def test_a_run_is_followed_to_its_end_and_each_line_is_said_once() -> None:
    looks: list[tuple[str, list[str]]] = [
        ("SCHEDULED", []), ("RUNNING", ["a", "b"]), ("RUNNING", ["c"]), ("COMPLETED", ["d"]),
    ]  # fmt: skip
    ended, said, running = follow(Server(*looks))
    assert ended.kind == "COMPLETED"
    assert said == ["a", "b", "c", "d"]
    assert running == [("trial-1",)] * 3 + [()]


def test_a_server_that_is_away_is_told_of_once_and_waited_for() -> None:
    server = Server(("RUNNING", ["a"]), None, None, ("FAILED", ["b"]))
    ended, said, _ = follow(server)
    away = "Prefect's server does not answer: refused. The run goes on; waiting for the server."
    assert (ended.kind, said) == ("FAILED", ["a", away, "b"])


def test_a_wrong_study_file_is_not_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://localhost:1/api")
    path = write_study(tmp_path, budget={"n_trials": 0})
    done = invoke("submit", path)
    assert done.exit_code == 2
    assert "n_trials" in done.stderr


@pytest.mark.parametrize("command", ["submit", "attach"])
def test_a_server_that_does_not_answer_is_named_with_the_fix(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://localhost:1/api")
    done = invoke(command, write_study(tmp_path))
    assert done.exit_code == 3
    assert "Prefect's server http://localhost:1/api does not answer" in done.stderr


def test_without_an_address_the_way_to_a_cluster_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PREFECT_API_URL", "PREFECT_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("STUDYFLOW_HOME", str(tmp_path / "home"))
    done = invoke("submit", write_study(tmp_path))
    assert done.exit_code == 3
    assert "port-forward svc/prefect 4200" in done.stderr


def test_a_runs_page_is_beside_the_api_or_where_the_pages_are() -> None:
    assert RemoteServer("http://a:4200/api/").page_of(RUN) == "http://a:4200/runs/flow-run/1"
    there = RemoteServer("http://a/api", "https://prefect.example.org/")
    assert there.page_of(RUN) == "https://prefect.example.org/runs/flow-run/1"

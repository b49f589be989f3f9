"""Who gets in, what each page shows, and what a press of a button does."""

from __future__ import annotations

import http.client
import os
import re
import signal
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.study.studies import complete, make_spec, open_study

from studyflow.live import LiveServer, Studies, elsewhere
from studyflow.live.server import Answer, answer
from studyflow.live.states import Standing, StudyState
from studyflow.reports import StudyData
from studyflow.runner_lock import RunnerLock
from studyflow.settings import Settings
from studyflow.storage import open_storage
from studyflow.study import Study, find_study, is_paused
from studyflow.tracking import keys
from studyflow.tracking.pages import study_page
from studyflow.trial.record import TrialRecord, TrialState

TOKEN = "key"
HEADERS = {"Host": "127.0.0.1:4300", "Cookie": f"studyflow-4300={TOKEN}"}


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.resolve(home=tmp_path / "home", environment={})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def studies(settings: Settings, clock: Clock) -> Iterator[Studies]:
    found = Studies(settings, clock=clock)
    yield found
    found.close()


def keep(settings: Settings, name: str = "demo", n_finished: int = 2, **fields: Any) -> Study:
    """Keep a study in the storage, so many of whose trials are finished."""
    settings.home.mkdir(exist_ok=True)
    spec = make_spec(name=name, budget={"n_trials": 3}, **fields)
    study = open_study(spec, open_storage(settings.storage_url))
    for number in range(n_finished):
        study.ask()
        study.begin_attempt(number, 1)
        study.tell(number, complete(0.5 - 0.1 * number), {"loss": 0.5 - 0.1 * number})
    return study


def get(studies: Studies, path: str, headers: Mapping[str, str] = HEADERS) -> Answer:
    return answer("GET", path, headers, studies, TOKEN)


def post(studies: Studies, path: str, headers: Mapping[str, str] = HEADERS) -> Answer:
    return answer("POST", path, {**headers, "X-Studyflow": "1"}, studies, TOKEN)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "127.0.0.1:4300"},
        {"Host": "127.0.0.1:4300", "Cookie": "studyflow-4300=other"},
        {"Host": "127.0.0.1:4300", "Cookie": "studyflow-9=key"},
        {"Host": "evil.example:4300", "Cookie": "studyflow-4300=key"},
        {"Host": "127.0.0.1.evil.example:4300", "Cookie": "studyflow-4300=key"},
        {"Cookie": "studyflow-4300=key"},
    ],
)
@pytest.mark.parametrize("path", ["/", "/studies/demo/report", "/static/live.js", "/?token=no"])
def test_nobody_gets_in_without_the_key_or_by_another_name(
    studies: Studies, headers: dict[str, str], path: str
) -> None:
    refused = get(studies, path, headers)

    assert refused.status == 403
    assert b"demo" not in refused.body
    assert "Set-Cookie" not in refused.headers


def test_the_printed_address_sets_the_key_and_leaves_the_address(studies: Studies) -> None:
    entered = get(studies, f"/?token={TOKEN}", {"Host": "localhost:4300"})

    assert (entered.status, entered.headers["Location"]) == (303, "/")
    assert entered.headers["Set-Cookie"] == (
        "studyflow-4300=key; HttpOnly; SameSite=Strict; Path=/"
    )


def test_another_site_can_change_nothing(settings: Settings, studies: Studies) -> None:
    keep(settings)
    for path in ("pause", "resume", "stop"):
        refused = answer("POST", f"/studies/demo/{path}", HEADERS, studies, TOKEN)
        assert refused.status == 403
        assert get(studies, f"/studies/demo/{path}").status == 404, "no change by an address alone"
    assert not is_paused(find_study("demo", open_storage(settings.storage_url)))


def test_the_list_has_each_study_with_state_best_and_spend(
    settings: Settings, studies: Studies
) -> None:
    keep(settings, "a bü", n_finished=2)
    keep(settings, "done", n_finished=3)

    text = re.sub(r"<[^>]+>", " ", get(studies, "/").body.decode())

    assert re.search(r"a bü\s+stopped\s+2 of 3\s+–\s+loss 0\.4 \(trial 1\)", text)
    assert re.search(r"done\s+finished\s+3 of 3\s+–\s+loss 0\.3 \(trial 2\)", text)
    assert get(studies, "/studies/a%20b%C3%BC").status == 200


def test_before_the_first_study_the_page_says_how_one_starts(studies: Studies) -> None:
    assert b"studyflow run study.yaml" in get(studies, "/").body


def test_words_of_a_study_run_nothing(settings: Settings, studies: Studies) -> None:
    keep(settings, "<img src=x onerror=alert(1)>")
    page = get(studies, "/")

    assert b"<img" not in page.body
    assert "script-src 'self'" in (page.policy or "")
    assert "default-src 'none'" in (page.policy or "")


@pytest.mark.parametrize("path", ["/studies/no", "/studies/no/report", "/studies/demo/trials/9"])
def test_what_is_not_there_is_said(settings: Settings, studies: Studies, path: str) -> None:
    keep(settings)
    found = get(studies, path)

    assert found.status == 404
    assert b"no trial 9" in found.body or b"no study named" in found.body


def test_a_study_is_paused_and_resumed_by_its_buttons(settings: Settings, studies: Studies) -> None:
    keep(settings, n_finished=1)
    assert b"/studies/demo/pause" in get(studies, "/studies/demo").body

    paused = post(studies, "/studies/demo/pause")

    assert is_paused(find_study("demo", open_storage(settings.storage_url)))
    assert b">paused</span>" in paused.body
    assert b"/studies/demo/resume" in paused.body
    assert b">stopped</span>" in post(studies, "/studies/demo/resume").body
    assert not is_paused(find_study("demo", open_storage(settings.storage_url)))


def test_stop_is_ctrl_c_for_the_runner_of_this_machine(
    settings: Settings, studies: Studies, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(settings)
    refused = post(studies, "/studies/demo/stop")
    assert refused.status == 409
    assert b"No runner of this machine" in refused.body

    sent: list[tuple[int, int]] = []
    monkeypatch.setattr("os.kill", lambda pid, number: sent.append((pid, number)))
    lock = settings.runner_lock("demo")
    lock.parent.mkdir(parents=True, exist_ok=True)
    held = RunnerLock(lock)
    assert held.take()
    assert post(studies, "/studies/demo/stop").status == 200
    held.close()

    assert sent == [(os.getpid(), signal.SIGINT)]


def versions(page: bytes) -> list[bytes]:
    return re.findall(rb'data-version="([^"]+)"', page)


def test_a_report_is_drawn_again_when_the_study_has_changed_and_not_before(
    settings: Settings, studies: Studies, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = keep(settings, n_finished=1)
    drawn: list[int] = []

    def draw(name: str) -> bytes:
        n = len(studies.standing(name).data.complete)
        drawn.append(n)
        clock.now += 2.0  # a report takes a while
        return f"{n} complete".encode()

    monkeypatch.setattr(studies, "_draw", draw)
    assert get(studies, "/studies/demo/report").body == b"1 complete"
    clock.now += 100.0
    assert get(studies, "/studies/demo/report").body == b"1 complete"
    study.ask()
    study.begin_attempt(1, 1)
    study.tell(1, complete(0.1), {"loss": 0.1})
    clock.now += 100.0
    assert get(studies, "/studies/demo/report").body == b"2 complete"
    study.ask()
    clock.now += 2.0
    before = get(studies, "/studies/demo/part").body
    assert get(studies, "/studies/demo/report").body == b"2 complete", "drawn a moment ago"
    assert drawn == [1, 2]
    clock.now += 100.0
    assert versions(get(studies, "/studies/demo/part").body) != versions(before), "to be fetched"
    get(studies, "/studies/demo/report")
    assert drawn == [1, 2, 2]


@pytest.mark.slow
def test_the_report_s_rows_lead_to_the_trials_logs(settings: Settings, studies: Studies) -> None:
    keep(settings)
    report = get(studies, "/studies/demo/report")

    assert b'<a href="/studies/demo/trials/1"' in report.body
    assert report.policy is None, "it says itself what it may load"


def write_log(settings: Settings, text: str) -> None:
    """Write on in the log of the first attempt of trial 0."""
    log = settings.study_folder("demo") / "trials" / "0" / "attempt-1" / "log.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        file.write(text)


def test_a_log_comes_in_whole_lines_as_it_is_written_and_without_secrets(
    settings: Settings, studies: Studies, clock: Clock
) -> None:
    study = keep(settings, n_finished=0)
    study.ask()
    study.begin_attempt(0, 1)
    write_log(settings, "epoch 1\ntoken hf_abcdefghijklmnopqrstuvwxyz01234567 end\nepo")

    first = get(studies, "/studies/demo/trials/0/log")
    assert first.body.startswith(b"epoch 1\ntoken ")
    assert b"hf_abc" not in first.body
    assert first.body.endswith(b" end\n"), "half a line could be half a secret"
    assert first.headers["X-Is-Over"] == "0"

    rest = f"/studies/demo/trials/0/log?offset={first.headers['X-Next-Offset']}"
    assert get(studies, rest).body == b""
    write_log(settings, "ch 2\nlast words")
    assert get(studies, rest).body == b"epoch 2\n"
    study.tell(0, complete(0.5), {"loss": 0.5})
    clock.now += 100.0
    ended = get(studies, rest)
    assert ended.headers["X-Is-Over"] == "1"
    at = f"/studies/demo/trials/0/log?offset={ended.headers['X-Next-Offset']}"
    assert ended.body + get(studies, at).body == b"epoch 2\nlast words"


def test_of_a_long_log_the_end_is_shown(settings: Settings, studies: Studies) -> None:
    keep(settings, n_finished=1)
    write_log(settings, "".join(f"line {i:06d}\n" for i in range(50_000)))

    first = get(studies, "/studies/demo/trials/0/log")

    assert int(first.headers["X-Next-Offset"]) > 50_000 * 12 - 256 * 1024
    assert first.body.endswith(b"line 049999\n")


def test_the_standing_follows_runner_pause_and_budget(settings: Settings) -> None:
    study = keep(settings, n_finished=1)
    study.ask()
    data = StudyData(study.spec, study.records())
    standing = Standing(data, is_driven=True, is_paused=False)

    assert (standing.state, [r.number for r in standing.running]) == (StudyState.RUNNING, [1])
    assert replace(standing, is_paused=True).state is StudyState.PAUSED
    assert replace(standing, is_driven=False).state is StudyState.STOPPED
    assert replace(standing, is_driven=False).running == ()


def test_the_view_of_a_study_is_found_among_those_of_its_repeats() -> None:
    tags = {
        f"mlflow.sharedViewState.{keys.digest_of(name)}-best-first": "{}"
        for name in ("demo", "demo-repeats")
    }

    assert study_page("7", tags, "demo").endswith(f"={keys.digest_of('demo')}-best-first")
    assert study_page("7", tags, "demo-repeats").endswith(
        f"={keys.digest_of('demo-repeats')}-best-first"
    )
    assert "viewStateShareKey" not in study_page("7", tags)


def test_a_study_s_page_in_mlflow_is_that_of_its_runs_experiment(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def ask(address: str, body: object = None) -> dict[str, Any]:
        asked.append(address.rpartition("/mlflow/")[2])
        if "runs/get" in address:
            return {"run": {"info": {"experiment_id": "7"}}}
        return {"experiment": {"experiment_id": "7", "tags": []}}

    monkeypatch.setattr(elsewhere, "_ask", ask)
    settings = replace(settings, mlflow_public_url="http://mlflow/")
    record = TrialRecord(0, TrialState.COMPLETE, {}, run_id="r1")

    assert elsewhere.study_in_mlflow(settings, "demo", [record]).startswith(
        "http://mlflow/#/experiments/7/runs?"
    )
    assert elsewhere.trial_in_mlflow(settings, record).startswith(
        "http://mlflow/#/experiments/7/runs/r1?"
    )
    assert asked == ["runs/get?run_id=r1", "experiments/get?experiment_id=7", "runs/get?run_id=r1"]


def test_a_page_that_nobody_serves_is_said(settings: Settings, studies: Studies) -> None:
    keep(settings)
    for where in ("mlflow", "prefect"):
        found = get(studies, f"/studies/demo/{where}")
        assert found.status == 409
        assert b"pages are not running here" in found.body


def test_the_server_answers_this_machine_over_http(settings: Settings) -> None:
    keep(settings)
    with LiveServer(Studies(settings)) as server:
        assert server.address.startswith("http://127.0.0.1:")
        line = http.client.HTTPConnection(server.address.removeprefix("http://"), timeout=30)
        line.request("GET", server.way_in.removeprefix(server.address))
        entered = line.getresponse()
        entered.read()
        cookie = (entered.getheader("Set-Cookie") or "").partition(";")[0]
        line.request("GET", "/part", headers={"Cookie": cookie})
        page = line.getresponse()
        assert (page.status, b"demo" in page.read()) == (200, True)
        assert page.getheader("X-Frame-Options") == "SAMEORIGIN"
        line.request("POST", "/studies/demo/pause", headers={"Cookie": cookie, "X-Studyflow": "1"})
        assert line.getresponse().status == 200
        line.close()

"""Webhooks: what they are told, on a real server, and that nothing they do hurts a study."""

from __future__ import annotations

import importlib.util
import json
import logging
import threading
import urllib.error
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.test_cli import DOCUMENT, TRAIN, write_study

from studyflow.context import StudyContext
from studyflow.errors import StudyflowError
from studyflow.observers import notify, webhook
from studyflow.observers.messages import make_message
from studyflow.observers.notify import Notifier, notified
from studyflow.observers.observer import Observer, Progress
from studyflow.runner import RunOptions, run_study
from studyflow.settings import Settings
from studyflow.spec import StudySpec
from studyflow.trial import Cause
from studyflow.trial.record import TrialRecord, TrialState

SECRET = "/services/T000/s3cret"


class Hook(ThreadingHTTPServer):
    """A webhook that answers with the statuses that a test wants, then with 200."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.statuses: list[int] = []
        self.received: list[dict[str, Any]] = []
        self.paths: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{SECRET}"


class _Handler(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.paths.append(self.path)
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        if status == 200:
            self.server.received.append(json.loads(body))
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@pytest.fixture
def hook() -> Iterator[Hook]:
    server = Hook()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "PAUSES_SECONDS", (0.0, 0.0))


def spec_with(*events: str, **changes: Any) -> StudySpec:
    section = {"url_env": "HOOK", "events": list(events or ("finished", "failed", "new_best"))}
    return StudySpec.from_mapping({**DOCUMENT, "notify": section, **changes})


def complete(number: int, value: float) -> TrialRecord:
    return TrialRecord(
        number, TrialState.COMPLETE, {"x": value}, (value,), {"loss": value}, cause=Cause.OK
    )


def progress(*best: TrialRecord, n_finished: int = 1) -> Progress:
    return Progress("tiny", n_finished, 3, (), best, 1.0, None)


def test_a_new_best_trial_is_told_once_and_one_that_was_there_before_is_not(hook: Hook) -> None:
    notifier = Notifier(spec_with(), hook.url, clock=lambda: 7.0)

    for best in (0.5, 0.5, 0.25, 0.25):
        notifier.progressed(progress(complete(int(best * 8), best)))
    notifier.close()

    (message,) = hook.received
    assert message == {
        "text": "tiny: new best, loss=0.25 (trial 2: x=0.25)",
        "event": "new_best",
        "study": "tiny",
        "reason": "",
        "n_finished": 1,
        "n_trials": 3,
        "best": [{"trial": 2, "values": {"loss": 0.25}, "params": {"x": 0.25}}],
        "run_url": None,
        "time": 7.0,
    }
    assert hook.paths == [SECRET]


def test_the_end_is_told_with_its_reason_and_the_best(hook: Hook) -> None:
    notifier = Notifier(spec_with(), hook.url)
    notifier.progressed(progress(complete(0, 0.5)))
    notifier.ended("All 3 trials are finished.", is_failure=False, run_url="http://mlflow/#/r")
    notifier.ended("It broke.", is_failure=True, run_url=None)
    notifier.close()

    finished, failed = hook.received
    assert finished["text"] == (
        "tiny finished: All 3 trials are finished. Best: loss=0.5 (trial 0: x=0.5)"
        "\nhttp://mlflow/#/r"
    )
    assert (finished["event"], finished["run_url"]) == ("finished", "http://mlflow/#/r")
    assert (failed["event"], failed["text"]) == ("failed", "tiny failed: It broke.")


def test_only_the_events_that_were_asked_for_are_told(hook: Hook) -> None:
    notifier = Notifier(spec_with("failed"), hook.url)
    notifier.progressed(progress())
    notifier.progressed(progress(complete(0, 0.5)))
    notifier.ended("Done.", is_failure=False, run_url=None)
    notifier.close()

    assert hook.received == []


def test_slack_takes_no_part_of_a_message_for_a_link_or_a_mention() -> None:
    message = make_message(spec_with(), "failed", "<!channel> a & b", None)

    assert message["text"] == "tiny failed: &lt;!channel&gt; a &amp; b"
    assert message["reason"] == "<!channel> a & b"


def test_a_webhook_that_stumbles_is_asked_again_and_one_that_refuses_is_not(
    hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    hook.statuses = [503, 429, 200, 404]
    notifier = Notifier(spec_with(), hook.url)
    notifier.ended("First.", is_failure=False, run_url=None)
    notifier.ended("Second.", is_failure=False, run_url=None)
    notifier.ended("Third.", is_failure=False, run_url=None)
    notifier.close()

    assert [message["reason"] for message in hook.received] == ["First.", "Third."]
    assert len(hook.paths) == 5
    assert [record.getMessage() for record in caplog.records] == [
        "notify: finished was not sent: HTTP 404"
    ]


def test_no_failure_shows_the_address(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    notifier = Notifier(spec_with(), f"http://127.0.0.1:1{SECRET}")
    notifier.ended("Done.", is_failure=False, run_url=None)
    notifier.close()

    assert "was not sent: Connection refused" in caplog.text
    assert "s3cret" not in caplog.text


def test_a_webhook_that_hangs_holds_up_no_event_and_the_end_for_a_moment_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    release = threading.Event()

    def hang(url: str, body: bytes) -> None:
        release.wait()

    notifier = Notifier(spec_with(), "http://hook", post=hang)
    for _ in range(notify.QUEUE_LIMIT + 50):
        notifier.ended("Done.", is_failure=False, run_url=None)
    notifier.close(seconds=0.01)
    release.set()

    assert "the webhook is slow" in caplog.text


@pytest.mark.parametrize("error", [ValueError("odd"), urllib.error.URLError("odd"), EOFError()])
def test_whatever_a_message_raises_the_next_one_is_sent(error: Exception) -> None:
    sent: list[str] = []

    def fail_first(url: str, body: bytes) -> None:
        if json.loads(body)["reason"] == "First.":
            raise error
        sent.append(json.loads(body)["reason"])

    notifier = Notifier(spec_with(), "http://hook", post=fail_first)
    notifier.ended("First.", is_failure=False, run_url=None)
    notifier.ended("Second.", is_failure=False, run_url=None)
    notifier.close()

    assert sent == ["Second."]


class Ends(Observer):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def noted(self, message: str) -> None:
        self.notes.append(message)


def test_without_its_address_a_study_goes_on_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOOK", raising=False)
    heard = Ends()

    with notified(spec_with(), heard) as told:
        told.ended("Done.", is_failure=False, run_url=None)

    (note,) = heard.notes
    assert note.startswith("Nobody is notified: the environment variable HOOK (notify.url_env)")


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hook: Hook
) -> Callable[[StudySpec, str], Path]:
    """Runs a study beside a script, with the hook's address in HOOK; returns the home folder."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "mlflow" else find(name, *a)
    )
    monkeypatch.setenv("HOOK", hook.url)
    settings = Settings.resolve(home=tmp_path / "home", environment={})

    def run_it(spec: StudySpec, train: str) -> Path:
        write_study(tmp_path, train)
        run_study(StudyContext(spec, settings), Observer(), RunOptions(tmp_path))
        return settings.home

    return run_it


def test_a_study_tells_its_new_bests_and_its_end_and_keeps_the_address_to_itself(
    hook: Hook, run: Callable[[StudySpec, str], Path]
) -> None:
    home = run(spec_with(), TRAIN)

    events = [message["event"] for message in hook.received]
    assert events[-1] == "finished"
    assert "new_best" in events[:-1]
    last = hook.received[-1]
    assert last["text"].startswith("tiny finished: All 3 trials are finished. Best: loss=")
    assert (last["n_finished"], last["n_trials"]) == (3, 3)
    shown = [path for path in home.rglob("*") if path.is_file() and b"s3cret" in path.read_bytes()]
    assert shown == []


def test_a_script_that_prints_its_environment_does_not_print_the_address(
    run: Callable[[StudySpec, str], Path],
) -> None:
    home = run(spec_with(), f"import os\nprint(sorted(os.environ.items()))\n{TRAIN}")

    logs = [path.read_text() for path in home.rglob("log.txt")]
    assert len(logs) == 3
    assert all("STUDYFLOW_TRIAL" in log and "s3cret" not in log for log in logs)


def test_a_runner_that_leaves_a_paused_study_tells_of_no_end(
    hook: Hook, tmp_path: Path, run: Callable[[StudySpec, str], Path]
) -> None:
    write_study(tmp_path, TRAIN)
    settings = Settings.resolve(home=tmp_path / "home", environment={})

    result = run_study(
        StudyContext(spec_with(), settings), Observer(), RunOptions(tmp_path, leaves=lambda: True)
    )

    assert result.outcome.has_left
    assert hook.received == []


def test_a_study_whose_trials_cannot_work_tells_that_it_failed(
    hook: Hook, run: Callable[[StudySpec, str], Path]
) -> None:
    run(spec_with("failed", stop={"alike_failures": 2}), "raise KeyError('val_loss')")

    (message,) = hook.received
    assert message["event"] == "failed"
    assert "failed alike (user-error)" in message["text"]


def test_a_study_that_cannot_be_opened_tells_that_it_failed(
    hook: Hook, run: Callable[[StudySpec, str], Path]
) -> None:
    run(spec_with("failed"), TRAIN)
    wider = {"x": {"type": "float", "low": 0.0, "high": 2.0}}

    with pytest.raises(StudyflowError):
        run(spec_with("failed", search_space=wider), TRAIN)

    (message,) = hook.received
    assert "exists and differs from the study file" in message["text"]

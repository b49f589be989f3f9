"""What one trial writes to the files of another does not count, and is told."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.unit.executors.local.bench import (
    FIRST,
    HANG,
    Bench,
    a_trial,
    as_it_was_claimed,
    linux_only,
    read_pids,
    until,
)

from studyflow.errors import ExecutorUnavailable
from studyflow.executors import AttemptId, AttemptStatus
from studyflow.executors.local import LocalExecutor
from studyflow.executors.local.attempt import has_ended
from studyflow.reasons import Code
from studyflow.testing.executor_contract import Watch
from studyflow.tracking.trial_files import read_metrics_file
from studyflow.trial import Cause, MetricPoint, Outcome

pytestmark = [pytest.mark.fault("F86")]

BETTER = Outcome("demo", 0, 1, Cause.OK, {"loss": -1e9}).to_json()
LEAVES = "import os\nos._exit(0)\n"
FINISHES = "from studyflow import sdk\nsdk.report(0, loss=2.0)\nsdk.finish(loss=1.0)\n"
WAITS = """
from studyflow import sdk
import pathlib, time, os
sdk.current_trial()
sdk.report(0, loss=2.0)
while not pathlib.Path(go).exists(): time.sleep(0.005)
"""


class Forged(Bench):
    """A bench whose script waits until its files were tampered with."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.go = folder / "go"
        self.notes: list[str] = []

    def begin(self, then: str, **options: Any) -> tuple[LocalExecutor, AttemptId]:
        """Start an attempt that has reported once, and waits to go on."""
        self.write(f"go = {str(self.go)!r}\n{WAITS}\n{then}")
        executor = self.executor(on_note=self.notes.append, **options)
        attempt = executor.submit(a_trial())
        until(lambda: self.path("metrics.jsonl").exists())
        return executor, attempt

    def end(self, executor: LocalExecutor, attempt: AttemptId) -> AttemptStatus:
        self.go.touch()
        return Watch(executor, 10.0).until_ended(attempt)

    def path(self, name: str, attempt: AttemptId = FIRST) -> Path:
        return self.folder(attempt) / name


@pytest.fixture
def forged(tmp_path: Path) -> Any:
    forged = Forged(tmp_path)
    yield forged
    forged.go.touch()
    forged.close()


def outcome_of(status: AttemptStatus) -> Outcome:
    assert status.outcome is not None
    return status.outcome


def test_an_outcome_that_another_process_wrote_is_refused_with_its_reason(forged: Forged) -> None:
    executor, attempt = forged.begin(LEAVES)
    forged.path("outcome.json").write_text(BETTER)

    outcome = outcome_of(forged.end(executor, attempt))

    assert (outcome.cause, outcome.code) == (Cause.BAD_METRIC, Code.OUTCOME_FORGED)
    assert outcome.message.startswith("The outcome document lacks the seal of this attempt")
    assert not outcome.metrics


def test_the_true_result_replaces_one_that_another_process_wrote_and_says_so(
    forged: Forged,
) -> None:
    executor, attempt = forged.begin("sdk.finish(loss=1.0)")
    forged.path("outcome.json").write_text(BETTER)

    outcome = outcome_of(forged.end(executor, attempt))

    assert (outcome.cause, dict(outcome.metrics)) == (Cause.OK, {"loss": 1.0})
    assert "studyflow: another process wrote to" in forged.log()


def test_a_result_that_another_process_replaced_is_put_back_by_its_script(forged: Forged) -> None:
    executor, attempt = forged.begin(
        "sdk.finish(loss=1.0)\npathlib.Path(go + '2').touch()\n"
        "while not pathlib.Path(go + '3').exists(): time.sleep(0.005)\n"
    )
    forged.go.touch()
    until(lambda: Path(f"{forged.go}2").exists())
    document = json.loads(forged.path("outcome.json").read_text())
    document["metrics"]["loss"] = -1e9
    forged.path("outcome.json").write_text(json.dumps(document))
    Path(f"{forged.go}3").touch()

    outcome = outcome_of(Watch(executor, 10.0).until_ended(attempt))

    assert (outcome.cause, dict(outcome.metrics)) == (Cause.OK, {"loss": 1.0})


@pytest.mark.parametrize(
    "change",
    [
        lambda document: {**document, "metrics": {"loss": -1e9}},
        lambda document: {**document, "cause": "nan"},
        lambda document: {**document, "seal": "00" * 8, "key": "00" * 16},
        lambda document: {name: value for name, value in document.items() if name != "seal"},
    ],
)
def test_a_result_that_was_changed_after_its_script_had_ended_is_refused(
    bench: Bench, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    bench.write(FINISHES)
    executor = bench.executor()
    attempt = executor.submit(a_trial())
    until(lambda: has_ended(bench.folder(attempt)))
    path = bench.folder(attempt) / "outcome.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))

    outcome = outcome_of(Watch(executor, 10.0).until_ended(attempt))

    assert (outcome.cause, outcome.code) == (Cause.BAD_METRIC, Code.OUTCOME_FORGED)


def test_the_outcome_of_another_attempt_is_none_of_this_one_s(bench: Bench) -> None:
    bench.write(
        "import os\nfrom studyflow import sdk\n"
        "sdk.finish(loss=0.0) if sdk.current_trial().attempt == 1 else os._exit(0)\n"
    )
    executor = bench.executor()
    watch = Watch(executor, 10.0)
    watch.until_ended(executor.submit(a_trial()))
    second = executor.submit(a_trial(attempt=2))
    until(lambda: has_ended(bench.folder(second)))
    text = (bench.folder(FIRST) / "outcome.json").read_text()
    forged = json.loads(text) | {"attempt": 2}
    (bench.folder(second) / "outcome.json").write_text(json.dumps(forged))

    assert outcome_of(watch.until_ended(second)).code is Code.OUTCOME_FORGED


def test_a_script_without_the_sdk_shows_its_key(bench: Bench) -> None:
    status = bench.run(
        """
        import json, os
        trial = json.loads(os.environ["STUDYFLOW_TRIAL"])
        document = {name: trial[name] for name in ("version", "study", "number", "attempt", "key")}
        with open(trial["outcome_path"], "w") as file:
            json.dump({**document, "cause": "ok", "metrics": {"loss": 1.0}}, file)
        """
    )
    assert (outcome_of(status).cause, dict(outcome_of(status).metrics)) == (Cause.OK, {"loss": 1.0})


def test_reports_that_another_process_wrote_count_nowhere_and_are_told(forged: Forged) -> None:
    executor, attempt = forged.begin("sdk.report(1, loss=1.5)\nsdk.finish(loss=1.0)")
    own = forged.path("metrics.jsonl").read_bytes()
    with forged.path("metrics.jsonl").open("a") as file:
        file.write('["loss",9,-1e9,5]\n["loss",9,-1e9,5,"00"]\n')
        file.write(own.decode().replace("2.0", "-2.0"))
    watch = Watch(executor, 10.0)
    forged.go.touch()

    outcome = outcome_of(watch.until_ended(attempt))

    assert [(point.step, point.value) for point in watch.points[attempt]] == [(0, 2.0), (1, 1.5)]
    assert outcome.cause is Cause.OK
    assert outcome.message == (
        "Another process wrote 3 lines of metrics.jsonl; that does not count."
    )
    forged.path("launch.json").write_text("{}")  # as if an earlier version had launched it
    files = executor.files(attempt)
    assert files.metrics is not None
    [kept] = read_metrics_file(files.metrics, files.metrics_key)
    assert [(point.step, point.value) for point in kept] == [(0, 2.0), (1, 1.5)]


@pytest.mark.parametrize("name", ["trial.json", "launch.json"])
@pytest.mark.parametrize("text", ["{}", "garbage", None])
def test_documents_that_another_process_rewrote_change_nothing_and_are_told(
    forged: Forged, name: str, text: str | None
) -> None:
    executor, attempt = forged.begin("sdk.finish(loss=1.0)")
    if text is None:
        forged.path(name).unlink()
    else:
        forged.path(name).write_text(text)

    outcome = outcome_of(forged.end(executor, attempt))

    assert (outcome.cause, dict(outcome.metrics)) == (Cause.OK, {"loss": 1.0})
    assert outcome.message == f"Another process wrote {name}; that does not count."


@linux_only
@pytest.mark.parametrize("name", ["trial.json", "launch.json"])
def test_documents_that_were_rewritten_while_no_runner_was_there_are_not_believed(
    forged: Forged, name: str
) -> None:
    executor, attempt = forged.begin(LEAVES)
    executor.close()
    document = json.loads(forged.path(name).read_text())
    changed = {"params": {"x": 1.0}} if name == "trial.json" else {"timeout_seconds": 1e9}
    forged.path(name).write_text(json.dumps({**document, **changed}))
    forged.path("outcome.json").write_text(BETTER)

    later = forged.executor(on_note=forged.notes.append)
    until(lambda: later.poll() == {} and bool(forged.notes))

    [note] = forged.notes
    assert note.startswith(f"Trial {attempt} cannot be followed, and what runs of it ends: ")
    assert "lacks the seal of this attempt: another process wrote it, or changed it" in note
    forged.write(FINISHES)

    def submit() -> bool:
        with suppress(ExecutorUnavailable):  # what ran of it is not gone yet
            later.submit(a_trial())
            return True
        return False

    until(submit)
    assert outcome_of(Watch(later, 10.0).until_ended(attempt)).metrics == {"loss": 1.0}


def test_a_later_attempt_that_another_process_prepared_is_made_anew(bench: Bench) -> None:
    bench.write(FINISHES)
    executor = bench.executor()
    watch = Watch(executor, 10.0)
    watch.until_ended(executor.submit(a_trial()))
    second = AttemptId(0, 2)
    shutil.copytree(bench.folder(FIRST), bench.folder(second))
    for name in ("trial.json", "outcome.json"):
        path = bench.folder(second) / name
        path.write_text(json.dumps(json.loads(path.read_text()) | {"attempt": 2}))

    executor.submit(a_trial(attempt=2))

    assert dict(outcome_of(watch.until_ended(second)).metrics) == {"loss": 1.0}
    assert json.loads((bench.folder(second) / "launch.json").read_text())["seal"]


@pytest.mark.parametrize("cause", ["pruned", "cancelled", None])
def test_a_stop_that_no_runner_asked_for_is_no_end_of_the_trial(
    forged: Forged, cause: str | None
) -> None:
    executor, attempt = forged.begin("sdk.finish(loss=1.0)", stop_grace_seconds=5.0)
    request = {} if cause is None else {"cause": cause, "reason": "bad", "at": 0.0}
    forged.path("stop.json").write_text(json.dumps(request))

    outcome = outcome_of(Watch(executor, 10.0).until_ended(attempt))

    assert (outcome.cause, outcome.code) == (Cause.LOST, Code.STOP_FORGED)


def test_what_a_script_says_that_heeded_a_forged_stop_is_no_result(forged: Forged) -> None:
    executor, attempt = forged.begin(
        "while not sdk.should_stop(): time.sleep(0.005)\nsdk.finish(loss=1.0)",
        stop_grace_seconds=5.0,
    )
    forged.go.touch()
    forged.path("stop.json").write_text('{"cause": "pruned"}')

    outcome = outcome_of(Watch(executor, 10.0).until_ended(attempt))

    assert (outcome.cause, outcome.code) == (Cause.LOST, Code.STOP_FORGED)


def test_a_runner_s_stop_replaces_one_that_is_none(forged: Forged) -> None:
    executor, attempt = forged.begin(HANG, stop_grace_seconds=5.0)
    executor.poll()
    pids = read_pids(forged)
    os.kill(pids["supervisor"], signal.SIGSTOP)
    forged.path("stop.json").write_text('{"cause": "cancelled"}')

    executor.stop(attempt, Cause.PRUNED, "worse than the median")
    os.kill(pids["supervisor"], signal.SIGCONT)

    outcome = outcome_of(Watch(executor, 10.0).until_ended(attempt))
    assert (outcome.cause, outcome.message) == (Cause.PRUNED, "worse than the median")


@linux_only
def test_an_end_that_no_supervisor_recorded_proves_nothing(forged: Forged) -> None:
    executor, attempt = forged.begin(HANG)
    executor.poll()
    os.kill(read_pids(forged)["supervisor"], signal.SIGKILL)
    forged.path("exit.json").write_text(
        '{"how": "exited", "exit_code": 0, "started_at": 1.0, "ended_at": 2.0}'
    )

    assert outcome_of(Watch(executor, 10.0).until_ended(attempt)).cause is Cause.LOST


def test_a_runner_that_goes_on_believes_what_is_sealed(forged: Forged) -> None:
    executor, attempt = forged.begin("sdk.finish(loss=1.0)")
    executor.close()
    forged.go.touch()
    until(lambda: has_ended(forged.folder(attempt)))

    later = forged.executor(on_note=forged.notes.append)

    assert dict(outcome_of(Watch(later, 10.0).until_ended(attempt)).metrics) == {"loss": 1.0}
    assert forged.notes == []


def test_an_attempt_that_was_only_claimed_gets_its_key_from_the_runner_that_starts_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write(FINISHES)
    attempt = as_it_was_claimed(bench, monkeypatch)
    executor = bench.executor()
    executor.submit(a_trial())

    assert dict(outcome_of(Watch(executor, 10.0).until_ended(attempt)).metrics) == {"loss": 1.0}


def test_keys_are_put_back_when_another_process_changes_them(forged: Forged) -> None:
    executor, attempt = forged.begin("sdk.finish(loss=1.0)")
    was = (forged.root / "keys.json").read_text()
    (forged.root / "keys.json").write_text(json.dumps({"secret": "00" * 32, "unsealed": ["0-1"]}))

    outcome = outcome_of(forged.end(executor, attempt))

    assert dict(outcome.metrics) == {"loss": 1.0}
    assert (forged.root / "keys.json").read_text() == was
    assert ["was changed by another process" in note for note in forged.notes] == [True]


def test_keys_that_were_damaged_while_no_runner_was_there_prove_nothing(forged: Forged) -> None:
    executor, _ = forged.begin(LEAVES)
    executor.close()
    (forged.root / "keys.json").write_text("{}")
    forged.path("outcome.json").write_text(BETTER)
    forged.go.touch()

    later = forged.executor(on_note=forged.notes.append)
    until(lambda: later.poll() == {} and len(forged.notes) == 2)

    assert "keys.json was damaged by another process" in forged.notes[0]


def test_no_key_is_in_any_file_of_its_attempt(bench: Bench) -> None:
    bench.write("import os\nprint(os.environ['STUDYFLOW_TRIAL'])\n" + FINISHES)
    executor = bench.executor()
    attempt = executor.submit(a_trial())
    Watch(executor, 10.0).until_ended(attempt)
    key = json.loads(bench.log())["key"]

    holding = [
        path.name for path in bench.root.rglob("*") if path.is_file() and key in path.read_text()
    ]
    assert holding == ["log.txt"], "where the script itself has printed it"


def as_an_earlier_version_left_it(bench: Bench, attempt: AttemptId) -> None:
    """Take out of a study's folder what earlier versions did not write."""
    (bench.root / "keys.json").unlink()
    path = bench.folder(attempt) / "launch.json"
    document = json.loads(path.read_text())
    path.write_text(
        json.dumps({k: v for k, v in document.items() if k not in ("seal", "left_out")})
    )


def test_an_attempt_of_an_earlier_version_is_taken_as_it_is(forged: Forged) -> None:
    executor, attempt = forged.begin(LEAVES)
    executor.close()
    as_an_earlier_version_left_it(forged, attempt)
    forged.path("outcome.json").write_text(Outcome("demo", 0, 1, Cause.OK, {"loss": 3.0}).to_json())
    point = MetricPoint("loss", 4, 3.0, 5)
    forged.path("metrics.jsonl").write_text(f"{point.to_json()}\n")
    later = forged.executor(on_note=forged.notes.append)
    watch = Watch(later, 10.0)
    forged.go.touch()

    outcome = outcome_of(watch.until_ended(attempt))

    assert (outcome.cause, dict(outcome.metrics)) == (Cause.OK, {"loss": 3.0})
    assert watch.points[attempt] == [point]
    files = later.files(attempt)
    assert files.metrics is not None
    assert list(read_metrics_file(files.metrics, files.metrics_key)) == [[point]]
    assert forged.notes == []


def test_who_only_reads_makes_no_key_and_starts_no_script(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write(FINISHES)
    attempt = as_it_was_claimed(bench, monkeypatch)
    as_an_earlier_version_left_it(bench, attempt)
    reader = bench.executor(is_reader=True)

    assert reader.poll()[attempt].outcome is None
    assert not (bench.root / "keys.json").exists()
    monkeypatch.setattr("studyflow.executors.local.attempt.START_PATIENCE_SECONDS", -1.0)
    other = bench.executor(is_reader=True)
    assert other.poll()[attempt].outcome is None
    assert not (bench.folder(attempt) / "pid.json").exists()

"""What scripts report: metrics, outcomes and logs of any size and kind."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.executors.local.bench import (
    Bench,
    a_trial,
    until,
)

from studyflow.errors import ExecutorUnavailable
from studyflow.executors import AttemptId, AttemptState
from studyflow.executors.local import metrics
from studyflow.executors.local.attempt import has_ended
from studyflow.executors.local.metrics import MetricsReader
from studyflow.redaction import Redactor
from studyflow.testing.executor_contract import Watch
from studyflow.trial import Cause, MetricPoint, Trial


@pytest.mark.fault("F42")
def test_torn_foreign_and_endless_lines_are_passed_over(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "METRICS_BYTES_PER_POLL", 64)
    bench.write(
        """
        import json, os
        trial = json.loads(os.environ["STUDYFLOW_TRIAL"])
        key = trial["key"].encode()
        with open(trial["metrics_path"], "wb") as file:
            file.write(b'["loss",0,1.0,5,"%s"]\\n' % key)
            file.write(b'garbage\\n\\xff\\xfe\\n[1,2]\\n["loss",true,1.0,5]\\n')
            file.write(b"x" * 300 + b"\\n")
            file.write(b'["loss",1,"nan",6,"%s"]\\n' % key)
            file.write(b'["loss",2,0.5,7,"%s"]\\n["loss",3,0.2' % key)
        """
    )
    executor = bench.executor()
    watch = Watch(executor, 10.0)
    attempt = executor.submit(a_trial())
    watch.until_ended(attempt)
    assert [(p.step, str(p.value)) for p in watch.points[attempt]] == [
        (0, "1.0"),
        (1, "nan"),
        (2, "0.5"),
    ]


def test_a_line_torn_between_two_looks_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    reader = MetricsReader(path)
    assert reader.read() == ()
    path.write_text('["loss",0,1.0,5]\n["loss",1,')
    assert reader.read() == (MetricPoint("loss", 0, 1.0, 5),)
    assert not reader.has_more()
    with path.open("a") as file:
        file.write("2.0,6]\n")
    assert reader.has_more()
    assert reader.read() == (MetricPoint("loss", 1, 2.0, 6),)
    assert reader.read() == ()


def test_metrics_come_in_bounded_pieces_and_all_before_the_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "METRICS_BYTES_PER_POLL", 2000)
    bench.write(
        "from studyflow import sdk\nfor i in range(500): sdk.report(i, loss=1.0)\n"
        "sdk.finish(loss=1.0)\n"
    )
    executor = bench.executor()
    attempt = executor.submit(a_trial())
    until((bench.folder(attempt) / "exit.json").exists)
    pieces: list[int] = []
    while True:
        status = executor.poll()[attempt]
        pieces.append(len(status.points))
        if status.state is AttemptState.ENDED:
            break
    assert sum(pieces) == 500
    assert max(pieces) < 100


@pytest.mark.fault("F42")
def test_a_huge_log_costs_only_its_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.write(
        """
        import os
        os.ftruncate(1, 2 << 30)
        os.write(1, b"ValueError: the last words\\n")
        os._exit(1)
        """
    )
    executor = bench.executor()
    attempt = executor.submit(a_trial())
    status = Watch(executor, 10.0).until_ended(attempt)
    assert status.outcome is not None
    assert status.outcome.message == "Exit code 1. Last line: ValueError: the last words"
    assert executor.read_log(attempt, offset=2 << 30, limit_bytes=10) == b"ValueError"


LEAVES = """
import json, os, socket
from pathlib import Path
trial = json.loads(os.environ["STUDYFLOW_TRIAL"])
path, how = Path(trial["outcome_path"]), trial["params"]["how"]
if how == "an empty file": path.touch()
if how == "a torn file": path.write_text('{"version":1,"study":"demo"')
if how == "a folder": path.mkdir()
if how == "a pipe": os.mkfifo(path)
if how == "a socket": socket.socket(socket.AF_UNIX).bind(os.path.relpath(path))
if how == "a dangling link": path.symlink_to("nowhere")
if how == "the mark of a result": path.symlink_to("An outcome could not be written: Too many")
if how == "a link to a secret":
    Path("secret").write_text("hunter2")
    path.symlink_to(Path("secret").absolute())
"""


@pytest.mark.fault("F59")
def test_what_stands_in_place_of_an_outcome_and_is_none_is_refused(bench: Bench) -> None:
    bench.write(LEAVES)
    executor = bench.executor()
    words = {
        "an empty file": "The outcome document is empty",
        "a torn file": """It begins '{"version":1,"study":"demo"'""",
        "a folder": "A folder stands where the outcome document belongs",
        "a pipe": "A pipe stands where",
        "a socket": "A socket stands where",
        "a dangling link": "A link stands where",
        "a link to a secret": "A link stands where",
        "the mark of a result": "It begins 'An outcome could not be written: Too many'",
        "nothing": "ended without an objective value",
    }
    for number, how in enumerate(words):
        executor.submit(Trial("demo", number, {"how": how}, metrics=("loss",)))
    statuses = Watch(executor, 20.0).until(
        lambda seen: all(status.outcome is not None for status in seen.values())
    )
    for number, (how, said) in enumerate(words.items()):
        outcome = statuses[AttemptId(number, 1)].outcome
        assert outcome is not None
        assert outcome.cause is Cause.BAD_METRIC
        assert said in outcome.message
        assert "hunter2" not in outcome.message
        assert outcome.is_silent is (how == "nothing")


@pytest.mark.fault("F59")
def test_an_outcome_that_the_runner_cannot_read_now_is_read_later(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write("from studyflow import sdk\nsdk.finish(loss=1.0)\n")
    executor = bench.executor()
    attempt = executor.submit(a_trial())
    until(lambda: has_ended(bench.folder(attempt)))
    open_file = os.open

    def refuse(path: Any, *arguments: Any, **more: Any) -> int:
        if str(path).endswith("outcome.json"):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return open_file(path, *arguments, **more)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ExecutorUnavailable, match="Too many open files"):
        executor.poll()
    monkeypatch.setattr(os, "open", open_file)
    outcome = executor.poll()[attempt].outcome
    assert outcome is not None
    assert outcome.metrics == {"loss": 1.0}


@pytest.mark.fault("F64")
@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_a_script_that_stops_its_supervisor_costs_its_own_attempt_at_most(bench: Bench) -> None:
    status = bench.run(
        """
        import os, signal
        from studyflow import sdk
        os.kill(os.getppid(), signal.SIGSTOP)
        sdk.finish(loss=1.0)
        """
    )
    assert status.outcome is not None
    assert status.outcome.metrics == {"loss": 1.0}


def test_a_pipe_in_place_of_the_metrics_stops_nobody(bench: Bench) -> None:
    status = bench.run(
        """
        import json, os
        trial = json.loads(os.environ["STUDYFLOW_TRIAL"])
        os.mkfifo(trial["metrics_path"])
        from studyflow import sdk
        sdk.report(0, loss=1.0)
        sdk.finish(loss=0.5)
        """
    )
    assert status.outcome is not None
    assert status.outcome.metrics == {"loss": 0.5}


@pytest.mark.fault("F59")
@pytest.mark.parametrize(
    ("change", "last"),
    [
        (lambda path: path.unlink(), '["loss",2,0.5,7]\n'),
        (lambda path: path.unlink(), '["loss",2,0.5,7]\n["loss",3,0.5,8]\n["loss",4,0.5,9]\n'),
        (lambda path: path.write_text(""), '["loss",2,0.5,7]\n'),
        (lambda path: path.write_text(""), '["loss",0,8.0,5]\n["loss",2,0.5,7]\n'),
        (lambda path: path.rename(path.with_name("old")), '["loss",2,0.5,7]\n["loss",2,0.5,7]\n'),
    ],
)  # fmt: skip
def test_metrics_that_were_replaced_are_read_from_their_beginning(
    tmp_path: Path, change: Callable[[Path], object], last: str
) -> None:
    path = tmp_path / "metrics.jsonl"
    reader = MetricsReader(path)
    path.write_text('["loss",0,9.0,5]\n["loss",1,9.0,6]\n')
    assert [point.value for point in reader.read()] == [9.0, 9.0]
    change(path)
    with path.open("a") as file:
        file.write(last)
    assert reader.has_more()
    assert [point.value for point in reader.read()][-1] == 0.5
    assert not reader.has_more()
    assert reader.why_incomplete(str) == ""


SPOILS = """
import json, os
from studyflow import sdk
trial = json.loads(os.environ["STUDYFLOW_TRIAL"])
path, how = trial["metrics_path"], trial["params"]["how"]
sdk.report(0, loss=2.0)
if how == "garbage": open(path, "a").write("loss: 0.5 hunter2\\n")
if how == "torn": open(path, "a").write('["loss",1,0.')
if how == "removed": os.unlink(path)
if how == "folder": os.unlink(path), os.mkdir(path)
if how == "long": open(path, "a").write("\\n" * 400)
os._exit(0)
"""


@pytest.mark.fault("F59")
def test_a_silent_script_is_not_judged_by_a_report_before_one_that_cannot_be_read(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "METRICS_BYTES_PER_ATTEMPT", 200)
    monkeypatch.setattr(metrics, "METRICS_BYTES_PER_POLL", 100)
    bench.write(SPOILS)
    executor = bench.executor(redact=Redactor(["hunter2"]))
    words = {
        "garbage": "the last line of the reports begins 'loss: 0.5 ***'",
        "torn": "the last line of the reports is cut off",
        "removed": "",
        "folder": "something else stands where the reports belong",
        "long": "the reports are longer than 200 bytes",
        "nothing": "",
    }
    for number, how in enumerate(words):
        executor.submit(Trial("demo", number, {"how": how}, metrics=("loss",)))
    statuses = Watch(executor, 20.0).until(
        lambda seen: all(status.outcome is not None for status in seen.values())
    )
    for number, (how, said) in enumerate(words.items()):
        outcome = statuses[AttemptId(number, 1)].outcome
        assert outcome is not None
        assert outcome.cause is Cause.BAD_METRIC
        assert said in outcome.message, how
        assert how == "removed" or outcome.is_silent is (how == "nothing")


def test_a_script_whose_reports_were_removed_is_judged_alike_whether_they_were_seen_or_not(
    tmp_path: Path,
) -> None:
    path = tmp_path / "metrics.jsonl"
    reader = MetricsReader(path)
    path.write_text('["loss",0,9.0,5]\n')
    assert len(reader.read()) == 1
    path.unlink()
    assert not reader.has_more()
    assert reader.why_incomplete(str) == "the reports were removed"

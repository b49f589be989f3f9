"""What a training script says, and what of it reaches the study."""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studyflow.errors import DocumentError
from studyflow.sdk.session import Session
from studyflow.trial import Cause, MetricPoint, Outcome, TrackingRef, Trial


def session(
    folder: Path | None = None, environment: Mapping[str, str] | None = None, **changes: Any
) -> Session:
    if folder is None:
        return Session(None, environment or {})
    settings: dict[str, Any] = {
        "metrics": ("loss",),
        "outcome_path": str(folder / "outcome.json"),
        "metrics_path": str(folder / "metrics.jsonl"),
        "artifact_dir": str(folder / "artifacts"),
        "checkpoint_dir": str(folder / "checkpoints"),
        "stop_path": str(folder / "stop.json"),
    }
    return Session(Trial("demo", 3, {"lr": 0.1}, **(settings | changes)), environment or {})


def outcome(folder: Path) -> Outcome:
    return Outcome.from_json((folder / "outcome.json").read_bytes())


def points(folder: Path) -> list[tuple[str, int, float]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [(p.name, p.step, p.value) for p in map(MetricPoint.from_json, lines)]


class Tensor:
    """Stands in for what tensor libraries return."""

    def __init__(self, *values: float) -> None:
        self._values = values

    def __float__(self) -> float:
        if len(self._values) != 1:
            raise RuntimeError("a Tensor with 2 elements cannot be converted to Scalar")
        return self._values[0]

    def __repr__(self) -> str:
        return f"tensor({list(self._values)})"


class bool_:  # noqa: N801 - numpy's name
    def __float__(self) -> float:
        return 1.0


def test_a_trial_s_parameters_are_the_script_s_own_copy(tmp_path: Path) -> None:
    current = session(tmp_path)
    trial = current.current_trial({"lr": 9.0, "depth": 3})
    assert trial.params == {"lr": 0.1}
    trial.params["lr"] = 5.0
    assert current.current_trial({}).params == {"lr": 0.1}
    assert (trial.study, trial.number, trial.attempt, trial.is_alone) == ("demo", 3, 1, False)
    assert trial.checkpoint_dir == tmp_path / "checkpoints"
    assert trial.checkpoint_dir.is_dir()


# finish


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1, 1.0),
        (0.5, 0.5),
        (Tensor(0.25), 0.25),
        (Fraction(1, 4), 0.25),
        (Decimal("0.25"), 0.25),
        (Decimal("1e400"), math.inf),
        (np.array(0.25), 0.25),
        (np.array([0.25]), 0.25),
        (np.array([[[7]]]), 7.0),
        (np.array([0.25], dtype=np.longdouble), 0.25),
        (np.longdouble(0.25), 0.25),
        (np.longdouble("1e400"), math.inf),
        (np.float16(0.25), 0.25),
        (np.ma.array([0.25]), 0.25),
        (math.inf, math.inf),
        (-math.inf, -math.inf),
        (1e400, math.inf),
    ],
)
def test_numbers_of_all_kinds_are_results(tmp_path: Path, value: Any, number: float) -> None:
    session(tmp_path).finish(value, {})
    assert outcome(tmp_path) == Outcome("demo", 3, 1, Cause.OK, {"loss": number}, "")


def test_nan_is_a_result_too(tmp_path: Path) -> None:
    session(tmp_path).finish(None, {"loss": math.nan})
    assert math.isnan(outcome(tmp_path).metrics["loss"])


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "None (NoneType)"),
        ("0.5", "'0.5' (str)"),
        (b"1", "b'1' (bytes)"),
        (True, "True (bool)"),
        (bool_(), "(bool_)"),
        ([0.5], "[0.5] (list)"),
        (np.array([0.25, 0.5]), "array([0.25, 0.5 ]) (ndarray)"),
        (np.array([]), "array([], dtype=float64) (ndarray)"),
        (np.array([True]), "array([ True]) (ndarray)"),
        (np.array(True), "array(True) (ndarray)"),
        (np.array(["0.5"]), "(ndarray)"),
        (np.array([1 + 2j]), "array([1.+2.j]) (ndarray)"),
        (np.str_("0.5"), "(str_)"),
        (np.ma.array([0.25], mask=[True]), "(MaskedArray)"),
        (np.ma.masked, "masked (MaskedConstant)"),
        (1j, "1j (complex)"),
        (Tensor(1, 2), "tensor([1, 2]) (Tensor)"),
        (10**400, "within the range of floats, up to 1.8e308, not 1000000"),
        (-(10**400), "not -100000"),
        pytest.param(10**5000, "not 0x", id="5001 digits"),
        (Fraction(10**400), "not Fraction(1000000"),
        ("x" * 500, "xxx… (str)"),
    ],
)
@pytest.mark.fault("F39")
def test_what_is_not_a_number_is_refused_and_recorded(
    tmp_path: Path, value: Any, shown: str
) -> None:
    with pytest.raises(TypeError, match="loss must be a number") as caught:
        session(tmp_path).finish(None, {"loss": value})
    assert shown in str(caught.value)
    assert len(str(caught.value)) < 200
    assert outcome(tmp_path).cause is Cause.USER_ERROR
    assert shown in outcome(tmp_path).message
    with pytest.raises(TypeError, match="report: loss must be a number"):
        session(tmp_path).report(0, {"loss": value})
    assert not (tmp_path / "metrics.jsonl").exists()


def test_finishing_with_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"no value was given .* expects 'loss'"):
        session(tmp_path).finish(None, {})
    assert outcome(tmp_path).cause is Cause.USER_ERROR


def test_a_value_without_a_name_needs_a_study_with_one_metric(tmp_path: Path) -> None:
    two = session(tmp_path, metrics=("loss", "latency_ms"))
    with pytest.raises(TypeError, match=r"expects 'loss', 'latency_ms': pass them by name"):
        two.finish(0.5, {})
    with pytest.raises(TypeError, match="'loss' is given twice"):
        session(tmp_path).finish(0.5, {"loss": 0.4})


def test_a_missing_metric_is_named_and_the_others_kept(tmp_path: Path) -> None:
    session(tmp_path, metrics=("loss", "latency_ms")).finish(None, {"loss": 0.5, "acc": 0.9})
    assert outcome(tmp_path).cause is Cause.BAD_METRIC
    assert outcome(tmp_path).metrics == {"loss": 0.5, "acc": 0.9}
    assert "without 'latency_ms'; it got 'loss', 'acc'" in outcome(tmp_path).message


@pytest.mark.fault("F40")
def test_the_last_finish_counts(tmp_path: Path) -> None:
    current = session(tmp_path)
    current.finish(0.5, {"acc": 1.0})
    current.finish(0.25, {})
    assert outcome(tmp_path).metrics == {"loss": 0.25}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outcome.json"]


def test_of_too_many_metrics_the_expected_ones_are_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    many = {f"class_{i}_accuracy": 0.123456789 for i in range(500)}
    session(tmp_path).finish(0.5, many)
    assert outcome(tmp_path).metrics == {"loss": 0.5}
    assert outcome(tmp_path).cause is Cause.OK
    assert "left out 500 others" in outcome(tmp_path).message
    assert "left out 500 others" in capsys.readouterr().err


def test_too_many_expected_metrics_are_refused(tmp_path: Path) -> None:
    names = tuple(f"class_{i}_accuracy" for i in range(500))
    with pytest.raises(DocumentError, match="longer than 4096 bytes"):
        session(tmp_path, metrics=names).finish(None, dict.fromkeys(names, 0.5))
    assert outcome(tmp_path).cause is Cause.USER_ERROR
    assert "holds 500 metrics" in outcome(tmp_path).message


def test_an_outcome_file_that_can_only_be_written_in_place_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A pod's termination message is a mounted file: renaming onto it fails.
    def refuse(self: Path, target: Path) -> Path:
        raise OSError("device or resource busy")

    monkeypatch.setattr(Path, "replace", refuse)
    (tmp_path / "outcome.json").write_text("x" * 5000)
    session(tmp_path).finish(0.5, {})
    assert outcome(tmp_path).metrics == {"loss": 0.5}
    assert [path.name for path in tmp_path.iterdir()] == ["outcome.json"]


def test_a_pod_s_outcome_goes_into_its_termination_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A container without root finds the file in a folder where it may create nothing.
    open_file = os.open

    def open_only_the_file(path: Any, *arguments: Any) -> int:
        if not Path(path).exists():
            raise PermissionError(13, "Permission denied")
        return open_file(path, *arguments)

    log = tmp_path / "termination-log"
    log.touch()
    current = session(
        tmp_path,
        outcome_path=str(log),
        metrics_path=None,
        artifact_dir=None,
        checkpoint_dir=None,
        stop_path=None,
    )
    number = log.stat().st_ino
    monkeypatch.setattr(os, "open", open_only_the_file)
    current.report(0, {"loss": 1.0})
    current.finish(0.5, {})
    current.finish(0.25, {})
    assert Outcome.from_json(log.read_bytes()).metrics == {"loss": 0.25}
    assert log.stat().st_ino == number
    assert [path.name for path in tmp_path.iterdir()] == ["termination-log"]


# report


def test_reported_metrics_are_lines_of_a_file(tmp_path: Path) -> None:
    current = session(tmp_path)
    current.report(0, {"loss": 1, "val/acc": Tensor(0.5)})
    current.report(1, {"loss": math.inf})
    current.report(2, {})
    assert points(tmp_path) == [("loss", 0, 1.0), ("val/acc", 0, 0.5), ("loss", 1, math.inf)]


@pytest.mark.parametrize("step", [1.0, "1", None, True])
def test_a_step_is_an_integer(tmp_path: Path, step: Any) -> None:
    with pytest.raises(TypeError, match="the step must be an integer"):
        session(tmp_path).report(step, {"loss": 1.0})


def test_a_step_is_not_negative(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="0 or more, not -1"):
        session(tmp_path).report(-1, {"loss": 1.0})


def test_a_step_is_a_number_that_databases_store(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"below 2\*\*63, not 9223372036854775808"):
        session(tmp_path).report(2**63, {"loss": 1.0})


@pytest.mark.parametrize("name", ["", "a" * 251, "a\nb", "loss@1", "größe", "a\0"])
def test_a_name_is_what_mlflow_takes(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="a metric's name"):
        session(tmp_path).report(0, {name: 1.0})


def test_a_missing_folder_does_not_stop_a_training_and_is_no_silence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    current = session(tmp_path, metrics_path=str(tmp_path / "missing" / "metrics.jsonl"))
    current.report(0, {"loss": 1.0})
    current.report(1, {"loss": 1.0})
    assert capsys.readouterr().err.count("metrics cannot be written") == 1
    current.close()
    assert outcome(tmp_path).cause is Cause.BAD_METRIC
    assert "last reported metrics are lost: No such file" in outcome(tmp_path).message


def test_threads_do_not_mix_their_lines(tmp_path: Path) -> None:
    current = session(tmp_path)

    def work(worker: int) -> None:
        for step in range(50):
            current.report(step, {f"loss_{worker}": step, "x" * 200: 1.0})

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(points(tmp_path)) == 800


# Disks that are full


class Disk:
    """A disk that takes so many bytes, some of them at once, and then no more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int, at_once: int = 1 << 20) -> None:
        self.room, self.at_once = room, at_once
        self._write = os.write
        monkeypatch.setattr(os, "write", self.write)

    def write(self, descriptor: int, content: bytes) -> int:
        if self.room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        n_written = self._write(descriptor, content[: min(self.room, self.at_once)])
        self.room -= n_written
        return n_written


def forbid_replacing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the outcome be written in place only, as in a pod."""

    def refuse(self: Path, target: Path) -> Path:
        raise OSError(errno.EBUSY, "device or resource busy")

    monkeypatch.setattr(Path, "replace", refuse)


@pytest.mark.fault("F59")
@pytest.mark.parametrize("room", [0, 1, 60, 90])
@pytest.mark.parametrize("is_pod", [False, True])
def test_a_result_that_finds_no_room_is_an_error_and_no_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, is_pod: bool
) -> None:
    if is_pod:
        forbid_replacing(monkeypatch)
        (tmp_path / "outcome.json").touch()
    current = session(tmp_path)
    Disk(monkeypatch, room)
    with pytest.raises(OSError, match=r"finish: the result cannot be written.* No space left"):
        current.finish(0.5, {})
    assert (tmp_path / "outcome.json").stat().st_size > 0
    with pytest.raises(DocumentError):
        outcome(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["outcome.json"]


@pytest.mark.fault("F59")
@pytest.mark.parametrize("room", [0, 1, 60])
@pytest.mark.parametrize("is_pod", [False, True])
def test_a_result_outlives_a_later_one_that_finds_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, is_pod: bool
) -> None:
    if is_pod:
        forbid_replacing(monkeypatch)
    current = session(tmp_path)
    current.finish(0.5, {"longer": 1.0})
    disk = Disk(monkeypatch, room)
    with pytest.raises(OSError, match="No space left"):
        current.finish(0.25, {})
    # What the fake disk cannot know: bytes of a file that has them already need no room.
    if not (is_pod and room):
        assert outcome(tmp_path).metrics == {"loss": 0.5, "longer": 1.0}
    disk.room = 10_000
    current.close()
    assert outcome(tmp_path).metrics == {"loss": 0.25}


@pytest.mark.fault("F59")
def test_a_write_that_was_cut_short_is_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    current = session(tmp_path)
    Disk(monkeypatch, 10_000, at_once=7)
    current.report(0, {"loss": 1.0})
    current.finish(0.5, {})
    assert points(tmp_path) == [("loss", 0, 1.0)]
    assert outcome(tmp_path).metrics == {"loss": 0.5}


@pytest.mark.fault("F59")
@pytest.mark.parametrize("room", [0, 10])
def test_a_report_that_finds_no_room_is_an_error_and_spoils_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    current = session(tmp_path)
    current.report(0, {"loss": 1.0})
    disk = Disk(monkeypatch, room)
    with pytest.raises(OSError, match=r"report: the step cannot be written.* No space left"):
        current.report(1, {"loss": 0.5})
    disk.room = 10_000
    current.report(2, {"loss": 0.25})
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)[1] for line in (lines[0], lines[-1])] == [0, 2]
    current.close()
    assert not (tmp_path / "outcome.json").exists(), "the last report is there"


@pytest.mark.fault("F59")
def test_without_a_result_a_lost_report_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    current = session(tmp_path)
    current.report(0, {"loss": 1.0})
    disk = Disk(monkeypatch, 0)
    with pytest.raises(OSError, match="No space left"):
        current.report(1, {"loss": 0.5})
    disk.room = 10_000
    current.close()
    assert outcome(tmp_path).cause is Cause.BAD_METRIC
    assert "its last reported metrics are lost: No space left" in outcome(tmp_path).message


@pytest.mark.fault("F59")
def test_without_a_result_metrics_that_do_not_reach_mlflow_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Silent:
        is_refused = False

        def __init__(self, *arguments: object) -> None: ...

        def put(self, points: object) -> None: ...

        def flush(self, timeout_seconds: float) -> bool:
            return False

    monkeypatch.setattr("studyflow.sdk.mlflow_sender.MlflowSender", Silent)
    tracking = TrackingRef("http://mlflow:5000", "abc")
    current = session(tmp_path, metrics_path=None, tracking=tracking)
    current.report(0, {"loss": 1.0})
    current.close()
    assert outcome(tmp_path).cause is Cause.BAD_METRIC
    assert "are lost: they did not reach MLflow" in outcome(tmp_path).message

    other = session(tmp_path, metrics_path=None, tracking=tracking)
    other.report(0, {"loss": 1.0})
    other.finish(0.5, {})
    other.close()
    assert outcome(tmp_path).metrics == {"loss": 0.5}


@pytest.mark.fault("F59")
def test_a_refused_result_that_finds_no_room_is_no_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    current = session(tmp_path)
    Disk(monkeypatch, 0)
    with pytest.raises(TypeError, match="loss must be a number"):
        current.finish("0.5", {})
    current.record_crash(ValueError("no data"))
    assert (tmp_path / "outcome.json").stat().st_size > 0


@pytest.mark.fault("F59")
def test_a_result_that_no_file_can_be_opened_for_is_no_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **more: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    current = session(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with pytest.raises(OSError, match="Too many open files"):
            current.finish(0.5, {})
    assert str((tmp_path / "outcome.json").readlink()) == (
        "An outcome could not be written: Too many open files"
    )
    current.close()
    assert outcome(tmp_path).metrics == {"loss": 0.5}


@pytest.mark.fault("F59")
def test_a_disk_that_fails_later_has_not_stored_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sync(descriptor: int) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "fsync", sync)
    with pytest.raises(OSError, match="quota"):
        session(tmp_path).finish(0.5, {})


# Several processes of one trial


@pytest.fixture(params=["folder", "pod"])
def processes(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Session, Session]:
    """Sessions of a script and of what it started, or of two scripts of one command."""
    if request.param == "pod":
        forbid_replacing(monkeypatch)
        (tmp_path / "outcome.json").touch()
    return session(tmp_path), session(tmp_path)


@pytest.mark.fault("F60")
def test_a_process_that_fails_does_not_take_back_the_result_of_another(
    tmp_path: Path, processes: tuple[Session, Session]
) -> None:
    script, child = processes
    script.finish(0.5, {})
    child.record_crash(RuntimeError("no display"))
    with pytest.raises(TypeError):
        child.finish("0.4", {})
    child.close()
    assert outcome(tmp_path) == Outcome("demo", 3, 1, Cause.OK, {"loss": 0.5})


@pytest.mark.fault("F60")
def test_a_result_counts_whatever_failed_before(
    tmp_path: Path, processes: tuple[Session, Session]
) -> None:
    script, child = processes
    child.record_crash(RuntimeError("x" * 3000))
    script.finish(0.5, {})
    assert outcome(tmp_path) == Outcome("demo", 3, 1, Cause.OK, {"loss": 0.5})


@pytest.mark.fault("F60")
def test_the_last_result_counts_whichever_process_gives_it(
    tmp_path: Path, processes: tuple[Session, Session]
) -> None:
    script, child = processes
    script.finish(0.5, {})
    child.finish(0.4, {})
    assert outcome(tmp_path).metrics == {"loss": 0.4}
    script.finish(0.3, {})
    assert outcome(tmp_path).metrics == {"loss": 0.3}


@pytest.mark.fault("F60")
def test_a_failed_process_is_the_outcome_until_there_is_a_result(
    tmp_path: Path, processes: tuple[Session, Session]
) -> None:
    # "python train.py | tee log" ends with exit code 0 all the same.
    script, child = processes
    child.record_crash(RuntimeError("no display"))
    script.close()
    assert outcome(tmp_path).message == "RuntimeError: no display"
    script.record_crash(ValueError("no data"))
    assert outcome(tmp_path).message == "ValueError: no data"


@pytest.mark.fault("F60")
@pytest.mark.parametrize(
    "there", ["garbage", Outcome("demo", 4, 1, Cause.OK, {"loss": 1.0}).to_json()]
)
def test_a_crash_takes_the_place_of_what_is_no_result_of_this_attempt(
    tmp_path: Path, there: str
) -> None:
    (tmp_path / "outcome.json").write_text(there)
    session(tmp_path).record_crash(ValueError("no data"))
    assert outcome(tmp_path).message == "ValueError: no data"


def test_a_process_takes_back_what_it_said_itself(tmp_path: Path) -> None:
    current = session(tmp_path)
    current.finish(0.5, {})
    with pytest.raises(TypeError):
        current.finish("0.4", {})
    assert outcome(tmp_path).cause is Cause.USER_ERROR


@pytest.mark.fault("F60")
def test_a_process_that_is_stopped_while_it_writes_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studyflow.sdk.outcome_file.LOCK_SECONDS", 0.01)
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        session(tmp_path).finish(0.5, {})
    finally:
        os.close(folder)
    assert outcome(tmp_path).metrics == {"loss": 0.5}


# Who speaks


@pytest.mark.parametrize(("rank", "speaks"), [("0", True), ("1", False), ("7", False)])
def test_of_several_ranks_the_first_speaks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rank: str, speaks: bool
) -> None:
    current = session(tmp_path, {"RANK": rank, "WORLD_SIZE": "8"})
    current.report(0, {"loss": 1.0})
    current.finish(0.5, {})
    assert (tmp_path / "metrics.jsonl").exists() is speaks
    assert (tmp_path / "outcome.json").exists() is speaks
    told = f"studyflow: this process is rank {rank} of 8 (RANK and WORLD_SIZE); rank 0 reports\n"
    assert capsys.readouterr().err == ("" if speaks else told)


@pytest.mark.fault("F75")
@pytest.mark.parametrize("rank", ["8", "1", "abc", ""])
def test_a_rank_that_no_launcher_set_silences_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rank: str
) -> None:
    current = session(tmp_path, {"RANK": rank})
    current.report(0, {"loss": 1.0})
    current.finish(0.5, {})
    assert outcome(tmp_path).metrics == {"loss": 0.5}
    assert points(tmp_path) == [("loss", 0, 1.0)]
    assert capsys.readouterr().err == ""


@pytest.mark.fault("F75")
def test_a_process_that_has_reported_may_set_ranks_for_those_it_starts(tmp_path: Path) -> None:
    environment: dict[str, str] = {}
    current = session(tmp_path, environment)
    current.report(0, {"loss": 2.0})
    environment |= {"RANK": "1", "WORLD_SIZE": "2"}
    current.report(1, {"loss": 1.0})
    current.finish(0.5, {})
    assert points(tmp_path) == [("loss", 0, 2.0), ("loss", 1, 1.0)]
    assert outcome(tmp_path).metrics == {"loss": 0.5}


@pytest.mark.fault("F75")
@pytest.mark.parametrize("say", ["report", "finish", "artifact"])
def test_a_silent_process_says_why_in_the_first_call_that_does_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], say: str
) -> None:
    current = session(tmp_path, {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"})
    current.current_trial({})
    assert capsys.readouterr().err == ""
    calls: dict[str, Any] = {
        "report": lambda: current.report(0, {"loss": 1.0}),
        "finish": lambda: current.finish(0.5, {}),
        "artifact": lambda: current.artifact(tmp_path, None),
    }
    calls[say]()
    assert capsys.readouterr().err.startswith("studyflow: this process is rank 1 of 2 (OMPI_COMM")
    for call in calls.values():
        call()
    assert capsys.readouterr().err == ""


def in_a_fork(action: Callable[[], object]) -> None:
    child = os.fork()
    if child == 0:
        try:
            action()
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_is_silent(tmp_path: Path) -> None:
    current = session(tmp_path)

    def load() -> None:
        current.report(0, {"seconds_per_batch": 1.0})
        current.record_crash(ValueError("in a data loader"))
        current.close()

    in_a_fork(load)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault("F59")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("function", ["finish", "report"])
def test_a_result_that_only_a_forked_process_has_is_no_silence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], function: str
) -> None:
    current = session(tmp_path)
    current.report(0, {"loss": 2.0})

    def give() -> None:
        for _ in range(2):
            current.finish(1.0, {}) if function == "finish" else current.report(1, {"loss": 1.0})

    in_a_fork(give)
    current.close()
    assert points(tmp_path) == [("loss", 0, 2.0)]
    assert outcome(tmp_path).cause is Cause.USER_ERROR
    assert outcome(tmp_path).message.startswith(f"{function}() was called in another process")
    assert capfd.readouterr().err.count("was forked") == 1


@pytest.mark.fault("F59")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("is_first", [True, False])
def test_a_forked_process_changes_nothing_about_the_first_one_s_result(
    tmp_path: Path, is_first: bool
) -> None:
    current = session(tmp_path)
    if is_first:
        current.finish(0.5, {})
    in_a_fork(lambda: current.finish(1.0, {}))
    if not is_first:
        current.finish(0.5, {})
    assert outcome(tmp_path).metrics == {"loss": 0.5}


@pytest.mark.fault("F60")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_crash_after_a_forked_process_gave_a_result_is_told(tmp_path: Path) -> None:
    current = session(tmp_path)
    in_a_fork(lambda: current.finish(1.0, {}))
    current.record_crash(MemoryError())
    assert outcome(tmp_path).cause is Cause.HOST_OOM


@pytest.mark.fault("F59")
def test_a_result_that_the_script_removed_is_there_again_at_its_end(tmp_path: Path) -> None:
    current = session(tmp_path)
    current.report(0, {"loss": 2.0})
    current.finish(1.0, {})
    (tmp_path / "outcome.json").unlink()
    current.close()
    assert outcome(tmp_path).metrics == {"loss": 1.0}


# Crashes


class OutOfMemoryError(RuntimeError):
    """As torch names it."""


TRACEBACK = "Traceback (most recent call last):\n"
CUDA_OOM = "RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB"


@pytest.mark.parametrize(
    ("error", "cause", "message"),
    [
        (ValueError("no data"), Cause.USER_ERROR, "ValueError: no data"),
        (ValueError(), Cause.USER_ERROR, "ValueError"),
        (MemoryError(), Cause.HOST_OOM, "MemoryError"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
            Cause.HOST_OOM,
            "RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory",
        ),
        (OutOfMemoryError("x"), Cause.CUDA_OOM, "OutOfMemoryError: x"),
        (
            RuntimeError("CUDA out of memory. Tried"),
            Cause.CUDA_OOM,
            "RuntimeError: CUDA out of memory. Tried",
        ),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"),
            Cause.CUDA_OOM,
            "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`",
        ),
        (
            OSError(errno.ENOMEM, "Cannot allocate memory"),
            Cause.HOST_OOM,
            "OSError: [Errno 12] Cannot allocate memory",
        ),
        # Of another replica or process, as torch passes it on.
        (
            RuntimeError(f"Caught RuntimeError in replica 0.\nOriginal {TRACEBACK}{CUDA_OOM}"),
            Cause.CUDA_OOM,
            f"RuntimeError: Caught RuntimeError in replica 0. Original {TRACEBACK}{CUDA_OOM}",
        ),
        (
            RuntimeError(f"{TRACEBACK}{CUDA_OOM}\n\n{TRACEBACK}KeyError: 'lr'"),
            Cause.USER_ERROR,
            f"RuntimeError: {TRACEBACK}{CUDA_OOM} {TRACEBACK}KeyError: 'lr'",
        ),
        # A message that only mentions it is about something else.
        (
            ValueError("CUDA out of memory is no policy"),
            Cause.USER_ERROR,
            "ValueError: CUDA out of memory is no policy",
        ),
        (
            RuntimeError("no policy for 'CUDA out of memory'"),
            Cause.USER_ERROR,
            "RuntimeError: no policy for 'CUDA out of memory'",
        ),
        (ValueError("a\n\x1b[31mb\0"), Cause.USER_ERROR, "ValueError: a [31mb"),
    ],
)
@pytest.mark.fault("F61")
def test_an_uncaught_exception_is_the_outcome(
    tmp_path: Path, error: BaseException, cause: Cause, message: str
) -> None:
    session(tmp_path).record_crash(error)
    assert outcome(tmp_path) == Outcome("demo", 3, 1, cause, {}, message.replace("\n", " "))


def chained(error: BaseException, *, cause: BaseException | None, context: BaseException) -> Any:
    error.__cause__, error.__context__ = cause, context
    return error


@pytest.mark.fault("F61")
@pytest.mark.parametrize(
    ("error", "cause"),
    [
        # Raised while a lack of memory was handled: the script had survived that.
        (chained(KeyError("lr"), cause=None, context=OutOfMemoryError()), Cause.USER_ERROR),
        (chained(OutOfMemoryError(), cause=None, context=KeyError("lr")), Cause.CUDA_OOM),
        # Raised from it.
        (
            chained(RuntimeError("gave up"), cause=MemoryError(), context=KeyError("lr")),
            Cause.HOST_OOM,
        ),
        (ExceptionGroup("tasks", [OutOfMemoryError(), OutOfMemoryError()]), Cause.CUDA_OOM),
        (ExceptionGroup("tasks", [OutOfMemoryError(), KeyError("lr")]), Cause.USER_ERROR),
    ],
)
def test_of_a_chain_the_exception_that_ended_the_script_counts(
    tmp_path: Path, error: BaseException, cause: Cause
) -> None:
    session(tmp_path).record_crash(error)
    assert outcome(tmp_path).cause is cause


@pytest.mark.fault("F51")
def test_what_a_script_says_of_its_end_holds_no_secret_of_its_variables(tmp_path: Path) -> None:
    secrets = {"HF_TOKEN": "tok-12345", "DATA_URL": "s3://me:f00lish@store"}
    session(tmp_path, secrets).record_crash(OSError("x" * 1995 + " tok-12345 is refused"))
    session(tmp_path, secrets).record_crash(
        OSError("tok-12345 is refused at s3://me:f00lish@store")
    )
    assert outcome(tmp_path).message == "OSError: *** is refused at s3://me:***@store"
    with pytest.raises(TypeError):
        session(tmp_path, secrets).finish("tok-12345", {})
    assert "12345" not in outcome(tmp_path).message


def test_the_place_of_a_crash_is_told(tmp_path: Path) -> None:
    try:
        json.loads("{")
    except ValueError as error:
        session(tmp_path).record_crash(error)
    assert "(decoder.py:" in outcome(tmp_path).message


def test_an_endless_message_is_cut(tmp_path: Path) -> None:
    session(tmp_path).record_crash(ValueError("x" * 10_000_000))
    assert len(outcome(tmp_path).message) < 600


def test_an_interrupt_says_nothing_about_the_trial(tmp_path: Path) -> None:
    session(tmp_path).record_crash(KeyboardInterrupt())
    assert list(tmp_path.iterdir()) == []


def test_a_crash_after_finish_changes_nothing(tmp_path: Path) -> None:
    current = session(tmp_path)
    current.finish(0.5, {})
    current.record_crash(ValueError("while closing the logger"))
    assert outcome(tmp_path).cause is Cause.OK


def test_a_crash_tells_whether_the_stop_came_before_it(tmp_path: Path) -> None:
    (tmp_path / "stop.json").touch()
    session(tmp_path).record_crash(ValueError("interrupted"))
    assert outcome(tmp_path).stopped


def test_an_exception_without_a_text_is_recorded_all_the_same(tmp_path: Path) -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    session(tmp_path).record_crash(Broken())
    assert outcome(tmp_path).message == "Broken"


# Stopping


def test_the_stop_file_asks_to_stop(tmp_path: Path) -> None:
    current = session(tmp_path)
    previous = signal.getsignal(signal.SIGTERM)
    try:
        assert not current.should_stop()
        (tmp_path / "stop.json").touch()
        assert current.should_stop()
    finally:
        signal.signal(signal.SIGTERM, previous)


def test_sigterm_asks_to_stop_and_reaches_the_script_s_own_handler() -> None:
    received: list[int] = []
    previous = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        current = session()
        assert not current.should_stop()
        signal.raise_signal(signal.SIGTERM)
        assert current.should_stop()
        assert received == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, previous)


GOODBYE = """\
import os, signal
from studyflow import sdk

class Last:
    def __del__(self, kill=os.kill, pid=os.getpid(), number=signal.SIGTERM, write=os.write):
        kill(pid, number)
        write(1, b"goodbye")

last = Last()
sdk.should_stop()
"""
"""Gets its SIGTERM when Python shuts down and handles signals no more."""


def test_sigterm_does_not_kill_a_script_that_is_leaving_already() -> None:
    done = subprocess.run([sys.executable, "-c", GOODBYE], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"goodbye"), done.stderr


def test_another_thread_may_ask_whether_to_stop() -> None:
    answers: list[bool] = []
    previous = signal.getsignal(signal.SIGTERM)
    current = session()
    thread = threading.Thread(target=lambda: answers.append(current.should_stop()))
    thread.start()
    thread.join()
    assert answers == [False]
    assert signal.getsignal(signal.SIGTERM) is previous


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_terminate_ends_processes_forked_after_the_question() -> None:
    previous = signal.getsignal(signal.SIGTERM)
    try:
        session().should_stop()
        child = os.fork()
        if child == 0:
            signal.pause()
            os._exit(0)
        os.kill(child, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, previous)


def test_a_process_that_is_not_its_container_s_first_dies_of_sigterm_by_itself(
    tmp_path: Path,
) -> None:
    session(tmp_path).end_on_sigterm(pid=2)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_script_s_own_handler_stays_in_a_container_s_first_process(tmp_path: Path) -> None:
    previous = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        session(tmp_path).end_on_sigterm(pid=1)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, previous)


def test_another_thread_leaves_signals_alone(tmp_path: Path) -> None:
    thread = threading.Thread(target=session(tmp_path).end_on_sigterm, args=(1,))
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_sigterm_ends_a_container_s_first_process_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    previous = signal.getsignal(signal.SIGTERM)
    late: list[int] = []
    # This process is pytest's: nothing may end it later.
    monkeypatch.setattr("studyflow.sdk.sigterm.exit_late", late.append)
    try:
        current = session(tmp_path)
        current.end_on_sigterm(pid=1)
        with pytest.raises(SystemExit) as caught:
            signal.raise_signal(signal.SIGTERM)
        assert caught.value.code == 143
        signal.raise_signal(signal.SIGTERM)
        current.finish(0.5, {})
        assert outcome(tmp_path).stopped
    finally:
        signal.signal(signal.SIGTERM, previous)


def test_a_handler_over_that_of_a_container_s_first_process_decides(tmp_path: Path) -> None:
    previous = signal.getsignal(signal.SIGTERM)
    try:
        current = session(tmp_path)
        current.end_on_sigterm(pid=1)
        below: Any = signal.getsignal(signal.SIGTERM)
        signal.signal(signal.SIGTERM, lambda *arguments: below(*arguments))
        signal.raise_signal(signal.SIGTERM)
        assert current.should_stop()
    finally:
        signal.signal(signal.SIGTERM, previous)


def test_the_question_makes_a_request_of_sigterm_in_a_container_s_first_process(
    tmp_path: Path,
) -> None:
    previous = signal.getsignal(signal.SIGTERM)
    try:
        current = session(tmp_path)
        current.end_on_sigterm(pid=1)
        assert not current.should_stop()
        signal.raise_signal(signal.SIGTERM)
        assert current.should_stop()
    finally:
        signal.signal(signal.SIGTERM, previous)


def test_a_result_tells_whether_the_stop_file_came_before_it(tmp_path: Path) -> None:
    current = session(tmp_path)
    current.finish(0.5, {})
    assert not outcome(tmp_path).stopped
    (tmp_path / "stop.json").touch()
    assert not outcome(tmp_path).stopped
    current.finish(0.4, {})
    assert outcome(tmp_path) == Outcome("demo", 3, 1, Cause.OK, {"loss": 0.4}, stopped=True)


def test_a_result_tells_whether_sigterm_came_before_it(tmp_path: Path) -> None:
    previous = signal.getsignal(signal.SIGTERM)
    try:
        current = session(tmp_path, stop_path=None)
        current.should_stop()
        signal.raise_signal(signal.SIGTERM)
        current.finish(0.5, {f"class_{i}_accuracy": 0.123456789 for i in range(500)})
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert outcome(tmp_path).stopped
    assert outcome(tmp_path).metrics == {"loss": 0.5}


@pytest.mark.fault("F70")
@pytest.mark.parametrize(
    ("step", "metrics", "budget", "is_request"),
    [
        (2, {"loss": 0.5}, 3, True),
        (7, {"loss": 0.5}, 3, True),
        (1, {"loss": 0.5}, 3, False),
        (2, {"accuracy": 0.5}, 3, False),
        (2, {"loss": 0.5}, None, False),
    ],
)
def test_sigterm_is_a_request_once_the_objective_of_the_last_step_is_reported(
    tmp_path: Path, step: int, metrics: Mapping[str, float], budget: int | None, is_request: bool
) -> None:
    previous = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        current = session(tmp_path, budget=budget)
        current.report(step, metrics)
        assert (signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL) is is_request
        if is_request:
            signal.raise_signal(signal.SIGTERM)
            current.finish(0.5, {})
            assert outcome(tmp_path).stopped
    finally:
        signal.signal(signal.SIGTERM, previous)


def test_the_last_report_leaves_a_handler_of_the_script_s_own(tmp_path: Path) -> None:
    previous = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        session(tmp_path, budget=1).report(0, {"loss": 0.5})
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, previous)


def test_a_crash_tells_of_the_stop_too(tmp_path: Path) -> None:
    (tmp_path / "stop.json").touch()
    session(tmp_path).record_crash(RuntimeError("a data loader was terminated"))
    assert (outcome(tmp_path).cause, outcome(tmp_path).stopped) == (Cause.USER_ERROR, True)


def test_a_refused_result_tells_of_the_stop_too(tmp_path: Path) -> None:
    (tmp_path / "stop.json").touch()
    with pytest.raises(TypeError):
        session(tmp_path).finish("0.5", {})
    assert outcome(tmp_path).stopped
    session(tmp_path, metrics=("loss", "ms")).finish(None, {"loss": 0.5})
    assert (outcome(tmp_path).cause, outcome(tmp_path).stopped) == (Cause.BAD_METRIC, True)


# Artifacts


def test_a_file_is_copied_so_that_later_writes_do_not_change_it(tmp_path: Path) -> None:
    current = session(tmp_path)
    model = tmp_path / "model.pt"
    model.write_text("epoch 1")
    target = current.artifact(model, None)
    with model.open("r+") as file:
        file.write("epoch 2")
    assert target == tmp_path / "artifacts" / "model.pt"
    assert target.read_text() == "epoch 1"
    assert current.artifact(model, None).read_text() == "epoch 2"
    assert current.artifact(target, None) == target


def test_a_folder_replaces_the_one_of_its_name(tmp_path: Path) -> None:
    current = session(tmp_path)
    plots = tmp_path / "plots"
    plots.mkdir()
    (plots / "a.png").touch()
    current.artifact(plots, "figures/all")
    (plots / "a.png").rename(plots / "b.png")
    current.artifact(plots, "figures/all")
    found = [p.name for p in (tmp_path / "artifacts" / "figures" / "all").iterdir()]
    assert found == ["b.png"]
    assert [p.name for p in (tmp_path / "artifacts" / "figures").iterdir()] == ["all"]


@pytest.mark.parametrize("name", ["../model.pt", "/etc/passwd", "a/../../b", "", "."])
def test_an_artifact_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "model.pt").touch()
    with pytest.raises(ValueError, match="must stay within"):
        session(tmp_path).artifact(tmp_path / "model.pt", name)


def test_an_artifact_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing at"):
        session(tmp_path).artifact(tmp_path / "model.pt", None)


@pytest.mark.fault("F65")
def test_an_artifact_folder_is_kept_without_what_leads_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ckpt = tmp_path / "ckpt"
    (ckpt / "deep").mkdir(parents=True)
    (ckpt / "epoch1.pt").write_text("w")
    (ckpt / "best.pt").symlink_to("epoch1.pt")
    (ckpt / "last.pt").symlink_to("epoch0.pt")
    (ckpt / "deep" / "up").symlink_to("..")
    (ckpt / "passwd").symlink_to("/etc/passwd")
    os.mkfifo(ckpt / "pipe")
    current = session(tmp_path)
    kept = current.artifact(ckpt, None)
    current.artifact(ckpt, "again")
    assert sorted(p.name for p in kept.iterdir()) == ["best.pt", "epoch1.pt"]
    assert (kept / "best.pt").read_text() == "w"
    assert not (kept / "best.pt").is_symlink()
    assert capsys.readouterr().err == (
        "studyflow: artifact 'ckpt': left out deep/up (a link to a folder), last.pt (a link to "
        "nothing), passwd (a link that leads out of the folder) and 1 more; the training goes on.\n"
    )


def n_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.fault("F65")
@pytest.mark.timeout(10)
def test_no_kind_of_artifact_makes_a_training_fail_or_wait(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    current = session(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "huge").touch()
    os.truncate(tmp_path / "huge", 1 << 40)
    before = n_descriptors()
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path / "huge"):
        assert current.artifact(path, None) == path
    assert n_descriptors() == before
    assert list((tmp_path / "artifacts").glob("*")) == []
    assert [line.partition(": left out ")[2] for line in capsys.readouterr().err.splitlines()] == [
        "all of it (a pipe); the training goes on.",
        "all of it (a device); the training goes on.",
        "all of it (1024 GiB, with what is before it beyond 100 GiB); the training goes on.",
    ]


@pytest.mark.fault("F65")
def test_an_artifact_replaces_whatever_has_its_name(tmp_path: Path) -> None:
    current = session(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").touch()
    (tmp_path / "file").write_text("f")
    assert current.artifact(tmp_path / "file", "x").is_file()
    assert current.artifact(tmp_path / "folder", "x").is_dir()
    assert current.artifact(tmp_path / "file", "x").read_text() == "f"
    (tmp_path / "artifacts" / "x").unlink()
    (tmp_path / "artifacts" / "x").symlink_to(tmp_path / "folder")
    assert current.artifact(tmp_path / "folder", "x").is_dir()
    assert not (tmp_path / "artifacts" / "x").is_symlink()
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["a"]


@pytest.mark.fault("F65")
def test_a_folder_that_holds_the_artifacts_is_copied_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    current = session(tmp_path)
    kept = current.artifact(tmp_path, "all")
    assert sorted(p.name for p in kept.iterdir()) == ["a"]


@pytest.mark.fault("F65")
def test_an_artifact_that_cannot_be_copied_leaves_nothing_and_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("f")
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "x").write_text("earlier")
    current = session(tmp_path)
    assert current.artifact(tmp_path / "file", "x/y") == tmp_path / "file"
    assert "left out all of it (cannot be copied: " in capsys.readouterr().err
    (tmp_path / "artifacts").rename(tmp_path / "moved")
    (tmp_path / "artifacts").symlink_to(tmp_path / "moved")
    assert current.artifact(tmp_path / "file", "z") == tmp_path / "file"
    assert "the artifact folder was replaced by a link" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "moved").iterdir()] == ["x"]


# Alone


def alone(environment: Mapping[str, str], lines: list[str]) -> Session:
    return Session(None, environment, lines.append)


def test_a_script_runs_alone_with_its_defaults_and_given_parameters() -> None:
    current = alone({"STUDYFLOW_PARAMS": '{"lr": 0.5}'}, [])
    trial = current.current_trial({"lr": 0.1, "depth": 3})
    assert trial.params == {"lr": 0.5, "depth": 3}
    assert trial.is_alone
    assert trial.budget is None
    assert trial.checkpoint_dir.is_dir()
    current.close()
    assert not trial.checkpoint_dir.exists()


@pytest.mark.parametrize("text", ["{", "[1]", "0.5"])
def test_parameters_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(DocumentError, match="STUDYFLOW_PARAMS"):
        alone({"STUDYFLOW_PARAMS": text}, []).current_trial({})


def test_alone_each_report_is_a_line(tmp_path: Path) -> None:
    lines: list[str] = []
    current = alone({}, lines)
    current.report(3, {"loss": 0.123456789, "acc": 1})
    current.finish(0.5, {"acc": math.nan})
    assert lines == ["step 3: loss=0.123457 acc=1\n", "finished: value=0.5 acc=nan\n"]
    (tmp_path / "model.pt").touch()
    assert current.artifact(tmp_path / "model.pt", None) == tmp_path / "model.pt"

"""Every ending has one cause and one sentence."""

# ruff: noqa: E501 - a table reads best with one row a line

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from studyflow.executors.diagnosis import (
    Ending,
    How,
    NoDocument,
    blame_device,
    diagnose,
    readable,
)
from studyflow.reasons import Reason
from studyflow.redaction import Redactor
from studyflow.trial import OUTCOME_LIMIT_BYTES, Cause, Outcome, Trial

TRIAL = Trial("demo", 7, {"x": 1.0}, attempt=2, metrics=("loss",))


def document(
    cause: Cause = Cause.OK,
    *,
    study: str = "demo",
    number: int = 7,
    attempt: int = 2,
    message: str = "",
    stopped: bool = False,
    **metrics: float,
) -> bytes:
    return Outcome(study, number, attempt, cause, metrics, message, stopped).to_json().encode()


DONE = document(loss=0.5)
CUT_SHORT = document(loss=0.5, stopped=True)
EXITED = Ending(How.EXITED, exit_code=0)
PRUNED = Ending(
    How.STOPPED,
    exit_code=-15,
    stop_cause=Cause.PRUNED,
    stop_reason=Reason(Cause.PRUNED, "worse than the median"),
)


@pytest.mark.parametrize(
    ("ending", "said", "log", "cause", "words"),
    [
        # What finish() said stands, whatever came after it.
        (EXITED, DONE, "", Cause.OK, ""),
        (Ending(How.EXITED, exit_code=1), DONE, "crash at exit", Cause.OK, "After finish() the script failed: Exit code 1. Last line: crash at exit"),
        (Ending(How.EXITED, exit_code=-11), DONE, "", Cause.OK, "Killed by SIGSEGV"),
        (Ending(How.EXITED, exit_code=-9, oom=True), DONE, "", Cause.OK, ""),
        (Ending(How.LOST), DONE, "", Cause.OK, ""),
        (Ending(How.TIMEOUT, finished_first=True), DONE, "", Cause.OK, ""),
        (Ending(How.STOPPED, stop_cause=Cause.PRUNED, finished_first=True), DONE, "", Cause.OK, ""),
        # Stops and the time limit come before everything else.
        (PRUNED, None, "", Cause.PRUNED, "worse than the median"),
        (PRUNED, CUT_SHORT, "", Cause.PRUNED, "worse than the median"),
        (replace(PRUNED, finished_first=True), CUT_SHORT, "", Cause.PRUNED, "worse than the median"),
        (PRUNED, document(Cause.USER_ERROR), "", Cause.PRUNED, "worse than the median"),
        # finish() knew of no stop, whatever the times of the files say.
        (PRUNED, DONE, "", Cause.OK, ""),
        (replace(PRUNED, stop_cause=Cause.CANCELLED), DONE, "", Cause.OK, ""),
        (Ending(How.STOPPED), None, "", Cause.CANCELLED, ""),
        (
            Ending(How.STOPPED, stop_cause=Cause.CANCELLED, finished_first=True),
            b"torn",
            "",
            Cause.CANCELLED,
            "",
        ),
        (Ending(How.TIMEOUT, timeout_seconds=1800.0), None, "", Cause.TIMEOUT, "of 1800 s"),
        (Ending(How.TIMEOUT, timeout_seconds=0.5), DONE, "", Cause.TIMEOUT, "of 0.5 s"),
        (Ending(How.TIMEOUT), None, "", Cause.TIMEOUT, "time limit. Hint"),
        # The document must be about this very attempt.
        (EXITED, document(number=8, loss=0.5), "", Cause.BAD_METRIC, "about trial 8, attempt 2"),
        (EXITED, document(attempt=1, loss=0.5), "", Cause.BAD_METRIC, "about trial 7, attempt 1"),
        (EXITED, document(study="other", loss=0.5), "", Cause.BAD_METRIC, "study 'other'"),
        # A document that cannot be read is shown.
        (EXITED, DONE[:30], "", Cause.BAD_METRIC, '{"version":1,"study":"demo"'),
        (EXITED, b"\xff\xfe garbage", "", Cause.BAD_METRIC, "not UTF-8"),
        (EXITED, b"[" * 4000, "", Cause.BAD_METRIC, "not JSON"),
        (EXITED, b"[1, 2]", "", Cause.BAD_METRIC, "not a JSON object"),
        (EXITED, b"x" * (OUTCOME_LIMIT_BYTES + 1), "", Cause.BAD_METRIC, "4097 bytes"),
        (EXITED, DONE.replace(b'"cause"', b'"study":"demo","cause"'), "", Cause.BAD_METRIC, "twice"),
        (EXITED, DONE.replace(b'"version":1', b'"version":9'), "", Cause.BAD_METRIC, "version '9'"),
        (EXITED, DONE.replace(b"0.5", b'"0.5"'), "", Cause.BAD_METRIC, "not a number"),
        # A script knows only some causes.
        (EXITED, document(Cause.BAD_METRIC, message="no 'loss'"), "", Cause.BAD_METRIC, "no 'loss'"),
        (EXITED, document(Cause.HOST_OOM, message="too big"), "", Cause.HOST_OOM, "too big"),
        (EXITED, document(Cause.LOST), "", Cause.BAD_METRIC, "claims the cause 'lost'"),
        (EXITED, document(Cause.PRUNED), "", Cause.BAD_METRIC, "claims the cause 'pruned'"),
        (
            Ending(How.EXITED, exit_code=1),
            document(Cause.USER_ERROR, message="RuntimeError: CUDA error: out of memory"),
            "",
            Cause.CUDA_OOM,
            "CUDA error: out of memory",
        ),
        # Without a document.
        (EXITED, None, "fine", Cause.BAD_METRIC, "Trial 7 ended without an objective value"),
        (EXITED, None, "studyflow: this process is rank 1 of 2 (RANK and WORLD_SIZE); rank 0 reports\nx", Cause.BAD_METRIC, "do not set RANK and WORLD_SIZE"),
        (EXITED, None, "epoch 3\nfinished: val/loss=0.25 acc=1e-05\nbye", Cause.BAD_METRIC, "'finished: val/loss=0.25 acc=1e-05', as sdk.finish(...) does where the variable STUDYFLOW_TRIAL is not set"),
        (EXITED, b"", "", Cause.BAD_METRIC, "sdk.finish"),
        (EXITED, b" \n", "", Cause.BAD_METRIC, "sdk.finish"),
        (Ending(How.EXITED, exit_code=3), None, "a\nno data\n\n", Cause.USER_ERROR, "3. Last line: no data"),
        (Ending(How.EXITED, exit_code=3), None, "", Cause.USER_ERROR, "Exit code 3."),
        (Ending(How.EXITED, exit_code=-11), None, "", Cause.USER_ERROR, "Killed by SIGSEGV."),
        (Ending(How.EXITED, exit_code=-64), None, "", Cause.USER_ERROR, "SIGRTMAX"),
        (Ending(How.EXITED, exit_code=-9), None, "", Cause.LOST, "Killed by SIGKILL from outside"),
        (Ending(How.EXITED, exit_code=137), None, "", Cause.LOST, "Killed by SIGKILL from outside"),
        (Ending(How.EXITED, exit_code=-15), None, "", Cause.LOST, "Killed by SIGTERM from outside"),
        (Ending(How.EXITED), None, "", Cause.LOST, "not known"),
        (Ending(How.LOST), None, "", Cause.LOST, "killed"),
        # Memory.
        (Ending(How.EXITED, exit_code=-9, oom=True), None, "", Cause.HOST_OOM, "want of memory"),
        (Ending(How.EXITED, exit_code=137, oom=True), None, "", Cause.HOST_OOM, "want of memory"),
        (
            Ending(How.EXITED, exit_code=1, oom=True),
            None,
            "RuntimeError: DataLoader worker (pid 12) is killed by signal: Killed.",
            Cause.HOST_OOM,
            "want of memory",
        ),
        # Another trial beside this one ran out of memory: no reason to blame these parameters.
        (Ending(How.EXITED, exit_code=1, oom=True), None, "KeyError: 1", Cause.USER_ERROR, "KeyError"),
        (Ending(How.EXITED, exit_code=1), None, "x\nMemoryError\n", Cause.HOST_OOM, "MemoryError"),
        (
            Ending(How.EXITED, exit_code=1),
            None,
            "numpy.core._exceptions._ArrayMemoryError: Unable to allocate 8 TiB",
            Cause.HOST_OOM,
            "8 TiB",
        ),
        (Ending(How.EXITED, exit_code=-6), None, "what(): std::bad_alloc", Cause.HOST_OOM, "bad_alloc"),
        (
            Ending(How.EXITED, exit_code=1),
            None,
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB.\nbye",
            Cause.CUDA_OOM,
            "Tried to allocate 20.00 MiB.",
        ),
        (
            Ending(How.EXITED, exit_code=1),
            None,
            "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling",
            Cause.CUDA_OOM,
            "CUBLAS_STATUS_ALLOC_FAILED",
        ),
        (
            Ending(How.EXITED, exit_code=-9),
            None,
            "torch.cuda.OutOfMemoryError: x",
            Cause.CUDA_OOM,
            "OutOfMemoryError",
        ),
        # A log may be anything.
        (
            Ending(How.EXITED, exit_code=1),
            None,
            "\x1b[31mbad \x00thing\x1b[0m\r\n\x1b]0;title\x07\n",
            Cause.USER_ERROR,
            "Last line: bad thing",
        ),
        (Ending(How.EXITED, exit_code=1), None, "x" * 100_000, Cause.USER_ERROR, "xxx…"),
    ],
)  # fmt: skip
@pytest.mark.fault("F01", "F02", "F40", "F41")
def test_an_ending_has_a_cause_and_a_sentence(
    ending: Ending, said: bytes | None, log: str, cause: Cause, words: str
) -> None:
    outcome = diagnose(ending, said, log, TRIAL)
    assert outcome.cause is cause
    assert words in str(outcome.reason)
    assert len(outcome.message) < 700
    assert (outcome.study, outcome.number, outcome.attempt) == ("demo", 7, 2)
    assert Outcome.from_json(outcome.to_json()) == outcome


TORN = DONE[:50]


@pytest.mark.fault("F59")
@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"", "is empty (0 bytes)"),
        (b" \n\t", "is empty (3 bytes)"),
        (b"\0", "It begins '\\x00'"),
        (TORN, 'It begins \'{"version":1,"study":"demo","number":7'),
        (b"garbage", "It begins 'garbage'"),
        (b"\xffgarbage", "It begins '\ufffdgarbage'"),
        (b"x" * (OUTCOME_LIMIT_BYTES + 1), "the limit is 4096. It begins 'xxx"),
        (b"[]", "It begins '[]'"),
        (DONE.replace(b'"version":1', b'"version":9'), 'It begins \'{"version":9'),
        (DONE.replace(b'"ok"', b'"meteor"'), "It begins '{"),
        (DONE.replace(b"0.5", b"null"), "It begins '{"),
        (document(attempt=1, loss=0.5), "It begins '{"),
        (document(number=99, loss=0.5), "It begins '{"),
        (document(study="other", loss=0.5), "It begins '{"),
        (document(Cause.CANCELLED, loss=0.5), "It begins '{"),
        (document(Cause.BAD_METRIC), ""),
        (NoDocument("a folder"), "A folder stands where the outcome document belongs"),
    ],
)
def test_what_is_said_and_refused_is_no_silence(said: bytes | NoDocument, words: str) -> None:
    outcome = diagnose(EXITED, said, "", TRIAL)
    assert (outcome.cause, outcome.metrics, outcome.is_silent) == (Cause.BAD_METRIC, {}, False)
    assert words in outcome.message


@pytest.mark.fault("F59")
def test_a_script_is_silent_only_when_it_ends_in_order_and_leaves_nothing() -> None:
    assert diagnose(EXITED, None, "", TRIAL).is_silent
    for ending in (
        Ending(How.EXITED, exit_code=1),
        Ending(How.EXITED, exit_code=-9),
        Ending(How.EXITED),
        Ending(How.LOST),
        Ending(How.LOST, exit_code=0),
        Ending(How.STOPPED, exit_code=0),
        Ending(How.TIMEOUT, exit_code=0),
    ):
        assert not diagnose(ending, None, "", TRIAL).is_silent, ending
    assert not diagnose(EXITED, DONE, "", TRIAL).is_silent


@pytest.mark.fault("F59")
def test_a_refused_document_does_not_hide_how_the_script_failed() -> None:
    outcome = diagnose(
        Ending(How.EXITED, exit_code=1), TORN, "OSError: [Errno 28] No space left", TRIAL
    )
    assert outcome.cause is Cause.BAD_METRIC
    assert outcome.message.endswith(
        "The script also failed: Exit code 1. Last line: OSError: [Errno 28] No space left"
    )


@pytest.mark.fault("F60")
@pytest.mark.parametrize(
    ("ending", "said", "cause"),
    [
        # A crash of a child that the script survived: the stop found the script running.
        (Ending(How.STOPPED, stop_cause=Cause.PRUNED, finished_first=True), document(Cause.USER_ERROR), Cause.PRUNED),
        (Ending(How.STOPPED, stop_cause=Cause.EVICTED, finished_first=True), document(Cause.CUDA_OOM), Cause.EVICTED),
        # A script that crashes and then hangs has not trained for too long.
        (Ending(How.TIMEOUT, finished_first=True), document(Cause.USER_ERROR), Cause.USER_ERROR),
    ],
)  # fmt: skip
def test_a_stop_finds_a_script_that_had_survived_a_crash(
    ending: Ending, said: bytes, cause: Cause
) -> None:
    assert diagnose(ending, said, "", TRIAL).cause is cause


def test_a_pruned_attempt_keeps_the_metrics_it_finished_with_for_the_study_to_judge() -> None:
    assert diagnose(PRUNED, CUT_SHORT, "", TRIAL).metrics == {"loss": 0.5}
    assert diagnose(PRUNED, document(Cause.USER_ERROR, loss=0.5), "", TRIAL).metrics == {}
    cancelled = replace(PRUNED, stop_cause=Cause.CANCELLED)
    assert diagnose(cancelled, CUT_SHORT, "", TRIAL).metrics == {}


def test_infinite_values_pass_through() -> None:
    outcome = diagnose(EXITED, document(loss=math.inf, gap=-math.inf, acc=math.nan), "", TRIAL)
    assert outcome.cause is Cause.OK
    assert outcome.metrics["loss"] == math.inf
    assert outcome.metrics["gap"] == -math.inf
    assert math.isnan(outcome.metrics["acc"])


def test_a_number_beyond_all_floats_is_infinite() -> None:
    outcome = diagnose(EXITED, DONE.replace(b"0.5", b"1e400"), "", TRIAL)
    assert outcome.metrics["loss"] == math.inf


def test_readable_text_is_one_short_line() -> None:
    assert readable("\x1b[1;31mred\x1b[0m\tand\n\nblue\x00") == "red and blue"
    assert readable("a" * 500, 10) == "aaaaaaaaa…"


@pytest.mark.fault("F12")
@pytest.mark.parametrize(
    ("line", "is_broken"),
    [
        ("RuntimeError: CUDA error: uncorrectable ECC error encountered", True),
        ("CUDA error: all CUDA-capable devices are busy or unavailable", True),
        ("CUDA error: CUDA-capable device(s) is/are busy or unavailable", True),
        ("Unable to determine the device handle for GPU 0000:3B:00.0: GPU is lost.", True),
        ("RuntimeError: CUDA error: system not yet initialized", True),
        ("Failed to initialize NVML: Driver/library version mismatch", True),
        # These may be the script's own doing.
        ("RuntimeError: CUDA error: an illegal memory access was encountered", False),
        ("RuntimeError: No CUDA GPUs are available", False),
        ("ValueError: the error is uncorrectable", False),
    ],
)
def test_a_device_is_broken_when_nothing_else_can_say_so(line: str, is_broken: bool) -> None:
    failed = Outcome("demo", 7, 2, Cause.USER_ERROR, {}, "Exit code 1.")
    told = Outcome("demo", 7, 2, Cause.USER_ERROR, {}, line)

    for outcome, tail in ((failed, f"a line before\n{line}\nthe end\n"), (told, "")):
        blamed = blame_device(outcome, tail)
        assert blamed.cause is (Cause.NODE_FAULT if is_broken else Cause.USER_ERROR)
        assert (f"Its device is broken: {line}" == blamed.message) is is_broken
    fine = Outcome("demo", 7, 2, Cause.OK, {"loss": 0.5})
    assert blame_device(fine, line) == fine


@pytest.mark.fault("F51")
@pytest.mark.parametrize("padding", range(240, 300, 3))
def test_a_secret_is_taken_out_before_the_message_is_cut(padding: int) -> None:
    secret = "hunter2-is-no-password"
    said = Outcome(
        *("demo", 3, 1, Cause.USER_ERROR, {}),
        f"CUDA out of memory {'x' * padding} {secret}",
    )
    trial = Trial("demo", 3, {})

    outcome = diagnose(
        Ending(How.EXITED, exit_code=1), said.to_json().encode(), "", trial, Redactor([secret])
    )

    assert outcome.cause is Cause.CUDA_OOM
    assert "hunter2" not in outcome.message


@pytest.mark.fault("F51")
@pytest.mark.parametrize("padding", range(20, 60, 3))
@pytest.mark.parametrize(
    "said",
    [
        'garbage{padding} {secret}"',
        '{{"version": 1, "study": "{padding} {secret}", "cause": "ok", "metrics": 3}}',
        '{{"version":1,"study":"x","number":3,"attempt":1,"cause":"ok","metrics":{{"loss":"{padding}{secret}"}}}}',
        '{{"version":1,"study":"{padding} {secret}","number":3,"attempt":1,"cause":"ok","metrics":{{}}}}',
    ],
)  # fmt: skip
def test_a_secret_is_taken_out_of_what_is_refused_before_its_beginning_is_shown(
    said: str, padding: int
) -> None:
    secret = "hunter2-is-no-password"
    text = said.format(padding="x" * padding, secret=secret)

    outcome = diagnose(EXITED, text.encode(), "", Trial("demo", 3, {}), Redactor([secret]))

    assert outcome.cause is Cause.BAD_METRIC
    assert "hunter2" not in outcome.message

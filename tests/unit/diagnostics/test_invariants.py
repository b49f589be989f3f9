"""Each invariant is seen to be broken, and said in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.unit.cli.test_cli import write_study
from tests.unit.study.studies import make_spec, record

from studyflow.cli import main
from studyflow.diagnostics.invariants import Evidence, check, discarded_gpu_seconds, gather
from studyflow.executors import AttemptId, AttemptState, AttemptStatus
from studyflow.reasons import Code
from studyflow.redaction import Redactor
from studyflow.spec import StudySpec
from studyflow.testing.failing_tracker import FailingTracker
from studyflow.testing.fake_executor import FakeExecutor
from studyflow.tracking.memory import MemoryTracker
from studyflow.trial import Cause, Outcome
from studyflow.trial.cost import AttemptCost, Begin
from studyflow.trial.record import LostAttempt, TrialRecord, TrialState

SPEC = make_spec(budget={"n_trials": 2, "max_parallel_trials": 1})
LIVE = AttemptStatus(AttemptState.RUNNING)
RUNNING = replace(record(0, state=TrialState.RUNNING), cause=None, attempt=1)
LOST = LostAttempt(1, Cause.EVICTED)
DONE = replace(record(0, 0.5), metrics={"loss": 0.5}, attempt=1)


def ended(value: float) -> AttemptStatus:
    outcome = Outcome("demo", 0, 1, Cause.OK, {"loss": value})
    return AttemptStatus(AttemptState.ENDED, outcome)


SHAPES = Redactor()


def problems(
    *records: TrialRecord,
    attempts: Mapping[AttemptId, AttemptStatus] | None = None,
    shown: Mapping[int, Mapping[str, float]] | None = None,
    is_driven: bool = False,
    redact: Redactor = SHAPES,
    spec: StudySpec = SPEC,
) -> dict[str, tuple[str, ...]]:
    evidence = Evidence(spec, records, attempts, shown, is_driven=is_driven, redact=redact)
    return {f.subject: f.evidence for f in check(evidence) if f.is_problem}


def test_a_study_that_went_well_breaks_nothing() -> None:
    second = replace(record(1, 0.25), metrics={"loss": 0.25}, attempt=2, lost_attempts=(LOST,))

    assert problems(DONE, second, attempts={}, shown={0: {"loss": 0.5}, 1: {"loss": 0.25}}) == {}
    assert problems(RUNNING, attempts={AttemptId(0, 1): LIVE}, shown={}) == {}
    assert problems() == {}


@pytest.mark.parametrize(
    ("invariant", "found", "sentence"),
    [
        (
            "I1",
            problems(RUNNING, attempts={}),
            "Trial 0 is running, but no attempt of it exists and no runner is at work: ",
        ),
        (
            "I1",
            problems(replace(DONE, number=1)),
            "The trials are numbered [1], not from 0 without a gap.",
        ),
        (
            "I1",
            problems(replace(DONE, finished_at=None)),
            "Trial 0 is complete and has no end.",
        ),
        (
            "I2",
            problems(DONE, replace(DONE, number=1), replace(RUNNING, number=2)),
            "2 trials count and 1 run, but budget.n_trials is 2 ",
        ),
        (
            "I3",
            problems(replace(DONE, lost_attempts=(LOST,))),
            "Trial 0 has a value of attempt 1, which was lost.",
        ),
        (
            "I3",
            problems(replace(DONE, values=(0.25,))),
            "Trial 0 was told loss=0.25, but finished with 0.5.",
        ),
        (
            "I3",
            problems(replace(DONE, metrics={}), attempts={AttemptId(0, 1): ended(0.25)}),
            "Trial 0 was told {'loss': 0.5}, but its attempt ended with {'loss': 0.25}.",
        ),
        (
            "I4",
            problems(replace(DONE, cause=Cause.EVICTED)),
            "Trial 0 ended by evicted and has a value.",
        ),
        (
            "I4",
            problems(replace(DONE, values=None, cause=Cause.LOST)),
            "Trial 0 is complete, but ended by lost.",
        ),
        (
            "I4",
            problems(replace(DONE, values=(float("inf"),), metrics={})),
            "Trial 0 is complete with [inf] for 1 objectives.",
        ),
        (
            "I5",
            problems(DONE, attempts={AttemptId(0, 1): ended(0.5)}),
            "Attempt 0-1 of a finished trial is still there (ended).",
        ),
        (
            "I5",
            problems(
                replace(RUNNING, attempt=2, lost_attempts=(LOST,)),
                attempts={AttemptId(0, 1): LIVE, AttemptId(0, 2): LIVE},
            ),
            "Attempt 0-1 goes on, though attempt 2 replaced it.",
        ),
        (
            "I6",
            problems(
                RUNNING,
                replace(RUNNING, number=1),
                attempts={AttemptId(0, 1): LIVE, AttemptId(1, 1): LIVE},
            ),
            "2 attempts run at once, but budget.max_parallel_trials is 1.",
        ),
        (
            "I7",
            problems(DONE, shown={}),
            "The tracker lacks trials 0: studyflow sync sends them.",
        ),
        (
            "I7",
            problems(RUNNING, shown={0: {}}),
            "The tracker shows trials 0 as finished; the storage does not.",
        ),
        (
            "I7",
            problems(DONE, shown={0: {"loss": 0.25}}),
            "The tracker shows trial 0 with loss=0.25, not 0.5.",
        ),
        (
            "I7",
            problems(DONE, shown={0: {}}),
            "The tracker shows trial 0 with loss=nothing, not 0.5.",
        ),
        (
            "I8",
            problems(replace(DONE, message="no access as hunter2"), redact=Redactor({"hunter2"})),
            "Trial 0 holds a password or token.",
        ),
        (
            "I8",
            problems(replace(DONE, message="cannot open s3://me:f00l@bucket")),
            "Trial 0 holds a password or token.",
        ),
        (
            "I8",
            problems(redact=Redactor({"train.py"})),
            "The stored study file holds a password or token.",
        ),
        (
            "I10",
            problems(replace(DONE, lost_attempts=(replace(LOST, trained_seconds=-5.0),))),
            "Trial 0 has an attempt that ran for less than no time.",
        ),
        (
            "I11",
            problems(replace(DONE, attempt=2, leftovers=("message", "node"))),
            "Trial 0 is of attempt 2, but another attempt left message, node with it.",
        ),
        (
            "I11",
            problems(
                replace(DONE, metrics={"loss": 0.5, "size": 3.0}, constraints={"size <= 1": -0.5}),
                spec=make_spec(constraints=[{"metric": "size", "max": 1}]),
            ),
            "Trial 0 finished with size=3, but its violation of size <= 1 is -0.5, not 2: ",
        ),
    ],
)
@pytest.mark.fault("F51")
def test_what_breaks_an_invariant_is_said_in_a_sentence(
    invariant: str, found: dict[str, tuple[str, ...]], sentence: str
) -> None:
    assert any(problem.startswith(sentence) for problem in found[invariant])


def test_what_is_in_flight_is_not_judged_while_a_runner_is_at_work() -> None:
    surplus = [DONE, replace(DONE, number=1), replace(RUNNING, number=2)]

    assert problems(RUNNING, attempts={}, shown={}, is_driven=True) == {}
    assert problems(DONE, attempts={AttemptId(0, 1): ended(0.5)}, shown={}, is_driven=True) == {}
    assert problems(*surplus, is_driven=True) == {}


def test_who_does_not_answer_is_named_and_the_rest_is_checked() -> None:
    executor = FakeExecutor("demo")
    executor.machine.is_away = True
    tracker = FailingTracker(MemoryTracker())
    tracker.is_away = True

    findings = check(gather(SPEC, [DONE], executor=executor, tracker=tracker))

    unchecked = {f.subject: f.evidence for f in findings if f.code is Code.PROMISE_UNCHECKED}
    assert unchecked.keys() == {"I5", "I6", "I7"}
    assert unchecked["I7"] == ("MLflow at http://test does not answer: away",)
    assert not any(f.is_problem for f in findings)


def test_time_of_gpus_for_nothing_is_their_number_times_the_seconds() -> None:
    spec = make_spec(trial={"command": ["python", "train.py"], "resources": {"gpu": 2}})
    lost = replace(LOST, trained_seconds=5.0)
    records = (
        replace(DONE, attempt=2, lost_attempts=(lost,)),
        replace(
            DONE, number=1, attempt=3, lost_attempts=(replace(lost, trained_seconds=2.5), LOST)
        ),
    )

    assert discarded_gpu_seconds(Evidence(spec, records)) == 15.0


# ---- the command -------------------------------------------------------------------------------


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("STUDYFLOW_HOME", "STUDYFLOW_STORAGE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return write_study(tmp_path)


METERED = make_spec(budget={"n_trials": 2, "gpu_hours": 1.0})


def metered(begun_at: float, left: float, recorded_at: float) -> tuple[TrialRecord, TrialRecord]:
    """Return a trial that has spent a budget of an hour, and one that began at some time."""
    row = AttemptCost(1, Cause.OK, 3600.0, holder="here", recorded_at=recorded_at)
    first = replace(DONE, costs=(row,), holder="here")
    begin = Begin(1, begun_at, {"gpu_hours": left})
    return first, replace(record(1, 0.5), attempt=1, begin=begin, holder="here")


@pytest.mark.parametrize(
    ("begun_at", "left", "is_broken"),
    [(50.0, 0.5, False), (150.0, 0.5, True), (50.0, 0.0, True), (50.0, -0.1, True)],
)
def test_nothing_begins_once_the_budget_is_spent(
    begun_at: float, left: float, is_broken: bool
) -> None:
    records = metered(begun_at, left, recorded_at=100.0)
    found = problems(*records, spec=METERED)
    assert ("I12" in found) is is_broken
    assert "I12" not in problems(*records), "no budget, nothing to exceed"


def test_of_another_sites_clock_nothing_is_concluded() -> None:
    first, second = metered(150.0, 0.5, recorded_at=100.0)
    assert "I12" not in problems(first, replace(second, holder="there"), spec=METERED)


def test_a_row_that_lost_more_than_it_took_is_no_account() -> None:
    row = AttemptCost(1, Cause.EVICTED, 5.0, lost_seconds=6.0)
    assert "I10" in problems(replace(DONE, costs=(row,)))


@pytest.mark.slow
def test_a_whole_study_is_verified_and_a_forged_one_is_not(study: Path) -> None:
    assert CliRunner().invoke(main, ["run", str(study)]).exit_code == 0

    done = CliRunner().invoke(main, ["verify", str(study)])
    assert done.exit_code == 0, done.output
    assert [line.split()[1] for line in done.output.splitlines()] == ["holds"] * 11

    journal = Path(".studyflow/studies.journal")
    text = journal.read_text()
    journal.write_text(text.replace('{"cause":"ok"}', '{"cause":"lost"}', 1))
    mixed = CliRunner().invoke(main, ["verify", "tiny"])
    assert mixed.exit_code == 1
    assert "I11  BROKEN  Every record was made by one attempt." in mixed.output

    journal.write_text(text.replace('"cause":"ok"', '"cause":"lost"'))
    forged = CliRunner().invoke(main, ["verify", "tiny"])
    assert forged.exit_code == 1
    assert "I4   BROKEN  What the infrastructure did is no result." in forged.output
    assert "ended by lost and has a value." in forged.output


def test_a_study_that_is_not_there_cannot_be_verified(study: Path) -> None:
    done = CliRunner().invoke(main, ["verify", "nothing"])

    assert done.exit_code == 2
    assert "There is no study named 'nothing'" in done.output

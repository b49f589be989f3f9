"""The loop, against an executor in memory: limits, retries, pruning, stopping, and being killed."""

from __future__ import annotations

import contextlib
import itertools
import math
import signal
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import optuna
import pytest
from tests.unit.study.studies import make_spec, open_study

from studyflow.diagnostics.invariants import check, gather
from studyflow.errors import ExecutorBlocked, ExecutorError, ExecutorUnavailable
from studyflow.executors import AttemptId, AttemptState, AttemptStatus
from studyflow.interrupt import Terminated, raise_on_sigterm
from studyflow.observers.observer import Observer, Progress
from studyflow.spec import StudySpec
from studyflow.study import Canary, Study, is_counted, judge, set_paused, this_runner
from studyflow.testing.failing_storage import FailingStorage
from studyflow.testing.fake_clock import FakeClock
from studyflow.testing.fake_executor import FakeExecutor, Params
from studyflow.tracking.logged import LoggedRun, LoggedRuns
from studyflow.tracking.memory import MemoryTracker
from studyflow.tracking.mirror import Mirror
from studyflow.trial import Cause, MetricPoint, Outcome, TrackingRef, Trial
from studyflow.trial.record import TrialRecord, TrialState
from studyflow.tuner import Tuner, TunerResult, TunerSettings


class Crash(Exception):
    """An ordinary exception out of a call: to the study, the same as a killed runner."""


class Diary(Observer):
    """Writes down what it hears."""

    def __init__(self) -> None:
        self.launches: list[AttemptId] = []
        self.lost: list[AttemptId] = []
        self.lost_messages: list[str] = []
        self.told: list[TrialRecord] = []
        self.notes: list[str] = []
        self.progress: list[Progress] = []
        self.points: list[MetricPoint] = []

    def launched(self, record: TrialRecord) -> None:
        self.launches.append(AttemptId(record.number, record.attempt))

    def reported(self, record: TrialRecord, points: Sequence[MetricPoint]) -> None:
        self.points.extend(points)

    def attempt_lost(self, record: TrialRecord, message: str) -> None:
        self.lost.append(AttemptId(record.number, record.attempt))
        self.lost_messages.append(message)

    def recorded(self, record: TrialRecord) -> None:
        self.told.append(record)

    def progressed(self, progress: Progress) -> None:
        self.progress.append(progress)

    def noted(self, message: str) -> None:
        self.notes.append(message)


class Picture:
    """MLflow as the tuner sees it; scripts without the SDK log into `logged`."""

    def __init__(self) -> None:
        self.logged: dict[str, list[float]] = {}
        self.others: tuple[LoggedRun, ...] = ()
        self.is_away = False
        self.logged_at_ms = 0
        self.finished: list[int] = []

    def open_trial(self, record: TrialRecord) -> TrackingRef | None:
        return TrackingRef("memory:", f"run-{record.number}")

    def points(self, record: TrialRecord, points: Sequence[MetricPoint]) -> None:
        pass

    def finish_trial(self, record: TrialRecord) -> None:
        self.finished.append(record.number)

    def read_points(self, record: TrialRecord, metric: str) -> tuple[MetricPoint, ...]:
        values = self.logged.get(metric, [])
        return tuple(
            MetricPoint(metric, step, value, self.logged_at_ms) for step, value in enumerate(values)
        )

    def read_runs(
        self, record: TrialRecord, metrics: Sequence[str], began_at: float | None
    ) -> LoggedRuns:
        if self.is_away:
            return LoggedRuns(trouble="MLflow does not answer.", is_away=True)
        latest = {name: values[-1] for name, values in self.logged.items()}
        if record.attempt > 1 and began_at is not None and self.logged_at_ms < 1000 * began_at:
            latest = {}  # all attempts share the run: these are an earlier one's
        own = LoggedRun(f"run-{record.number}", f"trial-{record.number:04d}", latest)
        return LoggedRuns("sqlite:////mlflow.db", (own, *self.others))


class Rig:
    """One study with its storage and executor; `tuner()` is a new runner."""

    def __init__(self, spec: StudySpec | None = None, **executor: Any) -> None:
        self.spec = spec or make_spec(budget={"n_trials": 6, "max_parallel_trials": 2})
        self.storage: optuna.storages.BaseStorage = optuna.storages.InMemoryStorage()
        self.clock = FakeClock()
        executor.setdefault("objective", lambda params: float(params["x"]))
        self.executor: Any = FakeExecutor("demo", clock=self.clock, **executor)
        self.machine = self.executor.machine
        self.diary = Diary()
        self.picture = Picture()

    def study(self) -> Study:
        return open_study(self.spec, self.storage)

    def tuner(self, observer: Observer | None = None, **settings: Any) -> Tuner:
        self.executor = (
            self.executor.again() if isinstance(self.executor, FakeExecutor) else (self.executor)
        )
        return Tuner(
            self.study(),
            self.executor,
            self.picture,
            observer or self.diary,
            settings=TunerSettings(**settings),
            clock=self.clock,
        )

    def drive(self) -> TunerResult:
        return self.tuner().drive()

    def turns(self, tuner: Tuner, n: int) -> None:
        for _ in range(n):
            assert tuner.turn() is None
            self.executor.wait(1.0)

    def check(self, n_counted: int | None = None) -> tuple[TrialRecord, ...]:
        """Check what must hold after the end of a study; return its trials."""
        records = self.study().records()
        assert all(r.state.is_finished or r.state is TrialState.WAITING for r in records), "I1"
        wanted = self.spec.budget.n_trials if n_counted is None else n_counted
        assert sum(is_counted(r) for r in records) == wanted, "I2"
        newest: dict[int, Trial] = {}
        for trial in self.machine.submitted:
            newest[trial.number] = trial
        for record in records:
            if record.state is TrialState.COMPLETE:
                trial = newest[record.number]
                assert record.attempt == trial.attempt, "I3"
                assert dict(record.params) == dict(trial.params), "I3"
        assert len(set(_ids(self.machine.submitted))) == len(self.machine.submitted), "doubled"
        assert self.machine.most_running <= self.spec.budget.max_parallel_trials, "I6"
        assert not self.machine.running(), "I5"
        assert self.executor.poll() == {}, "everything is forgotten"
        findings = check(gather(self.spec, records, executor=self.executor))
        assert [problem for finding in findings for problem in finding.problems] == []
        return records


def _ids(trials: Sequence[Trial]) -> list[AttemptId]:
    return [AttemptId(trial.number, trial.attempt) for trial in trials]


def parallel(n: int, n_trials: int = 6, **changes: Any) -> StudySpec:
    return make_spec(budget={"n_trials": n_trials, "max_parallel_trials": n}, **changes)


# ---- budget and limits ------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 10])
def test_a_study_runs_to_its_budget_within_its_parallelism(n: int) -> None:
    rig = Rig(parallel(n), duration=lambda params: 1 + 5 * float(params["x"]))

    result = rig.drive()

    assert result == TunerResult("All 6 trials are finished.", is_finished=True)
    records = rig.check()
    assert [r.values for r in records] == [(r.params["x"],) for r in records]
    assert rig.machine.most_running == min(n, 6)
    assert sorted(r.number for r in rig.diary.told) == [0, 1, 2, 3, 4, 5]
    assert sorted(rig.picture.finished) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(("slots", "most"), [(1, 1), (3, 3), (9, 5)])
def test_the_executors_slots_limit_the_parallelism_too(slots: int, most: int) -> None:
    rig = Rig(parallel(5), slots=slots)

    rig.drive()

    rig.check()
    assert rig.machine.most_running == most
    assert rig.diary.notes == []


def test_outcomes_are_told_before_the_next_trial_is_asked_for() -> None:
    rig = Rig(parallel(1))
    tuner = rig.tuner()
    seen: list[int] = []
    ask = tuner._study.ask

    def spy(holder: str | None = None) -> TrialRecord | None:
        seen.append(sum(is_counted(r) for r in tuner._study.records()))
        return ask()

    tuner._study.ask = spy  # type: ignore[method-assign]
    tuner.drive()

    assert seen == [0, 1, 2, 3, 4, 5]


def test_every_trial_is_launched_once_and_told_once() -> None:
    rig = Rig()

    rig.drive()

    assert sorted(rig.diary.launches) == [AttemptId(n, 1) for n in range(6)]
    assert len(rig.diary.told) == 6


def test_a_finished_study_ends_at_once() -> None:
    rig = Rig()
    rig.drive()
    submitted = len(rig.machine.submitted)

    assert rig.tuner().turn() == TunerResult("All 6 trials are finished.", is_finished=True)
    assert len(rig.machine.submitted) == submitted


def test_a_trial_gets_what_its_script_needs() -> None:
    spec = parallel(
        1,
        n_trials=1,
        fixed={"depth": 3},
        constraints=[{"metric": "size", "max": 5}],
        trial={"command": ["python"], "budget": 7},
    )
    rig = Rig(spec, objective=lambda params: {"loss": 1.0, "size": 2.0})
    rig.drive()

    (trial,) = rig.machine.submitted
    assert trial.params["depth"] == 3
    assert (trial.budget, trial.metrics) == (7, ("loss", "size"))
    assert trial.tracking == TrackingRef("memory:", "run-0")
    (record,) = rig.check()
    assert (record.run_id, record.constraints) == ("run-0", {"size <= 5": -3.0})


@pytest.mark.parametrize(
    ("result", "cause", "state"),
    [
        (Cause.HOST_OOM, Cause.HOST_OOM, TrialState.FAILED),
        (Cause.TIMEOUT, Cause.TIMEOUT, TrialState.FAILED),
        ({"loss": float("nan")}, Cause.NAN, TrialState.FAILED),
        ({"loss": float("inf")}, Cause.NAN, TrialState.FAILED),
        ({"lost": 1.0}, Cause.BAD_METRIC, TrialState.FAILED),
        ({"loss": 1.0}, Cause.OK, TrialState.COMPLETE),
    ],
)
@pytest.mark.fault("F01", "F02", "F39")
def test_each_outcome_is_recorded_with_its_cause(
    result: Any, cause: Cause, state: TrialState
) -> None:
    rig = Rig(parallel(2, n_trials=3), objective=lambda params: result)

    rig.drive()

    assert {(r.cause, r.state) for r in rig.check()} == {(cause, state)}


# ---- attempts ---------------------------------------------------------------------------------


def losing(n_losses: int) -> Callable[[Params], Any]:
    """Return an objective whose first `n_losses` attempts of each trial are lost."""
    calls: dict[Any, int] = {}

    def objective(params: Params) -> Any:
        calls[params["x"]] = calls.get(params["x"], 0) + 1
        return Cause.EVICTED if calls[params["x"]] <= n_losses else float(str(params["x"]))

    return objective


@pytest.mark.fault("F03")
def test_lost_attempts_are_repeated_with_the_same_parameters() -> None:
    rig = Rig(objective=losing(2))

    rig.drive()

    records = rig.check()
    assert {r.attempt for r in records} == {3}
    assert [[lost.attempt for lost in r.lost_attempts] for r in records] == [[1, 2]] * len(records)
    assert all(r.state is TrialState.COMPLETE for r in records)
    by_trial = {
        n: {t.params["x"] for t in rig.machine.submitted if t.number == n} for n in range(6)
    }
    assert all(len(values) == 1 for values in by_trial.values())


def test_the_pause_before_an_attempt_doubles_up_to_five_minutes() -> None:
    spec = parallel(1, n_trials=1, retry={"max_attempts": 8, "backoff_seconds": 10})
    rig = Rig(spec, objective=None)
    tuner = rig.tuner(poll_seconds=0.5)
    pauses = []
    for attempt in range(1, 8):
        tuner.turn()
        rig.executor.lose(AttemptId(0, attempt))
        lost_at = rig.clock()
        while len(rig.machine.submitted) == attempt:
            tuner.turn()
            rig.clock.advance(0.5)
        pauses.append(round(rig.clock() - lost_at))

    assert [p - (p % 10) for p in pauses] == [10, 20, 40, 80, 160, 300, 300]
    assert rig.diary.lost == [AttemptId(0, n) for n in range(1, 8)]
    assert rig.diary.lost_messages[1].endswith("Attempt 3 in 20 s.")
    assert rig.diary.lost_messages[-1].endswith("Attempt 8 in 300 s.")


@pytest.mark.fault("F03", "F20")
def test_a_trial_whose_attempts_are_all_lost_fails_with_the_last_cause() -> None:
    rig = Rig(parallel(2, n_trials=2, retry={"max_attempts": 3}), objective=losing(99))

    result = rig.drive()

    assert result.is_finished
    assert result.is_failure
    assert "mend the place where trials run" in result.reason
    assert {(r.cause, r.state, r.attempt) for r in rig.check()} == {
        (Cause.EVICTED, TrialState.FAILED, 3)
    }


def test_attempt_numbers_go_on_after_a_restart_of_the_runner() -> None:
    rig = Rig(parallel(1, n_trials=1), objective=None)
    for attempt in (1, 2, 3):
        rig.turns(rig.tuner(), 2)
        rig.executor.lose(AttemptId(0, attempt))
        rig.turns(rig.tuner(), 2)
    rig.turns(rig.tuner(), 1)

    assert _ids(rig.machine.submitted) == [AttemptId(0, n) for n in (1, 2, 3, 4)]


@pytest.mark.fault("F20")
def test_an_attempt_that_disappears_is_lost_and_repeated() -> None:
    rig = Rig(parallel(1, n_trials=1), objective=None)
    tuner = rig.tuner()
    tuner.turn()
    del rig.machine.attempts[AttemptId(0, 1)]

    tuner.turn()
    rig.clock.advance(60)
    tuner.turn()

    assert rig.diary.lost == [AttemptId(0, 1)]
    assert rig.machine.running() == [AttemptId(0, 2)]
    rig.executor.finish(AttemptId(0, 2), 1.0)
    assert tuner.drive().is_finished
    assert [lost.attempt for lost in rig.check()[0].lost_attempts] == [1]


def test_an_attempt_that_a_dead_runner_never_submitted_is_submitted_under_its_number() -> None:
    rig = Rig(parallel(1, n_trials=1))
    dying = rig.study()
    assert dying.ask() is not None
    dying.begin_attempt(0, 1)

    rig.drive()

    assert _ids(rig.machine.submitted) == [AttemptId(0, 1)]
    rig.check()


@pytest.mark.fault("F45")
def test_a_clock_that_went_back_while_a_trial_ran_makes_no_time_negative() -> None:
    rig = Rig(parallel(2))
    tuner = rig.tuner()
    poll = rig.executor.poll

    def an_hour_back() -> dict[AttemptId, AttemptStatus]:
        return {
            attempt: replace(status, ended_at=status.started_at - 3600.0)
            if status.ended_at is not None and status.started_at is not None
            else status
            for attempt, status in poll().items()
        }

    rig.executor.poll = an_hour_back
    assert tuner.drive().is_finished

    assert {record.trained_seconds for record in rig.check()} == {0.0}


@pytest.mark.slow
@pytest.mark.fault("F54")
def test_a_thousand_trials_that_end_in_the_same_second_are_each_told_once_after_few_looks() -> None:
    rig = Rig(parallel(1000, n_trials=1000), duration=5.0)
    tuner = rig.tuner()
    looks: list[int] = []
    poll = rig.executor.poll

    def counted() -> Any:
        looks.append(1)
        return poll()

    rig.executor.poll = counted
    assert tuner.drive().is_finished

    assert len(looks) < 20
    assert sorted(record.number for record in rig.diary.told) == list(range(1000))
    assert all(r.values == (r.params["x"],) for r in rig.check())


@pytest.mark.fault("F04")
def test_a_late_result_of_a_replaced_attempt_is_refused() -> None:
    rig = Rig(parallel(1, n_trials=1), objective=None)
    rig.turns(rig.tuner(), 1)
    # Another runner took attempt 1 for lost, and it comes back.
    rig.study().begin_attempt(0, 2)
    rig.executor.finish(AttemptId(0, 1), 99.0)
    tuner = rig.tuner()
    rig.turns(tuner, 2)
    rig.executor.finish(AttemptId(0, 2), 1.0)

    tuner.drive()

    assert rig.check()[0].values == (1.0,)


def test_stale_attempts_are_stopped_and_forgotten() -> None:
    rig = Rig(parallel(1, n_trials=1), objective=None)
    tuner = rig.tuner()
    rig.turns(tuner, 1)
    rig.study().begin_attempt(0, 2)

    rig.turns(tuner, 2)

    stopped = rig.machine.attempts[AttemptId(0, 1)].outcome
    assert stopped is not None
    assert stopped.cause is Cause.CANCELLED
    rig.turns(tuner, 1)
    assert list(rig.executor.poll()) == [AttemptId(0, 2)]


# ---- the executor is away -----------------------------------------------------------------------


@pytest.mark.fault("F14")
def test_an_outage_is_said_once_and_costs_nothing_but_time() -> None:
    rig = Rig(duration=30.0)
    tuner = rig.tuner()
    rig.turns(tuner, 2)
    rig.executor.go_away()
    rig.turns(tuner, 50)

    assert len(rig.diary.notes) == 1
    assert "Running trials go on" in rig.diary.notes[0]
    assert rig.diary.progress[-1].note == rig.diary.notes[0]
    assert len(rig.study().records()) == 2, "nothing is asked for meanwhile"
    rig.executor.come_back()
    assert tuner.drive().is_finished
    assert {r.attempt for r in rig.check()} == {1}
    assert rig.diary.progress[-1].note == ""


class Refusing:
    """An executor that refuses some of its calls, by name, while `refused` says so."""

    def __init__(self, inner: FakeExecutor, *names: str) -> None:
        self._inner = inner
        self._names = names
        self.refused = True
        self.n_refused = 0
        self.error: Exception = ExecutorUnavailable("Quota: no room for another pod.")

    def __getattr__(self, name: str) -> Any:
        if name in self._names and self.refused:
            return self._raise
        return getattr(self._inner, name)

    def _raise(self, *arguments: Any, **options: Any) -> Any:
        self.n_refused += 1
        raise self.error


@pytest.mark.fault("F09")
def test_while_launches_are_refused_no_further_trial_is_asked_for() -> None:
    rig = Rig(parallel(2))
    rig.executor = Refusing(rig.executor, "submit")
    tuner = rig.tuner()

    rig.turns(tuner, 20)

    assert len(rig.study().records()) == 1
    assert rig.diary.notes == ["Quota: no room for another pod."]
    rig.executor.refused = False
    assert tuner.drive().is_finished
    assert {r.attempt for r in rig.check()} == {1}


@pytest.mark.fault("F18")
@pytest.mark.parametrize("call", ["forget", "stop"])
def test_a_right_that_is_taken_away_ends_the_study_with_its_name_when_all_that_runs_has_ended(
    call: str,
) -> None:
    rig = Rig(
        parallel(2, pruner={"type": "threshold", "upper": 0.6}),
        duration=10.0,
        curve=lambda params: [{"loss": float(str(params["x"]))}] * 3,
    )
    inner = rig.executor
    rig.executor = Refusing(inner, call)
    rig.executor.error = ExecutorBlocked("Cannot patch jobs: 403 forbidden", hint="apply the Role.")

    result = rig.tuner().drive()

    assert result.reason == "Cannot patch jobs: 403 forbidden Hint: apply the Role."
    assert (result.is_finished, result.is_failure) == (False, True)
    assert rig.diary.notes == [result.reason]
    assert not rig.machine.running()
    records = rig.study().records()
    assert len(records) < 6
    assert all(r.state.is_finished for r in records)
    calls = rig.executor.n_refused
    assert calls <= len(records), "a refused call is not repeated"

    rig.executor = inner
    assert rig.tuner().drive().is_finished
    rig.check()


@pytest.mark.parametrize("call", ["forget", "stop"])
@pytest.mark.fault("F14")
def test_an_outage_during_any_call_does_not_end_the_runner(call: str) -> None:
    rig = Rig(
        parallel(2, pruner={"type": "threshold", "upper": 0.3}),
        duration=10.0,
        curve=lambda params: [{"loss": float(str(params["x"]))}] * 3,
    )
    inner = rig.executor
    rig.executor = Refusing(inner, call)
    tuner = rig.tuner()

    rig.turns(tuner, 5)
    assert rig.diary.notes == ["Quota: no room for another pod."]
    rig.executor.refused = False
    assert tuner.drive().is_finished

    rig.executor = inner
    tuner.turn()
    rig.check()
    assert len({r.number for r in rig.diary.told}) == len(rig.diary.told) == 6


def test_a_study_does_not_end_while_a_job_of_it_could_not_be_deleted() -> None:
    rig = Rig(parallel(1, n_trials=1))
    rig.executor = Refusing(rig.executor, "forget")
    tuner = rig.tuner()
    rig.turns(tuner, 5)
    assert [r.state for r in rig.study().records()] == [TrialState.COMPLETE]
    assert rig.diary.notes == ["Quota: no room for another pod."]

    rig.executor.refused = False
    assert tuner.drive().is_finished
    rig.check()


def test_a_lost_attempt_that_cannot_be_forgotten_yet_is_lost_once() -> None:
    rig = Rig(parallel(1, n_trials=1, retry={"backoff_seconds": 1}), objective=losing(1))
    inner = rig.executor
    rig.executor = Refusing(inner, "forget")
    rig.turns(rig.tuner(), 3)

    assert rig.diary.lost == [AttemptId(0, 1)]
    assert _ids(rig.machine.submitted) == [AttemptId(0, 1), AttemptId(0, 2)]


def test_an_attempt_that_can_never_start_fails_its_trial_and_alike_ones_the_study() -> None:
    rig = Rig(parallel(1, n_trials=9))
    rig.executor = Refusing(rig.executor, "submit")
    rig.executor.error = ExecutorError("The program 'pyton' does not exist.")

    result = rig.drive()

    assert result.is_failure
    assert "Trials 0, 1, 2, 3, 4 failed alike (user-error)" in result.reason
    assert rig.machine.submitted == []
    rig.check(n_counted=5)


# ---- studies that cannot start, and attempts that find no room --------------------------------


class Overlaid:
    """An executor that shows some attempts otherwise than they are, and blocks some submits."""

    def __init__(self, inner: FakeExecutor) -> None:
        self._inner = inner
        self.statuses: dict[AttemptId, AttemptStatus] = {}
        self.blocked: set[int] = set()
        """Trials whose submit says that no attempt of the study can start."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def poll(self) -> Mapping[AttemptId, AttemptStatus]:
        found = self._inner.poll()
        return {attempt: self.statuses.get(attempt, status) for attempt, status in found.items()}

    def submit(self, trial: Trial, *, avoid: Collection[str] = ()) -> AttemptId:
        if trial.number in self.blocked:
            raise ExecutorBlocked("403 forbidden.", hint="is the Role applied?")
        return self._inner.submit(trial, avoid=avoid)

    def block(self, attempt: AttemptId, message: str) -> None:
        """End an attempt as one that cannot start."""
        self._inner.lose(attempt)
        self.statuses[attempt] = AttemptStatus(
            AttemptState.ENDED,
            outcome=Outcome("demo", attempt.number, attempt.attempt, Cause.USER_ERROR, {}, message),
            blocks_study=True,
        )


def overlaid(spec: StudySpec, **executor: Any) -> Rig:
    rig = Rig(spec, **executor)
    rig.executor = Overlaid(rig.executor)
    return rig


def test_a_study_that_cannot_start_ends_with_the_reason_and_costs_no_budget() -> None:
    rig = overlaid(parallel(3))
    rig.executor.blocked = set(range(100))

    result = rig.drive()

    assert result == TunerResult(
        "403 forbidden. Hint: is the Role applied?", is_finished=False, is_failure=True
    )
    (record,) = rig.check(n_counted=0)
    assert (record.cause, record.state) == (Cause.CANCELLED, TrialState.FAILED)
    assert record.message.startswith("It could not start. 403 forbidden.")
    assert rig.diary.told == [record]
    assert rig.picture.finished == [0]

    rig.executor.blocked = set()
    assert rig.drive().is_finished
    assert [r.cause for r in rig.check()] == [Cause.CANCELLED, *[Cause.OK] * 6]


@pytest.mark.fault("F07")
def test_an_attempt_that_blocks_the_study_is_withdrawn_and_running_trials_finish() -> None:
    spec = parallel(3, n_trials=9, retry={"backoff_seconds": 1000})
    rig = overlaid(spec, objective=None)
    tuner = rig.tuner()
    rig.turns(tuner, 2)
    rig.executor.lose(AttemptId(2, 1))  # would wait for its next attempt
    rig.executor.block(AttemptId(0, 1), 'secret "token" not found')

    rig.turns(tuner, 3)
    assert rig.machine.running() == [AttemptId(1, 1)]
    rig.executor.finish(AttemptId(1, 1), 0.5)
    result = tuner.turn()

    assert result == TunerResult('secret "token" not found', is_finished=False, is_failure=True)
    records = rig.check(n_counted=1)
    assert [r.cause for r in records] == [Cause.CANCELLED, Cause.OK, Cause.CANCELLED]
    assert [r.state for r in records] == [
        TrialState.FAILED,
        TrialState.COMPLETE,
        TrialState.FAILED,
    ]
    assert len(rig.machine.submitted) == 3
    assert sorted(r.number for r in rig.diary.told) == [0, 1, 2]


def test_an_attempt_launched_in_the_turn_that_finds_the_study_blocked_is_not_abandoned() -> None:
    rig = overlaid(parallel(2, n_trials=4), objective=None)
    study = rig.study()
    for _ in range(2):  # what a runner leaves that is killed before it submits
        record = study.ask()
        assert record is not None
        study.begin_attempt(record.number, 1)
    rig.executor.blocked = {1}
    tuner = rig.tuner()

    rig.turns(tuner, 3)

    assert rig.machine.running() == [AttemptId(0, 1)]
    rig.executor.finish(AttemptId(0, 1), 0.5)
    result = tuner.turn()
    assert result is not None
    assert result.is_failure
    assert [r.cause for r in rig.check(n_counted=1)] == [Cause.OK, Cause.CANCELLED]


def test_a_trial_whose_job_vanishes_from_a_blocked_study_is_withdrawn() -> None:
    rig = overlaid(parallel(2, n_trials=4), objective=None)
    tuner = rig.tuner()
    rig.turns(tuner, 2)
    rig.executor.block(AttemptId(0, 1), "no")
    rig.turns(tuner, 1)
    del rig.machine.attempts[AttemptId(1, 1)]

    result = tuner.turn()

    assert result is not None
    assert result.is_failure
    assert [r.cause for r in rig.check(n_counted=0)] == [Cause.CANCELLED, Cause.CANCELLED]


@pytest.mark.fault("F08")
def test_while_an_attempt_finds_no_room_no_further_trial_is_asked_for() -> None:
    rig = overlaid(parallel(4, n_trials=8), objective=None)
    waits = AttemptStatus(AttemptState.PENDING, reason="No GPU.", waits_for_room=True)
    tuner = rig.tuner()
    rig.turns(tuner, 1)
    rig.executor.statuses[AttemptId(3, 1)] = waits
    rig.executor.finish(AttemptId(0, 1), 0.5)

    rig.turns(tuner, 5)

    assert len(rig.study().records()) == 4
    assert rig.diary.notes == ["Trial 3 waits: No GPU."]
    rig.executor.statuses.clear()
    rig.turns(tuner, 1)
    assert len(rig.study().records()) == 5


# ---- the canary -------------------------------------------------------------------------------

ALONE = "One trial goes ahead alone"


def running_in_turns(rig: Rig, n_turns: int) -> list[int]:
    """Return how many attempts ran in each of the first turns."""
    tuner = rig.tuner()
    n_running = []
    for _ in range(n_turns):
        assert tuner.turn() is None
        n_running.append(len(rig.machine.running()))
        rig.executor.wait(1.0)
    return n_running


def test_the_first_trial_runs_alone_until_its_script_has_run_for_a_while() -> None:
    rig = Rig(parallel(4), duration=100.0, canary_seconds=3.0)

    assert running_in_turns(rig, 6) == [1, 1, 1, 1, 4, 4]
    assert [ALONE in note for note in rig.diary.notes] == [True], "said once"


def test_a_study_of_one_trial_announces_no_others() -> None:
    rig = Rig(parallel(4, n_trials=1), duration=5.0, canary_seconds=3.0)
    rig.drive()
    assert rig.diary.notes == []


def test_others_follow_as_soon_as_the_first_trial_has_reported_a_value() -> None:
    curve = [{"loss": 1.0}] * 5
    rig = Rig(parallel(4), duration=100.0, canary_seconds=50.0, curve=lambda params: curve)

    assert running_in_turns(rig, 3) == [1, 4, 4]


def test_others_follow_as_soon_as_a_trial_has_come_to_a_value() -> None:
    rig = Rig(parallel(4), duration=2.0, canary_seconds=50.0)

    assert running_in_turns(rig, 4) == [1, 1, 4, 4]
    rig.drive()
    rig.check()


def test_scripts_that_cannot_start_fail_one_after_the_other() -> None:
    def broken(params: Params) -> float:
        raise ImportError("No module named 'data'")

    spec = parallel(4, n_trials=20, stop={"alike_failures": 3})
    rig = Rig(spec, objective=broken, canary_seconds=10.0)

    result = rig.drive()

    assert result.is_failure
    assert "Trials 0, 1, 2 failed alike" in result.reason
    assert (len(rig.machine.submitted), rig.machine.most_running) == (3, 1)


def test_a_script_that_failed_after_a_while_is_known_to_run() -> None:
    def broken(params: Params) -> float:
        raise ValueError("the data set is empty")

    rig = Rig(parallel(4), objective=broken, duration=12.0, canary_seconds=10.0)

    rig.drive()
    assert rig.machine.most_running == 4


def test_a_study_whose_script_is_known_to_run_starts_at_once_with_its_next_runner() -> None:
    rig = Rig(parallel(4, n_trials=20), duration=5.0, canary_seconds=10.0)
    running_in_turns(rig, 6)
    rig.executor.wait(60.0)

    assert running_in_turns(rig, 1) == [4]


def test_trials_taken_over_from_another_study_prove_nothing() -> None:
    taken = TrialRecord(0, TrialState.COMPLETE, {}, values=(1.0,), is_taken_over=True)
    own = replace(taken, is_taken_over=False)
    canary, seen = Canary(10.0), []
    for now, records in enumerate([[taken], [own], []]):
        canary.look(records, [], float(now))
        seen.append(canary.is_proven)
    assert seen == [False, True, True], "once known is known"


# ---- stopping early ---------------------------------------------------------------------------


def test_reaching_the_target_lets_running_trials_finish_and_starts_no_more() -> None:
    spec = parallel(3, n_trials=50, stop={"target": 0.5}, enqueue=[{"x": 0.9}, {"x": 0.1}])
    rig = Rig(spec, duration=lambda params: 10.0 if params["x"] == 0.9 else 20.0)

    result = rig.drive()

    assert result.is_finished
    assert not result.is_failure
    assert result.reason == "Target 0.5 reached: trial 1 has loss=0.1."
    records = rig.check(n_counted=4)
    assert all(r.state is TrialState.COMPLETE for r in records)


def test_alike_failures_end_a_study_and_a_mended_script_lets_it_go_on() -> None:
    is_broken = [True]

    def objective(params: Params) -> Any:
        if is_broken[0]:
            raise KeyError("val_loss")
        return 1.0

    rig = Rig(parallel(2, n_trials=12), objective=objective)
    result = rig.drive()
    assert result.is_failure
    assert "KeyError: 'val_loss'" in result.reason
    n_failed = len(rig.machine.submitted)
    assert n_failed <= 6

    is_broken[0] = False
    assert rig.drive() == TunerResult("All 12 trials are finished.", is_finished=True)
    records = rig.check()
    assert sum(r.state is TrialState.COMPLETE for r in records) == 12 - n_failed


@pytest.mark.fault("F58")
def test_the_time_budget_lets_running_trials_finish() -> None:
    spec = make_spec(budget={"n_trials": 100, "max_parallel_trials": 2, "timeout_seconds": 25})
    rig = Rig(spec, duration=10.0)
    started = rig.clock()

    result = rig.drive()

    assert not result.is_finished
    assert result.reason == "The time budget of 25 s is spent (budget.timeout_seconds)."
    assert rig.clock() - started == pytest.approx(30.0, abs=2.0)
    rig.check(n_counted=6)


def test_a_time_budget_that_brings_no_value_is_a_failure_with_its_cause() -> None:
    def objective(_: Params) -> Any:
        raise KeyError("val_loss")

    spec = make_spec(budget={"n_trials": 100, "timeout_seconds": 25}, stop={"alike_failures": 50})
    rig = Rig(spec, duration=10.0, objective=objective)

    result = rig.drive()

    assert (result.is_finished, result.is_failure) == (False, True)
    assert result.reason.startswith(
        "The time budget of 25 s is spent (budget.timeout_seconds) and none of 3 finished trials "
        "gave a feasible value; 3 of them ended as user-error: "
    )
    assert result.reason.endswith("Then run the study again.")


def test_a_time_budget_that_ends_before_any_trial_is_a_failure() -> None:
    rig = Rig(make_spec(budget={"n_trials": 100, "timeout_seconds": 0.001}), duration=10.0)
    tuner = rig.tuner()
    rig.clock.advance(1.0)

    result = tuner.turn()

    assert result is not None
    assert result.is_failure
    assert "before any trial was finished" in result.reason


# ---- pruning ----------------------------------------------------------------------------------

PRUNED = {"pruner": {"type": "median", "n_startup_trials": 2, "n_warmup_steps": 0}}
ONE_STARTUP_TRIAL = {"pruner": {"type": "median", "n_startup_trials": 1, "n_warmup_steps": 0}}


def test_hopeless_trials_are_stopped_and_told_as_pruned() -> None:
    spec = parallel(2, n_trials=8, **PRUNED)
    rig = Rig(
        spec,
        duration=10.0,
        curve=lambda params: [{"loss": float(str(params["x"]))} for _ in range(5)],
        stop_seconds=1.0,
    )

    rig.drive()

    records = rig.check()
    pruned = [r for r in records if r.state is TrialState.PRUNED]
    assert len(pruned) >= 2
    assert all(r.cause is Cause.PRUNED and r.values is None for r in pruned)
    assert all(r.message.startswith("Pruned by median at step ") for r in pruned)
    assert all(r.intermediate for r in records)
    assert rig.diary.points


def test_a_trial_that_finishes_while_it_is_being_stopped_keeps_its_result() -> None:
    rig = Rig(parallel(1, n_trials=1, pruner={"type": "threshold", "upper": 0.0}), objective=None)
    tuner = rig.tuner()
    tuner.turn()
    rig.executor.report(AttemptId(0, 1), 0, loss=5.0)
    rig.executor.finish(AttemptId(0, 1), 5.0)

    tuner.drive()

    assert rig.check()[0].values == (5.0,)


def test_metrics_that_a_script_logs_straight_to_mlflow_are_pruned_by_too() -> None:
    rig = Rig(parallel(1, n_trials=1, pruner={"type": "threshold", "upper": 1.0}), objective=None)
    rig.picture.logged = {"loss": [0.5, 3.0]}
    tuner = rig.tuner(tracker_poll_seconds=10.0)
    rig.turns(tuner, 5)
    assert rig.study().record(0).intermediate == {}
    rig.clock.advance(10)

    tuner.drive()

    (record,) = rig.check()
    assert (record.state, record.intermediate) == (TrialState.PRUNED, {0: 0.5, 1: 3.0})


@pytest.mark.fault("F70")
@pytest.mark.parametrize(("budget", "first"), [(5, 0), (5, 1), (None, 0)])
def test_a_trial_that_has_reported_its_last_step_is_not_pruned(
    budget: int | None, first: int
) -> None:
    trial = {"command": ["python", "train.py"], "budget": budget}
    rig = Rig(parallel(1, n_trials=2, trial=trial, **ONE_STARTUP_TRIAL), objective=None)
    tuner = rig.tuner()
    for number, value in enumerate((1.0, 9.0)):
        rig.turns(tuner, 1)
        attempt = AttemptId(number, 1)
        for step in range(first, first + 5):  # all between two looks of the runner
            rig.executor.report(attempt, step, loss=value)
        rig.turns(tuner, 3)
        rig.executor.finish(attempt, value)
    tuner.drive()

    assert [r.values for r in rig.check()] == [(1.0,), (9.0,)]


@pytest.mark.fault("F70")
def test_a_trial_with_more_steps_than_the_storage_keeps_is_not_pruned_at_its_last_one() -> None:
    trial = {"command": ["python", "train.py"], "budget": 2000}
    rig = Rig(parallel(2, n_trials=2, trial=trial, **ONE_STARTUP_TRIAL), objective=None)
    tuner = rig.tuner()
    rig.turns(tuner, 2)
    for step in range(2000):
        rig.executor.report(AttemptId(1, 1), step, loss=9.0)
    rig.turns(tuner, 2)
    rig.executor.report(AttemptId(0, 1), 999, loss=1.0)
    rig.executor.finish(AttemptId(0, 1), 1.0)
    rig.turns(tuner, 2)
    rig.executor.finish(AttemptId(1, 1), 9.0)
    tuner.drive()

    assert [r.values for r in rig.check()] == [(1.0,), (9.0,)]


@pytest.mark.fault("F70")
@pytest.mark.parametrize(("n_steps", "state"), [(5, "complete"), (4, "pruned")])
def test_a_trial_stopped_after_its_last_step_keeps_its_result(n_steps: int, state: str) -> None:
    trial = {"command": ["python", "train.py"], "budget": 5}
    pruner = {"type": "threshold", "upper": 1.0}
    rig = Rig(parallel(1, n_trials=1, trial=trial, pruner=pruner), objective=None, stop_seconds=9.0)
    tuner = rig.tuner()
    rig.turns(tuner, 1)
    attempt = AttemptId(0, 1)
    rig.executor.report(attempt, 0, loss=3.0)
    rig.turns(tuner, 1)
    for step in range(1, n_steps):
        rig.executor.report(attempt, step, loss=3.0)
    reason = "Pruned by threshold at step 0 with loss=3."
    rig.executor.finish(attempt, Outcome("demo", 0, 1, Cause.PRUNED, {"loss": 3.0}, reason, True))
    tuner.drive()

    (record,) = rig.check()
    assert record.state == state
    assert record.message.endswith(reason)
    assert record.metrics == ({"loss": 3.0} if state == "complete" else {})


@pytest.mark.fault("F70")
def test_an_attempt_that_goes_on_where_another_was_lost_keeps_its_result_after_the_last_step() -> (
    None
):
    trial = {"command": ["python", "train.py"], "budget": 5}
    pruner = {"type": "threshold", "upper": 1.0}
    rig = Rig(parallel(1, n_trials=1, trial=trial, pruner=pruner), objective=None, stop_seconds=9.0)
    tuner = rig.tuner()
    rig.turns(tuner, 1)
    for step in range(3):
        rig.executor.report(AttemptId(0, 1), step, loss=0.5)
    rig.turns(tuner, 1)
    rig.executor.finish(AttemptId(0, 1), Outcome("demo", 0, 1, Cause.EVICTED, {}, ""))
    rig.turns(tuner, 200)
    rig.executor.report(AttemptId(0, 2), 3, loss=3.0)
    rig.turns(tuner, 1)
    rig.executor.report(AttemptId(0, 2), 4, loss=3.0)
    reason = "Pruned by threshold at step 3 with loss=3."
    pruned = Outcome("demo", 0, 2, Cause.PRUNED, {"loss": 3.0}, reason, True)
    rig.executor.finish(AttemptId(0, 2), pruned)
    tuner.drive()

    (record,) = rig.check()
    assert (record.state, record.metrics) == ("complete", {"loss": 3.0})


@pytest.mark.fault("F71")
@pytest.mark.parametrize("pruner", ["none", "median", "percentile", "threshold", "asha", "patient"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("is_seen_in_time", [True, False])
def test_a_curve_that_is_not_finite_ends_as_nan_under_every_pruner(
    pruner: str, bad: float, is_seen_in_time: bool
) -> None:
    arguments: dict[str, dict[str, Any]] = {
        "median": {"n_startup_trials": 1, "n_warmup_steps": 0},
        "percentile": {"percentile": 50.0, "n_startup_trials": 1},
        "threshold": {"upper": 100.0},
        "patient": {"patience": 0},
    }
    spec = parallel(1, n_trials=2, pruner={"type": pruner, **arguments.get(pruner, {})})
    rig = Rig(spec, objective=None)
    tuner = rig.tuner()
    rig.turns(tuner, 1)
    for step in range(9):
        rig.executor.report(AttemptId(0, 1), step, loss=1.0)
    rig.executor.finish(AttemptId(0, 1), 1.0)
    rig.turns(tuner, 2)
    for step, value in enumerate([1.0, bad, bad, 1.0, bad, bad, bad]):
        rig.executor.report(AttemptId(1, 1), step, loss=value)
        if is_seen_in_time:
            rig.turns(tuner, 1)
    if not is_seen_in_time:
        rig.executor.finish(AttemptId(1, 1), 1.0)
    tuner.drive()

    record = rig.check()[1]
    assert (record.state, record.cause, record.metrics) == (TrialState.FAILED, Cause.NAN, {})
    assert "in 3 reports in a row, from step 4 to 6" in record.message


@pytest.mark.fault("F71")
def test_a_new_runner_counts_the_reports_of_the_attempt_that_it_adopts() -> None:
    rig = Rig(parallel(1, n_trials=1), objective=None)
    rig.turns(rig.tuner(), 1)
    for step in range(2):
        rig.executor.report(AttemptId(0, 1), step, loss=math.nan)
    rig.turns(rig.tuner(), 1)
    rig.executor.report(AttemptId(0, 1), 2, loss=math.nan)

    rig.tuner().drive()

    assert rig.check()[0].cause is Cause.NAN


@pytest.mark.fault("F71")
def test_reports_of_a_lost_attempt_are_no_part_of_the_next_one_s_curve() -> None:
    rig = Rig(parallel(1, n_trials=1), objective=None)
    tuner = rig.tuner()
    rig.turns(tuner, 1)
    for step in range(2):
        rig.executor.report(AttemptId(0, 1), step, loss=math.nan)
    rig.turns(tuner, 1)
    rig.executor.lose(AttemptId(0, 1))
    rig.turns(tuner, 1)
    rig.clock.advance(10.0)
    rig.turns(tuner, 1)
    rig.executor.report(AttemptId(0, 2), 0, loss=math.nan)
    rig.turns(tuner, 2)
    rig.executor.finish(AttemptId(0, 2), 1.0)
    tuner.drive()

    assert rig.check()[0].values == (1.0,)


@pytest.mark.fault("F71")
def test_a_curve_that_a_script_logs_straight_to_mlflow_is_judged_at_its_end_at_the_latest() -> None:
    rig = Rig(parallel(1, n_trials=1, pruner={"type": "median"}), objective=None)
    rig.picture.logged = {"loss": [1.0, math.nan, math.inf, math.nan, 2.0]}
    tuner = rig.tuner()
    rig.turns(tuner, 1)
    rig.executor.finish(AttemptId(0, 1), 2.0)

    tuner.drive()

    assert rig.check()[0].cause is Cause.NAN


# ---- scripts without the SDK --------------------------------------------------------------------


@pytest.mark.parametrize("source", ["mlflow", "reports"])
def test_a_script_that_never_calls_finish_is_judged_by_what_it_logged_last(source: str) -> None:
    rig = Rig(parallel(1, n_trials=1), objective=None)
    tuner = rig.tuner()
    tuner.turn()
    if source == "mlflow":
        rig.picture.logged = {"loss": [3.0, 2.0], "other": [1.0]}
    else:
        rig.executor.report(AttemptId(0, 1), 0, loss=3.0)
        rig.executor.report(AttemptId(0, 1), 1, loss=2.0)
    rig.executor.finish(AttemptId(0, 1), None)

    tuner.drive()

    (record,) = rig.check()
    assert (record.state, record.values) == (TrialState.COMPLETE, (2.0,))
    assert record.message == "The script called no finish(); the last logged values were taken."


def test_nothing_is_made_up_for_a_silent_script_that_logged_something_else() -> None:
    rig = Rig(parallel(1, n_trials=1), objective=None)
    rig.picture.logged = {"other": [2.0]}
    tuner = rig.tuner()
    tuner.turn()
    rig.executor.finish(AttemptId(0, 1), None)

    tuner.drive()

    assert rig.check()[0].cause is Cause.BAD_METRIC


def ended_without_finish(rig: Rig) -> Tuner:
    tuner = rig.tuner()
    tuner.turn()
    rig.executor.finish(AttemptId(0, 1), None)
    rig.machine.attempts[AttemptId(0, 1)].exit_code = 0
    return tuner


@pytest.mark.fault("F74")
def test_where_a_scripts_runs_disagree_the_trial_fails_and_shows_the_values() -> None:
    rig = Rig(parallel(1, n_trials=1), objective=None)
    rig.picture.logged = {"loss": [2.0]}
    rig.picture.others = (LoggedRun("x", "fold1", {"loss": 3.0}),)
    ended_without_finish(rig).drive()

    (record,) = rig.check()
    assert (record.cause, record.values) == (Cause.BAD_METRIC, None)
    assert "disagree on loss: 'trial-0000' has 2, 'fold1' has 3" in record.message


@pytest.mark.fault("F74")
def test_a_trial_whose_values_are_in_an_mlflow_that_is_away_waits_for_it() -> None:
    rig = Rig(parallel(1, n_trials=1), objective=None)
    rig.picture.logged, rig.picture.is_away = {"loss": [2.0]}, True
    tuner = ended_without_finish(rig)
    rig.turns(tuner, 5)
    assert rig.study().record(0).state is TrialState.RUNNING
    assert len(rig.diary.notes) == 1
    assert "What it logged is in MLflow, which does not answer." in rig.diary.notes[0]
    rig.picture.is_away = False
    tuner.drive()

    assert rig.check()[0].values == (2.0,)


@pytest.mark.fault("F74")
def test_an_mlflow_that_stays_away_is_why_a_trial_fails_in_the_end() -> None:
    rig = Rig(parallel(1, n_trials=1), objective=None)
    rig.picture.logged, rig.picture.is_away = {"loss": [2.0]}, True
    tuner = ended_without_finish(rig)
    rig.turns(tuner, 5)
    rig.clock.advance(300.0)
    tuner.drive()

    (record,) = rig.check()
    assert record.cause is Cause.BAD_METRIC
    assert "what it logged to MLflow is not known: MLflow does not answer." in record.message


@pytest.mark.fault("F74")
def test_a_cancelled_study_does_not_wait_for_mlflow() -> None:
    rig = Rig(parallel(1, n_trials=1), objective=None)
    rig.picture.logged, rig.picture.is_away = {"loss": [2.0]}, True
    tuner = ended_without_finish(rig)
    tuner.turn()
    tuner.cancel()

    assert rig.check(n_counted=0)[0].cause is Cause.CANCELLED


@pytest.mark.fault("F59")
@pytest.mark.parametrize("exit_code", [0, 1, None])
@pytest.mark.parametrize("cause", [Cause.BAD_METRIC, Cause.USER_ERROR])
def test_nothing_is_made_up_for_a_script_whose_outcome_is_refused(
    cause: Cause, exit_code: int | None
) -> None:
    rig = Rig(parallel(1, n_trials=1), objective=None)
    rig.picture.logged = {"loss": [2.0]}
    tuner = rig.tuner()
    tuner.turn()
    rig.executor.report(AttemptId(0, 1), 0, loss=2.0)
    said = "The outcome document is not JSON. It begins '{'."
    rig.executor.finish(AttemptId(0, 1), Outcome("demo", 0, 1, cause, {}, said))
    rig.machine.attempts[AttemptId(0, 1)].exit_code = exit_code

    tuner.drive()

    (record,) = rig.check()
    assert (record.state, record.cause, record.values) == (TrialState.FAILED, cause, None)
    assert record.message == said


# ---- observers --------------------------------------------------------------------------------


class Broken(Observer):
    """Fails at everything."""

    def __getattribute__(self, name: str) -> Any:
        if name in ("launched", "reported", "attempt_lost", "recorded", "progressed", "noted"):
            raise RuntimeError("the terminal is gone")
        return super().__getattribute__(name)


def test_an_observer_that_fails_at_everything_does_no_harm() -> None:
    rig = Rig(objective=losing(1))

    assert rig.tuner(Broken()).drive().is_finished
    rig.check()


def test_progress_tells_counts_pace_and_the_best() -> None:
    rig = Rig(parallel(1, n_trials=4), duration=10.0)

    rig.drive()

    assert [p.n_finished for p in rig.diary.progress][-1] == 4
    assert rig.diary.progress[0].remaining_seconds is None
    second = next(p for p in rig.diary.progress if p.n_finished == 2)
    assert second.remaining_seconds == pytest.approx(20.0, abs=2.0)
    last = rig.diary.progress[-1]
    assert (last.running, last.remaining_seconds) == ((), 0.0)
    assert last.best[0].values == min(r.values for r in rig.study().records() if r.values)


# ---- being cancelled --------------------------------------------------------------------------


@pytest.mark.parametrize("stop_seconds", [0.0, 3.0])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.fault("F37")
def test_cancelling_stops_what_runs_and_costs_no_budget(
    stop_seconds: float, error: type[BaseException]
) -> None:
    rig = Rig(duration=10.0, stop_seconds=stop_seconds)
    tuner = rig.tuner()
    wait, calls = rig.executor.wait, itertools.count()

    def interrupted(seconds: float) -> None:
        if next(calls) == 15:
            raise error
        wait(seconds)

    rig.executor.wait = interrupted
    with pytest.raises(error):
        tuner.drive()

    records = rig.study().records()
    assert [r.cause for r in records] == [Cause.OK, Cause.OK, Cause.CANCELLED, Cause.CANCELLED]
    assert {r.message for r in records[2:]} == {"The study was cancelled."}
    assert not rig.machine.running()
    rig.executor.wait = wait
    assert rig.drive().is_finished
    rig.check()
    assert len(rig.study().records()) == 8


@pytest.mark.fault("F22")
def test_a_sigterm_whose_exception_was_lost_ends_the_runner_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in a finalizer, where the interpreter drops whatever is raised."""
    handler = signal.getsignal(signal.SIGTERM)
    rig = Rig(duration=10.0)
    wait, calls = rig.executor.wait, itertools.count()

    def losing(seconds: float) -> None:
        if next(calls) == 15:
            with contextlib.suppress(Terminated):
                signal.raise_signal(signal.SIGTERM)
        wait(seconds)

    tuner = rig.tuner()
    monkeypatch.setattr(rig.executor, "wait", losing)
    raise_on_sigterm()
    try:
        with pytest.raises(Terminated):
            tuner.drive()
    finally:
        signal.signal(signal.SIGTERM, handler)

    causes = [record.cause for record in rig.study().records()]
    assert causes == [Cause.OK, Cause.OK, Cause.CANCELLED, Cause.CANCELLED]
    assert rig.drive().is_finished, "it was for that runner alone"


def test_cancelling_a_runner_whose_executor_is_away_still_ends_it() -> None:
    rig = Rig(duration=10.0)
    tuner = rig.tuner()

    def interrupted(_seconds: float) -> None:
        rig.executor.go_away()
        raise KeyboardInterrupt

    wait, rig.executor.wait = rig.executor.wait, interrupted
    with pytest.raises(KeyboardInterrupt):
        tuner.drive()

    assert len(rig.study().running()) == 2
    rig.executor.wait = wait
    rig.executor.come_back()
    assert rig.drive().is_finished
    rig.check()


@pytest.mark.fault("F37")
def test_cancelling_gives_up_on_attempts_that_never_end() -> None:
    rig = Rig(objective=None, stop_seconds=1e9)
    tuner = rig.tuner()
    tuner.turn()
    before = rig.clock()

    tuner.cancel()

    assert 30 <= rig.clock() - before < 32
    assert len(rig.study().running()) == 2
    assert rig.diary.notes[-1] == (
        "Left to the next runner: trials 0, 1. Told to end, but not ended yet."
    )


def _ended(rig: Rig, number: int, cause: Cause) -> Outcome:
    return Outcome(rig.spec.name, number, 1, cause, {}, "by another runner")


class Watched:
    """Counts how often a cancelled runner looks, and makes it look at most 300 times."""

    def __init__(self, rig: Rig) -> None:
        self.n_looks = 0
        self.at_look: dict[int, Callable[[], object]] = {}
        self._rig, self._poll = rig, rig.executor.poll
        rig.executor.poll = self._look

    def _look(self) -> Mapping[AttemptId, AttemptStatus]:
        self.n_looks += 1
        assert self.n_looks < 300, "it spins"
        self.at_look.get(self.n_looks, lambda: None)()
        statuses: Mapping[AttemptId, AttemptStatus] = self._poll()
        return statuses


@pytest.mark.parametrize("seconds", [1.0, 10.0, 29.0])
@pytest.mark.fault("F80")
def test_cancelling_asks_again_until_the_executor_answers(seconds: float) -> None:
    rig = Rig(objective=None)
    tuner = rig.tuner()
    tuner.turn()
    watched, before = Watched(rig), rig.clock()
    rig.executor.go_away()
    wait = rig.executor.wait

    def back_in_time(timeout_seconds: float) -> None:
        wait(timeout_seconds)
        if rig.clock() - before >= seconds:
            rig.executor.come_back()

    rig.executor.wait = back_in_time
    tuner.cancel()

    assert [r.cause for r in rig.study().records()] == [Cause.CANCELLED] * 2
    assert not rig.machine.running()
    assert watched.n_looks < seconds + 10
    assert not any("Left" in note for note in rig.diary.notes)


@pytest.mark.fault("F80")
def test_cancelling_says_after_its_time_what_it_left_and_why() -> None:
    rig = Rig(objective=None)
    tuner = rig.tuner()
    tuner.turn()
    rig.executor.go_away()
    watched, before = Watched(rig), rig.clock()

    tuner.cancel()

    assert 30 <= rig.clock() - before < 32
    assert watched.n_looks < 40
    assert rig.diary.notes[-1] == (
        "Left to the next runner: trials 0, 1. The fake executor was told to be away."
    )
    rig.executor.come_back()
    assert len(rig.machine.running()) == 2


@pytest.mark.parametrize("method", ["stop", "forget"])
@pytest.mark.fault("F80")
def test_cancelling_asks_again_when_an_end_was_not_taken(method: str) -> None:
    rig = Rig(objective=None)
    tuner = rig.tuner()
    tuner.turn()
    call, left = getattr(rig.executor, method), [5]

    def refuse(*arguments: Any) -> None:
        if left[0] > 0:
            left[0] -= 1
            raise ExecutorUnavailable("The API server does not answer.")
        call(*arguments)

    setattr(rig.executor, method, refuse)
    Watched(rig)
    tuner.cancel()

    assert [r.cause for r in rig.study().records()] == [Cause.CANCELLED] * 2
    assert not rig.machine.running()
    assert all(r.is_forgotten for r in rig.machine.attempts.values())
    assert rig.diary.notes == ["The API server does not answer."]


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("stop", "Could not be told to end."),
        ("forget", "Ended, but not recorded or not cleaned up."),
    ],
)
@pytest.mark.fault("F80")
def test_what_cannot_be_ended_is_told_as_it_is(method: str, reason: str) -> None:
    rig = Rig(objective=None)
    tuner = rig.tuner()
    tuner.turn()

    def refuse(*arguments: Any) -> None:
        raise ExecutorUnavailable("The API server does not answer.")

    setattr(rig.executor, method, refuse)
    Watched(rig)
    tuner.cancel()

    assert rig.diary.notes[-1] == f"Left to the next runner: trials 0, 1. {reason}"


@pytest.mark.fault("F80")
def test_cancelling_without_the_right_to_stop_names_it() -> None:
    rig = Rig(objective=None)
    tuner = rig.tuner()
    tuner.turn()

    def refuse(*arguments: Any) -> None:
        raise ExecutorBlocked("Cannot patch jobs: 403 forbidden.")

    rig.executor.stop = refuse
    Watched(rig)
    tuner.cancel()

    assert rig.diary.notes[-1] == (
        "Left to the next runner: trials 0, 1. Cannot patch jobs: 403 forbidden."
    )


@pytest.mark.parametrize("cause", [Cause.LOST, Cause.PREEMPTED, Cause.UNSCHEDULABLE])
@pytest.mark.fault("F80")
def test_cancelling_gives_no_further_attempt_to_what_was_lost_meanwhile(cause: Cause) -> None:
    rig = Rig(objective=None)
    tuner = rig.tuner()
    tuner.turn()
    for attempt in rig.machine.running():
        rig.executor.lose(attempt, cause)

    def refuse(attempt: AttemptId) -> None:
        raise ExecutorBlocked("Cannot delete jobs: 403 forbidden.")

    rig.executor.forget = refuse
    watched = Watched(rig)
    tuner.cancel()

    assert [r.cause for r in rig.study().records()] == [Cause.CANCELLED] * 2
    assert rig.diary.lost_messages == []  # which would promise another attempt
    assert watched.n_looks < 5


@pytest.mark.fault("F80")
def test_cancelling_pauses_while_a_record_stays_although_nothing_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = Rig(objective=None)
    tuner = rig.tuner()
    tuner.turn()
    for attempt in rig.machine.running():
        rig.executor.finish(attempt, 0.5)
    monkeypatch.setattr(Study, "tell", lambda self, number, *rest: self.record(number))
    watched, before = Watched(rig), rig.clock()

    tuner.cancel()

    assert 30 <= rig.clock() - before < 32
    assert watched.n_looks < 200
    assert rig.diary.notes[-1] == (
        "Left to the next runner: trials 0, 1. Ended, but not recorded or not cleaned up."
    )


@pytest.mark.fault("F80")
def test_cancelling_ends_attempts_whose_trials_are_finished() -> None:
    rig = Rig(objective=None)
    tuner = rig.tuner()
    tuner.turn()
    study = rig.study()
    for number in (0, 1):
        study.tell(number, judge(rig.spec, _ended(rig, number, Cause.USER_ERROR), 0))

    tuner.cancel()

    assert not rig.machine.running()
    assert [r.cause for r in rig.study().records()] == [Cause.USER_ERROR] * 2


@pytest.mark.fault("F80")
def test_a_second_ctrl_c_leaves_at_once_and_says_what_is_left() -> None:
    rig = Rig(objective=None, stop_seconds=1e9)
    tuner = rig.tuner()

    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    rig.executor.wait = interrupted
    with pytest.raises(KeyboardInterrupt):
        tuner.drive()

    assert rig.diary.notes[-1] == (
        "Left to the next runner: trials 0, 1. Told to end, but not ended yet."
    )


@pytest.mark.fault("F80")
def test_a_storage_that_is_away_while_a_study_is_cancelled_is_told() -> None:
    rig = Rig(objective=None)
    failing = FailingStorage(rig.storage)
    rig.storage = failing
    tuner = rig.tuner()
    tuner.turn()

    def interrupted(_seconds: float) -> None:
        failing.is_away = True
        raise KeyboardInterrupt

    rig.executor.wait = interrupted
    with pytest.raises(KeyboardInterrupt):
        tuner.drive()

    assert rig.diary.notes[-1].startswith("Left all running trials to the next runner: The study")


# ---- being killed -----------------------------------------------------------------------------

STORAGE_CALLS = (
    "create_new_trial",
    "set_trial_param",
    "set_trial_state_values",
    "set_trial_intermediate_value",
    "set_trial_user_attr",
    "set_trial_system_attr",
)
EXECUTOR_CALLS = ("submit", "poll", "stop", "forget", "wait")


class Fuse:
    """Lets `n` calls through, then raises: before the last call takes effect, or after it."""

    def __init__(self, n: int, *, after: bool) -> None:
        self.left = n
        self._after = after

    def wire(self, target: Any, names: Sequence[str]) -> None:
        for name in names:
            setattr(target, name, self._wired(getattr(target, name)))

    def _wired(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def wired(*arguments: Any, **named: Any) -> Any:
            self.left -= 1
            if self.left == 0 and not self._after:
                raise Crash
            result = call(*arguments, **named)
            if self.left == 0:
                raise Crash
            return result

        return wired


def crash_rig() -> Rig:
    """Return a study in which attempts are lost, trials pruned, and some fail."""
    spec = parallel(
        2,
        n_trials=4,
        enqueue=[{"x": 0.25}, {"x": 0.95}, {"x": 0.5}, {"x": 0.75}],
        pruner={"type": "threshold", "upper": 0.9},
        retry={"backoff_seconds": 1},
        constraints=[{"metric": "size", "max": 1}],
    )
    calls: dict[Any, int] = {}

    def objective(params: Params) -> Any:
        x = float(str(params["x"]))
        calls[x] = calls.get(x, 0) + 1
        if x == 0.5 and calls[x] == 1:
            return Cause.NODE_LOST
        return Cause.HOST_OOM if x == 0.75 else {"loss": x, "size": x}

    return Rig(
        spec,
        objective=objective,
        duration=4.0,
        curve=lambda params: [{"loss": float(str(params["x"]))}] * 2,
    )


def uncrashed() -> list[tuple[Any, ...]]:
    rig = crash_rig()
    rig.drive()
    return summary(rig.check())


def summary(records: Sequence[TrialRecord]) -> list[tuple[Any, ...]]:
    return [(r.params["x"], r.state, r.cause, r.values, dict(r.constraints)) for r in records]


def crashed(n: int, *, after: bool) -> Rig | None:
    """Return the study after its runner crashed in its n-th call; `None` if there are fewer."""
    rig = crash_rig()
    tuner = rig.tuner()
    storage = rig.storage
    fuse = Fuse(n, after=after)
    fuse.wire(storage, STORAGE_CALLS)
    fuse.wire(rig.executor, EXECUTOR_CALLS)
    try:
        tuner.drive()
    except Crash:
        for name in STORAGE_CALLS:
            delattr(storage, name)
        return rig
    return None


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.fault("F21")
def test_a_runner_killed_in_any_of_its_calls_is_replaced_without_a_trace(after: bool) -> None:
    expected = uncrashed()
    assert [row[2] for row in expected] == [Cause.OK, Cause.PRUNED, Cause.OK, Cause.HOST_OOM]
    for n in itertools.count(1):
        rig = crashed(n, after=after)
        if rig is None:
            break
        diary = rig.diary = Diary()
        finished = {r.number for r in rig.study().records() if r.state.is_finished}

        assert rig.drive().is_finished, n

        assert summary(rig.check()) == expected, n
        assert sorted(r.number for r in diary.told) == sorted({0, 1, 2, 3} - finished), n
        assert len(set(diary.launches)) == len(diary.launches), n
    assert n > 70, "the sweep went through a whole study"


@pytest.mark.fault("F21", "F23")
def test_a_runner_killed_again_and_again_loses_nothing() -> None:
    expected = uncrashed()
    rig = crash_rig()
    rig.storage = storage = optuna.storages.InMemoryStorage()
    for n in itertools.count(12):
        assert n < 300
        tuner = rig.tuner()
        fuse = Fuse(n, after=bool(n % 2))
        fuse.wire(storage, STORAGE_CALLS)
        fuse.wire(rig.executor, EXECUTOR_CALLS)
        try:
            tuner.drive()
        except Crash:
            continue
        finally:
            for name in STORAGE_CALLS:
                delattr(storage, name)
        break

    assert n > 14, "it was killed more than once"
    assert summary(rig.check()) == expected


@pytest.mark.fault("F24")
def test_two_runners_over_one_study_and_executor_share_its_budget_exactly() -> None:
    rig = Rig(parallel(3, n_trials=20), objective=losing(1), duration=3.0)
    first, second = rig.tuner(), rig.tuner()
    results: list[TunerResult | None] = [None, None]
    for _ in range(500):
        for i, tuner in enumerate((first, second)):
            results[i] = results[i] or tuner.turn()
        if all(results):
            break
        rig.executor.wait(1.0)

    assert all(result is not None and result.is_finished for result in results)
    rig.check()
    assert len({r.number for r in rig.diary.told}) == len(rig.diary.told) == 20


@pytest.mark.fault("F77")
def test_only_a_run_that_starts_trials_or_ends_keeps_its_numbers_with_the_study() -> None:
    rig = Rig()
    rig.drive()
    kept = rig.study().kept_spec()
    told: list[int] = []

    def run(n_trials: int) -> Tuner:
        rig.spec = make_spec(budget={"n_trials": n_trials, "max_parallel_trials": 2})
        executor = rig.executor.again()
        return Tuner(
            rig.study(),
            executor,
            rig.picture,
            rig.diary,
            clock=rig.clock,
            on_spec=lambda spec: told.append(spec.budget.n_trials),
        )

    run(3).cancel()
    run(9).cancel()
    assert rig.study().kept_spec() == kept
    assert run(2).drive().is_finished
    assert rig.study().kept_spec() == kept, "six trials are there"
    assert run(9).turn() is None
    assert rig.study().kept_spec().budget.n_trials == 9
    assert told == [9]


@pytest.mark.fault("F77")
def test_a_runner_at_the_same_site_is_known_by_its_beats() -> None:
    rig = Rig()
    tuner = rig.tuner()
    study = tuner._study.optuna_study
    key = f"studyflow:beat:{rig.executor.site}"
    joined = []
    for who in (
        {"host": "the-last-one", "process": 1},  # an earlier runner's
        this_runner(),
        {**this_runner(), "host": "pod-2"},
    ):
        study.set_user_attr(key, {"at": 0.0, **who})
        tuner.turn()
        joined.append(tuner.is_joined)
    rig.clock.advance(31.0)
    assert [*joined, tuner.is_joined] == [False, False, True, False]


@pytest.mark.fault("F32")
def test_the_real_mirror_shows_in_the_end_what_the_storage_holds() -> None:
    rig = Rig(objective=losing(1))
    tracker = MemoryTracker()
    study = rig.study()
    mirror = Mirror(tracker, files=lambda record: (None, (), None), is_threaded=False)
    tuner = Tuner(study, rig.executor, mirror, rig.diary, clock=rig.clock)

    tuner.drive()
    while mirror.step() is not None:
        pass

    records = rig.check()
    assert {n: run.record for n, run in tracker.runs.items()} == {r.number: r for r in records}
    assert {run.status for run in tracker.runs.values()} == {"FINISHED"}
    assert {run.opened for run in tracker.runs.values()} == {2}


def test_reports_that_went_straight_to_mlflow_are_in_the_study_when_a_trial_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(FakeExecutor, "brings_points", False)
    rig = Rig(make_spec(budget={"n_trials": 1}))
    rig.picture.logged = {"loss": [3.0, 2.0]}
    rig.drive()
    [record] = rig.check()
    assert record.intermediate == {0: 3.0, 1: 2.0}


@pytest.mark.fault("F62")
def test_what_a_lost_attempt_logged_straight_to_mlflow_is_no_result_of_the_next_one() -> None:
    rig = Rig(parallel(1, n_trials=1, retry={"backoff_seconds": 1}), objective=None)
    tuner = rig.tuner()
    tuner.turn()
    rig.picture.logged = {"loss": [3.0, 2.0]}
    rig.picture.logged_at_ms = round(1000 * rig.clock())
    rig.executor.lose(AttemptId(0, 1))
    rig.turns(tuner, 4)
    assert rig.machine.running() == [AttemptId(0, 2)]

    rig.executor.finish(AttemptId(0, 2), None)
    rig.machine.attempts[AttemptId(0, 2)].exit_code = 0
    tuner.drive()

    (record,) = rig.check(n_counted=1)
    assert (record.attempt, record.cause, record.values) == (2, Cause.BAD_METRIC, None)


@pytest.mark.fault("F62")
def test_what_the_next_attempt_logs_straight_to_mlflow_is_its_result() -> None:
    rig = Rig(parallel(1, n_trials=1, retry={"backoff_seconds": 1}), objective=None)
    tuner = rig.tuner()
    tuner.turn()
    rig.executor.lose(AttemptId(0, 1))
    rig.turns(tuner, 4)
    rig.picture.logged = {"loss": [3.0, 2.0]}
    rig.picture.logged_at_ms = round(1000 * rig.clock())

    rig.executor.finish(AttemptId(0, 2), None)
    rig.machine.attempts[AttemptId(0, 2)].exit_code = 0
    tuner.drive()

    (record,) = rig.check()
    assert (record.attempt, record.cause, record.values) == (2, Cause.OK, (2.0,))


@pytest.mark.fault("F22")
def test_a_runner_that_only_makes_way_for_another_leaves_its_trials_running() -> None:
    rig = Rig(parallel(2, n_trials=2), objective=None)
    study = rig.study()
    tuner = Tuner(
        study, rig.executor, rig.picture, rig.diary, clock=rig.clock, ends_trials=lambda: False
    )

    def interrupt(timeout_seconds: float) -> None:
        raise KeyboardInterrupt

    rig.executor.wait = interrupt
    with pytest.raises(KeyboardInterrupt):
        tuner.drive()

    assert len(study.running()) == 2
    assert {s.state for s in rig.executor.poll().values()} == {AttemptState.RUNNING}


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (Cause.BAD_METRIC, "4 of them ended as bad-metric"),
        (Cause.NAN, "4 of them ended as nan"),
    ],
)
def test_a_study_without_any_result_says_so_and_how_to_go_on(outcome: Cause, words: str) -> None:
    rig = Rig(make_spec(budget={"n_trials": 4}), objective=lambda params: outcome)

    result = rig.drive()

    assert (result.is_finished, result.is_failure) == (True, True)
    assert words in result.reason
    assert "--n-trials 8" in result.reason


def test_failures_alike_that_used_up_the_budget_say_how_to_go_on() -> None:
    rig = Rig(make_spec(budget={"n_trials": 5}), objective=lambda params: Cause.USER_ERROR)

    assert "run the study with --n-trials 10" in rig.drive().reason


# ---- pausing ------------------------------------------------------------------------------------


def test_a_paused_study_finishes_its_running_trials_starts_none_and_goes_on_when_resumed() -> None:
    rig = Rig(duration=10.0)
    tuner = rig.tuner()
    rig.turns(tuner, 3)
    set_paused(rig.study().optuna_study, True)
    rig.turns(tuner, 50)

    assert [r.state for r in rig.study().records()] == [TrialState.COMPLETE] * 2
    assert {progress.is_paused for progress in rig.diary.progress[-5:]} == {True}
    assert rig.diary.progress[-1].note == rig.diary.notes[0]
    assert rig.diary.notes == [
        "Paused: running trials finish, none starts. Hint: studyflow resume demo"
    ], "said once"

    set_paused(rig.study().optuna_study, False)
    assert tuner.drive().is_finished
    assert not rig.diary.progress[-1].is_paused
    rig.check()


def test_a_runner_that_starts_while_the_study_is_paused_starts_nothing() -> None:
    rig = Rig()
    set_paused(rig.study().optuna_study, True)
    rig.turns(rig.tuner(), 5)

    assert rig.study().records() == ()


def test_a_lost_trial_of_a_paused_study_is_attempted_again_only_when_it_is_resumed() -> None:
    rig = Rig(parallel(1, n_trials=1), duration=10.0)
    tuner = rig.tuner()
    rig.turns(tuner, 2)
    set_paused(rig.study().optuna_study, True)
    rig.executor.lose(AttemptId(0, 1))
    rig.turns(tuner, 50)
    assert rig.diary.launches == [AttemptId(0, 1)]

    set_paused(rig.study().optuna_study, False)
    assert tuner.drive().is_finished
    assert rig.diary.launches == [AttemptId(0, 1), AttemptId(0, 2)]


def test_a_pause_is_no_part_of_the_time_budget() -> None:
    spec = make_spec(budget={"n_trials": 100, "max_parallel_trials": 2, "timeout_seconds": 25})
    rig = Rig(spec, duration=10.0)
    tuner = rig.tuner()
    rig.turns(tuner, 2)
    set_paused(rig.study().optuna_study, True)
    rig.turns(tuner, 200)
    set_paused(rig.study().optuna_study, False)
    result = tuner.drive()

    assert result.reason == "The time budget of 25 s is spent (budget.timeout_seconds)."
    rig.check(n_counted=8)  # two that ran when it was paused, and three rounds in 25 s


def leaving_tuner(rig: Rig, leaves: Callable[[], bool]) -> Tuner:
    return Tuner(rig.study(), rig.executor, rig.picture, rig.diary, clock=rig.clock, leaves=leaves)


def test_a_runner_that_leaves_waits_for_its_running_trials_and_the_next_one_goes_on() -> None:
    rig = Rig(duration=10.0)
    tuner = leaving_tuner(rig, lambda: len(rig.diary.launches) == 2)
    result = tuner.drive()

    assert (result.reason, result.is_finished) == ("The runner was paused.", False)
    assert [r.state for r in rig.study().records()] == [TrialState.COMPLETE] * 2
    assert rig.drive().is_finished
    rig.check()


def test_a_runner_that_leaves_does_not_wait_for_a_trial_between_two_attempts() -> None:
    rig = Rig(parallel(1, n_trials=1, retry={"backoff_seconds": 3600}), duration=10.0)
    leaving = threading.Event()
    tuner = leaving_tuner(rig, leaving.is_set)
    rig.turns(tuner, 2)
    rig.executor.lose(AttemptId(0, 1))
    rig.turns(tuner, 2)
    leaving.set()

    result = tuner.turn()
    assert result is not None
    assert result.reason == "The runner was paused."
    assert rig.drive().is_finished
    assert [r.attempt for r in rig.check()] == [2]

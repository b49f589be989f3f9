"""A study in memory, with its storage, its executor and whoever hears its runner."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import optuna
from tests.unit.study.studies import make_spec, open_study

from studyflow.diagnostics.invariants import check, gather
from studyflow.errors import ExecutorBlocked, ExecutorUnavailable
from studyflow.executors import AttemptId, AttemptState, AttemptStatus
from studyflow.observers.observer import Observer, Progress
from studyflow.reasons import Code, Reason
from studyflow.spec import StudySpec
from studyflow.study import Study, is_counted
from studyflow.testing.fake_clock import FakeClock
from studyflow.testing.fake_executor import FakeExecutor, Params
from studyflow.tracking.logged import LoggedRun, LoggedRuns
from studyflow.trial import Cause, MetricPoint, Outcome, TrackingRef, Trial
from studyflow.trial.record import TrialRecord, TrialState
from studyflow.tuner import Tuner, TunerResult, TunerSettings


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
        self.lost: list[tuple[int, int]] = []

    def open_trial(self, record: TrialRecord) -> TrackingRef | None:
        return TrackingRef("memory:", f"run-{record.number}")

    def is_opening(self, record: TrialRecord) -> bool:
        return False

    def points(self, record: TrialRecord, points: Sequence[MetricPoint]) -> None:
        pass

    def lose_attempt(self, record: TrialRecord) -> None:
        self.lost.append((record.number, record.attempt))

    def finish_trial(self, record: TrialRecord) -> None:
        self.finished.append(record.number)

    def read_points(self, record: TrialRecord, metric: str) -> tuple[MetricPoint, ...]:
        values = self.logged.get(metric, [])
        return tuple(
            MetricPoint(metric, step, value, self.logged_at_ms) for step, value in enumerate(values)
        )

    def read_running(
        self, records: Sequence[TrialRecord], metric: str
    ) -> dict[int, tuple[MetricPoint, ...]]:
        return {record.number: self.read_points(record, metric) for record in records}

    def drop(self, record: TrialRecord) -> None:
        pass

    def seconds_to_answer(self) -> float | None:
        return None

    def read_runs(
        self, record: TrialRecord, metrics: Sequence[str], began_at: float | None
    ) -> LoggedRuns:
        if self.is_away:
            return LoggedRuns(
                failure=Reason(Code.TRACKER_UNAVAILABLE, "MLflow does not answer."),
                is_retryable=True,
            )
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
        self.driven: Study
        """The study as the newest runner has it."""

    def study(self) -> Study:
        return open_study(self.spec, self.storage)

    def tuner(
        self,
        observer: Observer | None = None,
        *,
        wall_clock: Callable[[], float] | None = None,
        **settings: Any,
    ) -> Tuner:
        self.executor = (
            self.executor.again() if isinstance(self.executor, FakeExecutor) else (self.executor)
        )
        self.driven = self.study()
        return Tuner(
            self.driven,
            self.executor,
            self.picture,
            observer or self.diary,
            settings=TunerSettings(**settings),
            clock=self.clock,
            wall_clock=wall_clock or self.clock,
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
        assert len(set(ids(self.machine.submitted))) == len(self.machine.submitted), "doubled"
        assert self.machine.most_running <= self.spec.budget.max_parallel_trials, "I6"
        assert not self.machine.running(), "I5"
        assert self.executor.poll() == {}, "everything is forgotten"
        findings = check(gather(self.spec, records, executor=self.executor))
        assert [finding for finding in findings if finding.is_problem] == []
        return records


def ids(trials: Sequence[Trial]) -> list[AttemptId]:
    return [AttemptId(trial.number, trial.attempt) for trial in trials]


def parallel(n: int, n_trials: int = 6, **changes: Any) -> StudySpec:
    """Return a study of which `n` trials run at once, and every failure counts."""
    changes.setdefault("stop", {"first_failures": 0})
    return make_spec(budget={"n_trials": n_trials, "max_parallel_trials": n}, **changes)


def losing(n_losses: int) -> Callable[[Params], Any]:
    """Return an objective whose first `n_losses` attempts of each trial are lost."""
    calls: dict[Any, int] = {}

    def objective(params: Params) -> Any:
        calls[params["x"]] = calls.get(params["x"], 0) + 1
        return Cause.EVICTED if calls[params["x"]] <= n_losses else float(str(params["x"]))

    return objective


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


def ended_without_finish(rig: Rig) -> Tuner:
    """Return the runner of a trial whose script ended in order and said nothing."""
    tuner = rig.tuner()
    tuner.turn()
    rig.executor.finish(AttemptId(0, 1), None)
    rig.machine.attempts[AttemptId(0, 1)].exit_code = 0
    return tuner

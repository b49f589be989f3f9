"""What runner "a" does when it is stopped somewhere in the middle, and how runner "b" goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import optuna

from studyflow.diagnostics.invariants import Evidence, check
from studyflow.samplers import make_pruner, make_sampler
from studyflow.spec import StudySpec
from studyflow.storage import ForwardingStorage
from studyflow.study import Study, Verdict
from studyflow.trial import Cause, MetricPoint
from studyflow.trial.record import TrialRecord, TrialState

_T = TypeVar("_T")

FIRST, SECOND = 9.0, 0.25
"""What the attempts of the two runners end with."""


class Stopping(ForwardingStorage):
    """Does something just before one of its writes, when all has been read that decides it."""

    def __init__(self, storage: optuna.storages.BaseStorage) -> None:
        super().__init__(storage)
        self._left: int | None = None
        self._what: Callable[[], object] = lambda: None

    def arm(self, n_passed: int, what: Callable[[], object]) -> None:
        self._left, self._what = n_passed, what

    def disarm(self) -> None:
        self._left = None

    @property
    def was_reached(self) -> bool:
        return self._left is None

    def _pass(self, method: str, call: Callable[[], _T]) -> _T:
        if self._left is not None and not method.startswith("get_"):
            self._left -= 1
            if self._left < 0:
                self._left = None
                self._what()
        return call()


def make_spec(**changes: Any) -> StudySpec:
    document: dict[str, Any] = {
        "name": "demo",
        "objectives": [{"metric": "loss", "direction": "minimize"}],
        "search_space": {
            "x": {"type": "float", "low": 0.0, "high": 1.0},
            "y": {"type": "int", "low": 1, "high": 8},
        },
        "constraints": [{"metric": "size", "max": 1}],
        "sampler": {"type": "random", "seed": 0},
        "pruner": {"type": "median"},
        "budget": {"n_trials": 1},
        "trial": {"command": ["python", "train.py"]},
    }
    return StudySpec.from_mapping({**document, **changes})


def open_study(spec: StudySpec, storage: optuna.storages.BaseStorage) -> Study:
    return Study.open(
        spec,
        storage,
        make_sampler=lambda seed, n_trials: make_sampler(spec, seed, n_trials),
        pruner=make_pruner(spec),
    )


def points(value: float, *steps: int) -> list[MetricPoint]:
    return [MetricPoint("loss", step, value, 0) for step in steps]


def ended(value: float) -> tuple[Verdict, Mapping[str, float]]:
    """Return how an attempt ends; the first one breaks the bound, and says more."""
    is_first = value == FIRST
    violation = 7.0 if is_first else -0.5
    verdict = Verdict(
        Cause.OK,
        TrialState.COMPLETE,
        "the last values were taken" if is_first else "",
        values=(value,),
        constraints={"size <= 1": violation},
    )
    extra = {"accuracy": 0.1} if is_first else {}
    return verdict, {"loss": value, "size": violation + 1, **extra}


# ---- what "a" does ------------------------------------------------------------------------------


def asked(study: Study) -> TrialRecord:
    record = study.ask("a")
    assert record is not None
    return record


def begun(study: Study) -> TrialRecord:
    record = asked(study)
    return study.begin_attempt(record.number, 1, "a", seen=record)


def begin(study: Study, record: TrialRecord) -> None:
    study.begin_attempt(record.number, 1, "a", seen=record)


def withdraw(study: Study, record: TrialRecord) -> None:
    study.withdraw_attempt(record.number, 1, seen=record)


def report(study: Study, record: TrialRecord) -> None:
    study.report(record.number, points(FIRST, 0, 1, 2), record)
    study.should_prune(record.number)


def lose(study: Study, record: TrialRecord) -> None:
    lost = Verdict(Cause.EVICTED, None, "the node went away")
    study.end_attempt(record.number, 1, lost, 60.0, "node-a", 5.0, seen=record)


def tell(study: Study, record: TrialRecord) -> None:
    verdict, metrics = ended(FIRST)
    study.tell(record.number, verdict, metrics, 60.0, "node-a", record)


def prune(study: Study, record: TrialRecord) -> None:
    study.report(record.number, points(FIRST, 3), record)
    pruned = Verdict(Cause.PRUNED, TrialState.PRUNED, "Pruned by median.")
    study.tell(record.number, pruned, {"loss": FIRST}, 60.0, "node-a", record)


def cancel(study: Study, record: TrialRecord) -> None:
    study.tell(record.number, Verdict(Cause.CANCELLED, TrialState.FAILED, "cancelled"), seen=record)


@dataclass(frozen=True)
class Scene:
    """What comes before, and what "a" does when it is stopped."""

    prepare: Callable[[Study], TrialRecord | None]
    act: Callable[[Study, Any], object]
    enqueue: tuple[Mapping[str, Any], ...] = ()


SCENES: Final[dict[str, Scene]] = {
    "ask": Scene(lambda study: None, lambda study, _: study.ask("a")),
    "ask for a queued point": Scene(
        lambda study: None, lambda study, _: study.ask("a"), ({"x": 0.5},)
    ),
    "begin": Scene(asked, begin),
    "withdraw": Scene(begun, withdraw),
    "report": Scene(begun, report),
    "lose": Scene(begun, lose),
    "tell": Scene(begun, tell),
    "prune": Scene(begun, prune),
    "cancel": Scene(begun, cancel),
}


# ---- what "b" does ------------------------------------------------------------------------------


def take_over(study: Study) -> TrialRecord | None:
    """Go on with what "a" left, as a runner does after a lease; `None` if nothing is left to do."""
    if not study.running():
        record = study.ask("b")
        if record is None:
            return None
    else:
        (record,) = study.running()
    if record.has_attempt:
        lost = Verdict(Cause.LOST, None, "Nothing more was heard of a.")
        study.end_attempt(record.number, record.attempt, lost, seen=record)
        record = study.record(record.number)
    record = study.complete_suggestion(record.number, "b", seen=record)
    record = study.begin_attempt(record.number, record.attempt + 1, "b", seen=record)
    assert record.holder == "b"
    study.report(record.number, points(SECOND, 0, 1), record)
    return record


def finish(study: Study, launched: TrialRecord) -> None:
    """End the attempt that "b" has launched, and see that the trial is of nobody else."""
    verdict, metrics = ended(SECOND)
    told = study.tell(launched.number, verdict, metrics, 2.0, None, launched)
    assert told.state is TrialState.COMPLETE
    check_second(told, launched)


def check_second(record: TrialRecord, launched: TrialRecord) -> None:
    """Check that a record is all of the second attempt."""
    assert record.params == launched.params
    assert (record.attempt, record.holder) == (launched.attempt, "b")
    assert (record.values, record.message, record.node) == ((SECOND,), "", None)
    assert record.metrics == {"loss": SECOND, "size": 0.5}
    assert record.constraints == {"size <= 1": -0.5}
    assert record.intermediate == {0: SECOND, 1: SECOND}
    assert record.trained_seconds == 2.0


def clear(study: Study) -> None:
    """Cancel what "a" still holds: a trial that it asked for once it was awake again."""
    for record in study.running():
        assert record.holder == "a"
        cancel(study, record)


def check_invariants(study: Study) -> None:
    assert [record.leftovers for record in study.records() if record.leftovers] == []
    broken = [f for f in check(Evidence(study.spec, study.records())) if f.is_problem]
    assert broken == []

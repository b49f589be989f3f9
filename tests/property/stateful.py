"""What the state machines have in common: runners, and how examples are drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import optuna
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test
from tests.unit.study.studies import open_study

from studyflow.executors import Executor
from studyflow.observers.observer import Observer
from studyflow.spec import StudySpec
from studyflow.tracking.memory import MemoryTracker
from studyflow.tracking.mirror import Mirror
from studyflow.trial.attempt_files import AttemptFiles
from studyflow.trial.record import TrialRecord
from studyflow.tuner import Tuner

SETTINGS = settings(
    max_examples=40,
    stateful_step_count=30,
    derandomize=True,
    phases=[Phase.generate],
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

LONG_SECONDS = 3600


def run_long(machine: type[RuleBasedStateMachine]) -> None:
    """Run a machine through thousands of examples that no run has seen before."""
    chosen = settings(
        SETTINGS,
        max_examples=3000,
        stateful_step_count=50,
        derandomize=False,
        print_blob=True,
    )
    run_state_machine_as_test(machine, settings=chosen)


class Tellings(Observer):
    """Counts how often each trial was told."""

    def __init__(self, counts: Counter[int]) -> None:
        self._counts = counts

    def recorded(self, record: TrialRecord) -> None:
        self._counts[record.number] += 1


def new_runner(
    spec: StudySpec,
    storage: optuna.storages.BaseStorage,
    executor: Executor,
    told: Counter[int],
    clock: Callable[[], float],
) -> Tuner:
    """Return another runner of a study, which knows nothing of those before it."""
    study = open_study(spec, storage)
    mirror = Mirror(
        MemoryTracker(),
        files=lambda record: AttemptFiles(),
        is_threaded=False,
    )
    return Tuner(study, executor, mirror.for_loop(), Tellings(told), clock=clock)

"""The loop goes on while a suggestion is made, and asks the sampler for nothing itself."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest
from tests.unit.samplers.ahead.workers import HeldWorker, Workers
from tests.unit.study.studies import X, make_spec
from tests.unit.tuner.rig import Rig
from tests.unit.tuner.test_costs import Calls

from studyflow.samplers import make_pruner
from studyflow.samplers.ahead.opening import suggestions_ahead
from studyflow.samplers.botorch import BoTorchSampler
from studyflow.spec import StudySpec
from studyflow.study import Study
from studyflow.study.attributes import set_paused
from studyflow.trial import Cause
from studyflow.trial.record import TrialState
from studyflow.tuner import Tuner, TunerResult, launching


def spec_of(n_trials: int = 6, n_parallel: int = 2, **changes: Any) -> StudySpec:
    changes.setdefault("search_space", {"x": X, "y": X})
    return make_spec(
        sampler={"type": "botorch", "seed": 0},
        budget={"n_trials": n_trials, "max_parallel_trials": n_parallel},
        **changes,
    )


class AheadRig(Rig):
    """A study whose suggestions are made by a worker that the test holds."""

    def __init__(self, spec: StudySpec, *, is_eager: bool = False, **executor: Any) -> None:
        super().__init__(spec, **executor)
        self.workers = Workers(is_eager=is_eager)
        self.stack = ExitStack()

    @property
    def worker(self) -> HeldWorker:
        return self.workers.started[-1]

    def study(self) -> Study:
        opened = suggestions_ahead(self.spec, self.workers)
        make_sampler, ahead = self.stack.enter_context(opened)
        return Study.open(
            self.spec,
            self.storage,
            make_sampler=make_sampler,
            pruner=make_pruner(self.spec),
            ahead=ahead,
        )


@pytest.fixture
def asked_here(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the numbers of the trials for which the sampler was asked in the loop's thread."""
    numbers: list[int] = []
    original = BoTorchSampler.sample_relative

    def noted(self: BoTorchSampler, study: Any, trial: Any, space: Any) -> Any:
        numbers.append(trial.number)
        return original(self, study, trial, space)

    monkeypatch.setattr(BoTorchSampler, "sample_relative", noted)
    return numbers


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching, "SUGGESTION_SECONDS", 0.0)


def turn(rig: Rig, tuner: Tuner) -> None:
    assert tuner.turn() is None
    rig.executor.wait(1.0)


def test_trials_end_and_are_recorded_while_a_suggestion_is_made(asked_here: list[int]) -> None:
    rig = AheadRig(spec_of(), objective=None)
    tuner = rig.tuner()
    turn(rig, tuner)
    assert rig.machine.submitted == [], "the first suggestion is being made"
    rig.worker.work()
    turn(rig, tuner)
    assert [trial.number for trial in rig.machine.submitted] == [0, 1]

    first, second = rig.machine.running()
    rig.executor.finish(first, 0.5)
    turn(rig, tuner)
    rig.executor.finish(second, 0.25)  # the slot of the first still waits for its suggestion
    turn(rig, tuner)

    assert [record.number for record in rig.diary.told] == [0, 1]
    assert len(rig.machine.submitted) == 2
    rig.worker.work()
    turn(rig, tuner)
    assert [trial.number for trial in rig.machine.submitted] == [0, 1, 2, 3]
    assert asked_here == []


def test_a_runner_that_waits_for_a_suggestion_looks_again_at_once() -> None:
    rig = AheadRig(spec_of(), objective=None)
    tuner = rig.tuner(poll_seconds=10.0)
    began = rig.clock()
    assert tuner.turn() is None
    assert tuner._pause_seconds == 0.0
    rig.worker.work()
    assert tuner.turn() is None
    assert tuner._pause_seconds > 0.0
    assert rig.clock() == began


def test_a_study_ends_with_its_exact_budget(asked_here: list[int]) -> None:
    rig = AheadRig(spec_of(n_trials=20, n_parallel=4), is_eager=True)
    assert rig.drive().is_finished
    assert len(rig.check()) == 20, "no trial was made that was not run"
    assert asked_here == []
    assert max(rig.worker.made) == 19, "nothing was prepared beyond the budget"


def test_preparing_writes_nothing_and_reads_nothing() -> None:
    rig = AheadRig(spec_of(n_trials=50), objective=None)
    calls = rig.storage = Calls(rig.storage)
    tuner = rig.tuner()
    turn(rig, tuner)
    waiting = calls.during(tuner.turn)
    assert waiting == {"get_all_trials": 1, "get_study_user_attrs": 1}
    assert calls.during(rig.worker.work) == {}


def test_a_paused_study_has_nothing_prepared_and_a_cancelled_one_ends_at_once() -> None:
    rig = AheadRig(spec_of(n_trials=50), objective=None, stop_seconds=0.0)
    tuner = rig.tuner()
    turn(rig, tuner)
    rig.worker.work()
    turn(rig, tuner)
    set_paused(rig.driven.optuna_study, True)
    rig.executor.finish(rig.machine.running()[0], 0.5)
    turn(rig, tuner)
    assert rig.worker.updates[-1].wanted.n_wanted == 0

    tuner.cancel()

    records = rig.driven.records()
    assert [record.cause for record in records] == [Cause.OK, Cause.CANCELLED]
    rig.stack.close()
    assert rig.worker.is_closed


def test_a_runner_after_a_crash_goes_on_with_a_worker_of_its_own(asked_here: list[int]) -> None:
    rig = AheadRig(spec_of(n_trials=12), is_eager=True)
    tuner = rig.tuner()
    for _ in range(3):
        turn(rig, tuner)
    rig.stack.close()  # the runner is gone; what was prepared with it
    assert rig.drive().is_finished
    assert len(rig.check()) == 12
    assert len(rig.workers.started) == 2
    assert asked_here == []


def test_two_runners_of_one_study_try_no_point_twice() -> None:
    rig = AheadRig(spec_of(n_trials=24, n_parallel=4), is_eager=True)
    one, other = rig.tuner(), None
    executors = [rig.executor]
    other = rig.tuner()
    executors.append(rig.executor)
    results: list[TunerResult | None] = [None, None]
    for _ in range(200):
        for position, tuner in enumerate((one, other)):
            if results[position] is None:
                results[position] = tuner.turn()
                executors[position].wait(0.3)
        if all(results):
            break
    records = [r for r in rig.study().records() if r.state is TrialState.COMPLETE]
    points = {(record.params["x"], record.params["y"]) for record in records}
    assert len(points) == len(records) == 24
    assert rig.machine.most_running <= 4


def test_points_to_try_first_go_first(asked_here: list[int]) -> None:
    rig = AheadRig(spec_of(enqueue=[{"x": 0.5, "y": 0.25}]), is_eager=True)
    assert rig.drive().is_finished
    assert rig.machine.submitted[0].params == {"x": 0.5, "y": 0.25}
    assert asked_here == []


def test_conditional_parameters_are_those_of_their_branch(asked_here: list[int]) -> None:
    space = {
        "kind": {"type": "categorical", "choices": ["a", "b"]},
        "x": {**X, "when": {"kind": "a"}},
        "y": {**X, "when": {"kind": "b"}},
    }
    rig = AheadRig(
        spec_of(n_trials=16, n_parallel=3, search_space=space),
        is_eager=True,
        objective=lambda params: float(params.get("x", params.get("y", 0.0))),
    )
    assert rig.drive().is_finished
    for record in rig.check():
        assert set(record.params) == {"kind", "x" if record.params["kind"] == "a" else "y"}
    assert asked_here == []


def test_one_slot_has_nothing_prepared(asked_here: list[int]) -> None:
    rig = AheadRig(spec_of(n_parallel=1), is_eager=True)
    assert rig.drive().is_finished
    assert rig.workers.started == []
    assert asked_here == [0, 1, 2, 3, 4, 5]


def test_other_samplers_have_nothing_prepared() -> None:
    spec = spec_of().model_copy(
        update={"sampler": spec_of().sampler.model_copy(update={"type": "random"})}
    )
    rig = AheadRig(spec, is_eager=True)
    assert rig.drive().is_finished
    assert rig.workers.started == []

"""Trials that are paused and taken up again by the loop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from tests.unit.study.studies import make_spec
from tests.unit.tuner.rig import Rig, ids

from studyflow.executors import AttemptId
from studyflow.ledger import all_rows
from studyflow.spec import StudySpec
from studyflow.trial import Cause
from studyflow.trial.record import TrialRecord, TrialState
from studyflow.tuner.pausing import WITHOUT_CHECKPOINTS

N_STEPS = 9


def promotion(n_trials: int = 9, n_parallel: int = 2, **changes: Any) -> StudySpec:
    """Return a study of trials of nine steps, with rungs at the steps 1 and 3 (and 9)."""
    pruner = {"type": "asha", "variant": "promotion", "min_resource": 1, "reduction_factor": 3}
    budget = {"n_trials": n_trials, "max_parallel_trials": n_parallel}
    trial = {"command": ["python", "train.py"], "budget": N_STEPS}
    return make_spec(**{"pruner": pruner, "budget": budget, "trial": trial} | changes)


def flat(params: Mapping[str, Any]) -> Sequence[Mapping[str, float]]:
    """Return a curve that says from the first step on how good a trial is."""
    return [{"loss": float(params["x"])}] * N_STEPS


def rig(spec: StudySpec | None = None, **executor: Any) -> Rig:
    settings = {"duration": 90.0, "curve": flat, "checkpoint_every": 1} | executor
    return Rig(spec or promotion(), **settings)


def quality(record: TrialRecord) -> float:
    """Return how bad a trial is."""
    return float(str(record.params["x"]))


def steps_of(rig: Rig, number: int) -> list[int]:
    """Return the steps that a trial's attempts have reported, one after the other."""
    attempts = sorted(a for a in rig.machine.attempts if a.number == number)
    return [
        point.step
        for attempt in attempts
        for _, point in rig.machine.attempts[attempt].points
        if point.name == "loss"
    ]


def test_the_best_trials_are_taken_up_and_the_rest_end_as_pruned() -> None:
    study = rig()
    assert study.drive().is_finished
    records = study.check()

    ranked = sorted(records, key=quality)
    assert [r.state for r in ranked].count(TrialState.COMPLETE) >= 1
    assert ranked[0].state is TrialState.COMPLETE, "the best one came to its end"
    assert all(r.state is TrialState.PRUNED for r in ranked[4:])
    assert {r.cause for r in records} == {Cause.OK, Cause.PRUNED}
    pruned = ranked[-1]
    assert pruned.intermediate == {0: pruned.params["x"], 1: pruned.params["x"]}
    assert "came to its end before the trial was taken up again" in pruned.message


def test_every_step_is_paid_once() -> None:
    study = rig()
    study.drive()
    for record in study.check():
        steps = steps_of(study, record.number)
        assert steps == sorted(set(steps)), f"trial {record.number} trained a step twice"


def test_a_resumed_trial_is_the_next_attempt_with_the_same_parameters() -> None:
    study = rig()
    study.drive()
    by_trial: dict[int, list[Mapping[str, Any]]] = {}
    for trial in study.machine.submitted:
        by_trial.setdefault(trial.number, []).append(dict(trial.params))
    assert max(map(len, by_trial.values())) > 1
    for params in by_trial.values():
        assert all(one == params[0] for one in params)
    resumed = next(r for r in study.check() if r.pauses and r.state is TrialState.COMPLETE)
    assert resumed.attempt == len(resumed.pauses) + 1


def test_a_pause_is_no_failure_and_no_retry() -> None:
    study = rig(promotion(retry={"max_attempts": 1}))
    study.drive()
    records = study.check()
    assert all(not r.lost_attempts for r in records)
    assert any(r.pauses for r in records)
    assert study.diary.lost == []


def test_the_storage_says_why_a_trial_was_paused_and_taken_up() -> None:
    study = rig()
    study.drive()
    resumed = next(r for r in study.check() if r.resumptions)
    pause, resumption = resumed.pauses[0], resumed.resumptions[0]
    step = pause.numbers["rung_step"]
    assert (pause.attempt, pause.checkpoint_step, pause.last_step) == (1, step, step)
    assert pause.numbers["value"] == resumed.params["x"]
    assert pause.message.startswith(f"Paused at step {step}: ")
    assert resumption.attempt == 2
    assert resumption.numbers["rank"] <= resumption.numbers["n_promoted"]
    assert resumption.message.startswith(f"Promoted from step {step}: ")


def test_the_ledger_has_one_row_for_each_attempt() -> None:
    study = rig()
    study.drive()
    records = study.check()
    rows = Counter((n, row.attempt) for r in records for n, row in ((r.number, c) for c in r.costs))
    assert rows == Counter((a.number, a.attempt) for a in ids(study.machine.submitted))
    causes = Counter(row.cause for row in all_rows(records))
    assert causes[Cause.PAUSED] == sum(len(r.pauses) for r in records)


def test_a_paused_trial_frees_its_slot() -> None:
    study = rig(promotion(n_parallel=1))
    tuner = study.tuner()
    while not any(r.is_paused for r in study.study().records()):
        assert tuner.turn() is None
        study.executor.wait(1.0)
    study.turns(tuner, 2)
    running = [r.number for r in study.study().running() if r.has_attempt]
    assert running == [1], "another one has its slot"


def test_a_new_runner_leaves_a_paused_trial_paused_and_takes_it_up_in_its_turn() -> None:
    study = rig()
    tuner = study.tuner()
    for _ in range(400):
        assert tuner.turn() is None
        study.executor.wait(1.0)
        if any(r.is_paused for r in study.study().records()):
            tuner = study.tuner()  # the one before is killed
            break
    submitted = len(study.machine.submitted)
    study.turns(tuner, 1)
    paused = {r.number for r in study.study().running() if r.is_paused}
    new = ids(study.machine.submitted[submitted:])
    assert not {a.number for a in new} & paused
    assert tuner.drive().is_finished
    study.check()


def test_any_runner_may_be_replaced_at_any_turn() -> None:
    study = rig()
    while (result := study.tuner().turn()) is None:
        study.executor.wait(1.0)
    assert result.is_finished
    records = study.check()
    assert min(records, key=quality).state is TrialState.COMPLETE


def test_without_checkpoints_a_trial_ends_where_it_would_be_paused() -> None:
    study = rig(checkpoint_every=None)
    study.drive()
    records = study.check()
    assert not any(r.pauses for r in records)
    assert {r.state for r in records} == {TrialState.COMPLETE, TrialState.PRUNED}
    assert study.diary.notes.count(WITHOUT_CHECKPOINTS) == 1


def test_a_trial_is_paused_at_its_next_checkpoint() -> None:
    study = rig(checkpoint_every=3)
    study.drive()
    pauses = [pause for record in study.check() for pause in record.pauses]
    assert {pause.checkpoint_step for pause in pauses} == {2, 5}
    assert all(pause.checkpoint_step == pause.last_step for pause in pauses)


def test_a_checkpoint_that_cannot_be_read_costs_its_steps_and_nothing_else() -> None:
    study = rig()
    study.machine.damaged.update(range(9))
    assert study.drive().is_finished
    records = study.check()
    resumed = next(r for r in records if r.pauses and r.state is TrialState.COMPLETE)
    assert resumed.intermediate == dict.fromkeys(range(N_STEPS), resumed.params["x"])


def test_a_trial_of_another_study_file_is_taken_up_before_new_ones_start() -> None:
    study = rig()
    tuner = study.tuner()
    while not any(r.is_paused for r in study.study().records()):
        assert tuner.turn() is None
        study.executor.wait(1.0)
    study.spec = promotion(pruner={"type": "none"})
    assert study.drive().is_finished
    records = study.check()
    assert all(r.state is TrialState.COMPLETE for r in records)


def test_a_cancelled_run_leaves_paused_trials_to_the_next_one() -> None:
    study = rig()
    tuner = study.tuner()
    while not any(r.is_paused for r in study.study().records()):
        assert tuner.turn() is None
        study.executor.wait(1.0)
    tuner.cancel()
    records = study.study().records()
    assert any(r.is_paused for r in records)
    assert {r.cause for r in records if not r.is_paused} == {Cause.CANCELLED}
    assert any("Left paused: " in note for note in study.diary.notes)
    assert study.drive().is_finished
    assert not any(r.state is TrialState.RUNNING for r in study.study().records())


def test_a_paused_trial_whose_study_is_out_of_time_stays_paused() -> None:
    budget = {"n_trials": 9, "max_parallel_trials": 2, "timeout_seconds": 60.0}
    study = rig(promotion(budget=budget))
    result = study.drive()
    assert not result.is_finished
    records = study.study().records()
    assert any(r.is_paused for r in records)
    study.spec = promotion()
    assert study.drive().is_finished
    study.check()


def test_paused_trials_end_as_pruned_when_a_limit_of_the_budget_is_reached() -> None:
    budget = {"n_trials": 30, "max_parallel_trials": 2, "gpu_hours": 400 / 3600}
    study = rig(promotion(budget=budget))
    result = study.drive()
    assert result.is_finished
    records = study.study().records()
    assert all(r.state.is_finished for r in records)
    assert any(r.state is TrialState.PRUNED for r in records)


def test_samplers_see_a_paused_trial_as_pruned_and_as_running_once_it_is_taken_up() -> None:
    study = rig()
    tuner = study.tuner()
    while not any(r.is_paused for r in study.study().records()):
        assert tuner.turn() is None
        study.executor.wait(1.0)
    opened = study.study()
    number = next(r.number for r in opened.records() if r.is_paused)
    seen = opened.optuna_study.get_trials(deepcopy=False)[number]
    assert (seen.state.name, seen.value) == ("PRUNED", opened.record(number).params["x"])
    opened.begin_attempt(number, 2, "here")
    assert opened.optuna_study.get_trials(deepcopy=False)[number].state.name == "RUNNING"


@pytest.mark.parametrize("lost_in", ["before", "after"])
def test_an_attempt_that_is_lost_is_repeated_whatever_was_decided(lost_in: str) -> None:
    study = rig(promotion(n_parallel=1))
    tuner = study.tuner()
    study.turns(tuner, 1)
    if lost_in == "after":
        while not study.machine.attempts[AttemptId(0, 1)].is_stopped:
            assert tuner.turn() is None
            study.executor.wait(1.0)
    study.executor.lose(AttemptId(0, 1), Cause.EVICTED)
    assert tuner.drive().is_finished
    study.check()

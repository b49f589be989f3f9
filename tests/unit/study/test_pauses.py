"""A pause as it is stored, read again, and seen by an earlier studyflow."""

from __future__ import annotations

import optuna
import pytest
import yaml
from tests.unit.study.studies import make_spec, open_study

from studyflow.ledger import all_rows
from studyflow.reasons import Reason
from studyflow.spec import find_problems
from studyflow.study import Study, Verdict
from studyflow.study.attempt_count import AttemptCount, count_attempts
from studyflow.study.lost_form import followed_attempts
from studyflow.trial import Cause, MetricPoint
from studyflow.trial.cost import AttemptCost, Begin, Why
from studyflow.trial.cost_form import resumptions_in
from studyflow.trial.record import AttemptSteps, LostAttempt, PausedAttempt, Resumption, TrialState

PAUSED = Verdict.because(Cause.PAUSED, None, Reason(Cause.PAUSED, "Paused at step 3."))


def paused_study() -> Study:
    """Return a study whose trial 0 is paused at step 3."""
    study = open_study(make_spec())
    assert study.ask("here") is not None
    seen = study.begin_attempt(0, 1, "here")
    study.report(0, [MetricPoint("loss", step, 1.0 / (step + 1), 0) for step in range(4)], seen)
    assert study.end_attempt(
        0,
        1,
        PAUSED,
        trained_seconds=40.0,
        ended_at=50.0,
        seen=study.record(0),
        steps=AttemptSteps(3, 0, 3),
        cost=AttemptCost(1, Cause.PAUSED, 41.0),
        numbers={"rank": 2},
    )
    return study


def test_a_paused_trial_runs_without_an_attempt() -> None:
    record = paused_study().record(0)
    assert record.is_paused
    assert not record.has_attempt
    assert not record.is_lost
    assert record.lost_attempts == ()
    expected = PausedAttempt(1, "Paused at step 3.", 40.0, None, 50.0, 3, 0, 3, {"rank": 2})
    assert record.pauses == (expected,)
    assert [(row.attempt, row.cause, row.seconds) for row in all_rows([record])] == [
        (1, Cause.PAUSED, 41.0)
    ]


def test_the_next_attempt_takes_it_up_and_says_why() -> None:
    study = paused_study()
    why = Why("Promoted from step 3.", {"rank": 1})
    taken_up = study.begin_attempt(0, 2, "here", study.record(0), Begin(2, 60.0, resumption=why))
    assert taken_up.has_attempt
    assert not taken_up.is_paused
    assert taken_up.resumptions == (Resumption(2, "Promoted from step 3.", 60.0, {"rank": 1}),)
    assert dict(taken_up.intermediate) == {step: 1.0 / (step + 1) for step in range(4)}


def test_a_second_runner_that_saw_it_paused_finds_that_it_has_gone_on() -> None:
    study = paused_study()
    seen = study.record(0)
    study.begin_attempt(0, 2, "here", seen)
    assert study.begin_attempt(0, 2, "there", seen).holder == "here"
    assert not study.end_attempt(0, 1, PAUSED, seen=seen)


def test_a_late_pause_is_noted_once_and_not_of_a_trial_that_has_gone_on() -> None:
    study = paused_study()
    assert not study.end_attempt(0, 1, PAUSED), "noted already"
    study.begin_attempt(0, 2, "here")
    assert not study.end_attempt(0, 1, PAUSED)
    assert len(study.record(0).pauses) == 1


def test_an_earlier_studyflow_reads_a_pause_as_a_lost_attempt() -> None:
    attrs = paused_study().optuna_study.trials[0].user_attrs
    assert attrs["attempts"] == [[1, "paused", "Paused at step 3.", 40.0, None, 50.0]]
    assert attrs["lost_attempts"][0]["cause"] == "paused"
    of_next_year = {**attrs, "attempts": [[1, "postponed"]], "lost_attempts": []}
    assert followed_attempts(of_next_year) == (LostAttempt(1, Cause.LOST),), "what it does then"


@pytest.mark.parametrize(
    "document",
    [
        {"attempt": 1, "cause": "paused", "numbers": "many"},
        {"attempt": 1, "cause": "paused", "of next year": True},
    ],
)
def test_a_damaged_pause_is_read_as_far_as_it_goes(document: dict[str, object]) -> None:
    attrs = {"attempts": [[1, "paused", "why"]], "lost_attempts": [document]}
    assert followed_attempts(attrs) == (PausedAttempt(1),)


def test_a_damaged_resumption_is_left_out() -> None:
    attrs = {"resumed:2": ["broken"], "resumed:3": {"attempt": 3, "message": "why"}}
    assert resumptions_in(attrs) == (Resumption(3, "why"),)


def test_a_paused_trial_that_ends_as_pruned_keeps_its_curve_and_its_row() -> None:
    study = paused_study()
    verdict = Verdict(Cause.PRUNED, TrialState.PRUNED, "The study came to its end.")
    told = study.tell(0, verdict, trained_seconds=40.0, seen=study.record(0))
    assert (told.state.value, told.cause, told.values) == ("pruned", Cause.PRUNED, None)
    assert len(told.costs) == 1
    assert told.duration_seconds == 40.0
    assert study.optuna_study.trials[0].value == 0.25, "as a pruned trial is told today"


def test_a_paused_trial_uses_up_budget_and_is_never_surplus() -> None:
    study = open_study(make_spec(budget={"n_trials": 1}), optuna.storages.InMemoryStorage())
    assert study.ask("here") is not None
    study.begin_attempt(0, 1, "here")
    study.end_attempt(0, 1, PAUSED)
    trials = study.trials()
    assert (trials.n_used, trials.room, trials.surplus) == (1, 0, frozenset())


def test_pauses_cost_no_attempt_and_a_checkpoint_of_theirs_brings_a_trial_further() -> None:
    def lost(number: int) -> LostAttempt:
        return LostAttempt(number, Cause.EVICTED)

    assert count_attempts([PausedAttempt(1), lost(2)]) == AttemptCount(1)
    assert count_attempts([lost(1), PausedAttempt(2), lost(3)]) == AttemptCount(2)
    further = PausedAttempt(2, checkpoint_step=5)
    assert count_attempts([lost(1), further, lost(3)]) == AttemptCount(1, 2, 5)


def test_promotion_needs_to_know_its_first_rung() -> None:
    spec = make_spec(pruner={"type": "asha"}).model_dump(mode="json", exclude_unset=True)
    spec["pruner"] = {"type": "asha", "variant": "promotion"}
    _, [problem] = find_problems(yaml.safe_dump(spec))
    assert "min_resource must be in steps for variant promotion" in str(problem)
    assert "Hint: set trial.budget, or min_resource" in str(problem)
    for fixed in ({"min_resource": 2}, {"variant": "stopping"}):
        spec["pruner"] = {"type": "asha", "variant": "promotion", **fixed}
        assert not find_problems(yaml.safe_dump(spec))[1]

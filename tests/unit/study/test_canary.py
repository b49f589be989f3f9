"""When a study's script is known to run, so that other attempts may follow the first."""

from __future__ import annotations

import math
from typing import Any

import optuna
import pytest
from tests.unit.study.studies import complete, failed, make_spec, open_study

from studyflow.study.canary import Canary, proven_seconds
from studyflow.study.verdict import Verdict
from studyflow.trial import MetricPoint
from studyflow.trial.record import TrialRecord, TrialState

FIRST, SECOND = (0, 1), (1, 1)


@pytest.mark.parametrize(
    ("state", "known", "seconds"),
    [
        (TrialState.RUNNING, {}, 0.0),
        (TrialState.WAITING, {}, 0.0),
        (TrialState.RUNNING, {"intermediate": {0: math.nan}}, math.inf),
        (TrialState.COMPLETE, {"values": (1.0,)}, math.inf),
        (TrialState.PRUNED, {}, math.inf),
        (TrialState.FAILED, {}, 0.0),
        (TrialState.FAILED, {"trained_seconds": 9.0}, 9.0),
        (TrialState.FAILED, {"trained_seconds": 9.0, "intermediate": {3: 1.0}}, math.inf),
        # Another study has run these.
        (TrialState.COMPLETE, {"values": (1.0,), "is_taken_over": True}, 0.0),
        (TrialState.FAILED, {"trained_seconds": 9.0, "is_taken_over": True}, 0.0),
    ],
)
def test_a_trial_shows_for_how_long_the_script_runs(
    state: TrialState, known: dict[str, Any], seconds: float
) -> None:
    assert proven_seconds(TrialRecord(0, state, {}, **known)) == seconds


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_without_a_time_all_may_begin_at_once(seconds: float) -> None:
    assert Canary(seconds).is_proven


@pytest.mark.parametrize(
    ("proven", "is_proven"), [(0.0, False), (9.9, False), (10.0, True), (math.inf, True)]
)
def test_earlier_trials_prove_a_script(proven: float, is_proven: bool) -> None:
    canary = Canary(10.0)
    canary.observe(proven, [], 0.0)
    assert canary.is_proven is is_proven


def test_an_attempt_that_runs_for_a_while_proves_it() -> None:
    canary, seen = Canary(10.0), []
    for now in (100.0, 105.0, 110.0):
        canary.observe(0.0, [FIRST], now)
        seen.append(canary.is_proven)
    assert seen == [False, False, True]


def test_times_of_different_attempts_do_not_add_up() -> None:
    canary = Canary(10.0)
    canary.observe(0.0, [FIRST], 0.0)
    canary.observe(0.0, [SECOND], 9.0)
    canary.observe(0.0, [SECOND], 18.0)
    assert not canary.is_proven
    canary.observe(0.0, [FIRST, SECOND], 19.0)
    assert canary.is_proven, "the second one has run from 9 to 19"


def test_what_is_known_once_stays_known() -> None:
    canary = Canary(10.0)
    canary.observe(math.inf, [], 0.0)
    canary.observe(0.0, [], 1.0)
    assert canary.is_proven


@pytest.mark.parametrize(
    ("verdict", "seconds"), [(complete(0.5), math.inf), (failed(), 7.0)], ids=["complete", "failed"]
)
def test_the_index_of_trials_keeps_the_most_that_any_gives(
    verdict: Verdict, seconds: float
) -> None:
    study = open_study(make_spec(), optuna.storages.InMemoryStorage())
    assert study.trials().proven_seconds == 0.0

    for trained_seconds, told in ((7.0, verdict), (3.0, failed())):
        trial = study.ask()
        assert trial is not None
        study.tell(trial.number, told, trained_seconds=trained_seconds)

    assert study.trials().proven_seconds == seconds


def test_a_report_of_a_running_trial_is_taken_in() -> None:
    study = open_study(make_spec(), optuna.storages.InMemoryStorage())
    trial = study.ask()
    assert trial is not None
    study.begin_attempt(trial.number, 1)
    assert study.trials().proven_seconds == 0.0
    study.report(trial.number, [MetricPoint("loss", 0, 1.0, 0)])
    assert study.trials().proven_seconds == math.inf

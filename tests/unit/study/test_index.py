"""What a look at the storage costs, and that it shows the same as looking at everything anew."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pytest
from tests.unit.study.studies import complete, failed, make_spec, open_study
from tests.unit.tuner.rig import Rig, parallel

from studyflow.executors import AttemptId
from studyflow.storage import open_storage
from studyflow.study import Study, TrialIndex, Verdict, is_counted, stop_reason, storage_form
from studyflow.trial import Cause, MetricPoint
from studyflow.trial.cost import AttemptCost
from studyflow.trial.record import TrialRecord, TrialState, best_records

N_FINISHED = 2_000


def add_finished(study: Study, n: int) -> None:
    """Let a study have finished trials that it did not run, which is quicker."""
    for number in range(n):
        study.optuna_study.add_trial(
            optuna.trial.create_trial(
                params={"x": number / n},
                distributions={"x": optuna.distributions.FloatDistribution(0.0, 1.0)},
                value=1.0 + number,
                user_attrs={"attempt": 1, "cause": "ok"},
            )
        )


class Conversions:
    """Counts how often each trial of a storage is made a record."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.counts: Counter[int] = Counter()
        to_record = storage_form.to_record

        def counted(frozen: optuna.trial.FrozenTrial, *rest: Any) -> TrialRecord:
            self.counts[frozen.number] += 1
            return to_record(frozen, *rest)

        monkeypatch.setattr(storage_form, "to_record", counted)


@pytest.fixture
def rig() -> Rig:
    rig = Rig(parallel(2, n_trials=N_FINISHED + 50), objective=None)
    add_finished(rig.study(), N_FINISHED)
    return rig


def test_a_turn_of_a_long_study_makes_records_of_what_has_changed(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuner = rig.tuner()
    rig.turns(tuner, 1)
    conversions = Conversions(monkeypatch)

    rig.turns(tuner, 5)
    assert conversions.counts == {}, "nothing has changed"

    attempt = AttemptId(N_FINISHED, 1)
    rig.executor.finish(attempt, 0.5)
    rig.turns(tuner, 1)
    assert set(conversions.counts) == {N_FINISHED, N_FINISHED + 2}, "one ended, one was asked for"
    assert conversions.counts[N_FINISHED] == 1
    assert conversions.counts.total() <= 6


def test_no_turn_of_a_long_study_goes_through_all_trials(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuner = rig.tuner()
    rig.turns(tuner, 1)
    gone_through = []
    monkeypatch.setattr(TrialIndex, "records", property(lambda index: gone_through.append(index)))

    for _ in range(5):
        for attempt in rig.machine.running():
            rig.executor.finish(attempt, 0.5)
        rig.turns(tuner, 1)

    assert gone_through == []
    assert rig.study().trials().n_counted == N_FINISHED + 10


def test_a_study_that_is_opened_again_makes_each_record_once(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversions = Conversions(monkeypatch)
    study = rig.study()
    for _ in range(3):
        assert len(study.records()) == N_FINISHED
    assert set(conversions.counts.values()) == {1}


def test_a_look_shows_what_another_runner_has_written() -> None:
    storage = optuna.storages.InMemoryStorage()
    spec = make_spec(budget={"n_trials": 3})
    mine, others = open_study(spec, storage), open_study(spec, storage)
    look = mine.trials()
    assert (look.room, look.n_begun, look.running, look.best) == (3, 0, (), ())

    asked = others.ask()
    assert asked is not None
    look = mine.trials()
    assert (look.room, look.n_begun, look.n_used, look.n_counted) == (2, 1, 1, 0)
    assert [record.number for record in look.running] == [0]

    others.tell(0, complete(0.5))
    look = mine.trials()
    assert (look.room, look.n_begun, look.n_used, look.n_counted) == (2, 1, 1, 1)
    assert [record.values for record in look.best] == [(0.5,)]
    assert look.running == ()


def test_cancelled_trials_and_enqueued_points_use_up_no_budget() -> None:
    spec = make_spec(budget={"n_trials": 3}, enqueue=[{"x": 0.25}, {"x": 0.75}])
    study = open_study(spec)
    assert (study.trials().room, study.trials().n_begun) == (3, 0)
    asked = study.ask()
    assert asked is not None
    study.tell(0, failed(Cause.CANCELLED))

    look = study.trials()
    assert (look.room, look.n_begun, look.n_counted) == (3, 1, 0)
    assert [record.state for record in look.records] == [TrialState.FAILED, TrialState.WAITING]


def test_a_trial_s_rank_is_how_many_before_it_count_or_run() -> None:
    study = open_study(make_spec(budget={"n_trials": 9}))
    for verdict in (complete(1.0), failed(Cause.CANCELLED), failed(), None):
        asked = study.ask()
        assert asked is not None
        if verdict is not None:
            study.tell(asked.number, verdict)
    look = study.trials()
    assert [look.rank(number) for number in range(5)] == [0, 1, 1, 2, 3]


def test_surplus_trials_are_those_that_have_not_begun_and_find_no_room() -> None:
    study = open_study(make_spec(budget={"n_trials": 2}))
    stored = study.optuna_study
    for _ in range(4):
        stored.ask()  # as runners that saw room a moment ago
    study.begin_attempt(2, 1)
    assert study.trials().surplus == {3}, "what has begun goes on"

    study.tell(0, failed(Cause.CANCELLED))
    assert study.trials().surplus == {3}

    study.tell(1, failed(Cause.CANCELLED))
    assert study.trials().surplus == frozenset()


def test_what_lost_attempts_cost_stays_the_same_number_while_trials_report() -> None:
    study = open_study(make_spec(budget={"n_trials": 5, "max_parallel_trials": 3}))
    for number, seconds in enumerate((0.1, 0.2, 0.3)):
        study.ask()
        study.begin_attempt(number, 1)
        cost = AttemptCost(1, Cause.EVICTED, seconds)
        study.end_attempt(number, 1, Verdict(Cause.EVICTED, None, "gone"), cost=cost)
    before = study.trials().recorded.unit_seconds

    study.report(0, [MetricPoint("loss", 1, 0.5, 0)])

    assert study.trials().recorded.unit_seconds == before, "whoever compares it would see a change"


def test_a_look_that_fails_can_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = optuna.storages.InMemoryStorage()
    spec = make_spec(budget={"n_trials": 3})
    mine, others = open_study(spec, storage), open_study(spec, storage)
    assert others.ask() is not None
    others.tell(0, complete(0.5))

    def refuse(*_: Any) -> TrialRecord:
        raise ValueError("not readable")

    with monkeypatch.context() as patch:
        patch.setattr(storage_form, "to_record", refuse)
        with pytest.raises(ValueError, match="not readable"):
            mine.trials()

    assert mine.trials().n_counted == 1
    assert mine.trials().records == others.trials().records


def test_the_index_agrees_with_the_rules_that_go_through_all_trials() -> None:
    spec = make_spec(budget={"n_trials": 40}, stop={"no_improvement_trials": 12, "target": 0.01})
    study = open_study(spec)
    for number in range(30):
        asked = study.ask()
        assert asked is not None
        value = float(str(asked.params["x"]))
        study.tell(number, failed() if number % 5 == 4 else complete(value))
        look = study.trials()
        assert look.best == best_records(look.records, spec.directions)
        assert look.stop_reason() == stop_reason(spec, look.records)
        assert look.n_counted == sum(map(is_counted, look.records)) == number + 1
        assert sum(map(look.n_counted_as, TrialState)) == look.n_counted


def test_a_write_reads_its_own_trial_and_a_look_reads_those_of_others(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    ours, others = (open_study(make_spec(), open_storage(url)) for _ in range(2))
    first, second = ours.ask("here"), ours.ask("here")
    assert first is not None
    assert second is not None
    others.begin_attempt(first.number, 1, "there")

    ours.begin_attempt(second.number, 1, "here")
    assert ours.known_trials().record(second.number).attempt == 1
    assert ours.known_trials().record(first.number).attempt == 0

    late = ours.begin_attempt(first.number, 1, "here", seen=first)
    assert (late.attempt, late.holder) == (1, "there"), "what is refused is read again"
    assert ours.trials().record(first.number).holder == "there"

"""What holds for the writes of every storage, on PostgreSQL, and how many statements there are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy
from optuna.storages import RDBStorage
from tests.postgres import create_database, running_postgres
from tests.unit.storage.test_changes import (  # noqa: F401 - collected with this storage
    test_a_finished_trial_is_never_changed,
    test_a_parameter_that_is_there_is_not_replaced_and_nothing_else_is_written,
    test_a_reported_value_is_replaced_and_need_not_be_finite,
    test_a_trial_that_is_not_as_expected_stays_as_it_is,
    test_all_parts_of_a_change_are_made_together,
    test_an_empty_change_of_a_running_trial_is_made,
    test_of_two_writers_that_saw_the_same_trial_one_is_refused,
)
from tests.unit.storage.test_creations import (  # noqa: F401 - collected with this storage
    test_a_number_that_is_not_the_next_one_makes_nothing,
    test_a_trial_is_made_with_all_that_it_has,
    test_optuna_goes_on_with_a_trial_that_was_made_whole,
)
from tests.unit.study.studies import complete
from tests.unit.tuner.rig import Rig, parallel

from studyflow.storage import open_storage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def storage() -> Iterator[RDBStorage]:
    with running_postgres() as postgres:
        opened = open_storage(create_database(postgres.url, "writes"))
        assert isinstance(opened, RDBStorage)
        yield opened
        opened.remove_session()
        opened.engine.dispose()


@pytest.mark.parametrize("n_running", [3, 20])
def test_statements_of_a_turn_and_of_a_trial_do_not_grow(
    n_running: int, storage: RDBStorage
) -> None:
    rig = Rig(parallel(n_running, n_trials=1000), objective=None)
    rig.storage = storage
    study = rig.study()
    for record in study.running():  # of the case before
        study.tell(record.number, complete(0.5))
    tuner = rig.tuner()
    rig.turns(tuner, 2)
    sent: list[str] = []
    sqlalchemy.event.listen(
        storage.engine, "before_cursor_execute", lambda *given: sent.append(given[2])
    )

    def during_turn() -> int:
        sent.clear()
        assert tuner.turn() is None
        return len(sent)

    for _ in range(4):
        assert during_turn() == 2, "the trials, and what is left with the study"
        rig.executor.finish(rig.machine.running()[0], 0.5)
        assert during_turn() == 6, "the same; its end; a read; a new trial; a read"
    assert len(rig.machine.running()) == n_running

"""Only one thread at a time writes about a trial."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from studyflow.tracking.mirror.turns import Turns


def test_a_trial_that_is_written_about_is_waited_for() -> None:
    turns = Turns(threading.Condition())
    assert turns.take(0)
    assert not turns.take(0, patience_seconds=0.0)
    assert turns.take(1)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(turns.take, 0, 30.0)
        turns.give_back(0)
        assert waiting.result(30)
    assert turns.taken == {0, 1}


def test_a_call_that_only_reads_needs_no_turn() -> None:
    turns = Turns(threading.Condition())
    assert turns.take(None)
    assert turns.take(None)
    turns.give_back(None)
    assert turns.taken == set()

"""Runners, trials and the database fail at random; in the end the study is whole.

What happens follows from a seed, which a failure prints: STUDYFLOW_FAULT_SEED=7 replays it, as far
as processes ever take the same time twice.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from tests.faults.place import Place
from tests.postgres import Postgres, create_database, running_postgres

from studyflow.record import TrialState
from studyflow.study import is_counted
from studyflow.trial import Cause

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.fault("F23")]

N_TRIALS = 16
N_FAULTS = 8


@pytest.fixture
def server() -> Iterator[Postgres]:
    with running_postgres() as postgres:
        yield postgres


class Havoc:
    """Breaks things around one study. Each method is one fault, and leaves a runner at work.

    Args:
        place: The study.
        server: Its database.
        seed: Decides what breaks when.
    """

    def __init__(self, place: Place, server: Postgres, seed: int) -> None:
        self.place = place
        self.server = server
        self.random = random.Random(seed)
        self.diary: list[str] = []
        self.runner = place.start()

    def kill_the_runner(self) -> None:
        self.runner.kill()
        self.runner.wait()
        self.runner = self.place.start()

    def end_the_runner(self) -> None:
        self.runner.terminate()
        self.runner.wait(120)
        self.runner = self.place.start()

    def pause_the_runner(self) -> None:
        self.runner.send_signal(signal.SIGSTOP)
        time.sleep(self.random.uniform(0.2, 1.0))
        self.runner.send_signal(signal.SIGCONT)

    def kill_a_trial(self) -> None:
        """Kill a supervisor, and with it all of its attempt."""
        found = []
        for process in self.place.processes():
            try:
                if any("supervisor" in part for part in process.cmdline()):
                    found.append(process)
            except psutil.Error:
                continue
        if found:
            victim = self.random.choice(sorted(found, key=lambda process: process.pid))
            victim.kill()

    def start_another_runner(self) -> None:
        """Let a second runner take over from the first, which is killed."""
        first, self.runner = self.runner, self.place.start()
        time.sleep(self.random.uniform(0.5, 2.0))
        first.kill()
        first.wait()

    def stop_the_database(self) -> None:
        self.server.stop(self.random.choice(["fast", "immediate"]))
        time.sleep(self.random.uniform(0.0, 2.0))
        self.server.start()

    def wreak(self, n_faults: int) -> None:
        """Do a number of faults, each after something has gone on since the last."""
        faults = [
            self.kill_the_runner,
            self.end_the_runner,
            self.pause_the_runner,
            self.kill_a_trial,
            self.start_another_runner,
            self.stop_the_database,
        ]
        # Each kind once, in any order, and some again.
        plan = self.random.sample(faults, len(faults))
        plan += self.random.choices(faults, k=n_faults - len(faults))
        for fault in plan:
            if not self._wait_for_news():
                return
            time.sleep(self.random.uniform(0.0, 0.5))
            self.diary.append(fault.__name__)
            fault()

    def _wait_for_news(self) -> bool:
        """Return whether there is still something to break, once another attempt has begun."""
        known, deadline = self.place.n_folders(), time.monotonic() + 120
        while self.place.n_folders() == known:
            if self.runner.poll() is not None:
                return False
            assert time.monotonic() < deadline, self.place.log
            time.sleep(0.02)
        return True


def test_whatever_fails_at_random_the_study_comes_out_whole(
    server: Postgres, tmp_path: Path, new_place: Callable[..., Place]
) -> None:
    seed = int(os.environ.get("STUDYFLOW_FAULT_SEED", "0"))
    place = new_place(
        seconds=0.5,
        storage_url=create_database(server.url, str(tmp_path)),
        budget={"n_trials": N_TRIALS, "max_parallel_trials": 3},
        retry={"max_attempts": 100, "backoff_seconds": 0.1},
    )
    havoc = Havoc(place, server, seed)
    try:
        havoc.wreak(N_FAULTS)
        code = havoc.runner.wait(240)
    finally:
        print(f"STUDYFLOW_FAULT_SEED={seed} did: {', '.join(havoc.diary)}")

    assert code == 0, place.log
    records = place.records()
    counted = [record for record in records if is_counted(record)]
    assert len(counted) == N_TRIALS
    assert {(r.state, r.cause) for r in counted} == {(TrialState.COMPLETE, Cause.OK)}
    assert all(r.values == (r.params["x"],) for r in counted)
    assert {r.cause for r in records} <= {Cause.OK, Cause.CANCELLED}
    assert place.processes() == []
    assert place.mlflow_trials().keys() == {r.number for r in records}
    place.verify()

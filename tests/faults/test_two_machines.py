"""Two machines with local trials share one study; one of them dies."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from tests.faults.hasty_runner import SHORT_LEASE_SECONDS
from tests.faults.place import Place, wait_until

from studyflow.study import LEASE_SECONDS, is_counted
from studyflow.trial.record import TrialState

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.fault("F24")]


@pytest.mark.parametrize(
    ("program", "lease_seconds"),
    [
        (["tests.faults.hasty_runner"], SHORT_LEASE_SECONDS),
        pytest.param(["studyflow"], LEASE_SECONDS, marks=pytest.mark.long),
    ],
    ids=["short", "real"],
)
def test_the_trials_of_a_machine_that_dies_run_on_another(
    program: list[str],
    lease_seconds: float,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    record_property("did", f"a machine of two dies, leases of {lease_seconds:.0f} s")
    storage_url = f"journal:///{tmp_path}/shared.journal"
    machines = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        # Too long to end by themselves: until a machine dies nothing happens.
        seconds = 300.0 if name == "one" else 0.5
        budget = {"n_trials": 6, "max_parallel_trials": 3}
        machines.append(Place(tmp_path / name, seconds, storage_url, budget=budget))
    one, two = machines
    try:
        first = one.start(program)
        wait_until(lambda: one.n_folders() == 3, first)
        second = two.start(program)
        wait_until(lambda: "works on this study too" in two.log, second)
        assert two.n_folders() == 0, "the limit is the study's"

        for process in one.processes():  # the supervisors too: the power is off
            with contextlib.suppress(psutil.Error):
                process.kill()
        died_at = time.time()
        wait_until(lambda: two.n_folders() > 0, second)
        assert "Nothing more was heard of" in two.log
        taken_over_at = min(f.stat().st_ctime for f in two.trials_folder.glob("*/attempt-*"))
        assert taken_over_at - died_at > lease_seconds * 2 / 3
        assert second.wait(120) == 0, two.log

        records = two.records()
        assert [r.state for r in records if is_counted(r)] == [TrialState.COMPLETE] * 6
        assert [r.attempt for r in records] == [2, 2, 2, 1, 1, 1]
        assert two.n_folders() == 6
        two.verify()
    finally:
        for machine in machines:
            machine.close()

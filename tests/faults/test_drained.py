"""A study comes to rest for an upgrade, as docs/upgrading.md says, and goes on afterwards."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from tests.faults.place import Place, wait_until

from studyflow.trial import Cause
from studyflow.trial.record import TrialState

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.mark.fault("F57")
def test_a_drained_study_repeats_nothing_and_loses_nothing(tmp_path: Path) -> None:
    place = Place(tmp_path, 1.5)
    try:
        runner = place.start()
        wait_until(lambda: place.n_folders() == 2, runner)
        place.command("pause")
        wait_until(lambda: place.n_ended() == place.n_folders(), runner)
        wait_until(lambda: all(r.state is TrialState.COMPLETE for r in place.records()), runner)
        at_rest = place.records()

        runner.send_signal(signal.SIGINT)  # its flow run is cancelled
        assert runner.wait(60) == 130, place.log
        assert place.records() == at_rest
        assert 2 <= len(at_rest) < 6
        assert {(r.cause, r.attempt) for r in at_rest} == {(Cause.OK, 1)}

        place.command("resume")
        place.run_to_end()
        assert place.records()[: len(at_rest)] == at_rest
        place.check_whole()
    finally:
        place.close()

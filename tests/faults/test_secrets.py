"""A script prints all it knows: nothing of it leaves the trial's own folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.faults.place import Place

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

TELLTALE = """
import os, sys
print("token", os.environ["TEAM_TOKEN"], flush=True)
print("GET https://me:f00lish@store/data")
raise OSError("refused: " + os.environ["TEAM_TOKEN"] + " at https://me:f00lish@store/data")
"""


@pytest.mark.fault("F51")
def test_nothing_that_a_script_prints_of_its_secrets_is_kept_outside_its_folder(
    tmp_path: Path,
) -> None:
    place = Place(
        tmp_path,
        budget={"n_trials": 2, "max_parallel_trials": 2},
        trial={"command": ["python", "-S", "train.py"], "inherit_env": ["TEAM_TOKEN"]},
    )
    (tmp_path / "train.py").write_text(TELLTALE)
    runner = place.start(TEAM_TOKEN="tok-5e5ame")
    assert runner.wait(120) != 2, place.log

    assert {record.message for record in place.records()} == {
        "Exit code 1. Last line: OSError: refused: *** at https://me:***@store/data"
    }
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "train.py"]
    kept = [
        path
        for path in files
        if any(secret in path.read_bytes() for secret in (b"tok-5e5ame", b"f00lish"))
    ]
    assert kept, "the script has printed them"
    assert all(path.is_relative_to(place.trials_folder) for path in kept), kept
    logs = [path for path in files if path.name == "trial.log"]
    assert len(logs) == 2
    assert all("token ***\nGET https://me:***@store/data\n" in p.read_text() for p in logs)
    place.verify()

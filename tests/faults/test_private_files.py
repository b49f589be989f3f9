"""Another user of the machine finds nothing open in a home folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from tests.faults.place import Place

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.mark.fault("F88")
def test_a_study_leaves_nothing_open_to_others_whatever_the_umask(tmp_path: Path) -> None:
    place = Place(tmp_path, seconds=0.0, budget={"n_trials": 2, "max_parallel_trials": 2})
    home = place.home.rename(tmp_path / ".studyflow")
    place.home, place.storage_url = home, place.storage_url.replace("/home/", "/.studyflow/")
    before = os.umask(0)
    try:
        for path in (home, *home.rglob("*")):  # as an earlier version made them
            path.chmod(0o777 if path.is_dir() else 0o666)
        place.run_to_end()
    finally:
        os.umask(before)

    found = [home, *home.glob("*"), *home.glob("*/*"), *(home / "studies").rglob("*")]
    named = {path.name for path in found}
    assert {"studies.journal", "mlflow.db", "log.txt", "report.html", "runner.lock"} <= named
    opened = {
        str(path.relative_to(home)): oct(stat.S_IMODE(path.lstat().st_mode))
        for path in found
        # This script writes its outcome itself, into a folder that nobody else opens.
        if path.lstat().st_mode & 0o077 and path.name != "outcome.json"
    }
    assert opened == {}

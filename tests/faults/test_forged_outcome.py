"""One trial writes into the folder of another while their runner is killed: no result is forged."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.faults.place import Place
from tests.unit.executors.local.bench import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

FORGES = """
import json, os, pathlib, time
trial = json.loads(os.environ["STUDYFLOW_TRIAL"])
folder = pathlib.Path(trial["outcome_path"]).parent

def say(folder, number, loss, **key):
    document = {"version": 1, "study": trial["study"], "number": number, "attempt": 1,
                "cause": "ok", "metrics": {"loss": loss}, "message": "", **key}
    (folder / "outcome.json").write_text(json.dumps(document))

if trial["number"] == 1:
    neighbour = folder.parent.parent / "0" / "attempt-1"
    while not (neighbour / "pid.json").exists():
        time.sleep(0.01)
    say(neighbour, 0, -1e9)
    document = json.loads((neighbour / "trial.json").read_text())
    (neighbour / "trial.json").write_text(json.dumps({**document, "params": {"x": -1e9}}))
    pathlib.Path("forged").touch()
    time.sleep(1.0)
else:
    time.sleep(1.5)
say(folder, trial["number"], trial["params"]["x"], key=trial["key"])
"""


@pytest.mark.fault("F86")
def test_a_runner_that_takes_over_believes_no_forged_outcome(tmp_path: Path) -> None:
    place = Place(tmp_path, budget={"n_trials": 2, "max_parallel_trials": 2})
    (tmp_path / "train.py").write_text(FORGES)
    first = place.start()
    until(lambda: bool(list(place.trials_folder.glob("1/attempt-1/work/forged"))), 60)
    first.kill()
    first.wait()

    place.run_to_end()

    for record in place.records():
        assert record.values == (record.params["x"],)
    assert "Trial 0-1 cannot be followed" in place.log
    assert "lacks the seal of this attempt" in place.log
    place.verify()

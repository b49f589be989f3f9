"""The flow `retrain_best`: a study and its retraining, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from tests.flows.loading import loaded
from tests.prepared import put_mlflow_database
from tests.unit.retrain.test_retrain import TRAIN

from studyflow.reports.stored import stored_study
from studyflow.retrain import retrain_name
from studyflow.settings import Settings
from studyflow.spec import StudySpec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180), pytest.mark.filterwarnings("default")]

STUDY = """
name: again
objectives: [{metric: loss, direction: minimize}]
search_space: {x: {type: float, low: 0, high: 1}}
fixed: {seed: 0}
sampler: {type: random, seed: 1}
budget: {n_trials: 3, max_parallel_trials: 2}
trial: {command: [python, -S, train.py]}
"""


@pytest.fixture(scope="module")
def flow_module() -> Iterator[ModuleType]:
    """`flows/retrain_best.py` as Prefect loads it, over a server of the test's own."""
    with loaded("retrain_best") as module:
        yield module


@pytest.fixture
def study_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "study.yaml").write_text(STUDY)
    put_mlflow_database(tmp_path / "home")
    monkeypatch.setenv("STUDYFLOW_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path / "study.yaml"


def test_a_study_and_its_retraining_run_one_after_the_other(
    flow_module: ModuleType, study_file: Path
) -> None:
    early = flow_module.retrain_best(str(study_file), return_state=True)
    assert early.is_failed()
    assert "There is no study named 'again'" in early.message

    done = flow_module.retrain_best(str(study_file), top=2, repeats=2, run_study_first=True)

    assert [len(row["values"]) for row in done["configurations"]] == [2, 2]
    assert done["champion"] == "models:/again@champion"


def test_a_run_that_is_paused_on_its_page_trains_nothing_more_and_goes_on_when_resumed(
    flow_module: ModuleType, study_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.exceptions import Pause
    from prefect.states import Suspended

    from studyflow.orchestration import run_states

    flow_module.run_study(str(study_file))
    with monkeypatch.context() as paused:
        paused.setattr(run_states, "suspension", lambda: Suspended(timeout_seconds=60))
        with pytest.raises(Pause):
            flow_module.retrain_best(str(study_file), top=1, repeats=2)
    repeats = stored_study(retrain_name(StudySpec.from_yaml(study_file)), Settings.resolve())
    assert repeats.finished == ()

    done = flow_module.retrain_best(str(study_file), top=1, repeats=2)
    assert [len(row["values"]) for row in done["configurations"]] == [2]

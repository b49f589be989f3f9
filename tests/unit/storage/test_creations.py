"""A trial is made whole, with the number that its maker expects, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from studyflow.errors import StorageUnavailable
from studyflow.storage import PatientStorage, default_storage_url, open_storage
from studyflow.storage.creations import make_trial, makes_whole_trials

STORAGES: Final[dict[str, Callable[[Path], BaseStorage]]] = {
    "memory": lambda _: InMemoryStorage(),
    "journal": lambda folder: open_storage(default_storage_url(folder)),
    "database": lambda folder: open_storage(f"sqlite:///{folder}/studies.db"),
}


@pytest.fixture(scope="module", params=sorted(STORAGES))
def storage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    opened = STORAGES[request.param](tmp_path_factory.mktemp("storage"))
    yield opened
    if isinstance(opened, RDBStorage):
        opened.remove_session()
        opened.engine.dispose()


def template(**attrs: Any) -> FrozenTrial:
    return create_trial(
        state=TrialState.RUNNING,
        params={"x": 0.1, "n": 3, "c": "b"},
        distributions={
            "x": FloatDistribution(1e-3, 1.0, log=True),
            "n": IntDistribution(1, 9, step=2),
            "c": CategoricalDistribution(["a", "b", None]),
        },
        user_attrs={"holder": "a % 'quoted' \\ é", "attempt": 1, **attrs},
        system_attrs={"s": {"list": [1, None]}},
    )


def test_a_trial_is_made_with_all_that_it_has(storage: BaseStorage) -> None:
    study = storage.create_new_study([StudyDirection.MINIMIZE])
    storage.create_new_trial(study)
    wanted = template()

    made = make_trial(storage, study, 1, wanted)

    assert made is not None
    trial = storage.get_trial(made)
    assert (trial.number, trial.state) == (1, TrialState.RUNNING)
    assert trial.params == {"x": 0.1, "n": 3, "c": "b"}
    assert trial.distributions == wanted.distributions
    assert trial.user_attrs == {"holder": "a % 'quoted' \\ é", "attempt": 1}
    assert trial.system_attrs == {"s": {"list": [1, None]}}
    assert trial.datetime_start == wanted.datetime_start
    assert (trial.datetime_complete, trial.values, trial.intermediate_values) == (None, None, {})
    assert storage.get_trial_id_from_study_id_trial_number(study, 1) == made


@pytest.mark.parametrize("n_trials", [0, 1, 3])
def test_a_number_that_is_not_the_next_one_makes_nothing(
    storage: BaseStorage, n_trials: int
) -> None:
    study = storage.create_new_study([StudyDirection.MINIMIZE])
    other = storage.create_new_study([StudyDirection.MINIMIZE])
    for of_study in (study, other, study, other, other):
        storage.create_new_trial(of_study)

    assert make_trial(storage, study, n_trials, template()) is None

    assert len(storage.get_all_trials(study)) == 2
    assert make_trial(storage, study, 2, template()) is not None
    assert [trial.number for trial in storage.get_all_trials(study)] == [0, 1, 2]


@pytest.mark.parametrize("kind", ["journal", "database"])
def test_of_two_processes_that_expect_one_number_one_makes_its_trial(
    kind: str, tmp_path: Path
) -> None:
    first, second = STORAGES[kind](tmp_path), STORAGES[kind](tmp_path)
    study = first.create_new_study([StudyDirection.MINIMIZE], "shared")
    assert second.get_all_trials(study) == []

    made = [make_trial(one, study, 0, template(by=n)) for n, one in enumerate((first, second))]

    assert [trial is not None for trial in made] == [True, False]
    assert [trial.user_attrs["by"] for trial in second.get_all_trials(study)] == [0]
    for opened in (first, second):
        if isinstance(opened, RDBStorage):
            opened.remove_session()
            opened.engine.dispose()


def test_optuna_goes_on_with_a_trial_that_was_made_whole(storage: BaseStorage) -> None:
    study = optuna.create_study(storage=storage)
    make_trial(storage, storage.get_study_id_from_name(study.study_name), 0, template())
    study.tell(0, 0.5)
    asked = study.ask({"x": FloatDistribution(1e-3, 1.0, log=True)})
    assert (asked.number, study.trials[0].values) == (1, [0.5])


def test_storages_that_cannot_make_whole_trials_say_so(tmp_path: Path) -> None:
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "log"))
    assert not makes_whole_trials(JournalStorage(backend))
    assert makes_whole_trials(PatientStorage(InMemoryStorage()))


class Forgetful(InMemoryStorage):
    """Makes a trial, and loses the answer."""

    n_lost = 1

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        made = super().create_new_trial(study_id, template_trial)
        if self.n_lost:
            self.n_lost -= 1
            raise StorageUnavailable("The answer is lost.")
        return made


@pytest.mark.fault("F28")
def test_a_trial_whose_answer_was_lost_is_known_again() -> None:
    storage = Forgetful()
    patient = PatientStorage(storage, sleep=lambda _: None)
    study = storage.create_new_study([StudyDirection.MINIMIZE])
    wanted = template()
    wanted.datetime_start = datetime(2026, 1, 2, 3, 4, 5, 678)

    made = patient.make_trial(study, 0, wanted)

    assert made == storage.get_trial_id_from_study_id_trial_number(study, 0)
    assert len(storage.get_all_trials(study)) == 1

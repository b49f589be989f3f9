"""The runs of a study: found before they are created, and replaced when they are gone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from tests.unit.tracking.mlflow.fake_client import FakeClient, Refusal

from studyflow.errors import TrackingError, TrackingUnavailable
from studyflow.testing.tracker_contract import card, running
from studyflow.tracking.mlflow.client import Connection
from studyflow.tracking.mlflow.documents import TrackedStudy
from studyflow.tracking.mlflow.experiment import Experiment
from studyflow.tracking.mlflow.runs import Candidate, StudyRuns, TrialRun, ranked
from studyflow.tracking.mlflow.search import RunSearch

EMPTY = Candidate("b", 2, is_open=True, is_final=False, has_metrics=False, has_params=False)
PARENT = {"studyflow.role": "study"}


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    fake = FakeClient()
    monkeypatch.setattr("studyflow.tracking.mlflow.client.connect", lambda uri: fake)
    return fake


def parts() -> tuple[Experiment, StudyRuns]:
    mlflow, study = Connection("http://mlflow"), TrackedStudy("demo", card("demo"))
    experiment = Experiment(mlflow, study, "demo")
    return experiment, StudyRuns(mlflow, experiment, RunSearch(mlflow, study.key), study)


def refusing(client: FakeClient, then: Callable[[], None]) -> Callable[[TrialRun], TrialRun]:
    """Return what is refused once, because of what somebody else does just then."""
    seen: list[TrialRun] = []

    def act(run: TrialRun) -> TrialRun:
        seen.append(run)
        if len(seen) == 1:
            then()
            raise TrackingError("refused")
        return run

    return act


def as_demo(tags: dict[str, str]) -> dict[str, str]:
    return {"studyflow.study_key": TrackedStudy("demo").key, **tags}


# The experiment


def test_an_experiment_is_created_once_and_found_by_the_next_process(client: FakeClient) -> None:
    assert parts()[0].find() is None
    assert parts()[0].find_or_create() == "1"
    assert parts()[0].find_or_create() == "1"
    assert client.calls.count("create_experiment") == 1
    assert client.experiment is not None
    assert client.experiment.tags["mlflow.experiment.primaryMetric.name"] == "loss"


def test_an_experiment_that_somebody_creates_just_now_is_found(client: FakeClient) -> None:
    other, _ = parts()

    def create_first(method: str) -> None:
        if method == "create_experiment" and client.experiment is None:
            client.before = lambda method: None
            other.find_or_create()

    client.before = create_first
    assert parts()[0].find_or_create() == "1"


def test_an_experiment_that_is_neither_shown_nor_created_is_refused(client: FakeClient) -> None:
    def refuse(method: str) -> None:
        if method == "create_experiment":
            raise Refusal("RESOURCE_ALREADY_EXISTS")

    client.before = refuse
    with pytest.raises(TrackingError, match="does not show it"):
        parts()[0].find_or_create()


def test_peeking_restores_nothing(client: FakeClient) -> None:
    parts()[0].find_or_create()
    client.delete_experiment()
    assert parts()[0].peek() is None
    assert "restore_experiment" not in client.calls
    assert parts()[0].find() == "1"
    assert client.calls[-1] == "restore_experiment"


# The study's run


def test_of_two_parents_created_at_once_the_first_is_used(client: FakeClient) -> None:
    def create_first(method: str) -> None:
        if method == "create_run":
            client.before = lambda method: None
            client.add_run("demo", as_demo(PARENT))

    client.before = create_first
    _, runs = parts()
    assert runs.with_parent(lambda run_id: run_id) == "run-0"
    assert client.runs["run-1"].info.lifecycle_stage == "deleted"


def test_a_parent_that_is_gone_is_replaced_and_its_trials_follow(client: FakeClient) -> None:
    _, runs = parts()
    child = runs.with_trial(running(0), lambda run: run.run_id)
    parent = runs.parent_id
    assert parent is not None
    client.delete_run(parent)
    acted: list[str] = []

    def act(run_id: str) -> str:
        acted.append(run_id)
        if run_id == parent:
            raise TrackingError("refused")
        return run_id

    new = runs.with_parent(act)
    assert acted == [parent, new]
    assert client.tags_of(new)["studyflow.recreated"] == parent
    assert client.tags_of(child)["mlflow.parentRunId"] == new


# The trials' runs


def test_a_trials_run_is_new_until_it_is_shown(client: FakeClient) -> None:
    _, runs = parts()
    first = runs.with_trial(running(0), lambda run: run)
    assert runs.with_trial(running(0), lambda run: run) == first == TrialRun(first.run_id, True)
    runs.note_shown(first.run_id)
    assert runs.with_trial(running(0), lambda run: run) == TrialRun(first.run_id)
    assert parts()[1].with_trial(running(0), lambda run: run) == TrialRun(first.run_id)


def test_a_refusal_about_something_else_is_raised_and_tried_once(client: FakeClient) -> None:
    _, runs = parts()
    with pytest.raises(TrackingError, match="refused"):
        runs.with_trial(running(0), refusing(client, lambda: None))


def test_an_outage_is_not_looked_into(client: FakeClient) -> None:
    def fail(run: TrialRun) -> None:
        client.calls.clear()
        raise TrackingUnavailable("no answer")

    with pytest.raises(TrackingUnavailable):
        parts()[1].with_trial(running(0), fail)
    assert client.calls == []


def test_a_run_deleted_with_its_experiment_is_revived(client: FakeClient) -> None:
    _, runs = parts()
    run = runs.with_trial(running(0), refusing(client, client.delete_experiment))
    assert client.runs[run.run_id].info.lifecycle_stage == "active"
    assert len(client.runs) == 2


def test_a_run_of_another_server_is_replaced(client: FakeClient) -> None:
    _, runs = parts()
    record = dataclasses.replace(running(0), run_id="elsewhere")
    run = runs.with_trial(record, refusing(client, lambda: None))
    assert run.is_new
    assert client.tags_of(run.run_id)["studyflow.recreated"] == "elsewhere"


def test_a_deleted_run_and_its_deleted_parent_are_both_replaced(client: FakeClient) -> None:
    _, runs = parts()

    def delete_all() -> None:
        for run_id in list(client.runs):
            client.delete_run(run_id)

    old = runs.with_trial(running(0), lambda run: run.run_id)
    new = runs.with_trial(running(0), refusing(client, delete_all))
    assert client.tags_of(new.run_id)["studyflow.recreated"] == old
    assert client.tags_of(new.run_id)["mlflow.parentRunId"] == runs.parent_id
    assert client.runs[str(runs.parent_id)].info.lifecycle_stage == "active"


# Which of several


def ids(*runs: Candidate, known: str | None = None) -> str:
    return "".join(run.run_id for run in ranked(runs, known))


def test_the_most_complete_run_is_used_and_of_equal_ones_the_first() -> None:
    final = dataclasses.replace(EMPTY, run_id="f", is_open=False, is_final=True)
    reported = dataclasses.replace(EMPTY, run_id="m", has_metrics=True)
    opened = dataclasses.replace(EMPTY, run_id="p", has_params=True)
    earlier = dataclasses.replace(EMPTY, run_id="z", start_ms=1)
    assert ids(EMPTY, earlier, opened, reported, final) == "fmpzb"


def test_the_run_that_is_used_already_goes_before_all_others() -> None:
    final = dataclasses.replace(EMPTY, run_id="f", is_open=False, is_final=True)
    assert ids(final, EMPTY, known="b") == "bf"


def test_only_a_run_that_nothing_was_logged_to_may_be_deleted() -> None:
    assert EMPTY.is_empty
    assert not dataclasses.replace(EMPTY, has_metrics=True).is_empty
    assert not dataclasses.replace(EMPTY, is_open=False).is_empty


def test_an_empty_duplicate_is_deleted_and_one_with_values_is_kept(client: FakeClient) -> None:
    _, runs = parts()
    used = runs.with_trial(running(0), lambda run: run.run_id)
    duplicate, full = (client.add_run("trial-0000", client.tags_of(used)) for _ in range(2))
    full.data.metrics["loss"] = 0.5
    assert runs.choose_all()[0].run_id == used
    stages = [run.info.lifecycle_stage for run in (client.runs[used], duplicate, full)]
    assert stages == ["active", "deleted", "active"]

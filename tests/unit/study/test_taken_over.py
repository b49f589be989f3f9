"""A runner that stands still, or dies, between any two writes spoils nothing of those who go on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import optuna
import pytest
from tests.stopped_runner import (
    FIRST,
    SCENES,
    SECOND,
    Stopping,
    begun,
    check_invariants,
    check_second,
    ended,
    finish,
    make_spec,
    open_study,
    points,
    take_over,
    tell,
)

from studyflow.diagnostics.invariants import Evidence, check
from studyflow.storage import default_storage_url, open_storage
from studyflow.study import Study, Verdict, find_study, load_records
from studyflow.study import storage_form as form
from studyflow.trial import Cause
from studyflow.trial.record import TrialRecord, TrialState

_T = TypeVar("_T")


class Killed(BaseException):
    """The runner dies here."""


Stored = Callable[[str], optuna.storages.BaseStorage]


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[Stored]:
    """Give what opens one and the same storage, again and again."""
    memory = optuna.storages.InMemoryStorage()
    opened: list[optuna.storages.RDBStorage] = []

    def open_it(kind: str) -> optuna.storages.BaseStorage:
        if kind == "memory":
            return memory
        if kind == "journal":
            return open_storage(default_storage_url(tmp_path))
        storage = open_storage(f"sqlite:///{tmp_path}/studies.db")
        assert isinstance(storage, optuna.storages.RDBStorage)
        opened.append(storage)
        return storage

    yield open_it
    for storage in opened:
        storage.remove_session()
        storage.engine.dispose()


@pytest.mark.fault("F25", "F63")
@pytest.mark.parametrize(
    ("kind", "scene"),
    [
        *(("memory", scene) for scene in SCENES),
        *(("journal", scene) for scene in SCENES),
        *(("sqlite", scene) for scene in ("ask", "report", "tell")),
    ],
)
def test_a_runner_stopped_before_any_write_is_refused_when_it_wakes(
    kind: str, scene: str, stored: Stored
) -> None:
    prepare, act, enqueue = (getattr(SCENES[scene], n) for n in ("prepare", "act", "enqueue"))
    kept, other_kept = stored(kind), stored(kind)
    for n_passed in itertools.count():
        spec = make_spec(name=f"demo-{n_passed}", enqueue=list(enqueue))
        stopping = Stopping(kept)
        first, second = open_study(spec, stopping), open_study(spec, other_kept)
        seen = prepare(first)
        launched: list[TrialRecord | None] = []
        stopping.arm(n_passed, partial(note, launched, second))

        act(first, seen)

        if not stopping.was_reached:
            break
        if launched[0] is not None:
            finish(second, launched[0])
        check_invariants(second)
    assert n_passed > 0


def note(launched: list[TrialRecord | None], second: Study) -> None:
    launched.append(take_over(second))


@pytest.mark.fault("F62")
@pytest.mark.parametrize("n_writes", range(14))
def test_a_runner_killed_between_any_two_writes_of_an_end_leaves_nothing_to_the_next_attempt(
    n_writes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In memory, where an end is written step by step."""
    kept = optuna.storages.InMemoryStorage()
    spec = make_spec()
    study = open_study(spec, kept)
    record = begun(study)
    left = itertools.count()
    with monkeypatch.context() as patched:
        for name in ("set_trial_user_attr", "set_trial_system_attr", "set_trial_state_values"):
            patched.setattr(kept, name, deadly(getattr(kept, name), left, n_writes))
        try:
            tell(study, record)
        except Killed:
            pass
        else:
            assert n_writes > 5
            return

    second = open_study(spec, kept)
    launched = take_over(second)
    assert launched is not None
    finish(second, launched)
    check_invariants(second)
    told = load_records(find_study("demo", kept))[1][0]
    check_second(told, launched)
    assert find_study("demo", kept).trials[0].constraints == {"size <= 1": -0.5}


@pytest.mark.fault("F31", "F62")
def test_a_journal_torn_anywhere_in_an_end_leaves_nothing_to_the_next_attempt(
    tmp_path: Path,
) -> None:
    url = default_storage_url(tmp_path)
    first = open_study(make_spec(), open_storage(url))
    record = begun(first)
    journal = tmp_path / "studies.journal"
    n_before = journal.stat().st_size
    tell(first, record)
    whole = journal.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == 10 and n_before <= i < len(whole) - 1]
    assert len(ends) > 4
    for size in (n_before, n_before + 9, *ends, *(end + 9 for end in ends)):
        journal.write_bytes(whole[:size])
        second = open_study(make_spec(), open_storage(url))
        launched = take_over(second)
        assert launched is not None
        finish(second, launched)
        check_invariants(second)


def deadly(call: Callable[..., _T], left: Iterator[int], n: int) -> Callable[..., _T]:
    def limited(*arguments: object) -> _T:
        if next(left) >= n:
            raise Killed
        return call(*arguments)

    return limited


def half_told_by_format_1(kept: optuna.storages.InMemoryStorage) -> Study:
    """Return a study in which a runner of format 1 was killed before the state of trial 0."""
    study = open_study(make_spec(), kept)
    begun(study)
    study_id = kept.get_study_id_from_name(study.optuna_study.study_name)
    trial_id = kept.get_trial_id_from_study_id_trial_number(study_id, 0)
    trial = optuna.trial.Trial(study.optuna_study, trial_id)
    trial.set_constraint("size <= 1", 7.0)
    trial.set_constraint("size >= 0", -1.0)
    for key, value in (
        *((form.CAUSE, "nan"), (form.MESSAGE, "it diverged"), (form.METRICS, {"f1": 1.0})),
        *((form.SECONDS, 60.0), (form.NODE, "node-a")),
    ):
        trial.set_user_attr(key, value)
    return open_study(make_spec(), kept)


@pytest.mark.fault("F57", "F62")
def test_what_an_older_version_left_half_told_is_no_part_of_the_next_attempt() -> None:
    kept = optuna.storages.InMemoryStorage()
    study = half_told_by_format_1(kept)
    assert (study.record(0).cause, study.record(0).message) == (None, "")
    launched = take_over(study)
    assert launched is not None

    finish(study, launched)

    stored = find_study("demo", kept)
    assert stored.trials[0].constraints == {"size <= 1": -0.5}
    assert {key: stored.trials[0].user_attrs.get(key) for key in (form.MESSAGE, form.NODE)} == {
        form.MESSAGE: None,
        form.NODE: None,
    }
    # The second bound cannot be taken out of Optuna's storage: nobody reads it, and verify sees it.
    (told,) = load_records(stored)[1]
    assert told.leftovers == ("size >= 0",)
    assert told.constraints == {"size <= 1": -0.5}
    (found,) = [f for f in check(Evidence(study.spec, (told,))) if f.is_problem]
    assert (found.subject, found.evidence) == (
        "I11",
        ("Trial 0 is of attempt 2, but another attempt left size >= 0 with it.",),
    )


@pytest.mark.fault("F57", "F62")
def test_an_older_version_reads_the_attributes_of_the_last_attempt() -> None:
    kept = optuna.storages.InMemoryStorage()
    study = half_told_by_format_1(kept)
    take_over(study)

    study.tell(0, Verdict(Cause.CANCELLED, TrialState.FAILED))

    (trial,) = kept.get_all_trials(kept.get_study_id_from_name(study.optuna_study.study_name))
    old = (form.CAUSE, form.MESSAGE, form.METRICS, form.SECONDS, form.NODE)
    assert [trial.user_attrs[key] for key in old] == ["cancelled", "", {}, None, None]


# ---- learning curves ----------------------------------------------------------------------------


def second_attempt() -> tuple[Study, TrialRecord]:
    """Return a study whose trial has lost an attempt that had reported steps 0 to 4."""
    study = open_study(make_spec(), optuna.storages.InMemoryStorage())
    first = begun(study)
    study.report(0, points(FIRST, 0, 1, 2, 3, 4), first)
    study.end_attempt(0, 1, Verdict(Cause.EVICTED, None, "gone"))
    return study, study.begin_attempt(0, 2, "a")


@pytest.mark.fault("F62")
def test_an_attempt_that_begins_anew_replaces_the_curve_of_the_one_before() -> None:
    study, attempt = second_attempt()
    assert not study.should_prune(0), "it has reported nothing that could be judged"

    study.report(0, points(SECOND, 0, 1), attempt)
    study.report(0, points(8.0, 0, 1), attempt)  # its own steps stay as they were first

    assert study.record(0).intermediate == {0: SECOND, 1: SECOND}
    assert study.optuna_study.trials[0].intermediate_values == {0: SECOND, 1: SECOND}
    told = study.tell(0, Verdict(Cause.PRUNED, TrialState.PRUNED))
    assert study.optuna_study.trials[0].value == SECOND
    assert told.intermediate == {0: SECOND, 1: SECOND}


@pytest.mark.fault("F62")
def test_an_attempt_that_goes_on_from_a_checkpoint_continues_the_curve() -> None:
    study, attempt = second_attempt()

    study.report(0, points(SECOND, 3), attempt)
    assert study.record(0).intermediate == {0: FIRST, 1: FIRST, 2: FIRST, 3: SECOND}
    study.report(0, points(SECOND, 4, 5), attempt)

    assert study.record(0).intermediate == {
        **dict.fromkeys((0, 1, 2), FIRST),
        **dict.fromkeys((3, 4, 5), SECOND),
    }


@pytest.mark.fault("F62")
def test_what_a_third_attempt_does_not_reach_stays_hidden() -> None:
    study, attempt = second_attempt()
    study.report(0, points(SECOND, 1, 2), attempt)
    study.end_attempt(0, 2, Verdict(Cause.EVICTED, None, "gone"))
    third = study.begin_attempt(0, 3, "a")

    study.report(0, points(0.125, 2), third)

    assert study.record(0).intermediate == {0: FIRST, 1: SECOND, 2: 0.125}


@pytest.mark.fault("F62")
def test_reports_read_again_by_the_next_runner_change_nothing() -> None:
    study, attempt = second_attempt()
    study.report(0, points(SECOND, 0, 1), attempt)
    before = study.record(0)

    study.report(0, points(SECOND, 0, 1), attempt)

    assert study.record(0) == before


@pytest.mark.fault("F62")
@pytest.mark.parametrize("pruner", ["asha", "hyperband"])
def test_a_pruner_judges_an_attempt_by_its_own_values(pruner: str) -> None:
    spec = make_spec(
        pruner={"type": pruner, "min_resource": 1, "reduction_factor": 2},
        budget={"n_trials": 3},
    )
    study = open_study(spec, optuna.storages.InMemoryStorage())
    good = begun(study)
    study.report(0, points(0.5, 1, 2, 4, 8), good)
    study.should_prune(0)
    verdict, metrics = ended(SECOND)
    study.tell(0, verdict, metrics)
    asked = study.ask("a")
    assert asked is not None
    attempt = study.begin_attempt(1, 1, "a")
    study.report(1, points(FIRST, 1), attempt)
    study.should_prune(1)
    study.end_attempt(1, 1, Verdict(Cause.EVICTED, None, "gone"))
    attempt = study.begin_attempt(1, 2, "a")

    study.report(1, points(0.25, 1), attempt)

    assert not study.should_prune(1)
    (_, trial) = study.optuna_study.trials
    assert {v for k, v in trial.system_attrs.items() if k.startswith("completed_rung_")} <= {0.25}

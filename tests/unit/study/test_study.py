"""Ask, report and tell over Optuna's storage; what survives a runner that dies in between."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable
from typing import Any, TypeVar

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.study.studies import X, complete, failed, make_spec, open_study, run_all

from studyflow.errors import StudyError, StudyMismatch, StudyNotFound
from studyflow.reasons import Code, Reason
from studyflow.samplers import make_pruner, make_sampler
from studyflow.spec import StudySpec
from studyflow.storage import ForwardingStorage
from studyflow.study import (
    Study,
    TrialIndex,
    Verdict,
    find_study,
    is_counted,
    load_records,
    study_names,
)
from studyflow.study.attributes import spec_to_keep
from studyflow.study.trial_writes import MAX_INTERMEDIATE_VALUES
from studyflow.trial import Cause, MetricPoint
from studyflow.trial.record import AttemptSteps, LostAttempt, TrialState

_T = TypeVar("_T")

CONDITIONAL = {
    "x": X,
    "optimizer": {"type": "categorical", "choices": ["adam", "sgd"]},
    "momentum": {"type": "float", "low": 0.5, "high": 0.9, "when": {"optimizer": "sgd"}},
}


class Killed(BaseException):
    """The runner dies here."""


def storage() -> optuna.storages.InMemoryStorage:
    return optuna.storages.InMemoryStorage()


# ---- opening ----------------------------------------------------------------------------------


def test_a_study_that_exists_is_continued() -> None:
    kept = storage()
    open_study(make_spec(), kept)
    first = open_study(make_spec(), kept)
    run_all(first)

    second = open_study(make_spec(budget={"n_trials": 7}), kept)

    assert [r.number for r in second.records()] == [0, 1, 2, 3, 4]
    assert second.room() == 2
    assert study_names(kept) == ("demo",)


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"search_space": {"x": {**X, "high": 2.0}}}, "search_space.x.high: 1.0 → 2.0"),
        (
            {"objectives": [{"metric": "loss", "direction": "maximize"}]},
            'objectives[0].direction: "minimize" → "maximize"',
        ),
        ({"search_space": {"x": X, "y": X}}, "search_space.y: nothing → "),
    ],
)
@pytest.mark.fault("F44")
def test_a_study_file_of_another_identity_is_refused_with_the_difference(
    changes: dict[str, Any], difference: str
) -> None:
    kept = storage()
    open_study(make_spec(), kept)

    with pytest.raises(StudyMismatch) as caught:
        open_study(make_spec(**changes), kept)

    assert len(caught.value.differences) == 1
    assert caught.value.differences[0].startswith(difference)
    assert "--fork" in str(caught.value)


@pytest.mark.fault("F57")
@pytest.mark.parametrize("fork_from", [None, "demo"])
def test_a_study_of_a_later_format_is_refused_with_the_way_out(fork_from: str | None) -> None:
    kept = storage()
    made = open_study(make_spec(), kept)
    assert made.optuna_study.user_attrs["studyflow:format"] == 1
    open_study(make_spec(), kept)  # its own format is none to refuse
    made.optuna_study.set_user_attr("studyflow:format", 2)

    with pytest.raises(StudyError) as caught:
        open_study(make_spec(name="demo" if fork_from is None else "other"), kept, fork_from)

    assert str(caught.value) == (
        "The study 'demo' is stored in format 2, and this studyflow writes format 1: a later one "
        "has worked on it. Hint: go on with the later studyflow, or start a new study under "
        "another name."
    )
    assert made.optuna_study.user_attrs["studyflow:format"] == 2


@pytest.mark.fault("F57")
def test_a_study_without_a_format_is_of_the_first() -> None:
    kept = storage()
    optuna.create_study(study_name="demo", storage=kept)

    assert open_study(make_spec(), kept).optuna_study.user_attrs["studyflow:format"] == 1


def test_other_metrics_are_no_reason_to_offer_a_fork_that_takes_over_nothing() -> None:
    kept = storage()
    open_study(make_spec(), kept)

    with pytest.raises(StudyMismatch) as caught:
        open_study(make_spec(objectives=[{"metric": "error", "direction": "minimize"}]), kept)

    assert caught.value.hint == (
        "undo the change, or give the study file another name: the trials of 'demo' have other "
        "metrics, so none could be taken over."
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"budget": {"n_trials": 9, "max_parallel_trials": 3}},
        {"sampler": {"type": "tpe"}},
        {"pruner": {"type": "median"}},
        {"fixed": {"z": 1}},
        {"description": "new words"},
        {"trial": {"command": ["other"], "timeout_seconds": 5}},
    ],
)
def test_everything_else_may_change_while_a_study_goes_on(changes: dict[str, Any]) -> None:
    kept = storage()
    run_all(open_study(make_spec(), kept))
    spec = make_spec(**changes)

    continued = open_study(spec, kept)

    assert len(continued.records()) == 5
    assert load_records(find_study("demo", kept))[0] == make_spec(), "it has done nothing yet"
    assert continued.keep_spec(is_shared=False) == spec
    assert load_records(find_study("demo", kept))[0] == spec


@pytest.mark.fault("F77")
def test_a_run_that_does_nothing_changes_no_budget() -> None:
    kept = storage()
    study = open_study(make_spec(budget={"n_trials": 9}), kept)
    study.ask()

    open_study(make_spec(budget={"n_trials": 2}), kept)

    assert study.kept_spec().budget.n_trials == 9


@pytest.mark.parametrize(
    ("own", "other", "n_used", "limits"),
    [
        ((9, 2), None, 3, (9, 2)),
        ((9, 2), (20, 1), 3, (20, 2)),  # both runs are at work: both limits hold
        ((9, 2), (5, 4), 3, (9, 4)),
        ((9, 2), None, 12, (12, 2)),  # so many trials are there
        ((None, 2), None, 12, (None, 2)),
        ((None, 2), (5, 4), 12, (None, 4)),
        ((9, 2), (None, 1), 3, (None, 2)),  # the other run has no such limit
    ],
)
def test_a_kept_budget_holds_for_all_trials_and_all_runs_at_work(
    own: tuple[int | None, int],
    other: tuple[int | None, int] | None,
    n_used: int,
    limits: tuple[int | None, int],
) -> None:
    def spec(numbers: tuple[int | None, int], kind: str) -> StudySpec:
        budget = {"n_trials": numbers[0], "max_parallel_trials": numbers[1], "gpu_hours": 4}
        return make_spec(budget=budget, sampler={"type": kind})

    found = spec_to_keep(spec(own, "tpe"), None if other is None else spec(other, "random"), n_used)

    assert (found.budget.n_trials, found.budget.max_parallel_trials) == limits
    assert found.sampler.type == "tpe"


def test_a_run_raises_again_what_another_run_has_lowered_and_writes_nothing_else() -> None:
    kept = storage()
    long = open_study(make_spec(budget={"n_trials": 9}), kept)
    short = open_study(make_spec(budget={"n_trials": 4}, description="short"), kept)
    assert long.keep_spec(is_shared=True) is None, "it is kept as it is"
    assert short.keep_spec(is_shared=False) == short.spec
    assert long.keep_spec(is_shared=False, is_new=False) == long.spec
    assert short.keep_spec(is_shared=True, is_new=False) is None
    assert short.kept_spec() == long.spec


def test_another_programs_study_of_other_directions_is_refused() -> None:
    kept = storage()
    optuna.create_study(study_name="demo", storage=kept, direction="maximize")

    with pytest.raises(StudyMismatch, match="directions"):
        open_study(make_spec(), kept)


def test_a_seed_is_drawn_once_and_kept() -> None:
    kept, seeds = storage(), []
    spec = make_spec(sampler={"type": "random"})

    def spy(seed: int, n_trials: int) -> optuna.samplers.BaseSampler:
        seeds.append((seed, n_trials))
        return make_sampler(spec, seed, n_trials)

    for _ in range(2):
        study = Study.open(spec, kept, make_sampler=spy, pruner=make_pruner(spec))
        assert study.ask() is not None

    assert seeds[0][0] == seeds[1][0]
    assert [n for _, n in seeds] == [0, 1]


def test_a_named_seed_makes_suggestions_repeatable() -> None:
    first, second = (run_all(open_study(make_spec())) for _ in range(2))

    assert [r.params for r in first] == [r.params for r in second]


# ---- forking ----------------------------------------------------------------------------------


def forked(kept: optuna.storages.BaseStorage, **changes: Any) -> Study:
    return open_study(make_spec(name="fork", **changes), kept, fork_from="demo")


@pytest.mark.fault("F44")
def test_a_fork_takes_over_the_trials_that_fit_and_keeps_its_whole_budget() -> None:
    kept = storage()
    source = open_study(make_spec(enqueue=[{"x": 0.1}, {"x": 0.4}, {"x": 0.9}, {"x": 0.2}]), kept)
    for verdict in (complete(1.0), failed(Cause.HOST_OOM, "too big"), complete(3.0)):
        asked = source.ask()
        assert asked is not None
        source.set_run_id(asked.number, "run-of-the-source")
        source.tell(asked.number, verdict, {"loss": 1.0})
    cancelled = source.ask()
    assert cancelled is not None
    source.tell(cancelled.number, failed(Cause.CANCELLED))
    assert source.ask() is not None, "one keeps running"

    fork = forked(kept, search_space={"x": {**X, "high": 0.5}})

    taken = fork.records()
    assert [(r.params["x"], r.values, r.cause) for r in taken] == [
        (0.1, (1.0,), Cause.OK),
        (0.4, None, Cause.HOST_OOM),
    ]
    assert all(r.is_taken_over and r.run_id is None for r in taken)
    assert (fork.room(), fork.n_trials) == (5, 5)
    assert [r.number for r in fork.trials().best] == [0]
    assert len(run_all(fork)) == 5
    assert len(source.records()) == 5


def test_a_fork_that_was_killed_while_taking_over_is_completed() -> None:
    kept = storage()
    run_all(open_study(make_spec(), kept))
    create, calls = kept.create_new_trial, itertools.count()

    def dies(study_id: int, template_trial: Any = None) -> int:
        if next(calls) == 2:
            raise Killed
        return create(study_id, template_trial)

    kept.create_new_trial = dies  # type: ignore[method-assign]
    with pytest.raises(Killed):
        forked(kept)
    kept.create_new_trial = create  # type: ignore[method-assign]

    values = [r.values for r in forked(kept).records()]

    assert values == [(0.0,), (1.0,), (2.0,), (3.0,), (4.0,)]
    assert len(forked(kept).records()) == 5, "opening it again takes nothing over twice"


def test_a_fork_of_other_objectives_takes_nothing_over() -> None:
    kept = storage()
    run_all(open_study(make_spec(), kept))

    fork = forked(kept, objectives=[{"metric": "f1", "direction": "maximize"}])

    assert fork.records() == ()


def test_a_study_of_its_own_is_not_mixed_with_another_by_a_fork() -> None:
    kept = storage()
    run_all(open_study(make_spec(), kept))
    run_all(open_study(make_spec(name="fork"), kept))

    assert len(forked(kept).records()) == 5


def test_a_fork_needs_a_source_that_exists() -> None:
    with pytest.raises(StudyNotFound, match="no study named 'demo'"):
        forked(storage())


def test_constraints_are_taken_over() -> None:
    kept = storage()
    bounds = [{"metric": "size", "max": 20}]
    source = open_study(make_spec(constraints=bounds), kept)
    asked = source.ask()
    assert asked is not None
    source.tell(asked.number, complete(1.0, constraints={"size <= 20": 5.0}))

    assert forked(kept, constraints=bounds).records()[0].constraints == {"size <= 20": 5.0}


# ---- enqueued points --------------------------------------------------------------------------


def test_enqueued_points_come_first_in_their_order_with_the_rest_drawn() -> None:
    spec = make_spec(
        search_space=CONDITIONAL,
        enqueue=[{"optimizer": "sgd", "momentum": 0.75}, {"x": 0.25, "optimizer": "adam"}],
    )
    first, second, *_ = run_all(open_study(spec))

    assert (first.params["optimizer"], first.params["momentum"]) == ("sgd", 0.75)
    assert second.params == {"x": 0.25, "optimizer": "adam"}


@pytest.mark.parametrize("n_writes", range(12))
def test_a_runner_killed_while_enqueueing_leaves_each_point_once(n_writes: int) -> None:
    kept = storage()
    spec = make_spec(enqueue=[{"x": 0.1}, {"x": 0.2}, {"x": 0.3}])
    budget = itertools.count()
    originals = {
        name: getattr(kept, name)
        for name in ("create_new_study", "create_new_trial", "set_study_user_attr")
    }

    def limited(original: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            if next(budget) >= n_writes:
                raise Killed
            return original(*arguments, **named)

        return call

    for name, original in originals.items():
        setattr(kept, name, limited(original))
    with contextlib.suppress(Killed):
        open_study(spec, kept)
    for name, original in originals.items():
        setattr(kept, name, original)

    study = open_study(spec, kept)

    assert [r.state for r in study.records()] == [TrialState.WAITING] * 3
    assert [r.params["x"] for r in run_all(study)][:3] == [0.1, 0.2, 0.3]


def test_points_added_to_the_file_later_are_enqueued_then() -> None:
    kept = storage()
    run_all(open_study(make_spec(enqueue=[{"x": 0.1}], budget={"n_trials": 2}), kept))

    longer = make_spec(enqueue=[{"x": 0.1}, {"x": 0.7}], budget={"n_trials": 3})

    assert [r.params["x"] for r in run_all(open_study(longer, kept))] == [0.7]


def test_enqueued_points_whose_trials_were_cancelled_are_tried_when_the_study_goes_on() -> None:
    kept = storage()
    spec = make_spec(enqueue=[{"x": 0.1}, {"x": 1}], budget={"n_trials": 3})
    interrupted = open_study(spec, kept)
    asked = [interrupted.ask(), interrupted.ask()]
    interrupted.tell(0, complete(1.0))
    for record in asked[1:]:
        assert record is not None
        interrupted.tell(record.number, failed(Cause.CANCELLED))

    later = open_study(spec, kept)

    assert [r.params["x"] for r in run_all(later)][:1] == [1.0]
    assert [r.params["x"] for r in open_study(spec, kept).records()].count(1.0) == 2


def test_a_point_whose_runner_was_killed_while_cancelling_it_is_not_enqueued_twice() -> None:
    kept = storage()
    spec = make_spec(enqueue=[{"x": 0.1}])
    study = open_study(spec, kept)
    assert study.ask() is not None
    # The cause is written first and the state last; the next runner does both again.
    study_id = kept.get_study_id_from_name(spec.name)
    trial_id = kept.get_trial_id_from_study_id_trial_number(study_id, 0)
    kept.set_trial_user_attr(trial_id, "cause", Cause.CANCELLED.value)

    assert [r.state for r in open_study(spec, kept).records()] == [TrialState.RUNNING]


def test_a_fork_does_not_repeat_an_enqueued_point_that_it_took_over() -> None:
    kept = storage()
    points = [{"optimizer": "sgd"}, {"x": 0.25, "optimizer": "adam"}, {"optimizer": "adam"}]
    source = open_study(make_spec(search_space=CONDITIONAL, enqueue=points), kept)
    for verdict in (complete(1.0), complete(2.0), failed(Cause.CANCELLED)):
        asked = source.ask()
        assert asked is not None
        source.tell(asked.number, verdict)

    fork = forked(kept, search_space=CONDITIONAL, enqueue=points)

    assert [r.state for r in fork.records()] == [
        TrialState.COMPLETE,
        TrialState.COMPLETE,
        TrialState.WAITING,
    ]


# ---- asking -----------------------------------------------------------------------------------


def test_ask_gives_no_more_than_the_budget() -> None:
    study = open_study(make_spec())

    asked = [study.ask() for _ in range(8)]

    assert [r.number for r in asked if r is not None] == [0, 1, 2, 3, 4]
    assert len(study.running()) == 5


def test_a_cancelled_trial_makes_room_for_another() -> None:
    study = open_study(make_spec(budget={"n_trials": 1}))
    asked = study.ask()
    assert asked is not None
    study.tell(asked.number, failed(Cause.CANCELLED))

    again = study.ask()

    assert again is not None
    assert again.number == 1


@pytest.mark.parametrize("n_used", [0, 1, 4])
@pytest.mark.fault("F24")
def test_two_runners_that_both_saw_room_never_exceed_the_budget(
    n_used: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = storage()
    spec = make_spec()
    first, second = open_study(spec, kept), open_study(spec, kept)
    for _ in range(n_used):
        asked = first.ask()
        assert asked is not None
        first.tell(asked.number, complete(1.0))

    def used() -> int:
        return sum(r.state is TrialState.RUNNING or is_counted(r) for r in first.records())

    # Both have looked and found room; the looks are stale by the time they ask.
    monkeypatch.setattr(TrialIndex, "room", 1)

    for _ in range(6):
        for study in (first, second):
            study.ask()
            assert used() <= 5

    assert used() == 5
    withdrawn = [r for r in first.records() if r.cause is Cause.CANCELLED]
    assert {r.message for r in withdrawn} == {"Withdrawn: another runner was first."}
    assert len(first.running()) == 5 - n_used


@pytest.mark.parametrize("sampler", ["random", "tpe", "qmc", "nsga2"])
def test_two_runners_that_began_together_do_not_try_each_point_twice(sampler: str) -> None:
    kept = storage()
    spec = make_spec(budget={"n_trials": 12}, sampler={"type": sampler, "seed": 0})
    runners = (open_study(spec, kept), open_study(spec, kept))

    for turn in range(12):
        asked = runners[turn % 2].ask()
        assert asked is not None
        runners[turn % 2].tell(asked.number, complete(float(turn)))

    assert len({record.params["x"] for record in runners[0].records()}) == 12


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize("is_alone", [False, True])
def test_two_runners_inside_ask_at_the_same_moment_keep_exactly_one_trial(
    is_late: bool, is_alone: bool
) -> None:
    kept = storage()
    n_before = 0 if is_alone else 1
    spec = make_spec(budget={"n_trials": 1 + n_before})
    first, second = open_study(spec, kept), open_study(spec, kept)
    for _ in range(n_before):  # a runner that others were faster than claims a number first
        asked = second.ask()
        assert asked is not None
        second.tell(asked.number, complete(0.5))
    first.trials()
    ask = first.optuna_study.ask
    given_to_second = []

    def interrupted() -> optuna.Trial:
        """Let the other runner ask when this one has seen that there is room."""
        first.optuna_study.ask = ask  # type: ignore[method-assign]
        trial = ask() if is_late else None
        given_to_second.append(second.ask())
        return trial or ask()

    first.optuna_study.ask = interrupted  # type: ignore[method-assign, assignment]
    given_to_first = first.ask()

    is_first = is_late and not is_alone
    assert [given_to_first is not None, given_to_second == [None]] == [is_first, is_first]
    assert [r.number for r in second.running()] == [n_before]
    assert not second.trials().surplus


@pytest.mark.fault("F46")
@pytest.mark.parametrize("sampler", ["botorch", "random", "tpe", "qmc", "nsga2"])
@pytest.mark.parametrize("n_suggested", [0, 1, 2])
def test_a_suggestion_cut_short_by_a_kill_is_completed_not_redrawn(
    n_suggested: int, sampler: str
) -> None:
    kept = storage()
    spec = make_spec(search_space=CONDITIONAL, sampler={"type": sampler, "seed": 3})
    dying = open_study(spec, kept)
    suggested = ("x", "optimizer")[:n_suggested]
    trial = dying.optuna_study.ask({name: spec.space[name].distribution() for name in suggested})
    before = trial.params

    study = open_study(spec, kept)
    completed = study.complete_suggestion(trial.number)

    assert not spec.space.problems(completed.params)
    assert {k: completed.params[k] for k in before} == before
    assert study.complete_suggestion(trial.number).params == completed.params
    assert len(study.running()) == 1


def test_an_enqueued_point_cut_short_by_a_kill_keeps_its_values() -> None:
    kept = storage()
    spec = make_spec(search_space=CONDITIONAL, enqueue=[{"x": 0.125, "optimizer": "adam"}])
    dying = open_study(spec, kept)
    dying.optuna_study.ask()

    assert open_study(spec, kept).complete_suggestion(0).params == {"x": 0.125, "optimizer": "adam"}


def test_fixed_parameters_are_part_of_every_trial_and_unknown_to_the_sampler() -> None:
    study = open_study(make_spec(fixed={"depth": 3}))
    asked = study.ask()

    assert asked is not None
    assert asked.params["depth"] == 3
    assert set(study.optuna_study.trials[0].params) == {"x"}


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_suggestion_of_a_conditional_space_is_a_point_of_it(seed: int) -> None:
    spec = make_spec(search_space=CONDITIONAL, sampler={"type": "random", "seed": seed})

    for asked in run_all(open_study(spec)):
        assert not spec.space.problems(asked.params)
        assert ("momentum" in asked.params) == (asked.params["optimizer"] == "sgd")


# ---- telling ----------------------------------------------------------------------------------


def test_telling_again_changes_nothing() -> None:
    study = open_study(make_spec())
    asked = study.ask()
    assert asked is not None

    told = study.tell(
        asked.number, complete(1.0, constraints={"size <= 1": -0.5}), {"loss": 1.0, "f1": 0.5}
    )
    again = study.tell(asked.number, failed(), {"loss": 9.0})

    assert again == told == study.record(asked.number)
    assert (told.state, told.values, told.cause) == (TrialState.COMPLETE, (1.0,), Cause.OK)
    assert told.constraints == {"size <= 1": -0.5}
    assert told.metrics == {"loss": 1.0, "f1": 0.5}


WRITES = ("set_trial_user_attr", "set_trial_system_attr", "set_trial_state_values")


@pytest.mark.fault("F25")
def test_a_runner_that_wakes_up_in_the_middle_of_telling_overwrites_nothing() -> None:
    class Paused(ForwardingStorage):
        """Is paused just before a write, while another runner finishes the trial."""

        def _pass(self, method: str, call: Callable[[], _T]) -> _T:
            if method == "change_trial" and not other.record(0).state.is_finished:
                other.tell(0, complete(1.0), {"loss": 1.0})
            return call()

    spec, kept = make_spec(), optuna.storages.InMemoryStorage()
    paused, other = open_study(spec, Paused(kept)), open_study(spec, kept)
    assert other.ask() is not None

    told = paused.tell(0, complete(2.0), {"loss": 2.0})

    assert (told.state, told.values) == (TrialState.COMPLETE, (1.0,))
    assert other.record(0) == told


@pytest.mark.parametrize("n_writes", range(7))
@pytest.mark.fault("F21")
def test_a_tell_cut_short_by_a_kill_is_done_again_whole(n_writes: int) -> None:
    kept = storage()
    spec = make_spec(constraints=[{"metric": "size", "max": 1, "min": 0}])
    study = open_study(spec, kept)
    asked = study.ask()
    assert asked is not None
    verdict = Verdict(
        Cause.OK,
        TrialState.COMPLETE,
        "took the last values",
        values=(1.0,),
        constraints={"size <= 1": -0.5, "size >= 0": -0.5},
    )
    count = itertools.count()

    def limited(original: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            if next(count) >= n_writes:
                raise Killed
            return original(*arguments, **named)

        return call

    for name in WRITES:
        setattr(kept, name, limited(getattr(kept, name)))
    finished = True
    try:
        study.tell(asked.number, verdict, {"loss": 1.0, "size": 0.5})
    except Killed:
        finished = False
    for name in WRITES:
        delattr(kept, name)

    again = open_study(spec, kept)
    assert (len(again.running()) == 0) is finished
    told = again.tell(asked.number, verdict, {"loss": 1.0, "size": 0.5})

    assert (told.state, told.values, told.message) == (
        TrialState.COMPLETE,
        (1.0,),
        "took the last values",
    )
    assert told.constraints == {"size <= 1": -0.5, "size >= 0": -0.5}
    assert told.metrics == {"loss": 1.0, "size": 0.5}


def test_metrics_that_are_no_numbers_are_not_stored() -> None:
    study = open_study(make_spec())
    asked = study.ask()
    assert asked is not None

    told = study.tell(asked.number, failed(Cause.NAN), {"loss": math.nan, "f1": 0.5})

    assert told.metrics == {"f1": 0.5}


def test_attempts_are_noted_once_and_not_after_the_end() -> None:
    study = open_study(make_spec())
    asked = study.ask()
    assert asked is not None
    lost = Verdict(Cause.EVICTED, None, "gone")

    study.begin_attempt(0, 1)
    study.end_attempt(0, 1, lost, 12.5)
    study.end_attempt(0, 1, lost, 12.5)
    study.begin_attempt(0, 2)
    study.set_run_id(0, "abc")
    between = study.record(0)
    study.tell(0, complete(1.0))
    study.begin_attempt(0, 3)
    study.end_attempt(0, 3, lost)

    expected = LostAttempt(1, Cause.EVICTED, "gone", trained_seconds=12.5)
    assert (between.attempt, between.lost_attempts, between.run_id) == (2, (expected,), "abc")
    stored = study.optuna_study.trials[0].user_attrs
    assert stored["lost_attempts"] == [
        {"attempt": 1, "cause": "evicted", "message": "gone", "trained_seconds": 12.5}
    ]
    # What studyflow 0.1.0 reads and adds to, by position: it goes on with this study.
    assert stored["attempts"] == [[1, "evicted", "gone", 12.5, None, None]]
    assert between.lost_seconds == 12.5
    assert study.record(0).attempt == 2


def test_a_lost_attempt_is_stored_with_how_far_it_came() -> None:
    study = open_study(make_spec())
    assert study.ask() is not None
    study.begin_attempt(0, 1)
    steps = AttemptSteps(checkpoint=40, first=0, last=42)
    study.end_attempt(0, 1, Verdict(Cause.PREEMPTED, None, "gone"), steps=steps)

    [lost] = study.record(0).lost_attempts
    assert (lost.checkpoint_step, lost.first_step, lost.last_step) == (40, 0, 42)
    stored = study.optuna_study.trials[0].user_attrs
    assert stored["lost_attempts"] == [
        {
            "attempt": 1,
            "cause": "preempted",
            "message": "gone",
            "checkpoint_step": 40,
            "first_step": 0,
            "last_step": 42,
        }
    ]
    # What studyflow 0.1.0 reads is as it was.
    assert stored["attempts"] == [[1, "preempted", "gone", None, None, None]]


def test_lost_attempts_of_an_older_version_have_no_seconds() -> None:
    study = open_study(make_spec())
    asked = study.optuna_study.ask()
    asked.set_user_attr("attempts", [[1, "evicted", "gone"], [2, "lost", "gone", None]])

    assert [lost.attempt for lost in study.record(0).lost_attempts] == [1, 2]
    assert study.record(0).lost_seconds == 0.0


def test_finished_records_are_made_once_and_running_ones_every_time() -> None:
    study = open_study(make_spec())
    study.ask()
    running = study.records()[0]
    study.begin_attempt(0, 1)
    assert study.records()[0].attempt == 1
    assert running.attempt == 0

    told = study.tell(0, complete(2.0))

    assert study.records()[0] is told is study.record(0)
    assert study.trials().best == (told,)


# ---- reporting --------------------------------------------------------------------------------


def point(step: int, value: float, name: str = "loss") -> MetricPoint:
    return MetricPoint(name, step, value, 0)


def test_only_the_first_objective_is_kept_and_each_step_once() -> None:
    study = open_study(make_spec())
    study.ask()

    study.report(0, [point(0, 3.0), point(1, 2.0), point(0, 9.0)])
    study.report(0, [point(1, 9.0), point(2, 1.0), point(3, 5.0, "f1"), point(-1, 5.0)])
    study.report(0, [point(2**31, 5.0), point(2**62, 5.0), point(2**31 - 1, 0.5)])

    assert study.record(0).intermediate == {0: 3.0, 1: 2.0, 2: 1.0, 2**31 - 1: 0.5}


def test_a_talkative_trial_does_not_fill_the_storage() -> None:
    study = open_study(make_spec())
    study.ask()

    study.report(0, [point(step, 1.0) for step in range(MAX_INTERMEDIATE_VALUES + 50)])
    study.report(0, [point(10**6, 1.0)])

    assert len(study.record(0).intermediate) == MAX_INTERMEDIATE_VALUES == 1000


def test_values_that_are_not_finite_can_be_reported() -> None:
    study = open_study(make_spec(pruner={"type": "median"}))
    study.ask()

    study.report(0, [point(0, math.nan), point(1, math.inf), point(2, -math.inf)])

    assert len(study.record(0).intermediate) == 3
    told = study.tell(0, Verdict(Cause.PRUNED, TrialState.PRUNED))
    assert (told.state, told.values) == (TrialState.PRUNED, None)


def test_a_report_about_a_finished_trial_is_ignored() -> None:
    study = open_study(make_spec())
    study.ask()
    study.tell(0, complete(1.0))

    study.report(0, [point(0, 3.0)])

    assert study.record(0).intermediate == {}
    assert not study.should_prune(0)


def test_a_trial_worse_than_the_median_is_pruned_and_one_without_reports_never() -> None:
    study = open_study(
        make_spec(pruner={"type": "median", "n_startup_trials": 2, "n_warmup_steps": 0})
    )
    for number, value in enumerate((1.0, 2.0)):
        study.ask()
        study.report(number, [point(0, value)])
        study.tell(number, complete(value))
    study.ask()
    assert not study.should_prune(2)

    study.report(2, [point(0, 1.2)])
    assert not study.should_prune(2)
    study.report(2, [point(1, 9.0)])
    study.ask()
    study.report(3, [point(0, 9.0)])
    assert study.should_prune(3)


# ---- grids ------------------------------------------------------------------------------------

GRID = {
    "a": {"type": "int", "low": 1, "high": 3},
    "b": {"type": "categorical", "choices": ["p", "q"]},
}
POINTS = {(a, b) for a in (1, 2, 3) for b in ("p", "q")}


def grid_points(study: Study) -> list[tuple[Any, ...]]:
    return [
        (r.params["a"], r.params["b"]) for r in study.records() if r.cause is not Cause.CANCELLED
    ]


def grid_spec(n_trials: int = 50, **changes: Any) -> Any:
    return make_spec(
        search_space=GRID, sampler={"type": "grid"}, budget={"n_trials": n_trials}, **changes
    )


@pytest.mark.fault("F47")
def test_a_grid_ends_with_its_last_point_each_tried_once() -> None:
    study = open_study(grid_spec())
    run_all(study)

    assert study.n_trials == 6
    assert sorted(grid_points(study)) == sorted(POINTS)
    assert open_study(grid_spec(4)).n_trials == 4


def test_points_tried_first_cancelled_ones_and_restarts_leave_no_hole_in_a_grid() -> None:
    kept = storage()
    spec = grid_spec(enqueue=[{"a": 3, "b": "p"}, {"b": "q"}])
    while open_study(spec, kept).room():
        study = open_study(spec, kept)
        asked = study.ask()
        assert asked is not None
        study.tell(asked.number, failed(Cause.CANCELLED) if asked.number == 3 else complete(1.0))

    assert grid_points(study)[:2] == [(3, "p"), (1, "q")]
    assert sorted(grid_points(study)) == sorted(POINTS)


def test_a_grid_of_fractions_stays_on_its_steps() -> None:
    space = {"lr": {"type": "float", "low": 0.1, "high": 0.7, "step": 0.1}}
    spec = make_spec(search_space=space, sampler={"type": "grid"}, budget={"n_trials": 9})
    asked = run_all(open_study(spec))

    assert [round(float(str(r.params["lr"])), 9) for r in asked] == [
        *(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    ]
    assert all(not spec.space.problems(r.params) for r in asked)


def test_parallel_trials_of_a_grid_are_different_points() -> None:
    study = open_study(grid_spec())
    asked = [study.ask() for _ in range(6)]

    assert {(r.params["a"], r.params["b"]) for r in asked if r is not None} == POINTS
    assert study.ask() is None


# ---- reading ----------------------------------------------------------------------------------


def test_an_unknown_study_is_answered_with_the_known_ones() -> None:
    kept = storage()
    open_study(make_spec(name="a"), kept)
    open_study(make_spec(name="b"), kept)

    with pytest.raises(StudyNotFound, match=r"named 'c' in this storage \(there are: a, b\)"):
        find_study("c", kept)


def test_a_plain_optuna_study_is_read_as_far_as_it_goes() -> None:
    plain = optuna.create_study()
    plain.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    spec, records = load_records(plain)

    assert spec is None
    assert [r.state for r in records] == [TrialState.COMPLETE] * 2
    assert [r.cause for r in records] == [Cause.OK] * 2
    assert all(r.values == (r.params["x"],) for r in records)


def test_the_way_out_and_the_code_of_an_end_are_kept_beside_its_message() -> None:
    study = open_study(make_spec())
    asked, lost = (
        study.ask(),
        Verdict(Cause.LOST, None, "Removed.", hint="by the script?"),
    )
    assert asked is not None
    study.begin_attempt(0, 1)
    study.end_attempt(0, 1, lost)
    study.begin_attempt(0, 2)
    reason = Reason(Code.METRIC_MISSING, "It has no loss.", "call sdk.finish(loss=...).")

    told = study.tell(0, Verdict.because(Cause.BAD_METRIC, TrialState.FAILED, reason))

    assert told.reason == reason
    assert [str(lost.reason) for lost in told.lost_attempts] == ["Removed. Hint: by the script?"]
    assert study.optuna_study.trials[0].user_attrs["message"] == "It has no loss."
    assert study.optuna_study.trials[0].user_attrs["hint"] == "call sdk.finish(loss=...)."


def test_a_way_out_that_an_older_version_kept_in_the_message_is_shown_there() -> None:
    study = open_study(make_spec())
    asked = study.optuna_study.ask()
    end = {"cause": "bad-metric", "message": "No loss. Hint: call sdk.finish().", "attempt": 0}
    asked.set_user_attr("end", {**end, "code": "a-later-code"})
    study.optuna_study.tell(asked, state=optuna.trial.TrialState.FAIL)

    assert study.record(0).reason == Reason(Cause.BAD_METRIC, "No loss. Hint: call sdk.finish().")


def test_a_run_without_a_number_of_trials_lends_its_limits_to_one_that_has_no_others() -> None:
    own = make_spec(budget={"n_trials": 9, "max_parallel_trials": 2})
    other = make_spec(budget={"gpu_hours": 4, "timeout_seconds": 60})
    found = spec_to_keep(own, other, 3).budget
    assert (found.n_trials, found.gpu_hours, found.timeout_seconds) == (None, 4, 60)
    assert spec_to_keep(other, own, 3).budget.n_trials is None


def test_a_kept_study_without_a_number_of_trials_covers_runs_with_one() -> None:
    kept = storage()
    endless = open_study(make_spec(budget={"gpu_hours": 4}), kept)
    short = open_study(make_spec(budget={"n_trials": 4}), kept)
    assert endless.keep_spec(is_shared=False) is None, "it is kept as it is"
    assert short.keep_spec(is_shared=True, is_new=False) is None
    assert short.keep_spec(is_shared=False) == short.spec
    assert endless.keep_spec(is_shared=True, is_new=False) == endless.spec

"""What `BoTorchSampler` promises, seen through a plain `optuna.Study`."""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import optuna
import pytest
import torch
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

from studyflow.samplers import proposal, strategy
from studyflow.samplers.botorch import BoTorchSampler
from studyflow.samplers.explanation import Suggestion, explanation_of
from studyflow.samplers.space.encoding import find_same, make_encoding

optuna.logging.set_verbosity(optuna.logging.ERROR)

Direction = Literal["minimize", "maximize"]

PLANE: dict[str, BaseDistribution] = {
    "x": FloatDistribution(-2.0, 2.0),
    "y": FloatDistribution(-3.0, 3.0),
}
MIXED: dict[str, BaseDistribution] = {
    "batch": CategoricalDistribution([16, 32, 64, 128]),
    "depth": IntDistribution(1, 9, step=2),
    "flag": CategoricalDistribution([True, False, None]),
    "lr": FloatDistribution(1e-5, 1e-1, log=True),
    "momentum": FloatDistribution(0.5, 0.99),
    "optimizer": CategoricalDistribution(["adam", "sgd"]),
    "rate": FloatDistribution(0.0, 0.5, step=0.1),
    "width": IntDistribution(1, 512, log=True),
}
CONDITIONS = {"momentum": {"optimizer": ["sgd"]}}


def hill(params: dict[str, Any]) -> float:
    return float(-(params["x"] ** 2) - (params["y"] - 1.0) ** 2 + 1.0)


def mixed_loss(params: dict[str, Any]) -> float:
    loss = (np.log10(params["lr"]) + 3.0) ** 2 + 0.1 * abs(params["depth"] - 5)
    loss += 0.3 * (params["batch"] != 32) + params["rate"] + abs(np.log2(params["width"]) - 6) / 9
    if params["optimizer"] == "sgd":
        loss += (params["momentum"] - 0.9) ** 2 - 0.2
    return float(loss)


def random_trials(
    space: dict[str, BaseDistribution],
    value_of: Callable[[dict[str, Any]], float],
    n: int,
    *,
    seed: int = 0,
    state: TrialState = TrialState.COMPLETE,
    **options: Any,
) -> list[FrozenTrial]:
    generator = np.random.default_rng(seed)
    encoding = make_encoding(space)
    codes = encoding.from_unit(generator.random((n, len(space))))
    trials = []
    for row in codes:
        params = encoding.decode(row)
        complete = state is TrialState.COMPLETE
        value = value_of(params) if complete else None
        trials.append(
            create_trial(params=params, distributions=space, value=value, state=state, **options)
        )
    return trials


def study_with(
    trials: list[FrozenTrial], sampler: BoTorchSampler, direction: Direction = "minimize"
) -> optuna.Study:
    study = optuna.create_study(direction=direction, sampler=sampler)
    study.add_trials(trials)
    return study


def explained(study: optuna.Study, number: int = -1) -> Suggestion:
    suggestion = explanation_of(study.trials[number])
    assert suggestion is not None
    return suggestion


@pytest.mark.parametrize("seed", range(5))
def test_ten_suggestions_after_five_random_ones_find_the_top_of_a_smooth_hill(seed: int) -> None:
    sampler = BoTorchSampler(seed=seed, n_startup_trials=5)
    study = optuna.create_study(direction="maximize", sampler=sampler)

    study.optimize(
        lambda t: hill({"x": t.suggest_float("x", -2, 2), "y": t.suggest_float("y", -3, 3)}),
        n_trials=15,
    )

    assert study.best_value >= 0.999


def test_a_search_that_has_found_the_bottom_seldom_goes_back_to_the_rim() -> None:
    """Ranks alone forget how bad the corners are: half of the later trials went there."""
    late = []
    for seed in range(3):
        study = optuna.create_study(sampler=BoTorchSampler(seed=seed))
        study.optimize(
            lambda t: (t.suggest_float("x", -5, 5) - 1) ** 2 + t.suggest_float("y", -5, 5) ** 2,
            n_trials=30,
        )
        assert study.best_value < 1e-4
        late += [trial.values[0] for trial in study.trials[15:]]
    assert np.mean([value > 1.0 for value in late]) < 0.35


def test_a_mixed_conditional_study_gets_far_below_random_search() -> None:
    sampler = BoTorchSampler(seed=1, search_space=MIXED, conditions=CONDITIONS)
    study = optuna.create_study(sampler=sampler)
    for _ in range(30):
        trial = study.ask({name: MIXED[name] for name in MIXED if name != "momentum"})
        if trial.params["optimizer"] == "sgd":
            trial.suggest_float("momentum", 0.5, 0.99)
        study.tell(trial, mixed_loss(trial.params))

    random_best = np.median(
        [
            min(t.value or 0.0 for t in random_trials(MIXED, mixed_loss, 30, seed=s))
            for s in range(9)
        ]
    )
    assert study.best_value < 0.5 * random_best


@pytest.mark.parametrize("n", [0, 3, 12])
def test_equal_storage_number_and_seed_give_the_equal_suggestion_to_the_last_bit(n: int) -> None:
    history = random_trials(MIXED, mixed_loss, n)

    def suggest(sampler: BoTorchSampler) -> dict[str, Any]:
        study = study_with(history, sampler)
        running = study.ask(MIXED)
        assert running.number == n
        return study.ask(MIXED).params

    sampler = BoTorchSampler(seed=7, search_space=MIXED)
    first = suggest(sampler)
    torch.rand(3)
    np.random.rand(3)

    assert suggest(sampler) == first
    assert suggest(BoTorchSampler(seed=7, search_space=MIXED)) == first
    assert suggest(pickle.loads(pickle.dumps(sampler))) == first
    assert suggest(BoTorchSampler(seed=8, search_space=MIXED)) != first


def test_an_unseeded_sampler_differs_from_another_but_not_from_its_copy() -> None:
    sampler = BoTorchSampler()

    assert pickle.loads(pickle.dumps(sampler)).seed == sampler.seed
    assert BoTorchSampler().seed != sampler.seed


@pytest.mark.parametrize("directions", [["minimize"], ["minimize", "maximize"]])
def test_global_random_state_and_threads_are_left_alone(directions: list[Direction]) -> None:
    study = optuna.create_study(directions=directions, sampler=BoTorchSampler(seed=0))
    study.add_trials(
        [
            create_trial(
                params=t.params, distributions=PLANE, values=[t.params["x"]] * len(directions)
            )
            for t in random_trials(PLANE, hill, 8)
        ]
    )
    torch.manual_seed(5)
    before, legacy = torch.get_rng_state(), repr(np.random.get_state())
    threads = torch.get_num_threads()

    study.ask(PLANE)

    assert explained(study).level == "model"
    assert torch.equal(torch.get_rng_state(), before)
    assert repr(np.random.get_state()) == legacy
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("n", [0, 20])
def test_eight_trials_asked_at_once_are_pairwise_apart(n: int) -> None:
    study = study_with(random_trials(PLANE, hill, n), BoTorchSampler(seed=0, search_space=PLANE))

    trials = [study.ask(PLANE) for _ in range(8)]

    codes = np.array([[t.params["x"] / 4, t.params["y"] / 6] for t in trials])
    apart = np.abs(codes[:, None] - codes).max(-1) + np.eye(8)
    assert apart.min() > 0.02


def test_a_trial_that_has_suggested_nothing_yet_is_seen_by_its_published_draw() -> None:
    sampler = BoTorchSampler(seed=0)
    study = study_with(random_trials(PLANE, hill, 20), sampler, "maximize")
    waiting = study.ask()
    drawn = waiting.relative_params
    assert study.trials[-1].params == {}

    other = study.ask(PLANE)

    assert explained(study).n_pending == 1
    assert other.params != drawn
    assert abs(other.params["x"] - drawn["x"]) + abs(other.params["y"] - drawn["y"]) > 0.02


def test_published_draws_fit_a_database_column() -> None:
    space: dict[str, BaseDistribution] = {
        f"a_parameter_with_a_long_name_{i}": FloatDistribution(0, 1) for i in range(80)
    }
    study = optuna.create_study(sampler=BoTorchSampler(seed=0, search_space=space))

    params = study.ask(space).params

    attrs = study.trials[0].system_attrs
    assert len([key for key in attrs if key.startswith("studyflow:draw:")]) > 1
    assert all(len(json.dumps(value)) <= 2048 for value in attrs.values())
    from studyflow.samplers.history import decode_draw

    assert decode_draw(attrs, space) == params


def test_an_enqueued_point_is_not_suggested_by_the_sampler_as_well() -> None:
    space: dict[str, BaseDistribution] = {"k": IntDistribution(1, 6)}
    study = study_with(random_trials(space, lambda p: p["k"], 1), BoTorchSampler(seed=0))
    left = [k for k in range(1, 7) if k != study.trials[0].params["k"]]
    study.ask(space)  # takes what comes before the point is enqueued
    left.remove(study.trials[1].params["k"])
    study.enqueue_trial({"k": left[0]})
    encoding = make_encoding(space)
    from studyflow.samplers.history import read_history

    history = read_history(study.trials, encoding, space, study.directions, for_trial=9)

    assert len(history.pending) == 2
    assert find_same(encoding.encode({"k": left[0]})[None], history.tried)[0]


def test_parameters_fixed_by_enqueueing_shape_the_rest_of_the_suggestion() -> None:
    study = study_with(
        random_trials(PLANE, lambda p: -((p["x"] - p["y"] / 2) ** 2), 25),
        BoTorchSampler(seed=0, deterministic=True),
        "maximize",
    )
    study.enqueue_trial({"y": 2.5})

    trial = study.ask(PLANE)

    assert trial.params["y"] == 2.5
    assert trial.params["x"] == pytest.approx(1.25, abs=0.5)


def test_running_trials_are_no_data_and_do_not_end_the_start_up() -> None:
    study = study_with(random_trials(PLANE, hill, 1), BoTorchSampler(seed=0, n_startup_trials=5))

    for _ in range(9):
        study.ask(PLANE)

    assert {explained(study, number).level for number in range(1, 10)} == {"startup"}
    assert explained(study).n_data == 1
    assert explained(study).n_pending == 8


def test_the_model_starts_when_its_share_of_the_design_has_completed() -> None:
    sampler = BoTorchSampler(seed=0, n_startup_trials=8)
    study = optuna.create_study(sampler=sampler)
    levels = []
    for _ in range(10):
        trial = study.ask(PLANE)
        study.tell(trial, hill(trial.params))
        levels.append(explanation_of(study.trials[-1]))

    assert [r.level if r else "random" for r in levels] == ["random"] + ["startup"] * 7 + [
        "model"
    ] * 2


def test_workers_that_share_nothing_draw_disjoint_start_up_points() -> None:
    drawn = set()
    for number in range(16):
        study = optuna.create_study(sampler=BoTorchSampler(seed=3, search_space=PLANE))
        study.add_trials([create_trial(state=TrialState.FAIL) for _ in range(number)])
        drawn.add(tuple(study.ask(PLANE).params.items()))

    assert len(drawn) == 16


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.fault("F47")
def test_no_point_is_repeated_while_another_is_left(deterministic: bool) -> None:
    space: dict[str, BaseDistribution] = {
        "a": CategoricalDistribution(["x", "y", "z"]),
        "k": IntDistribution(1, 8),
    }
    study = optuna.create_study(sampler=BoTorchSampler(seed=0, deterministic=deterministic))
    for _ in range(26):
        trial = study.ask(space)
        study.tell(trial, trial.params["k"] * (trial.params["a"] == "x"))

    points = [(t.params["a"], t.params["k"]) for t in study.trials]
    assert len(set(points[:24])) == 24
    assert [explained(study, n).is_repeat for n in (22, 23, 24, 25)] == [False, False, True, True]


def test_a_space_too_large_to_list_is_not_repeated_either() -> None:
    space: dict[str, BaseDistribution] = {
        f"k{i}": CategoricalDistribution(["a", "b", "c", "d"]) for i in range(7)
    }
    study = study_with(
        random_trials(space, lambda p: sum(v == "a" for v in p.values()), 30),
        BoTorchSampler(seed=0),
        "maximize",
    )
    for _ in range(12):
        trial = study.ask(space)
        study.tell(trial, sum(v == "a" for v in trial.params.values()))

    assert len({tuple(t.params.items()) for t in study.trials[30:]}) == 12
    assert study.best_value == 7


def test_conditional_parameters_share_one_model_over_the_union_space() -> None:
    study = optuna.create_study(sampler=BoTorchSampler(seed=2))

    def objective(trial: optuna.Trial) -> float:
        if trial.suggest_categorical("kind", ["flat", "bowl"]) == "flat":
            return 1.0 + trial.suggest_float("slope", 0, 1)
        return (trial.suggest_float("centre", -1, 1) - 0.3) ** 2

    study.optimize(objective, n_trials=25)

    suggestion = explained(study)
    assert suggestion.level == "model"
    assert set(suggestion.objectives[0].lengthscales) == {"centre", "kind", "slope"}
    assert study.best_value < 1e-3


def test_two_objectives_advance_the_front_by_hypervolume() -> None:
    study = optuna.create_study(
        directions=["minimize", "maximize"], sampler=BoTorchSampler(seed=0, n_startup_trials=6)
    )

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        return x**2 + y, -((x - 1) ** 2) - y

    study.optimize(objective, n_trials=13)

    suggestion = explained(study)
    assert suggestion.level == "model", suggestion.reason
    assert suggestion.acquisition == "qLogNEHVI"
    assert len(suggestion.objectives) == 2
    # The front is y = 0, which a model finds and start-up points do not.
    assert sum(t.params["y"] < 0.02 for t in study.trials[6:]) >= 4


def test_five_objectives_are_scalarised() -> None:
    study = optuna.create_study(directions=["minimize"] * 5, sampler=BoTorchSampler(seed=0))
    for t in random_trials(PLANE, hill, 8):
        values = [abs(t.params["x"] - k) + abs(t.params["y"]) for k in range(5)]
        study.add_trial(create_trial(params=t.params, distributions=PLANE, values=values))

    study.ask(PLANE)

    assert explained(study).level == "model", explained(study).reason
    assert explained(study).acquisition == "qLogNParEGO"


def test_two_objectives_with_pending_points_constraints_and_failures() -> None:
    study = optuna.create_study(directions=["minimize"] * 2, sampler=BoTorchSampler(seed=0))
    for number, t in enumerate(random_trials(PLANE, hill, 10)):
        if number % 5 == 0:
            attrs = {"cause": "cuda-oom"}
            finished = create_trial(
                params=t.params, distributions=PLANE, state=TrialState.FAIL, user_attrs=attrs
            )
        else:
            values = [t.params["x"], t.params["y"]]
            finished = create_trial(params=t.params, distributions=PLANE, values=values)
            finished.set_constraint("c", t.params["x"])
        study.add_trial(finished)

    asked = [study.ask(PLANE) for _ in range(2)]

    assert explained(study).level == "model", explained(study).reason
    assert asked[0].params != asked[1].params


def test_a_constraint_keeps_suggestions_feasible_though_the_optimum_is_not() -> None:
    study = optuna.create_study(
        direction="maximize", sampler=BoTorchSampler(seed=0, n_startup_trials=6)
    )
    for number in range(20):
        trial = study.ask(PLANE)
        x, y = trial.params["x"], trial.params["y"]
        if number % 3:  # some trials do not report the constraint
            trial.set_constraint("right of 1", 1.0 - x)
        study.tell(trial, hill({"x": x, "y": y}))

    feasible = [t for t in study.trials if t.params["x"] >= 1.0]
    assert max(t.value or -9.0 for t in feasible) > -0.1  # the best feasible value is 0
    assert sum(t.params["x"] >= 0.9 for t in study.trials[10:]) >= 7


def test_with_nothing_feasible_yet_feasibility_alone_is_sought() -> None:
    study = optuna.create_study(sampler=BoTorchSampler(seed=0))
    for t in random_trials(PLANE, hill, 10):
        finished = create_trial(params=t.params, distributions=PLANE, value=t.value)
        finished.set_constraint("c", 5.0 - t.params["x"])
        study.add_trial(finished)

    trial = study.ask(PLANE)

    assert explained(study).acquisition == "log-probability-of-feasibility"
    assert trial.params["x"] > 1.5


def test_failures_by_the_parameters_teach_where_not_to_go_and_others_teach_nothing() -> None:
    def study_failing(cause: str | None) -> optuna.Study:
        study = optuna.create_study(direction="maximize", sampler=BoTorchSampler(seed=0))
        attrs = {} if cause is None else {"cause": cause}
        for t in random_trials(PLANE, lambda p: p["x"], 30):
            if t.params["x"] > 0.5:
                t = create_trial(
                    params=t.params, distributions=PLANE, state=TrialState.FAIL, user_attrs=attrs
                )
            study.add_trial(t)
        return study

    for cause in ("cuda-oom", "host-oom", "nan", "timeout"):
        assert study_failing(cause).ask(PLANE).params["x"] < 0.7
    assert study_failing(None).ask(PLANE).params["x"] > 1.5
    assert study_failing("user-error").ask(PLANE).params["x"] > 1.5


def test_failures_at_random_do_not_fence_off_where_they_happened() -> None:
    study = study_with(
        random_trials(PLANE, lambda p: p["x"], 30), BoTorchSampler(seed=0), "maximize"
    )
    cause = {"cause": "timeout"}
    study.add_trials(random_trials(PLANE, hill, 3, seed=9, state=TrialState.FAIL, user_attrs=cause))

    assert study.ask(PLANE).params["x"] > 1.5


def test_pruned_trials_count_with_imputed_values_but_are_never_the_best() -> None:
    study = optuna.create_study(sampler=BoTorchSampler(seed=0))
    for t in random_trials(PLANE, lambda p: p["x"], 20):
        pruned = t.params["x"] > 0
        study.add_trial(
            create_trial(
                params=t.params,
                distributions=PLANE,
                value=None if pruned else t.params["x"],
                state=TrialState.PRUNED if pruned else TrialState.COMPLETE,
                intermediate_values={0: t.params["x"], 1: t.params["x"]},
            )
        )

    trial = study.ask(PLANE)

    assert explained(study).n_data == 20
    assert trial.params["x"] < -1.0


def test_trials_outside_a_narrowed_range_are_left_out() -> None:
    study = study_with(random_trials(PLANE, hill, 20), BoTorchSampler(seed=0))
    narrow = {**PLANE, "x": FloatDistribution(0.0, 1.0)}
    inside = sum(0 <= t.params["x"] <= 1 for t in study.trials)
    study.ask(narrow)

    trial = study.ask(narrow)

    assert 0 <= trial.params["x"] <= 1
    assert explained(study).n_data == inside


def test_every_suggestion_explains_itself() -> None:
    study = study_with(random_trials(PLANE, hill, 25), BoTorchSampler(seed=0), "maximize")

    trial = study.ask(PLANE)

    suggestion = explained(study)
    (objective,) = suggestion.objectives
    assert suggestion.level == "model"
    assert suggestion.reason is None
    assert objective.predicted_mean == pytest.approx(hill(trial.params), abs=0.5)
    assert 0 < objective.predicted_sd < 2
    assert set(objective.lengthscales) == {"x", "y"}
    assert suggestion.acquisition == "log-expected-improvement"
    assert suggestion.acquisition_value is not None
    assert (suggestion.n_data, suggestion.n_pending) == (25, 0)
    assert suggestion.milliseconds > 0
    assert explanation_of(study.trials[0]) is None


@pytest.mark.parametrize(
    ("broken", "level"),
    [
        ({"ard"}, "isotropic"),
        ({"ard", "isotropic"}, "prior"),
        ({"ard", "isotropic", "prior"}, "space-filling"),
    ],
)
@pytest.mark.fault("F46")
def test_a_model_that_fails_gives_way_to_a_simpler_one(
    broken: set[str], level: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = proposal.propose

    def propose(*args: Any, structure: Any, **options: Any) -> Any:
        if structure in broken:
            raise RuntimeError("matrix is on fire")
        return real(*args, structure=structure, **options)

    monkeypatch.setattr(strategy, "propose", propose)
    study = study_with(random_trials(PLANE, hill, 10), BoTorchSampler(seed=0))

    with caplog.at_level(logging.WARNING):
        study.ask(PLANE)

    suggestion = explained(study)
    assert suggestion.level == level
    assert "RuntimeError: matrix is on fire" in (suggestion.reason or "")
    (record,) = caplog.records
    assert "Trial 10" in record.getMessage()
    assert record.exc_info is None


def test_the_level_is_stored_under_the_name_that_older_versions_gave_it() -> None:
    study = study_with(random_trials(PLANE, hill, 10), BoTorchSampler(seed=0))
    study.ask(PLANE)

    stored = json.loads(
        str(study.trials[-1].system_attrs["studyflow:suggestion:0"])
        + str(study.trials[-1].system_attrs.get("studyflow:suggestion:1", ""))
    )
    assert stored["rung"] == "model"
    assert "level" not in stored
    with pytest.warns(DeprecationWarning, match="now `level`"):
        assert explained(study).rung == "model"


def test_even_an_unreadable_history_gives_a_suggestion(monkeypatch: pytest.MonkeyPatch) -> None:
    def read_history(*args: Any, **options: Any) -> Any:
        raise KeyError("x")

    monkeypatch.setattr(strategy, "read_history", read_history)
    study = study_with(random_trials(PLANE, hill, 10), BoTorchSampler(seed=0))

    assert set(study.ask(PLANE).params) == {"x", "y"}
    assert explained(study).level == "random"


def test_threads_of_one_process_see_each_others_points() -> None:
    study = study_with(random_trials(PLANE, hill, 10), BoTorchSampler(seed=0), "maximize")

    study.optimize(
        lambda t: hill({"x": t.suggest_float("x", -2, 2), "y": t.suggest_float("y", -3, 3)}),
        n_trials=8,
        n_jobs=4,
    )

    assert len({tuple(t.params.values()) for t in study.trials}) == 18
    assert {explained(study, n).level for n in range(10, 18)} == {"model"}


def test_choices_of_every_type_come_back_as_they_were() -> None:
    choices = [None, True, 3, 0.5, "text"]
    space: dict[str, BaseDistribution] = {
        "c": CategoricalDistribution(choices),
        "x": FloatDistribution(0, 1),
    }
    study = study_with(
        random_trials(space, lambda p: p["x"], 8), BoTorchSampler(seed=0, search_space=space)
    )
    seen = [study.ask(space).params["c"] for _ in range(12)]

    assert all(any(type(s) is type(c) and s == c for c in choices) for s in seen)


def test_parameters_with_one_value_are_no_part_of_the_search() -> None:
    space = {**PLANE, "one": CategoricalDistribution(["only"]), "two": IntDistribution(2, 2)}
    study = study_with(random_trials(PLANE, hill, 8), BoTorchSampler(seed=0, search_space=space))

    params = study.ask(space).params

    assert (params["one"], params["two"]) == ("only", 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed: must be 0 or more, but is -1"),
        ({"n_startup_trials": -3}, "n_startup_trials: must be 0 or more, but is -3"),
        ({"ask_seconds": 0}, "ask_seconds: must be more than 0, but is 0"),
        ({"ask_seconds": float("nan")}, "ask_seconds: must be more than 0, but is nan"),
        ({"conditions": {"x": {"y": [1]}}}, "conditions: need search_space"),
        (
            {"search_space": PLANE, "conditions": {"x": {"y": [1.0]}}},
            "conditions.x: parent 'y' must have countable values",
        ),
        (
            {"search_space": MIXED, "conditions": {"momentum": {"optimizer": ["lion"]}}},
            r"conditions.momentum.optimizer: each value must be one of \['adam', 'sgd'\]",
        ),
        (
            {"search_space": MIXED, "conditions": {"zeta": {"optimizer": ["sgd"]}}},
            "conditions.zeta: 'zeta' is not in search_space",
        ),
        ({"device": "abacus"}, "device: 'abacus' cannot be used here"),
    ],
)
def test_wrong_arguments_are_named_with_value_and_rule(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        BoTorchSampler(**arguments)

"""Rules across the parts of a study file: each finding, and what is silent where a part is broken."""

# ruff: noqa: E501 - a table reads best with one row a line

from __future__ import annotations

import math
from typing import Any

import pytest

from studyflow.spec.arguments import HyperbandArguments
from studyflow.spec.models import (
    ConstraintSpec,
    ObjectiveSpec,
    PrunerSpec,
    SamplerSpec,
    StopSpec,
    TrialSpec,
)
from studyflow.spec.parameters import CategoricalParameter, FloatParameter, IntParameter
from studyflow.spec.problems import BrokenRule, Path
from studyflow.spec.rules import GRID_LIMIT, Draft, broken_rules, name_problem

X = FloatParameter(type="float", low=0.0, high=1.0)
UNITS = IntParameter(type="int", low=8, high=64, step=8)
KIND = CategoricalParameter(type="categorical", choices=("adam", "sgd", 1))
MOMENTUM = FloatParameter(type="float", low=0.0, high=0.9, when={"kind": ("sgd",)})
SPACE = {"x": X, "units": UNITS, "kind": KIND, "momentum": MOMENTUM}
LOSS = ObjectiveSpec(metric="loss", direction="minimize")


def draft(**parts: Any) -> Draft:
    """Return a sound draft of a study, with parts replaced."""
    sound: dict[str, Any] = {
        "name": "demo",
        "objectives": {0: LOSS},
        "n_objectives": 1,
        "metrics": {"objectives": {0: "loss"}},
        "parameters": SPACE,
        "is_space_known": True,
        "trial": TrialSpec(command=("python", "train.py")),
    }
    return Draft(**{**sound, **parts})


def found(**parts: Any) -> list[tuple[Path, str]]:
    return [(rule.path, rule.message) for rule in broken_rules(draft(**parts))]


def only(**parts: Any) -> BrokenRule:
    (rule,) = broken_rules(draft(**parts))
    return rule


def test_a_sound_draft_breaks_no_rule_and_an_empty_one_neither() -> None:
    assert found() == []
    assert broken_rules(Draft()) == ()


# ---- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("loss", None),
        ("val/loss", None),
        ("损失", None),
        ("", "a name must not be empty"),
        ("a" * 250, None),
        ("a" * 251, "a name must have at most 250 characters, but this one has 251"),
        ("a\tb", "a name must hold printable characters only, but it holds U+0009"),
        ("a\u200bb", "a name must hold printable characters only, but it holds U+200B"),
        ("a\u202eb", "a name must hold printable characters only, but it holds U+202E"),
        (" a", "a name must not begin or end with a blank, but it is ' a'"),
        ("a ", "a name must not begin or end with a blank, but it is 'a '"),
    ],
)
def test_a_name_is_short_printable_and_without_blanks_around_it(
    name: str, message: str | None
) -> None:
    problem = name_problem(name)
    assert (problem and problem[0]) == message


@pytest.mark.parametrize("name", ["a/b", "..", "a..b", "."])
def test_a_study_s_name_is_no_path(name: str) -> None:
    assert only(name=name).path == ("name",)


@pytest.mark.parametrize(
    ("parts", "path"),
    [
        ({"objectives": {0: ObjectiveSpec(metric="a\nb", direction="minimize")}}, ("objectives", 0, "metric")),
        ({"constraints": {2: ConstraintSpec(metric="a\nb", max=1.0)}}, ("constraints", 2, "metric")),
        ({"parameters": {"a\nb": X}}, ("search_space", "a\nb")),
        ({"fixed": {"a\nb": 1}}, ("fixed", "a\nb")),
        ({"tags": ("a\nb",)}, ("tags", "a\nb")),
        ({"experiment": "a\nb"}, ("experiment",)),
        ({"name": "a\nb"}, ("name",)),
    ],
)  # fmt: skip
def test_names_are_checked_wherever_they_stand(parts: dict[str, Any], path: Path) -> None:
    assert only(**parts).path == path


def test_a_metric_stands_in_each_section_once() -> None:
    rule = only(metrics={"objectives": {0: "loss", 2: "loss"}, "constraints": {0: "loss"}})
    assert rule.path == ("objectives", 2, "metric")
    assert rule.message == "metrics must differ, but 'loss' stands in objectives[0] too"


# ---- several objectives ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "path"),
    [
        ({"stop": StopSpec(target=0.1)}, ("stop", "target")),
        ({"pruner": PrunerSpec(type="median")}, ("pruner", "type")),
        ({"sampler": SamplerSpec(type="cmaes")}, ("sampler", "type")),
    ],
)
def test_what_needs_a_single_objective_is_refused_with_two(
    parts: dict[str, Any], path: Path
) -> None:
    assert only(n_objectives=2, **parts).path == path
    assert found(n_objectives=1, **parts) == []
    assert found(n_objectives=None, **parts) == [], "how many there are is not known"


def test_a_pruner_of_none_and_a_stop_without_a_target_go_with_two_objectives() -> None:
    assert found(n_objectives=2, pruner=PrunerSpec(), stop=StopSpec()) == []


# ---- conditions and fixed values ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "hint"),
    [
        ({}, "did you mean 'kind'?"),
        ({"fixed": {"kinds": "sgd"}}, "kinds is fixed: drop the condition, or drop the parameter"),
    ],
)
def test_a_condition_on_an_unknown_parameter_says_which_there_are(
    parts: dict[str, Any], hint: str
) -> None:
    child = FloatParameter(type="float", low=0.0, high=0.9, when={"kinds": ("sgd",)})
    rule = only(parameters={"kind": KIND, "momentum": child}, **parts)
    assert rule.path == ("search_space", "momentum", "when", "kinds")
    assert (rule.hint, rule.is_about_key) == (hint, True)


def test_a_condition_on_a_broken_parameter_is_no_problem_of_its_own() -> None:
    parameters = {"momentum": MOMENTUM}
    assert found(parameters=parameters, broken_parameters=frozenset({"kind"})) == []
    assert len(found(parameters=parameters)) == 1
    assert found(parameters=parameters, is_space_known=False) == []


@pytest.mark.parametrize(
    ("fixed", "broken", "messages"),
    [
        ({"depth": 3}, (), []),
        ({"x": 0.5}, (), ["a parameter is either searched or fixed, but 'x' is both"]),
        ({"y": 0.5}, ("y",), ["a parameter is either searched or fixed, but 'y' is both"]),
        ({"lr": math.nan}, (), ["a fixed value must be finite, but it is nan"]),
        ({"x": -math.inf}, (), ["a parameter is either searched or fixed, but 'x' is both", "a fixed value must be finite, but it is -inf"]),
    ],
)  # fmt: skip
def test_a_fixed_value_is_finite_and_not_searched(
    fixed: dict[str, Any], broken: tuple[str, ...], messages: list[str]
) -> None:
    rules = found(fixed=fixed, broken_parameters=frozenset(broken))
    assert [message for _, message in rules] == messages


# ---- enqueued points ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("point", "message", "hint"),
    [
        ({"x": 0.5, "units": 16, "kind": "sgd", "momentum": 0.5}, None, None),
        ({"x": 0.5}, None, None),
        ({}, None, None),
        ({"x": 2.0}, "x must be in [0, 1], but it is 2.0", "move it inside, or widen high"),
        ({"x": -1.0}, "x must be in [0, 1], but it is -1.0", "move it inside, or widen low"),
        ({"x": "0.5"}, "x must be in [0, 1], but it is '0.5'", "give a number, without quotes"),
        ({"x": True}, "x must be in [0, 1], but it is true", "give a number, without quotes"),
        ({"units": 12}, None, "the nearest is 8"),
        ({"kind": "1"}, None, "the type counts too: write 1"),
        ({"kind": "sgdd"}, None, "did you mean 'sgd'?"),
        ({"kind": "rmsprop"}, None, "choose one of these values"),
        ({"unit": 16}, "a point must name searched parameters, but there is no 'unit'", "did you mean 'units'?"),
        ({"zzz": 16}, "a point must name searched parameters, but there is no 'zzz'", "there are: x, units, kind, momentum"),
        ({"kind": "adam", "momentum": 0.5}, "momentum exists only where kind is 'sgd', but here kind is 'adam'", "remove momentum here, or set kind to 'sgd'"),
        ({"momentum": 0.5}, "momentum exists only where kind is 'sgd', but here kind is left out", "remove momentum here, or set kind to 'sgd'"),
    ],
)  # fmt: skip
def test_an_enqueued_point_is_a_point_of_the_space(
    point: dict[str, Any], message: str | None, hint: str | None
) -> None:
    rules = broken_rules(draft(enqueue={3: point}))
    assert [rule.hint for rule in rules] == ([] if hint is None else [hint])
    assert all(rule.path[:2] == ("enqueue", 3) for rule in rules)
    if message is not None:
        assert [rule.message for rule in rules] == [message]


def test_a_wrong_parent_is_told_once_and_not_for_each_of_its_children() -> None:
    assert only(enqueue={0: {"kind": "sgdd", "momentum": 0.5}}).path == ("enqueue", 0, "kind")


def test_a_point_that_names_a_fixed_parameter_is_told_so() -> None:
    rule = only(fixed={"depth": 3}, enqueue={0: {"depth": 4}})
    assert rule.message == "a point must name searched parameters, but 'depth' is fixed"


def test_points_are_checked_value_by_value_beside_a_broken_parameter() -> None:
    parts: dict[str, Any] = {
        "parameters": {"x": X, "momentum": MOMENTUM},
        "broken_parameters": frozenset({"kind"}),
    }
    assert found(enqueue={0: {"kind": 5, "momentum": 0.5}}, **parts) == []
    assert only(enqueue={0: {"kind": 5, "x": 7.0}}, **parts).path == ("enqueue", 0, "x")


def test_points_of_an_unknown_space_are_not_checked() -> None:
    assert found(enqueue={0: {"zzz": 1}}, is_space_known=False) == []


# ---- sampler, pruner, environment -----------------------------------------------------------------

GRID = SamplerSpec(type="grid")


@pytest.mark.parametrize(
    ("parameters", "broken", "message"),
    [
        ({"units": UNITS, "kind": KIND}, (), None),
        ({"x": X, "units": UNITS}, (), "grid needs a finite space, but these are continua: x"),
        ({"kind": KIND, "n": IntParameter(type="int", low=1, high=2, when={"kind": ("sgd",)})}, (), "grid cannot follow conditions, but these have some: n"),
        ({"n": IntParameter(type="int", low=1, high=GRID_LIMIT)}, (), None),
        ({"n": IntParameter(type="int", low=0, high=GRID_LIMIT)}, (), "a grid must have at most 100000 points, but this one has 100001"),
        # How many points there are is not known beside a broken parameter.
        ({"n": IntParameter(type="int", low=0, high=GRID_LIMIT)}, ("m",), None),
    ],
)  # fmt: skip
def test_a_grid_is_finite_small_and_without_conditions(
    parameters: dict[str, Any], broken: tuple[str, ...], message: str | None
) -> None:
    rules = found(sampler=GRID, parameters=parameters, broken_parameters=frozenset(broken))
    assert rules == ([] if message is None else [(("sampler", "type"), message)])


@pytest.mark.parametrize(
    ("arguments", "budget", "path"),
    [
        ({"min_resource": 5}, 10, None),
        ({"min_resource": 10}, 10, None),
        ({"min_resource": 11}, 10, ("pruner", "min_resource")),
        ({"min_resource": 11, "max_resource": 20}, 10, None),
        ({"min_resource": 21, "max_resource": 20}, 10, ("pruner", "min_resource")),
        ({"min_resource": 11}, None, None),
        ({"bootstrap_count": 2}, None, ("pruner", "bootstrap_count")),
        ({"bootstrap_count": 2}, 10, None),
        ({"bootstrap_count": 2, "max_resource": 20}, None, None),
    ],
)
def test_hyperband_decides_within_a_trial(
    arguments: dict[str, Any], budget: int | None, path: Path | None
) -> None:
    rules = found(
        pruner_arguments=HyperbandArguments(**arguments),
        trial=TrialSpec(command=("python",), budget=budget),
    )
    assert [found_path for found_path, _ in rules] == ([] if path is None else [path])


@pytest.mark.parametrize(
    ("name", "is_fine"),
    [
        ("HF_HOME", True),
        ("_x1", True),
        ("", False),
        ("1A", False),
        ("A-B", False),
        ("A B", False),
        ("É", False),
        ("STUDYFLOW_TRIAL", False),
        ("studyflow_x", True),
    ],
)
def test_a_variable_has_a_name_that_every_shell_takes(name: str, is_fine: bool) -> None:
    for section in ("env", "secret_env"):
        assert (found(**{section: (name,)}) == []) is is_fine


def test_a_variable_has_one_value() -> None:
    rule = only(env=("TOKEN", "A"), secret_env=("TOKEN", "B"))
    assert rule.path == ("trial", "kubernetes", "secret_env", "TOKEN")
    assert rule.is_about_key

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from studyflow.errors import SpecError
from studyflow.spec import StudySpec, find_problems
from studyflow.spec.reader import SIZE_LIMIT_BYTES

STUDY = """\
name: mnist
objectives: [{metric: loss, direction: minimize}]
search_space:
  lr: {type: float, low: 1e-4, high: 1e-2, log: true}
budget: {n_trials: 30}
trial: {command: [python, train.py]}
"""


def read(text: str) -> StudySpec:
    spec, problems = find_problems(text)
    assert problems == ()
    assert spec is not None
    return spec


def fixed(value: str) -> Any:
    return read(f"{STUDY}fixed:\n  x: {value}\n").fixed["x"]


def only_problem(path: Path) -> str:
    with pytest.raises(SpecError) as caught:
        StudySpec.from_yaml(path)
    (problem,) = caught.value.problems
    return problem


def test_the_example_of_the_design_is_read(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("""\
name: cnn-lstm
objectives: [{metric: val_loss, direction: minimize}]        # two or more: multi-objective
search_space:
  learning_rate: {type: float, low: 1.0e-4, high: 1.0e-2, log: true}
  batch_size:    {type: int, low: 16, high: 128, step: 16}
  optimizer:     {type: categorical, choices: [adam, sgd]}
  momentum:      {type: float, low: 0.5, high: 0.99, when: {optimizer: sgd}}     # conditional
sampler: {type: botorch, n_startup_trials: 10, seed: 0}
pruner: {type: median}
budget: {n_trials: 30, max_parallel_trials: 4, timeout_seconds: 7200}
trial:
  command: [python, train.py]
  image: registry.example/cnn-lstm@sha256:0123
  resources: {cpu: "2", memory: 4Gi, gpu: 1}
  timeout_seconds: 1800
""")

    spec = StudySpec.from_yaml(str(path))

    assert spec.sampler.type == "botorch"
    assert spec.sampler.seed == 0
    assert spec.sampler.arguments == {"n_startup_trials": 10}
    assert spec.pruner.type == "median"
    assert spec.pruner.arguments == {}
    assert list(spec.space) == ["learning_rate", "batch_size", "optimizer", "momentum"]
    assert spec.trial.command == ("python", "train.py")
    assert spec.budget.timeout_seconds == 7200.0


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1.5E3", 1500.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("+7", 7),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("no", "no"),
        ("y", "y"),
        ("true", True),
        ("FALSE", False),
        ("tRUE", "tRUE"),
        ("~", None),
        ("null", None),
        ("12:30:45", "12:30:45"),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("'1'", "1"),
        ("1e", "1e"),
        ("=", "="),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    result = fixed(text)

    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize("text", ["9" * 5000, "0x" + "f" * 5000, "0o" + "7" * 5000])
def test_a_whole_number_of_thousands_of_digits_is_refused_in_every_notation(
    text: str, tmp_path: Path
) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(f"{STUDY}fixed:\n  x: {text}\n")

    assert "fixed.x: must be written as int, but it is " in only_problem(path)


def test_aliases_stand_for_their_value() -> None:
    spec = read(STUDY.replace("lr: {", "lr: &lr {").replace("budget:", "  lr2: *lr\nbudget:"))

    assert spec.search_space["lr2"] == spec.search_space["lr"]


def test_keys_are_names_whatever_they_look_like() -> None:
    spec = read(STUDY.replace("  lr:", "  on: {type: int, low: 0, high: 1}\n  1:"))

    assert list(spec.search_space) == ["on", "1"]


def test_chinese_names_work() -> None:
    spec = read(STUDY.replace("lr:", "学习率:").replace("mnist", "手写数字"))

    assert spec.name == "手写数字"
    assert list(spec.space) == ["学习率"]


def test_a_byte_order_mark_and_crlf_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + STUDY.replace("\n", "\r\n").encode())

    assert StudySpec.from_yaml(path).name == "mnist"


def test_numbers_do_for_texts_of_commands_resources_environment_and_tags() -> None:
    spec = read(
        STUDY.replace(
            "[python, train.py]",
            "[python, train.py, 3], resources: {cpu: 2}, env: {OMP_NUM_THREADS: 1}",
        )
        + "tags: {owner: 7}\n"
    )

    assert spec.trial.command == ("python", "train.py", "3")
    assert spec.trial.resources.cpu == "2"
    assert spec.trial.env == {"OMP_NUM_THREADS": "1"}
    assert spec.tags == {"owner": "7"}


def test_a_point_to_try_may_leave_parameters_out() -> None:
    assert read(STUDY + "enqueue: [{}, {lr: 0.001}]\n").enqueue == ({}, {"lr": 0.001})


def test_a_metric_may_be_objective_and_constraint() -> None:
    assert read(STUDY + "constraints: [{metric: loss, max: 3}]\n").metrics == ("loss",)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"

    assert only_problem(path) == (
        f"Cannot read {path}: No such file or directory. Hint: check the path and its permissions."
    )


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    assert "Is a directory" in only_problem(tmp_path)


def test_a_file_that_is_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_bytes("name: mnist\ndescription: Größe\n".encode("latin-1"))

    assert only_problem(path) == (
        "study.yaml:2:16: the file must be UTF-8, but it holds the byte 0xf6. "
        "Hint: save it as UTF-8 in your editor."
    )


def test_a_file_that_is_too_long_is_not_parsed(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_bytes(b"# " + "ä".encode() * SIZE_LIMIT_BYTES)

    assert only_problem(path).startswith(
        "study.yaml:1:1: a study file must be at most 1048576 bytes long, but this one is longer"
    )


def test_a_problem_names_the_file_it_is_in() -> None:
    _, problems = find_problems("name: [", source="a.yaml")

    assert str(problems[0]).startswith("a.yaml:1:8: the file must be YAML")


def test_a_mapping_has_problems_by_path_without_a_place() -> None:
    mapping = {
        "name": "mnist",
        "objectives": [{"metric": "loss", "direction": "minimize"}],
        "search_space": {"lr": {"type": "float", "low": 2, "high": 1}},
        "budget": {"n_trials": 0},
        "trial": {"command": ("python", "train.py")},
        3: 4,
    }

    with pytest.raises(SpecError) as caught:
        StudySpec.from_mapping(mapping)  # type: ignore[arg-type]

    assert str(caught.value) == (
        "the study has 3 problems:\n"
        "a key must be a text, but 3 is one. Hint: put it in quotes.\n"
        "budget.n_trials: must be at least 1, but it is 0. Hint: Trials to finish: those that "
        "returned a value, were pruned or failed by their parameters or script. Attempts lost to "
        "the infrastructure are not counted. Left out, as many as another limit allows.\n"
        "search_space.lr: low must not be above high, but low=2 and high=1. "
        "Hint: did you swap them?"
    )


@pytest.mark.parametrize("value", [None, [], "mnist", 3, math.nan])
def test_something_else_than_a_mapping_is_no_study(value: Any) -> None:
    with pytest.raises(SpecError, match="a study must be a mapping"):
        StudySpec.from_mapping(value)

"""What differs between executors is data: each name has one kind, and each kind says it all."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from studyflow.executors.kind import ExecutorKind, ExecutorSetup
from studyflow.executors.registry import EXECUTORS, executor_kind
from studyflow.redaction import Redactor
from studyflow.settings import ExecutorName, Settings
from studyflow.spec import StudySpec


def a_spec(**trial: object) -> StudySpec:
    return StudySpec.from_mapping(
        {
            "name": "demo",
            "objectives": [{"metric": "loss", "direction": "minimize"}],
            "search_space": {"x": {"type": "float", "low": 0, "high": 2}},
            "budget": {"n_trials": 3},
            "trial": {"command": ["python", "train.py"], "resources": {"gpu": 2}, **trial},
        }
    )


def test_every_executor_that_may_be_chosen_has_a_kind() -> None:
    assert set(EXECUTORS) == set(get_args(ExecutorName))
    assert all(kind.name == name for name, kind in EXECUTORS.items())


@pytest.mark.parametrize("kind", EXECUTORS.values(), ids=EXECUTORS.keys())
def test_a_kind_tells_people_what_it_is_and_how_to_help(kind: ExecutorKind) -> None:
    assert kind.description
    assert kind.subject
    assert kind.long_wait_hint


def test_only_what_runs_elsewhere_outlives_its_runner() -> None:
    outlives = {name: kind.outlives_runner for name, kind in EXECUTORS.items()}
    assert outlives == {"local": False, "kubernetes": True}


def test_a_reader_of_local_attempts_needs_neither_the_command_nor_gpus(tmp_path: Path) -> None:
    settings = Settings.resolve(home=tmp_path, environment={})
    setup = ExecutorSetup(a_spec(), settings, Redactor(), cwd=tmp_path / "not-there")

    reader = executor_kind("local").open_reader(setup)

    assert dict(reader.poll()) == {}
    assert reader.traits.slots is None
    reader.close()


def test_what_an_attempt_asks_for_is_its_pods_requests_where_there_is_an_image() -> None:
    settings = Settings.resolve(environment={})
    without, with_image = a_spec(), a_spec(image="registry.example/demo:1")

    assert executor_kind("local").requests(with_image, settings) == {"gpu": "2"}
    assert executor_kind("kubernetes").requests(without, settings) == {"gpu": "2"}
    assert executor_kind("kubernetes").requests(with_image, settings) == {"nvidia.com/gpu": "2"}

"""A deployment is checked as a whole before anything is registered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from studyflow.deployments.deployment import Deployment
from studyflow.deployments.study_files import study_files
from studyflow.errors import SpecError
from studyflow.reasons import Code, Level

STUDY = """
name: nightly
objectives: [{metric: loss, direction: minimize}]
search_space: {x: {type: float, low: 0, high: 1}}
budget: {n_trials: 4}
trial: {command: [python, train.py]}
"""


@pytest.fixture
def study(tmp_path: Path) -> str:
    (tmp_path / "study.yaml").write_text(STUDY)
    return str(tmp_path / "study.yaml")


def problems(deployment: Deployment) -> tuple[str, ...]:
    with pytest.raises(SpecError) as caught:
        deployment.check(lambda text: len(text.split()) == 5)
    return caught.value.problems


def test_a_sound_deployment_gives_its_study_with_the_flags_numbers(study: str) -> None:
    deployment = Deployment(study, cron="0 3 * * *", timezone="Europe/Berlin", n_trials=9)
    spec = deployment.check(lambda _: True)
    assert (spec.name, spec.budget.n_trials) == ("nightly", 9)


def test_all_problems_are_told_together(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(STUDY.replace("loss", '""'))
    found = problems(
        Deployment(
            str(tmp_path / "study.yaml"),
            name="a/b",
            pool="gpus",
            serve=True,
            cron="every night",
            interval="0m",
            timezone="europe/berlinn",
            on_collision="join",
            concurrency_limit=2,
        )
    )
    begins = ("--name", "--serve", "--cron and", "--cron must", "--interval", "--timezone")
    assert [text for text in begins if not any(f.startswith(text) for f in found)] == []
    assert any("objectives[0].metric" in problem for problem in found)
    assert any("--concurrency-limit 2" in problem for problem in found)
    assert all("Hint: " in problem for problem in found)


@pytest.mark.parametrize(
    ("changes", "code", "option"),
    [
        ({"name": "a/b"}, Code.OPTION_WRONG, "--name"),
        ({"name": ""}, Code.OPTION_WRONG, "--name"),
        ({"serve": True, "pool": "gpus"}, Code.OPTIONS_CONFLICT, "--serve"),
        ({"serve": True, "namespace": "a"}, Code.OPTIONS_CONFLICT, "--serve"),
        ({"cron": "* * * * *", "interval": "6h"}, Code.OPTIONS_CONFLICT, "--cron"),
        ({"cron": "61 * *"}, Code.OPTION_WRONG, "--cron"),
        ({"interval": "0"}, Code.OPTION_WRONG, "--interval"),
        ({"interval": "6h", "timezone": "Mars"}, Code.OPTION_WRONG, "--timezone"),
        ({"timezone": "UTC"}, Code.OPTIONS_CONFLICT, "--timezone"),
        (
            {"on_collision": "join", "concurrency_limit": 2},
            Code.OPTIONS_CONFLICT,
            "--concurrency-limit",
        ),
    ],
)
def test_programs_learn_what_is_wrong_by_code_and_option(
    changes: dict[str, Any], code: Code, option: str
) -> None:
    (finding,) = Deployment("s.yaml", **changes).problems(lambda text: len(text.split()) == 5)
    assert (finding.code, finding.level, finding.subject) == (code, Level.PROBLEM, option)
    assert finding.hint is not None


@pytest.mark.parametrize("interval", ["90", "45s", "30m", "1.5h", "1d"])
@pytest.mark.parametrize("timezone", [None, "UTC", "Europe/Berlin"])
def test_a_sound_schedule_has_no_problems(interval: str, timezone: str | None) -> None:
    deployment = Deployment("s.yaml", interval=interval, timezone=timezone, concurrency_limit=2)
    assert deployment.problems(lambda _: False) == ()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"cron": "61 * *"}, "--cron must be a cron expression, but is '61 * *'"),
        ({"interval": "6 weeks"}, "--interval must be a time above zero, but is '6 weeks'"),
        ({"interval": "6h", "timezone": "europe/berlin"}, "Hint: such as Europe/Berlin"),
        ({"timezone": "UTC"}, "--timezone belongs to a schedule"),
        ({"serve": True, "namespace": "a"}, "--namespace a is for runs that are pods"),
        ({"study": "none.yaml"}, "none.yaml"),
    ],
)
def test_a_wrong_value_is_named_with_the_way_out(
    study: str, changes: dict[str, Any], told: str
) -> None:
    (problem,) = problems(Deployment(**{"study": study, **changes}))
    assert told in problem


def test_a_study_whose_name_has_no_room_for_a_date_is_refused_before_its_first_run(
    tmp_path: Path,
) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(STUDY.replace("nightly", "n" * 190))
    assert Deployment(str(path)).check(lambda _: True).name == "n" * 190
    assert "200 characters" in problems(Deployment(str(path), each_run="warm"))[0]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90.0), ("45s", 45.0), ("30m", 1800.0), ("1.5h", 5400.0), ("1d", 86400.0)],
)
def test_an_interval_is_a_number_with_a_unit(text: str, seconds: float) -> None:
    assert Deployment("study.yaml", interval=text).interval_seconds == seconds


def test_a_run_gets_only_what_was_asked_for(study: str) -> None:
    deployment = Deployment(study, each_run="fresh", n_trials=3, sampler="tpe")
    assert deployment.parameters("s.yaml") == {
        "study": "s.yaml",
        "each_run": "fresh",
        "n_trials": 3,
        "sampler": "tpe",
    }


def test_a_deployment_survives_the_way_to_the_program_that_registers_it() -> None:
    deployment = Deployment(
        "s.yaml", cron="0 3 * * *", timeout_seconds=60.0, gpu_hours=2.0, tags=("a", "b")
    )
    assert Deployment.from_json(deployment.to_json()) == deployment


def test_the_catalogue_holds_the_study_files_of_image_and_checkout(tmp_path: Path) -> None:
    for name in ("studies/b.yaml", "images/a/study-short.yaml", "images/a/other.yaml", "c.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert study_files(tmp_path) == ("images/a/study-short.yaml", "studies/b.yaml")

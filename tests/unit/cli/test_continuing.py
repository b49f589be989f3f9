"""What a person reads whose run was ended, and the command that goes on."""

from __future__ import annotations

import shlex

import click
import optuna
import pytest
from tests.unit.cli.shown import BROKEN, DONE, SPEC, progress

from studyflow.cli import main
from studyflow.cli.continuing import interrupted_lines, resume_command, same_command
from studyflow.reasons import Code, Reason
from studyflow.reports import StudyData
from studyflow.runner import StudyResult
from studyflow.tuner import TunerResult

RESULT = StudyResult(
    data=StudyData(SPEC, (DONE, BROKEN), optuna.create_study()),
    outcome=TunerResult(Reason(Code.RUNNER_INTERRUPTED, "Interrupted."), is_finished=False),
    report=None,
    tracking_uri="memory:",
    run_url=None,
)
BEST = "  best    lo[/]ss=1.5 (trial 3: x[bold]=0.1235 kind=[blue])"


def typed(*words: str) -> click.Context:
    """Return the context of `studyflow run WORDS`."""
    group = click.Context(main, info_name="studyflow")
    command = main.get_command(group, "run")
    assert command is not None
    return command.make_context("run", list(words), parent=group)


@pytest.mark.parametrize(
    "words",
    [
        ["study.yaml"],
        ["my study.yaml", "--n-trials", "40"],
        ["study.yaml", "--executor", "kubernetes", "--namespace", "hpo", "--home", "a home"],
        ["study.yaml", "--sampler", "tpe", "--timeout-seconds", "60.0", "--fork", "wider"],
    ],
)
def test_the_command_that_goes_on_has_what_was_typed_and_nothing_else(words: list[str]) -> None:
    again = shlex.split(same_command(typed(*words)))

    assert again[:2] == ["studyflow", "run"]
    assert sorted(again[2:]) == sorted(words)
    assert typed(*again[2:]).params == typed(*words).params


def test_failed_trials_are_retried_once_and_not_by_the_command_that_goes_on() -> None:
    context = typed("--retry-failed", "study.yaml", "--n-trials", "40")

    again = same_command(context, without=("retry_failed",))

    assert again == "studyflow run study.yaml --n-trials 40"
    assert "--retry-failed" in same_command(context)


def test_a_pause_is_ended_where_the_study_is() -> None:
    context = typed("study.yaml", "--n-trials", "40", "--home", "a home")

    assert resume_command(context) == "studyflow resume study.yaml --home 'a home'"


def test_an_interrupted_run_ends_with_the_best_and_the_command() -> None:
    lines = list(interrupted_lines(SPEC, RESULT, progress(), again="AGAIN", resume="RESUME"))

    assert lines == ["Interrupted; finished trials are kept.", BEST, "Continue: AGAIN"]


def test_a_run_that_could_not_be_closed_knows_the_best_from_before() -> None:
    lines = list(interrupted_lines(SPEC, None, progress(), again="AGAIN", resume="RESUME"))

    assert BEST in lines


def test_a_run_that_had_not_begun_has_only_the_command() -> None:
    lines = list(interrupted_lines(SPEC, None, None, again="AGAIN", resume="RESUME"))

    assert lines == ["Interrupted; finished trials are kept.", "Continue: AGAIN"]


def test_a_paused_study_is_resumed_first() -> None:
    stood = progress(is_paused=True)
    lines = list(interrupted_lines(SPEC, RESULT, stood, again="AGAIN", resume="RESUME"))

    assert lines[-3:] == [
        "The study is paused; two commands continue it:",
        "  RESUME",
        "  AGAIN",
    ]

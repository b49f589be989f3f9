"""What a terminal shows of a study that has ended."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from rich.cells import cell_len
from rich.console import Console
from tests.unit.cli.shown import BROKEN, DONE, RUNNING, SPEC
from tests.unit.study.studies import make_spec

from studyflow.cli.results import MAX_RESULT_ROWS, print_result, trials_table
from studyflow.reasons import Code, Reason
from studyflow.reports import StudyData
from studyflow.runner import StudyResult
from studyflow.runner.log_tail import LogTail
from studyflow.trial.record import TrialRecord
from studyflow.tuner import TunerResult


def table_text(records: list[TrialRecord]) -> str:
    stream = io.StringIO()
    Console(file=stream, width=160).print(trials_table(StudyData(SPEC, tuple(records)), 160))
    return stream.getvalue()


def test_the_table_shows_every_trial_and_marks_the_best() -> None:
    text = table_text([DONE, RUNNING, BROKEN])

    assert "★ 3" in text
    assert "lo[/]ss" in text
    assert "x[bold]" in text
    assert "[blue]" in text
    assert "failed (user-error)" in text
    assert "running" in text


def test_a_long_table_keeps_the_newest_the_best_and_the_improvements() -> None:
    records = [replace(DONE, number=n, values=(abs(n - 5.0),)) for n in range(100)]
    text = table_text(records)

    assert f"{MAX_RESULT_ROWS + 6} of 100 trials" in text
    assert "★ 5" in text
    assert "↑ 4" in text
    assert " 99 " in text
    assert " 30 " not in text


def test_parameters_without_room_are_named_below_the_table_instead_of_squeezed() -> None:
    stream = io.StringIO()
    other = replace(BROKEN, params={"x[bold]": 0.5, "kind": "plain"})
    table = trials_table(StudyData(SPEC, (DONE, other)), width=60)
    Console(file=stream, width=60).print(table)

    lines = stream.getvalue().splitlines()
    assert max(cell_len(line) for line in lines) <= 60
    assert "4.2 s" in stream.getvalue()
    assert "1 parameter left out: kind" in stream.getvalue()


def test_a_table_without_results_has_no_column_and_no_legend_for_them() -> None:
    text = table_text([BROKEN])

    assert "user-error" in text
    assert "lo[/]ss" not in text
    assert "best" not in text


def test_trials_of_another_study_are_called_imported() -> None:
    text = table_text([DONE, replace(DONE, number=4, is_taken_over=True)])

    assert text.count("imported") == 1


def result(**changes: Any) -> StudyResult:
    data = StudyData(SPEC, (DONE, BROKEN), optuna.create_study())
    known: dict[str, Any] = {
        "data": data,
        "outcome": TunerResult(
            Reason(Code.BUDGET_SPENT, "All [5] trials are finished."), is_finished=True
        ),
        "report": None,
        "tracking_uri": "sqlite:///home/mlflow.db",
        "run_url": None,
    }
    return StudyResult(**{**known, **changes})


def printed(shown: StudyResult, again: str | None = None) -> str:
    stream = io.StringIO()
    print_result(shown, Console(file=stream, width=160), ui_hint="studyflow ui", again=again)
    return stream.getvalue()


def test_a_study_that_can_go_on_ends_with_the_command_that_does() -> None:
    assert printed(result(), again="studyflow run a[b].yaml").endswith(
        "\nContinue: studyflow run a[b].yaml\n"
    )
    assert "Continue" not in printed(result())


def test_the_result_says_what_is_best_and_where_to_look() -> None:
    text = printed(result())

    assert "All [5] trials are finished." in text
    assert "Best: trial 3" in text
    assert "lo[/]ss=1.5" in text
    assert "x[bold]: 0.123456" in text
    assert "MLflow  sqlite:///home/mlflow.db  (open it: studyflow ui)" in text
    assert "sync" not in text


def test_a_study_that_failed_shows_the_end_of_a_failed_log_before_it_says_why() -> None:
    why = Reason(Code.FAILED_ALIKE, "KeyError: '[val]'", "fix the script.")
    outcome = TunerResult(why, is_finished=True, is_failure=True)
    text = printed(
        result(outcome=outcome, failed_log=LogTail(5, ("line [1]", "KeyError: '[val]'")))
    )

    log, _, reason = text.partition("  KeyError: '[val]'\n")
    assert "The log of trial 5 ends with\n  line [1]\n" in log
    assert "KeyError: '[val]'. Hint: fix the script." in reason


def test_the_result_names_the_run_and_what_mlflow_lacks() -> None:
    text = printed(result(run_url="http://mlflow/#/runs/[1]", n_unsent=3))

    assert "MLflow  http://mlflow/#/runs/[1]" in text
    assert "MLflow does not have everything yet (3 parts are left)" in text
    assert "studyflow sync" in text


def test_a_server_that_is_away_is_named_without_the_way_to_the_embedded_pages() -> None:
    text = printed(result(tracking_uri="http://mlflow:5000"))

    assert "MLflow  http://mlflow:5000\n" in text
    assert "open it" not in text


@pytest.mark.fault("F78")
def test_without_mlflow_no_address_is_named() -> None:
    text = printed(result(tracking_uri="memory:"))

    assert "MLflow  not installed: pip install 'studyflow[mlflow]', then: studyflow sync" in text
    assert "memory:" not in text


def test_a_study_without_a_best_trial_prints_too(tmp_path: Path) -> None:
    data = StudyData(SPEC, (BROKEN,), optuna.create_study())

    assert "Best" not in printed(result(data=data))


def many(n_params: int) -> StudyData:
    """Return a study whose last parameter alone explains its objective, and with a constant."""
    space = {f"p{i}": {"type": "float", "low": 0.0, "high": 1.0} for i in range(n_params)}
    spec = make_spec(search_space=space)
    records = tuple(
        replace(
            DONE,
            number=n,
            params={
                name: 0.5 if i == 0 else (n * (i + 3) % 17) / 17 for i, name in enumerate(space)
            },
            values=((n * (n_params + 2) % 17) / 17,),
        )
        for n in range(17)
    )
    return StudyData(spec, records)


def test_at_80_columns_the_parameters_that_matter_least_are_left_out() -> None:
    stream = io.StringIO()
    Console(file=stream, width=80).print(trials_table(many(12), width=80))

    text = stream.getvalue()
    heading = text.splitlines()[1]
    assert max(cell_len(line) for line in text.splitlines()) <= 80
    assert "loss" in heading
    assert "p11" in heading
    assert "p0" not in heading
    assert "the same in all rows: p0=0.5" in text
    below = " ".join(text.rpartition("┘")[2].split())
    assert "parameters left out: p1, " in below
    assert "p11" not in below
    assert "`studyflow trials --wide` shows all" in below


def test_a_wide_table_shows_every_parameter() -> None:
    stream = io.StringIO()
    Console(file=stream, width=400).print(trials_table(many(12)))

    assert all(f"p{i}" in stream.getvalue().splitlines()[1] for i in range(1, 12))
    assert "left out" not in stream.getvalue()

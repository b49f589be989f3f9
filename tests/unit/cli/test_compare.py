"""Two studies side by side: who is better, who was faster, and when they cannot be compared."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.test_cli import DOCUMENT, TRAIN, invoke, write_study

from studyflow.cli.compare import compare_studies, judgement_text
from studyflow.errors import StudyMismatch
from studyflow.reports import StudyData
from studyflow.reports.equal_budgets import Measure
from studyflow.spec import StudySpec
from studyflow.trial import Cause
from studyflow.trial.cost import AttemptCost
from studyflow.trial.record import TrialRecord, TrialState


def study(name: str, *values: float | None, **changes: Any) -> StudyData:
    """A study whose trials ended one after the other; `None` failed."""
    spec = StudySpec.from_mapping({**DOCUMENT, "name": name, **changes})
    return StudyData(spec, tuple(ended(i, value) for i, value in enumerate(values)))


def ended(number: int, value: float | None, **changes: Any) -> TrialRecord:
    given: dict[str, Any] = {
        "number": number,
        "state": TrialState.FAILED if value is None else TrialState.COMPLETE,
        "params": {"x": number / 10, "y": 1},
        "values": None if value is None else (value,),
        "cause": Cause.NAN if value is None else Cause.OK,
        "started_at": 100.0 * number,
        "finished_at": 100.0 * number + 50,
        "trained_seconds": 40.0,
        **changes,
    }
    return TrialRecord(**given)


def test_the_better_one_and_the_faster_one_are_told_apart() -> None:
    found = compare_studies(study("a", 0.5, None, 0.3), study("b", 0.3, 0.4, 0.2, 0.9))

    assert found.winner == "b"
    assert (found.a.trials_to_target, found.b.trials_to_target) == (3, 1)
    assert (found.a.best_value, found.b.best_value) == (0.3, 0.2)
    assert (found.a.trial_seconds, found.a.wall_seconds) == (120.0, 250.0)
    assert found.a.states == {"complete": 2, "failed": 1}
    assert found.params == {}  # both at trial 2, and y is the same


def test_they_are_judged_where_both_had_used_as_much() -> None:
    slow = {"trial": {**DOCUMENT["trial"], "resources": {"gpu": 4}}}
    found = compare_studies(study("a", 0.5, 0.4, 0.1), study("b", 0.45, 0.3, **slow))
    judged = {one.measure.value: one for one in found.judgements}

    assert found.winner == "a"
    assert (judged["trials"].at, judged["trials"].a, judged["trials"].b) == (2, 0.4, 0.3)
    assert judged["trials"].winner == "b"
    assert (judged["seconds"].at, judged["seconds"].winner) == (150.0, "b")
    assert "hours" not in judged, "neither has a ledger"


def test_they_are_judged_at_equal_gpu_hours_of_what_attempts_cost() -> None:
    def paid(name: str, gpus: int, *values: float) -> StudyData:
        data = study(name, *values)
        costs = [
            (AttemptCost(1, Cause.OK, seconds=3600.0, gpus=gpus, recorded_at=r.finished_at),)
            for r in data.records
        ]
        records = (replace(r, costs=c) for r, c in zip(data.records, costs, strict=True))
        return StudyData(data.spec, tuple(records))

    found = compare_studies(paid("a", 1, 0.5, 0.4, 0.1, 0.05), paid("b", 4, 0.3, 0.2))
    hours = next(one for one in found.judgements if one.measure is Measure.HOURS)

    assert (hours.at, hours.a, hours.b, hours.winner) == (4.0, 0.05, 0.3, "a")
    assert "after 4 GPU-hours each: a is better" in judgement_text(found, hours)


def test_larger_is_better_where_the_study_says_so() -> None:
    upwards = [{"metric": "loss", "direction": "maximize"}]
    found = compare_studies(
        study("a", 0.5, 0.3, objectives=upwards), study("b", 0.4, objectives=upwards)
    )

    assert found.winner == "a"
    assert (found.a.trials_to_target, found.b.trials_to_target) == (1, None)
    assert found.params == {}


def test_parameters_that_differ_are_named_and_so_are_the_spaces() -> None:
    wider = {"x": {"type": "float", "low": 0.0, "high": 2.0}}
    found = compare_studies(study("a", 0.5, 0.3), study("b", 0.1, 0.3, search_space=wider))

    assert found.params == {"x": (0.1, 0.0)}
    assert found.space == ("search_space.x.high: 1.0 → 2.0",)


def test_trials_that_were_taken_over_or_cancelled_count_for_nobody() -> None:
    spec = StudySpec.from_mapping(DOCUMENT)
    data = StudyData(
        spec,
        (
            ended(0, 0.1, is_taken_over=True),
            ended(1, None, cause=Cause.CANCELLED),
            ended(2, 0.4),
        ),
    )

    found = compare_studies(data, data)

    assert (found.a.best_value, found.a.trials_to_target, found.a.n_finished) == (0.4, 1, 1)
    assert (found.a.states, found.a.n_taken_over) == ({"failed": 1, "complete": 1}, 1)
    assert found.winner is None


def test_other_metrics_or_directions_are_refused_with_the_difference() -> None:
    other = study("b", 0.1, objectives=[{"metric": "loss", "direction": "maximize"}])

    with pytest.raises(StudyMismatch) as refused:
        compare_studies(study("a", 0.1), other)

    assert 'objectives[0].direction: "minimize" → "maximize"' in str(refused.value)


def test_several_objectives_are_refused() -> None:
    two = [
        {"metric": "loss", "direction": "minimize"},
        {"metric": "size", "direction": "minimize"},
    ]
    with pytest.raises(StudyMismatch, match="2 objectives"):
        compare_studies(study("a", objectives=two), study("b", objectives=two))


def test_the_command_shows_both_or_prints_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "mlflow" else find(name, *a)
    )
    monkeypatch.setenv("STUDYFLOW_HOME", str(tmp_path / "home"))
    for name, seed in (("first", 0), ("second", 1)):
        path = write_study(tmp_path, TRAIN, name=name, sampler={"type": "random", "seed": seed})
        assert invoke("run", path).exit_code == 0

    shown = invoke("compare", "first", "second", "--picture", tmp_path / "both.svg")
    document = json.loads(invoke("compare", "first", "second", "--json").stdout)

    assert shown.exit_code == 0, shown.output
    assert "trials to first's best" in shown.stdout
    assert document["target"] == document["a"]["best"]["value"]
    assert "after 3 trials each: " in shown.stdout
    assert document["at_equal"]["trials"]["at"] == 3
    assert (tmp_path / "both.svg").read_text().startswith("<svg")
    assert document["better"] in ("first", "second")
    assert invoke("compare", "first", "third").exit_code == 2

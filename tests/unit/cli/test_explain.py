"""`studyflow explain --trial` and `--model`: what is known of suggestions, and what is not."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from studyflow.cli import explain as explain_module
from studyflow.cli import main
from studyflow.reports import StudyData
from studyflow.samplers.levels import SuggestionLevel
from studyflow.spec import StudySpec
from studyflow.trial import Cause
from studyflow.trial.record import PausedAttempt, Resumption, TrialRecord, TrialState

SPACE: dict[str, Any] = {
    "x": {"type": "float", "low": 0.0, "high": 1.0},
    "y": {"type": "float", "low": 0.0, "high": 1.0},
}


def make_spec(**fields: Any) -> StudySpec:
    document: dict[str, Any] = {
        "name": "bowl",
        "objectives": [{"metric": "loss", "direction": "minimize"}],
        "search_space": SPACE,
        "budget": {"n_trials": 10},
        "trial": {"command": ["python", "train.py"]},
    }
    return StudySpec.model_validate({**document, **fields})


def suggestion(mean: float | None, sd: float | None, **fields: Any) -> dict[str, Any]:
    entry = {
        "predicted_mean": mean,
        "predicted_sd": sd,
        "noise_sd": 0.0,
        "lengthscales": {"y": 8.0, "x": 0.3},
        "warp": "none",
    }
    return {
        "rung": "model",
        "reason": None,
        "objectives": [entry],
        "acquisition": "log-expected-improvement",
        "acquisition_value": math.log(0.25),
        "n_data": 4,
        "n_pending": 1,
        "milliseconds": 31.4,
        "is_repeat": False,
        **fields,
    }


STARTUP = {"rung": "startup", "objectives": [], "n_data": 1, "n_pending": 2, "milliseconds": 1.0}


def record(
    number: int, loss: float | None = None, stored: dict[str, Any] | None = None, **fields: Any
) -> TrialRecord:
    return TrialRecord(
        number=number,
        state=fields.pop("state", TrialState.RUNNING if loss is None else TrialState.COMPLETE),
        params=fields.pop("params", {"x": 0.25, "y": 0.5}),
        values=None if loss is None else (loss,),
        cause=None if loss is None else Cause.OK,
        suggestion=stored,
        **fields,
    )


USUAL = (
    record(0, 1.0, STARTUP),
    record(1, 0.5, STARTUP),
    record(2, 0.2, suggestion(0.4, 0.1)),
    record(3, 0.9, suggestion(0.3, 0.1)),
    record(4, None, suggestion(0.1, 0.1)),
)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the command on a study that is in memory."""

    def run(records: tuple[TrialRecord, ...], *arguments: str, **fields: Any) -> Result:
        data = StudyData(make_spec(**fields), records)
        monkeypatch.setattr(explain_module, "load_study", lambda study, settings: data)
        return CliRunner().invoke(main, ["explain", "bowl", *arguments])

    return run


def lines(result: Result) -> dict[str, str]:
    assert result.exit_code == 0, result.output
    return {line[2:16].strip(): line[16:] for line in result.stdout.splitlines()[1:]}


def test_a_prediction_is_compared_with_what_came_true(shown: Any) -> None:
    said = lines(shown(USUAL, "--trial", "2"))

    assert said["predicted"] == "loss 0.4 ± 0.1 (sd); came true: 0.2, 2.0 sd better."
    assert said["why"] == ("suggested by the full model, with one lengthscale for each parameter.")
    assert said["what matters"] == (
        "x matters a lot (0.3), y made no difference so far (8); "
        "lengthscales in units of the range."
    )
    assert said["based on"] == "4 finished trials, 1 running, 31 ms."
    assert said["transform"] == "none."


def test_a_surprise_is_called_one(shown: Any) -> None:
    said = lines(shown(USUAL, "--trial", "3"))

    assert said["predicted"].endswith("0.9, 6.0 sd worse, which the model did not foresee.")


def test_the_hope_is_the_expected_gain_over_the_best_known_then(shown: Any) -> None:
    said = lines(shown(USUAL, "--trial", "2"))
    document = json.loads(shown(USUAL, "--trial", "2", "--json").stdout)["objectives"][0]

    assert said["hoped for"] == (
        "better than 0.5, the best known then: a chance of 84 %, on average 0.11 gained."
    )
    assert document["best_before"] == 0.5
    assert document["chance_to_improve"] == pytest.approx(0.8413, abs=1e-4)
    assert document["expected_improvement"] == pytest.approx(0.10833, abs=1e-5)
    assert "a gain of 0.25 of the values' spread" in said["acquisition"]


def test_a_suggestion_that_counted_costs_says_what_it_expected(shown: Any) -> None:
    stored = suggestion(0.4, 0.1, expected_cost=5400.0, cost_power=0.5)
    trials = (*USUAL[:2], record(2, 0.2, stored))

    assert lines(shown(trials, "--trial", "2"))["cost"] == (
        "1.5 hours of a GPU or slot expected; the improvement was weighed by 1 / cost^0.5: cheap "
        "trials first, while budget is left."
    )
    document = json.loads(shown(trials, "--trial", "2", "--json").stdout)
    assert (document["expected_cost"], document["cost_power"]) == (5400.0, 0.5)
    assert "cost" not in lines(shown(USUAL, "--trial", "2"))


def test_no_gain_is_told_from_a_warped_scale(shown: Any) -> None:
    stored = suggestion(0.4, 0.1)
    stored["objectives"][0]["warp"] = "half-rank"
    said = lines(shown((*USUAL[:2], record(2, 0.2, stored)), "--trial", "2"))

    assert said["hoped for"] == "better than 0.5, the best known then."
    assert said["transform"].startswith("half-rank")


def test_what_finished_later_was_not_the_best_known(shown: Any) -> None:
    early = record(0, 0.1, started_at=0.0, finished_at=50.0)
    late = record(1, 0.7, started_at=0.0, finished_at=10.0)
    asked = record(2, 0.2, suggestion(0.4, 0.1), started_at=20.0, finished_at=30.0)
    document = json.loads(shown((early, late, asked), "--trial", "2", "--json").stdout)

    assert document["objectives"][0]["best_before"] == 0.7


def test_a_running_trial_has_a_prediction_and_no_truth(shown: Any) -> None:
    said = lines(shown(USUAL, "--trial", "4"))

    assert said["predicted"] == "loss 0.1 ± 0.1 (sd); no result to compare with."


def test_a_start_up_point_says_so(shown: Any) -> None:
    said = lines(shown(USUAL, "--trial", "1"))

    assert said["why"] == "space-filling start-up point: too little had finished to model."
    assert said["result"] == "loss 0.5; nothing had been predicted."


@pytest.mark.fault("F46")
def test_a_suggestion_whose_time_was_up_says_so(shown: Any) -> None:
    record_ = record(0, 0.3, suggestion(0.4, 0.1, is_time_up=True))
    result = shown((record_,), "--trial", "0")

    assert "Its time (`sampler.ask_seconds`) was up" in result.stdout
    assert json.loads(shown((record_,), "--trial", "0", "--json").stdout)["is_time_up"] is True
    assert "was up" not in shown(USUAL, "--trial", "2").stdout


def test_a_lower_level_says_why(shown: Any) -> None:
    stored = suggestion(0.4, 0.1, rung="isotropic", reason="model: LinAlgError: singular")
    result = shown((record(0, 0.3, stored),), "--trial", "0")

    assert "the model with one lengthscale for all parameters" in result.stdout
    assert "Not a better level because: model: LinAlgError: singular." in result.stdout


@pytest.mark.parametrize("level", SuggestionLevel)
def test_every_level_has_words(shown: Any, level: SuggestionLevel) -> None:
    result = shown((record(0, 0.3, {**STARTUP, "rung": level.value}),), "--trial", "0")

    assert result.exit_code == 0, result.output
    assert "a kind this version does not know" not in result.stdout


@pytest.mark.parametrize(
    ("trial", "fields", "words"),
    [
        (record(0, 0.3), {"sampler": {"type": "tpe"}}, "Optuna's sampler `tpe`"),
        (record(0, 0.3), {}, "drawn at random"),
        (record(0, 0.3, is_taken_over=True), {}, "copied from another study"),
        (record(0, 0.3), {"enqueue": [{"x": 0.25}]}, "given by hand"),
        (record(0, state=TrialState.WAITING, params={}), {}, "has not been asked for yet"),
        (record(0, 0.3, {"rung": "oracle"}), {}, "does not know: oracle"),
    ],
)
def test_without_a_suggestion_it_says_what_is_known(
    shown: Any, trial: TrialRecord, fields: dict[str, Any], words: str
) -> None:
    assert words in lines(shown((trial,), "--trial", "0", **fields))["why"]


@pytest.mark.parametrize(
    "stored",
    [
        {"rung": "model", "objectives": None},
        {"rung": "model", "objectives": [7]},
        {"rung": ["model"], "objectives": [{}]},
        suggestion(None, None),
        suggestion(math.nan, math.inf, acquisition_value="x", n_data="many", milliseconds=None),
        suggestion(0.1, -0.1),
        {"rung": "model", "objectives": [{"predicted_mean": 1, "predicted_sd": 0}], "reason": 5},
    ],
)
def test_a_document_of_another_version_is_read_as_far_as_it_goes(
    shown: Any, stored: dict[str, Any]
) -> None:
    for arguments in (["--trial", "0"], ["--model"]):
        result = shown((record(0, 0.3, stored),), *arguments, "--json")
        assert result.exit_code == 0, result.output
        result = shown((record(0, 0.3, stored),), *arguments)
        assert result.exit_code == 0, result.output


def test_control_characters_stay_out_of_the_terminal(shown: Any) -> None:
    stored = suggestion(0.4, 0.1, reason="\x1b[31mred", rung="\x1b[2J", acquisition="\x1b]0;x\x07")
    result = shown((record(0, 0.3, stored),), "--trial", "0")

    assert "\x1b" not in result.stdout


def test_several_objectives_are_told_one_by_one(shown: Any) -> None:
    stored = suggestion(0.4, 0.1)
    stored["objectives"] *= 2
    trial = replace(record(0, 0.3, stored), values=(0.3, 0.9))
    two = [
        {"metric": "loss", "direction": "minimize"},
        {"metric": "speed", "direction": "maximize"},
    ]
    result = shown((trial,), "--trial", "0", objectives=two)

    assert "loss 0.4 ± 0.1 (sd); came true: 0.3, 1.0 sd better." in result.stdout
    assert "speed 0.4 ± 0.1 (sd); came true: 0.9, 5.0 sd better" in result.stdout


def test_an_unknown_trial_is_bad_input_and_the_range_is_named(shown: Any) -> None:
    result = shown(USUAL, "--trial", "99")

    assert result.exit_code == 2
    assert "the study 'bowl' has no trial 99; its trials are 0 to 4." in result.stderr
    assert "it has no trials yet" in shown((), "--trial", "0").stderr


def test_of_the_model_it_says_how_often_that_was_right(shown: Any) -> None:
    result = shown(USUAL, "--model")
    document = json.loads(shown(USUAL, "--model", "--json").stdout)

    assert "of 5 trials, 3 were suggested by a model and 2 by the start-up design." in result.stdout
    assert "loss: 1 of 2 results lay within 2 sd of the prediction" in result.stdout
    assert "too few to judge" in result.stdout
    assert document["objectives"] == [
        {
            "metric": "loss",
            "n_judged": 2,
            "within_1_sd": 0,
            "within_2_sd": 1,
            "verdict": "too few to judge",
        }
    ]


def test_a_study_without_predictions_says_so(shown: Any) -> None:
    assert "No prediction can be compared with a result yet." in shown((), "--model").stdout


def test_a_study_that_does_not_exist_is_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STUDYFLOW_HOME", "STUDYFLOW_STORAGE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(make_spec().model_dump(mode="json", exclude_defaults=True)))
    result = CliRunner().invoke(main, ["explain", str(path), "--home", str(tmp_path)])

    assert result.exit_code == 2
    assert "bowl" in result.stderr


def test_it_says_in_numbers_why_a_trial_was_paused_and_taken_up(shown: Any) -> None:
    trial = record(
        0,
        attempt=3,
        pauses=(
            PausedAttempt(1, "Paused at step 1.", checkpoint_step=1, numbers={"rank": 2, "n": 5}),
            PausedAttempt(2, "Paused at step 3.", checkpoint_step=3),
        ),
        resumptions=(Resumption(2, "Promoted from step 1.", 60.0, {"value": 0.25}),),
    )
    result = shown((trial,), "--trial", "0")
    text = result.stdout.splitlines()
    assert [line[2:] for line in text if "attempt " in line] == [
        "paused        attempt 1: Paused at step 1. Its checkpoint is of step 1.",
        "taken up      attempt 2: Promoted from step 1.",
        "paused        attempt 2: Paused at step 3. Its checkpoint is of step 3.",
    ]
    assert "                rank=2, n=5" in text
    assert "                value=0.25" in text
    document = json.loads(shown((trial,), "--trial", "0", "--json").stdout)
    assert [one["event"] for one in document["attempts"]] == ["paused", "taken up", "paused"]
    assert document["attempts"][0]["numbers"] == {"rank": 2, "n": 5}


def test_a_trial_that_waits_to_be_taken_up_is_called_paused(shown: Any) -> None:
    trial = record(0, attempt=1, pauses=(PausedAttempt(1, "Paused at step 1."),))
    result = shown((trial,), "--trial", "0")
    assert result.stdout.startswith("Trial 0 of bowl (paused)")

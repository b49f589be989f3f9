"""The figure of the model: predictions against truth, and what is said of them."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest

from studyflow.reports import Omitted, StudyData, predictions, surrogate
from studyflow.reports.advice import model_advice
from studyflow.reports.chart import Drawing
from studyflow.reports.figures import FIGURES
from studyflow.trial.record import TrialState

from .studies import (
    CNN,
    STUDIES,
    TWO,
    everything,
    make_spec,
    make_study,
    whole,
    with_suggestions,
)


def drawn(data: StudyData) -> Drawing:
    figure = FIGURES["model"].draw(data)
    assert isinstance(figure, Drawing)
    return figure


def test_the_title_says_how_many_truths_lay_within_2_sd() -> None:
    data = with_suggestions(whole(24), lambda i: 3.0 if i in (10, 20) else 0.5)

    figure = drawn(data)

    assert figure.title == (
        "16 of 18 results lay within 2 sd of the prediction: about as it should be"
    )
    assert "about 17 of 18 within 2 sd and 12 within 1 sd (here 16)" in figure.note


def test_a_model_that_is_too_sure_is_called_so() -> None:
    figure = drawn(with_suggestions(whole(24), lambda i: 3.0 if i % 2 else 0.5))

    assert figure.title.endswith(
        "9 of 18 results lay within 2 sd of the prediction: the model is too sure of itself"
    )


@pytest.mark.parametrize(
    "broken",
    [
        {"predicted_mean": None},
        {"predicted_sd": math.nan},
        {"predicted_mean": "high"},
        {"predicted_sd": 0.0, "noise_sd": 0.0},
        {"predicted_sd": True},
    ],
)
def test_numbers_that_are_none_are_passed_over(broken: dict[str, Any]) -> None:
    data = with_suggestions(whole(12), **broken)

    assert predictions.predictions(data) == ()
    drawn(data)


def test_without_suggestions_the_left_out_trials_are_shown() -> None:
    figure = drawn(STUDIES["usual"]())

    assert figure.title.startswith("A Gaussian process explains ")
    assert len(figure.panels) == 1


def test_with_nothing_to_show_it_says_why() -> None:
    found = FIGURES["model"].draw(STUDIES["one trial"]())

    assert isinstance(found, Omitted)
    assert "no trial that a model suggested has finished" in found.reason


def test_each_objective_has_its_panels() -> None:
    figure = drawn(with_suggestions(whole(16, objectives=TWO)))

    assert len(figure.panels) == 8


@pytest.mark.parametrize("off", [1e6, -1e6, 1e290])
def test_wild_predictions_leave_the_axes_readable(off: float) -> None:
    data = with_suggestions(whole(16), lambda i: off)
    figure = drawn(data)

    labels = re.findall(r'text-anchor="middle">([\d.]+)</text>', figure.panels[0].html)
    values = [data.value(r, 0) for r in data.complete]
    assert float(labels[-1]) - float(labels[0]) < 3 * (max(values) - min(values))


def test_many_parameters_fit() -> None:
    space = {f"parameter_{i}": {"type": "float", "low": 0, "high": 1} for i in range(30)}
    data = make_study(make_spec(space), 12, end=everything(TrialState.COMPLETE))
    figure = drawn(with_suggestions(data))

    assert all(panel.canvas.height < 500 for panel in figure.panels)


def test_left_out_predictions_agree_with_a_fit_without_the_trial() -> None:
    data = make_study(make_spec(CNN), 30, end=everything(TrialState.COMPLETE))
    process, scale = surrogate.fitted(data, 0)
    values = np.array([scale.clip(data.value(r, 0)) for r in data.complete])

    found = surrogate.left_out(process, np.log(values) if scale.is_log else values)

    truth = np.log(values) if scale.is_log else values
    n = len(truth)
    base = (((truth - truth.mean()) * n / (n - 1)) ** 2).sum()
    assert 1.0 - ((truth - found) ** 2).sum() / base == pytest.approx(process.explained, abs=1e-3)


def test_a_model_that_is_too_sure_comes_with_what_to_do() -> None:
    advice = model_advice(with_suggestions(whole(24), lambda i: 3.0 if i % 2 else 0.5))

    assert advice[0].endswith("the model is too sure of itself.")
    assert "studyflow retrain" in advice[1]


def test_parameters_without_influence_are_named_with_what_to_do() -> None:
    data = with_suggestions(whole(24), lengthscales={"dropout": 0.1, "batch_size": 80.0})

    assert model_advice(data)[-1].startswith("batch_size made no difference so far: fix it")


def test_without_trials_there_is_no_advice() -> None:
    assert model_advice(STUDIES["no trial"]()) == ()

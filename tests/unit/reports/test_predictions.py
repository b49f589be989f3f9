"""What is said of a model's predictions: from stored suggestions and results alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from studyflow.reports import StudyData, predictions
from studyflow.reports.predictions import Calibration, Prediction

from .studies import whole, with_suggestions


def test_noise_counts_as_doubt_about_a_measurement() -> None:
    record = with_suggestions(whole(7)).records[6]

    found = predictions.predicted(record, 0)

    assert found is not None
    assert found[1] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("judged", "verdict"),
    [
        (Calibration(4, 0, 0), "too few to judge"),
        (Calibration(20, 5, 10), "the model is too sure of itself"),
        (Calibration(20, 13, 19), "about as it should be"),
        (Calibration(20, 20, 20), "the model is more careful than it need be"),
    ],
)
def test_verdicts(judged: Calibration, verdict: str) -> None:
    assert judged.verdict == verdict


def test_a_surprise_is_positive_where_the_truth_lay_higher() -> None:
    assert Prediction(0, mean=1.0, sd=0.5, truth=2.0).surprise == 2.0


def test_only_what_a_model_suggested_here_is_judged() -> None:
    data = with_suggestions(whole(12))
    taken = tuple(replace(r, is_taken_over=True) for r in data.records)

    assert [p.trial for p in predictions.predictions(data)] == [6, 7, 8, 9, 10, 11]
    assert predictions.predictions(StudyData(data.spec, taken)) == ()


@pytest.mark.parametrize(
    ("lengthscale", "words"),
    [
        (0.1, "matters a lot"),
        (1.0, "matters"),
        (4.0, "matters little"),
        (30.0, "made no difference so far"),
    ],
)
def test_lengthscales_in_words(lengthscale: float, words: str) -> None:
    assert predictions.relevance(lengthscale) == words

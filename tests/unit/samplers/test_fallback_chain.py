"""The fallback chain: the first level that works, and why those before did not."""

from __future__ import annotations

import numpy as np
import optuna
import pytest

from studyflow.samplers.deadline import OutOfTime
from studyflow.samplers.fallback_chain import first_result
from studyflow.samplers.levels import SuggestionLevel

optuna.logging.set_verbosity(optuna.logging.ERROR)


def test_without_time_no_further_model_is_asked_whatever_failed_before() -> None:
    def out_of_time() -> str:
        raise OutOfTime("it is late")

    def singular() -> str:
        raise np.linalg.LinAlgError("singular")

    found = first_result(
        [
            (SuggestionLevel.MODEL, singular),
            (SuggestionLevel.ISOTROPIC, out_of_time),
            (SuggestionLevel.PRIOR, lambda: "a model all the same"),
            (SuggestionLevel.SPACE_FILLING, lambda: "a point"),
            (SuggestionLevel.RANDOM, lambda: "any"),
        ]
    )

    assert (found.level, found.result) == (SuggestionLevel.SPACE_FILLING, "a point")
    assert found.reason == "model: LinAlgError: singular; isotropic: OutOfTime: it is late"


def test_the_first_that_works_is_taken_without_a_reason() -> None:
    found = first_result(
        [(SuggestionLevel.MODEL, lambda: "a model"), (SuggestionLevel.RANDOM, lambda: "any")]
    )

    assert (found.level, found.result, found.reason) == (SuggestionLevel.MODEL, "a model", None)


def test_what_the_last_one_raises_is_not_hidden() -> None:
    def broken() -> str:
        raise KeyError("x")

    with pytest.raises(KeyError):
        first_result([(SuggestionLevel.MODEL, broken), (SuggestionLevel.RANDOM, broken)])

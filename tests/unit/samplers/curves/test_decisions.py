"""What a slot is worth most for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from tests.unit.samplers.curves.studies import GROUPS, power_law, study

from studyflow.samplers.curves.decisions import OptionKind, Slots, fill_slot, judge_running
from studyflow.samplers.curves.improvement import NewTrialImprovement, believing
from studyflow.samplers.curves.model import CurveModel, model_of, new_trials
from studyflow.samplers.curves.reports import LearningCurves, read_curves

pytestmark = pytest.mark.usefixtures("one_thread")

CANDIDATES = np.random.default_rng(9).random((64, 3))


def crowd(ends: list[float], known: list[int], steps: int = 27) -> LearningCurves:
    """Return losses that fall to `ends`, of which `known` steps were reported; all steps: ended."""
    features = np.random.default_rng(0).random((len(ends), 3))
    features[:, 0] = np.array(ends)
    return read_curves(
        features,
        GROUPS,
        [
            {step: power_law(end, step) for step in range(1, last + 1)}
            for end, last in zip(ends, known, strict=True)
        ],
        [
            power_law(end, steps) if last == steps else None
            for end, last in zip(ends, known, strict=True)
        ],
        steps=steps,
        maximize=False,
    )


def fitted(curves: LearningCurves) -> CurveModel:
    model = model_of(curves)
    assert model is not None
    return model


def slots(
    curves: LearningCurves,
    known: list[int],
    *,
    running: list[int],
    paused: list[int],
    restart: float = 1.0,
    may_start: bool = True,
) -> Slots:
    return Slots(
        np.array(running, dtype=np.int64),
        np.array(paused, dtype=np.int64),
        np.array(known),
        step_seconds=1.0,
        restart_seconds=restart,
        candidates=CANDIDATES if may_start else CANDIDATES[:0],
    )


ENDS = [0.5, 0.6, 0.7, 0.55, 0.9, 0.1, 0.8, 0.85]
KNOWN = [27, 27, 27, 27, 8, 8, 8, 8]


def test_a_free_slot_goes_to_the_paused_trial_that_promises_most() -> None:
    curves = crowd(ENDS, KNOWN)

    judgement = fill_slot(
        fitted(curves), slots(curves, KNOWN, running=[], paused=[4, 5, 6, 7], may_start=False)
    )

    assert judgement.chosen is not None
    assert (judgement.chosen.kind, judgement.chosen.trial) == (OptionKind.RESUME, 5)
    assert len(judgement.options) == 4


def test_a_running_trial_that_promises_little_is_worth_less_than_a_good_one_that_waits() -> None:
    curves = crowd(ENDS, KNOWN)
    model = fitted(curves)

    bad = judge_running(model, slots(curves, KNOWN, running=[4], paused=[5, 6]), 4)
    good = judge_running(model, slots(curves, KNOWN, running=[5], paused=[4, 6]), 5)

    assert bad.chosen is not None
    assert bad.chosen.kind is not OptionKind.GO_ON
    assert good.chosen is not None
    assert good.chosen.kind is OptionKind.GO_ON


def test_a_restart_is_paid_by_paused_and_new_trials_alone() -> None:
    curves = crowd(ENDS, KNOWN)
    model = fitted(curves)

    def seconds(restart: float) -> dict[OptionKind, float]:
        found = judge_running(
            model, slots(curves, KNOWN, running=[5], paused=[4], restart=restart), 5
        )
        return {option.kind: option.seconds for option in found.options}

    assert seconds(5.0) == {
        OptionKind.GO_ON: 19.0,
        OptionKind.RESUME: 24.0,
        OptionKind.START: 32.0,
    }


def test_what_another_running_trial_promises_is_what_must_be_improved_on() -> None:
    curves = crowd(ENDS, KNOWN)
    model = fitted(curves)

    alone = fill_slot(model, slots(curves, KNOWN, running=[], paused=[4]))
    beside = fill_slot(model, slots(curves, KNOWN, running=[5], paused=[4]))

    assert alone.options[0].incumbent < beside.options[0].incumbent
    assert alone.options[-1].improvement > beside.options[-1].improvement


def test_a_new_trial_must_improve_on_what_the_paused_ones_promise() -> None:
    curves = crowd(ENDS, KNOWN)

    found = fill_slot(fitted(curves), slots(curves, KNOWN, running=[], paused=[5]))

    incumbents = {option.kind: option.incumbent for option in found.options}
    assert incumbents[OptionKind.START] > incumbents[OptionKind.RESUME]


def test_a_lost_trial_has_no_option_of_its_own() -> None:
    curves = crowd([*ENDS[:-1], 1e6], KNOWN)

    found = judge_running(fitted(curves), slots(curves, KNOWN, running=[7], paused=[5, 7]), 7)

    assert {option.trial for option in found.options} == {5, None}


def test_the_first_slots_go_to_new_trials() -> None:
    curves = crowd(ENDS[1:6], KNOWN[1:6])

    found = fill_slot(fitted(curves), slots(curves, KNOWN[1:6], running=[], paused=[3, 4]))

    assert found.chosen is not None
    assert found.chosen.kind is OptionKind.START


def test_nothing_is_chosen_where_there_is_nothing() -> None:
    curves = crowd(ENDS, KNOWN)

    found = fill_slot(
        fitted(curves), slots(curves, KNOWN, running=[4, 5], paused=[], may_start=False)
    )

    assert found.chosen is None


def test_the_gradient_of_a_new_trials_improvement_is_that_of_finite_differences() -> None:
    model = believing(fitted(study()), np.array([5, 6]))
    acquisition = NewTrialImprovement(model, incumbent=0.5)

    _, gradient = acquisition.value_and_gradient(CANDIDATES[:4])

    for point, found in zip(CANDIDATES[:4], gradient, strict=True):
        expected = approx_fprime(point, lambda x: float(acquisition.value(x[None])[0]), 1e-6)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_what_is_believed_of_a_running_trial_makes_its_neighbourhood_certain() -> None:
    model = fitted(study())
    near = new_trials(model.curves.features[[8]])

    _, before = model.posterior(near)
    _, after = believing(model, np.array([8])).posterior(near)

    assert after[0] < before[0]

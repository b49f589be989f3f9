from __future__ import annotations

import math
import random
import struct
import sys
from dataclasses import replace

import pytest
from matplotlib.figure import Figure

from studyflow.reports import Omitted, StudyData, style, surrogate
from studyflow.reports.figures import FIGURES
from studyflow.reports.figures.convergence import hypervolume, running_best
from studyflow.reports.figures.importances import parameter_importances
from studyflow.reports.objective_scale import ObjectiveScale
from studyflow.trial.record import TrialState

from .studies import CNN, CONDITIONAL, SMALL, STUDIES, TWO, everything, make_spec, make_study

IMPORTANCES = sys.modules["studyflow.reports.figures.importances"]


@pytest.mark.slow
@pytest.mark.parametrize("name", list(FIGURES))
def test_every_study_gets_the_figure_or_a_reason(name: str, study: StudyData) -> None:
    figure = FIGURES[name].draw(study)
    if isinstance(figure, Omitted):
        assert len(figure.reason.split()) > 3
        return
    assert isinstance(figure, Figure)
    assert len(str(figure.get_label())) > 20, "no words for those who cannot see it"
    png = style.png(figure)
    width, height = struct.unpack(">II", png[16:24])
    assert 500 < width < 2000
    assert 150 < height < 2600


def test_the_same_study_gives_the_same_bytes() -> None:
    first, second = (
        style.png(figure)
        for _ in range(2)
        if isinstance(
            figure := FIGURES["partial_dependence"].draw(STUDIES["conditional"]()), Figure
        )
    )
    assert first == second


def test_the_title_of_the_convergence_says_the_answer() -> None:
    figure = FIGURES["convergence"].draw(make_study(make_spec(CNN), 1, lambda p: (0.0421,)))
    assert isinstance(figure, Figure)
    assert figure.texts[0].get_text() == "Lowest val_loss: 0.0421, at trial 0"


def test_the_running_best_follows_the_direction() -> None:
    spec = make_spec(
        {"x": {"type": "float", "low": 0.0, "high": 1.0}},
        objectives=[{"metric": "accuracy", "direction": "maximize"}],
    )
    values = iter([0.5, 0.4, 0.9, 0.7])
    data = make_study(spec, 4, lambda p: (next(values),), end=everything(TrialState.COMPLETE))
    assert running_best(data) == ([0, 1, 2, 3], [0.5, 0.5, 0.9, 0.9])


def test_the_hypervolume_is_that_of_the_scaled_box() -> None:
    spec = make_spec({"x": {"type": "float", "low": 0.0, "high": 1.0}}, objectives=TWO)
    points = iter([(1.0, 0.0), (0.5, 5.0), (0.0, 10.0)])
    data = make_study(spec, 3, lambda p: next(points), end=everything(TrialState.COMPLETE))
    assert hypervolume(data) == ([0, 1, 2], [0.0, 0.25, 1.0])


def test_importances_add_up_to_one_and_know_conditional_parameters() -> None:
    found = parameter_importances(make_study(make_spec(CONDITIONAL), 40))
    assert not isinstance(found, Omitted)
    assert set(found) == {"lr", "optimizer", "momentum"}
    assert sum(found.values()) == pytest.approx(1.0)


def test_importances_name_the_parameter_that_matters() -> None:
    data = make_study(make_spec(CNN), 40, lambda p: (p["dropout"] ** 2,))
    found = parameter_importances(data)
    assert not isinstance(found, Omitted)
    assert next(iter(found)) == "dropout"
    assert surrogate.main_effects(data, 0)["dropout"] > 0.9


def test_the_surrogate_finds_the_bottom_of_a_bowl() -> None:
    data = make_study(make_spec(CNN), 40, lambda p: ((p["dropout"] - 0.3) ** 2,))
    model, _ = surrogate.fitted(data, 0)
    grid = surrogate.grid(data.space["dropout"])
    curve = model.dependence([list(data.space).index("dropout")], [grid])
    assert grid[curve.argmin()] == pytest.approx(0.5, abs=0.05)
    assert model.explained > 0.9


def test_a_far_outlier_does_not_squeeze_the_axis() -> None:
    scale = ObjectiveScale([-1.0, -2.0, -1.5, -1.2, -1.7, 1e9], "minimize")
    assert scale.high < 0
    assert scale.is_outside(1e9)


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize("far", [1e3, 1e40, 1e172, 1.7e308])
def test_one_outlier_on_the_bad_side_stretches_no_axis(direction: str, far: float) -> None:
    sign = 1.0 if direction == "minimize" else -1.0
    scale = ObjectiveScale([0.5, 0.4, 0.3, 0.2, 0.45, sign * far], direction)
    assert scale.low < 0.2
    assert scale.is_outside(sign * far)
    assert scale.high < 1e4


@pytest.mark.parametrize(
    "values",
    [
        [1.7e308, -1.7e308],
        [1e300],
        [5e-324],
        [5e-324, 1e-320],
        [1.0, 1.0 + 2**-52],
        [1e-190, 1.0, 1e190],
        [1e-99, 1e99] * 3,
        [-1e99, 1e99] * 3,
    ],
)
def test_every_axis_has_finite_ends_apart_and_ticks_between(values: list[float]) -> None:
    for direction in ("minimize", "maximize"):
        scale = ObjectiveScale(values, direction)
        assert -math.inf < scale.low < scale.high < math.inf
        assert all(0.0 <= scale.unit(value) <= 1.0 for value in values)
        assert all(math.isfinite(scale.clip(value)) for value in values)
        assert all(scale.low <= place <= scale.high for place in scale.ticks())


def curves(diverging: dict[int, list[float]]) -> StudyData:
    data = make_study(make_spec(SMALL), 14)
    calm = [0.3 + 2.0 * math.exp(-step / 4) for step in range(15)]
    return StudyData(
        data.spec,
        tuple(
            replace(r, intermediate=dict(enumerate(diverging.get(r.number, calm))))
            for r in data.records
        ),
    )


@pytest.mark.parametrize(
    "diverging",
    [
        {3: [10.0 ** (12 * step) for step in range(15)]},
        {3: [0.5, 1e172, 1e172], 4: [1.0, 1e3, 1e6, 1e9]},
        {3: [0.5, 1.7e308, -1.7e308, math.inf, math.nan]},
        {6: [0.5, 1e5, 1e7], 13: [0.5, 1e5, 1e7], 3: [1e4, 1e5, 1e6]},  # two of them failed
    ],
)
def test_a_curve_that_diverged_flattens_no_other_and_the_figure_says_so(
    diverging: dict[int, list[float]],
) -> None:
    figure = FIGURES["intermediate_values"].draw(curves(diverging))
    assert isinstance(figure, Figure)
    low, high = figure.axes[0].get_ylim()
    assert -1.0 < low < 0.4
    assert 2.3 < high < 4.0
    n = len(diverging)
    said = f"{n} curve{'s go' if n > 1 else ' goes'} beyond the axis (arrows)"
    assert said in figure.texts[1].get_text()
    assert "beyond the axis" in str(figure.get_label())
    style.png(figure)


def test_curves_that_stay_together_are_drawn_whole() -> None:
    figure = FIGURES["intermediate_values"].draw(curves({}))
    assert isinstance(figure, Figure)
    assert "beyond" not in figure.texts[1].get_text()


def test_two_opinions_that_differ_are_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_study(make_spec(SMALL), 14, lambda p: (p["dropout"] ** 2,))
    for effects, title in (
        ({"learning_rate": 0.9, "dropout": 0.1}, "do not tell which parameter matters most"),
        ({"learning_rate": 0.1, "dropout": 0.9}, "dropout explains"),
    ):
        monkeypatch.setattr(IMPORTANCES, "_second_opinion", lambda _, e=effects: e)
        figure = FIGURES["importances"].draw(data)
        assert isinstance(figure, Figure)
        heading, note = figure.texts[0].get_text(), figure.texts[1].get_text()
        assert title in heading
        assert ("they disagree: fANOVA puts dropout first" in note) is ("not tell" in heading)


@pytest.mark.parametrize(("count", "is_told"), [(14, False), (60, True)])
def test_without_a_second_opinion_few_trials_name_no_parameter(
    monkeypatch: pytest.MonkeyPatch, count: int, is_told: bool
) -> None:
    monkeypatch.setattr(IMPORTANCES, "_second_opinion", lambda _: {})
    figure = FIGURES["importances"].draw(
        make_study(make_spec(SMALL), count, lambda p: (p["dropout"] ** 2,))
    )
    assert isinstance(figure, Figure)
    assert ("do not tell" not in figure.texts[0].get_text()) is is_told


def test_a_model_that_predicts_nothing_names_no_best_place() -> None:
    noise = random.Random(1)
    figure = FIGURES["partial_dependence"].draw(
        make_study(make_spec(SMALL), 14, lambda _: (noise.random(),))
    )
    assert isinstance(figure, Figure)
    assert figure.texts[0].get_text() == "10 trials do not tell where val_loss is lowest"
    assert "read with care" in figure.texts[1].get_text()


def test_values_over_decades_get_a_logarithmic_axis() -> None:
    assert ObjectiveScale([0.01, 0.1, 10.0], "minimize").is_log
    assert not ObjectiveScale([0.0, 0.1, 10.0], "minimize").is_log


def test_names_start_no_formula_and_become_no_boxes() -> None:
    assert style.label("$x$_y") == r"\$x\$_y"
    assert style.label("a\nb\x1b[31m") == "a b [31m"
    assert style.label("\U0001fbf9") == "<1FBF9>"
    assert style.label("x" * 40, 10) == "xxxxxxxxx…"


def test_long_names_keep_their_beginning_and_their_end() -> None:
    assert style.axis_name("parameter_number_27", 1.2) == "parame…ber_27"
    assert style.axis_name("short", 1.2) == "short"

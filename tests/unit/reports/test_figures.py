from __future__ import annotations

import struct

import pytest
from matplotlib.figure import Figure

from studyflow.record import TrialState
from studyflow.reports import Omitted, StudyData, style, surrogate
from studyflow.reports.figures import FIGURES
from studyflow.reports.figures.convergence import hypervolume, running_best
from studyflow.reports.figures.importances import parameter_importances
from studyflow.reports.style import ObjectiveScale

from .studies import CNN, CONDITIONAL, STUDIES, TWO, everything, make_spec, make_study


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

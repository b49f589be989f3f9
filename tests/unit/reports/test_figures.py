from __future__ import annotations

import math
import random
import re
import sys
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from studyflow.reports import Omitted, StudyData, surrogate, svg
from studyflow.reports.chart import Drawing, as_file
from studyflow.reports.figures import FIGURES
from studyflow.reports.figures.convergence import hypervolume, running_best
from studyflow.reports.figures.importances import parameter_importances
from studyflow.reports.objective_scale import ObjectiveScale
from studyflow.reports.ticks import linear_ticks
from studyflow.trial.record import TrialState

from .studies import CNN, CONDITIONAL, SMALL, STUDIES, TWO, everything, make_spec, make_study

IMPORTANCES = sys.modules["studyflow.reports.figures.importances"]


def draw(name: str, data: StudyData) -> Drawing:
    figure = FIGURES[name].draw(data)
    assert isinstance(figure, Drawing), figure
    return figure


@pytest.mark.slow
@pytest.mark.parametrize("name", list(FIGURES))
def test_every_study_gets_the_figure_or_a_reason(name: str, study: StudyData) -> None:
    figure = FIGURES[name].draw(study)
    if isinstance(figure, Omitted):
        assert len(figure.reason.split()) > 3
        return
    assert len(figure.alt) > 20, "no words for those who cannot see it"
    assert all(len(panel.alt) > 20 for panel in (*figure.panels, *figure.narrow))
    picture = ET.fromstring(as_file(figure))
    assert picture.tag == "{http://www.w3.org/2000/svg}svg"
    for element in picture.iter():
        for name in ("x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "height", "d"):
            assert "nan" not in element.get(name, "")
            assert "inf" not in element.get(name, "")


def test_the_same_study_gives_the_same_bytes() -> None:
    first, second = (as_file(draw("pairs", STUDIES["conditional"]())) for _ in range(2))
    assert first == second


def test_the_title_of_the_convergence_says_the_answer() -> None:
    figure = draw("convergence", make_study(make_spec(CNN), 1, lambda p: (0.0421,)))
    assert figure.title == "Lowest val_loss: 0.0421, at trial 0"


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
    figure = draw("intermediate_values", curves(diverging))
    labels = re.findall(r'class="tick" [^>]*text-anchor="end">([^<]+)<', figure.panels[0].html)
    assert labels == ["0.5", "1", "1.5", "2"], "the axis is that of the calm curves"
    n = len(diverging)
    said = f"{n} curve{'s go' if n > 1 else ' goes'} beyond the axis (arrows)"
    assert said in figure.note
    assert "beyond the axis" in figure.alt


def test_curves_that_stay_together_are_drawn_whole() -> None:
    assert "beyond" not in draw("intermediate_values", curves({})).note


def test_two_opinions_that_differ_are_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_study(make_spec(SMALL), 14, lambda p: (p["dropout"] ** 2,))
    for effects, title in (
        ({"learning_rate": 0.9, "dropout": 0.1}, "do not tell which parameter matters most"),
        ({"learning_rate": 0.1, "dropout": 0.9}, "dropout explains"),
    ):
        monkeypatch.setattr(IMPORTANCES, "_second_opinion", lambda _, e=effects: e)
        figure = draw("importances", data)
        heading, note = figure.title, figure.note
        assert title in heading
        assert ("they disagree: fANOVA puts dropout first" in note) is ("not tell" in heading)


@pytest.mark.parametrize(("count", "is_told"), [(14, False), (60, True)])
def test_without_a_second_opinion_few_trials_name_no_parameter(
    monkeypatch: pytest.MonkeyPatch, count: int, is_told: bool
) -> None:
    monkeypatch.setattr(IMPORTANCES, "_second_opinion", lambda _: {})
    data = make_study(make_spec(SMALL), count, lambda p: (p["dropout"] ** 2,))
    assert ("do not tell" not in draw("importances", data).title) is is_told


def test_a_model_that_predicts_nothing_names_no_best_place() -> None:
    noise = random.Random(1)
    data = make_study(make_spec(SMALL), 14, lambda _: (noise.random(),))
    figure = draw("partial_dependence", data)
    assert figure.title == "10 trials do not tell where val_loss is lowest"
    assert "read with care" in figure.note


def test_values_over_decades_get_a_logarithmic_axis() -> None:
    assert ObjectiveScale([0.01, 0.1, 10.0], "minimize").is_log
    assert not ObjectiveScale([0.0, 0.1, 10.0], "minimize").is_log


def test_long_names_keep_their_beginning_and_their_end() -> None:
    assert svg.cut("parameter_number_27", 88) == "parame…ber_27"
    assert svg.cut("short", 88) == "short"


def test_names_are_text_on_one_line() -> None:
    assert svg.clean("a\nb\x1b[31m <b> \ud800") == "a b [31m &lt;b&gt;"


def test_three_objectives_have_a_hypervolume_too() -> None:
    three = [*TWO, {"metric": "size", "direction": "minimize"}]
    spec = make_spec({"x": {"type": "float", "low": 0.0, "high": 1.0}}, objectives=three)
    points = iter([(1.0, 0.0, 1.0), (0.5, 5.0, 0.5), (0.0, 10.0, 0.75), (1.0, 0.0, 0.0)])
    data = make_study(spec, 4, lambda p: next(points), end=everything(TrialState.COMPLETE))
    # Half the box in each direction; then a slab of a quarter below it.
    assert hypervolume(data) == ([0, 1, 2, 3], [0.0, 0.125, 0.3125, 0.3125])


def test_a_trial_without_a_conditional_parameter_crosses_its_axis_at_absent() -> None:
    data = make_study(make_spec(CONDITIONAL), 30)
    panel = draw("parallel_coordinates", data).panels[0].html
    units = [found.split(",") for found in re.findall(r'data-u="([^"]+)"', panel)]
    without = sum("momentum" not in r.params for r in data.complete)
    assert 0 < without < len(data.complete)
    assert sum(float(places[2]) < -0.1 for places in units) == without
    assert all(len(places) == 4 for places in units), "no line breaks"
    assert ">absent<" in panel


def test_parameters_of_a_branch_stand_together_under_its_name() -> None:
    groups = draw("slices", make_study(make_spec(CONDITIONAL), 30)).groups
    assert [(name, len(panels)) for name, panels in groups] == [("", 2), ("optimizer = sgd", 1)]


def test_parameters_that_never_meet_are_no_pair() -> None:
    apart = {"when": {"optimizer": "adam"}, "type": "float", "low": 0.1, "high": 0.9}
    data = make_study(make_spec({**CONDITIONAL, "beta": apart}), 30)
    names = [panel.name for panel in draw("pairs", data).panels]
    assert len(names) == 5
    assert not any("momentum" in name and "beta" in name for name in names)
    assert "lr and beta (optimizer = adam)" in names


def test_values_beyond_an_axis_are_arrows_at_its_edge_and_counted() -> None:
    data = make_study(
        make_spec(SMALL), 20, lambda p: (1e300 if p["batch_size"] > 96 else p["dropout"],)
    )
    figure = draw("convergence", data)
    beyond = sum(data.value(r, 0) == 1e300 for r in data.complete)
    assert f"{beyond} trials lie beyond the axis (arrows)" in figure.note
    assert figure.panels[0].html.count('class="complete beyond"') == beyond


def test_the_importances_say_where_the_better_values_lie() -> None:
    data = make_study(make_spec(SMALL), 40, lambda p: (p["dropout"] ** 2,))
    assert ">lower is better</text>" in draw("importances", data).panels[0].html


def test_good_values_are_told_by_wall_time_and_by_what_was_spent() -> None:
    data = make_study(make_spec(SMALL), 30)
    figure = draw("progress", data)
    assert figure.title.startswith("The best value came after ")
    assert figure.title.endswith(" slot-hours")
    assert len(figure.panels) == 3


def test_words_of_a_study_are_no_elements_of_a_picture() -> None:
    for name in FIGURES:
        figure = FIGURES[name].draw(STUDIES["hostile"]())
        if isinstance(figure, Drawing):
            text = as_file(figure)
            assert "<b>" not in text
            assert "<img" not in text


@pytest.mark.parametrize(
    ("low", "high", "most", "ticks"),
    [
        (0.0, 1.0, 6, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (3.0, 3.4, 4, [3.0, 3.2, 3.4]),
        (-1e99, 1e99, 3, [-1e99, 0.0, 1e99]),
        (1.0, 1.0 + 2**-40, 4, [1.0, 1.0 + 2**-40]),
    ],
)
def test_ticks_are_round(low: float, high: float, most: int, ticks: list[float]) -> None:
    assert linear_ticks(low, high, most) == ticks


def test_ticks_of_whole_numbers_are_whole() -> None:
    assert linear_ticks(0, 7, 30, whole=True) == [0, 1, 2, 3, 4, 5, 6, 7]
    assert linear_ticks(0, 29, 10, whole=True) == [0, 5, 10, 15, 20, 25]


def test_of_many_trials_a_pair_is_one_path_and_its_best_a_mark() -> None:
    data = make_study(make_spec(SMALL), 400)
    for panel in draw("pairs", data).panels:
        assert panel.html.count('class="many ink"') == 1
        assert panel.html.count("data-n=") == len(data.best)

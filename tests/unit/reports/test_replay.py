"""The search as pictures, one before each suggestion of the model."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from tests.unit.study.studies import make_spec

from studyflow.reports import Omitted, StudyData, build_report
from studyflow.reports import replay as module
from studyflow.reports.replay import Replay, replay
from studyflow.samplers import make_pruner, make_sampler
from studyflow.study import Study, judge
from studyflow.trial import Cause, Outcome

FLOAT = {"type": "float", "low": -2.0, "high": 2.0}
LOG = {"type": "float", "low": 1e-4, "high": 1.0, "log": True}
KIND = {"type": "categorical", "choices": ["adam", "sgd", "rmsprop"]}
BOTORCH = {"type": "botorch", "n_startup_trials": 4, "seed": 0}


def study(
    space: dict[str, Any],
    loss: Callable[[dict[str, Any]], float],
    n_trials: int,
    **changes: Any,
) -> StudyData:
    """Return a study that was run to a number of trials, one after another."""
    spec = make_spec(search_space=space, budget={"n_trials": 20}, **{"sampler": BOTORCH, **changes})
    opened = Study.open(
        spec,
        optuna.storages.InMemoryStorage(),
        make_sampler=lambda seed, n: make_sampler(spec, seed, n),
        pruner=make_pruner(spec),
    )
    metrics = [objective.metric for objective in spec.objectives]
    for _ in range(n_trials):
        asked = opened.ask()
        assert asked is not None
        value = loss(dict(asked.params))
        ended = Outcome(spec.name, asked.number, 1, Cause.OK, dict.fromkeys(metrics, value))
        opened.tell(asked.number, judge(spec, ended))
    return StudyData(spec, opened.records(), opened.optuna_study)


def drawn(data: StudyData) -> Replay:
    found = replay(data)
    assert isinstance(found, Replay), found
    return found


def test_there_is_a_picture_before_each_suggestion_of_the_model_and_one_at_the_end() -> None:
    data = study({"x": FLOAT, "lr": LOG}, lambda p: p["x"] ** 2 + math.log10(p["lr"]) ** 2, 7)
    found = drawn(data)
    first, *_, last = [frame.caption for frame in found.frames]
    assert len(found.frames) == 4
    assert first.startswith("Before trial 4: best ")
    assert " · expected there: " in first
    assert " · it gave " in first
    assert last.startswith("At the end: best ")
    assert "7 complete trials" in last
    assert len({frame.panels[0].html for frame in found.frames}) == 4
    assert len({frame.panels[0].canvas.height for frame in found.frames}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("parameter", [FLOAT, LOG, KIND, {"type": "int", "low": 1, "high": 9}])
def test_one_parameter_of_any_kind_is_drawn(parameter: dict[str, Any]) -> None:
    data = study({"p": parameter}, lambda p: float(len(str(p["p"]))), 6)
    assert len(drawn(data).frames) == len([r for r in data.records if r.number >= 4]) + 1


def test_a_category_beside_a_number_is_drawn() -> None:
    data = study({"kind": KIND, "lr": LOG}, lambda p: len(p["kind"]) + p["lr"], 5)
    assert len(drawn(data).frames) == 2


def test_a_parameter_with_a_single_value_does_not_count() -> None:
    single = {"type": "categorical", "choices": ["only"]}
    data = study({"x": FLOAT, "single": single}, lambda p: p["x"] ** 2, 5)
    assert len(drawn(data).frames) == 2


def test_a_trial_without_a_value_says_how_it_ended() -> None:
    data = study({"x": FLOAT}, lambda p: math.nan if p["x"] > 1.5 else -p["x"], 9)
    failed = [r.number for r in data.trials if r.values is None and r.number >= 4]
    assert failed, "the model runs into the edge"
    captions = {f.caption.split(":")[0]: f.caption for f in drawn(data).frames}
    assert captions[f"Before trial {failed[0]}"].endswith(" · it ended as failed.")


def test_of_many_suggestions_evenly_spaced_ones_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FRAMES", 4)
    data = study({"x": FLOAT}, lambda p: p["x"] ** 2, 11)
    starts = [frame.caption.split(":")[0] for frame in drawn(data).frames]
    assert starts == ["Before trial 4", "Before trial 7", "Before trial 10", "At the end"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"search_space": {"x": FLOAT, "y": FLOAT, "z": FLOAT}}, "the study has 3"),
        ({"sampler": {"type": "random", "seed": 0}}, "the sampler random has no such model"),
        ({"n_trials": 3}, "no trial was suggested by a model yet"),
        ({"objectives": ["loss", "size"]}, "one objective"),
    ],
)
def test_what_cannot_be_drawn_is_left_out_with_a_reason(
    changes: dict[str, Any], reason: str
) -> None:
    space = changes.pop("search_space", {"x": FLOAT})
    n_trials = changes.pop("n_trials", 5)
    if metrics := changes.pop("objectives", None):
        changes["objectives"] = [{"metric": m, "direction": "minimize"} for m in metrics]
    found = replay(study(space, lambda p: p["x"] ** 2, n_trials, **changes))
    assert isinstance(found, Omitted)
    assert reason in found.reason


def test_the_animation_has_every_picture_and_rests_at_the_end() -> None:
    found = drawn(study({"x": FLOAT}, lambda p: p["x"] ** 2, 6))
    text = found.animation()
    assert re.findall(r'class="(f(?: last)?)" style="animation-delay: ([0-9.]+)s"', text) == [
        ("f", "0.0"),
        ("f", "0.9"),
        ("f last", "1.8"),
    ]
    assert "one 5.8s step-end infinite" in text
    assert "prefers-reduced-motion" in text


@pytest.mark.slow
def test_the_report_holds_the_pictures_and_the_animation_and_shows_the_last(
    tmp_path: Path,
) -> None:
    data = study({"x": FLOAT}, lambda p: p["x"] ** 2, 6)
    report = build_report(data, tmp_path)
    assert report.animation == tmp_path / "figures" / "replay.svg"
    assert report.animation.read_text("utf-8").startswith("<svg ")
    _, _, rest = report.html.read_text("utf-8").partition('<figure id="replay">')
    section, _, _ = rest.partition("</figure>")
    assert section.count("data-frame=") == 3
    assert section.count(" hidden>") == 2
    assert section.rpartition("data-frame=")[2].startswith('"At the end')
    assert "base64" not in report.html.read_text("utf-8")


def test_a_report_of_another_study_has_none_and_removes_an_old_one(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "replay.gif").write_bytes(b"old")
    data = study({"x": FLOAT}, lambda p: p["x"] ** 2, 5, sampler={"type": "random", "seed": 0})
    report = build_report(data, tmp_path)
    assert report.animation is None
    assert not (tmp_path / "figures" / "replay.gif").exists()
    assert 'id="replay"' not in report.html.read_text("utf-8")
    assert "replay" not in report.omitted

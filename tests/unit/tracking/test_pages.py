"""Addresses of MLflow's pages, and the views of a study's trials that they show."""

from __future__ import annotations

import json
from typing import Any

from studyflow.tracking.pages import (
    VIEW_TAG,
    run_page,
    study_links,
    study_page,
    trials_page,
    views,
)
from studyflow.tracking.protocol import StudyCard

CARD = StudyCard("s", ("maximize",), ("accuracy",), "name: s\n", parameters=("lr", "a@b"))


def states(card: StudyCard) -> dict[str, Any]:
    saved = {key: json.loads(text) for key, text in views(card, "key", 5).items()}
    return {key: json.loads(view["state"]) for key, view in saved.items()}


def test_a_run_and_its_artifacts_are_shown_amid_the_pages_for_training() -> None:
    assert run_page("1", "r") == "#/experiments/1/runs/r?workflowType=machine_learning"
    assert run_page("1", "r", "a/report.html") == (
        "#/experiments/1/runs/r/artifacts/a/report.html?workflowType=machine_learning"
    )


def test_a_view_shows_the_studys_trials_best_first_with_what_was_tried() -> None:
    view = states(CARD)[VIEW_TAG + "key-best-first"]
    assert view == {
        "searchFilter": ("tags.`studyflow.role` = 'trial' and tags.`studyflow.study_key` = 'key'"),
        "orderByKey": "metrics.`accuracy`",
        "orderByAsc": False,
        "selectedColumns": [
            "metrics.`accuracy`",
            "params.`lr`",
            "params.`a_b-7508d8b5`",
            "tags.`studyflow.cause`",
        ],
    }


def test_another_view_shows_why_trials_failed() -> None:
    view = states(CARD)[VIEW_TAG + "key-failed"]
    assert view["searchFilter"].endswith(" and attributes.status = 'FAILED'")
    assert view["orderByKey"] == "tags.`studyflow.cause`"
    assert view["selectedColumns"][-2:] == ["tags.`studyflow.cause`", "tags.`studyflow.message`"]


def test_a_view_of_any_study_fits_into_a_tag_of_an_experiment() -> None:
    names = tuple(f"{i:03d}" + "x" * 300 for i in range(200))
    card = StudyCard("n" * 300, ("minimize",) * 200, names, "", parameters=names)
    assert all(len(text) <= 5000 for text in views(card, "k" * 32, 5).values())


def test_the_studys_run_links_to_its_trials_and_reports_wherever_the_server_is() -> None:
    assert study_links("1", "key", "r", ["report.html"]) == (
        "[Trials, best first](./#/experiments/1/runs?workflowType=machine_learning"
        "&viewStateShareKey=key-best-first)"
        " · [Failed trials](./#/experiments/1/runs?workflowType=machine_learning"
        "&viewStateShareKey=key-failed)"
        " · [Report](./#/experiments/1/runs/r/artifacts/report.html?workflowType=machine_learning)"
    )


def test_an_experiment_of_one_study_opens_with_its_best_trials_and_others_with_all_runs() -> None:
    tags = views(CARD, "key", 5)
    assert study_page("1", tags) == trials_page("1", "key-best-first")
    assert study_page("1", {}) == trials_page("1")
    assert study_page("1", {**tags, **views(CARD, "other", 5)}) == trials_page("1")

"""MLflow's pages of a study: their addresses, and the views of its trials. Pure functions.

By default MLflow's page lists an experiment's runs by age, without their parameters and metrics. A
view is a tag of the experiment that holds a filter, an order and columns: the page lists it under
"Views", and a link can name it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

from studyflow.tracking import keys
from studyflow.tracking.protocol import StudyCard

VIEW_TAG: Final = "mlflow.sharedViewState."
"""Beginning of a view's tag; the view's key follows."""

MOST_COLUMNS: Final = 12
"""Most objectives and parameters that a view shows: a screen holds no more, and a tag of an
experiment at most 5000 characters."""

_TRAINING: Final = "workflowType=machine_learning"
"""Without it MLflow shows a run among its pages for language models."""


def run_page(experiment_id: str, run_id: str, artifact: str | None = None) -> str:
    """Return the page of a run, or of one of its artifacts, relative to the server's address."""
    shown = "" if artifact is None else f"/artifacts/{keys.artifact_path(artifact)}"
    return f"#/experiments/{experiment_id}/runs/{run_id}{shown}?{_TRAINING}"


def trials_page(experiment_id: str, view: str | None = None) -> str:
    """Return the page that lists an experiment's runs, relative to the server's address.

    Args:
        experiment_id: MLflow's id of the experiment.
        view: Key of the view to show them in; `None` for MLflow's default.
    """
    shown = "" if view is None else f"&viewStateShareKey={view}"
    return f"#/experiments/{experiment_id}/runs?{_TRAINING}{shown}"


def study_page(experiment_id: str, tags: Mapping[str, str], study: str | None = None) -> str:
    """Return the page of an experiment's trials, best first, relative to the server's address.

    For an experiment of no study, or of several of which none is named, it is the page of all its
    runs.

    Args:
        experiment_id: MLflow's id of the experiment.
        tags: The experiment's tags.
        study: Name of the study to show, where the experiment holds others too, such as the
            repeats of its best trials.
    """
    own = None if study is None else _best_first(keys.digest_of(study))
    best = [key.removeprefix(VIEW_TAG) for key in tags if _is_best_first(key)]
    best = [key for key in best if key == own] or best
    return trials_page(experiment_id, best[0] if len(best) == 1 else None)


def views(card: StudyCard, study_key: str, now_ms: int) -> dict[str, str]:
    """Return the tags that give an experiment two views: all trials best first, and failed ones."""
    trials = f"tags.`studyflow.role` = 'trial' and tags.`studyflow.study_key` = '{study_key}'"
    metrics = [_column("metrics", name) for name in card.objectives]
    parameters = [_column("params", name) for name in card.parameters]
    cause = _column("tags", "studyflow.cause")
    best_first = {
        "searchFilter": trials,
        "orderByKey": metrics[0],
        "orderByAsc": card.directions[0] == "minimize",
        "selectedColumns": [*[*metrics, *parameters][:MOST_COLUMNS], cause],
    }
    failed = {
        "searchFilter": f"{trials} and attributes.status = 'FAILED'",
        "orderByKey": cause,  # by age, MLflow would fold them away below the study's run
        "orderByAsc": True,
        "selectedColumns": [
            *parameters[:MOST_COLUMNS],
            cause,
            _column("tags", "studyflow.message"),
        ],
    }
    name = card.name[:60]
    return {
        VIEW_TAG + _best_first(study_key): _view(f"{name}: best trials first", best_first, now_ms),
        VIEW_TAG + _failed(study_key): _view(f"{name}: failed trials", failed, now_ms),
    }


def study_links(experiment_id: str, study_key: str, run_id: str, reports: Sequence[str]) -> str:
    """Return links from the study's run to its trials and reports, as one line of Markdown.

    They are relative, so they work by any address of the server.
    """
    links = {
        "Trials, best first": trials_page(experiment_id, _best_first(study_key)),
        "Failed trials": trials_page(experiment_id, _failed(study_key)),
        **{
            name.removesuffix(".html").capitalize(): run_page(experiment_id, run_id, name)
            for name in reports
        },
    }
    return " · ".join(f"[{title}](./{page})" for title, page in links.items())


def _best_first(study_key: str) -> str:
    return f"{study_key}-best-first"


def _failed(study_key: str) -> str:
    return f"{study_key}-failed"


def _is_best_first(tag: str) -> bool:
    return tag.startswith(VIEW_TAG) and tag.endswith(_best_first(""))


def _column(kind: str, name: str) -> str:
    return f"{kind}.`{keys.key_for(name)}`"


def _view(name: str, state: Mapping[str, object], now_ms: int) -> str:
    """Return a view as MLflow's page writes and reads it."""
    saved = {"name": name, "createdAt": now_ms, "updatedAt": now_ms, "state": _json(state)}
    return _json(saved)


def _json(value: Mapping[str, object]) -> str:
    return json.dumps(value, ensure_ascii=False)

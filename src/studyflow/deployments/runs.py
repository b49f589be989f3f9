"""Which study one run of a deployment is about: the same each time, or a new one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

import optuna

from studyflow.spec import StudySpec
from studyflow.study import find_study, load_records, study_names
from studyflow.study.allowance import trials_to_reach

EachRun = Literal["finish", "continue", "fresh", "warm"]
"""What a run does: `finish` takes the study to its budget, `continue` adds the budget's trials to
it, `fresh` makes a new study, named with the date, and `warm` one that takes over the trials of the
last one."""

_DATE: Final = "%Y-%m-%d-%H%M%S"
_DATED: Final = re.compile(r"-\d{4}-\d{2}-\d{2}-\d{6}")


@dataclass(frozen=True, slots=True)
class Occasion:
    """One run of a deployment; equal for the process that replaces a killed one."""

    run: str
    """Id of the run."""
    due: datetime
    """When it was to start."""


def study_name(name: str, each_run: EachRun, due: datetime) -> str:
    """Return the name of the study that a run is about.

    Names of new studies end with the time (UTC) that their run was due, so that they sort by it.
    """
    if each_run in ("fresh", "warm"):
        return f"{name}-{due.astimezone(UTC).strftime(_DATE)}"
    return name


def study_of_run(
    spec: StudySpec,
    each_run: EachRun,
    occasion: Occasion,
    storage: optuna.storages.BaseStorage,
) -> tuple[StudySpec, str | None]:
    """Return the study that a run is about, and the one whose trials it takes over, if any.

    Args:
        spec: The study file.
        each_run: What a run does.
        occasion: The run.
        storage: Where studies are kept.

    Raises:
        SpecError: The study's name is too long to carry a date.
    """
    document = spec.model_dump(mode="json", exclude_unset=True)
    if each_run == "finish":
        return spec, None
    if each_run == "continue":
        document["budget"]["n_trials"] = trials_to_reach(spec, storage, occasion.run)
        return StudySpec.from_mapping(document), None
    document["name"] = study_name(spec.name, each_run, occasion.due)
    renamed = StudySpec.from_mapping(document)
    return renamed, _last_study(spec.name, renamed.name, storage) if each_run == "warm" else None


def _last_study(name: str, before: str, storage: optuna.storages.BaseStorage) -> str | None:
    """Return the newest study of this name with a finished trial, at last the undated one."""
    for candidate in _candidates(name, before, study_names(storage)):
        _, records = load_records(find_study(candidate, storage))
        if any(record.state.is_finished for record in records):
            return candidate
    return None


def _candidates(name: str, before: str, names: tuple[str, ...]) -> Iterator[str]:
    dated = (n for n in names if n.startswith(name) and _DATED.fullmatch(n.removeprefix(name)))
    yield from sorted((n for n in dated if n < before), reverse=True)
    if name in names:
        yield name

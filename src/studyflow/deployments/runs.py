"""The study that one run of a deployment is about: the same each time, or a new one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Final, Literal

import optuna

from studyflow.spec import StudySpec, fixed_moment
from studyflow.study import find_study, load_records, study_names
from studyflow.study.run_budget import trials_to_reach

EachRun = Literal["finish", "continue", "fresh", "warm"]
"""What a run does: `finish` runs the study to its budget, `continue` runs the budget once more on
the same study, `fresh` makes a new study, named with the date, and `warm` makes a new study that
takes over the trials of the last one."""

_DATE: Final = "%Y-%m-%d-%H%M%S"
_DATED: Final = re.compile(r"-\d{4}-\d{2}-\d{2}-\d{6}")


@dataclass(frozen=True, slots=True)
class DeploymentRun:
    """One run of a deployment.

    A process that replaces a killed one gets the same values.
    """

    id: str
    """Id of the flow run."""
    due: datetime
    """When the run was scheduled to start."""
    is_deployed: bool = True
    """Whether a deployment made the run, not a person who called the flow."""


def study_name(name: str, each_run: EachRun, due: datetime) -> str:
    """Return the name of the study that a run is about.

    The name of a new study ends with the time (UTC) at which its run was due: names sort by time.
    """
    if each_run in ("fresh", "warm"):
        return f"{name}-{due.astimezone(UTC).strftime(_DATE)}"
    return name


def finished_in_time(spec: StudySpec, run: DeploymentRun, zone: tzinfo | None = None) -> StudySpec:
    """Return the study with `budget.finish_by` as the moment at which this run is to be over.

    A time of day is the next one after the run was due, so each night's run has its own; a process
    that replaces a killed one has the same. What no deployment runs keeps the time as it is.

    Args:
        spec: The study file.
        run: The run.
        zone: Zone of a time of day; `None` for this machine's.
    """
    text = spec.budget.finish_by
    if text is None or not run.is_deployed:
        return spec
    document = spec.model_dump(mode="json", exclude_unset=True)
    document["budget"]["finish_by"] = fixed_moment(text, run.due.timestamp(), zone)
    return StudySpec.from_mapping(document)


def study_of_run(
    spec: StudySpec,
    each_run: EachRun,
    run: DeploymentRun,
    storage: optuna.storages.BaseStorage,
) -> tuple[StudySpec, str | None]:
    """Return the study that a run is about, and the one whose trials it takes over, if any.

    Args:
        spec: The study file.
        each_run: What a run does.
        run: The run.
        storage: Where studies are kept.

    Raises:
        SpecError: The study's name is too long to carry a date.
    """
    document = spec.model_dump(mode="json", exclude_unset=True)
    if each_run == "finish":
        return spec, None
    if each_run == "continue":
        document["budget"]["n_trials"] = trials_to_reach(spec, storage, run.id)
        return StudySpec.from_mapping(document), None
    document["name"] = study_name(spec.name, each_run, run.due)
    renamed = StudySpec.from_mapping(document)
    return renamed, _last_study(spec.name, renamed.name, storage) if each_run == "warm" else None


def _last_study(name: str, before: str, storage: optuna.storages.BaseStorage) -> str | None:
    """Return the newest study of this name with a finished trial; the undated one comes last."""
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

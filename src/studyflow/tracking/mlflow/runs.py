"""The runs of one study: found by their tags, created, and replaced when somebody deleted them.

No process has to remember an id. A run is searched for before it is created, and of several runs
for one trial the most complete is used. A call that MLflow refuses is made once more if the run, or
its experiment, was deleted meanwhile.
"""

from __future__ import annotations

import dataclasses
import enum
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from studyflow.errors import TrackingError, TrackingUnavailable
from studyflow.tracking.mlflow import documents, origin
from studyflow.tracking.mlflow.client import NOT_FOUND, Accepting, Connection
from studyflow.tracking.mlflow.documents import (
    PARENT_TAG,
    SYNCED_TAG,
    TAG_LIMIT_CHARS,
    Synced,
    TrackedStudy,
    bounded,
    bounded_name,
    milliseconds,
)
from studyflow.tracking.mlflow.experiment import Experiment
from studyflow.tracking.mlflow.search import Role, RunSearch
from studyflow.trial.record import TrialRecord

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class TrialRun:
    """The run of a trial."""

    run_id: str
    is_new: bool = False
    """Whether this process created it for this attempt, with the trial's tags and running, and
    nothing has changed that since."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """What decides whether a run is used for its trial: no more is kept of thousands of runs."""

    run_id: str
    start_ms: int
    is_open: bool
    is_final: bool
    has_metrics: bool
    has_params: bool

    @classmethod
    def of(cls, run: Any) -> Candidate:
        """Return what decides about one of MLflow's runs."""
        synced = run.data.tags.get(SYNCED_TAG)
        return cls(
            str(run.info.run_id),
            run.info.start_time or 0,
            is_open=synced == Synced.OPEN,
            is_final=synced == Synced.FINAL,
            has_metrics=bool(run.data.metrics),
            has_params=bool(run.data.params),
        )

    @property
    def is_empty(self) -> bool:
        """Whether it can be deleted beside another: nothing was ever logged to it."""
        return self.is_open and not self.has_metrics


def ranked(candidates: Iterable[Candidate], known: str | None) -> list[Candidate]:
    """Return runs for one trial, the one to use first.

    Args:
        candidates: Runs that name the trial.
        known: The run that this process uses already; `None` when it uses none.
    """
    return sorted(
        candidates,
        key=lambda run: (
            run.run_id != known,
            not run.is_final,
            not run.has_metrics,
            not run.has_params,
            run.start_ms,
            run.run_id,
        ),
    )


class _Refused(enum.Enum):
    """What became of a run that was refused a call."""

    ACTIVE = "active"
    """The run is fine: the refusal was about something else."""
    REVIVED = "revived"
    """It was deleted with its experiment, and is back with it."""
    GONE = "gone"
    """Somebody deleted it."""


class StudyRuns:
    """The study's own run, the parent, and one child run for each trial.

    Every method raises `TrackingUnavailable` when MLflow does not answer in time and
    `TrackingError` when it refuses.

    Args:
        mlflow: Where the runs are.
        experiment: Holds them.
        search: Finds them.
        study: The study.
    """

    def __init__(
        self, mlflow: Connection, experiment: Experiment, search: RunSearch, study: TrackedStudy
    ) -> None:
        self._mlflow = mlflow
        self._experiment = experiment
        self._search = search
        self._study = study
        self._lock = threading.RLock()
        """Guards what is known, and is held while the study's own run is searched for or created,
        so that two threads create one. About one trial only one thread writes at a time, so that
        trials' runs are created side by side."""
        self._parent_id: str | None = None
        self._trial_ids: dict[int, str] = {}
        self._fresh: dict[str, int] = {}
        """Runs that this process created and nothing has changed since, with the attempt."""
        self._listed_at: float | None = None
        """When all trials' runs were last searched for, in seconds since the epoch: a trial that
        was asked for later has none yet."""
        self._doubtful: set[int] = set()
        """Trials whose run may be there all the same: the answer to its creation was lost."""

    # What is known

    @property
    def parent_id(self) -> str | None:
        """Id of the study's run, if this process has found it; nothing is contacted."""
        return self._parent_id

    def known_trial(self, record: TrialRecord) -> str | None:
        """Return the id of a trial's run, if it is known; nothing is contacted."""
        return self._trial_ids.get(record.number) or record.run_id

    def forget(self) -> None:
        """Forget all ids; the next use finds them again."""
        with self._lock:
            self._parent_id = None
            self._listed_at = None
            self._trial_ids.clear()
            self._fresh.clear()
            self._experiment.forget()

    def note_shown(self, run_id: str) -> None:
        """Take note that a trial's run shows more than it was created with."""
        self._fresh.pop(run_id, None)

    # The study's run

    def find_parent(self) -> str | None:
        """Return the id of the study's run; `None` when there is none."""
        with self._lock:
            experiment = self._experiment.find()
            if self._parent_id is None and experiment is not None:
                self._parent_id = self._first_parent(experiment)
            return self._parent_id

    def with_parent(self, act: Callable[[str], _T]) -> _T:
        """Return what `act` does with the study's run, which is created when it is missing.

        A run that somebody deleted meanwhile is replaced, and `act` is called once more.
        """
        run_id = self._parent()
        try:
            return act(run_id)
        except TrackingUnavailable:
            raise
        except TrackingError:
            refused = self._look_after(run_id)
            if refused is _Refused.ACTIVE:
                raise
        return act(run_id if refused is _Refused.REVIVED else self._replace_parent())

    def tags(self, role: Role) -> dict[str, str]:
        """Return the tags by which a run of ours is found and shown."""
        card = self._study.card
        tags = {
            "studyflow.study": self._study.name,
            "studyflow.study_key": self._study.key,
            "studyflow.role": role,
            "mlflow.user": origin.user_name(),
            "mlflow.source.name": (card.source if card else "") or "studyflow",
            "mlflow.source.type": "LOCAL",
        }
        commit = self.versions.get("git_commit")
        if commit:
            tags["mlflow.source.git.commit"] = commit
        return tags

    @cached_property
    def versions(self) -> Mapping[str, str]:
        """Versions of what is installed, and the commit of the working folder as `git_commit`."""
        commit = origin.git_commit()
        return origin.installed_versions() | ({"git_commit": commit} if commit else {})

    def _parent(self) -> str:
        with self._lock:
            if self._parent_id is None:
                experiment = self._experiment.find_or_create()
                self._parent_id = self._first_parent(experiment) or self._create_parent(experiment)
            return self._parent_id

    def _first_parent(self, experiment: str) -> str | None:
        run = next(self._search.of_study(experiment, "study"), None)
        return None if run is None else str(run.info.run_id)

    def _create_parent(self, experiment: str) -> str:
        began = time.time()
        created = self._new_parent()
        # Another runner of this study may have created one just now: the first is used.
        first = self._first_parent(experiment) or created
        if first != created:
            with self._mlflow.client() as client:
                client.delete_run(created)
        elif self._listed_at is None:
            self._listed_at = began  # a study without a run of its own has none of a trial
        return first

    def _replace_parent(self) -> str:
        """Create the study's run anew, with the trials' runs that are there below it."""
        with self._lock:
            self._parent_id = self._new_parent(instead_of=self._parent_id)
            experiment = self._experiment.find_or_create()
            for child in list(self._search.of_study(experiment, "trial")):
                with self._mlflow.client() as client:
                    client.set_tag(child.info.run_id, PARENT_TAG, self._parent_id)
            return self._parent_id

    def _new_parent(self, instead_of: str | None = None) -> str:
        tags = self.tags("study")
        if instead_of is not None:
            tags |= _recreated("The study", instead_of)
        return self._new_run(bounded_name(self._study.name), None, tags)

    # The trials' runs

    def find_trial(self, record: TrialRecord) -> str | None:
        """Return the id of a trial's run; `None` when there is none."""
        known = self.known_trial(record)
        if known is not None:
            return known
        experiment = self._experiment.find()
        if experiment is None:
            return None
        found = self._search.of_study(experiment, "trial", record.number)
        candidates = [Candidate.of(run) for run in found]
        if not candidates:
            return None
        with self._lock:
            self._trial_ids[record.number] = self._choose(record.number, candidates).run_id
            return self._trial_ids[record.number]

    def choose_all(self) -> dict[int, Candidate]:
        """Return the run to use for each trial that has one or more.

        Runs that a lost answer left behind empty beside the trial's real one are deleted.
        """
        experiment = self._experiment.find()
        if experiment is None:
            return {}
        began = time.time()
        # Thousands of runs take seconds, and a trial that starts meanwhile does not wait for them.
        candidates: dict[int, list[Candidate]] = {}
        for run in self._search.of_study(experiment, "trial"):
            number = run.data.tags.get("studyflow.trial", "")
            if number.isdecimal():
                candidates.setdefault(int(number), []).append(Candidate.of(run))
        with self._lock:
            chosen = {number: self._choose(number, runs) for number, runs in candidates.items()}
            self._trial_ids |= {number: run.run_id for number, run in chosen.items()}
            self._doubtful -= chosen.keys()
            self._listed_at = began
            return chosen

    def with_trial(self, record: TrialRecord, act: Callable[[TrialRun], _T]) -> _T:
        """Return what `act` does with the trial's run, which is created when it is missing.

        A run that somebody deleted meanwhile is replaced, and `act` is called once more.
        """
        run = self._find_or_create_trial(record)
        try:
            return act(run)
        except TrackingUnavailable:
            raise
        except TrackingError:
            refused = self._look_after(run.run_id)
            if refused is _Refused.ACTIVE:
                raise
        return act(run if refused is _Refused.REVIVED else self._replace_trial(record, run.run_id))

    def _find_or_create_trial(self, record: TrialRecord) -> TrialRun:
        found = self.known_trial(record) if self._has_none(record) else self.find_trial(record)
        if found is not None:
            return TrialRun(found, is_new=self._fresh.get(found) == record.attempt)
        try:
            return self._create_trial(record)
        except TrackingUnavailable:
            raise
        except TrackingError:
            if not self._experiment.restore_if_deleted():
                raise
        found = self.find_trial(record)
        return self._create_trial(record) if found is None else TrialRun(found)

    def _has_none(self, record: TrialRecord) -> bool:
        """Return whether a trial is so new that no process can have created its run.

        A clock that runs behind, of another machine that asked for the trial, may make it seem
        newer than it is: its empty run is then found, and deleted, by the next look at all runs.
        """
        began, listed_at = record.started_at, self._listed_at
        is_first = record.attempt <= 1 and record.number not in self._doubtful
        return is_first and began is not None and listed_at is not None and began > listed_at

    def _replace_trial(self, record: TrialRecord, gone: str) -> TrialRun:
        """Return another run for a trial whose run was deleted; created when there is none."""
        with self._lock:
            if self._trial_ids.get(record.number) == gone:
                del self._trial_ids[record.number]
            anonymous = dataclasses.replace(record, run_id=None)
            found = self.find_trial(anonymous)
            if found is not None:
                return TrialRun(found)
            if self._parent_id is not None and self._look_after(self._parent_id) is _Refused.GONE:
                self._replace_parent()
            return self._create_trial(anonymous, instead_of=gone)

    def _create_trial(self, record: TrialRecord, instead_of: str | None = None) -> TrialRun:
        tags = {
            **self.tags("trial"),
            **documents.trial_tags(record, Synced.OPEN),
            PARENT_TAG: self._parent(),
            "studyflow.trial": str(record.number),
        }
        if instead_of is not None:
            tags |= _recreated(f"Trial {record.number}", instead_of)
        name = documents.trial_name(record.number)
        self._doubtful.add(record.number)  # until MLflow has answered
        run_id = self._new_run(name, milliseconds(record.started_at), tags)
        with self._lock:
            self._doubtful.discard(record.number)
            self._trial_ids[record.number] = run_id
            self._fresh[run_id] = record.attempt
        return TrialRun(run_id, is_new=True)

    def _choose(self, number: int, candidates: Sequence[Candidate]) -> Candidate:
        """Return the run to use for a trial, and delete empty duplicates of it.

        A duplicate comes from a request that was made again because its answer was lost.
        """
        chosen, *duplicates = ranked(candidates, self._trial_ids.get(number))
        for duplicate in duplicates:
            if duplicate.is_empty:
                with self._mlflow.client() as client:
                    client.delete_run(duplicate.run_id)
        return chosen

    # Both

    def _new_run(self, name: str, start_ms: int | None, tags: Mapping[str, str]) -> str:
        experiment = self._experiment.find_or_create()
        with self._mlflow.client() as client:
            run = client.create_run(
                experiment,
                start_time=start_ms or int(time.time() * 1000),
                tags={key: bounded(value, TAG_LIMIT_CHARS) for key, value in tags.items()},
                run_name=name,
            )
        return str(run.info.run_id)

    def _look_after(self, run_id: str) -> _Refused:
        """Return what became of a run that was refused a call. A deleted experiment is restored."""
        run = None
        with self._mlflow.client() as client:
            with Accepting(NOT_FOUND):
                run = client.get_run(run_id)
            if run is None:
                self._experiment.forget()
                return _Refused.GONE
            if run.info.lifecycle_stage == "active":
                return _Refused.ACTIVE
            if self._experiment.restore_if_deleted():
                run = client.get_run(run_id)
        return _Refused.REVIVED if run.info.lifecycle_stage == "active" else _Refused.GONE


def _recreated(whose: str, instead_of: str) -> dict[str, str]:
    """Return the tag of a run that replaces another, and log why there is one."""
    _log.warning(
        "%s: run %s is not in this MLflow (deleted, or of another server); "
        "a new one takes its place.",
        whose,
        instead_of,
    )
    return {"studyflow.recreated": instead_of}

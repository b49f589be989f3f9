"""The parameters of the flows, and the studies that they describe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path
from typing import Final
from uuid import UUID

from prefect.client.schemas.objects import FlowRun

from studyflow.comparison import DEFAULT_SAMPLERS, Contender, contenders
from studyflow.deployments.runs import (
    DeploymentRun,
    EachRun,
    finished_in_time,
    study_name,
    study_of_run,
)
from studyflow.errors import SpecError
from studyflow.orchestration.flow_runs import current_run
from studyflow.reports.stored import stored_study
from studyflow.retrain import RetrainPlan, plan_retrain
from studyflow.settings import Settings
from studyflow.spec import SamplerName, StudySpec, is_time_of_day
from studyflow.spec.overrides import override
from studyflow.storage import open_storage, quiet_optuna, storage_errors

DEFAULT_SEEDS: Final = 3
"""Runs of each sampler of a comparison."""


_read: dict[tuple[UUID, str], tuple[StudySpec, Path]] = {}
"""What the flow runs of this process have read."""


def read_spec(study: str) -> tuple[StudySpec, Path]:
    """Return a study from the path of its file or from YAML text, and the folder it lives in.

    A flow run reads a file once: should somebody edit it meanwhile, the run's name, its work and
    what follows are about the same study.

    Raises:
        SpecError: The file or the text is wrong; the message holds every problem.
    """
    run = current_run()
    if run is None:
        return _read_spec(study)
    if (run.id, study) not in _read:
        _read[run.id, study] = _read_spec(study)
    return _read[run.id, study]


def _read_spec(study: str) -> tuple[StudySpec, Path]:
    if "\n" in study:
        return StudySpec.from_text(study), Path.cwd()
    path = Path(study)
    return StudySpec.from_yaml(path), path.parent.absolute()


@dataclass(frozen=True, slots=True)
class StudyParameters:
    """What a run of the flow `run_study` was asked for."""

    study: str
    n_trials: int | None = None
    max_parallel_trials: int | None = None
    fork: str | None = None
    sampler: SamplerName | None = None
    timeout_seconds: float | None = None
    each_run: EachRun = "finish"
    gpu_hours: float | None = None

    @classmethod
    def of(cls, run: FlowRun) -> StudyParameters:
        """Return what a flow run was asked for, as Prefect keeps it."""
        return cls(**run.parameters)

    def read(self) -> tuple[StudySpec, str | None, Path]:
        """Return the study with this run's numbers, the study to fork from and the file's folder.

        Raises:
            SpecError: The file or one of the numbers is wrong.
        """
        if self.fork is not None and self.each_run != "finish":
            raise SpecError(
                f"fork names one new study ({self.fork!r}) and each_run={self.each_run!r} says "
                "which study every run is about. Hint: leave one of them out; each_run='warm' "
                "takes over the last study's trials into a new one each time."
            )
        spec, folder = read_spec(self.study)
        spec, fork_from = override(
            spec,
            n_trials=self.n_trials,
            max_parallel_trials=self.max_parallel_trials,
            fork=self.fork,
            sampler=self.sampler,
            timeout_seconds=self.timeout_seconds,
            gpu_hours=self.gpu_hours,
        )
        return spec, fork_from, folder

    def read_for(
        self,
        run: DeploymentRun,
        settings: Settings,
        zone_of_schedule: Callable[[], tzinfo | None] = lambda: None,
    ) -> tuple[StudySpec, str | None, Path]:
        """Return the study that a run is about, the study to fork from and the file's folder.

        Args:
            run: The run.
            settings: Where studies are kept.
            zone_of_schedule: Returns the zone that the deployment's schedule names, `None` for this
                machine's; asked only where `budget.finish_by` is a time of day.

        Raises:
            SpecError: The file or one of the numbers is wrong.
            StorageUnavailable: The storage does not say which studies there are.
            PrefectError: The zone is not known.
        """
        spec, fork_from, folder = self.read()
        if run.is_deployed and is_time_of_day(spec.budget.finish_by):
            spec = finished_in_time(spec, run, zone_of_schedule())
        if self.each_run != "finish":
            quiet_optuna()
            with storage_errors(settings.storage_url):
                storage = open_storage(settings.storage_url)
                spec, fork_from = study_of_run(spec, self.each_run, run, storage)
        return spec, fork_from, folder

    def renamed(self, run: DeploymentRun) -> tuple[StudySpec, Path]:
        """Return the file's study under the name of the run's study, and the file's folder.

        Raises:
            SpecError: The file or one of the numbers is wrong.
        """
        spec, _, folder = self.read()
        name = study_name(spec.name, self.each_run, run.due)
        return spec.model_copy(update={"name": name}), folder


@dataclass(frozen=True, slots=True)
class ComparisonParameters:
    """What a run of the flow `compare_samplers` was asked for."""

    study: str
    samplers: Sequence[str] = DEFAULT_SAMPLERS
    seeds: int = DEFAULT_SEEDS
    n_trials: int | None = None
    max_parallel_trials: int | None = None

    def read(self) -> tuple[StudySpec, Path, tuple[Contender, ...]]:
        """Return the study, its file's folder and the runs.

        Raises:
            SpecError: The file or one of the parameters is wrong.
        """
        spec, folder = read_spec(self.study)
        runs = contenders(
            spec,
            self.samplers,
            self.seeds,
            n_trials=self.n_trials,
            max_parallel_trials=self.max_parallel_trials,
        )
        return spec, folder, runs


@dataclass(frozen=True, slots=True)
class RetrainParameters:
    """Which trainings a run of the flow `retrain_best` was asked for."""

    study: str
    top: int
    repeats: int
    seed_parameter: str | None
    max_parallel_trials: int | None

    def plan(self, settings: Settings) -> tuple[RetrainPlan, Path]:
        """Return what to train, and the folder of the study's file.

        Raises:
            StudyflowError: The study cannot be read, or not be trained again.
        """
        spec, folder = read_spec(self.study)
        plan = plan_retrain(
            stored_study(spec.name, settings, spec),
            settings,
            top=self.top,
            repeats=self.repeats,
            seed_parameter=self.seed_parameter,
            max_parallel_trials=self.max_parallel_trials,
        )
        return plan, folder

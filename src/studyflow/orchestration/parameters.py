"""The parameters of the flow `run_study`, and the study that they describe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from prefect.client.schemas.objects import FlowRun

from studyflow.deployments.runs import EachRun, Occasion, study_name
from studyflow.errors import SpecError
from studyflow.spec import SamplerName, StudySpec
from studyflow.spec.overrides import override


def read_spec(study: str) -> tuple[StudySpec, Path]:
    """Return a study from the path of its file or from YAML text, and the folder it lives in.

    Raises:
        SpecError: The file or the text is wrong; the message holds every problem.
    """
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
            self.n_trials,
            self.max_parallel_trials,
            self.fork,
            self.sampler,
            self.timeout_seconds,
        )
        return spec, fork_from, folder

    def renamed(self, occasion: Occasion) -> tuple[StudySpec, Path]:
        """Return the study that a run is about, by name, and the file's folder.

        Raises:
            SpecError: The file or one of the numbers is wrong.
        """
        spec, _, folder = self.read()
        name = study_name(spec.name, self.each_run, occasion.due)
        return spec.model_copy(update={"name": name}), folder

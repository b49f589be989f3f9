"""What a person may change of a study file for one run."""

from __future__ import annotations

from studyflow.errors import SpecError
from studyflow.spec.models import SamplerName, StudySpec


def override(
    spec: StudySpec,
    *,
    n_trials: int | None = None,
    max_parallel_trials: int | None = None,
    fork: str | None = None,
    sampler: SamplerName | None = None,
    timeout_seconds: float | None = None,
    gpu_hours: float | None = None,
) -> tuple[StudySpec, str | None]:
    """Return the study with one run's own numbers, and the name of the study to fork from.

    Args:
        spec: The study file.
        n_trials: Trials to finish in all; `None` keeps the file's number.
        max_parallel_trials: Trials that run in parallel; `None` keeps the file's number.
        fork: Name of a new study that takes over this one's trials; `None` continues this one.
        sampler: Sampler for further trials. Another type than the file's keeps the file's seed, but
            none of its arguments: they belong to its type. `None` keeps the file's sampler.
        timeout_seconds: After this long the run starts no trial; `None` keeps the file's limit.
        gpu_hours: GPU-hours of the study in all; `None` keeps the file's limit.

    Raises:
        SpecError: The study is not one with these numbers, or the fork has the study's own name.
    """
    if fork == spec.name:
        raise SpecError(
            f"--fork must name a new study, but {fork!r} is this one's own name. "
            "Hint: leave --fork out to continue it, or choose another name."
        )
    changes = {
        "n_trials": n_trials,
        "max_parallel_trials": max_parallel_trials,
        "timeout_seconds": timeout_seconds,
        "gpu_hours": gpu_hours,
    }
    budget = {name: value for name, value in changes.items() if value is not None}
    document = spec.model_dump(mode="json", exclude_unset=True)
    document["budget"] |= budget
    if fork is not None:
        document["name"] = fork
    if sampler is not None and sampler != spec.sampler.type:
        document["sampler"] = {"type": sampler, "seed": spec.sampler.seed}
    return StudySpec.from_mapping(document), None if fork is None else spec.name

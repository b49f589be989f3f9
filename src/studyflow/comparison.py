"""The same study under several samplers and seeds: which search suits this problem?

Each run is a study of its own, stored and shown like any other, so a comparison that was
interrupted continues where it stopped, and so does one with more seeds or trials.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, get_args

from studyflow.context import StudyContext
from studyflow.errors import SpecError
from studyflow.observers.observer import Observer
from studyflow.reports.chart import as_file
from studyflow.reports.comparison import (
    Comparison,
    Run,
    comparison_csv,
    comparison_markdown,
    draw_comparison,
)
from studyflow.reports.tracked import study_card
from studyflow.runner import RunOptions, StudyResult, cancel_study, run_study
from studyflow.settings import Settings
from studyflow.spec import SamplerName, StudySpec
from studyflow.storage import open_storage, storage_errors
from studyflow.study import find_study, load_records, study_names
from studyflow.tracking import StudySummary
from studyflow.trial.record import TrialRecord, TrialState

DEFAULT_SAMPLERS: Final = ("random", "tpe", "gp", "botorch")
MAX_RUNS: Final = 1000


@dataclass(frozen=True)
class Contender:
    """One run to be made."""

    sampler: str
    seed: int
    spec: StudySpec

    @property
    def title(self) -> str:
        """Such as `tpe, seed 0`."""
        return f"{self.sampler}, seed {self.seed}"


@dataclass(frozen=True)
class ComparisonFiles:
    """What was written of a comparison."""

    picture: Path
    table: Path
    """Every run's best value after each trial, CSV."""
    summary: Path
    """Headline and table, Markdown."""

    @property
    def all(self) -> tuple[Path, ...]:
        """Every file."""
        return self.picture, self.table, self.summary


def experiment_of(spec: StudySpec) -> str:
    """Return the MLflow experiment that holds all runs of a comparison."""
    return spec.experiment or f"{spec.name}: samplers"


def contenders(
    spec: StudySpec,
    samplers: Sequence[str] = DEFAULT_SAMPLERS,
    n_seeds: int = 3,
    *,
    n_trials: int | None = None,
    max_parallel_trials: int | None = None,
) -> tuple[Contender, ...]:
    """Return the runs of a comparison: all samplers with the first seed, then with the next.

    At any time every sampler has finished about as many runs as the others. Rules that end a study
    early are left out: each run gets the whole budget. The study file's sampler keeps its
    arguments, the others have their defaults.

    Args:
        spec: The problem.
        samplers: Names as in `sampler.type`.
        n_seeds: Seeds, from the study file's own (or 0) upwards.
        n_trials: Trials of each run; `None` keeps the file's number.
        max_parallel_trials: Trials that run in parallel; `None` keeps the file's number.

    Raises:
        SpecError: Something cannot be compared; every problem is in the message.
    """
    own = spec.budget.n_trials
    problems = _problems(spec, samplers, n_seeds, own if n_trials is None else n_trials)
    found: list[Contender] = []
    first = spec.sampler.seed or 0
    changes = {"n_trials": n_trials, "max_parallel_trials": max_parallel_trials}
    for seed in range(first, first + max(n_seeds, 0)) if not problems else ():
        for sampler in samplers:
            try:
                variant = _variant(spec, sampler, seed, changes)
            except SpecError as error:
                problems.append(f"{sampler}: {error}")
            else:
                found.append(Contender(sampler, seed, variant))
        if problems:
            break
    if problems:
        raise SpecError(f"{spec.name!r} cannot be compared so:\n  " + "\n  ".join(problems))
    return tuple(found)


def _problems(
    spec: StudySpec, samplers: Sequence[str], n_seeds: int, n_trials: int | None
) -> list[str]:
    known = get_args(SamplerName)
    problems = [
        f"there is no sampler {name!r}. Hint: choose from {', '.join(known)}."
        for name in samplers
        if name not in known
    ]
    if len(set(samplers)) < max(len(samplers), 2):
        problems.append(
            f"samplers must be two or more different ones, not {list(samplers)}. "
            "Hint: `random` tells what searching is worth at all."
        )
    if not 1 <= n_seeds * max(len(samplers), 1) <= MAX_RUNS or n_seeds < 1:
        problems.append(
            f"seeds must be 1 or more, and at most {MAX_RUNS} runs in all, not {n_seeds}."
        )
    if n_trials is None:
        problems.append(
            "the runs are compared trial by trial, and the study has no budget.n_trials. "
            "Hint: say how many each run makes (--n-trials)."
        )
    if len(spec.objectives) > 1:
        problems.append(
            f"the study has {len(spec.objectives)} objectives; curves of the best value need one. "
            "Hint: keep the first and make bounds (`constraints`) of the others."
        )
    return problems


def _variant(spec: StudySpec, sampler: str, seed: int, changes: dict[str, int | None]) -> StudySpec:
    document: dict[str, Any] = spec.model_dump(mode="json", exclude_unset=True)
    own = document.get("sampler", {}) if sampler == spec.sampler.type else {}
    document["name"] = f"{spec.name}-{sampler}-{seed}"
    document["experiment"] = experiment_of(spec)
    document["sampler"] = {**own, "type": sampler, "seed": seed}
    document["budget"] |= {name: value for name, value in changes.items() if value is not None}
    document["stop"] = {
        "alike_failures": spec.stop.alike_failures,
        "first_failures": spec.stop.first_failures,
    }
    document["tags"] = {**document.get("tags", {}), "compared": spec.name, "sampler": sampler}
    return StudySpec.from_mapping(document)


def run_comparison(
    spec: StudySpec,
    runs: Sequence[Contender],
    settings: Settings,
    watch: Callable[[Contender], AbstractContextManager[Observer]],
    options: RunOptions,
    *,
    on_result: Callable[[Contender, StudyResult], None] = lambda _contender, _result: None,
) -> Comparison:
    """Make the runs one after another and return what they found.

    Each has as many parallel trials as the study allows. Runs side by side would compete for the
    same machines, and a comparison would measure that too.

    Args:
        spec: The problem.
        runs: From `contenders`.
        settings: Where storage, MLflow and files are.
        watch: Gives an observer for a run, entered until `on_result` has heard of its end.
        options: How each is run. When it is told to leave, the run that lasts ends when its running
            trials have finished; those after it are not made.
        on_result: Hears of every run's end.

    Raises:
        StudyflowError: A run cannot be made; those before it are kept.
    """
    done: list[Run] = []
    for contender in runs:
        if options.leaves():
            break
        with watch(contender) as observer:
            result = run_study(StudyContext(contender.spec, settings), observer, options)
            done.append(Run(contender.sampler, contender.seed, result.data))
            on_result(contender, result)
    objective = spec.objectives[0]
    return Comparison(spec.name, objective.metric, objective.direction, tuple(done))


def cancel_comparison(
    runs: Sequence[Contender], settings: Settings, observer: Observer, *, folder: Path
) -> None:
    """End the running trials of a comparison whose process was killed, and record them.

    Args:
        runs: From `contenders`.
        settings: Where storage, MLflow and files are.
        observer: Hears of everything, and of what could not be ended.
        folder: Folder that relative paths in `trial.command` start from.

    Raises:
        StudyflowError: They cannot be ended.
    """
    with storage_errors(settings.storage_url):
        storage = open_storage(settings.storage_url)
        begun = set(study_names(storage))
        for contender in runs:
            if contender.spec.name not in begun:
                continue
            _, records = load_records(find_study(contender.spec.name, storage))
            if any(record.state is TrialState.RUNNING for record in records):
                cancel_study(StudyContext(contender.spec, settings), observer, folder=folder)


def write_comparison(comparison: Comparison, folder: Path) -> ComparisonFiles:
    """Write picture, table and summary to a folder, made if missing."""
    folder.mkdir(parents=True, exist_ok=True)
    files = ComparisonFiles(
        folder / "comparison.svg", folder / "comparison.csv", folder / "comparison.md"
    )
    picture = as_file(draw_comparison(comparison))
    files.picture.write_text(picture, encoding="utf-8", newline="")
    files.table.write_text(comparison_csv(comparison), encoding="utf-8")
    files.summary.write_text(comparison_markdown(comparison), encoding="utf-8")
    return files


def track_comparison(
    spec: StudySpec, comparison: Comparison, files: ComparisonFiles, settings: Settings
) -> str | None:
    """Show the comparison in MLflow, as one more run beside those that it compares.

    Returns:
        Where a person sees it; `None` without a web server.

    Raises:
        TrackingError: MLflow does not take it.
    """
    shown = spec.model_copy(
        update={
            "name": f"{spec.name}: comparison",
            "experiment": experiment_of(spec),
            "description": comparison.verdict,
            "tags": {**spec.tags, "compared": spec.name},
        }
    )
    with StudyContext(shown, settings) as context:
        tracker = context.tracker
        # It has no trials of its own, and shows the file that all runs were made from.
        tracker.open_study(replace(study_card(shown), spec_yaml=spec.to_yaml(), n_trials=0))
        tracker.close_study(
            StudySummary(
                finished=True,
                best=_best_of_all(spec, comparison),
                records=(),
                note_markdown=comparison_markdown(comparison),
                files={path.name: path for path in files.all},
            )
        )
        return tracker.run_url()


def _best_of_all(spec: StudySpec, comparison: Comparison) -> tuple[TrialRecord, ...]:
    sign = 1.0 if spec.directions[0] == "minimize" else -1.0
    winners = [record for run in comparison.runs for record in run.data.best]
    return tuple(sorted(winners, key=lambda record: sign * (record.values or (0.0,))[0])[:1])

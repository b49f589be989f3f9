"""What MLflow shows of a study: names, tags, metrics and files. Pure functions."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import yaml

from studyflow.tracking import keys, tables
from studyflow.tracking.protocol import StudyCard, StudySummary
from studyflow.trial import ATTEMPT_TAG
from studyflow.trial.record import TrialRecord, TrialState

TAG_LIMIT_CHARS: Final = 8000
MESSAGE_LIMIT_CHARS: Final = 1000
BEST_TRIALS_LIMIT: Final = 500
"""Most trials that a tag names."""
NAME_LIMIT_CHARS: Final = 250
"""Longest name of a run or an experiment: MLflow checks less than its database columns hold."""

SYNCED_TAG: Final = "studyflow.synced"
"""How complete a run is; see `Synced`."""
MISSING_TAG: Final = "studyflow.artifacts_missing"
"""Files of a run that could not be uploaded, one a line; `none` when all are there."""
NOTE_TAG: Final = "mlflow.note.content"
"""The description that MLflow shows on a run."""
PARENT_TAG: Final = "mlflow.parentRunId"

_HUGE: Final = 1.797e308
"""MLflow stores an infinity as the largest float."""


class Synced:
    """Values of `SYNCED_TAG`."""

    OPEN: Final = "open"
    """The trial has not ended."""
    ARTIFACTS: Final = "artifacts"
    """The trial has ended, and its files are being uploaded."""
    PARTIAL: Final = "partial"
    """The study's run is complete but for some files."""
    FINAL: Final = "final"
    """Everything is there."""


class Point(NamedTuple):
    """One value of a metric, in the order of MLflow's own."""

    key: str
    value: float
    timestamp_ms: int
    step: int


class Latest(NamedTuple):
    """The latest point of a metric."""

    step: int
    timestamp_ms: int
    value: float


# The study


@dataclass(slots=True)
class TrackedStudy:
    """A study as its tracker knows it."""

    name: str
    card: StudyCard | None = None
    """What is shown of it; `None` until it is opened."""

    @property
    def key(self) -> str:
        """The digest that its runs are searched by."""
        return keys.digest_of(self.name)

    @property
    def experiment_tags(self) -> dict[str, str]:
        """Tags by which MLflow shows an experiment as training, with the main objective."""
        tags = {"mlflow.experimentKind": "custom_model_development"}
        if self.card is not None:
            tags["mlflow.experiment.primaryMetric.name"] = keys.key_for(self.card.objectives[0])
            tags["mlflow.experiment.primaryMetric.greaterIsBetter"] = (
                "True" if self.card.directions[0] == "maximize" else "False"
            )
        return tags

    def objectives_of(self, record: TrialRecord) -> tuple[str, ...]:
        """Return the objectives, or names in their place while no card is known."""
        if self.card is not None:
            return self.card.objectives
        n = len(record.values or ())
        return ("objective",) if n == 1 else tuple(f"objective_{i}" for i in range(n))

    def objectives_in(self, summary: StudySummary) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return objectives and directions, or names in their place while no card is known."""
        if self.card is not None:
            return self.card.objectives, self.card.directions
        record = next((r for r in summary.records if r.values is not None), None)
        names = () if record is None else self.objectives_of(record)
        return names, ("minimize",) * len(names)


SHOWN_VERSIONS: Final = ("studyflow", "python", "git_commit")
"""Versions that are tags; `versions.json` among the run's artifacts has all. With a tag for each,
the page would show little else."""

RUN_NAME_TAG: Final = "mlflow.runName"


def trial_name(number: int) -> str:
    """Return the name of a trial's run while it runs."""
    return f"trial-{number:04d}"


def name_at_end(record: TrialRecord, name: str) -> str:
    """Return the name of an ended trial's run: with how it ended, if that was not well.

    MLflow's status does not tell a pruned trial from a complete one, nor one failure from another.

    Args:
        record: The trial.
        name: The run's name now; one that a script has given stays.
    """
    plain = trial_name(record.number)
    if name.partition(" ")[0] != plain:
        return name
    if record.state is TrialState.COMPLETE:
        return plain
    is_pruned = record.state is TrialState.PRUNED
    return f"{plain} {'pruned' if is_pruned else record.cause or 'failed'}"


def study_tags(card: StudyCard, versions: Mapping[str, str]) -> dict[str, str]:
    """Return what the study's run says of its study from the first moment.

    Args:
        card: The study.
        versions: What is installed.
    """
    shown = {name: versions[name] for name in SHOWN_VERSIONS if name in versions}
    tags = {f"studyflow.version.{name}": text for name, text in shown.items()}
    tags |= {keys.key_for(key): value for key, value in card.tags.items()}
    tags |= keys.json_tags("studyflow.objectives", card.objectives)
    tags |= keys.json_tags("studyflow.directions", card.directions)
    tags["studyflow.n_trials"] = "unlimited" if card.n_trials is None else str(card.n_trials)
    return tags


def summary_tags(summary: StudySummary, objectives: Sequence[str]) -> dict[str, str]:
    """Return what the study's run says of the study's state and its best trials."""
    numbers = [str(record.number) for record in summary.best]
    n_more = len(numbers) - BEST_TRIALS_LIMIT
    more = f", and {n_more} more" if n_more > 0 else ""
    ended = "finished" if summary.finished else "interrupted"
    tags = {
        "studyflow.state": "running" if summary.is_driven else ended,
        "studyflow.best_trials": ",".join(numbers[:BEST_TRIALS_LIMIT]) + more,
        **summary.tags,
    }
    if len(objectives) == 1 and summary.best:
        for name, value in summary.best[0].params.items():
            tags["best." + keys.key_for(name, limit=200)] = str(value)
    return tags


def summary_metrics(
    summary: StudySummary, objectives: Sequence[str], directions: Sequence[str], end_ms: int
) -> list[Point]:
    """Return the study's counts and best values, by the number of finished trials."""
    n_finished = sum(record.state.is_finished for record in summary.records)
    values = {
        **tables.state_counts(summary.records),
        **_best_values(summary.best, objectives, directions),
    }
    return [Point(key, float(value), end_ms, n_finished) for key, value in values.items()]


def _best_values(
    best: Sequence[TrialRecord], objectives: Sequence[str], directions: Sequence[str]
) -> dict[str, float]:
    tried = [record.values for record in best if record.values is not None]
    if not tried:
        return {}
    if len(objectives) == 1:
        return {"best_value": tried[0][0]}
    bests: dict[str, float] = {"n_pareto": float(len(tried))}
    for index, (name, direction) in enumerate(zip(objectives, directions, strict=True)):
        column = [values[index] for values in tried]
        best_value = min(column) if direction == "minimize" else max(column)
        bests["best/" + keys.key_for(name, limit=200)] = best_value
    return {key: value for key, value in bests.items() if math.isfinite(value)}


def summary_texts(summary: StudySummary, objectives: Sequence[str]) -> dict[str, str]:
    """Return the texts that the study's run holds at the end, by artifact path.

    Those that the summary brings as files are left out.
    """
    columns, rows = tables.trials_table(summary.records, objectives)
    texts = {
        "trials.csv": tables.as_csv(columns, rows),
        "trials.json": tables.as_mlflow_table(columns, rows),
    }
    if summary.best:
        configs = [dict(record.params) for record in summary.best]
        config: Any = configs[0] if len(objectives) <= 1 else configs
        texts["best_config.json"] = json.dumps(config, indent=2, ensure_ascii=False)
        texts["best_config.yaml"] = yaml.safe_dump(config, allow_unicode=True, sort_keys=False)
    return {name: text for name, text in texts.items() if name not in summary.files}


def shown_tables() -> dict[str, str]:
    """Return the tag by which MLflow's artifact viewer shows `trials.json` as a table."""
    return {"mlflow.loggedArtifacts": json.dumps([{"path": "trials.json", "type": "table"}])}


# Trials


def trial_tags(record: TrialRecord, synced: str) -> dict[str, str]:
    """Return what a trial's run says of its trial.

    Args:
        record: The trial.
        synced: One of `Synced`.
    """
    tags = {
        "studyflow.state": record.state.value,
        "studyflow.cause": record.cause.value if record.cause else "",
        ATTEMPT_TAG: str(record.attempt),
        "studyflow.message": bounded(str(record.reason), MESSAGE_LIMIT_CHARS),
        SYNCED_TAG: synced,
    }
    if record.pauses:
        tags["studyflow.pauses"] = str(len(record.pauses))
    renamed = {
        key: name
        for names, make in (
            (record.params, keys.key_for),
            (record.metrics, keys.key_for),
            (record.constraints, keys.constraint_key),
        )
        for name in names
        if (key := make(name)) != name
    }
    if renamed:
        tags |= keys.json_tags(keys.NAMES_TAG, renamed)
    return tags


def nonfinite_tags(values: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return metrics that are no finite numbers as tags: MLflow would chart them as 1.8e308."""
    odd = dict(values)
    return keys.json_tags("studyflow.nonfinite", odd) if odd else {}


def closing_metrics(
    record: TrialRecord, objectives: Sequence[str], latest: Mapping[str, Latest], end_ms: int
) -> list[Point]:
    """Return the points that make each final value the latest of its metric.

    MLflow's latest value is the one with the highest step, then time, then value; so a final value
    goes to the last step known for its metric, after all points of that step. A value that is the
    latest already is left alone, so that closing twice adds nothing.

    Args:
        record: A finished trial.
        objectives: The study's objectives.
        latest: Each metric's latest point, by key.
        end_ms: When the trial ended, in milliseconds since the epoch.
    """
    points = []
    if objectives and (key := keys.key_for(objectives[0])) not in latest:
        # The points themselves were lost with an outage; the storage still has these.
        points = _intermediate_points(record, key, end_ms)
    newest = points[-1] if points else None
    last_step = max(record.intermediate, default=0)
    for key, value in _final_values(record, objectives).items():
        if not math.isfinite(value):
            continue
        step, at_ms = last_step, end_ms
        if key in latest:
            known = latest[key]
            if known.value == value:
                continue
            step = max(step, known.step)
            at_ms = max(end_ms, known.timestamp_ms + 1) if step == known.step else end_ms
        elif newest is not None and newest.key == key:
            at_ms = max(end_ms, newest.timestamp_ms + 1)
        points.append(Point(key, value, at_ms, step))
    return points


def _final_values(record: TrialRecord, objectives: Sequence[str]) -> dict[str, float]:
    finals: dict[str, float] = {keys.key_for(name): v for name, v in record.metrics.items()}
    if record.values is not None:
        finals |= {keys.key_for(n): v for n, v in zip(objectives, record.values, strict=False)}
        if len(record.values) == 1:
            finals.setdefault("objective", record.values[0])
    finals |= {keys.constraint_key(name): v for name, v in record.constraints.items()}
    if record.duration_seconds is not None:
        finals.setdefault("duration_seconds", record.duration_seconds)
    return finals


def _intermediate_points(record: TrialRecord, key: str, end_ms: int) -> list[Point]:
    begin_ms = milliseconds(record.started_at) or end_ms
    return [
        Point(key, value, min(begin_ms + index, end_ms), step)
        for index, (step, value) in enumerate(sorted(record.intermediate.items()))
        if math.isfinite(value)
    ]


# What MLflow returns


def latest_points(run: Any) -> dict[str, Latest]:
    """Return the latest point of each of a run's metrics, by key."""
    # `run.data.metrics` has values only; the protocol message has steps and times too.
    return {m.key: Latest(m.step, m.timestamp, m.value) for m in run.data.to_proto().metrics}


def read_value(value: float) -> float:
    """Return a stored value as it was logged: the largest float stands for an infinity."""
    return math.copysign(math.inf, value) if abs(value) >= _HUGE else value


def milliseconds(seconds: float | None) -> int | None:
    """Return a time in MLflow's unit; `None` for none."""
    return None if seconds is None else int(seconds * 1000)


# Limits


def bounded(text: str, limit: int) -> str:
    """Return a text of at most `limit` characters; one that is cut says so, and equals no other."""
    if len(text) <= limit:
        return text
    end = f"… [{len(text)} characters, sha256 {keys.digest_of(text)[:8]}]"
    return text[: limit - len(end)] + end


def bounded_name(name: str) -> str:
    """Return the name of a run or an experiment, cut to what MLflow's database holds."""
    limit = NAME_LIMIT_CHARS
    return name if len(name) <= limit else f"{name[: limit - 9]}-{keys.digest_of(name)[:8]}"


def lines_tag(lines: Sequence[str]) -> str:
    """Return whole lines, as many as a tag holds, and how many more there are."""
    kept, size = 0, 40
    while kept < len(lines) and size + len(lines[kept]) + 1 <= TAG_LIMIT_CHARS:
        size += len(lines[kept]) + 1
        kept += 1
    more = [f"and {len(lines) - kept} more"] if kept < len(lines) else []
    return "\n".join([*lines[:kept], *more])

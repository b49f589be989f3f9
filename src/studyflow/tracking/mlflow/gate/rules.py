"""Rules: what of a request with a trial's token is passed on, as functions of its fields.

A rule gets the fields as MLflow's server would read them, and returns those that are passed on.
Pure but for the look-ups that a `Holder` makes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from studyflow.tracking.mlflow.documents import PARENT_TAG
from studyflow.tracking.mlflow.gate.facts import RunFacts
from studyflow.tracking.mlflow.gate.holder import CallRefused, Holder, shown
from studyflow.trial import ATTEMPT_TAG, TRIAL_RUN_TAG

Fields = dict[str, Any]
"""The fields of a request, by MLflow's names; what was left out is missing."""

OWN_PREFIX: Final = "studyflow."
"""Tags that a study is read by again. No token writes one."""

DECIDED_TAGS: Final = ("mlflow.user", PARENT_TAG, "mlflow.source.", "mlflow.experiment")
"""Beginnings of further tags of a trial's run that its runner sets."""

_STAMPED: Final = (TRIAL_RUN_TAG, ATTEMPT_TAG)
"""Tags that MLflow's client sends along (`MLFLOW_RUN_CONTEXT`): set here, whatever it says."""


def run_of(fields: Fields) -> str:
    """Return the run that a request names, under its name of today or its former one.

    Raises:
        CallRefused: It names none, or two.
    """
    named = {str(fields[key]) for key in ("run_id", "run_uuid") if fields.get(key)}
    if len(named) != 1:
        raise CallRefused("The request must name one run.")
    return named.pop()


def create_run(fields: Fields, holder: Holder) -> Fields:
    """Let a trial make a run in its own experiment, and note whose it is."""
    return {
        **fields,
        "experiment_id": holder.experiment(str(fields.get("experiment_id", ""))),
        "tags": _stamped(fields.get("tags", ()), holder),
    }


def update_run(fields: Fields, holder: Holder) -> Fields:
    """Let a trial end the runs that it made.

    Its own run is shared by all attempts of the trial, so its runner ends it: a script's
    `mlflow.end_run()` changes nothing there.
    """
    run = holder.written(run_of(fields))
    if run is not holder.own:
        return fields
    kept = {key: value for key, value in fields.items() if key != "end_time"}
    return kept | ({"status": "RUNNING"} if "status" in kept else {})


def write_metric(fields: Fields, holder: Holder) -> Fields:
    """Let a trial log a metric, of a run or of a logged model that it made."""
    holder.written(run_of(fields))
    _require_own_model(fields, holder)
    return fields


def write_tag(fields: Fields, holder: Holder) -> Fields:
    """Let a trial set a tag that is not the runner's."""
    _require_free_tags([fields], holder.written(run_of(fields)), holder)
    return fields


def write_batch(fields: Fields, holder: Holder) -> Fields:
    """Let a trial log metrics, parameters and tags in one go."""
    run = holder.written(run_of(fields))
    _require_free_tags(fields.get("tags", ()), run, holder)
    for metric in fields.get("metrics", ()):
        _require_own_model(metric, holder)
        if metric.get("run_id"):
            holder.written(str(metric["run_id"]))
    return fields


def write_run(fields: Fields, holder: Holder) -> Fields:
    """Let a trial write to a run what is about nothing else, such as a parameter."""
    holder.written(run_of(fields))
    return fields


def write_inputs(fields: Fields, holder: Holder) -> Fields:
    """Let a trial say what a run of it read."""
    holder.written(run_of(fields))
    for model in fields.get("models", ()):
        holder.model(str(model.get("model_id", "")), is_written=False)
    return fields


def write_outputs(fields: Fields, holder: Holder) -> Fields:
    """Let a trial say which of its models a run of it made."""
    holder.written(run_of(fields))
    for model in fields.get("models", ()):
        holder.model(str(model.get("model_id", "")), is_written=True)
    return fields


def read_run(fields: Fields, holder: Holder) -> Fields:
    """Let a trial read a run of its experiment."""
    holder.read(run_of(fields))
    return fields


def read_experiment(fields: Fields, holder: Holder) -> Fields:
    """Let a trial read its experiment."""
    return {"experiment_id": holder.experiment(str(fields.get("experiment_id", "")))}


def read_experiment_by_name(fields: Fields, holder: Holder) -> Fields:  # noqa: ARG001 - a rule
    """Answer about the trial's experiment, whichever a script asks for.

    By this call `mlflow.set_experiment(NAME)` finds where further runs belong: a trial's belong
    to its study.
    """
    return {"experiment_name": holder.experiment_name}


def search(fields: Fields, holder: Holder) -> Fields:
    """Let a trial search in its experiment."""
    named = {holder.experiment(str(one)) for one in fields.get("experiment_ids", ())}
    return {**fields, "experiment_ids": sorted(named) or [holder.own.experiment_id]}


def create_model(fields: Fields, holder: Holder) -> Fields:
    """Let a trial log a model, which belongs to a run of it."""
    source = str(fields.get("source_run_id") or holder.own.run_id)
    holder.written(source)
    return {
        **fields,
        "experiment_id": holder.experiment(str(fields.get("experiment_id", ""))),
        "source_run_id": source,
        "tags": _stamped(fields.get("tags", ()), holder),
    }


def write_model(fields: Fields, holder: Holder) -> Fields:
    """Let a trial write to a model that it logged."""
    model = holder.model(str(fields.get("model_id", "")), is_written=True)
    for tag in fields.get("tags", ()):
        _require_free(str(tag.get("key", "")), (OWN_PREFIX,))
    return {**fields, "model_id": model.model_id}


def read_model(fields: Fields, holder: Holder) -> Fields:
    """Let a trial read a logged model of its experiment."""
    holder.model(str(fields.get("model_id", "")), is_written=False)
    return fields


def write_artifact(fields: Fields, holder: Holder) -> Fields:
    """Let a trial write a file below the artifacts of a run or model of it."""
    holder.require_artifact(str(fields.get("path", "")), is_written=True)
    return fields


def read_artifacts(fields: Fields, holder: Holder) -> Fields:
    """Let a trial read artifacts of its experiment."""
    holder.require_artifact(str(fields.get("path", "")), is_written=False)
    return fields


def ask_server(fields: Fields, holder: Holder) -> Fields:  # noqa: ARG001 - a rule
    """Let a trial ask what everybody may: how the server is configured."""
    return {}


def _require_own_model(metric: Mapping[str, Any], holder: Holder) -> None:
    if metric.get("model_id"):
        holder.model(str(metric["model_id"]), is_written=True)


def _stamped(tags: Sequence[Mapping[str, Any]], holder: Holder) -> list[dict[str, str]]:
    """Return the tags of a new run or model, with those that say whose it is."""
    kept: dict[str, str] = {}
    for tag in tags:
        key, value = str(tag.get("key", "")), str(tag.get("value", ""))
        if key in _STAMPED:
            continue
        if key in kept:
            raise CallRefused(f"The tag {shown(key)} stands twice.")
        _require_free(key, (OWN_PREFIX,))
        if _is_tag(key, PARENT_TAG):
            holder.written(value)
        kept[key] = value
    return [{"key": key, "value": value} for key, value in {**kept, **holder.stamp}.items()]


def _require_free_tags(tags: Sequence[Mapping[str, Any]], run: RunFacts, holder: Holder) -> None:
    """Return if a script may set these tags of a run that it may write to."""
    refused = (OWN_PREFIX, *DECIDED_TAGS) if run is holder.own else (OWN_PREFIX,)
    for tag in tags:
        key = str(tag.get("key", ""))
        _require_free(key, refused)
        if _is_tag(key, PARENT_TAG):
            holder.written(str(tag.get("value", "")))


def _require_free(key: str, refused: Sequence[str]) -> None:
    if any(_folded(key).startswith(_folded(beginning)) for beginning in refused):
        raise CallRefused(
            f"The tag {shown(key)} is the runner's: a study is read by it. Choose another name."
        )


def _is_tag(key: str, name: str) -> bool:
    return _folded(key) == _folded(name)


def _folded(key: str) -> str:
    """Return a key as a database that ignores case and spaces at the ends may compare it."""
    return key.strip().casefold()

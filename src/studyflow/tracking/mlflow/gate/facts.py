"""What decides about a call: facts of MLflow's runs and logged models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What decides about a run."""

    run_id: str
    experiment_id: str
    is_running: bool
    """Whether it runs and nobody deleted it."""
    artifact_path: str | None
    """Where its artifacts are below the server's folder; `None` when the server does not keep
    them."""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What decides about a logged model."""

    model_id: str
    experiment_id: str
    source_run_id: str
    artifact_path: str | None


class Lookup(Protocol):
    """What MLflow's store knows."""

    def run(self, run_id: str) -> RunFacts | None:
        """Return a run; `None` when there is none."""

    def model(self, model_id: str) -> ModelFacts | None:
        """Return a logged model; `None` when there is none."""

    def experiment_name(self, experiment_id: str) -> str | None:
        """Return the name of an experiment; `None` when there is none."""

"""Why a trial got its parameters: what each suggestion stores on its trial, and reading it back."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from optuna.trial import FrozenTrial

from studyflow.samplers.history import chunk_attr, join_attr
from studyflow.trial.former_names import FormerProperty, former_arguments

SUGGESTION_ATTR: Final = "studyflow:suggestion"
"""Trial system attribute (JSON, in pieces `:0`, `:1`, ...) that explains a suggestion."""


@dataclass(frozen=True)
class ObjectiveModel:
    """What the model of one objective said when the suggestion was made."""

    predicted_mean: float
    """Expected value at the suggested point, in the objective's own units and direction."""
    predicted_sd: float
    """Standard deviation of the noise-free function there, in the objective's own units."""
    noise_sd: float
    """Estimated standard deviation of a repeated measurement, in the objective's own units."""
    lengthscales: dict[str, float]
    """By parameter, in units of its (log) range; the shorter, the more it matters. A value above
    about 5 says that the parameter made no difference so far."""
    warp: str
    """Transform of the objective: `none`, or `half-rank` for heavy tails on the bad side."""


@former_arguments(rung="level")
@dataclass(frozen=True)
class Suggestion:
    """How one suggestion came about."""

    level: str
    """The level of the fallback chain that gave it: a `SuggestionLevel`, or one that a newer
    version of this package wrote. It is stored under the key `rung`."""
    reason: str | None = None
    """Why the levels before did not; `None` if none was tried."""
    objectives: tuple[ObjectiveModel, ...] = ()
    """One per objective; empty if no model was used."""
    acquisition: str | None = None
    """Name of the acquisition function."""
    acquisition_value: float | None = None
    n_data: int = 0
    """Finished trials the models were fitted to."""
    n_pending: int = 0
    """Running trials that were taken into account."""
    milliseconds: float = 0.0
    """Wall-clock time of the suggestion, storage excluded."""
    is_repeat: bool = False
    """All points of the space had been tried; this one is measured again."""
    is_time_up: bool = False
    """`ask_seconds` had passed: this is the best point found until then, or that of a lower level.
    How far it came depends on the machine, so the same trials may give another one next time."""
    expected_cost: float | None = None
    """What the trial was expected to cost, in GPU-seconds, or seconds of one place; `None` where
    costs did not count."""
    cost_power: float | None = None
    """Power of the expected cost that the improvement was divided by; `None` likewise."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Fields written by a newer version of this package."""

    rung = FormerProperty("level")


def encode_suggestion(suggestion: Suggestion) -> dict[str, str]:
    """Return the system attributes that hold a suggestion."""
    fields = _finite(asdict(suggestion))
    document = {_KEYS.get(name, name): value for name, value in fields.items() if name != "extra"}
    return chunk_attr(SUGGESTION_ATTR, json.dumps(document, separators=(",", ":")))


def explanation_of(trial: FrozenTrial) -> Suggestion | None:
    """Return how a trial's parameters were chosen; `None` if this sampler did not choose them."""
    text = join_attr(SUGGESTION_ATTR, trial.system_attrs)
    if text is None:
        return None
    try:
        document = json.loads(text)
        known = {
            name: document.pop(key)
            for name in _FIELDS
            if (key := _KEYS.get(name, name)) in document
        }
        known["objectives"] = tuple(
            ObjectiveModel(**{name: _restore(value) for name, value in objective.items()})
            for objective in known.get("objectives", ())
        )
        return Suggestion(**known, extra=document)
    except (ValueError, TypeError, AttributeError):
        return None


_KEYS: Final = {"level": "rung"}
"""Stored names of fields that are called otherwise here: they are never renamed."""
_FIELDS: Final = tuple(name for name in Suggestion.__dataclass_fields__ if name != "extra")


def _finite(value: Any) -> Any:
    """Return the document with floats that JSON cannot write as null, others to 6 digits."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _restore(value: Any) -> Any:
    return math.nan if value is None else value

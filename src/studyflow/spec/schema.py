"""The JSON schema of study files, for editors that complete and check while one types.

It says what one field may be; what fields may be together is said by `studyflow check`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel

from studyflow.spec.arguments import NOT_WRAPPED, PRUNER_ARGUMENTS, SAMPLER_ARGUMENTS
from studyflow.spec.models import PrunerSpec, SamplerSpec, StudySpec

SCHEMA_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

EXAMPLE: Final[Mapping[str, Any]] = {
    "name": "cnn-lstm",
    "objectives": [{"metric": "val_loss", "direction": "minimize"}],
    "search_space": {
        "learning_rate": {"type": "float", "low": 1.0e-4, "high": 1.0e-2, "log": True},
        "batch_size": {"type": "int", "low": 16, "high": 128, "step": 16},
        "optimizer": {"type": "categorical", "choices": ["adam", "sgd"]},
        "momentum": {"type": "float", "low": 0.5, "high": 0.99, "when": {"optimizer": "sgd"}},
    },
    "sampler": {"type": "botorch", "n_startup_trials": 10, "seed": 0},
    "pruner": {"type": "median"},
    "budget": {"n_trials": 30, "max_parallel_trials": 4, "timeout_seconds": 7200},
    "trial": {
        "command": ["python", "train.py"],
        "image": "registry.example/cnn-lstm:1",
        "resources": {"cpu": "2", "memory": "4Gi", "gpu": 1},
        "timeout_seconds": 1800,
    },
}
"""A whole study; valid by the schema and by `studyflow check`."""


def json_schema() -> dict[str, Any]:
    """Return the schema, JSON Schema draft 2020-12, as JSON values."""
    schema = StudySpec.model_json_schema()
    parts = schema["$defs"]
    parts["SamplerSpec"] = _choice("sampler", SamplerSpec, SAMPLER_ARGUMENTS, parts)
    parts["PrunerSpec"] = _choice("pruner", PrunerSpec, PRUNER_ARGUMENTS, parts)
    wrapped = [
        {"$ref": f"#/$defs/pruner_{name}"} for name in PRUNER_ARGUMENTS if name not in NOT_WRAPPED
    ]
    parts["pruner_patient"]["properties"]["wrapped"] |= {"anyOf": [*wrapped, {"type": "null"}]}
    return {
        "$schema": SCHEMA_DIALECT,
        **schema,
        "title": "studyflow study",
        "examples": [dict(EXAMPLE)],
    }


def _choice(
    what: str,
    model: type[BaseModel],
    arguments: Mapping[str, type[BaseModel]],
    parts: dict[str, Any],
) -> dict[str, Any]:
    """Return a schema with one alternative for each type, and add the alternatives to `parts`."""
    own = model.model_json_schema()["properties"]
    default = own["type"]["default"]
    for name, arguments_model in arguments.items():
        inner = arguments_model.model_json_schema()
        kind = {"const": name, "title": "Type", "description": own["type"]["description"]}
        if name == default:
            kind["default"] = default
        parts[f"{what}_{name}"] = {
            "title": f"{what} {name}",
            "description": inner["description"],
            "type": "object",
            "properties": {**own, "type": kind, **inner.get("properties", {})},
            # Without a type, it is the default one.
            "required": [*([] if name == default else ["type"]), *inner.get("required", ())],
            "additionalProperties": False,
        }
    return {
        "title": own["type"]["title"].replace("Type", what.capitalize()),
        "description": (model.__doc__ or "").partition("\n")[0],
        "oneOf": [{"$ref": f"#/$defs/{what}_{name}"} for name in arguments],
    }

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from studyflow.spec import StudySpec, json_schema
from studyflow.spec.arguments import PRUNER_ARGUMENTS, SAMPLER_ARGUMENTS
from studyflow.spec.schema import EXAMPLE


def objects(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, dict):
        if "properties" in schema and isinstance(schema.get("type"), str):
            yield path, schema
        for key, value in schema.items():
            yield from objects(value, f"{path}/{key}")


def is_valid(document: Any) -> bool:
    jsonschema = pytest.importorskip("jsonschema")
    return bool(jsonschema.Draft202012Validator(json_schema()).is_valid(document))


def test_it_is_a_schema_of_draft_2020_12() -> None:
    jsonschema = pytest.importorskip("jsonschema")

    jsonschema.Draft202012Validator.check_schema(json_schema())
    assert json_schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert json.loads(json.dumps(json_schema())) == json_schema()


def test_every_object_is_closed_and_every_field_described() -> None:
    found = dict(objects(json_schema()))
    parts = json_schema()["$defs"]

    assert len(found) > 25
    for path, schema in found.items():
        assert schema["additionalProperties"] is False, path
        assert schema.get("description"), path
        for name, field in schema["properties"].items():
            # Pydantic leaves a description out that says the same as the part it refers to.
            part = parts.get(field.get("$ref", "").rpartition("/")[2], {})
            assert field.get("description") or part.get("description"), f"{path}/{name}"


def test_the_example_is_valid_for_the_schema_and_for_the_reader() -> None:
    assert json_schema()["examples"] == [EXAMPLE]
    assert is_valid(dict(EXAMPLE))
    assert StudySpec.from_mapping(EXAMPLE).name == "cnn-lstm"


@pytest.mark.parametrize(
    ("change", "is_right"),
    [
        ({"sampler": {"seed": 3, "deterministic": True}}, True),
        ({"sampler": {"ask_seconds": 30}}, True),
        ({"sampler": {"ask_seconds": 0}}, False),
        ({"sampler": {"type": "gp", "ask_seconds": 30}}, False),
        ({"sampler": {"type": "tpe", "n_ei_candidates": 3}}, True),
        ({"sampler": {"type": "tpe", "deterministic": True}}, False),
        ({"sampler": {"type": "random", "n_startup_trials": 3}}, False),
        ({"pruner": {"type": "percentile", "percentile": 25}}, True),
        ({"pruner": {"type": "percentile"}}, False),
        ({"pruner": {"type": "patient", "patience": 1, "wrapped": {"type": "median"}}}, True),
        ({"pruner": {"type": "patient", "patience": 1, "wrapped": {"type": "patient"}}}, False),
        ({"colour": "red"}, False),
        ({"tags": {"a": 1, "b": "c"}}, True),
        ({"budget": {"n_trials": 0}}, False),
        ({"budget": {"max_parallel_trials": 2}}, False),
        ({"budget": {"gpu_hours": 4}}, True),
        ({"trial": {"command": ["a", 1], "resources": {"cpu": 2}}}, True),
        ({"trial": {"command": ["a"], "env": {"A": 1}}}, True),
        ({"search_space": {"a": {"type": "float", "low": 0, "high": 1, "stp": 1}}}, False),
        ({"search_space": {}}, False),
        ({"objectives": []}, False),
    ],
)
def test_schema_and_reader_agree(change: dict[str, Any], is_right: bool) -> None:
    document = {**EXAMPLE, **change}

    assert is_valid(document) is is_right
    if is_right:
        StudySpec.from_mapping(document)


def test_every_sampler_and_pruner_has_its_arguments_in_the_schema() -> None:
    parts = json_schema()["$defs"]
    for name, arguments in SAMPLER_ARGUMENTS.items():
        assert parts[f"sampler_{name}"]["properties"].keys() == {
            "type",
            "seed",
            *arguments.model_fields,
        }
    for name, arguments in PRUNER_ARGUMENTS.items():
        assert parts[f"pruner_{name}"]["properties"].keys() == {"type", *arguments.model_fields}

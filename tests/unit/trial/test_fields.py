"""Fields of documents that user code wrote: what is taken, and what is refused with its value."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from studyflow.errors import DocumentError
from studyflow.trial.fields import (
    decode_float,
    encode_float,
    int64,
    metric_name,
    optional,
    read_object,
    scalars,
    storable,
    typed,
    valid_key,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (-0.0, "-0.0"),
        (1e-320, "1e-320"),
        (math.inf, '"inf"'),
        (-math.inf, '"-inf"'),
        (math.nan, '"nan"'),
        (3, "3.0"),
    ],
)
def test_any_float_has_a_form_in_json_that_gives_it_back(value: float, text: str) -> None:
    written = json.dumps(encode_float(value), allow_nan=False)
    read = decode_float(json.loads(written))

    assert written == text
    assert math.isnan(read) if math.isnan(value) else read == value
    assert math.copysign(1.0, read) == math.copysign(1.0, value) or math.isnan(value)


@pytest.mark.parametrize(
    ("value", "read"), [(10**400, math.inf), (-(10**400), -math.inf), (2, 2.0), (2**63, 2.0**63)]
)
def test_a_whole_number_of_any_length_is_a_float(value: int, read: float) -> None:
    assert decode_float(value) == read


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        *(("NaN", ValueError), ("0.5", ValueError), ("", ValueError)),
        *((True, TypeError), (None, TypeError), ([0.5], TypeError), ({}, TypeError)),
    ],
)
def test_what_is_no_number_is_refused_with_its_value(value: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="not a number"):
        decode_float(value)


@pytest.mark.parametrize("value", [0, -1, 2**63 - 1, -(2**63)])
def test_a_step_is_a_whole_number_that_databases_store(value: int) -> None:
    assert int64(value) == value


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 1.0, "1", True, None])
def test_any_other_step_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="not a whole number of 64 bits"):
        int64(value)


@pytest.mark.parametrize("name", ["loss", "ü", "a" * 250, "val/loss @ 5"])
def test_a_metric_is_named_by_what_mlflow_and_the_storage_can_keep(name: str) -> None:
    assert metric_name(name) == name


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        *(("", "1 to 250"), ("a" * 251, "1 to 250"), (7, "1 to 250"), (None, "1 to 250")),
        *(("loss\0", "can be stored"), ("\ud800", "can be stored")),
    ],
)
def test_any_other_name_of_a_metric_is_refused_by_the_rule(name: Any, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        metric_name(name)


def test_what_a_database_refuses_is_shown_as_a_question_mark() -> None:
    assert storable("NUL \0, half \ud800, whole \U0001f600") == "NUL ?, half ?, whole \U0001f600"


@pytest.mark.parametrize("value", [[1], {"a": 1}, (1,), b"1"])
def test_a_parameter_that_is_no_scalar_is_refused_by_its_name(value: Any) -> None:
    assert scalars({"a": None, "b": True, "c": 1, "d": 0.5, "e": "x"})["c"] == 1
    with pytest.raises(TypeError, match=r"^layers must be a JSON scalar, not "):
        scalars({"lr": 0.1, "layers": value})


@pytest.mark.parametrize("key", ["", "xyz", "0", "00" * 65])
def test_what_cannot_be_a_key_is_refused(key: str) -> None:
    assert valid_key(None) is None
    assert valid_key("0f" * 64) == "0f" * 64
    with pytest.raises(ValueError, match=r"key|hexadecimal"):
        valid_key(key)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"version": 1, "number": 1, "number": 2}', "a key stands twice"),
        ("[1]", "not a JSON object"),
        ("{}", "version 'None'"),
        ('{"version": true}', "version 'True'"),
        ('{"version": 1.0}', "version '1.0'"),
        ('{"version": 2}', "version '2'"),
    ],
)
def test_only_a_whole_document_of_a_known_version_is_read(text: str, told: str) -> None:
    assert read_object('{"version": 1, "later": 7}', "outcome") == {"version": 1, "later": 7}
    with pytest.raises(DocumentError, match=told) as refused:
        read_object(text, "outcome")
    assert refused.value.message.startswith("The outcome document is ")


def test_a_document_of_a_later_version_says_what_to_install() -> None:
    with pytest.raises(DocumentError) as refused:
        read_object('{"version": 2}', "trial")
    assert refused.value.hint is not None
    assert refused.value.hint.startswith("install the same studyflow")


def test_a_field_has_the_type_that_it_must_have() -> None:
    document = {"number": 1, "is_done": True, "path": None}

    assert typed(document, "number", int) == 1
    assert optional(document, "path", str) is None
    assert optional(document, "absent", str) is None
    with pytest.raises(TypeError, match="is_done must be int, not bool"):
        typed(document, "is_done", int)
    with pytest.raises(TypeError, match="number must be str, not int"):
        optional(document, "number", str)
    with pytest.raises(KeyError):
        typed(document, "absent", int)
    with pytest.raises(TypeError, match="uri must stand in an object, not list"):
        typed([], "uri", str)

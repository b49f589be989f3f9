"""What pydantic says about a part of a study file, in sentences of rule, value and fix."""

from __future__ import annotations

import math
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from studyflow.reasons import Code
from studyflow.spec.models import StudySpec
from studyflow.spec.problems import BrokenRule, Path, suggest_name


def translate(
    error: ValidationError,
    data: Any,
    path: Path,
    model: type[BaseModel],
    *,
    extra: tuple[str, ...] = (),
    shift: int = 0,
) -> list[BrokenRule]:
    """Return what a pydantic error says, in this project's sentences.

    Args:
        error: Raised by the validation of `data`.
        data: What was validated.
        path: Where `data` stands in the file.
        model: The model that describes `data`, or the one that has it as a field.
        extra: Keys known beside the model's own.
        shift: Added to the first list position: where a list of one item came from.
    """
    grouped: dict[Path, list[ErrorDetails]] = {}
    for details in error.errors(include_url=False):
        grouped.setdefault(_walk(data, details["loc"]), []).append(details)
    # A union complains once for each alternative, at the value and inside it; inside is nearer.
    deepest = [p for p in grouped if not any(q != p and q[: len(p)] == p for q in grouped)]
    findings: list[BrokenRule] = []
    for below, errors in grouped.items():
        keys = [e for e in errors if e["type"] in ("missing", "extra_forbidden")]
        keys_below = (*path, *below) if model is StudySpec else below
        owner, info = _field(model, keys_below)
        if keys and owner is not None:
            place = (*path, *(below[:-1] if keys[0]["type"] == "extra_forbidden" else below))
            if any(f.path == place or f.path[:-1] == place for f in findings if f.concerns_keys):
                continue
            value = _at(data, place[len(path) :])
            more = extra if place == path else ()
            findings += check_keys(value, place, owner, more)
        elif below in deepest or any(e["type"] == "broken_rule" for e in errors):
            findings.append(_sentence(errors, _at(data, below), (*path, *below), info))
    if shift:
        findings = [replace(found, path=_shifted(found.path, shift)) for found in findings]
    return findings


def _shifted(path: Path, shift: int) -> Path:
    return (path[0], path[1] + shift, *path[2:]) if isinstance(path[1], int) else path


def _walk(data: Any, loc: tuple[int | str, ...]) -> Path:
    """Return the part of a pydantic location that names places in the data, not alternatives."""
    path: Path = ()
    for part in loc:
        is_key = isinstance(data, Mapping) and part in data
        if is_key or (isinstance(data, list | tuple) and part in range(len(data))):
            data, path = data[part], (*path, part)
    return path


def _at(data: Any, path: Path) -> Any:
    for part in path:
        data = data[part]
    return data


def _field(model: type[BaseModel], keys: Path) -> tuple[type[BaseModel] | None, FieldInfo | None]:
    """Return the model that describes the mapping at or around a path, and the field at its end.

    `None` stands for a mapping with free keys, such as `env`, and for what is no field.
    """
    owner: type[BaseModel] | None = model
    info: FieldInfo | None = None
    is_name = False
    for part in keys:
        if isinstance(part, int) or is_name:
            is_name = False
            continue
        if owner is None or part not in owner.model_fields:
            return owner, None
        info = owner.model_fields[part]
        inner = next(_models_in(info.annotation), None)
        if inner is None and part is not keys[-1]:
            return None, info
        owner = inner or owner
        is_name = inner is not None and get_origin(info.annotation) is dict
    return owner, info


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, types.UnionType, tuple, dict, Annotated):
        for inner in get_args(annotation):
            yield from _models_in(inner)


def _names_in(annotation: Any) -> Iterator[str]:
    """Yield the names that a field may hold, itself or in a list."""
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    elif get_origin(annotation) in (Union, types.UnionType, tuple, Annotated):
        for inner in get_args(annotation):
            yield from _names_in(inner)


_NOUNS: Final[Mapping[str, str]] = {
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "finite_number": "a finite number",
    "float_type": "a number",
    "greater_than": "above {gt}",
    "greater_than_equal": "at least {ge}",
    "int_type": "a whole number",
    "less_than": "below {lt}",
    "less_than_equal": "at most {le}",
    "list_type": "a list",
    "literal_error": "{expected}",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "string_pattern_mismatch": "of the right form",
    "string_too_long": "a text of at most {max_length} characters",
    "string_too_short": "a text that is not empty",
    "string_type": "a text",
    "string_unicode": "a text without halves of surrogate pairs",
    "tuple_type": "a list",
}
"""What a value must be, by pydantic's name for what it is not."""

_SCALAR: Final = frozenset(("bool_type", "int_type", "float_type", "string_type"))


def _sentence(
    errors: list[ErrorDetails], value: Any, path: Path, info: FieldInfo | None
) -> BrokenRule:
    for error in errors:
        if error["type"] == "broken_rule":
            return BrokenRule(path, error["ctx"]["message"], error["ctx"]["hint"])
    kinds = [error["type"] for error in errors]
    if errors[0]["type"] == "too_short":
        message = "must hold at least 1 entry, but it is empty"
        return BrokenRule(path, message, f"add one: {description_of(info)}")
    if _SCALAR.issubset(kinds):
        noun = "a text, a number, true, false or null"
        if "list_type" in kinds:
            noun += ", or a list of these"
    else:
        nouns = [_noun(error) for error in errors]
        noun = " or ".join(dict.fromkeys(nouns))
    if "literal_error" in kinds and len(errors) == 1 and info is not None:
        return wrong_choice(value, path, tuple(_names_in(info.annotation)))
    return wrong_value(value, path, noun, info)


def _noun(error: ErrorDetails) -> str:
    context: dict[str, Any] = {
        name: f"{value:g}" if isinstance(value, float) else value
        for name, value in error.get("ctx", {}).items()
    }
    return _NOUNS.get(error["type"], "of the right form").format(**context)


def wrong_value(value: Any, path: Path, noun: str, info: FieldInfo | None) -> BrokenRule:
    """Return that a value is of the wrong kind or size.

    Args:
        value: The value.
        path: Where it stands.
        noun: What it must be, such as "a whole number".
        info: The field that it is of.
    """
    return BrokenRule(
        path, f"must be {noun}, but it is {show_value(value)}", _way_out(value, path, noun, info)
    )


def wrong_choice(value: Any, path: Path, known: Iterable[str]) -> BrokenRule:
    """Return that a value is none of the names that are known at its place."""
    names = ", ".join(known)
    close = suggest_name(value, known) if isinstance(value, str) else None
    hint = f"did you mean {close!r}?" if close else "choose one of these"
    return BrokenRule(path, f"must be one of {names}, but it is {show_value(value)}", hint)


def _way_out(value: Any, path: Path, noun: str, info: FieldInfo | None) -> str:
    """Return how to put a value right that is of the wrong kind or size."""
    if value is None and info is not None:
        way_out = "give it a value"
        return way_out if info.is_required() else f"{way_out}, or remove the key"
    if noun == "a mapping":
        return "write it as {key: value}, or as indented lines `key: value`"
    if "number" in noun and isinstance(value, str):
        if _is_number(value):
            return f"write {value.strip()} without quotes"
        if "_" in value and _is_number(value.replace("_", "")):
            return f"write {value.replace('_', '')}"
    if "whole number" in noun and isinstance(value, float) and value.is_integer():
        return f"write {value:.0f}"
    if noun == "true or false" and isinstance(value, str | int):
        # YAML 1.1, which most people learnt, reads `yes` and `on` as true.
        return "write true or false, without quotes"
    if noun == "a text" and isinstance(value, bool | int | float):
        return f"put it in quotes: '{show_value(value)}'"
    if noun == "a list":
        if path == ("trial", "command") and isinstance(value, str):
            return f"write the words as a list: [{', '.join(value.split()[:8])}]"
        return "put it in brackets: [...]"
    return description_of(info)


def _is_number(text: str) -> bool:
    try:
        return "_" not in text and math.isfinite(float(text))
    except ValueError:
        return False


def description_of(info: FieldInfo | None) -> str:
    """Return what the reference of the study file says of a field, without a full stop."""
    if info is None or info.description is None:
        return "see the reference of the study file"
    return info.description.rstrip(".")


def show_value(value: Any) -> str:
    """Return a value as the file has it, cut to a length that fits a sentence."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    try:
        text = repr(value)
    except ValueError:  # Python refuses to write out whole numbers of thousands of digits.
        return "a very long number"
    return text if len(text) <= 60 else f"{text[:57]}..."


def check_keys(
    data: Mapping[Any, Any], path: Path, model: type[BaseModel], extra: Iterable[str] = ()
) -> Iterator[BrokenRule]:
    """Find unknown and missing keys; one that was misspelt is not missing too."""
    known = [*model.model_fields, *extra]
    meant = set()
    for key in data:
        if isinstance(key, str) and key not in known:
            close = suggest_name(key, [name for name in known if name not in data])
            meant.add(close)
            yield unknown_key((*path, key), known, close)
    for name, info in model.model_fields.items():
        if info.is_required() and name not in data and name not in meant:
            yield missing_key(path, name, description_of(info))


def missing_key(path: Path, name: str, description: str) -> BrokenRule:
    """Return that a mapping lacks a key.

    Args:
        path: The mapping.
        name: The key.
        description: What to write under it.
    """
    hint = f"add {name}: {description}"
    return BrokenRule(path, f"{name} is missing", hint, code=Code.KEY_MISSING)


def unknown_key(path: Path, known: Iterable[str], close: str | None) -> BrokenRule:
    """Return that a mapping has a key that means nothing there.

    Args:
        path: The key.
        known: Keys that mean something.
        close: The one that it was probably meant to be; `None` when none is close.
    """
    key = path[-1]
    if key == "<<":
        hint = "YAML 1.2 has no merge keys; repeat the lines, or alias the whole value"
    elif close is not None:
        hint = f"did you mean {close!r}?"
    else:
        hint = f"known here: {', '.join(known) or 'none'}"
    message = f"unknown key {key!r}"
    return BrokenRule(path, message, hint, is_about_key=True, code=Code.KEY_UNKNOWN)

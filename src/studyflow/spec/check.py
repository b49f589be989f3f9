"""Check of a parsed study file, section by section, so that no problem hides another.

Each section, each parameter and each objective is validated alone; what pydantic says about it is
put into sentences of rule, value and way out; then the rules between parts look at what is left.
"""

from __future__ import annotations

import math
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from studyflow.spec.arguments import PRUNER_ARGUMENTS, SAMPLER_ARGUMENTS
from studyflow.spec.models import (
    ConstraintSpec,
    ObjectiveSpec,
    PrunerSpec,
    SamplerSpec,
    StudySpec,
)
from studyflow.spec.problems import Finding, Path, suggest_name
from studyflow.spec.rules import Draft, broken_rules
from studyflow.spec.space import CategoricalParameter, FloatParameter, IntParameter

PARAMETER_TYPES: Final[Mapping[str, type[FloatParameter | IntParameter | CategoricalParameter]]] = {
    "float": FloatParameter,
    "int": IntParameter,
    "categorical": CategoricalParameter,
}

# Annotations are put together at run time here, which mypy cannot follow; the name only serves
# fields without further metadata, as `Annotated` wants some.
_annotated: Any = Annotated
_ADAPTERS: Final[Mapping[str, TypeAdapter[Any]]] = {
    name: TypeAdapter(_annotated[(info.annotation, name, *info.metadata)])
    for name, info in StudySpec.model_fields.items()
}

_WHOLE_SECTIONS: Final = (
    "name",
    "description",
    "tags",
    "experiment",
    "budget",
    "stop",
    "retry",
    "notify",
    "trial",
)
"""Sections that are checked by their model alone."""

_ABSENT: Final = object()


def check_mapping(data: Any) -> tuple[StudySpec | None, tuple[Finding, ...]]:
    """Return the study that parsed YAML or JSON describes, or else everything wrong with it."""
    if not isinstance(data, Mapping):
        hint = "begin with `name: ...`; the first example in the tutorial is a whole study"
        message = f"a study must be a mapping, but it is {show_value(data)}"
        return None, (Finding((), message, hint),)
    findings = list(_unstorable_texts(data, ()))
    draft, more = _check_sections(data)
    findings += more
    findings += broken_rules(draft)
    if not findings:
        try:
            return StudySpec.model_validate(data), ()
        except ValidationError as error:  # Nothing is expected here that was not found above.
            findings += translate(error, data, (), StudySpec)
    return None, _first_of_each_path(findings)


def _first_of_each_path(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return the findings without second ones about the same value: mend one, then look again."""
    first: dict[tuple[Path, bool, str], Finding] = {}
    for finding in findings:
        # Several keys may be missing from one mapping, and a key and its value may both be wrong.
        is_missing = finding.message.endswith(" is missing")
        key = (finding.path, finding.is_about_key, finding.message if is_missing else "")
        first.setdefault(key, finding)
    return tuple(first.values())


def _unstorable_texts(data: Any, path: Path) -> Iterator[Finding]:
    """Find texts that no environment variable, command line or database can hold."""
    if isinstance(data, str):
        if "\0" in data or any("\ud800" <= c <= "\udfff" for c in data):
            yield Finding(
                path,
                "a text must not hold NUL characters or halves of surrogate pairs, but it is "
                f"{show_value(data)}",
                "remove that character",
            )
    elif isinstance(data, Mapping):
        for key, value in data.items():
            if isinstance(key, str):
                yield from _unstorable_texts(value, (*path, key))
            else:
                yield Finding(path, f"a key must be a text, but {key!r} is one", "put it in quotes")
    elif isinstance(data, list | tuple):
        for i, value in enumerate(data):
            yield from _unstorable_texts(value, (*path, i))


def _check_sections(data: Mapping[Any, Any]) -> tuple[Draft, list[Finding]]:
    findings = list(_check_keys(data, (), StudySpec))
    whole = {name: _check_whole(data, name, findings) for name in _WHOLE_SECTIONS}
    objectives = _check_items(data, "objectives", ObjectiveSpec, findings)
    constraints = _check_items(data, "constraints", ConstraintSpec, findings)
    enqueue = _check_items(data, "enqueue", None, findings)
    parameters, broken, stand_ins = _check_space(data, findings)
    sampler, _ = _check_choice(data, "sampler", SamplerSpec, SAMPLER_ARGUMENTS, findings)
    pruner, arguments = _check_choice(data, "pruner", PrunerSpec, PRUNER_ARGUMENTS, findings)
    listed = data.get("objectives")
    draft = Draft(
        name=whole["name"],
        experiment=whole["experiment"],
        objectives=objectives or {},
        n_objectives=len(listed) if isinstance(listed, list | tuple) else None,
        constraints=constraints or {},
        parameters=parameters or {},
        broken_parameters=broken,
        stand_ins=stand_ins,
        metrics={section: _metrics_at(data, section) for section in ("objectives", "constraints")},
        is_space_known=parameters is not None,
        fixed=_check_fixed(data, findings),
        enqueue=enqueue or {},
        sampler=sampler,
        pruner=pruner,
        pruner_arguments=arguments,
        stop=whole["stop"],
        trial=whole["trial"],
        tags=_names_at(data, "tags"),
        env=_names_at(data, "trial", "env"),
        secret_env=_names_at(data, "trial", "kubernetes", "secret_env"),
    )
    return draft, findings


def _check_keys(
    data: Mapping[Any, Any], path: Path, model: type[BaseModel], extra: Iterable[str] = ()
) -> Iterator[Finding]:
    """Find unknown and missing keys; one that was misspelt is not missing too."""
    known = [*model.model_fields, *extra]
    meant = set()
    for key in data:
        if isinstance(key, str) and key not in known:
            close = suggest_name(key, [name for name in known if name not in data])
            meant.add(close)
            yield _unknown_key((*path, key), known, close)
    for name, info in model.model_fields.items():
        if info.is_required() and name not in data and name not in meant:
            yield Finding(path, f"{name} is missing", f"add {name}: {_description(info)}")


def _unknown_key(path: Path, known: Iterable[str], close: str | None) -> Finding:
    key = path[-1]
    if key == "<<":
        hint = "YAML 1.2 has no merge keys; repeat the lines, or alias the whole value"
    elif close is not None:
        hint = f"did you mean {close!r}?"
    else:
        hint = f"known here: {', '.join(known) or 'none'}"
    return Finding(path, f"unknown key {key!r}", hint, is_about_key=True)


def _check_whole(data: Mapping[Any, Any], name: str, findings: list[Finding]) -> Any:
    """Return a section's value, its default when left out, or `None` when it has problems."""
    info = StudySpec.model_fields[name]
    if name not in data:
        return None if info.is_required() else info.get_default(call_default_factory=True)
    try:
        return _ADAPTERS[name].validate_python(data[name])
    except ValidationError as error:
        findings += translate(error, data[name], (name,), StudySpec)
        return None


def _check_items(
    data: Mapping[Any, Any],
    name: str,
    model: type[BaseModel] | None,
    findings: list[Finding],
) -> dict[int, Any] | None:
    """Return the valid items of a list by position; `None` when there is no list."""
    items = data.get(name, _ABSENT)
    if items is _ABSENT:
        return None
    if not isinstance(items, list | tuple):
        findings.append(_wrong(items, (name,), "a list", StudySpec.model_fields[name]))
        return None
    if not items and StudySpec.model_fields[name].is_required():
        hint = f"add one: {_description(StudySpec.model_fields[name])}"
        findings.append(Finding((name,), "must hold at least 1 entry, but it is empty", hint))
    valid: dict[int, Any] = {}
    for i, item in enumerate(items):
        try:
            if model is None:
                valid[i] = _ADAPTERS[name].validate_python([item])[0]
            else:
                valid[i] = model.model_validate(item)
        except ValidationError as error:
            if model is None:
                findings += translate(error, [item], (name,), StudySpec, shift=i)
            else:
                findings += translate(error, item, (name, i), model)
    return valid


def _check_fixed(data: Mapping[Any, Any], findings: list[Finding]) -> dict[str, Any]:
    """Return the fixed parameters that are valid."""
    fixed = data.get("fixed", {})
    if not isinstance(fixed, Mapping):
        info = StudySpec.model_fields["fixed"]
        findings.append(_wrong(fixed, ("fixed",), "a mapping", info))
        return {}
    valid: dict[str, Any] = {}
    for name, value in fixed.items():
        if isinstance(name, str):
            try:
                valid |= _ADAPTERS["fixed"].validate_python({name: value})
            except ValidationError as error:
                findings += translate(error, {name: value}, ("fixed",), StudySpec)
                valid[name] = None  # The name is taken all the same.
    return valid


def _names_at(data: Any, *keys: str) -> tuple[str, ...]:
    """Return the keys of a mapping, however wrong its values are."""
    for key in keys:
        data = data.get(key) if isinstance(data, Mapping) else None
    return tuple(key for key in data if isinstance(key, str)) if isinstance(data, Mapping) else ()


def _metrics_at(data: Mapping[Any, Any], section: str) -> dict[int, str]:
    """Return the metrics that a list's items name, however wrong the rest of them is."""
    items = data.get(section)
    return {
        i: item["metric"]
        for i, item in enumerate(items if isinstance(items, list | tuple) else ())
        if isinstance(item, Mapping) and isinstance(item.get("metric"), str)
    }


def _stand_in(raw: Any) -> CategoricalParameter | None:
    """Return a parameter with the conditions of a broken one; `None` when those are broken too."""
    if not isinstance(raw, Mapping) or "when" not in raw:
        return None
    try:
        return CategoricalParameter.model_validate(
            {"type": "categorical", "choices": ["any"], "when": raw["when"]}
        )
    except ValidationError:
        return None


def _check_space(
    data: Mapping[Any, Any], findings: list[Finding]
) -> tuple[dict[str, Any] | None, frozenset[str], dict[str, CategoricalParameter]]:
    """Return the valid parameters, the names of the others, and stand-ins for some of these.

    The first is `None` when there is no space.
    """
    space = data.get("search_space", _ABSENT)
    if space is _ABSENT:
        return None, frozenset(), {}
    info = StudySpec.model_fields["search_space"]
    if not isinstance(space, Mapping):
        findings.append(_wrong(space, ("search_space",), "a mapping", info))
        return None, frozenset(), {}
    if not space:
        hint = "add a parameter, such as `lr: {type: float, low: 1.0e-4, high: 0.1, log: true}`"
        message = "must hold at least 1 entry, but it is empty"
        findings.append(Finding(("search_space",), message, hint))
        return None, frozenset(), {}
    valid: dict[str, Any] = {}
    broken = set()
    stand_ins = {}
    for name, raw in space.items():
        if not isinstance(name, str):
            continue
        parameter, problems = _check_parameter(raw, ("search_space", name))
        findings += problems
        if parameter is None:
            broken.add(name)
            if (stand_in := _stand_in(raw)) is not None:
                stand_ins[name] = stand_in
        else:
            valid[name] = parameter
    return valid, frozenset(broken), stand_ins


def _check_parameter(raw: Any, path: Path) -> tuple[Any, list[Finding]]:
    if not isinstance(raw, Mapping):
        hint = "describe it: {type: float, low: ..., high: ...}; one single value belongs in fixed"
        message = f"must be a mapping, but it is {show_value(raw)}"
        return None, [Finding(path, message, hint)]
    kind = raw.get("type", _ABSENT)
    if kind is _ABSENT:
        if "<<" in raw:
            return None, [_unknown_key((*path, "<<"), (), None)]
        if meant := suggest_name("type", [k for k in raw if isinstance(k, str)]):
            known = ("type", *FloatParameter.model_fields)
            return None, [_unknown_key((*path, meant), known, "type")]
        return None, [Finding(path, "type is missing", "add type: float, int or categorical")]
    model = PARAMETER_TYPES.get(kind) if isinstance(kind, str) else None
    if model is None:
        return None, [_wrong_choice(kind, (*path, "type"), PARAMETER_TYPES)]
    try:
        return model.model_validate(raw), []
    except ValidationError as error:
        return None, translate(error, raw, path, model)


def _check_choice(
    data: Mapping[Any, Any],
    name: str,
    model: type[SamplerSpec | PrunerSpec],
    table: Mapping[str, type[BaseModel]],
    findings: list[Finding],
) -> tuple[Any, BaseModel | None]:
    """Return a sampler or pruner and its arguments with defaults; `None` for what is wrong."""
    raw = data.get(name, _ABSENT)
    if raw is _ABSENT:
        spec = model()
        return spec, table[spec.type]()
    return _check_named(raw, (name,), model, table, findings)


def _check_named(
    raw: Any,
    path: Path,
    model: type[SamplerSpec | PrunerSpec],
    table: Mapping[str, type[BaseModel]],
    findings: list[Finding],
) -> tuple[Any, BaseModel | None]:
    if not isinstance(raw, Mapping):
        hint = (
            f"write {{type: {raw if isinstance(raw, str) and raw in table else next(iter(table))}}}"
        )
        findings.append(Finding(path, f"must be a mapping, but it is {show_value(raw)}", hint))
        return None, None
    spec = None
    own = {key: raw[key] for key in raw if key in model.model_fields}
    kind = own.get("type", model.model_fields["type"].default)
    if not isinstance(kind, str) or kind not in table:
        findings.append(_wrong_choice(kind, (*path, "type"), table))
        own.pop("type")
    try:
        spec = model.model_validate(own)
    except ValidationError as error:
        findings += translate(error, own, path, model)
    if not isinstance(kind, str) or kind not in table:
        return None, None
    given = {key: value for key, value in raw.items() if key not in own}
    n_before = len(findings)
    arguments: BaseModel | None = None
    try:
        arguments = table[kind].model_validate(given)
    except ValidationError as error:
        findings += translate(error, given, path, table[kind], extra=tuple(model.model_fields))
    wrapped = given.get("wrapped")
    if kind == "patient" and isinstance(wrapped, Mapping):
        others = {k: v for k, v in table.items() if k not in ("patient", "none")}
        if "type" in wrapped:
            _check_named(wrapped, (*path, "wrapped"), model, others, findings)
        else:
            hint = f"choose one of {', '.join(others)}"
            findings.append(Finding((*path, "wrapped"), "type is missing", hint))
    return spec, arguments if len(findings) == n_before else None


def translate(
    error: ValidationError,
    data: Any,
    path: Path,
    model: type[BaseModel],
    *,
    extra: tuple[str, ...] = (),
    shift: int = 0,
) -> list[Finding]:
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
    findings: list[Finding] = []
    for below, errors in grouped.items():
        keys = [e for e in errors if e["type"] in ("missing", "extra_forbidden")]
        keys_below = (*path, *below) if model is StudySpec else below
        owner, info = _field(model, keys_below)
        if keys and owner is not None:
            place = (*path, *(below[:-1] if keys[0]["type"] == "extra_forbidden" else below))
            if any(f.path == place or f.path[:-1] == place for f in findings if _is_about_keys(f)):
                continue
            value = _at(data, place[len(path) :])
            more = extra if place == path else ()
            findings += _check_keys(value, place, owner, more)
        elif below in deepest or any(e["type"] == "broken_rule" for e in errors):
            findings.append(_sentence(errors, _at(data, below), (*path, *below), info))
    if shift:
        findings = [
            Finding(_shifted(f.path, shift), f.message, f.hint, f.is_about_key) for f in findings
        ]
    return findings


def _is_about_keys(finding: Finding) -> bool:
    return finding.message.endswith(" is missing") or finding.message.startswith("unknown key")


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
) -> Finding:
    for error in errors:
        if error["type"] == "broken_rule":
            return Finding(path, error["ctx"]["message"], error["ctx"]["hint"])
    kinds = [error["type"] for error in errors]
    if errors[0]["type"] == "too_short":
        message = "must hold at least 1 entry, but it is empty"
        return Finding(path, message, f"add one: {_description(info)}")
    if _SCALAR.issubset(kinds):
        noun = "a text, a number, true, false or null"
        if "list_type" in kinds:
            noun += ", or a list of these"
    else:
        nouns = [_noun(error) for error in errors]
        noun = " or ".join(dict.fromkeys(nouns))
    if "literal_error" in kinds and len(errors) == 1 and info is not None:
        return _wrong_choice(value, path, tuple(_names_in(info.annotation)))
    return _wrong(value, path, noun, info)


def _noun(error: ErrorDetails) -> str:
    context: dict[str, Any] = {
        name: f"{value:g}" if isinstance(value, float) else value
        for name, value in error.get("ctx", {}).items()
    }
    return _NOUNS.get(error["type"], "of the right form").format(**context)


def _wrong(value: Any, path: Path, noun: str, info: FieldInfo | None) -> Finding:
    return Finding(
        path, f"must be {noun}, but it is {show_value(value)}", _way_out(value, path, noun, info)
    )


def _wrong_choice(value: Any, path: Path, known: Iterable[str]) -> Finding:
    names = ", ".join(known)
    close = suggest_name(value, known) if isinstance(value, str) else None
    hint = f"did you mean {close!r}?" if close else "choose one of these"
    return Finding(path, f"must be one of {names}, but it is {show_value(value)}", hint)


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
    return _description(info)


def _is_number(text: str) -> bool:
    try:
        return "_" not in text and math.isfinite(float(text))
    except ValueError:
        return False


def _description(info: FieldInfo | None) -> str:
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

"""Check of a parsed study file, section by section, so that no problem hides another.

Each section, each parameter and each objective is validated alone; what pydantic says about it is
put into sentences of rule, value and fix; then the rules between parts look at what is left.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Final

from pydantic import BaseModel, TypeAdapter, ValidationError

from studyflow.reasons import Code
from studyflow.spec.arguments import NOT_WRAPPED, PRUNER_ARGUMENTS, SAMPLER_ARGUMENTS
from studyflow.spec.models import (
    ConstraintSpec,
    ObjectiveSpec,
    PrunerSpec,
    SamplerSpec,
    StudySpec,
)
from studyflow.spec.parameters import CategoricalParameter, FloatParameter, IntParameter
from studyflow.spec.problems import BrokenRule, Path, suggest_name
from studyflow.spec.rules import Draft, broken_rules
from studyflow.spec.translation import (
    check_keys,
    description_of,
    missing_key,
    show_value,
    translate,
    unknown_key,
    wrong_choice,
    wrong_value,
)

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


def check_mapping(data: Any) -> tuple[StudySpec | None, tuple[BrokenRule, ...]]:
    """Return the study that parsed YAML or JSON describes, or else everything wrong with it."""
    if not isinstance(data, Mapping):
        hint = "begin with `name: ...`; the first example in the tutorial is a whole study"
        message = f"a study must be a mapping, but it is {show_value(data)}"
        return None, (BrokenRule((), message, hint),)
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


def _first_of_each_path(findings: Iterable[BrokenRule]) -> tuple[BrokenRule, ...]:
    """Return the findings without second ones about the same value: fix one, then look again."""
    first: dict[tuple[Path, bool, str], BrokenRule] = {}
    for finding in findings:
        # Several keys may be missing from one mapping, and a key and its value may both be wrong.
        is_missing = finding.code is Code.KEY_MISSING
        key = (finding.path, finding.is_about_key, finding.message if is_missing else "")
        first.setdefault(key, finding)
    return tuple(first.values())


def _unstorable_texts(data: Any, path: Path) -> Iterator[BrokenRule]:
    """Find texts that no environment variable, command line or database can hold."""
    if isinstance(data, str):
        if "\0" in data or any("\ud800" <= c <= "\udfff" for c in data):
            yield BrokenRule(
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
                yield BrokenRule(
                    path, f"a key must be a text, but {key!r} is one", "put it in quotes"
                )
    elif isinstance(data, list | tuple):
        for i, value in enumerate(data):
            yield from _unstorable_texts(value, (*path, i))


def _check_sections(data: Mapping[Any, Any]) -> tuple[Draft, list[BrokenRule]]:
    findings = list(check_keys(data, (), StudySpec))
    whole = {name: _check_whole(data, name, findings) for name in _WHOLE_SECTIONS}
    objectives = _check_items(data, "objectives", ObjectiveSpec, findings)
    constraints = _check_items(data, "constraints", ConstraintSpec, findings)
    enqueue = _check_items(data, "enqueue", None, findings)
    parameters, broken, stand_ins = _check_space(data, findings)
    sampler, of_sampler = _check_choice(data, "sampler", SamplerSpec, SAMPLER_ARGUMENTS, findings)
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
        sampler_arguments=of_sampler,
        pruner=pruner,
        pruner_arguments=arguments,
        budget=whole["budget"],
        stop=whole["stop"],
        trial=whole["trial"],
        tags=_names_at(data, "tags"),
        env=_names_at(data, "trial", "env"),
        secret_env=_names_at(data, "trial", "kubernetes", "secret_env"),
    )
    return draft, findings


def _check_whole(data: Mapping[Any, Any], name: str, findings: list[BrokenRule]) -> Any:
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
    findings: list[BrokenRule],
) -> dict[int, Any] | None:
    """Return the valid items of a list by position; `None` when there is no list."""
    items = data.get(name, _ABSENT)
    if items is _ABSENT:
        return None
    if not isinstance(items, list | tuple):
        findings.append(wrong_value(items, (name,), "a list", StudySpec.model_fields[name]))
        return None
    if not items and StudySpec.model_fields[name].is_required():
        hint = f"add one: {description_of(StudySpec.model_fields[name])}"
        findings.append(BrokenRule((name,), "must hold at least 1 entry, but it is empty", hint))
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


def _check_fixed(data: Mapping[Any, Any], findings: list[BrokenRule]) -> dict[str, Any]:
    """Return the fixed parameters that are valid."""
    fixed = data.get("fixed", {})
    if not isinstance(fixed, Mapping):
        info = StudySpec.model_fields["fixed"]
        findings.append(wrong_value(fixed, ("fixed",), "a mapping", info))
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
    data: Mapping[Any, Any], findings: list[BrokenRule]
) -> tuple[dict[str, Any] | None, frozenset[str], dict[str, CategoricalParameter]]:
    """Return the valid parameters, the names of the others, and stand-ins for some of these.

    The first is `None` when there is no space.
    """
    space = data.get("search_space", _ABSENT)
    if space is _ABSENT:
        return None, frozenset(), {}
    info = StudySpec.model_fields["search_space"]
    if not isinstance(space, Mapping):
        findings.append(wrong_value(space, ("search_space",), "a mapping", info))
        return None, frozenset(), {}
    if not space:
        hint = "add a parameter, such as `lr: {type: float, low: 1.0e-4, high: 0.1, log: true}`"
        message = "must hold at least 1 entry, but it is empty"
        findings.append(BrokenRule(("search_space",), message, hint))
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


def _check_parameter(raw: Any, path: Path) -> tuple[Any, list[BrokenRule]]:
    if not isinstance(raw, Mapping):
        hint = "describe it: {type: float, low: ..., high: ...}; one single value belongs in fixed"
        message = f"must be a mapping, but it is {show_value(raw)}"
        return None, [BrokenRule(path, message, hint)]
    kind = raw.get("type", _ABSENT)
    if kind is _ABSENT:
        if "<<" in raw:
            return None, [unknown_key((*path, "<<"), (), None)]
        if meant := suggest_name("type", [k for k in raw if isinstance(k, str)]):
            known = ("type", *FloatParameter.model_fields)
            return None, [unknown_key((*path, meant), known, "type")]
        return None, [missing_key(path, "type", "float, int or categorical")]
    model = PARAMETER_TYPES.get(kind) if isinstance(kind, str) else None
    if model is None:
        return None, [wrong_choice(kind, (*path, "type"), PARAMETER_TYPES)]
    try:
        return model.model_validate(raw), []
    except ValidationError as error:
        return None, translate(error, raw, path, model)


def _check_choice(
    data: Mapping[Any, Any],
    name: str,
    model: type[SamplerSpec | PrunerSpec],
    table: Mapping[str, type[BaseModel]],
    findings: list[BrokenRule],
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
    findings: list[BrokenRule],
) -> tuple[Any, BaseModel | None]:
    if not isinstance(raw, Mapping):
        hint = (
            f"write {{type: {raw if isinstance(raw, str) and raw in table else next(iter(table))}}}"
        )
        findings.append(BrokenRule(path, f"must be a mapping, but it is {show_value(raw)}", hint))
        return None, None
    spec = None
    own = {key: raw[key] for key in raw if key in model.model_fields}
    kind = own.get("type", model.model_fields["type"].default)
    if not isinstance(kind, str) or kind not in table:
        findings.append(wrong_choice(kind, (*path, "type"), table))
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
        others = {k: v for k, v in table.items() if k not in NOT_WRAPPED}
        if "type" in wrapped:
            _check_named(wrapped, (*path, "wrapped"), model, others, findings)
        else:
            hint = f"choose one of {', '.join(others)}"
            place = (*path, "wrapped")
            findings.append(BrokenRule(place, "type is missing", hint, code=Code.KEY_MISSING))
    return spec, arguments if len(findings) == n_before else None

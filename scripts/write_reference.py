"""Writes `docs/reference/`: the public interface, from the code's own docstrings and models.

    python scripts/write_reference.py [FOLDER]

FOLDER is `docs/reference` by default. Docstrings are read by griffe, without importing what they
are of; study files are described by the models that check them. What is written depends on the code
alone, so a test tells when the pages are out of date; `make reference` renews them.
"""

from __future__ import annotations

import ast
import re
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import griffe
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from studyflow.spec.arguments import PRUNER_ARGUMENTS, SAMPLER_ARGUMENTS
from studyflow.spec.models import StudySpec
from studyflow.spec.parameters import CategoricalParameter, FloatParameter, IntParameter
from studyflow.spec.prior import Prior
from studyflow.spec.values import Scalar

ROOT: Final = Path(__file__).parents[1]

_NOTE: Final = "*Made from the code by `make reference`; changes here are overwritten.*"

MODULES: Final[Mapping[str, tuple[str, tuple[str, ...], str]]] = {
    "sdk.md": (
        "The SDK",
        ("studyflow.sdk",),
        "What a training script imports. The [tutorial](../tutorial.md) shows it in use.",
    ),
    "sampler.md": (
        "The sampler in Python",
        ("studyflow.samplers.botorch", "studyflow.samplers.explanation"),
        "`BoTorchSampler` serves any Optuna study; see [how it works](../sampler.md).",
    ),
    "testing.md": (
        "Testing kits",
        (
            "studyflow.testing.executor_contract",
            "studyflow.testing.tracker_contract",
            "studyflow.testing.fake_clock",
            "studyflow.testing.fake_executor",
            "studyflow.testing.fake_cluster",
            "studyflow.testing.fake_cluster_server",
            "studyflow.testing.failing_storage",
            "studyflow.testing.failing_tracker",
        ),
        "For those who write an executor or a tracker, and for tests of studies without processes.",
    ),
}
"""Pages made of docstrings: title, modules, and a sentence or two before them."""


def reference() -> dict[str, str]:
    """Return the text of every page, by its name."""
    loader = griffe.GriffeLoader(
        search_paths=[ROOT / "src"], docstring_parser=griffe.Parser.google, allow_inspection=False
    )
    package = loader.load("studyflow")
    pages = {
        name: _page(title, intro, (_module(package, module) for module in modules))
        for name, (title, modules, intro) in MODULES.items()
    }
    pages["study-file.md"] = _page(
        "The fields of a study file",
        "Every field with its type, default and meaning. [The study file](../study-file.md) "
        "explains them by an example.",
        _study_file(),
    )
    pages["README.md"] = _page("Reference", "What other code may use and rely on.", [_index(pages)])
    return pages


def _index(pages: Mapping[str, str]) -> str:
    titles = {name: text.partition("\n")[0].removeprefix("# ") for name, text in pages.items()}
    links = "\n".join(f"- [{title}]({name})" for name, title in titles.items())
    return (
        f"{links}\n\nThe commands describe themselves: `studyflow COMMAND --help`. "
        "[Versions](../versions.md) says what stays as it is."
    )


def _page(title: str, intro: str, parts: Iterable[str]) -> str:
    return "\n\n".join([f"# {title}", intro, _NOTE, *parts]).rstrip() + "\n"


# ---- docstrings ----------------------------------------------------------------------------------


def _module(package: Any, name: str) -> str:
    """Return a module's docstring, and every public function and class in it."""
    module = package[name.removeprefix(f"{package.name}.")]
    lines = [f"## `{name}`", *_docstring(module)]
    for member in _public(module):
        lines += _class(member) if member.is_class else _function(member, "###")
    return "\n\n".join(line for line in lines if line)


def _public(module: Any) -> list[Any]:
    """Return what a module offers: by its `__all__`, or else what is defined there."""
    exports = module.exports
    names = [str(name) for name in exports] if exports else list(module.members)
    found = []
    for name in names:
        member = module.members[name]
        if member.is_alias:
            if not exports:
                continue
            member = member.final_target
        is_shown = member.is_function or member.is_class
        if is_shown and not name.startswith("_") and member.docstring is not None:
            found.append(member)
    return found


def _class(found: Any) -> list[str]:
    lines = [f"### class `{found.name}`"]
    start = found.members.get("__init__")
    if start is not None:
        lines.append(_code(f"{found.name}{_signature(start)}".removesuffix(" -> None")))
    lines += _docstring(found)
    fields = [one for one in found.members.values() if one.is_attribute and _is_shown(one)]
    if fields:
        lines.append(_table(("attribute", "meaning"), map(_attribute, fields)))
    functions = [one for one in found.members.values() if one.is_function]
    for one in functions:
        if _is_shown(one) and not one.name.startswith("test_"):
            lines += _function(one, "####")
    if tests := [one.name for one in functions if one.name.startswith("test_")]:
        named = "\n".join(f"- {name.removeprefix('test_').replace('_', ' ')}" for name in tests)
        lines.append(f"What it tests:\n\n{named}")
    return lines


def _is_shown(found: Any) -> bool:
    return not found.name.startswith("_") and found.docstring is not None


def _attribute(found: Any) -> tuple[str, str]:
    kind = "" if found.annotation is None else f": {found.annotation}"
    return f"`{_inline(found.name + kind)}`", _inline(found.docstring.value)


def _function(found: Any, level: str) -> list[str]:
    return [
        f"{level} `{found.name}`",
        _code(f"{found.name}{_signature(found)}"),
        *_docstring(found),
    ]


def _signature(found: Any) -> str:
    """Return parameters and result as they are written, one a line where they are long."""
    parameters, is_keyword_only = [], False
    for one in found.parameters:
        if one.name in ("self", "cls"):
            continue
        kind = one.kind.value
        if kind == "keyword-only" and not is_keyword_only:
            is_keyword_only = True
            parameters.append("*")
        stars = {"variadic positional": "*", "variadic keyword": "**"}.get(kind, "")
        is_keyword_only = is_keyword_only or stars == "*"
        text = f"{stars}{one.name}"
        if one.annotation is not None:
            text += f": {one.annotation}"
        if one.default is not None and not stars:
            text += f" = {one.default}" if one.annotation is not None else f"={one.default}"
        parameters.append(text)
        if kind == "positional-only":
            parameters.append("/")
    result = "" if found.returns is None else f" -> {found.returns}"
    line = f"({', '.join(parameters)}){result}"
    if len(found.name + line) <= 90 or not parameters:
        return line
    inner = "".join(f"    {one},\n" for one in parameters)
    return f"(\n{inner}){result}"


def _code(text: str) -> str:
    """Return a block of code, named as Python if it is some: a program, or a signature."""
    is_python = any(map(_parses, (text, f"def {text}: ...")))
    return f"```{'python' if is_python else 'text'}\n{text}\n```"


def _parses(text: str) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def _docstring(found: Any) -> Iterator[str]:
    if found.docstring is None:
        return
    for section in found.docstring.parsed:
        kind = section.kind.value
        if kind == "text":
            yield _text(section.value)
        elif kind == "parameters":
            rows = ((f"`{one.name}`", _inline(one.description)) for one in section.value)
            yield _table(("argument", "meaning"), rows)
        elif kind == "attributes":
            rows = ((f"`{one.name}`", _inline(one.description)) for one in section.value)
            yield _table(("attribute", "meaning"), rows)
        elif kind == "raises":
            yield _list("Raises", ((str(one.annotation), one.description) for one in section.value))
        elif kind in ("returns", "yields"):
            says = " ".join(_inline(one.description) for one in section.value)
            yield f"**{kind.capitalize()}:** {says}"
        else:
            raise ValueError(f"{found.path}: a section of a kind that no page has: {kind}")


def _list(title: str, entries: Iterable[tuple[str, str]]) -> str:
    lines = "\n".join(f"- `{name}`: {_inline(text)}" for name, text in entries)
    return f"**{title}:**\n\n{lines}"


def _text(text: str) -> str:
    """Return a docstring's prose: without maps of files, with its examples as Python."""
    kept: list[str] = []
    for paragraph in text.split("\n\n"):
        lines = paragraph.splitlines()
        if all(re.match(r"\S+\.py\s{2,}", line) for line in lines):
            continue
        is_code = all(line.startswith("    ") for line in lines if line)
        if is_code and kept and kept[-1].endswith("\n```"):
            kept[-1] = kept[-1].removesuffix("\n```") + "\n\n" + _without_indent(lines) + "\n```"
        else:
            kept.append(_code(_without_indent(lines)) if is_code else paragraph)
    return "\n\n".join(kept)


def _without_indent(lines: list[str]) -> str:
    return "\n".join(line[4:] for line in lines)


def _inline(text: str) -> str:
    """Return a text on one line, as a table's cell takes it."""
    return " ".join(text.split()).replace("|", "\\|")


def _table(titles: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [titles, tuple("---" for _ in titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# ---- study files ---------------------------------------------------------------------------------

_PARAMETERS: Final[Mapping[str, type[BaseModel]]] = {
    "float": FloatParameter,
    "int": IntParameter,
    "categorical": CategoricalParameter,
}


def _study_file() -> Iterator[str]:
    """Yield a section for each part of a study file, outer ones first."""
    yield "## The file\n\n" + _fields(StudySpec)
    for path, model in _parts(StudySpec, ""):
        yield f"## `{path}`\n\n{_first_paragraph(model)}\n\n{_fields(model)}"
    for name, parameter in _PARAMETERS.items():
        yield f"## `search_space`: {name}\n\n{_first_paragraph(parameter)}\n\n{_fields(parameter)}"
    yield f"## `prior`\n\n{_first_paragraph(Prior)}\n\n{_fields(Prior)}"
    for what, known in (("sampler", SAMPLER_ARGUMENTS), ("pruner", PRUNER_ARGUMENTS)):
        for name, arguments in known.items():
            described = _first_paragraph(arguments)
            table = _fields(arguments) if arguments.model_fields else ""
            yield f"## `{what}`: {name}\n\n{described}\n\n{table}".rstrip()


def _parts(model: type[BaseModel], path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    for name, info in model.model_fields.items():
        inner = _model_in(info.annotation)
        if inner is not None and inner not in _PARAMETERS.values() and inner is not Prior:
            below = f"{path}.{name}".removeprefix(".")
            yield below, inner
            yield from _parts(inner, below)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_in(inner) for inner in get_args(annotation))
    return next((one for one in found if one is not None), None)


def _first_paragraph(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split("\n\n")[0].split())


def _fields(model: type[BaseModel]) -> str:
    rows = (_row(name, info) for name, info in model.model_fields.items())
    return _table(("field", "type", "default", "meaning"), rows)


def _row(name: str, info: FieldInfo) -> tuple[str, str, str, str]:
    bounds = ", ".join(filter(None, map(_bound, info.metadata)))
    kind = _kind(info.annotation) + (f", {bounds}" if bounds else "")
    return f"`{name}`", kind, _default(info), _inline(info.description or "")


def _kind(annotation: Any) -> str:
    """Return the type of a field in the words of a study file."""
    arguments, origin = get_args(annotation), get_origin(annotation)
    if annotation == Scalar:
        return "text, number, true, false or null"
    if origin is Annotated:
        bounds = ", ".join(filter(None, map(_bound, arguments[1:])))
        return _kind(arguments[0]) + (f", {bounds}" if bounds else "")
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (Union, types.UnionType):
        inner = [_kind(one) for one in arguments if one is not type(None)]
        return " or ".join(dict.fromkeys(inner))
    if origin in (tuple, list):
        return f"list of {_kind(arguments[0])}"
    if origin is dict:
        return "mapping" if arguments[1] is Any else f"mapping of names to {_kind(arguments[1])}"
    names = {bool: "true or false", int: "whole number", float: "number", str: "text"}
    return names.get(annotation, "section")


def _bound(constraint: Any) -> str:
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    for name, word in words.items():
        if (value := getattr(constraint, name, None)) is not None:
            return f"{word} {value:,}" if isinstance(value, int) else f"{word} {value:g}"
    return ""


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    value = info.get_default(call_default_factory=True)
    if value is None or value == () or value == {} or isinstance(value, BaseModel):
        return ""
    if isinstance(value, tuple):
        return "`[" + ", ".join(map(str, value)) + "]`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`" if value != "" else ""


def main(folder: Path) -> None:
    """Write the pages into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in reference().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "reference")

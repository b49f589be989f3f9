"""Any text can be a study file as far as the reader is concerned, and any study can be written."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from studyflow.spec import StudySpec, find_problems
from studyflow.spec.check import check_mapping
from studyflow.spec.schema import EXAMPLE

quick = settings(derandomize=True, deadline=None, max_examples=150)

names = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=20)
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
numbers = st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | st.integers() | numbers | texts
documents = st.recursive(
    scalars | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*StudySpec.model_fields, "type", "when", "lr"]), inner)
    ),
    max_leaves=12,
)
# Words that mean something to YAML or to a study: random characters alone rarely get far.
YAML_WORDS = [
    *(
        "name",
        "search_space",
        "trial",
        ": ",
        "\n",
        "\n  ",
        "- ",
        "{",
        "}",
        "[",
        "]",
        ", ",
        "'",
        '"',
    ),
    *("&a ", "*a ", "!!int ", "!x ", "? ", "| ", "> ", "---\n", "...\n", "# ", "\t", "1e5", "<<: "),
    *("%YAML 1.2\n", "\\x", '"\\U', "\ufeff", "\x85", "\r", "0x", ".nan", "~", "é"),
]
yaml_texts = st.lists(st.sampled_from(YAML_WORDS), max_size=40).map("".join)


@st.composite
def studies(draw: st.DrawFn) -> dict[str, Any]:
    choices = draw(st.lists(scalars, min_size=1, max_size=4, unique_by=lambda v: v))
    searched = draw(names)
    fixed = draw(st.dictionaries(names.filter(lambda name: name != searched), scalars, max_size=3))
    return {
        **EXAMPLE,
        "name": draw(
            names.filter(lambda name: "/" not in name and ".." not in name and name != ".")
        ),
        "description": draw(texts),
        "tags": draw(st.dictionaries(names, texts, max_size=3)),
        "search_space": {searched: {"type": "categorical", "choices": choices}},
        "fixed": fixed,
        "enqueue": [{searched: draw(st.sampled_from(choices))}],
        "constraints": [{"metric": draw(names), "max": draw(numbers)}],
        "trial": {"command": draw(st.lists(texts, min_size=1, max_size=3))},
    }


@settings(quick, max_examples=50)
@given(studies())
def test_a_study_survives_being_written_and_read(study: dict[str, Any]) -> None:
    spec = StudySpec.from_mapping(study)

    assert find_problems(spec.to_yaml()) == (spec, ())
    again = find_problems(spec.to_yaml())[0]
    assert again is not None
    assert again.identity() == spec.identity()


@quick
@given(st.text(max_size=300) | yaml_texts)
def test_any_text_is_a_study_or_has_problems(text: str) -> None:
    spec, problems = find_problems(text)

    assert (spec is None) == bool(problems)
    for problem in problems:
        assert str(problem).isprintable()
        assert problem.line >= 1
        assert problem.column >= 1


@quick
@given(documents, st.sampled_from(list(StudySpec.model_fields)))
def test_any_section_is_valid_or_has_problems(document: Any, section: str) -> None:
    for data in (document, {**EXAMPLE, section: document}):
        spec, findings = check_mapping(data)

        assert (spec is None) == bool(findings)
        for finding in findings:
            assert "Input should" not in finding.message
            assert finding.hint

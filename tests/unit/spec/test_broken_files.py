"""Every file in `broken/` begins with the problems it has: all of them, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from studyflow.errors import SpecError
from studyflow.spec import StudySpec, find_problems

FILES = sorted((Path(__file__).parent / "broken").glob("*.yaml"))
PYDANTIC = ("Input should", "valid ", "pydantic", "http", "validation error", "type=", "union")


def expected(text: str) -> list[str]:
    mark = "# expect: "
    return [line.removeprefix(mark) for line in text.split("\n") if line.startswith(mark)]


def test_there_are_files() -> None:
    assert len(FILES) >= 60


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@pytest.mark.fault("F48")
def test_a_broken_file_has_exactly_the_problems_it_names(path: Path) -> None:
    text = path.read_text()

    spec, problems = find_problems(text, source=path.name)

    assert spec is None
    found = [
        str(problem).removeprefix(f"{path.name}:").partition(". Hint: ")[0].replace(": ", " ", 1)
        for problem in problems
    ]
    assert found == expected(text)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_problem_is_one_line_with_a_way_out_and_without_jargon(path: Path) -> None:
    _, problems = find_problems(path.read_text(), source=path.name)

    for problem in problems:
        line = str(problem)
        assert line.isprintable()
        assert len(line) < 800
        assert problem.hint
        assert problem.line > 0
        assert problem.column > 0
        assert not [word for word in PYDANTIC if word in line]


def test_all_problems_of_a_file_are_in_the_error() -> None:
    path = Path(__file__).parent / "broken" / "three_sections.yaml"

    with pytest.raises(SpecError, match=r"^three_sections\.yaml has 5 problems:\n") as caught:
        StudySpec.from_yaml(path)

    assert len(caught.value.problems) == 5
    assert caught.value.problems[1] == (
        "three_sections.yaml:9:3: search_space.lr: low must not be above high, but low=0.1 and "
        "high=0.001. Hint: did you swap them?"
    )
    assert str(caught.value).count("\n") == 5

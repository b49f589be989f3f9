"""The form of a deployment: which studies it offers, and where."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import TypeAdapter

pytestmark = pytest.mark.filterwarnings("default")

TEXT = {"title": "text or path", "type": "string"}


def test_the_study_is_chosen_among_the_files_of_the_folder_in_which_the_form_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from studyflow.orchestration.form import StudyParameter

    field: TypeAdapter[str] = TypeAdapter(StudyParameter)
    monkeypatch.chdir(tmp_path)
    assert field.json_schema() == TEXT
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "one.yaml").touch()

    file = {"title": "file", "type": "string", "enum": ["studies/one.yaml"]}
    assert field.json_schema() == {"anyOf": [TEXT, file]}
    assert field.validate_python("name: x\n") == "name: x\n", "any text is taken"


def test_a_typed_function_has_types_and_no_texts() -> None:
    from studyflow.orchestration.form import typed

    def flow(n: int) -> str:
        return str(n)

    assert flow.__annotations__ == {"n": "int", "return": "str"}
    assert typed(flow).__annotations__ == {"n": int, "return": str}

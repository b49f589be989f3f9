"""The form of a deployment: types of parameters, from which Prefect makes its fields."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

from pydantic import Field, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from studyflow.deployments.study_files import study_files
from studyflow.spec import LONGEST_SECONDS

_F = TypeVar("_F", bound=Callable[..., Any])


def study_schema(folder: Path) -> dict[str, Any]:
    """Return the JSON schema of the parameter `study`: a file of this folder, or any text."""
    files = study_files(folder)
    text = {"title": "text or path", "type": "string"}
    if not files:
        return text
    # The text comes first: the older of Prefect's two pages shows a path that is no choice as the
    # first one, and would lose it there.
    return {"anyOf": [text, {"title": "file", "type": "string", "enum": list(files)}]}


class StudyFiles:
    """Makes a text a choice among the study files of the folder in which Prefect loads the flow."""

    def __get_pydantic_json_schema__(
        self, _schema: CoreSchema, _handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Return the schema of the form's field."""
        return study_schema(Path.cwd())


StudyParameter = Annotated[str, StudyFiles()]
TrialsParameter = Annotated[int, Field(ge=1, le=1_000_000)]
ParallelParameter = Annotated[int, Field(ge=1, le=10_000)]
SecondsParameter = Annotated[float, Field(gt=0, le=LONGEST_SECONDS)]
HoursParameter = Annotated[float, Field(gt=0)]
SeedsParameter = Annotated[int, Field(ge=1, le=100)]


def typed(function: _F) -> _F:
    """Return a flow's function with types as annotations, not texts.

    `flow.serve()` pickles a flow for the process of its run. Annotations are texts until somebody
    asks for the types, and a pickled function no longer has the names in them.
    """
    function.__annotations__ = get_type_hints(function, include_extras=True)
    return function

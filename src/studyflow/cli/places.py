"""Options that say where studies, results and files are; and finding a study by file or name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from studyflow.reports import StudyData
from studyflow.reports.stored import stored_study
from studyflow.settings import ExecutorName, Settings
from studyflow.spec import StudySpec

_F = TypeVar("_F", bound=Callable[..., Any])


def place_options(command: _F) -> _F:
    """Add `--home`, `--storage` and `--tracking-uri` to a command."""
    for option in (
        click.option(
            "--tracking-uri",
            help="MLflow server; MLFLOW_TRACKING_URI, else a file in the home folder.",
        ),
        click.option(
            "--storage",
            help="Study storage, such as postgresql://user@host/db; STUDYFLOW_STORAGE, else a file "
            "in the home folder.",
        ),
        click.option(
            "--home",
            type=click.Path(path_type=Path, file_okay=False),
            help="Folder for everything embedded; STUDYFLOW_HOME, else .studyflow.",
        ),
    ):
        command = option(command)
    return command


def executor_options(command: _F) -> _F:
    """Add `--executor` and `--namespace` to a command."""
    for option in (
        click.option(
            "--namespace",
            help="Kubernetes namespace of the trials; STUDYFLOW_NAMESPACE, else the kubeconfig's.",
        ),
        click.option(
            "--executor",
            type=click.Choice(get_args(ExecutorName)),
            help="Run trials as local processes or as pods; STUDYFLOW_EXECUTOR, else local.",
        ),
    ):
        command = option(command)
    return command


def settings_of(home: Path | None, storage: str | None, tracking_uri: str | None) -> Settings:
    """Return the settings that the place options name."""
    return Settings.resolve(home=home, storage=storage, tracking=tracking_uri)


def load_study(study: str, settings: Settings) -> StudyData:
    """Return a stored study by the path of its file or by its name.

    Raises:
        StudyNotFound: It is not in the storage.
        SpecError: The file is wrong.
    """
    path = Path(study)
    from_file = StudySpec.from_yaml(path) if path.suffix in (".yaml", ".yml") else None
    name = study if from_file is None else from_file.name
    return stored_study(name, settings, from_file)

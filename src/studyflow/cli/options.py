"""Options that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, get_args

import click

from studyflow.settings import ExecutorName, Settings

_Command = Callable[..., Any]

_LOCATIONS: Final = (
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
)

_EXECUTOR: Final = (
    click.option(
        "--namespace",
        help="Kubernetes namespace of the trials; STUDYFLOW_NAMESPACE, else the kubeconfig's.",
    ),
    click.option(
        "--executor",
        type=click.Choice(get_args(ExecutorName)),
        help="Run trials as local processes or as pods; STUDYFLOW_EXECUTOR, else local.",
    ),
)

json_option: Final = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")


def settings_options(*, with_executor: bool = False) -> Callable[[_Command], _Command]:
    """Return a decorator that adds the options of `Settings`: the command takes `settings`.

    Args:
        with_executor: Whether `--executor` and `--namespace` are among them.
    """

    def decorate(command: _Command) -> _Command:
        @functools.wraps(command)
        def resolve(
            *arguments: Any,
            home: Path | None,
            storage: str | None,
            tracking_uri: str | None,
            executor: str | None = None,
            namespace: str | None = None,
            **others: Any,
        ) -> Any:
            settings = Settings.resolve(
                home=home,
                storage=storage,
                tracking=tracking_uri,
                executor=executor,
                namespace=namespace,
            )
            return command(*arguments, settings=settings, **others)

        decorated: _Command = resolve
        for option in (*_LOCATIONS, *(_EXECUTOR if with_executor else ())):
            decorated = option(decorated)
        return decorated

    return decorate

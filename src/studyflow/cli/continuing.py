"""What a person reads whose study has not come to its end, and the command that goes on."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator, Sequence

import click
from click.core import ParameterSource

from studyflow.cli.texts import best_text
from studyflow.observers.observer import Observer, Progress
from studyflow.runner import StudyResult
from studyflow.spec import StudySpec


class LatestProgress(Observer):
    """Keeps a study's latest progress, for whoever has to say where it stood."""

    def __init__(self) -> None:
        self.progress: Progress | None = None

    def progressed(self, progress: Progress) -> None:
        """Keep it."""
        self.progress = progress


def same_command(context: click.Context, without: Collection[str] = ()) -> str:
    """Return the command as it was typed, as one line that a shell reads back.

    Args:
        context: Of the command that runs.
        without: Parameters, by their names, that are not to be given again.
    """
    typed = [parameter for parameter in _typed(context) if parameter.name not in without]
    return shlex.join([*context.command_path.split(), *_words(context, typed)])


def resume_command(context: click.Context) -> str:
    """Return the command that ends the pause of the study that a command runs."""
    located = ("study", "home", "storage", "tracking_uri")
    typed = [p for p in _typed(context) if p.name in located]
    program = context.command_path.split()[:-1]
    return shlex.join([*program, "resume", *_words(context, typed)])


def _typed(context: click.Context) -> list[click.Parameter]:
    """Return the parameters that a person gave, arguments first."""
    typed = [
        parameter
        for parameter in context.command.params
        if context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
    ]
    return sorted(typed, key=lambda one: isinstance(one, click.Option))


def _words(context: click.Context, parameters: Sequence[click.Parameter]) -> list[str]:
    words = []
    for parameter in parameters:
        given = context.params[parameter.name or ""]
        if not isinstance(parameter, click.Option):
            words.append(str(given))
        elif parameter.is_flag:
            words.append(parameter.opts[-1] if given else parameter.secondary_opts[-1])
        else:
            words += [parameter.opts[-1], str(given)]
    return words


def interrupted_lines(
    spec: StudySpec,
    result: StudyResult | None,
    progress: Progress | None,
    *,
    again: str,
    resume: str,
) -> Iterator[str]:
    """Yield what a person reads whose run was ended: what there is, where, and how to go on.

    Args:
        spec: The study.
        result: The study as the runner left it; `None` if it could not be closed.
        progress: Where it stood last; `None` if it had not begun.
        again: The command that goes on.
        resume: The command that ends a pause.
    """
    yield "Interrupted; finished trials are kept."
    if result is not None:
        yield f"  best    {best_text(spec, result.data.best)}"
    elif progress is not None:
        yield f"  best    {best_text(spec, progress.best)}"
    if result is not None and result.report is not None:
        yield f"  report  {result.report.html}"
    if progress is not None and progress.is_paused:
        yield "The study is paused; two commands continue it:"
        yield f"  {resume}"
        yield f"  {again}"
    else:
        yield f"Continue: {again}"

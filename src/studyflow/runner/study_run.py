"""The story of a run: open the study, drive its trials, report what came out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from studyflow.context import StudyContext
from studyflow.errors import StudyNotFound
from studyflow.observers.notify import notified
from studyflow.observers.observer import Observer, Observers
from studyflow.runner.closing import close, close_interrupted
from studyflow.runner.opening import Run, open_run
from studyflow.runner.options import RunOptions
from studyflow.runner.result import StudyResult
from studyflow.runner_lock import StudyIsDriven

CANCEL_SECONDS: Final = 600.0
"""How long `cancel_study` tries to end attempts: nobody waits for it, and nobody comes after it."""

CANCELLED_SECONDS: Final = 30.0
"""How long a runner that was cancelled may take to end before its study counts as another one's."""


def run_study(context: StudyContext, observer: Observer, options: RunOptions) -> StudyResult:
    """Run a study to the end of its budget and return what came out.

    A study that exists already is continued. While another runner on this machine drives it, this
    one stands by and takes over when that one ends. What is used of the context is closed at the
    end.

    Args:
        context: The study file, and where everything is.
        observer: Hears of everything.
        options: What is special about this run.

    Raises:
        SpecError: It asks for pods that no trial may have, or not here; nothing was started.
        StudyflowError: The study cannot be run; nothing that was computed is lost.
    """
    with notified(context.spec, observer) as told:
        try:
            context.check()
            with open_run(context, told, options) as run:
                result = _drive(run, told, options.on_interrupted)
        except Exception as error:
            told.ended(context.redactor(str(error)), is_failure=True, run_url=None)
            raise
        if not result.outcome.has_left:
            told.ended(str(result.outcome.reason), result.outcome.is_failure, result.run_url)
        return result


def _drive(
    run: Run, observer: Observer, on_interrupted: Callable[[StudyResult], None]
) -> StudyResult:
    def leave() -> None:
        if (left := close_interrupted(run, observer)) is not None:
            on_interrupted(left)

    with ExitStack() as interrupted:
        interrupted.callback(leave)
        observer.starting("preparing the first trial")
        outcome = run.tuner.drive()
        interrupted.pop_all()
    return close(run, outcome, observer)


def cancel_study(context: StudyContext, observer: Observer, *, folder: Path) -> None:
    """End the running attempts of a study whose runner was killed, and record their trials.

    What is finished stays; the study can be continued later. A study that was never begun stays so,
    and one that another runner on this machine drives by now is left to that one.

    Args:
        context: The study; what is stored of it counts, not the numbers of the run that was killed.
        observer: Hears of everything, and of what is left after `CANCEL_SECONDS`.
        folder: Folder that relative paths in `trial.command` start from.

    Raises:
        StudyflowError: The attempts cannot be ended.
    """
    observer = Observers(observer)
    name = context.spec.name
    try:
        context = context.as_stored()
        with open_run(context, observer, RunOptions(folder), CANCELLED_SECONDS) as run:
            run.tuner.cancel(CANCEL_SECONDS)
            close_interrupted(run, observer)
    except StudyNotFound:
        observer.noted(f"Nothing to cancel: the study {name!r} was never begun.")
    except StudyIsDriven:
        observer.noted(f"Nothing to cancel: another runner drives the study {name!r}.")

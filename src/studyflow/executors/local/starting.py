"""How an attempt comes into being: its folder, complete in one moment, and then its supervisor."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import signal
import sys
import uuid
from dataclasses import dataclass, replace
from pathlib import Path

from studyflow.errors import ExecutorError, ExecutorUnavailable
from studyflow.executors.local import supervisor
from studyflow.executors.local.attempt import Attempt, Launch
from studyflow.executors.local.command import Surroundings
from studyflow.executors.local.ending import exit_token
from studyflow.executors.local.files import (
    ARTIFACTS,
    CHECKPOINTS,
    FILE_MODE,
    FOLDER_MODE,
    LAUNCH,
    METRICS,
    TRIAL,
    make_folder,
    open_new,
)
from studyflow.trial import Trial
from studyflow.trial.checkpoint_folders import FILES, folders_in

logger = logging.getLogger(__name__)


def claim(folder: Path, trial: Trial, launch: Launch) -> None:
    """Make an attempt's folder, complete, unless another runner was faster.

    Args:
        folder: Where it is to be.
        trial: The attempt, with its key; its paths are filled in.
        launch: What was decided about it.

    Raises:
        OSError: The disk refuses.
    """
    checkpoints = folders_in(str(folder.parent / CHECKPOINTS), trial.attempt)
    own = Path(checkpoints.own)
    # There is nothing to go on from: the script need not look for it.
    is_first = trial.attempt == 1 and not own.parent.parent.exists()
    for level in (own.parent.parent, own.parent, own, *((own / FILES,) if is_first else ())):
        make_folder(level)
    with_paths = replace(
        trial,
        outcome_path=str(folder / supervisor.OUTCOME),
        metrics_path=str(folder / METRICS),
        artifact_dir=str(folder / ARTIFACTS),
        checkpoint_dir=checkpoints.files,
        stop_path=str(folder / supervisor.STOP),
        checkpoints=checkpoints,
    )
    unborn = folder.parent / f".{folder.name}.{uuid.uuid4().hex}"
    unborn.mkdir(FOLDER_MODE)
    for name in (ARTIFACTS, supervisor.WORK):
        (unborn / name).mkdir(FOLDER_MODE)
    # The key is in no file: it reaches the script in a variable.
    document = replace(with_paths, key=None).to_json()
    for name, text in (
        (supervisor.LOCK, ""),
        (TRIAL, document),
        (LAUNCH, launch.to_json(document, trial.key)),
    ):
        with open_new(unborn / name) as file:
            file.write(text)
    try:
        unborn.rename(folder)  # fails when the folder exists: it is never empty
    except OSError:
        shutil.rmtree(unborn, ignore_errors=True)
        if not folder.exists():
            raise


@dataclass(frozen=True, slots=True)
class SupervisorStarter:
    """Starts supervisors of one study's attempts."""

    surroundings: Surroundings

    def start(self, attempt: Attempt, cgroup: str | None) -> None:
        """Start a supervisor. One too many does no harm: the attempt's lock lets one script run.

        Args:
            attempt: Whose.
            cgroup: Control group for the script; `None` where it gets none.

        Raises:
            ExecutorUnavailable: The machine has no room for a process now, or the attempt's folder
                was removed a moment ago.
            ExecutorError: The operating system will not start a process with such arguments.
        """
        launch = attempt.launch
        timeout = "-" if launch.timeout_seconds is None else repr(float(launch.timeout_seconds))
        log = str(attempt.folder / supervisor.LOG)
        arguments = [
            *(sys.executable, "-I", "-S", supervisor.PROGRAM, str(attempt.folder)),
            *(timeout, repr(float(launch.stop_grace_seconds))),
            *(cgroup or "-", *launch.command),
        ]
        environment = self.surroundings.environment(attempt.trial, launch.gpus)
        if attempt.key is not None:
            environment[supervisor.TOKEN_VARIABLE] = exit_token(attempt.key)
        try:
            # Not subprocess.Popen: it wants every child awaited by the object that started it.
            pid = os.posix_spawn(
                sys.executable,
                arguments,
                environment,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (
                        os.POSIX_SPAWN_OPEN,
                        1,
                        log,
                        os.O_WRONLY | os.O_CREAT | os.O_APPEND,
                        FILE_MODE,
                    ),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ],
                setsid=True,  # a Ctrl-C in the runner's terminal is not for the trainings
                setsigmask=(),
                setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD),
            )
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in (errno.EAGAIN, errno.ENOMEM):
                raise ExecutorUnavailable(
                    f"Attempt {attempt.id} cannot be started now: {error.strerror}."
                ) from error
            if not attempt.folder.is_dir():
                raise ExecutorUnavailable(
                    f"Attempt {attempt.id} was not started: {attempt.folder} was removed."
                ) from error
            raise ExecutorError(
                f"Attempt {attempt.id} cannot be started: {error}.",
                hint="are the parameters or the environment very long, or hold a NUL?",
            ) from error
        attempt.supervisor.start(pid)
        logger.debug("trial %s: supervisor %d started", attempt.id, pid)

"""What training code imports. Standard library only, and harmless outside a study.

    from studyflow import sdk

    trial = sdk.current_trial()
    for epoch in range(trial.budget or 10):
        sdk.report(epoch, val_loss=...)
    sdk.finish(val_loss=...)

Inside a study (`STUDYFLOW_TRIAL` is set) metrics go where the study reads them and the outcome
where it looks for it. Alone, the same script runs with its own defaults: `report` and `finish`
print a line. To run it by hand with given parameters:

    STUDYFLOW_PARAMS='{"learning_rate": 0.01}' python train.py

Only a wrong argument and a full disk make the training fail here; no network does. Only two
functions wait for a network: `finish`, a few seconds at most, and, where trial and runner share no
folder, `artifact`. All may be called from any thread.

One process reports. In those forked from the training, such as data loaders, the functions check
their arguments and do nothing else, which they say on standard error; a result that is given there
and in no other process fails the trial, with what to change. In a distributed training the process
of rank 0 reports; the others say on standard error, once, which rank they take themselves for. A
rank is known by the two variables of a launcher that fit each other, such as `RANK` and a
`WORLD_SIZE` above it and above 1 (torchrun, accelerate, deepspeed; likewise those of mpirun,
Horovod, srun and Lightning). `RANK` alone is the script's own affair.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import SupportsFloat, SupportsIndex

from studyflow.sdk.session import Checkpoint, CurrentTrial, session
from studyflow.trial import ParamValue

__all__ = [
    "Checkpoint",
    "CurrentTrial",
    "artifact",
    "checkpoint",
    "checkpoint_dir",
    "current_trial",
    "finish",
    "last_checkpoint",
    "report",
    "should_stop",
]


def current_trial(defaults: Mapping[str, ParamValue] | None = None) -> CurrentTrial:
    """Return the trial that this process trains.

    From here on an uncaught exception becomes the trial's outcome, unless any process of the trial
    has called `finish` or does so later. That holds whatever the exit code: in
    `python train.py | tee log` it is tee's.

    Args:
        defaults: Parameters for running outside a study, where `STUDYFLOW_PARAMS` overrides them
            one by one. Inside a study they are not looked at: it alone says what is trained.

    Raises:
        DocumentError: `STUDYFLOW_TRIAL` or `STUDYFLOW_PARAMS` cannot be read.
        OSError: See `checkpoint_dir`, which this calls.
    """
    return session().current_trial(defaults or {})


def report(step: SupportsIndex, **metrics: SupportsFloat) -> None:
    """Show metrics of one step, usually an epoch, to the study: to its pruner and its charts.

    Never blocks for a network and never fails for one. NaN and infinities are accepted; several of
    them in a row end the trial as `nan` (`trial.nan_reports` of the study file, 3 by default).

    From the report of the last step on, `trial.budget - 1`, SIGTERM does not kill the script before
    the grace is over: its result is about to come.

    Args:
        step: Number of the step, from 0.
        metrics: Numbers, or tensors of one element. `**{"val/loss": x}` for other names.

    Raises:
        TypeError: The step is not an integer, or a metric is not a number.
        ValueError: The step is negative or beyond 64 bits, or a name is empty, too long or of other
            characters than MLflow takes.
        OSError: The disk takes no more, so the study does not see the step. A script that goes on
            must call `finish`: earlier steps do not count as its result.
    """
    session().report(step, metrics)


def finish(value: SupportsFloat | None = None, /, **metrics: SupportsFloat) -> None:
    """Give the trial's final metrics: its objectives, its constraints and what else is of interest.

    Of several calls the last one counts, as a whole, whichever process of the trial makes it (of
    those that were not forked from the first one). A crash after it, of this process or another,
    changes nothing. NaN and infinities are accepted; the study judges them.

    Args:
        value: The objective, where the study expects exactly one metric.
        metrics: Final metrics by name.

    Raises:
        TypeError: A metric is not a number, or `value` is given where several are expected.
        ValueError: A metric's name is not acceptable.
        DocumentError: The expected metrics alone are longer than an outcome may be.
        OSError: The result could not be written. That of an earlier call still counts; without one
            the trial fails, even if the script goes on, and no reported metric replaces it.
    """
    session().finish(value, metrics)


def should_stop() -> bool:
    """Return whether the training ought to end: the study stopped it, or its machine goes away.

    The first call, from the main thread, makes SIGTERM a request; without it SIGTERM kills, in a
    container too once the script has called any function of this module. What the script does after
    True is up to it: save a checkpoint and leave within the grace. `finish` then tells the study
    that the training was cut short.
    """
    return session().should_stop()


def artifact(path: str | os.PathLike[str], name: str | None = None) -> Path:
    """Add a copy of a file or folder to the artifacts of the trial's MLflow run.

    The file may be overwritten afterwards. A copy of the same name is replaced. Returns where the
    copy is, or the path itself where there is none on this machine: outside a study, and in a pod.

    Regular files are kept, with the size they have when this is called. In a folder, a link is kept
    as the content of the file that it points to, if that is in the same folder. What is left out
    is told once on standard error and fails nothing: links that lead out of the folder, to a folder
    or to nothing, pipes, devices, sockets, files that may not be read, and what is beyond 100 GiB
    or 100,000 files. So is an artifact that cannot be copied, such as on a full disk.

    A pod uploads to MLflow while it waits: 10 minutes at most for a file or folder, with three
    tries of each request, and about 3 minutes when MLflow stops answering, once; from then on 10
    seconds for each artifact until it is back. What does not get there is told on standard error
    and fails nothing. Of an earlier folder of that name, files that the new one lacks stay in
    MLflow.

    Args:
        path: File or folder; a link to one stands for it.
        name: Name among the artifacts, may hold slashes; `None` for the last part of the path.

    Raises:
        FileNotFoundError: There is nothing at `path`.
        ValueError: The name leaves the artifact folder.
    """
    return session().artifact(Path(path), name)


def checkpoint(step: SupportsIndex, *, keep: SupportsIndex = 2) -> AbstractContextManager[Path]:
    """Publish a checkpoint, whole or not at all, for this attempt or the trial's next one.

        with sdk.checkpoint(epoch) as folder:
            torch.save(state, folder / "state.pt")

    Save into the folder; when the block ends in order, all of it is stored on the disk and then
    published in one step. When the block raises, or the attempt is lost within it, nothing is: the
    checkpoint before it stays. `last_checkpoint` finds the newest one. An attempt that publishes a
    higher step than any before it gives the trial its attempts back: see `retry.max_attempts`.

    The reporting process publishes. In others the folder is one that is thrown away; let those of a
    distributed training save into the folder that rank 0 was given, and wait for them in the block.

    Args:
        step: Step after which the training goes on from here, from 0.
        keep: How many published checkpoints of this attempt stay, the newest ones.

    Raises:
        TypeError: The step or `keep` is not an integer.
        ValueError: The step is negative or beyond 64 bits, `keep` is below 1, or the block saved
            no file.
        OSError: The disk takes no more. Earlier checkpoints stay.
    """
    return session().checkpoint(step, keep)


def last_checkpoint() -> Checkpoint | None:
    """Return the newest published checkpoint of the trial that is whole; `None` without one.

        if (last := sdk.last_checkpoint()) is not None:
            state = torch.load(last.path / "state.pt")

    That of the newest attempt counts, not the one of the highest step. Its files are compared with
    the sizes and checksums they were published with; one that is damaged is told on standard error,
    and the one before it is returned. To be read only.
    """
    return session().last_checkpoint()


def checkpoint_dir() -> Path:
    """Return a folder for checkpoint files, with those of the trial's attempt before.

    For a script or library that keeps its files itself, and overwrites them in place. It is this
    attempt's alone: the first call, which `current_trial` makes, copies what the attempt before had
    here. So nothing that a lost one still writes can reach it. `checkpoint` copies nothing, and
    what it publishes is whole. Outside a study, a temporary folder.

    Raises:
        OSError: The files of the attempt before cannot be copied: the disk is full, or one of them
            may not be read.
    """
    return session().checkpoint_dir()

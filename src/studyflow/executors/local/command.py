"""The command and the environment of a script.

The command runs in a working folder of its own, with the environment of the runner and the study
file's folder first on PYTHONPATH. Secrets of the runner are left out (`inherited.py`), and so is
what a launcher such as torchrun told the runner about its own rank (`RANK`, `WORLD_SIZE`, ...); the
study file may name or set them. A first word `python` or
`python3` means the runner's own interpreter. A word (or what follows `=` in an option) that names a
file below the study file's folder becomes that file's full path, one with a slash may name a folder
too: `python train.py --data=../data/` works as it would beside the study file. No shell is
involved.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from studyflow.errors import ExecutorError
from studyflow.executors.local.gpus import ORDER, VISIBLE
from studyflow.executors.local.inherited import inherited, left_out
from studyflow.executors.local.script import missing_script
from studyflow.executors.plain_mlflow import mlflow_variables
from studyflow.executors.run_tokens import RunTokens
from studyflow.trial import TRIAL_VARIABLE, Trial
from studyflow.trial.launchers import is_set_by_launcher

_FOREIGN_VARIABLES: Final = (TRIAL_VARIABLE, "STUDYFLOW_PARAMS", "MLFLOW_RUN_ID")
"""Variables of the runner that would make the script take itself for something else."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the scripts of one study start from."""

    cwd: Path
    """Folder of the study file."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables for the script besides the runner's own."""
    withheld_env: Collection[str] = ()
    """Variables of the runner that the script does not get, besides what looks like a secret."""
    inherit_env: Collection[str] = ()
    """Names and patterns of those that it gets all the same."""
    tokens: RunTokens = field(default_factory=RunTokens)
    """Makes what scripts write to their MLflow runs with, where MLflow has a gate."""

    @property
    def search_path(self) -> str:
        """Where programs are looked for, as in PATH."""
        return self.env.get("PATH", os.environ.get("PATH", os.defpath))

    def environment(
        self, trial: Trial, gpus: Sequence[str], runner: Mapping[str, str] = os.environ
    ) -> dict[str, str]:
        """Return the environment of a script.

        Args:
            trial: The attempt, with its paths.
            gpus: GPUs for it, as CUDA_VISIBLE_DEVICES names them; without any, that variable stays
                as it is.
            runner: The runner's own variables.
        """
        found = inherited(runner, self.inherit_env, self.withheld_env)
        environment = {
            name: value
            for name, value in found.variables.items()
            if name not in _FOREIGN_VARIABLES and not is_set_by_launcher(name)
        }
        environment |= self.env
        modules = (str(self.cwd), environment.get("PYTHONPATH", ""))
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, modules))
        # A killed script loses what Python still buffers: the lines that say why.
        environment.setdefault("PYTHONUNBUFFERED", "1")
        if gpus:
            environment[VISIBLE] = ",".join(gpus)
            # nvidia-smi counts in this order, CUDA by default the fastest first.
            environment.setdefault(ORDER, "PCI_BUS_ID")
        environment |= mlflow_variables(trial, environment, self.tokens.of(trial))
        environment[TRIAL_VARIABLE] = trial.to_json()
        return environment

    def left_out(self, runner: Mapping[str, str] = os.environ) -> tuple[str, ...]:
        """Return which of the runner's variables scripts do not get, as they look like secrets."""
        return left_out(runner, self.env, self.inherit_env, self.withheld_env)


def resolve_command(command: Sequence[str], cwd: Path, search_path: str) -> tuple[str, ...]:
    """Return a command that means in any folder what it would mean in `cwd`.

    Raises:
        ExecutorError: The command is empty, or its program or script does not exist or cannot be
            executed.
    """
    if not command:
        raise ExecutorError("The command is empty.", hint="for example: [python, train.py]")
    program, *arguments = command
    if program in ("python", "python3"):
        found: str | Path | None = sys.executable
    elif os.sep in program or (cwd / program).is_file():
        found = shutil.which(cwd / program)
    else:
        found = shutil.which(program, path=search_path)
    if not found:
        raise ExecutorError(
            f"The program {program!r} does not exist in {cwd} or on PATH, or is not executable.",
            hint="correct trial.command, or make the file executable (chmod +x).",
        )
    if (missing := missing_script(command, cwd)) is not None:
        raise ExecutorError(missing.message, hint=missing.hint)
    return (str(found), *(_resolve_argument(argument, cwd) for argument in arguments))


def _resolve_argument(argument: str, cwd: Path) -> str:
    option, equals, value = argument.partition("=")
    if option.startswith("-") and equals:
        return f"{option}={_resolve_argument(value, cwd)}"
    if not argument or argument.startswith("-") or "\0" in argument:
        return argument
    path = cwd / argument
    try:
        names_path = path.is_file() or (os.sep in argument and path.is_dir())
    except OSError:  # longer than a path may be, such as code after -c
        return argument
    return str(path) if names_path else argument

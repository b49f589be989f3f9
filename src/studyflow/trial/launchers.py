"""Launchers of distributed training: which variables they set, and which process a script is.

Several processes run the same script, and one of them, of rank 0, reports. A lone `RANK` says
nothing: scripts use that name for other things, such as the rank of a LoRA. It counts with the
number of processes that its launcher sets beside it, and only where the two fit.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

SILENCE: Final = "studyflow: this process is rank "
"""How the line on standard error begins by which a process of another rank than 0 says that it
reports nothing."""


@dataclass(frozen=True, slots=True)
class Launcher:
    """The variables of one kind of launcher."""

    rank: str
    """Variable that holds a process's number, from 0."""
    size: str
    """Variable that holds the number of processes."""
    own: str
    """Regular expression for the variables that are about one process, or one start of several.
    What belongs to a whole allocation, such as `SLURM_JOB_ID`, is none of these."""


LAUNCHERS: Final = (
    Launcher(  # torchrun, accelerate, deepspeed
        *("RANK", "WORLD_SIZE"),
        r"((LOCAL_|GROUP_|ROLE_|NODE_)?RANK|((LOCAL|GROUP|ROLE)_)?WORLD_SIZE|ROLE_NAME"
        r"|MASTER_(ADDR|PORT)|TORCHELASTIC_.*)",
    ),
    Launcher(  # mpirun of Open MPI
        *("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
        r"OMPI_(COMM_WORLD|UNIVERSE|MCA_orte|MCA_ess|MCA_pmix)_.*",
    ),
    Launcher(  # mpirun of MPICH, MVAPICH and Intel MPI
        *("PMI_RANK", "PMI_SIZE"),
        r"PMIX?_.*|MPI_LOCAL.*|HYDI_.*|MV2_COMM_WORLD_.*",
    ),
    Launcher(
        *("HOROVOD_RANK", "HOROVOD_SIZE"),
        r"HOROVOD_(RANK|SIZE|(LOCAL|CROSS)_(RANK|SIZE))",
    ),
    Launcher(  # srun
        *("SLURM_PROCID", "SLURM_NTASKS"),
        r"SLURM_(PROCID|LOCALID|NODEID|TASK_PID|GTIDS)",
    ),
    Launcher(  # Lightning starts the script again with these two
        *("LOCAL_RANK", "WORLD_SIZE"),
        r"LOCAL_RANK|WORLD_SIZE",
    ),
)
"""Every launcher that is known. The first one whose two numbers fit tells the rank."""

# torchrun may put the name of the process before it.
_SILENCED: Final = (
    rf"{SILENCE}([0-9]{{1,9}}) of ([0-9]{{1,9}}) \((\w+) and (\w+)\); rank 0 reports$"
)


@functools.cache
def _own_variables() -> re.Pattern[str]:
    """Return what all launchers' own variables match. Made when a runner asks: no script does."""
    return re.compile("|".join(f"({launcher.own})" for launcher in LAUNCHERS))


@dataclass(frozen=True, slots=True)
class Rank:
    """One process of several."""

    number: int
    """From 0, and below `size`."""
    size: int
    """How many processes there are, above 1."""
    variables: tuple[str, str]
    """Where these two numbers stand."""

    def silence(self) -> str:
        """Return the line that a process prints which reports nothing because of its rank."""
        return (
            f"{SILENCE}{self.number} of {self.size} ({' and '.join(self.variables)}); "
            "rank 0 reports"
        )


def read_rank(environment: Mapping[str, str]) -> Rank | None:
    """Return which of several processes this is; `None` when it is the only one, as far as known.

    Args:
        environment: Variables of the process.
    """
    for launcher in LAUNCHERS:
        variables = (launcher.rank, launcher.size)
        number, size = (_read_count(environment.get(name, "")) for name in variables)
        if number is not None and size is not None and number < size and size > 1:
            return Rank(number, size, variables)
    return None


def find_silence(log: str) -> Rank | None:
    """Return the first process that says in a log that it reports nothing; `None` without one.

    Args:
        log: Standard output and standard error; may hold anything.
    """
    match = re.search(_SILENCED, log, re.MULTILINE | re.ASCII)
    return None if match is None else Rank(int(match[1]), int(match[2]), (match[3], match[4]))


def is_set_by_launcher(name: str) -> bool:
    """Return whether a variable is about one process among those that one launcher started."""
    return _own_variables().fullmatch(name) is not None


def _read_count(text: str) -> int | None:
    """Return a whole number as launchers write it; `None` for anything else."""
    stripped = text.strip()
    is_count = stripped.isascii() and stripped.isdecimal() and len(stripped) < 10
    return int(stripped) if is_count else None

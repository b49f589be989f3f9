"""Which of several processes of one distributed training this is, as its launcher says.

A lone `RANK` says nothing: scripts use that name for other things, such as the rank of a LoRA. It
counts with the number of processes that its launcher sets beside it, and only where the two fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from studyflow.trial import SILENCE

RANK_VARIABLES: Final = (
    ("RANK", "WORLD_SIZE"),  # torchrun, accelerate, deepspeed
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),  # mpirun of Open MPI
    ("PMI_RANK", "PMI_SIZE"),  # mpirun of MPICH and Intel MPI
    ("HOROVOD_RANK", "HOROVOD_SIZE"),
    ("SLURM_PROCID", "SLURM_NTASKS"),  # srun
    ("LOCAL_RANK", "WORLD_SIZE"),  # Lightning starts the script again with these two
)
"""Names of a process's number and of the number of processes; the first pair that fits counts."""


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
    for variables in RANK_VARIABLES:
        number, size = (_read_count(environment.get(name, "")) for name in variables)
        if number is not None and size is not None and number < size and size > 1:
            return Rank(number, size, variables)
    return None


def _read_count(text: str) -> int | None:
    """Return a whole number as launchers write it; `None` for anything else."""
    stripped = text.strip()
    is_count = stripped.isascii() and stripped.isdecimal() and len(stripped) < 10
    return int(stripped) if is_count else None

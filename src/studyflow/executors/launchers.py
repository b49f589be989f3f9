"""What a launcher of distributed training, such as torchrun, has to do with an attempt."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from studyflow.trial import SILENCE

_SET_BY_LAUNCHERS: Final = re.compile(
    r"((LOCAL_|GROUP_|ROLE_|NODE_)?RANK|((LOCAL|GROUP|ROLE)_)?WORLD_SIZE|ROLE_NAME"
    r"|MASTER_(ADDR|PORT)|TORCHELASTIC_.*"
    r"|OMPI_(COMM_WORLD|UNIVERSE|MCA_orte|MCA_ess|MCA_pmix)_.*|PMIX?_.*|MPI_LOCAL.*|HYDI_.*"
    r"|MV2_COMM_WORLD_.*|HOROVOD_(RANK|SIZE|(LOCAL|CROSS)_(RANK|SIZE))"
    r"|SLURM_(PROCID|LOCALID|NODEID|TASK_PID|GTIDS))"
)

# torchrun may put the name of the process before it.
_SILENCED: Final = re.compile(
    rf"{SILENCE}([0-9]{{1,9}}) of ([0-9]{{1,9}}) \((\w+) and (\w+)\); rank 0 reports$",
    re.MULTILINE | re.ASCII,
)


@dataclass(frozen=True, slots=True)
class SilentProcess:
    """A process that called the SDK and reported nothing, because it is not of rank 0."""

    rank: int
    size: int
    rank_variable: str
    size_variable: str


def find_silence(log: str) -> SilentProcess | None:
    """Return the first process that says in a log that it reports nothing; `None` without one."""
    match = _SILENCED.search(log)
    if match is None:
        return None
    return SilentProcess(int(match[1]), int(match[2]), match[3], match[4])


def is_set_by_launcher(name: str) -> bool:
    """Return whether a variable tells a process its place among those that one launcher started.

    What belongs to a whole allocation, such as `SLURM_JOB_ID`, is none of these.
    """
    return _SET_BY_LAUNCHERS.fullmatch(name) is not None

"""Which GPUs this machine offers, and which of them are free."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from studyflow.errors import ExecutorError, ExecutorUnavailable
from studyflow.executors.local.files import remove
from studyflow.reasons import Code
from studyflow.trial.user_files import Kind, kind_of

logger = logging.getLogger(__name__)

VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
ORDER: Final = "CUDA_DEVICE_ORDER"

NVIDIA_SMI_PATIENCE_SECONDS: Final = 20.0
"""Without persistence mode the driver takes seconds to load for the first listing."""


def parse_visible(value: str) -> tuple[str, ...]:
    """Return the GPUs named by a value of `CUDA_VISIBLE_DEVICES`: indexes or UUIDs.

    As in CUDA, everything after the first `-1` is invisible.
    """
    gpus: list[str] = []
    for part in (p.strip() for p in value.split(",")):
        if part.startswith("-"):
            break
        if part and part not in gpus:
            gpus.append(part)
    return tuple(gpus)


def parse_nvidia_smi(listing: str) -> tuple[str, ...]:
    """Return the indexes of the GPUs in the output of `nvidia-smi -L`."""
    return tuple(re.findall(r"^GPU (\d+):", listing, re.MULTILINE))


def detect_gpus(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Return this machine's GPUs: `CUDA_VISIBLE_DEVICES`, else what `nvidia-smi` lists."""
    visible = environment.get(VISIBLE)
    if visible is not None:
        return parse_visible(visible)
    try:
        listing = subprocess.run(
            ["nvidia-smi", "-L"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=NVIDIA_SMI_PATIENCE_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    return parse_nvidia_smi(listing.stdout)


def count_slots(gpus: Sequence[str], gpus_per_trial: int) -> int | None:
    """Return how many trials find GPUs at once; `None` when GPUs are no limit.

    A machine without any GPU has no limit: there the study runs on the processor.

    Raises:
        ExecutorError: There are GPUs, but fewer than one trial needs.
    """
    if gpus_per_trial == 0 or not gpus:
        return None
    if gpus_per_trial > len(gpus):
        raise ExecutorError(
            f"A trial needs {gpus_per_trial} GPUs and this machine offers {len(gpus)} "
            f"({', '.join(gpus)}).",
            hint="lower trial.resources.gpu in the study file, or run it where there are more.",
        )
    return len(gpus) // gpus_per_trial


def choose_gpus(
    gpus: Sequence[str], taken: Iterable[str], gpus_per_trial: int
) -> tuple[str, ...] | None:
    """Return GPUs for one more trial, first free ones first; `None` when too few are free."""
    busy = frozenset(taken)
    free = tuple(gpu for gpu in gpus if gpu not in busy)[:gpus_per_trial]
    return free if len(free) == gpus_per_trial else None


@dataclass(frozen=True, slots=True)
class GpuPool:
    """The GPUs that the attempts of one study share on this machine."""

    gpus: tuple[str, ...]
    """As CUDA_VISIBLE_DEVICES names them; empty where none are handed out."""
    gpus_per_trial: int
    slots: int | None
    """How many attempts find GPUs at once; `None` where GPUs are no limit."""

    @classmethod
    def of_machine(cls, gpus_per_trial: int, gpu_ids: Sequence[str] | None = None) -> GpuPool:
        """Return the pool of this machine.

        Args:
            gpus_per_trial: GPUs for one attempt; with 0 none are handed out.
            gpu_ids: The GPUs to hand out; `None` for those the machine has.

        Raises:
            ExecutorError: One trial needs more GPUs than there are.
        """
        gpus: tuple[str, ...] = ()
        if gpus_per_trial:
            gpus = tuple(detect_gpus() if gpu_ids is None else gpu_ids)
            if not gpus:
                logger.warning("no GPU found: trials run on the processor")
        return cls(gpus, gpus_per_trial, count_slots(gpus, gpus_per_trial))

    @contextlib.contextmanager
    def lock(self, root: Path) -> Iterator[None]:
        """Keep other runners of a study from choosing GPUs between our choice and our claim.

        Args:
            root: The study's folder.

        Raises:
            OSError: The disk refuses.
        """
        if not self.gpus:
            yield
            return
        path = root / "cards.lock"  # as runners of earlier versions name it
        if kind_of(path) is Kind.OTHER:
            remove(path)
        with path.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def choose(self, taken: Iterable[str]) -> tuple[str, ...]:
        """Return GPUs for one more attempt; none where none are handed out.

        Args:
            taken: GPUs of the attempts that run. Not asked for where none are handed out.

        Raises:
            ExecutorUnavailable: Too few are free.
        """
        if not self.gpus:
            return ()
        chosen = choose_gpus(self.gpus, taken, self.gpus_per_trial)
        if chosen is None:
            raise ExecutorUnavailable(
                f"No {self.gpus_per_trial} of {len(self.gpus)} GPUs are free.",
                hint=f"at most {self.slots} trials run here at once.",
                code=Code.NO_SLOT,
            )
        return chosen

"""Which graphics cards this machine offers, and which of them are free."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from studyflow.errors import ExecutorError

VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
ORDER: Final = "CUDA_DEVICE_ORDER"

NVIDIA_SMI_PATIENCE_SECONDS: Final = 20.0
"""Without persistence mode the driver takes seconds to load for the first look."""


def parse_visible(value: str) -> tuple[str, ...]:
    """Return the cards named by a value of `CUDA_VISIBLE_DEVICES`: indexes or UUIDs.

    As in CUDA, everything after the first `-1` is invisible.
    """
    cards: list[str] = []
    for part in (p.strip() for p in value.split(",")):
        if part.startswith("-"):
            break
        if part and part not in cards:
            cards.append(part)
    return tuple(cards)


def parse_nvidia_smi(listing: str) -> tuple[str, ...]:
    """Return the indexes of the cards in the output of `nvidia-smi -L`."""
    return tuple(re.findall(r"^GPU (\d+):", listing, re.MULTILINE))


def detect_gpus(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Return this machine's cards: `CUDA_VISIBLE_DEVICES`, else what `nvidia-smi` lists."""
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


def count_slots(cards: Sequence[str], gpus_per_trial: int) -> int | None:
    """Return how many trials find cards at once; `None` when cards are no limit.

    A machine without any card is none: there the study runs on the processor.

    Raises:
        ExecutorError: There are cards, but fewer than one trial needs.
    """
    if gpus_per_trial == 0 or not cards:
        return None
    if gpus_per_trial > len(cards):
        raise ExecutorError(
            f"A trial needs {gpus_per_trial} GPUs and this machine offers {len(cards)} "
            f"({', '.join(cards)}).",
            hint="lower trial.resources.gpu in the study file, or run it where there are more.",
        )
    return len(cards) // gpus_per_trial


def choose_gpus(
    cards: Sequence[str], taken: Iterable[str], gpus_per_trial: int
) -> tuple[str, ...] | None:
    """Return cards for one more trial, first free ones first; `None` when too few are free."""
    busy = frozenset(taken)
    free = tuple(card for card in cards if card not in busy)[:gpus_per_trial]
    return free if len(free) == gpus_per_trial else None

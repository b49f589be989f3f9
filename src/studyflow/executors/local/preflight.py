"""Whether this machine has what local attempts need."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from studyflow.executors.local.gpus import detect_gpus
from studyflow.reasons import Code, Finding, Level


def check_gpus(gpus_per_trial: int, detect: Callable[[], Sequence[str]] = detect_gpus) -> Finding:
    """Return which GPUs local trials would get.

    Args:
        gpus_per_trial: What a trial asks for.
        detect: Returns this machine's GPUs.
    """
    gpus = detect()
    seen = f"{len(gpus)} seen: {', '.join(gpus)}" if gpus else "none seen"
    if len(gpus) >= gpus_per_trial:
        return Finding.ok("GPUs", seen)
    return Finding(
        Code.GPUS_SHORT,
        Level.PROBLEM if gpus else Level.WARNING,  # without any, trials run on the CPU
        "GPUs",
        f"{seen}, but a trial asks for {gpus_per_trial}",
        "does nvidia-smi list the GPUs, and does CUDA_VISIBLE_DEVICES hide some?",
    )

"""Whether this machine has what local attempts need."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from studyflow.executors.kind import PreflightResult, Standing
from studyflow.executors.local.gpus import detect_gpus


def check_gpus(
    gpus_per_trial: int, detect: Callable[[], Sequence[str]] = detect_gpus
) -> PreflightResult:
    """Return which GPUs local trials would get.

    Args:
        gpus_per_trial: What a trial asks for.
        detect: Returns this machine's GPUs.
    """
    gpus = detect()
    seen = f"{len(gpus)} seen: {', '.join(gpus)}" if gpus else "none seen"
    if len(gpus) >= gpus_per_trial:
        return PreflightResult(Standing.OK, "GPUs", seen)
    return PreflightResult(
        Standing.PROBLEM if gpus else Standing.WARNING,  # without any, trials run on the CPU
        "GPUs",
        f"{seen}, but a trial asks for {gpus_per_trial}",
        "does nvidia-smi list the GPUs, and does CUDA_VISIBLE_DEVICES hide some?",
    )

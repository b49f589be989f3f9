"""Whether this machine has what local attempts need."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from studyflow.executors.local.gpus import detect_gpus
from studyflow.executors.local.inherited import is_named, left_out
from studyflow.reasons import Code, Finding, Level
from studyflow.spec import TrialSpec


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


def check_environment(trial: TrialSpec | None, runner: Mapping[str, str] = os.environ) -> Finding:
    """Return which of the runner's variables local trials do not get.

    Args:
        trial: How trials are run; `None` for a study that names no variables.
        runner: The runner's variables.
    """
    named, given = ((), {}) if trial is None else (trial.inherit_env, trial.env)
    if absent := [name for name in named if not any(is_named(own, (name,)) for own in runner)]:
        return Finding(
            Code.VARIABLE_LEFT_OUT,
            Level.WARNING,
            "environment",
            f"trial.inherit_env names {', '.join(absent)}, and no such variable is set here",
            "set it where the study runs, or take it out",
        )
    kept = left_out(runner, given, named)
    if not kept:
        return Finding.ok("environment", "trials get every variable of this process")
    shown = ", ".join(kept)
    return Finding.ok(
        "environment",
        f"trials do not get {shown}, which look like secrets; trial.inherit_env passes them on",
    )

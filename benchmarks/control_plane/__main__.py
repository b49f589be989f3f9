"""What the control plane costs, one table for each part.

    python -m benchmarks.control_plane loop [--quick]

CPU seconds and counts, not seconds: the machines are shared.
"""

from __future__ import annotations

import argparse

import optuna
from benchmarks.control_plane import (
    cluster_scale,
    commands,
    flow,
    kubernetes,
    loop,
    resume,
    runners,
    soak,
    startup,
    storages,
    suggestions,
    trials,
)
from benchmarks.control_plane.measures import have_bytecode_kept, show

PARTS = {
    "loop": loop.rows,
    "kubernetes": kubernetes.rows,
    "cluster-scale": cluster_scale.rows,
    "soak": soak.rows,
    "storages": storages.rows,
    "runners": runners.rows,
    "resume": resume.rows,
    "trials": trials.rows,
    "commands": commands.rows,
    "suggestions": suggestions.rows,
    "startup": startup.rows,
    "flow": flow.rows,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--quick", action="store_true", help="small sizes: does it run at all?")
    given = parser.parse_args()
    have_bytecode_kept()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    show(PARTS[given.part](is_quick=given.quick))


if __name__ == "__main__":
    main()

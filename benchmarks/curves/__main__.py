"""Command line: run, report, reference."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

from benchmarks.curves.report import per_task, table  # noqa: E402
from benchmarks.curves.runner import RULES, Key, read_runs, run_all  # noqa: E402
from benchmarks.curves.tasks import all_tasks  # noqa: E402
from benchmarks.curves.trainings import TASKS, reference  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.curves")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="make missing runs and append them to a file")
    run.add_argument("--half", choices=["tune", "report"], required=True)
    run.add_argument("--families", nargs="*", default=[])
    run.add_argument("--tasks", nargs="*", default=[])
    run.add_argument("--rules", nargs="+", default=list(RULES), help="SAMPLER/PRUNER")
    run.add_argument("--seeds", type=int, default=10, help="seeds 0 to this, less one")
    run.add_argument("--slots", type=int, nargs="+", default=[4])
    run.add_argument("--restarts", type=float, nargs="+", default=[0.02])
    run.add_argument("--full", type=int, default=30, help="budget in full trainings")
    run.add_argument("--seconds", type=float, help="begin no run after so much CPU time")
    run.add_argument("--to", type=Path, required=True)
    report = commands.add_parser("report", help="print the tables of one half")
    report.add_argument("--half", choices=["tune", "report"], required=True)
    report.add_argument("--per-task", action="store_true")
    report.add_argument("files", nargs="+", type=Path)
    constants = commands.add_parser("reference", help="train whole grids; print their constants")
    constants.add_argument("names", nargs="*", default=[])
    args = parser.parse_args()

    if args.command == "reference":
        for name in args.names or TASKS:
            print(f'    "{name}": {reference(name)!r},', flush=True)
        return
    tasks = {name: task for name, task in all_tasks().items() if task.half == args.half}
    if args.command == "report":
        print((per_task if args.per_task else table)(read_runs(args.files), tasks))
        return
    wanted = [
        name
        for name, task in tasks.items()
        if (not args.families or task.family in args.families)
        and (not args.tasks or name in args.tasks)
    ]
    # Seeds first, so that whenever it is stopped every task has been run about equally often.
    keys = [
        Key(name, rule, seed, slots, restart, args.full)
        for seed in range(args.seeds)
        for slots in args.slots
        for restart in args.restarts
        for name in wanted
        for rule in args.rules
    ]
    n_left = run_all(tasks, keys, args.to, args.seconds)
    if n_left:
        print(f"{n_left} runs are still to be made: run the same command again")


if __name__ == "__main__":
    main()

"""Command line: run, report, latency, reference."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from benchmarks.samplers.peers import NAMES
from benchmarks.samplers.problems import all_problems, random_values
from benchmarks.samplers.report import as_ours, table
from benchmarks.samplers.runner import Key, read_runs, run_all


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.samplers")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="make missing runs and append them to a file")
    run.add_argument("--half", choices=["tune", "report"], required=True)
    run.add_argument("--families", nargs="*", default=[])
    run.add_argument("--problems", nargs="*", default=[])
    run.add_argument("--samplers", nargs="+", default=["ours", "gp", "tpe"], choices=NAMES)
    run.add_argument("--seeds", type=int, default=10, help="seeds 0 to this, less one")
    run.add_argument("--workers", type=int, default=1)
    run.add_argument("--trials", type=int, default=50)
    run.add_argument("--to", type=Path, required=True)
    report = commands.add_parser("report", help="print the tables of one half")
    report.add_argument("--half", choices=["tune", "report"], required=True)
    report.add_argument("--ours", default="ours", help="which sampler is compared with the others")
    report.add_argument("files", nargs="+", type=Path)
    latency = commands.add_parser("latency", help="seconds per suggestion and memory")
    latency.add_argument("--only", nargs="*", default=[], help="such as ours:100 gp:1000")
    latency.add_argument("--repeats", type=int, default=3)
    reference = commands.add_parser("reference", help="print the constants of trainings.py")
    reference.add_argument("--points", type=int, default=500)
    reference.add_argument("files", nargs="*", type=Path)
    args = parser.parse_args()

    if args.command == "latency":
        # The environment of a peer need not have what this measures memory with.
        from benchmarks.samplers.latency import measure_latency

        measure_latency(args.only, args.repeats)
        return
    problems = all_problems()
    if args.command == "reference":
        runs = read_runs(args.files)
        for problem in problems.values():
            if problem.family not in ("sklearn", "branches"):
                continue
            values = random_values(problem, args.points, seed=0)
            found = [v for key, r in runs.items() if key.problem == problem.name for v in r.values]
            best = min(values + found)
            print(f'    "{problem.name}": ({best!r}, {float(np.median(values)) - best!r}),')
        return
    chosen = {name: p for name, p in problems.items() if p.half == args.half}
    if args.command == "report":
        print(table(as_ours(read_runs(args.files), args.ours), chosen))
        return
    wanted = [
        p
        for name, p in chosen.items()
        if (not args.families or p.family in args.families)
        and (not args.problems or name in args.problems)
    ]
    # Seeds first, so that whenever it is stopped every problem has been run about equally often.
    keys = [
        Key(problem.name, sampler, seed, args.workers, args.trials)
        for seed in range(args.seeds)
        for problem in wanted
        for sampler in args.samplers
    ]
    run_all(wanted, keys, args.to)


if __name__ == "__main__":
    main()

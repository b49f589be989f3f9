"""A study as Prefect's flow beside `studyflow run`: as a whole, and what a further trial costs.

With a task run for each trial, as small studies have them, and without, as large ones.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.control_plane.measures import Row, Spent, spent_by
from benchmarks.control_plane.startup import run_study, write_study

ROOT = Path(__file__).parents[2]


def rows(*, is_quick: bool) -> Iterator[Row]:
    few, many = (1, 2) if is_quick else (2, 82)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def flow(n_trials: int, trial_runs: str = "always") -> Spent:
            file = write_study(folder, f"flow-{n_trials}-{trial_runs}", n_trials)
            with file.open("a", encoding="utf-8") as study:
                study.write(f"prefect: {{trial_runs: {trial_runs}}}\n")
            program = str(ROOT / "flows" / "run_study.py")
            home = ["env", f"STUDYFLOW_HOME={folder / 'home'}", f"PYTHONPATH={ROOT}"]
            return spent_by([*home, sys.executable, program, str(file)], folder)

        def plain(n_trials: int) -> Spent:
            return spent_by(
                run_study(folder, write_study(folder, f"run-{n_trials}", n_trials)), folder
            )

        for make_databases in (flow, plain):
            make_databases(1)
        flow_few, plain_few = flow(few), plain(few)
        bare_few, bare_many = flow(few, "never"), flow(many, "never")
        flow_many, plain_many = flow(many), plain(many)
        n_more = many - few
        for what, of_flow, of_plain in (
            (f"{few} trials", flow_few, plain_few),
            (f"{many} trials", flow_many, plain_many),
        ):
            yield Row(what, of_flow.cpu_seconds, "s CPU", of_plain.cpu_seconds, "studyflow run")
        for what, of_few, of_many in (
            ("a further trial, with a task run", flow_few, flow_many),
            ("a further trial, without", bare_few, bare_many),
        ):
            yield Row(
                what,
                1000 * (of_many.cpu_seconds - of_few.cpu_seconds) / n_more,
                "ms CPU",
                1000 * (plain_many.cpu_seconds - plain_few.cpu_seconds) / n_more,
                "studyflow run",
            )
        yield Row(
            f"largest process, {many} trials",
            flow_many.memory_mb,
            "MB",
            flow_few.memory_mb,
            f"{few} trials",
        )

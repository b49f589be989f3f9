"""What a command costs before it does anything: CPU and modules, beside a bare Python."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.control_plane.measures import Row

STUDY = """
name: commands
objectives: [{metric: loss, direction: minimize}]
search_space: {x: {type: float, low: 0, high: 1}}
budget: {n_trials: 3}
trial: {command: [python, train.py]}
"""

COUNT = """
import runpy, sys
sys.argv = ["studyflow", *sys.argv[1:]]
try:
    runpy.run_module("studyflow", run_name="__main__")
except SystemExit:
    pass
print(len(sys.modules), file=sys.stderr)
"""


def cpu_of(command: Sequence[str], folder: Path, times: int) -> float:
    """Return the least CPU seconds of a process, of some runs of it."""
    least = float("inf")
    for _ in range(times):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, cwd=folder, capture_output=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        least = min(least, spent)
    return least


def n_modules(arguments: Sequence[str], folder: Path) -> int:
    command = [sys.executable, "-c", COUNT, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return int(done.stderr.split()[-1])


def rows(*, is_quick: bool) -> Iterator[Row]:
    times = 1 if is_quick else 5
    commands = {
        "--help": ["--help"],
        "check": ["check", "study.yaml"],
        "status": ["status", "--home", "home"],
    }
    if is_quick:
        commands = {"--help": ["--help"]}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "study.yaml").write_text(STUDY)
        (folder / "train.py").write_text("")
        bare = cpu_of([sys.executable, "-c", ""], folder, times)
        for what, arguments in commands.items():
            spent = cpu_of([sys.executable, "-m", "studyflow", *arguments], folder, times)
            yield Row(f"studyflow {what}", spent, "s CPU", bare, "bare Python")
            yield Row(f"studyflow {what}", n_modules(arguments, folder), "modules")

"""Writes the report of a long study in a process of its own.

scikit-learn and a page of thousands of trials take 200 MB, which a process never gives
back. In one of its own they end with it, and a report that hangs or is killed for memory costs the
report alone.
"""

from __future__ import annotations

import contextlib
import logging
import pickle
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from studyflow.reports.data import StudyData
from studyflow.reports.page import Report, TrialLinks, build_report

_LOG: Final = logging.getLogger(__name__)

MANY_TRIALS: Final = 1000
"""Trials beyond which a report gets a subprocess; below, starting one takes longer."""
LIMIT_SECONDS: Final = 900.0
"""Longest time for a report."""


def needs_subprocess(data: StudyData) -> bool:
    """Return whether a report is better written in a process of its own.

    One that shows the sampler's model is not: this process has loaded what it needs, and the model
    is asked through the study's open storage.
    """
    return len(data.records) > MANY_TRIALS and all(r.suggestion is None for r in data.records)


def build_report_in_subprocess(
    data: StudyData,
    folder: Path,
    *,
    links: Mapping[str, str],
    generated_at: float,
    trial_links: TrialLinks | None = None,
) -> Report:
    """Return the same report as `build_report`, written by a process of its own.

    Raises:
        RuntimeError: The process failed; the message holds the end of what it printed.
        subprocess.TimeoutExpired: It took longer than `LIMIT_SECONDS`.
    """
    work: dict[str, Any] = {
        "data": replace(data, optuna_study=None),
        "folder": folder,
        "links": dict(links),
        "trial_links": dict(trial_links or {}),
        "generated_at": generated_at,
    }
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        input=pickle.dumps(work),
        capture_output=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    said = done.stderr.decode(errors="replace").strip()[-2000:]
    if done.returncode != 0:
        raise RuntimeError(f"Its process ended with {done.returncode}: {said or 'no message'}")
    if said:
        _LOG.warning("The report's process said: %s", said)
    report: Report = pickle.loads(done.stdout)  # noqa: S301 - written by the lines below
    return report


def main() -> None:
    """Read the work from standard input and write the `Report` to standard output."""
    work = pickle.load(sys.stdin.buffer)  # noqa: S301 - written by the lines above
    with contextlib.redirect_stdout(sys.stderr):
        report = build_report(**work)
    sys.stdout.buffer.write(pickle.dumps(report))


if __name__ == "__main__":
    main()

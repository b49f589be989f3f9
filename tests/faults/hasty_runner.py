"""A runner whose leases are short: `python -m tests.faults.hasty_runner ARGUMENTS`.

The arguments are those of `studyflow`.
"""

from __future__ import annotations

import sys
from functools import partial
from unittest import mock

from studyflow.cli import main
from studyflow.runner import opening
from studyflow.study import BEAT_SECONDS, LEASE_SECONDS, heartbeat, leases
from studyflow.tuner import loop
from studyflow.tuner.settings import TunerSettings

SHORT_LEASE_SECONDS = 6.0

if __name__ == "__main__":
    beat = BEAT_SECONDS * SHORT_LEASE_SECONDS / LEASE_SECONDS
    short = partial(TunerSettings, lease_seconds=SHORT_LEASE_SECONDS)
    with (
        mock.patch.object(leases, "BEAT_SECONDS", beat),
        mock.patch.object(opening, "heartbeat", partial(heartbeat, seconds=beat)),
        mock.patch.object(loop, "TunerSettings", short),
    ):
        main(sys.argv[1:])

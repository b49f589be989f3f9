"""A flow that waits a few seconds where flows wait for long: `hasty_flow.py FILE ARGUMENTS`."""

from __future__ import annotations

import runpy
import sys
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

if __name__ == "__main__":
    from studyflow.orchestration import outages, progress, view

    file = Path(sys.argv[1])
    sys.argv = sys.argv[1:]
    sys.path[0] = str(file.parent)
    with ExitStack() as stack:
        for module, name, seconds in (
            (view, "CLOSE_SECONDS", 3.0),
            (progress, "ARTIFACT_SECONDS", 1.0),
            (outages, "PROBE_SECONDS", 0.5),
        ):
            stack.enter_context(mock.patch.object(module, name, seconds))
        runpy.run_path(str(file), run_name="__main__")

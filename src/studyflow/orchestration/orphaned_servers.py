"""Prefect's temporary servers that outlive their flow run."""

from __future__ import annotations

from typing import Final

import psutil

from studyflow.settings import Settings

STARTED_BY: Final = "STUDYFLOW_PREFECT_SERVER_OF"
"""Variable of a temporary server: the process id of the flow that started it."""

SERVER_APP: Final = "prefect.server.api.server:create_app"
"""What the command line of a server that Prefect started for one flow run holds."""


def end_orphaned_servers(settings: Settings) -> int:
    """End the servers of flow runs that were killed, and return how many there were.

    Prefect starts its temporary server as a child and ends it when the flow ends; one whose flow
    was killed would run for ever. Only orphans over this home's database are touched.
    """
    home = str(settings.home / "prefect")
    ended = []
    for process in psutil.process_iter():
        try:
            if (
                SERVER_APP in process.cmdline()
                and process.environ().get("PREFECT_HOME") == home
                and _is_orphan(process)
            ):
                process.terminate()
                ended.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    for process in psutil.wait_procs(ended, timeout=10)[1]:
        process.kill()
    return len(ended)


def _is_orphan(server: psutil.Process) -> bool:
    """Return whether the flow that started a server is gone: another process is its parent now.

    A server that does not say who started it (Prefect's own start) counts as one when its parent is
    no Python: the process that adopts orphans is none, but where a container runs Python only.
    """
    parent = server.parent()
    starter = server.environ().get(STARTED_BY)
    if starter is not None:
        return parent is None or str(parent.pid) != starter
    return parent is None or not any("python" in part for part in parent.cmdline()[:1])

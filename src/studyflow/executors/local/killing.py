"""Kills what runs of an attempt whose supervisor cannot do it any more."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from studyflow.executors.local import cgroups, processes, supervisor
from studyflow.executors.local.attempt import Attempt


@dataclass(frozen=True, slots=True)
class ProcessKiller:
    """Finds and kills process trees of attempts."""

    cgroup_parent: Path | None
    """Control group below which attempts have theirs; `None` where there are none."""

    def cgroup_of(self, attempt: Attempt) -> str | None:
        """Return the control group for an attempt's script; `None` where it gets none."""
        if self.cgroup_parent is None or attempt.trial.outcome_path is None:
            return None
        return str(self.cgroup_parent / cgroups.group_name(attempt.trial.outcome_path))

    def kill(self, attempt: Attempt) -> bool:
        """Kill what runs of an attempt; return whether there was anything, and so is to be again.

        Raises:
            OSError: The disk does not answer.
        """
        pids = attempt.read_json(supervisor.PID) or {}
        tree = processes.Tree(
            supervisor=as_number(pids.get("supervisor")),
            script=as_number(pids.get("script")),
            script_start=as_number(pids.get("script_start")),
            alive_at=attempt.supervisor.alive_at,
        )
        groups = (Path(str(pids["cgroup"])),) if pids.get("cgroup") else ()
        outcome_path = attempt.trial.outcome_path or str(attempt.folder / supervisor.OUTCOME)
        found = self._kill(outcome_path, tree, groups)
        if found:
            attempt.check_again_after_kill()
        return found

    def kill_unreadable(self, folder: Path) -> bool:
        """The same for an attempt of which only the folder is known: its documents are damaged."""
        return self._kill(str(folder / supervisor.OUTCOME), processes.Tree(), ())

    def _kill(self, outcome_path: str, tree: processes.Tree, groups: tuple[Path, ...]) -> bool:
        name = cgroups.group_name(outcome_path)
        if self.cgroup_parent is not None:
            groups = (*groups, self.cgroup_parent / name)
        found = processes.kill_left(outcome_path, tree)
        for group in set(groups):
            if group.name == name and cgroups.is_group(group):  # the script could name any other
                found |= cgroups.kill_group(group)
                cgroups.remove_group(group)
        return found


def as_number(value: object) -> int | None:
    """Return a whole number out of a document; `None` for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None

"""Asks for known vulnerabilities of all that the images install: `make audit`, by pip-audit.

Exit code 1 when one is known that `locks/accepted.txt` does not name. What could not be looked up
is said and is no failure: where the data is out of reach nothing is known, and nothing is claimed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

LOCKS: Final = Path(__file__).parents[1] / "locks"
AUDITED: Final = ("orchestrator", "torch", "trial", "weights", "tools")
"""The locks; `torch-cpu` has the same torch under a version that no database knows."""
ACCEPTED: Final = LOCKS / "accepted.txt"


@dataclass(frozen=True)
class Audit:
    """What is known of one lock."""

    lock: str
    known: tuple[str, ...]
    """A line for each vulnerability."""
    accepted: tuple[str, ...]
    """A line for each that was looked at and accepted."""
    unknown: tuple[str, ...]
    """Packages that could not be looked up."""
    n_packages: int

    def __str__(self) -> str:
        """What a person reads of it."""
        lines = [f"locks/{self.lock}.txt: {self.n_packages} packages, {len(self.known)} known"]
        lines += [f"  {line}" for line in self.known]
        lines += [f"  accepted: {line}" for line in self.accepted]
        if len(self.unknown) == self.n_packages:
            lines.append("  NOT AUDITED: the data on vulnerabilities could not be reached")
        elif self.unknown:
            lines.append(f"  not audited: {', '.join(self.unknown)}")
        return "\n".join(lines)


def read(lock: str, document: Mapping[str, Any], accepted: Collection[str]) -> Audit:
    """Return what pip-audit says of a lock.

    Args:
        lock: Its name.
        document: pip-audit's JSON.
        accepted: Names of vulnerabilities that are accepted.
    """
    known: list[str] = []
    passed: list[str] = []
    unknown: list[str] = []
    for package in document["dependencies"]:
        if "skip_reason" in package:
            unknown.append(package["name"])
            continue
        for flaw in package["vulns"]:
            fixed = ", ".join(flaw.get("fix_versions", ())) or "no version yet"
            line = f"{package['name']} {package['version']}: {flaw['id']}, fixed in {fixed}"
            names = {flaw["id"], *flaw.get("aliases", ())}
            (passed if names & set(accepted) else known).append(line)
    n_packages = len(document["dependencies"])
    return Audit(lock, tuple(known), tuple(passed), tuple(unknown), n_packages)


def names(text: str) -> list[str]:
    """Return the names of vulnerabilities in a list with comments."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def ask(lock: str) -> Mapping[str, Any]:
    """Return what pip-audit knows of a lock; all of it unknown when it ends without an answer."""
    path = LOCKS / f"{lock}.txt"
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(path), "--disable-pip"]
    command += ["--require-hashes", "--format", "json", "--progress-spinner", "off"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        document: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        packages = [line.partition("==")[0] for line in path.read_text().splitlines()]
        why = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        print(f"pip-audit: {why}")
        return {
            "dependencies": [
                {"name": name, "skip_reason": why} for name in packages if not name.startswith("#")
            ]
        }
    return document


def main() -> int:
    """Print what is known of each lock, and return the exit code."""
    accepted = names(ACCEPTED.read_text())
    audits = [read(lock, ask(lock), accepted) for lock in AUDITED]
    print("\n".join(map(str, audits)))
    return 1 if any(audit.known for audit in audits) else 0


if __name__ == "__main__":
    sys.exit(main())

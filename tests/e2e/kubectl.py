"""The side door to a cluster: kubectl, which shares no code with what is tested."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

_T = TypeVar("_T")


def kubectl(*arguments: str, stdin: str | None = None) -> str:
    """Return what it printed; fail the test when it fails."""
    done = subprocess.run(
        ["kubectl", *arguments],
        capture_output=True,
        text=True,
        input=stdin,
        timeout=400,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


class Kubectl:
    """Runs kubectl in one namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        """Return what it printed; fail the test when it fails."""
        return kubectl("--namespace", self.namespace, *arguments, stdin=stdin)

    def items(self, kind: str, *selectors: str) -> list[dict[str, Any]]:
        """Return the objects of a kind."""
        found: list[dict[str, Any]] = json.loads(self("get", kind, "-o", "json", *selectors))[
            "items"
        ]
        return found

    def apply(self, manifest: dict[str, Any]) -> None:
        """Create or change an object."""
        self("apply", "-f", "-", stdin=json.dumps(manifest))


def until(look: Callable[[], _T | None], seconds: float, what: str) -> _T:
    """Return the first look that finds something."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds:g} s: {what}")
        time.sleep(0.5)

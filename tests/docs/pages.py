"""The pages of the documentation, and what stands in their blocks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]

PAGES: Final = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])

_BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    """Return the blocks of one language, in order."""
    return [text for name, text in _BLOCK.findall(page.read_text()) if name == language]


def commands(page: Path) -> list[str]:
    """Return what a page says to type, in order, comments taken off."""
    lines = "\n".join(blocks(page, "console")).replace("\\\n", " ").splitlines()
    typed = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return [re.sub(r"\s{2,}#.*$|\s+$", "", line) for line in typed]


ELSEWHERE: Final = {
    "kubectl ": "tests/e2e/test_docs.py",
    "make deploy": "tests/e2e/test_docs.py",
    "k8s/new-secrets": "tests/e2e/test_docs.py",
    "volume=$(kubectl": "tests/e2e/test_docs.py",
    "studyflow deploy study.yaml --interval": "tests/e2e/test_docs.py",
    "export PREFECT_API_URL": "tests/e2e/test_docs.py",
    "studyflow submit": "tests/flows/test_submit.py",
    "studyflow attach": "tests/flows/test_submit.py",
    "studyflow ui": "tests/ui/site.py",
    "studyflow deploy study.yaml --serve": "tests/ui/test_daily_life.py",
    "python flows/compare_samplers.py": "tests/flows/test_compare_samplers.py",
    "make images": ".ci/run",
    "make study": "Makefile",
    "make ui": "Makefile",
    "python3 -m venv": "Makefile",
    "pip install": "Makefile",
}
"""How commands begin that need a cluster, a browser or many minutes, and which file runs them."""


def where(command: str) -> str | None:
    """Return which file runs a command, if it is not `tests/docs/test_commands.py`."""
    return next((path for start, path in ELSEWHERE.items() if command.startswith(start)), None)

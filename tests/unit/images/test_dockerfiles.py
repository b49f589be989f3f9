"""What every example's image promises, as far as its Dockerfile shows it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

EXAMPLES = ["blackbox", "cnn-lstm"]
IMAGES = [*EXAMPLES, ".."]
"""With the orchestrator, whose Dockerfile lies at the top."""


def instructions(images: Path, example: str) -> list[str]:
    text = (images / example / "Dockerfile").read_text()
    joined = re.sub(r"\\\n\s*", "", text)
    return [line for line in joined.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("example", IMAGES)
def test_the_image_runs_as_a_numeric_user_that_is_not_root(images: Path, example: str) -> None:
    users = [line for line in instructions(images, example) if line.startswith("USER")]

    assert users == ["USER 10001:10001"]


@pytest.mark.parametrize("example", IMAGES)
def test_what_the_image_copies_exists_in_the_build_context(images: Path, example: str) -> None:
    copies = [
        line.split()[1:-1]
        for line in instructions(images, example)
        if line.startswith("COPY") and "--from" not in line
    ]

    missing = [name for names in copies for name in names if not (images.parent / name).exists()]

    assert copies
    assert missing == []


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_image_installs_studyflow_without_extras_and_pins_what_it_installs(
    images: Path, example: str
) -> None:
    installs = [line for line in instructions(images, example) if "pip install" in line]

    assert all("--constraint /tmp/constraints.txt" in line for line in installs)
    assert installs[-1].endswith(" /tmp/wheels/*.whl")


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_image_starts_what_the_study_starts(images: Path, example: str) -> None:
    assert instructions(images, example)[-1] == 'CMD ["python", "train.py"]'

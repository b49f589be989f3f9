"""What every example's image promises, as far as its Dockerfile shows it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

EXAMPLES = ["blackbox", "cnn-lstm", "weights", "epidemic", "fusion"]
TRIALS = ["trial-base", *EXAMPLES]
IMAGES = [*TRIALS, ".."]
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


@pytest.mark.parametrize("example", TRIALS)
def test_the_image_installs_studyflow_without_extras_and_pins_what_it_installs(
    images: Path, example: str
) -> None:
    installs = [line for line in instructions(images, example) if "pip install" in line]

    assert all("--no-deps" in line for line in installs)
    assert all("--require-hashes" in line for line in installs[:-1])
    assert installs[-1].endswith(" /tmp/wheels/*.whl")


@pytest.mark.parametrize("example", TRIALS)
def test_the_image_starts_what_the_study_starts(images: Path, example: str) -> None:
    assert instructions(images, example)[-1] == 'CMD ["python", "train.py"]'


@pytest.mark.parametrize("example", IMAGES)
def test_a_change_of_studyflow_leaves_the_packages_in_the_cache(images: Path, example: str) -> None:
    lines = instructions(images, example)
    begin = next(i for i, line in enumerate(lines) if line.endswith("AS installed"))
    wheel = next(i for i, line in enumerate(lines) if line.startswith("COPY --from=wheel"))
    sources = [line for line in lines[begin:wheel] if line.startswith("COPY")]

    assert sources
    assert not any(name in line for line in sources for name in ("src", "pyproject", " flows"))


def test_the_orchestrator_brings_the_examples_studies(images: Path) -> None:
    copies = dict(
        line.split()[1:3] for line in instructions(images, "..") if line.startswith("COPY images/")
    )

    assert copies == {
        "images/blackbox/study.yaml": "studies/blackbox.yaml",
        "images/cnn-lstm/study.yaml": "studies/cnn-lstm.yaml",
        "images/cnn-lstm/study-short.yaml": "studies/cnn-lstm-short.yaml",
        "images/weights/study.yaml": "studies/weights.yaml",
        "images/weights/study-settings.yaml": "studies/weights-settings.yaml",
        "images/epidemic/study.yaml": "studies/epidemic.yaml",
        "images/fusion/study.yaml": "studies/fusion.yaml",
        "images/fusion/study-short.yaml": "studies/fusion-short.yaml",
    }
    assert "COPY flows flows" in instructions(images, "..")


def test_make_images_builds_every_image_with_the_builder_of_choice(images: Path) -> None:
    command = ["make", "--dry-run", "images", "BUILD=podman build", "REGISTRY=r.example/x", "TAG=7"]
    # `make test` hands its own flags on, with which make also tells its folders.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(
        command,
        cwd=images.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )

    assert done.stdout.splitlines() == [
        "podman build --file Dockerfile --tag r.example/x/orchestrator:7 .",
        *(
            f"podman build --file images/{name}/Dockerfile --tag r.example/x/{name}:7 ."
            for name in TRIALS
        ),
    ]
    folders = {path.parent.name for path in images.glob("*/Dockerfile")}
    assert folders == set(TRIALS)

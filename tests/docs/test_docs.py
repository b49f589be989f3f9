"""Study files and scripts in the documentation work as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from studyflow.cli import main
from studyflow.spec import find_problems

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    return [text for name, text in BLOCK.findall(page.read_text()) if name == language]


STUDIES = [
    pytest.param(text, id=f"{page.name}-{i}")
    for page in PAGES
    for i, text in enumerate(blocks(page, "yaml"))
]
COMMANDS = sorted(
    {
        command
        for page in PAGES
        for command in re.findall(
            r"`studyflow ([a-z]+)|^\$ studyflow ([a-z]+)", page.read_text(), re.M
        )
        for command in command
        if command
    }
)


@pytest.mark.parametrize("text", STUDIES)
def test_every_study_file_in_the_docs_is_valid(text: str) -> None:
    assert find_problems(text)[1] == ()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_in_the_docs_exists(command: str) -> None:
    assert command in main.commands


def test_every_command_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [name for name in main.commands if f"studyflow {name}" not in readme] == []


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md"])
def test_the_first_script_of_a_page_runs_alone(page: str, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(blocks(ROOT / page, "python")[0])
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md"])
def test_the_first_study_of_a_page_runs_as_it_stands(page: str, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(blocks(ROOT / page, "python")[0])
    (tmp_path / "study.yaml").write_text(blocks(ROOT / page, "yaml")[0])
    command = [sys.executable, "-m", "studyflow", "run", "study.yaml", "--n-trials", "3"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    assert "All 3 trials are finished." in done.stdout
    assert "Best:" in done.stdout


def test_links_between_pages_lead_somewhere() -> None:
    broken = []
    for page in [*PAGES, ROOT / "CONTRIBUTING.md", *(ROOT / "docs" / "decisions").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            if not (page.parent / target).exists():
                broken.append(f"{page.name}: {target}")
    assert broken == []

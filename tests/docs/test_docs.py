"""Study files and scripts in the documentation work as they stand there."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import optuna
import pytest
import yaml
from optuna.distributions import FloatDistribution
from tests.docs.pages import PAGES, ROOT, blocks

from studyflow.cli import main
from studyflow.samplers.botorch import BoTorchSampler
from studyflow.spec import find_problems
from studyflow.spec.pods import Platform, judge_data, read_platform

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
    assert find_problems(text, rules=lambda data: judge_data(data, Platform()))[1] == ()


def test_the_trial_of_the_page_on_clusters_is_valid_in_a_study_file() -> None:
    [fragment] = [t for t in blocks(ROOT / "docs/kubernetes.md", "text") if t.startswith("trial:")]
    study = yaml.safe_load(blocks(ROOT / "README.md", "yaml")[0])
    study["trial"] |= yaml.safe_load(fragment)["trial"]
    assert find_problems(yaml.safe_dump(study))[1] == ()


def test_the_file_of_the_page_on_platforms_is_one(tmp_path: Path) -> None:
    [text] = [t for t in blocks(ROOT / "docs/platform.md", "text") if t.startswith("contact:")]
    path = tmp_path / "platform.yaml"
    path.write_text(text)
    platform = read_platform(path)
    assert platform.allows_image("registry.example/team/train:1")
    page = (ROOT / "docs/platform.md").read_text()
    assert [key for key in Platform.model_fields if f"`{key}`" not in page] == []


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
def test_the_overlay_of_the_page_on_clusters_can_be_built(tmp_path: Path) -> None:
    texts = blocks(ROOT / "docs/kubernetes.md", "text")
    [overlay] = [text for text in texts if "kustomization.yaml" in text]
    shutil.copytree(ROOT / "k8s", tmp_path / "k8s")
    yours = tmp_path / "k8s" / "overlays" / "yours"
    yours.mkdir()
    (yours / "kustomization.yaml").write_text(overlay)
    done = subprocess.run(["kubectl", "kustomize", yours], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "image: your.registry/studyflow/orchestrator:0.2.0" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_in_the_docs_exists(command: str) -> None:
    assert main.get_command(click.Context(main), command) is not None


def test_every_command_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [
        name
        for name in main.list_commands(click.Context(main))
        if f"studyflow {name}" not in readme
    ] == []


def test_the_readmes_study_ends_at_the_configuration_shown_and_stays_near_it() -> None:
    spec = yaml.safe_load(blocks(ROOT / "README.md", "yaml")[0])
    [console] = [text for text in blocks(ROOT / "README.md", "console") if "my-first-study" in text]
    shown = yaml.safe_load("\n".join(line for line in console.splitlines() if line[0] != "$"))
    space = {
        name: FloatDistribution(bounds["low"], bounds["high"])
        for name, bounds in spec["search_space"].items()
    }
    sampler = BoTorchSampler(seed=spec["sampler"]["seed"], search_space=space)
    study = optuna.create_study(sampler=sampler)

    def loss(trial: optuna.Trial) -> float:
        x, y = (trial.suggest_float(name, d.low, d.high) for name, d in space.items())
        return (x - 1) ** 2 + y**2

    study.optimize(loss, n_trials=spec["budget"]["n_trials"])

    assert study.best_trial.number == shown["trial"]
    # Other processors' linear algebra rounds otherwise, which a search amplifies a little.
    assert study.best_params == pytest.approx(shown["params"], abs=1e-3)
    values = [trial.values[0] for trial in study.trials]
    assert max(values[-6:]) < np.median(values[:5])


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md"])
def test_the_first_script_of_a_page_runs_alone(page: str, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(blocks(ROOT / page, "python")[0])
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_links_between_pages_lead_somewhere() -> None:
    broken = []
    more = [
        *(ROOT / "docs" / "decisions").glob("*.md"),
        *(ROOT / "docs" / "reference").glob("*.md"),
    ]
    for page in [*PAGES, ROOT / "CONTRIBUTING.md", *more]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            if not (page.parent / target).exists():
                broken.append(f"{page.name}: {target}")
    assert broken == []


def test_every_module_of_the_page_on_the_architecture_exists() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    named = re.findall(r"`((?:\w+/)+(?:\w+\.py)?|\w+\.py)`", page)
    roots = (ROOT / "src/studyflow", ROOT)
    assert len(named) > 30
    assert [name for name in named if not any((root / name).exists() for root in roots)] == []


MESSAGES = [
    message
    for line in (ROOT / "docs" / "troubleshooting.md").read_text().splitlines()
    if line.startswith("| `")
    for message in re.findall(r"`([^`]+)`", line.split("|")[1])
]


def source_text() -> str:
    """Return the texts of the source as they are shown: literals that stand together are one."""
    texts = []
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = (p.value if isinstance(p, ast.Constant) else "" for p in node.values)
                texts.append("".join(map(str, parts)))
    return "\n".join(texts)


def test_every_message_of_the_troubleshooting_page_is_one_of_the_source() -> None:
    source = source_text()

    assert len(MESSAGES) > 30
    assert [message for message in MESSAGES if message not in source] == []


def test_every_page_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    pages = [path.relative_to(ROOT) for path in (ROOT / "docs").glob("*.md")]
    assert len(pages) > 25
    assert [str(page) for page in pages if f"({page}" not in readme] == []


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading) for heading in headings]
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in plain}


def test_links_to_headings_lead_to_one() -> None:
    broken = []
    for page in [*PAGES, *(ROOT / "docs" / "reference").glob("*.md")]:
        for target, anchor in re.findall(r"\]\(([^)#:]*\.md)?#([^)]+)\)", page.read_text()):
            there = page.parent / target if target else page
            if anchor not in anchors(there):
                broken.append(f"{page.name}: {target}#{anchor}")
    assert broken == []


def test_the_questions_are_short_and_lead_on() -> None:
    text = (ROOT / "docs" / "faq.md").read_text()
    answers = re.findall(r"^### (.*?)\n\n(.*?)(?=\n\n#|\Z)", text, re.M | re.S)
    assert len(answers) == 20
    assert [q for q, answer in answers if len(answer.strip().splitlines()) > 6] == []
    assert [q for q, answer in answers if "](" not in answer] == []

"""The commands of the documentation, typed as they stand there, page by page from top to bottom."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from tests.docs.pages import ELSEWHERE, PAGES, ROOT, blocks, commands, where
from tests.postgres import create_database, running_postgres
from tests.prepared import put_mlflow_database

LOCAL = {
    "README.md": (),
    "docs/tutorial.md": (),
    "docs/troubleshooting.md": (),
    "docs/warm-start.md": (),
    "docs/private-images-and-data.md": (),
    "docs/study-file.md": (),
    "docs/two-machines.md": (),
    "docs/backup.md": (),
    "docs/simulate.md": (),
}
"""Pages whose commands are typed here."""


def test_every_command_of_the_docs_is_typed_somewhere() -> None:
    unknown = [
        f"{page.name}: {command}"
        for page in PAGES
        for command in commands(page)
        if where(command) is None and str(page.relative_to(ROOT)) not in LOCAL
    ]
    assert unknown == []
    assert [path for path in set(ELSEWHERE.values()) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize(
    "target",
    sorted({c.split()[1] for page in PAGES for c in commands(page) if c.startswith("make ")}),
)
def test_every_target_of_the_docs_can_be_made(target: str) -> None:
    done = subprocess.run(
        ["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def make_old_study(storage: str) -> None:
    """Make the study that the page on study files imports."""
    floats, ints = optuna.distributions.FloatDistribution, optuna.distributions.IntDistribution
    trial = optuna.trial.create_trial(
        value=0.5,
        constraints={"latency_ms <= 20": -8.0},
        params={"learning_rate": 0.002, "dropout": 0.2, "batch_size": 32, "optimizer": "adam"},
        distributions={
            "learning_rate": floats(1e-4, 1e-2),
            "dropout": floats(0.0, 0.5),
            "batch_size": ints(16, 128),
            "optimizer": optuna.distributions.CategoricalDistribution(["adam", "sgd"]),
        },
    )
    optuna.create_study(storage=storage, study_name="old-study").add_trial(trial)


@pytest.fixture
def prepare(request: pytest.FixtureRequest) -> Callable[[str, Path], dict[str, str]]:
    """Give what lays out what a page takes for granted, and says what stands for its addresses."""

    def prepare(page: str, folder: Path) -> dict[str, str]:
        for name, language in (("train.py", "python"), ("study.yaml", "yaml")):
            if texts := blocks(ROOT / page, language):
                (folder / name).write_text(texts[0])
        run = "studyflow run study.yaml"
        shortly = f"{run} --n-trials 3"
        match page:
            case "docs/troubleshooting.md":
                prepare("README.md", folder)
                return {"studyflow explain": f"{shortly}\nstudyflow explain"}
            case "docs/backup.md":
                prepare("README.md", folder)
                return {"studyflow backup": f"{shortly}\nstudyflow backup"}
            case "docs/warm-start.md":
                (folder / "results.csv").write_text("learning_rate,loss\n0.01,1e-4\n0.05,9e-4\n")
                return {run: shortly}
            case "docs/study-file.md":
                (folder / "results.csv").write_text(
                    "lr,dropout,batch_size,optimizer,val_loss,latency_ms\n0.001,0.1,64,adam,0.5,9\n"
                )
                make_old_study(f"sqlite:///{folder}/old.db")
            case "docs/two-machines.md":
                server = request.getfixturevalue("database")
                put_mlflow_database(folder)
                return {
                    "postgresql://ann:secret@db.example/studies": server,
                    "http://mlflow.example:5000": f"sqlite:///{folder}/mlflow.db",
                    run: shortly,
                }
        return {}

    return prepare


@pytest.fixture
def database(tmp_path: Path) -> object:
    with running_postgres() as server:
        yield create_database(server.url, str(tmp_path))


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("page", LOCAL)
def test_the_commands_of_a_page_do_as_they_stand(
    page: str,
    tmp_path: Path,
    installed: Path,
    prepare: Callable[[str, Path], dict[str, str]],
) -> None:
    put_mlflow_database(tmp_path / ".studyflow")
    stand_ins = prepare(page, tmp_path)
    typed = [command for command in commands(ROOT / page) if where(command) is None]
    assert typed
    script = "\n".join(["set -ex", *typed])
    for written, meant in stand_ins.items():
        script = script.replace(written, meant)
    places = ("STUDYFLOW_", "MLFLOW_", "PREFECT_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(places)}
    programs = str(Path(sys.executable).parent)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={
            **kept,
            "PATH": f"{programs}:{kept['PATH']}",
            "HOME": str(tmp_path / "nobody"),
            "PYTHONPATH": str(installed),  # as a reader has it: from the wheel, without a clone
        },
        capture_output=True,
        text=True,
        timeout=390,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr

"""What the page for users of other tuners says of their files and of ours."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Final

import optuna
import pytest
import yaml
from tests.docs.pages import ROOT, blocks
from tests.prepared import Command, put_mlflow_database

from studyflow.spec import StudySpec
from studyflow.spec.arguments import PRUNER_ARGUMENTS, SAMPLER_ARGUMENTS
from studyflow.spec.katib import translate_experiment

PAGE: Final = ROOT / "docs" / "coming-from.md"
NAMES: Final = ("from-optuna", "from-sweeps", "from-ray-tune")
SECTIONS: Final = re.split(r"^## ", PAGE.read_text(), flags=re.M)[1:]


def study_of(name: str) -> str:
    [text] = [text for text in blocks(PAGE, "yaml") if yaml.safe_load(text)["name"] == name]
    return text


def script_of(name: str) -> str:
    """Return the training script that stands in the section of a study."""
    [section] = [text for text in SECTIONS if f"name: {name}\nobjectives" in text]
    [script] = re.findall(r"^```python\n(# train.py\n.*?)^```", section, re.M | re.S)
    return str(script)


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", NAMES)
def test_a_study_of_the_page_runs_as_it_stands(name: str, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(study_of(name))
    (tmp_path / "train.py").write_text(script_of(name))
    put_mlflow_database(tmp_path / ".studyflow")
    log = tmp_path / "log"
    command = ["run", "study.yaml", "--n-trials", "4"]
    run = Command("studyflow", command, cwd=tmp_path, env=os.environ, log=log)

    assert run.wait(170) == 0, log.read_text()
    assert "All 4 trials are finished." in log.read_text()


def test_the_program_for_optuna_runs_and_has_the_same_search_space() -> None:
    [program] = [text for text in blocks(PAGE, "python") if text.startswith("# tune.py")]
    there: dict[str, Any] = {}
    exec(compile(program, "tune.py", "exec"), there)

    study = there["study"]
    seen: dict[str, Any] = {}
    for trial in study.get_trials():
        seen |= trial.distributions
    assert StudySpec.from_text(study_of("from-optuna")).space.distributions() == seen
    assert study.study_name == "from-optuna"


def test_the_sweep_of_the_page_says_what_the_study_file_says() -> None:
    [text] = [text for text in blocks(PAGE, "text") if text.startswith("# sweep.yaml")]
    theirs, ours = yaml.safe_load(text), yaml.safe_load(study_of("from-sweeps"))
    space = ours["search_space"] | {n: {"value": v} for n, v in ours["fixed"].items()}
    bounds = {"lr": ("min", "low"), "layers": ("max", "high"), "optimizer": ("values", "choices")}

    assert theirs["parameters"].keys() == space.keys()
    assert all(theirs["parameters"][n][a] == space[n][b] for n, (a, b) in bounds.items())
    assert theirs["run_cap"] == ours["budget"]["n_trials"]


@pytest.mark.slow
def test_the_sampler_in_plain_optuna_finds_the_optimum() -> None:
    there: dict[str, Any] = {}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    exec(blocks(ROOT / "docs" / "sampler.md", "python")[0], there)
    assert abs(there["study"].best_params["x"] - 1) < 0.1


def test_every_sampler_and_pruner_that_the_page_names_is_one() -> None:
    page = PAGE.read_text()
    named = {
        name
        for line in page.splitlines()
        if line.startswith("| ") and ("sampler" in line.lower() or "pruner" in line)
        for name in re.findall(r"`([a-z0-9]+)`", line.split("|")[2])
    }
    assert named - {"sampler", "pruner", "multivariate", "categorical", "prior"} <= (
        SAMPLER_ARGUMENTS.keys() | PRUNER_ARGUMENTS.keys()
    )


def test_the_experiment_of_the_page_becomes_the_study_file_beside_it() -> None:
    [theirs] = [text for text in blocks(PAGE, "text") if text.startswith("# experiment.yaml")]
    ours = [yaml.safe_load(text) for text in blocks(PAGE, "yaml")]

    found = translate_experiment(theirs)

    assert yaml.safe_load(found.spec.to_yaml()) in ours
    assert [one for one in found.changes if one.is_left_out] == []


def test_every_algorithm_of_the_table_has_the_sampler_that_stands_beside_it() -> None:
    [row] = [
        line
        for line in PAGE.read_text().splitlines()
        if line.startswith("| `bayesianoptimization`")
    ]
    theirs, ours = (re.findall(r"`([\w-]+)`", cell) for cell in row.strip("|").split("|"))
    [text] = [text for text in blocks(PAGE, "text") if text.startswith("# experiment.yaml")]
    ours.remove("multivariate")

    found = []
    for name in theirs:
        document = yaml.safe_load(text)
        document["spec"]["algorithm"] = {"algorithmName": name}
        document["spec"]["parameters"] = [document["spec"]["parameters"][1]]
        document["spec"]["maxTrialCount"] = 4
        found.append(translate_experiment(yaml.safe_dump(document)).spec.sampler.type)

    assert found == ours

"""`studyflow import katib`, and the script by which a training of Katib's runs as it did."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from tests.prepared import Command, put_mlflow_database
from tests.unit.spec.katib.test_katib import experiment, template

from studyflow.cli import exits, main
from studyflow.spec import read_study

TEMPLATES = Path(__file__).parents[3] / "src/studyflow/cli/templates"

TRAINING = """\
import os, sys
rate = float(sys.argv[1].partition("=")[2])
for loss in (0.9, 0.3, 0.4 + rate):
    print(f"epoch done, loss={loss} accuracy = {1 - loss:.2e} other=7", flush=True)
print(os.environ.get("OPTIMIZER"), file=sys.stderr)
sys.exit(int(os.environ.get("CODE", 0)))
"""


def imported(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["import", "katib", *map(str, arguments)])


def write(folder: Path) -> Path:
    path = folder / "experiment.yaml"
    path.write_text(
        yaml.safe_dump(
            experiment(
                maxTrialCount=3,
                parallelTrialCount=1,
                trialTemplate=template("python3", "train.py", "--lr=${trialParameters.lr}"),
            )
        )
    )
    return path


def test_the_study_file_is_printed_and_what_is_otherwise_stands_beside_it(tmp_path: Path) -> None:
    done = imported(write(tmp_path))

    assert done.exit_code == 0
    assert yaml.safe_load(done.stdout)["name"] == "small"
    assert done.stderr.startswith("experiment.yaml, otherwise in it:\n  spec.trialTemplate - the")


def test_a_file_and_the_script_for_the_image_are_written_and_nothing_is_replaced(
    tmp_path: Path,
) -> None:
    study = tmp_path / "new" / "study.yaml"

    done = imported(write(tmp_path), "-o", study)

    assert done.exit_code == 0
    assert read_study(study).name == "small"
    assert (study.parent / "katib_trial.py").read_text() == (
        TEMPLATES / "katib_trial.py"
    ).read_text()
    assert CliRunner().invoke(main, ["check", str(study)]).exit_code == 0
    study.write_text("mine")
    assert imported(write(tmp_path), "-o", study).exit_code == exits.BAD_INPUT
    assert study.read_text() == "mine"


def test_what_is_no_experiment_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("apiVersion: batch/v1\nkind: Job\n")
    done = imported(path)
    assert done.exit_code == exits.BAD_INPUT
    assert "job.yaml:1:1: must be an Experiment of kubeflow.org/v1beta1" in done.stderr


def adapted(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    (folder / "train.py").write_text(TRAINING)
    return subprocess.run(
        [
            *(sys.executable, TEMPLATES / "katib_trial.py", "loss=min", "accuracy=latest", "--"),
            *(sys.executable, "train.py", "--lr=${lr}"),
        ],
        cwd=folder,
        env={**os.environ, "STUDYFLOW_PARAMS": '{"lr": 0.125, "opt": "adam"}', **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_script_fills_in_parameters_and_reads_what_is_printed(tmp_path: Path) -> None:
    done = adapted(tmp_path, OPTIMIZER="${opt} and ${HOME}")

    assert done.returncode == 0, done.stderr
    assert "adam and ${HOME}" in done.stderr
    assert "epoch done, loss=0.525 accuracy = 4.75e-01 other=7\n" in done.stdout
    assert "loss=0.3 accuracy=0.475" in done.stdout.splitlines()[-1]


def test_the_script_fails_as_its_training_does(tmp_path: Path) -> None:
    done = adapted(tmp_path, CODE="3")
    assert done.returncode == 3
    assert "loss=0.3 accuracy=0.475" not in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_an_imported_study_runs_as_it_stands(tmp_path: Path) -> None:
    put_mlflow_database(tmp_path / ".studyflow")
    assert imported(write(tmp_path), "-o", tmp_path / "study.yaml").exit_code == 0
    (tmp_path / "train.py").write_text(TRAINING)
    log = tmp_path / "log"

    run = Command("studyflow", ["run", "study.yaml"], cwd=tmp_path, env=os.environ, log=log)

    assert run.wait(170) == 0, log.read_text()
    assert "All 3 trials are finished." in log.read_text()

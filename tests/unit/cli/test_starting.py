"""`studyflow init`, `example` and `flow`: what a newcomer begins with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from studyflow.cli import exits, main
from studyflow.cli.shipped import examples
from studyflow.spec import read_study


def studyflow(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_init_writes_a_study_that_is_well_and_a_script_that_runs_alone(tmp_path: Path) -> None:
    done = studyflow("init", str(tmp_path / "My Study 2"))
    assert done.exit_code == 0
    folder = tmp_path / "My Study 2"
    spec = read_study(folder / "study.yaml")
    assert spec.name == "my-study-2"
    alone = subprocess.run(
        [sys.executable, str(folder / "train.py")], capture_output=True, text=True, check=False
    )
    assert alone.returncode == 0, alone.stderr
    assert "loss" in alone.stdout


def test_a_script_that_exists_is_kept_and_the_lines_it_needs_are_printed(tmp_path: Path) -> None:
    script = tmp_path / "fit.py"
    script.write_text("print('mine')\n")
    done = studyflow("init", str(tmp_path), "--script", "fit.py", "--name", "mine")
    assert script.read_text() == "print('mine')\n"
    assert "sdk.finish(loss=loss)" in done.output
    assert read_study(tmp_path / "study.yaml").trial.command == ("python", "fit.py")


def test_a_study_file_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text("name: precious\n")
    done = studyflow("init", str(tmp_path))
    assert done.exit_code == exits.BAD_INPUT
    assert (tmp_path / "study.yaml").read_text() == "name: precious\n"
    assert not (tmp_path / "train.py").exists()


@pytest.mark.parametrize("name", ["", "a" * 300])
def test_a_name_that_no_study_may_have_is_refused_before_anything_is_written(
    tmp_path: Path, name: str
) -> None:
    done = studyflow("init", str(tmp_path / "new"), f"--name={name}")
    assert done.exit_code == exits.BAD_INPUT
    assert not (tmp_path / "new").exists()


def test_a_name_that_yaml_would_read_otherwise_is_kept_as_it_is(tmp_path: Path) -> None:
    for name in ("3.10", "yes", "a: b", "größe #1", "true"):
        studyflow("init", str(tmp_path / name), "--name", name, "--script", "my script.py")
        spec = read_study(tmp_path / name / "study.yaml")
        assert spec.name == name
        assert spec.trial.command == ("python", "my script.py")


def test_every_example_has_a_study_that_can_be_read_and_a_sentence() -> None:
    assert [one.name for one in examples()] == [
        "blackbox",
        "cnn-lstm",
        "epidemic",
        "fusion",
        "weights",
    ]
    for one in examples():
        assert one.summary.endswith(".")
        assert one.study_files
        for name in one.study_files:
            read_study(one.folder / name)


def test_an_example_is_copied_without_its_dockerfile_and_its_short_study_is_named_first(
    tmp_path: Path,
) -> None:
    done = studyflow("example", "cnn-lstm", str(tmp_path / "copy"))
    assert done.exit_code == 0
    assert (tmp_path / "copy" / "train.py").is_file()
    assert not (tmp_path / "copy" / "Dockerfile").exists()
    assert f"studyflow run {tmp_path / 'copy' / 'study-short.yaml'}" in done.output


def test_an_example_replaces_nothing(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("mine")
    done = studyflow("example", "blackbox", str(tmp_path))
    assert done.exit_code == exits.BAD_INPUT
    assert [path.name for path in tmp_path.iterdir()] == ["train.py"]


def test_an_example_that_is_not_there_is_answered_with_those_that_are() -> None:
    done = studyflow("example", "cnnlstm")
    assert done.exit_code == exits.BAD_INPUT
    assert "cnn-lstm" in done.output


def test_flows_are_listed_and_an_unknown_one_is_refused() -> None:
    assert "retrain-best" in studyflow("flow", "--help").output
    assert studyflow("flow", "run").exit_code == exits.BAD_INPUT

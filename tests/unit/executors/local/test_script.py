"""Whether the script of a command is there, and which one may be meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from studyflow.executors.local.script import missing_script, script_of


@pytest.mark.parametrize(
    ("command", "script"),
    [
        (["python", "train.py", "--epochs", "3"], "train.py"),
        (["python3.11", "-u", "-X", "dev", "src/train.py"], "src/train.py"),
        (["/usr/bin/python", "train.py"], "train.py"),
        (["python", "-m", "train"], None),
        (["python", "-c", "print(1)", "train.py"], None),
        (["torchrun", "train.py"], None),
        (["python"], None),
        ([], None),
    ],
)
def test_the_script_is_the_file_that_python_runs(command: list[str], script: str | None) -> None:
    assert script_of(command) == script


@pytest.mark.parametrize(
    ("files", "hint"),
    [
        (["train_model.py", "data.py"], "did you mean train_model.py? "),
        (["src/train.py", "data.py"], "did you mean src/train.py? "),
        (["zz.py", "data.py"], "there are data.py, zz.py; "),
        ([], ""),
    ],
)
def test_a_script_that_is_not_there_is_named_with_what_is(
    files: list[str], hint: str, tmp_path: Path
) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    missing = missing_script(["python", "train.py"], tmp_path)

    assert missing is not None
    assert (
        missing.message == f"The script 'train.py' of trial.command does not exist in {tmp_path}."
    )
    assert missing.hint == (
        f"{hint}paths in trial.command start from the folder of the study file."
    )


def test_a_script_that_is_there_is_no_problem(tmp_path: Path) -> None:
    (tmp_path / "train.py").touch()

    assert missing_script(["python", "train.py"], tmp_path) is None

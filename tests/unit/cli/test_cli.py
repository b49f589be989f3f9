"""The command `studyflow`: exit codes, what is printed, and a small study from file to report."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner, Result
from tests.prepared import put_mlflow_database

from studyflow import errors
from studyflow.cli import main
from studyflow.interrupt import Terminated
from studyflow.reports.tracked import study_card
from studyflow.spec import StudySpec
from studyflow.study import n_trials_to_finish

DOCUMENT: dict[str, Any] = {
    "name": "tiny",
    "objectives": [{"metric": "loss", "direction": "minimize"}],
    "search_space": {"x": {"type": "float", "low": 0.0, "high": 1.0}},
    "sampler": {"type": "random", "seed": 0},
    "budget": {"n_trials": 3, "max_parallel_trials": 2},
    "trial": {"command": ["python", "-S", "train.py"]},
}

# Standard library only: a trial then starts in milliseconds.
TRAIN = """
import json, os
trial = json.loads(os.environ["STUDYFLOW_TRIAL"])
with open(trial["outcome_path"], "w") as file:
    json.dump({"version": 1, "study": trial["study"], "number": trial["number"],
               "attempt": trial["attempt"], "key": trial.get("key"), "cause": "ok",
               "metrics": {"loss": trial["params"]["x"]}, "message": ""}, file)
"""


def write_study(folder: Path, train: str = TRAIN, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.py").write_text(train)
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**DOCUMENT, **changes}))
    return path


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture(autouse=True)
def _no_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("STUDYFLOW_HOME", "STUDYFLOW_STORAGE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def _without_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "mlflow" else find(name, *a)
    )


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_check_prints_the_plan_and_starts_nothing(tmp_path: Path) -> None:
    result = invoke("check", write_study(tmp_path))

    assert result.exit_code == 0
    assert result.stdout.startswith(f"{tmp_path}/study.yaml: all is well\n")
    assert not (tmp_path / ".studyflow").exists()


def test_check_names_the_variables_that_stay_with_the_runner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEAM_TOKEN", "tok-5e5ame")
    result = CliRunner().invoke(main, ["check", str(write_study(tmp_path))])
    assert "TEAM_TOKEN" in result.output
    assert "tok-5e5ame" not in result.output
    trial = {**DOCUMENT["trial"], "inherit_env": ["TEAM_*"]}
    result = CliRunner().invoke(main, ["check", str(write_study(tmp_path, trial=trial))])
    assert "TEAM_TOKEN" not in result.output


def test_check_refuses_a_webhook_that_anybody_could_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_study(tmp_path, notify={"url_env": "HOOK"})
    assert CliRunner().invoke(main, ["check", str(path)]).exit_code == 0, "it may be set elsewhere"
    monkeypatch.setenv("HOOK", "http://hooks.example/s3cret")
    result = CliRunner().invoke(main, ["check", str(path)])
    assert result.exit_code == 2
    assert "allow_http: true" in result.output
    assert "s3cret" not in result.output


def test_check_prints_every_problem_at_once(tmp_path: Path) -> None:
    path = write_study(tmp_path, budget={"n_trials": 0}, sampler={"type": "tpee"})

    result = invoke("check", path)

    assert result.exit_code == 2
    assert "budget.n_trials" in result.stderr
    assert "tpee" in result.stderr
    assert result.stdout == ""


def test_a_file_that_does_not_exist_is_bad_input(tmp_path: Path) -> None:
    result = invoke("check", tmp_path / "no.yaml")

    assert result.exit_code == 2
    assert "no.yaml" in result.stderr


def test_schema_is_json() -> None:
    result = invoke("schema")

    assert result.exit_code == 0
    assert {"name", "objectives", "search_space", "budget", "trial"} <= set(
        json.loads(result.stdout)["properties"]
    )


def test_every_command_explains_itself() -> None:
    assert invoke("-h").exit_code == 0
    for name in main.list_commands(click.Context(main)):
        result = invoke(name, "--help")
        assert result.exit_code == 0
        assert result.stdout.startswith("Usage:")
    assert ", version " in invoke("--version").stdout


def test_the_list_of_commands_says_of_each_what_it_says_of_itself() -> None:
    context = click.Context(main)
    names = main.list_commands(context)
    formatter = click.HelpFormatter(width=400)
    main.format_commands(context, formatter)

    listed = [line.split(maxsplit=1) for line in formatter.getvalue().splitlines()[1:]]

    own = {name: main.get_command(context, name) for name in names}
    assert dict(listed) == {
        name: command.get_short_help_str(400) for name, command in own.items() if command
    }


def test_listing_the_commands_imports_none_of_them() -> None:
    # Times differ from machine to machine; what is imported does not.
    code = """
import sys
from studyflow.cli import main
main(["--help"], standalone_mode=False)
ours = {name for name in sys.modules if name.startswith("studyflow")}
print(len(sys.modules), sorted(ours & {"studyflow.cli.run", "studyflow.spec", "studyflow.study"}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    n_modules, commands = done.stdout.splitlines()[-1].split(maxsplit=1)
    assert commands == "[]"
    assert int(n_modules) < 250


def test_without_any_study_the_status_is_empty(tmp_path: Path) -> None:
    assert invoke("status").stdout.startswith("No studies in journal:///")
    assert json.loads(invoke("status", "--json").stdout) == []


@pytest.mark.usefixtures("_without_mlflow")
def test_a_study_is_paused_and_resumed_by_file_or_name(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    assert invoke("run", path).exit_code == 0

    paused = invoke("pause", path)
    assert paused.stdout.startswith("tiny is paused: running trials finish, none starts.")
    assert f"studyflow resume {path}" in paused.stdout
    assert json.loads(invoke("status", "--json").stdout)[0]["is_paused"]
    assert "tiny (paused)" in invoke("status").stdout
    assert invoke("resume", "tiny").stdout.startswith("tiny continues")
    assert not json.loads(invoke("status", "--json").stdout)[0]["is_paused"]
    assert "paused" not in invoke("status").stdout


@pytest.mark.parametrize("command", ["pause", "resume"])
def test_a_study_that_does_not_exist_is_neither_paused_nor_resumed(command: str) -> None:
    done = invoke(command, "none-such")
    assert done.exit_code == 2
    assert "There is no study named 'none-such'" in done.stderr


@pytest.mark.parametrize("command", ["status", "best", "trials", "report", "sync"])
def test_an_unknown_study_is_bad_input(command: str) -> None:
    result = invoke(command, "nosuch")

    assert result.exit_code == 2
    assert "There is no study named 'nosuch': this storage has none yet." in (result.stderr)


@pytest.mark.usefixtures("_without_mlflow")
def test_a_study_from_its_file_to_its_report(tmp_path: Path) -> None:
    path = write_study(tmp_path)

    ran = invoke("run", path)
    assert ran.exit_code == 0, ran.output
    assert "All 3 trials are finished." in ran.stdout
    assert "MLflow is not installed" in ran.stderr

    (status,) = json.loads(invoke("status", "--json").stdout)
    assert (status["study"], status["n_finished"], status["n_trials"]) == ("tiny", 3, 3)
    assert (status["n_running"], status["problems"]) == (0, {})
    assert "3 of 3" in invoke("status", path).stdout

    trials = json.loads(invoke("trials", "tiny", "--json").stdout)
    assert [t["state"] for t in trials] == ["complete"] * 3
    assert all(t["values"] == {"loss": t["params"]["x"]} for t in trials)
    assert "★" in invoke("trials", path).stdout

    best = min(trials, key=lambda t: t["values"]["loss"])
    assert status["best"] == [best]
    as_json = json.loads(invoke("best", "tiny", "--json").stdout)
    assert yaml.safe_load(invoke("best", path).stdout) == as_json
    assert str(best["params"]["x"]) in json.dumps(as_json)

    report = invoke("report", "tiny", "--output", tmp_path / "out", "--json")
    assert report.exit_code == 0, report.output
    assert Path(json.loads(report.stdout)["html"]).read_text().startswith("<!")

    again = invoke("run", path, "--n-trials", "4", "--max-parallel-trials", "1")
    assert "All 4 trials are finished." in again.stdout
    assert len(json.loads(invoke("trials", "tiny", "--json").stdout)) == 4

    changed = write_study(tmp_path, search_space={"x": {"type": "float", "low": 0.0, "high": 2.0}})
    refused = invoke("run", changed)
    assert refused.exit_code == 2
    assert "search_space.x.high: 1.0 → 2.0" in refused.stderr
    forked = invoke("run", changed, "--fork", "tiny-2", "--n-trials", "1")
    assert forked.exit_code == 0, forked.output
    assert "All 1 new trials are finished (" in forked.stdout
    assert len(json.loads(invoke("trials", "tiny-2", "--json").stdout)) == 5


@pytest.mark.usefixtures("_without_mlflow")
def test_a_study_whose_trials_cannot_work_ends_with_1_and_the_reason(tmp_path: Path) -> None:
    stop = {"alike_failures": 2, "first_failures": 0}
    path = write_study(tmp_path, train="raise KeyError('val_loss')", stop=stop)

    result = invoke("run", path)

    assert result.exit_code == 1
    assert "failed alike (user-error)" in result.stdout
    nothing = invoke("best", "tiny")
    assert nothing.exit_code == 1
    assert "No trial has finished with a feasible value yet." in nothing.stderr
    (status,) = json.loads(invoke("status", "tiny", "--json").stdout)
    assert status["problems"] == {"user-error": status["n_finished"]}


def test_a_script_that_is_not_there_is_found_before_a_run(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    (tmp_path / "train.py").rename(tmp_path / "train_model.py")

    checked, examined = invoke("check", path), invoke("doctor", path)

    assert checked.exit_code == 2
    assert "The script 'train.py' of trial.command does not exist" in checked.stderr
    assert "did you mean train_model.py?" in checked.stderr
    assert examined.exit_code == 1
    assert "did you mean train_model.py?" in examined.stdout


def test_a_mistake_in_the_script_costs_three_trials_and_no_budget(tmp_path: Path) -> None:
    path = write_study(tmp_path, train="raise KeyError('val_loss')")
    first = invoke("run", path)

    assert first.exit_code == 1
    log, _, why = first.stdout.partition("\n  KeyError: 'val_loss'\n")
    assert re.search(r"The log of trial [012] ends with\n", log)
    assert "Traceback" in log
    assert "failed alike" in why
    assert "Before any trial succeeded, trials 0, 1, 2 failed alike (user-error): " in first.stdout
    (status,) = json.loads(invoke("status", "tiny", "--json").stdout)
    assert (status["n_finished"], status["problems"]) == (0, {"user-error": 3})
    write_study(tmp_path)
    fixed = invoke("run", path, "--retry-failed")
    assert fixed.exit_code == 0
    assert "All 3 trials are finished." in fixed.stdout
    trials = json.loads(invoke("trials", "tiny", "--json").stdout)
    assert len(trials) == 6
    assert [t["params"] for t in trials[3:]] == [t["params"] for t in trials[:3]]


def test_a_program_that_does_not_exist_is_named_in_one_line(tmp_path: Path) -> None:
    result = invoke("run", write_study(tmp_path, trial={"command": ["nosuchprogram"]}))

    assert result.exit_code == 1
    assert "nosuchprogram" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.StorageUnavailable("away"), 3),
        (errors.ExecutorUnavailable("away"), 3),
        (errors.SpecError("wrong", problems=("a",)), 2),
        (errors.StudyMismatch("differs"), 2),
        (errors.StudyNotFound("no such"), 2),
        (errors.SamplerError("refused"), 1),
        (KeyboardInterrupt(), 130),
        (Terminated(), 130),
    ],
)
def test_every_error_has_its_exit_code_and_no_stack_trace(
    error: BaseException, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_arguments: object, **_named: object) -> None:
        raise error

    monkeypatch.setattr("studyflow.runner.run_study", fails)
    result = invoke("run", write_study(tmp_path))

    assert result.exit_code == code
    assert "Traceback" not in result.output
    shown = "Interrupted" if code == 130 else str(error)
    assert shown in result.stderr
    goes_on = f"Continue: main run {tmp_path}/study.yaml\n"
    assert result.stderr.endswith(goes_on) is (code in (3, 130))


def test_debug_shows_the_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_arguments: object, **_named: object) -> None:
        raise errors.SamplerError("refused")

    monkeypatch.setattr("studyflow.runner.run_study", fails)

    result = invoke("--debug", "run", write_study(tmp_path))

    assert isinstance(result.exception, errors.SamplerError)


def test_a_folder_that_cannot_be_made_is_one_line_and_no_stack_trace(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(json.dumps(DOCUMENT))
    (tmp_path / "taken").write_text("a file where the home should be")

    result = invoke("run", file, "--home", tmp_path / "taken" / "home")

    assert result.exit_code == 3
    assert "taken" in result.stderr
    assert "Hint: is the folder writable" in result.stderr
    assert isinstance(result.exception, SystemExit)


BASE_INSTALL = """
import sys
for name in ("optuna", "sqlalchemy", "rich", "psutil", "torch", "mlflow", "prefect", "matplotlib"):
    sys.modules[name] = None
from studyflow.cli import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("check", "study.yaml"), 0, "all is well"),
        (("schema",), 0, '"search_space"'),
        (("--help",), 0, "Needs pip install 'studyflow[study]'."),
        (("run", "study.yaml", "--n-trials", "3"), 1, "`studyflow run` needs the extra 'study'"),
    ],
)
def test_the_base_install_checks_study_files_and_says_what_running_them_needs(
    arguments: tuple[str, ...], code: int, said: str, tmp_path: Path
) -> None:
    write_study(tmp_path)

    done = subprocess.run(
        [sys.executable, "-c", BASE_INSTALL, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == code, done.stderr
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_grid_is_finished_with_its_last_point(tmp_path: Path) -> None:
    units = {"type": "int", "low": 1, "high": 2}
    spec = StudySpec.from_yaml(
        write_study(tmp_path, search_space={"units": units}, sampler={"type": "grid"})
    )

    assert n_trials_to_finish(spec) == 2
    assert study_card(spec).n_trials == 2


@pytest.mark.slow
def test_a_log_is_read_from_mlflow_once_its_folder_is_removed(tmp_path: Path) -> None:
    path = write_study(tmp_path, TRAIN + "print('épochs are over')\n")
    put_mlflow_database(tmp_path / ".studyflow")
    assert invoke("run", path).exit_code == 0
    before = invoke("logs", path, "1")
    shutil.rmtree(tmp_path / ".studyflow/studies/tiny/trials")

    after = invoke("logs", path, "1")
    other = invoke("logs", path, "1", "--attempt", "2")

    assert before.stdout == after.stdout == "épochs are over\n"
    assert before.stderr == ""
    assert after.stderr.startswith("From MLflow, run ")
    assert other.stdout == ""
    assert "Trial 1 has no log of attempt 2" in other.stderr


@pytest.mark.slow
def test_a_sync_writes_no_report_anew_while_the_last_one_holds(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    put_mlflow_database(tmp_path / ".studyflow")
    assert invoke("run", path).exit_code == 0
    (page,) = (tmp_path / ".studyflow/studies/tiny").glob("report/*.html")
    page.write_text("as it was")

    assert invoke("sync", path).exit_code == 0
    assert page.read_text() == "as it was"

    page.unlink()
    assert invoke("sync", path).exit_code == 0
    assert page.exists()


@pytest.mark.usefixtures("_without_mlflow")
def test_a_study_is_found_by_its_file_without_the_ending_and_by_its_folder(tmp_path: Path) -> None:
    path = write_study(tmp_path / "project")
    assert invoke("run", path).exit_code == 0

    for called in ("tiny", "project", "project/study", "project/study.yaml"):
        assert invoke("status", called).exit_code == 0, called
    unknown = invoke("logs", "study", "0")
    assert unknown.exit_code == 2
    assert "There is no study named 'study' in this storage (there are: tiny)" in unknown.stderr


@pytest.mark.slow
def test_a_terminal_without_utf_8_is_no_reason_to_fail(tmp_path: Path) -> None:
    write_study(tmp_path)
    put_mlflow_database(tmp_path / "home")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    for command in (["run", "study.yaml"], ["trials", "study.yaml"]):
        done = subprocess.run(
            [sys.executable, "-m", "studyflow", *command, "--home", str(tmp_path / "home")],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert b"Traceback" not in done.stderr

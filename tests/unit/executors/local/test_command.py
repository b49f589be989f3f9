"""What a script gets: its command, its environment, its folders."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from tests.unit.executors.local.bench import (
    Bench,
    a_trial,
)

from studyflow.errors import ExecutorError
from studyflow.executors import AttemptId
from studyflow.executors.local import resolve_command
from studyflow.executors.local.command import Surroundings
from studyflow.executors.run_tokens import RunTokens
from studyflow.testing.executor_contract import Watch
from studyflow.trial import Cause, TrackingRef, Trial
from studyflow.trial.run_token import RunToken, read_token


@pytest.mark.fault("F43")
def test_parameters_come_as_one_json_variable_and_nowhere_else(bench: Bench) -> None:
    hostile = "$(touch /tmp/x) `id` '\"; \n\u202e 🙂 ../ %s {0}"
    trial = Trial("demo", 0, {"text": hostile, "lr": 0.1, "flag": True, "none": None})
    bench.run(
        """
        import json, os, sys
        trial = json.loads(os.environ["STUDYFLOW_TRIAL"])
        print(json.dumps([trial["params"], sys.argv[1:]]))
        """,
        trial,
    )
    assert json.loads(bench.log()) == [dict(trial.params), []]


def test_a_script_runs_in_a_folder_of_its_own_and_imports_what_lies_beside_it(bench: Bench) -> None:
    bench.write("ANSWER = 42\n", "model.py")
    bench.run(
        """
        import os, sys, model
        print(model.ANSWER, os.getcwd(), sys.executable)
        """
    )
    work = bench.folder(AttemptId(0, 1)) / "work"
    assert bench.log() == f"42 {work} {sys.executable}\n"


def test_a_script_gets_the_variables_of_runner_and_study(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FROM_RUNNER", "1")
    monkeypatch.setenv("MLFLOW_RUN_ID", "of-the-runner")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    bench.run(
        """
        import os
        for name in ("FROM_RUNNER", "FROM_STUDY", "MLFLOW_RUN_ID", "PYTHONPATH",
                     "CUDA_VISIBLE_DEVICES"):
            print(os.environ.get(name))
        """,
        env={"FROM_STUDY": "2"},
    )
    assert bench.log().split("\n") == ["1", "2", "None", f"{bench.cwd}:/elsewhere", "5", ""]


@pytest.mark.fault("F75")
def test_the_place_that_a_launcher_gave_the_runner_is_not_the_scripts(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "head"), ("A", "b")):
        monkeypatch.setenv(name, value)
    status = bench.run(
        """
        import os
        from studyflow import sdk
        print([os.environ.get(name) for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "A")])
        sdk.finish(loss=0.5)
        """,
        a_trial(),
        env={"RANK": "8"},
    )
    assert bench.log() == "['8', None, None, 'b']\n"
    assert status.outcome is not None
    assert status.outcome.metrics == {"loss": 0.5}


@pytest.mark.fault("F75")
def test_a_script_that_the_study_file_silences_is_not_accused(bench: Bench) -> None:
    status = bench.run(
        "from studyflow import sdk\nsdk.finish(loss=0.5)\n",
        a_trial(),
        env={"RANK": "1", "WORLD_SIZE": "2"},
    )
    assert status.outcome is not None
    assert status.outcome.cause is Cause.BAD_METRIC
    assert "a process of rank 1 called the SDK (RANK=1, WORLD_SIZE=2)" in status.outcome.message


def test_plain_mlflow_calls_find_the_trial_s_run(bench: Bench) -> None:
    trial = Trial("demo", 0, {}, tracking=TrackingRef("http://mlflow:5000", "abc123"))
    bench.run(
        """
        import os
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_RUN_CONTEXT"):
            print(os.environ[name])
        """,
        trial,
    )
    tags = '{"studyflow.trial_run": "abc123", "studyflow.attempt": "1"}'
    assert bench.log() == f"http://mlflow:5000\nabc123\n{tags}\n"


def test_a_script_gets_a_token_where_the_runner_has_the_key_and_not_the_key() -> None:
    key = "k" * 32
    runner = {"STUDYFLOW_MLFLOW_TOKEN_KEY": key, "MLFLOW_TRACKING_PASSWORD": "secret-of-runners"}
    trial = Trial("demo", 7, {}, 2, tracking=TrackingRef("http://mlflow:5000", "abc123"))
    with_key = Surroundings(Path("/study"), tokens=RunTokens(key, 60.0, clock=lambda: 1000.0))
    environment = with_key.environment(trial, (), runner)
    token = read_token(environment["MLFLOW_TRACKING_TOKEN"], key, 1000.0)
    assert isinstance(token, RunToken)
    assert (token.run_id, token.number, token.attempt) == ("abc123", 7, 2)
    assert not runner.keys() & environment.keys()
    plain = Surroundings(Path("/study")).environment(trial, (), runner)
    assert "MLFLOW_TRACKING_TOKEN" not in plain


def test_an_attempt_finds_the_checkpoints_of_the_one_before_and_nothing_else(bench: Bench) -> None:
    source = """
        import os
        from studyflow import sdk
        folder = sdk.checkpoint_dir()
        print(sorted(p.name for p in folder.iterdir()), os.listdir())
        (folder / f"{sdk.current_trial().attempt}.pt").touch()
        open("scratch", "w").close()
        """
    bench.run(source, a_trial(0, 1))
    bench.run(source, a_trial(0, 2))
    assert bench.log(AttemptId(0, 2)) == "['1.pt'] []\n"


def test_an_attempt_finds_the_checkpoints_of_an_older_studyflow(bench: Bench) -> None:
    shared = bench.root / "trials" / "0" / "checkpoints"
    shared.mkdir(parents=True)
    (shared / "1.pt").write_text("epoch 3")
    source = "from studyflow import sdk\nprint((sdk.checkpoint_dir() / '1.pt').read_text())\n"
    bench.run(source, a_trial(0, 2))
    assert bench.log(AttemptId(0, 2)) == "epoch 3\n"


def test_a_script_without_the_sdk_finds_where_its_checkpoints_go(bench: Bench) -> None:
    """Or with the SDK of studyflow 0.1.0, which makes the folder that it is told."""
    source = """
        import json, os
        folder = json.loads(os.environ["STUDYFLOW_TRIAL"])["checkpoint_dir"]
        os.makedirs(folder, exist_ok=True)
        open(f"{folder}/1.pt", "w").close()
        """
    bench.run(source, a_trial(0, 1))
    bench.run(
        "from studyflow import sdk\nprint([p.name for p in sdk.checkpoint_dir().iterdir()])\n",
        a_trial(0, 2),
    )
    assert bench.log(AttemptId(0, 2)) == "['1.pt']\n"


def test_output_and_errors_are_in_one_log_in_order(bench: Bench) -> None:
    bench.run("import sys\nprint('a')\nprint('b', file=sys.stderr)\nprint('c')\n")
    assert bench.log() == "a\nb\nc\n"


def test_artifacts_are_found_after_forgetting(bench: Bench) -> None:
    bench.write(
        """
        from pathlib import Path
        from studyflow import sdk
        Path("model.pt").write_text("weights")
        Path("plots").mkdir(); Path("plots/a.png").touch()
        sdk.artifact("model.pt"); sdk.artifact("plots")
        sdk.finish(loss=1.0)
        """
    )
    executor = bench.executor()
    attempt = executor.submit(a_trial())
    Watch(executor, 10.0).until_ended(attempt)
    executor.forget(attempt)
    files = executor.files(attempt)
    assert [path.name for path in files.artifacts] == ["model.pt", "plots"]
    assert files.log is not None
    assert set(files.extra) == {"trial.json", "outcome.json", "exit.json"}


# The command


def test_words_that_name_files_beside_the_study_become_full_paths(tmp_path: Path) -> None:
    (tmp_path / "train.py").touch()
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "a.yaml").touch()
    command = [
        *("python", "train.py", "adam", "--config=conf/a.yaml", "--data=./conf", "conf"),
        *("-c", "x" * 5000, "--lr=0.1", "", "no/such/file"),
    ]
    assert resolve_command(command, tmp_path, os.defpath) == (
        *(sys.executable, f"{tmp_path}/train.py", "adam", f"--config={tmp_path}/conf/a.yaml"),
        *(f"--data={tmp_path}/conf", "conf", "-c", "x" * 5000, "--lr=0.1", "", "no/such/file"),
    )


def test_a_script_that_is_not_there_is_named_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ExecutorError, match=r"The script 'nosuch\.py' .* does not exist"):
        resolve_command(["python", "nosuch.py"], tmp_path, os.defpath)


def test_programs_are_looked_for_beside_the_study_then_on_the_path(tmp_path: Path) -> None:
    script = tmp_path / "train.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    assert resolve_command(["./train.sh"], tmp_path, "/bin") == (str(script),)
    assert resolve_command(["train.sh"], tmp_path, "/bin") == (str(script),)
    assert resolve_command(["sh", "-c", "true"], tmp_path, "/bin")[0] == "/bin/sh"
    script.chmod(0o644)
    with pytest.raises(ExecutorError, match="not executable"):
        resolve_command(["./train.sh"], tmp_path, "/bin")


def test_a_program_that_does_not_exist_is_refused_at_once(bench: Bench) -> None:
    with pytest.raises(ExecutorError, match="'no-such-program' does not exist"):
        bench.executor(["no-such-program"])
    with pytest.raises(ExecutorError, match="empty"):
        bench.executor([])


def test_what_is_no_program_at_all_ends_with_a_sentence(bench: Bench) -> None:
    bench.write("no program\n", "train.bin")
    (bench.cwd / "train.bin").chmod(0o755)
    executor = bench.executor(["./train.bin"])
    status = Watch(executor, 10.0).until_ended(executor.submit(a_trial()))
    assert status.outcome is not None
    assert status.outcome.cause is Cause.USER_ERROR
    assert "Exec format error" in status.outcome.message

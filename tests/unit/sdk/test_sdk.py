"""The SDK as a training script meets it: in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest

from studyflow.trial import TRIAL_VARIABLE, Cause, Outcome, Trial

SRC = Path(__file__).parents[3] / "src" / "studyflow"


def run(
    source: str, variables: Mapping[str, str] | None = None, *options: str
) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("STUDYFLOW")}
    return subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(source)],
        env={**environment, "PYTHONPATH": str(SRC.parent), **(variables or {})},
        capture_output=True,
        text=True,
        timeout=30,
    )


def run_trial(source: str, folder: Path) -> tuple[subprocess.CompletedProcess[str], Outcome]:
    trial = Trial("demo", 0, {"x": 2.0}, metrics=("loss",), outcome_path=str(folder / "outcome"))
    result = run(source, {TRIAL_VARIABLE: trial.to_json()})
    return result, Outcome.from_json((folder / "outcome").read_bytes())


def test_a_script_runs_alone() -> None:
    result = run(
        """
        from studyflow import sdk
        def build(width=8): return width
        trial = sdk.current_trial()
        sdk.report(0, loss=build(**trial.params))
        sdk.finish(loss=0.5)
        """
    )
    assert result.stdout == "step 0: loss=8\nfinished: loss=0.5\n"
    assert result.stderr == ""
    assert result.returncode == 0


def test_a_script_runs_by_hand_with_given_parameters() -> None:
    result = run(
        "from studyflow import sdk\nprint(sdk.current_trial({'lr': 1, 'depth': 2}).params)",
        {"STUDYFLOW_PARAMS": '{"lr": 0.01}'},
    )
    assert result.stdout == "{'lr': 0.01, 'depth': 2}\n"


def test_an_uncaught_exception_is_recorded_and_still_shown(tmp_path: Path) -> None:
    result, outcome = run_trial(
        """
        import sys
        sys.excepthook = lambda kind, error, traceback: print("own hook:", error)
        from studyflow import sdk
        sdk.current_trial()
        raise ValueError("no data")
        """,
        tmp_path,
    )
    assert result.stdout == "own hook: no data\n"
    assert outcome.cause is Cause.USER_ERROR
    assert outcome.message == "ValueError: no data (<string>:6)"


@pytest.mark.fault("F60")
def test_a_child_that_fails_leaves_the_result_alone(tmp_path: Path) -> None:
    _, outcome = run_trial(
        """
        import subprocess, sys
        from studyflow import sdk
        sdk.finish(loss=0.5)
        child = "from studyflow import sdk; sdk.current_trial(); raise RuntimeError('no display')"
        assert subprocess.run([sys.executable, "-c", child], stderr=subprocess.DEVNULL).returncode
        """,
        tmp_path,
    )
    assert outcome == Outcome("demo", 0, 1, Cause.OK, {"loss": 0.5})


@pytest.mark.fault("F59")
def test_a_result_beyond_a_limit_on_file_sizes_leaves_a_mark(tmp_path: Path) -> None:
    trial = Trial("demo", 0, {}, metrics=("loss",), outcome_path=str(tmp_path / "outcome"))
    result = run(
        """
        import resource
        from studyflow import sdk
        resource.setrlimit(resource.RLIMIT_FSIZE, (60, 60))
        try:
            sdk.finish(loss=1.0)
        except OSError as error:
            print(error.strerror)
        """,
        {TRIAL_VARIABLE: trial.to_json()},
    )
    assert (result.returncode, "File too large" in result.stdout) == (0, True), result.stderr
    assert (tmp_path / "outcome").read_text().startswith("An outcome could not be written: File")


@pytest.mark.fault("F59")
def test_a_script_that_can_leave_nothing_ends_with_an_exit_code(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    trial = Trial("demo", 0, {}, metrics=("loss",), outcome_path=str(tmp_path / "file" / "outcome"))
    result = run(
        """
        from studyflow import sdk
        try:
            sdk.finish(loss=1.0)
        except OSError:
            print("going on")
        """,
        {TRIAL_VARIABLE: trial.to_json()},
    )
    assert (result.returncode, result.stdout) == (1, "going on\n")
    assert "studyflow: the outcome cannot be written" in result.stderr


def test_a_wrong_value_is_a_type_error_in_the_script(tmp_path: Path) -> None:
    result, outcome = run_trial("from studyflow import sdk\nsdk.finish(loss=[1])", tmp_path)
    assert "TypeError: finish: loss must be a number" in result.stderr
    assert outcome.cause is Cause.USER_ERROR


def test_a_document_that_cannot_be_read_is_refused() -> None:
    result = run("from studyflow import sdk\nsdk.current_trial()", {TRIAL_VARIABLE: "{"})
    assert "DocumentError: The trial document is not JSON" in result.stderr


@pytest.mark.fault("F56")
def test_only_the_standard_library_and_two_packages_are_needed(tmp_path: Path) -> None:
    package = tmp_path / "studyflow"
    package.mkdir()
    for name in (
        *("__init__.py", "background.py", "errors.py", "reasons.py", "redaction.py"),
        *("sdk", "trial"),
    ):
        (package / name).symlink_to(SRC / name)
    result = run(
        """
        import sys
        from studyflow import sdk
        sdk.current_trial(); sdk.report(0, loss=1.0); sdk.finish(loss=1.0)
        import studyflow.redaction, studyflow.sdk.mlflow_artifacts, studyflow.sdk.mlflow_sender
        import studyflow.trial.user_files
        print(sorted({name.split(".")[0] for name in sys.modules} - sys.stdlib_module_names))
        """,
        {"PYTHONPATH": str(tmp_path)},
        "-S",
    )
    assert result.stdout.splitlines()[-1] == "['__main__', 'studyflow']", result.stderr


def test_importing_the_sdk_costs_little() -> None:
    # Times differ from machine to machine; what is imported does not.
    result = run(
        """
        import sys
        before = set(sys.modules)
        from studyflow import sdk
        after = set(sys.modules) - before
        ours = {name for name in after if name.startswith("studyflow")}
        print(len(after - ours), len(ours))
        heavy = {"asyncio", "urllib.request", "http", "ssl", "subprocess", "logging", "tempfile",
                 "shutil", "multiprocessing", "pydantic", "mlflow", "traceback", "uuid"}
        print(sorted(heavy & set(sys.modules)))
        """,
        None,
        "-S",
    )
    counts, heavy = result.stdout.splitlines()
    n_others, n_ours = map(int, counts.split())
    assert heavy == "[]"
    assert n_others < 70
    assert n_ours <= 21


AS_FIRST_PROCESS = """
    import atexit, signal, sys, time
    from studyflow.sdk.session import session
    sys.modules["studyflow.sdk.sigterm"].END_SECONDS = 0.5
    atexit.register(print, "atexit")
    session(pid=1)
"""


@pytest.mark.parametrize(
    ("source", "printed"),
    [
        (
            """
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                print("finally")
            """,
            "finally\natexit\n",
        ),
        (
            """
            while True:
                try:
                    signal.raise_signal(signal.SIGTERM)
                    time.sleep(0.1)
                except BaseException:
                    print("caught", flush=True)
            """,
            "caught\n",
        ),
        (
            """
            import threading
            threading.Thread(target=time.sleep, args=(60,)).start()
            signal.raise_signal(signal.SIGTERM)
            """,
            "",
        ),
    ],
    ids=["plain", "catches all", "waits for a thread"],
)
def test_sigterm_ends_a_container_s_first_process(
    tmp_path: Path, source: str, printed: str
) -> None:
    trial = Trial("demo", 0, {}, metrics=("loss",), outcome_path=str(tmp_path / "outcome"))
    result = run(
        textwrap.dedent(AS_FIRST_PROCESS) + textwrap.dedent(source),
        {TRIAL_VARIABLE: trial.to_json()},
    )
    assert (result.returncode, result.stdout, result.stderr) == (143, printed, "")
    assert not (tmp_path / "outcome").exists()


def test_a_closed_pipe_does_not_stop_a_training() -> None:
    result = run(
        """
        import os
        from studyflow import sdk
        read, write = os.pipe(); os.dup2(write, 1); os.close(read); os.close(write)
        sdk.report(0, loss=1.0)
        os.dup2(2, 1)
        os._exit(7)
        """
    )
    assert result.returncode == 7


@pytest.mark.parametrize("rank", ["0", "1"])
def test_under_torchrun_one_outcome_is_written(tmp_path: Path, rank: str) -> None:
    trial = Trial("demo", 0, {}, metrics=("loss",), outcome_path=str(tmp_path / "outcome"))
    run(
        "from studyflow import sdk\nsdk.finish(1.0)",
        {TRIAL_VARIABLE: trial.to_json(), "RANK": rank, "WORLD_SIZE": "2"},
    )
    assert (tmp_path / "outcome").exists() is (rank == "0")


def test_the_whole_document_reaches_the_script() -> None:
    trial = Trial("demo", 4, {"a": None, "b": True}, attempt=2, budget=9, metrics=("loss", "ms"))
    result = run(
        """
        import json
        from studyflow import sdk
        t = sdk.current_trial()
        print(json.dumps([t.study, t.number, t.attempt, t.budget, t.metrics, t.params]))
        """,
        {TRIAL_VARIABLE: trial.to_json()},
    )
    assert json.loads(result.stdout) == ["demo", 4, 2, 9, ["loss", "ms"], {"a": None, "b": True}]

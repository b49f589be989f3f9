"""Ctrl-C or SIGTERM while a command still imports its modules: one line, code 130, no stack trace.

What Python does before it runs the first line of ours, some hundredths of a second, is its own.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from studyflow import interrupt
from studyflow.cli import exits

ROOT = Path(__file__).parents[2]

STARTED = "Interrupted before anything was started.\n"

WHEN_IMPORTED = """
import os, runpy, signal, sys
number, module, kind, name, *arguments = sys.argv[1:]

class Interrupter:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), int(number))

sys.meta_path.insert(0, Interrupter())
sys.argv = [name, *arguments]
{"module": runpy.run_module, "path": runpy.run_path}[kind](name, run_name="__main__")
"""
"""Runs a program that gets a signal at the moment when it begins to import a module."""


def interrupted(
    number: signal.Signals, module: str, kind: str, *program: str
) -> tuple[int, str, str]:
    """Return exit code, output and errors of a program that got a signal while it began."""
    done = subprocess.run(
        [sys.executable, "-c", WHEN_IMPORTED, str(int(number)), module, kind, *program],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        # Tests that run in the background of a script inherit that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("number", "module"),
    [
        (signal.SIGINT, "studyflow.cli.main"),
        (signal.SIGTERM, "studyflow.cli.main"),
        (signal.SIGINT, "studyflow.cli.show"),  # the command itself
    ],
)
@pytest.mark.fault("F22")
def test_a_command_that_is_interrupted_while_it_is_imported_ends_in_one_line(
    number: signal.Signals, module: str
) -> None:
    ended = interrupted(number, module, "module", "studyflow", "status")

    assert ended == (exits.INTERRUPTED, "", STARTED)


@pytest.mark.fault("F22")
def test_the_installed_command_begins_where_python_m_does() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"studyflow": "studyflow.cli:main"}
    assert "from studyflow.cli import main" in (ROOT / "src/studyflow/__main__.py").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.fault("F22")
def test_a_command_that_imports_what_it_needs_ends_in_one_line(
    number: signal.Signals, tmp_path: Path
) -> None:
    code, output, errors = interrupted(
        number, "optuna", "module", "studyflow", "status", "--home", str(tmp_path)
    )

    assert (code, output) == (exits.INTERRUPTED, "")
    assert errors in (
        STARTED,
        "Interrupted; finished trials are kept. Run it again to continue.\n",
    )


@pytest.mark.parametrize(
    ("flow", "module"),
    [
        ("run_study", "argparse"),
        ("compare_samplers", "pydantic"),
        ("retrain_best", "rich"),
        ("deploy", "httpx"),
        ("register", "yaml"),
    ],
)
@pytest.mark.fault("F22")
def test_a_flow_that_is_interrupted_while_it_is_imported_ends_in_one_line(
    flow: str, module: str
) -> None:
    ended = interrupted(signal.SIGINT, module, "path", str(ROOT / "flows" / f"{flow}.py"))

    assert ended == (exits.INTERRUPTED, "", STARTED)


IN_A_FINALIZER = """
import os, sys, time
from studyflow import interrupt

class Costly:
    def __del__(self):
        os.kill(os.getpid(), int(sys.argv[1]))

interrupt.raise_on_sigterm()
Costly()
try:
    time.sleep(40)
except (KeyboardInterrupt, interrupt.Terminated) as error:
    print(type(error).__name__)
"""
"""Gets a signal where Python drops what its handler raises."""


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGINT, "KeyboardInterrupt"), (signal.SIGTERM, "Terminated")]
)
@pytest.mark.fault("F22")
def test_a_signal_that_comes_in_a_finalizer_is_not_lost(
    number: signal.Signals, raised: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IN_A_FINALIZER, str(int(number))],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{raised}\n", "")


def test_who_imports_the_command_keeps_his_signals() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a script's background ignores it
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with interrupt.leaving_at_once():
        assert signal.getsignal(signal.SIGINT) not in (*before, signal.SIG_DFL, signal.SIG_IGN)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_command_in_the_background_of_a_script_ignores_ctrl_c_as_before() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    interrupt.leave_at_once()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    interrupt.raise_on_sigterm()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_ctrl_c_is_an_exception_again_once_a_command_works() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupt.leave_at_once()
    interrupt.raise_on_sigterm()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(interrupt.Terminated):
        signal.raise_signal(signal.SIGTERM)

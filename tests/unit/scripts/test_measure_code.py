"""The measures of the code's shape: what each one counts, on a small checkout."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "measure_code.py"

MODULE = '''"""A module."""

class Small:
    """A class."""

class Large:
    """A larger class."""

    def tells(self) -> None:
        """Return nothing.

        Raises:
            ValueError: Always.
        """
        raise ValueError

    def keeps_quiet(self) -> None:
        raise ValueError

    def _hidden(self) -> None:
        assert self

def survive() -> None:
    """Return whatever happens."""
    try:
        pass
    except (OSError, Exception):
        raise

def decide(reason: str) -> bool:
    """Return whether it is full."""
    return "quota" in reason or reason.startswith("The image")
'''

TEST = """def test_something(thing):
    thing._inside = 1
    thing.outside = 2
    thing.__class__

class Own:
    def __init__(self):
        self._mine = 1

def test_own(own):
    own._mine
"""


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> str:
    checkout = tmp_path_factory.mktemp("checkout")
    for name, text in {
        "src/studyflow/__init__.py": "",
        "src/studyflow/one.py": MODULE,
        "src/studyflow/testing/fake.py": '"""A fake."""\nassert True\n',
        "tests/test_one.py": TEST,
    }.items():
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text(text)
    done = subprocess.run(
        [sys.executable, SCRIPT, "--list", checkout], capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.parametrize(
    "row",
    [
        "largest class, lines                           16 (Large)",
        "modules directly under src/studyflow           1 ",
        "broad excepts per 1,000 lines                  29.41 (1)",
        "asserts per 1,000 lines, without testing/      31.25 (1)",
        "public docstrings                              88 % (7 of 8)",
        "of public functions that raise, with `Raises`  50 % (1 of 2)",
        "test lines per source line                     0.32",
        "private reaches per 1,000 lines of tests       90.91 (1)",
        "decisions by the words of a message (likely)   2 ",
    ],
)
def test_the_table_has_each_measure(table: str, row: str) -> None:
    assert row in table


@pytest.mark.parametrize(
    "line",
    [
        "src/studyflow/one.py:17 Large.keeps_quiet",
        "src/studyflow/one.py:21 self",
        "src/studyflow/one.py:27",
        "src/studyflow/one.py:32 'quota' in reason",
        "tests/test_one.py:2 thing._inside",
    ],
)
def test_the_list_names_what_is_counted(table: str, line: str) -> None:
    assert f"    {line}\n" in table

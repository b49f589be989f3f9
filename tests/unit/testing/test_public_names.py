"""Names that others may use: of the SDK, the samplers, the executors and trackers, the commands."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click
import pytest

from studyflow.cli import main
from studyflow.executors import AttemptState, AttemptStatus, ExecutorTraits
from studyflow.reasons import Code, Reason
from studyflow.samplers.explanation import Suggestion
from studyflow.testing.fake_executor import FakeExecutor
from studyflow.tracking.logged import LoggedRuns
from studyflow.trial import Cause, Outcome
from studyflow.trial.former_names import FormerProperty, former_arguments

GOLDEN: Final = Path(__file__).parents[2] / "golden"

# mypy knows the present names only.
_Suggestion: Any = Suggestion
_FakeExecutor: Any = FakeExecutor
_Outcome: Any = Outcome
_LoggedRuns: Any = LoggedRuns
_AttemptStatus: Any = AttemptStatus

FORMER_ARGUMENTS: Final[Mapping[str, tuple[Callable[[], object], object]]] = {
    "Suggestion(rung)": (lambda: _Suggestion(rung="model"), Suggestion("model")),
    "Outcome(is_silent)": (
        lambda: _Outcome("s", 0, 1, Cause.USER_ERROR, is_silent=True).code,
        Code.OUTCOME_MISSING,
    ),
    "Outcome(is_silent=False)": (
        lambda: _Outcome("s", 0, 1, Cause.USER_ERROR, is_silent=False).code,
        None,
    ),
    "LoggedRuns": (
        lambda: _LoggedRuns(strangers=(), trouble="It is away.", is_away=True),
        LoggedRuns(failure=Reason(Code.UNSPECIFIED, "It is away."), is_retryable=True),
    ),
    "AttemptStatus(reason)": (
        lambda: _AttemptStatus(AttemptState.PENDING, reason="No room."),
        AttemptStatus(AttemptState.PENDING, reason=Reason(Code.UNSPECIFIED, "No room.")),
    ),
    "AttemptStatus(reason='')": (
        lambda: _AttemptStatus(AttemptState.PENDING, reason=""),
        AttemptStatus(AttemptState.PENDING),
    ),
    "FakeExecutor(place)": (lambda: _FakeExecutor("demo", place="there").site, "there"),
}

FORMER_ATTRIBUTES: Final[Mapping[str, tuple[Callable[[], object], object]]] = {
    "Suggestion.rung": (lambda: _Suggestion("model").rung, "model"),
    "FakeExecutor.place": (lambda: _FakeExecutor("demo", site="there").place, "there"),
    "FakeExecutor.slots": (lambda: _FakeExecutor("demo", slots=3).slots, 3),
    "FakeExecutor.brings_points": (lambda: _FakeExecutor("demo").brings_points, True),
}


def _public_names() -> list[str]:
    return (GOLDEN / "public-names.txt").read_text(encoding="utf-8").splitlines()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_each_public_name_is_there_with_its_parameters() -> None:
    missing = [line for line in _public_names() if not _answers(line)]
    assert missing == []


def _answers(line: str) -> bool:
    """Return whether a line such as `studyflow.sdk report(step)` is true."""
    module, _, rest = line.partition(" ")
    dotted, _, parameters = rest.rstrip(")").partition("(")
    found: Any = importlib.import_module(module)
    for name in dotted.split("."):
        fields = getattr(found, "__annotations__", {})
        if not hasattr(found, name):
            return name in fields
        found = getattr(found, name)
    wanted = {name for name in parameters.split(", ") if name}
    return not wanted or wanted <= inspect.signature(found).parameters.keys()


def test_each_command_takes_its_arguments() -> None:
    expected = (GOLDEN / "commands.txt").read_text(encoding="utf-8").splitlines()
    assert sorted(set(expected) - set(_commands(main, "studyflow"))) == []


def _commands(command: click.Command, path: str) -> Iterator[str]:
    yield path
    for parameter in command.params:
        yield f"{path} " + "/".join(sorted([*parameter.opts, *parameter.secondary_opts]))
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _commands(inner, f"{path} {name}")


@pytest.mark.parametrize("name", [*FORMER_ARGUMENTS, *FORMER_ATTRIBUTES])
def test_a_former_name_answers_with_a_warning(name: str) -> None:
    use, expected = {**FORMER_ARGUMENTS, **FORMER_ATTRIBUTES}[name]
    with pytest.warns(DeprecationWarning, match="is now ") as warned:
        assert use() == expected
    assert {Path(warning.filename) for warning in warned} == {Path(__file__)}, "names the caller"


def test_a_former_name_and_its_present_one_together_are_refused() -> None:
    with pytest.raises(TypeError, match="rung is the former name of level; give only level"):
        _Suggestion("model", rung="prior", level="model")


def test_an_attribute_of_an_attribute_has_a_former_name_too() -> None:
    class Owner:
        traits = ExecutorTraits(slots=2)
        n_slots = FormerProperty("traits.slots")

    with pytest.warns(DeprecationWarning, match=r"Owner\.n_slots is now `traits\.slots`"):
        assert Owner().n_slots == 2


def test_a_class_with_former_arguments_takes_the_present_ones_in_silence() -> None:
    @former_arguments(colour="color")
    class Paint:
        def __init__(self, color: str) -> None:
            self.color = color

    assert (Paint("red").color, Paint(color="blue").color) == ("red", "blue")

"""The failure that ended a script, found in the last lines of its log.

A log tells of more failures than the last one: a script may survive a lack of memory, print the
traceback, go on with a smaller batch and die hours later of something else. So only what stands at
the very end counts, and what it names as its cause:

- The last traceback is the failure if hardly anything follows it: one line, and what usually comes
  after the end of a script (progress bars, a summary by wandb or MLflow, stack frames in C++).
- Of a chain, the last exception counts, and those that it was raised from ("the direct cause").
  What was being handled when it came ("during handling of") had been survived.
- An exception that only tells that a child process failed, such as torchrun's, leads to the failure
  before it.
- What Python prints without ending the script ("Exception ignored in", another thread's) is none.
- Without a traceback at the end, the last line is all there is.

Pure: takes text and returns values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from studyflow.executors.diagnosis.text import ANSI
from studyflow.trial import MISTAKES, Cause, memory_cause

LINE_LIMIT_CHARS: Final = 1000
"""How much of a line is read."""

MOST_LINES_AFTER: Final = 1
"""Lines of the script or of a shell that may follow the failure that ended it."""

MOST_LINES_WITHIN: Final = 30
"""Lines of other processes that may stand between the frames of a traceback and its exception."""

_PREFIX: Final = re.compile(
    r"\[rank\d+\]: ?|\[[a-z]+\d+\]:|\[\d+,\d+\]<std\w+>: ?"  # torch, torchrun, mpirun
    r"|\([\w.<>-]+ pid=\d+[^)]*\) "  # Ray
    r"| *\| ?| *\+ (?=Exception Group)"  # exception groups
)
"""Who prints a line, as launchers write it before each."""

_HEADER: Final = re.compile(r"Traceback \(most recent call last\)")
_FRAME: Final = re.compile(r"[ \t│╭╰]|$")
_EXCEPTION: Final = re.compile(
    r"(?P<kind>[^\W\d]\w*(?:\.[^\W\d<]\w*)*)(?:\(\w+\))?(?:: (?P<text>.*)|:)?"
)
_NAMED: Final = re.compile(
    r"(?P<kind>(?:[^\W\d]\w*\.)*\w*(?:Error|Exception))(?:\(\w+\))?(?:: (?P<text>.*)|:)?"
)
"""An exception that is known by its name, where its traceback is not there."""

_TERMINATE: Final = re.compile(r"terminate called after throwing an instance of '(?P<kind>[^']+)'")
_TERMINATING: Final = re.compile(
    r".*terminating (?:due to|with) uncaught exception of type (?P<kind>[\w:]+)(?:: (?P<text>.*))?"
)
_WHAT: Final = re.compile(r"\s*what\(\):\s+(?P<text>.*)")

_NO_END: Final = re.compile(
    r"Exception ignored |Exception in thread |Error in atexit|Error in sys\.excepthook"
    r"|.*(Task|Future) exception was never retrieved|future: <|--- Logging error ---"
)
"""What stands before a traceback that ended nothing."""

_DIRECT_CAUSE: Final = "The above exception was the direct cause of the following exception:"

_OF_CHILDREN: Final = frozenset(
    {
        *("BrokenProcessPool", "CalledProcessError", "ChildFailedError", "ProcessExitedException"),
        *("ProcessRaisedException", "TerminatedWorkerError"),
    }
)
"""Exceptions that tell of a child process: why it failed stands before them, if anywhere."""

_SUMMARISING: Final = frozenset({"ChildFailedError"})
"""Those that are followed by a table of any length."""

_AFTER: Final = re.compile(
    r"wandb: |🏃|🧪"
    r"|.*(\d%\||\d(it/s|s/it)\b|\?it/s)"  # progress bars
    r"|frame #\d+|Exception raised from |Fatal Python error|(Current )?[Tt]hread 0x|Extension modul"
    r"|\*\*\* |\s+@ +0x|<omitting python frames>|\s+File \""
    r"|CUDA kernel errors might|For debugging consider passing|Compile with `TORCH_USE_CUDA_DSA`"
    r"|Search for `cudaError|Device-side assert"
    r"|.*torch[./]distributed[./]elastic"
    r"|\[?[WEI]\d{3,4} \d\d:"  # what PyTorch and others write in C++
    r"|\s*[+-]+[-+ \d]*$|[=-]{10,}$"
)
"""What is no sign that the script went on."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One failure as a log shows it."""

    kind: str
    """Type of the exception, with its module where that is shown; empty for a line without."""
    text: str
    """First line of its message."""
    line: str
    """The whole line."""
    after: str = ""
    """What follows it in the log, such as a table of the processes that failed."""

    @property
    def memory_cause(self) -> Cause | None:
        """`cuda-oom` or `host-oom` if that is what it says."""
        found = (memory_cause(self.kind, text) for text in self._texts())
        return next(filter(None, found), None)

    def begins_with(self, pattern: re.Pattern[str]) -> bool:
        """Return whether it is no mistake in the script and its message begins with a pattern."""
        is_mistake = self.kind.rpartition(".")[2] in MISTAKES
        return not is_mistake and any(pattern.match(text) for text in self._texts())

    def _texts(self) -> list[str]:
        """Return where the message may begin: "train.sh: fork: Cannot allocate memory"."""
        if self.kind:
            return [self.text]
        starts = [0, *(match.end() for match in re.finditer(r"[:\])] +", self.text))]
        return [self.text[start:] for start in starts]


@dataclass(frozen=True, slots=True)
class _Event:
    """An exception that a log tells of."""

    begin: int
    """Its first line: the header of its traceback."""
    at: int
    """The line that names it."""
    kind: str
    text: str
    is_end: bool
    """Whether it may have ended a script."""

    @property
    def name(self) -> str:
        return self.kind.replace("::", ".").rpartition(".")[2]


def last_failures(log_tail: str) -> tuple[Failure, ...]:
    """Return the failure that ended a script, then what it names as its cause, in this order.

    Args:
        log_tail: The end of standard output and standard error; may be torn and hold anything.
    """
    lines = _lines(log_tail)
    events = list(_events(lines))
    ignored = {
        number
        for event in events
        if not event.is_end
        for number in range(_number_before(lines, event.begin) or 0, event.at + 1)
    }
    ends = [event for event in events if event.is_end]
    found: list[Failure] = []
    limit = len(lines)
    while ends:
        event = ends.pop()
        if event.at >= limit:
            continue
        is_direct = bool(found) and _before(lines, limit) == _DIRECT_CAUSE
        is_free = is_direct or event.name in _SUMMARISING
        if not is_free and _n_after(lines, event, limit, ignored) > MOST_LINES_AFTER:
            break
        after = "\n".join(lines[event.at + 1 : limit])
        found.append(Failure(event.kind, event.text, lines[event.at], after))
        limit = event.begin
        if event.name not in _OF_CHILDREN and _before(lines, limit) != _DIRECT_CAUSE:
            break
    return tuple(found) or last_lines(log_tail, 1)


def last_lines(log_tail: str, n: int) -> tuple[Failure, ...]:
    """Return the last lines that are not empty, each as a failure; the last comes first."""
    shown = [line for line in _lines(log_tail) if line.strip()]
    return tuple(Failure("", line, line) for line in reversed(shown[-n:]))


def recorded_failure(message: str) -> Failure:
    """Return the failure that the SDK recorded, such as `ValueError: no data (train.py:7)`."""
    match = _EXCEPTION.fullmatch(message)
    if match is None:
        return Failure("message", message, message)
    return Failure(match["kind"], match["text"] or "", message)


def _lines(log_tail: str) -> list[str]:
    # A progress bar rewrites its line; splitlines takes what follows each return for a line. A log
    # that was cut off at its head while it was written to has a hole there, read as NULs.
    plain = ANSI.sub("", log_tail)
    return [
        _unprefixed(line.strip("\0")[:LINE_LIMIT_CHARS].rstrip()) for line in plain.splitlines()
    ]


def _unprefixed(line: str) -> str:
    match = _PREFIX.match(line)
    return line if match is None else line[match.end() :]


def _events(lines: Sequence[str]) -> Iterator[_Event]:
    number = 0
    while number < len(lines):
        line = lines[number]
        if _HEADER.search(line):
            event = _end_of_traceback(lines, number)
            if event is not None:
                yield event
                number = event.at
        elif match := _NAMED.fullmatch(line) or _TERMINATING.fullmatch(line):
            yield _Event(number, number, match["kind"], match["text"] or "", is_end=True)
        elif match := _TERMINATE.match(line):
            what = _WHAT.fullmatch(lines[number + 1]) if number + 1 < len(lines) else None
            at = number if what is None else number + 1
            yield _Event(number, at, match["kind"], "" if what is None else what["text"], True)
            number = at
        elif match := _WHAT.fullmatch(line):
            yield _Event(number, number, "", match["text"], is_end=True)
        number += 1


def _end_of_traceback(lines: Sequence[str], header: int) -> _Event | None:
    """Return the exception below a traceback; `None` for a traceback that was cut off."""
    is_end = not _NO_END.match(_before(lines, header))
    number = header + 1
    while number < len(lines) and _FRAME.match(lines[number]):
        number += 1
    for at in range(number, min(number + MOST_LINES_WITHIN, len(lines))):
        if _HEADER.search(lines[at]):
            return None
        match = (_EXCEPTION if at == number else _NAMED).fullmatch(lines[at])
        if match is not None:
            return _Event(header, at, match["kind"], match["text"] or "", is_end)
    return None


def _before(lines: Sequence[str], number: int) -> str:
    """Return the last line before one that is not empty; empty when there is none."""
    at = _number_before(lines, number)
    return "" if at is None else lines[at]


def _number_before(lines: Sequence[str], number: int) -> int | None:
    return next((n for n in range(number - 1, -1, -1) if lines[n].strip()), None)


def _n_after(lines: Sequence[str], event: _Event, limit: int, ignored: set[int]) -> int:
    """Return how many lines after an event show that something went on."""
    return sum(
        bool(lines[number].strip()) and number not in ignored and not _AFTER.match(lines[number])
        for number in range(event.at + 1, limit)
    )

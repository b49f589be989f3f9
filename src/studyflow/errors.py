"""Every exception that studyflow raises on purpose.

    StudyflowError
    ├── SpecError            the study file is wrong; carries every problem found
    ├── SpaceError           a point does not belong to the search space
    ├── DocumentError        a trial or outcome document cannot be read
    ├── StudyError
    │   ├── StudyNotFound    no study of that name in this storage
    │   ├── TableError       a table of results is none, or can be read in more than one way
    │   ├── StudyMismatch    the stored study and the study file disagree; carries the differences
    │   ├── TrialTaken       another runner looks after the trial now
    │   └── StudyStopped     alike failures ended the study before its budget
    ├── StorageUnavailable   the study's storage does not answer                      (retryable)
    │   └── StorageBroken         it stays so until a person repairs it               (retryable)
    ├── SamplerError         a sampler was asked for something it cannot do
    ├── ExecutorError
    │   ├── ExecutorUnavailable   the place where trials run does not answer          (retryable)
    │   └── ExecutorBlocked       no trial of the study can start there
    ├── TrackingError
    │   └── TrackingUnavailable   MLflow does not answer                              (retryable)
    └── MissingExtra         an optional part of studyflow is not installed

Nobody decides by reading a message: `retryable` says whether the same call may succeed later.
A message states the rule, the value that broke it and the way out; `hint` holds the last of these.
"""

from __future__ import annotations

from typing import ClassVar


class StudyflowError(Exception):
    """Base of all errors raised by studyflow.

    Args:
        message: What went wrong: the rule and the value.
        hint: What to do about it, one sentence; shown after the message.
    """

    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} Hint: {self.hint}" if self.hint else self.message


class SpecError(StudyflowError):
    """The study file is wrong. `problems` holds every problem found, one line each."""

    def __init__(self, message: str, *, problems: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join((self.message, *self.problems))


class SpaceError(StudyflowError):
    """A set of parameters does not belong to the search space."""


class DocumentError(StudyflowError):
    """A trial or outcome document is too long, too deep, malformed or of an unknown version."""


class StudyError(StudyflowError):
    """Base of errors about one study."""


class StudyNotFound(StudyError):
    """No study of that name is in the storage."""


class TableError(StudyError):
    """A table of results is no table, or can be read in more than one way.

    `flaws` holds one line for each place.
    """

    def __init__(
        self, message: str, *, flaws: tuple[str, ...] = (), hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.flaws = flaws

    def __str__(self) -> str:
        return "\n".join((super().__str__(), *(f"  {line}" for line in self.flaws)))


class StudyMismatch(StudyError):
    """The stored study differs from the study file in a way that would mix incomparable trials.

    `differences` holds one line for each.
    """

    def __init__(
        self, message: str, *, differences: tuple[str, ...] = (), hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.differences = differences

    def __str__(self) -> str:
        lines = (self.message, *(f"  {line}" for line in self.differences))
        return "\n".join((*lines, f"Hint: {self.hint}") if self.hint else lines)


class TrialTaken(StudyError):
    """Another runner looks after the trial now: what this one was about to write is refused."""


class StudyStopped(StudyError):
    """The study was ended before its budget because its trials fail for one and the same reason."""


class StorageUnavailable(StudyflowError):
    """The study's storage does not answer."""

    retryable = True


class StorageBroken(StorageUnavailable):
    """The study's storage stays as it is until a person repairs it: nobody waits for that."""


class SamplerError(StudyflowError):
    """A sampler was asked for something it cannot do."""


class ExecutorError(StudyflowError):
    """An executor refused a request and would refuse it again."""


class ExecutorUnavailable(ExecutorError):
    """The place where trials run does not answer."""

    retryable = True


class ExecutorBlocked(ExecutorError):
    """No attempt of the study can start here, whatever its parameters: the study stops."""


class TrackingError(StudyflowError):
    """A tracker refused a request and would refuse it again."""


class TrackingUnavailable(TrackingError):
    """The tracking server does not answer."""

    retryable = True


class MissingExtra(StudyflowError):
    """An optional part of studyflow is needed here and not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs the extra {extra!r}, which is not installed.",
            hint=f"pip install 'studyflow[{extra}]'",
        )
        self.extra = extra


def describe_os_error(error: OSError) -> str:
    """Return one line about a file or folder that the operating system refuses."""
    place = "" if error.filename is None else f" {error.filename}"
    return (
        f"Cannot use{place or ' a file'}: {error.strerror}. Hint: is the folder writable, and the "
        "disk not full? What was recorded is kept; run it again then, or set STUDYFLOW_HOME."
    )

"""Every exception that studyflow raises on purpose.

    StudyflowError
    ├── SpecError            the study file is wrong; carries every problem found
    ├── PlatformError        the platform's file is wrong; carries every problem found
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
    ├── SimulationError      a simulated study never ends, or what it needs is not known
    ├── PrefectError
    │   └── PrefectUnavailable    Prefect's server does not answer                    (retryable)
    ├── BackupError          a backup cannot be made or restored
    │   └── BackupUnavailable     something does not answer, or is in use              (retryable)
    └── MissingExtra         an optional part of studyflow is not installed

Nobody decides by reading a message: `retryable` says whether the same call may succeed later,
and `reason.code` tells what happened, by class unless a finer code was given.
A message states the rule, the value that broke it and the fix; `hint` holds the last of these.
"""

from __future__ import annotations

from typing import ClassVar, Self

from studyflow.reasons import Code, Reason, ReasonCode


class StudyflowError(Exception):
    """Base of all errors raised by studyflow.

    Args:
        message: What went wrong: the rule and the value.
        hint: What to do about it, one sentence; shown after the message.
        code: What happened, for programs; the class's own by default.
    """

    retryable: ClassVar[bool] = False
    code: ReasonCode = Code.UNSPECIFIED
    """What happened, for programs."""

    def __init__(
        self, message: str, *, hint: str | None = None, code: ReasonCode | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code is not None:
            self.code = code

    @classmethod
    def because(cls, reason: Reason) -> Self:
        """Return an error of this class that carries a reason."""
        return cls(reason.message, hint=reason.hint, code=reason.code)

    @property
    def reason(self) -> Reason:
        """Why it was raised: code, message and fix."""
        return Reason(self.code, self.message, self.hint)

    def __str__(self) -> str:
        return str(self.reason)


class _Listing(StudyflowError):
    """Base of errors that hold all problems of one file, one line each."""

    def __init__(
        self,
        message: str,
        *,
        problems: tuple[str, ...] = (),
        hint: str | None = None,
        code: ReasonCode | None = None,
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join((super().__str__(), *self.problems))


class SpecError(_Listing):
    """The study file is wrong. `problems` holds every problem found, one line each."""

    code = Code.STUDY_FILE_WRONG


class PlatformError(_Listing):
    """The platform's file is wrong. `problems` holds every problem found, one line each."""

    code = Code.PLATFORM_WRONG

    @property
    def whole_reason(self) -> Reason:
        """Why it was raised, with every problem in the message."""
        message = f"{self.message} {'; '.join(self.problems)}".rstrip()
        return Reason(self.code, message, self.hint)


class SpaceError(StudyflowError):
    """A set of parameters does not belong to the search space."""

    code = Code.OUTSIDE_SPACE


class DocumentError(StudyflowError):
    """A trial or outcome document is too long, too deep, malformed or of an unknown version."""

    code = Code.DOCUMENT_UNREADABLE


class StudyError(StudyflowError):
    """Base of errors about one study."""

    code = Code.STUDY_REFUSED


class StudyNotFound(StudyError):
    """No study of that name is in the storage."""

    code = Code.STUDY_NOT_FOUND


class TableError(StudyError):
    """A table of results is no table, or can be read in more than one way.

    `flaws` holds one line for each place.
    """

    code = Code.TABLE_UNREADABLE

    def __init__(
        self,
        message: str,
        *,
        flaws: tuple[str, ...] = (),
        hint: str | None = None,
        code: ReasonCode | None = None,
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.flaws = flaws

    def __str__(self) -> str:
        return "\n".join((super().__str__(), *(f"  {line}" for line in self.flaws)))


class StudyMismatch(StudyError):
    """The stored study differs from the study file in a way that would mix incomparable trials.

    `differences` holds one line for each.
    """

    code = Code.STUDY_MISMATCH

    def __init__(
        self,
        message: str,
        *,
        differences: tuple[str, ...] = (),
        hint: str | None = None,
        code: ReasonCode | None = None,
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.differences = differences

    def __str__(self) -> str:
        lines = (self.message, *(f"  {line}" for line in self.differences))
        return "\n".join((*lines, f"Hint: {self.hint}") if self.hint else lines)


class TrialTaken(StudyError):
    """Another runner looks after the trial now: what this one was about to write is refused."""

    code = Code.TRIAL_TAKEN


class StudyStopped(StudyError):
    """The study was ended before its budget because its trials fail for one and the same reason."""

    code = Code.STUDY_STOPPED


class StorageUnavailable(StudyflowError):
    """The study's storage does not answer."""

    code = Code.STORAGE_UNAVAILABLE

    retryable = True


class StorageBroken(StorageUnavailable):
    """The study's storage stays as it is until a person repairs it: nobody waits for that."""

    code = Code.STORAGE_BROKEN


class SamplerError(StudyflowError):
    """A sampler was asked for something it cannot do."""

    code = Code.SAMPLER_REFUSED


class ExecutorError(StudyflowError):
    """An executor refused a request and would refuse it again."""

    code = Code.EXECUTOR_REFUSED


class ExecutorUnavailable(ExecutorError):
    """The place where trials run does not answer."""

    code = Code.EXECUTOR_UNAVAILABLE

    retryable = True


class ExecutorBlocked(ExecutorError):
    """No attempt of the study can start here, whatever its parameters: the study stops."""

    code = Code.EXECUTOR_BLOCKED


class TrackingError(StudyflowError):
    """A tracker refused a request and would refuse it again."""

    code = Code.TRACKER_REFUSED


class TrackingUnavailable(TrackingError):
    """The tracking server does not answer."""

    code = Code.TRACKER_UNAVAILABLE

    retryable = True


class SimulationError(StudyflowError):
    """A simulated study never ends, or what it needs is not known."""

    code = Code.SIMULATION_REFUSED


class PrefectError(StudyflowError):
    """Prefect refused a request and would refuse it again, or its own server does not start."""

    code = Code.PREFECT_REFUSED


class PrefectUnavailable(PrefectError):
    """Prefect's server does not answer, or there is none."""

    code = Code.PREFECT_UNAVAILABLE

    retryable = True


class BackupError(StudyflowError):
    """A backup cannot be made or restored, and what it was about is as it was."""

    code = Code.BACKUP_REFUSED


class BackupUnavailable(BackupError):
    """What is to be backed up or restored does not answer, or somebody works on it."""

    code = Code.BACKUP_UNAVAILABLE

    retryable = True


class MissingExtra(StudyflowError):
    """An optional part of studyflow is needed here and not installed."""

    code = Code.EXTRA_MISSING

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs the extra {extra!r}, which is not installed.",
            hint=f"pip install 'studyflow[{extra}]'",
        )
        self.extra = extra


def reason_of_os_error(error: OSError) -> Reason:
    """Return what to tell of a file or folder that the operating system refuses."""
    place = "a file" if error.filename is None else error.filename
    return Reason(
        Code.FILE_REFUSED,
        f"Cannot use {place}: {error.strerror}.",
        "is the folder writable, and the disk not full? What was recorded is kept; run it again "
        "then, or set STUDYFLOW_HOME.",
    )


def describe_os_error(error: OSError) -> str:
    """Return one line about a file or folder that the operating system refuses."""
    return str(reason_of_os_error(error))

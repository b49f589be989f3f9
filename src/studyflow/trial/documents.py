"""The two documents that pass between a runner and a trial.

A `Trial` travels to the training script as JSON in one environment variable; an `Outcome` comes
back as a small JSON file (on Kubernetes: the termination message). Both carry a version: readers
refuse one they do not know, and pass over fields they do not know, so optional ones may be added.
Everything read here comes from user code and is not trusted (`fields.py`).

Standard library only: this module is part of every trial image.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from studyflow.errors import DocumentError
from studyflow.reasons import Cause, Code, Reason, ReasonCode
from studyflow.trial.causes import code_of
from studyflow.trial.checkpoint_folders import CheckpointFolders
from studyflow.trial.fields import (
    DOCUMENT_VERSION,
    ParamValue,
    decode_float,
    encode_float,
    metric_name,
    optional,
    read_object,
    scalars,
    storable,
    typed,
    unique_keys,
    valid_key,
    with_beginning,
)
from studyflow.trial.former_names import former_arguments
from studyflow.trial.seals import has_seal, sealed

TRIAL_VARIABLE: Final = "STUDYFLOW_TRIAL"
"""Environment variable that holds the `Trial` as JSON."""

OUTCOME_LIMIT_BYTES: Final = 4096
"""Longest outcome document: the size of a Kubernetes termination message."""

MESSAGE_LIMIT_CHARS: Final = 1000
"""Longest `Outcome.message`; longer ones are cut, so that the metrics always fit."""

HINT_LIMIT_CHARS: Final = 400
"""Longest `Outcome.hint`; longer ones are cut."""

UNWRITTEN: Final = "An outcome could not be written: "
"""How a mark begins that stands where an outcome could not be written: a file's text, or a link's
where no file can be opened."""

TRIAL_RUN_TAG: Final = "studyflow.trial_run"
"""Tag of MLflow runs that a script started beside the one of its trial: that run's id."""

ATTEMPT_TAG: Final = "studyflow.attempt"
"""Tag of MLflow runs: number of the attempt that logs, or logged last."""

LOST_ATTEMPT_TAG: Final = "studyflow.lost_attempt"
"""Tag of a trial's MLflow run: number of its newest attempt that was lost to the infrastructure."""

_OUTCOME: Final = "outcome"
"""What is sealed."""


@dataclass(frozen=True, slots=True)
class TrackingRef:
    """Where a trial's metrics belong in MLflow. Holds no credential."""

    uri: str
    """Tracking URI as the trial reaches it, such as `http://mlflow:5000`."""
    run_id: str
    """MLflow run of this trial."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One attempt of one trial, as its training script sees it."""

    study: str
    """Name of the study."""
    number: int
    """Number of the trial within its study, from 0."""
    params: Mapping[str, ParamValue]
    """The parameters to train with: searched, conditional ones only when active, and fixed."""
    attempt: int = 1
    """Which attempt this is, from 1; above 1 when earlier ones were lost to the infrastructure."""
    budget: int | None = None
    """Steps (usually epochs) this trial may train for; `None` when the script decides."""
    metrics: tuple[str, ...] = ()
    """Metrics that the study expects from `finish`: objectives first, then constraints."""
    outcome_path: str | None = None
    """File that `finish` writes."""
    metrics_path: str | None = None
    """File that `report` appends to, one JSON line per call, for a runner on the same machine."""
    artifact_dir: str | None = None
    """Folder whose files become artifacts of the trial's MLflow run."""
    checkpoint_dir: str | None = None
    """Folder for the script's own checkpoint files; without `checkpoints`, as studyflow 0.1.0 gave
    it, all attempts of the trial share it."""
    stop_path: str | None = None
    """File whose existence asks the training to end early; it holds the reason."""
    tracking: TrackingRef | None = None
    """The trial's MLflow run, when there is one."""
    checkpoints: CheckpointFolders | None = None
    """Where this attempt's checkpoints are, and those of earlier ones."""
    key: str | None = field(default=None, repr=False)
    """Seals what the attempt says (`studyflow.trial.seals`); `None` where nobody else could say it,
    as in a pod. A secret of this attempt."""

    def to_json(self) -> str:
        """Return the document; `from_json` gives back an equal trial.

        Raises:
            DocumentError: A parameter is NaN, infinite or no JSON scalar.
        """
        document: dict[str, Any] = {
            "version": DOCUMENT_VERSION,
            "study": self.study,
            "number": self.number,
            "attempt": self.attempt,
            "params": dict(self.params),
            "budget": self.budget,
            "metrics": list(self.metrics),
            "outcome_path": self.outcome_path,
            "metrics_path": self.metrics_path,
            "artifact_dir": self.artifact_dir,
            "checkpoint_dir": self.checkpoint_dir,
            "stop_path": self.stop_path,
            "tracking": None
            if self.tracking is None
            else {"uri": self.tracking.uri, "run_id": self.tracking.run_id},
        }
        if self.checkpoints is not None:  # absent in documents from before this field
            document["checkpoints"] = {
                "own": self.checkpoints.own,
                "trial": self.checkpoints.trial,
                "retired": list(self.checkpoints.retired),
            }
        if self.key is not None:
            document["key"] = self.key
        try:
            return json.dumps(document, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise DocumentError(
                f"Trial {self.number} cannot be written as JSON: {error}.",
                hint="parameters are texts, finite numbers, true, false or null.",
            ) from error

    @classmethod
    def from_json(cls, text: str) -> Trial:
        """Return the trial written by `to_json`.

        Raises:
            DocumentError: The text is not such a document, or of a version unknown here.
        """
        try:
            document = read_object(text, "trial")
        except DocumentError as error:
            raise with_beginning(error, text.encode(errors="replace")) from error.__cause__
        try:
            tracking = document.get("tracking")
            return cls(
                study=typed(document, "study", str),
                number=typed(document, "number", int),
                attempt=typed(document, "attempt", int),
                params=scalars(typed(document, "params", dict)),
                budget=optional(document, "budget", int),
                metrics=tuple(metric_name(name) for name in document.get("metrics", ())),
                outcome_path=optional(document, "outcome_path", str),
                metrics_path=optional(document, "metrics_path", str),
                artifact_dir=optional(document, "artifact_dir", str),
                checkpoint_dir=optional(document, "checkpoint_dir", str),
                stop_path=optional(document, "stop_path", str),
                tracking=None
                if tracking is None
                else TrackingRef(
                    uri=typed(tracking, "uri", str), run_id=typed(tracking, "run_id", str)
                ),
                checkpoints=_checkpoint_folders(document.get("checkpoints")),
                key=valid_key(optional(document, "key", str)),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DocumentError(f"The trial document is malformed: {error!r}.") from error


@former_arguments(is_silent=("code", lambda silent: Code.OUTCOME_MISSING if silent else None))
@dataclass(frozen=True, slots=True)
class Outcome:
    """What one attempt ended with.

    The training script writes one by `sdk.finish`; the executor writes one for a script that could
    not. Metrics may hold NaN and infinities: whether they are acceptable is the study's decision.
    """

    study: str
    number: int
    attempt: int
    cause: Cause
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Final metrics by name; the objectives and constraints are looked up here."""
    message: str = ""
    """One or two sentences for a human; empty when all went well."""
    stopped: bool = False
    """Whether the script had been told to stop, by SIGTERM or the stop file, before it called
    `finish`: its metrics are then those of a training that was cut short."""
    hint: str | None = None
    """The way out, without a capital at its beginning; `None` when there is nothing to do."""
    code: ReasonCode | None = field(default=None, compare=False)
    """The cause more exactly, if a runner knows it. No document holds it: a script's word for it
    would not be trusted."""

    @property
    def is_silent(self) -> bool:
        """Whether the script ended in order and said nothing of its result.

        What it reported may stand in for it then. What was said and refused is no silence.
        """
        return self.code is Code.OUTCOME_MISSING

    @property
    def reason(self) -> Reason:
        """Why the attempt ended: code, message and way out."""
        return Reason(self.code or code_of(self.cause), self.message, self.hint)

    def because(self, cause: Cause, reason: Reason) -> Outcome:
        """Return the outcome with another cause and reason."""
        return replace(
            self, cause=cause, message=reason.message, hint=reason.hint, code=reason.code
        )

    def to_json(self, key: str | None = None) -> str:
        """Return the document, at most `OUTCOME_LIMIT_BYTES` long in UTF-8.

        Args:
            key: The attempt's, for the document's seal; `None` for one without.

        Raises:
            DocumentError: The metrics alone are longer than that.
        """
        hint = (self.hint or "")[:HINT_LIMIT_CHARS]
        for message, shown in (
            (self.message[:MESSAGE_LIMIT_CHARS], hint),
            (self.message[:200], hint),
            (self.message[:200], ""),
            ("", ""),
        ):
            document = {
                "version": DOCUMENT_VERSION,
                "study": self.study,
                "number": self.number,
                "attempt": self.attempt,
                "cause": self.cause.value,
                "metrics": {name: encode_float(v) for name, v in self.metrics.items()},
                "message": message,
                # Absent when there is none: documents stay as they were before these fields.
                **({"hint": shown} if shown else {}),
                **({"stopped": True} if self.stopped else {}),
            }
            if key is not None:
                document = sealed(document, key, _OUTCOME)
            text = json.dumps(document, allow_nan=False, separators=(",", ":"))
            if len(text.encode()) <= OUTCOME_LIMIT_BYTES:
                return text
        raise DocumentError(
            f"The outcome of trial {self.number} holds {len(self.metrics)} metrics and is longer "
            f"than {OUTCOME_LIMIT_BYTES} bytes.",
            hint="pass only objectives, constraints and a few more to finish(); "
            "report() the others.",
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> Outcome:
        """Return the outcome written by `to_json`.

        Raises:
            DocumentError: The text is too long, not UTF-8, not such a document, holds a key twice,
                or is of a version unknown here. The message shows how the text begins.
        """
        # Half a surrogate pair passes here, so that the decoder below refuses it like other bytes.
        raw = text.encode(errors="surrogatepass") if isinstance(text, str) else text
        try:
            return cls._read(raw)
        except DocumentError as error:
            raise with_beginning(error, raw) from error.__cause__

    @classmethod
    def _read(cls, raw: bytes) -> Outcome:
        if len(raw) > OUTCOME_LIMIT_BYTES:
            raise DocumentError(
                f"The outcome document is at least {len(raw)} bytes long; "
                f"the limit is {OUTCOME_LIMIT_BYTES}."
            )
        try:
            decoded = raw.decode()
        except UnicodeDecodeError as error:
            raise DocumentError("The outcome document is not UTF-8.") from error
        document = read_object(decoded, "outcome")
        try:
            cause = Cause(typed(document, "cause", str))
        except (KeyError, ValueError, TypeError) as error:
            raise DocumentError(
                f"The outcome document names no known cause: {str(error)[:100]}."
            ) from error
        try:
            metrics = typed(document, "metrics", dict)
            return cls(
                study=typed(document, "study", str),
                number=typed(document, "number", int),
                attempt=typed(document, "attempt", int),
                cause=cause,
                metrics={metric_name(k): decode_float(v) for k, v in metrics.items()},
                message=storable(str(document.get("message", ""))[:MESSAGE_LIMIT_CHARS]),
                hint=storable(str(document.get("hint") or "")[:HINT_LIMIT_CHARS]) or None,
                stopped="stopped" in document and typed(document, "stopped", bool),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DocumentError(f"The outcome document is malformed: {error!r:.100}.") from error


def is_sealed_outcome(raw: bytes, key: str) -> bool:
    """Return whether an outcome document is one that the attempt of a key wrote."""
    try:
        return has_seal(json.loads(raw, object_pairs_hook=unique_keys), key, _OUTCOME)
    except (ValueError, RecursionError):
        return False


def _checkpoint_folders(document: Any) -> CheckpointFolders | None:
    if document is None:
        return None
    retired = typed(document, "retired", list)
    if not all(isinstance(path, str) for path in retired):
        raise TypeError("checkpoints.retired must hold paths")
    return CheckpointFolders(
        own=typed(document, "own", str),
        trial=typed(document, "trial", str),
        retired=tuple(retired),
    )

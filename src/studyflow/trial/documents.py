"""The two documents that pass between a runner and a trial.

A `Trial` travels to the training script as JSON in one environment variable; an `Outcome` comes
back as a small JSON file (on Kubernetes: the termination message). Both carry a version: readers
refuse one they do not know, and pass over fields they do not know, so optional ones may be added.
Everything read here comes from user code and is not trusted: size, depth, types and names are
checked.

Standard library only: this module is part of every trial image.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from studyflow.errors import DocumentError
from studyflow.reasons import Cause, Code, Reason, ReasonCode
from studyflow.trial.causes import code_of
from studyflow.trial.checkpoint_folders import CheckpointFolders
from studyflow.trial.former_names import former_arguments
from studyflow.trial.seals import has_seal, is_seal, seal_of, sealed

TRIAL_VARIABLE: Final = "STUDYFLOW_TRIAL"
"""Environment variable that holds the `Trial` as JSON."""

DOCUMENT_VERSION: Final = 1
"""Version written into both documents; readers accept this one and every older one they know."""

OUTCOME_LIMIT_BYTES: Final = 4096
"""Longest outcome document: the size of a Kubernetes termination message."""

MESSAGE_LIMIT_CHARS: Final = 1000
"""Longest `Outcome.message`; longer ones are cut, so that the metrics always fit."""

HINT_LIMIT_CHARS: Final = 400
"""Longest `Outcome.hint`; longer ones are cut."""

BEGINNING_BYTES: Final = 60
"""How much of a refused outcome its message shows."""

NAME_LIMIT_CHARS: Final = 250
"""Longest metric name: MLflow's limit for a key."""

UNWRITTEN: Final = "An outcome could not be written: "
"""How a mark begins that stands where an outcome could not be written: a file's text, or a link's
where no file can be opened."""

TRIAL_RUN_TAG: Final = "studyflow.trial_run"
"""Tag of MLflow runs that a script started beside the one of its trial: that run's id."""

ATTEMPT_TAG: Final = "studyflow.attempt"
"""Tag of MLflow runs: number of the attempt that logs, or logged last."""

ParamValue = bool | int | float | str | None
"""What one parameter can be: a JSON scalar."""


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
            document = _read_object(text, "trial")
        except DocumentError as error:
            raise _with_beginning(error, text.encode(errors="replace")) from error.__cause__
        try:
            tracking = document.get("tracking")
            return cls(
                study=_typed(document, "study", str),
                number=_typed(document, "number", int),
                attempt=_typed(document, "attempt", int),
                params=_scalars(_typed(document, "params", dict)),
                budget=_optional(document, "budget", int),
                metrics=tuple(_metric_name(name) for name in document.get("metrics", ())),
                outcome_path=_optional(document, "outcome_path", str),
                metrics_path=_optional(document, "metrics_path", str),
                artifact_dir=_optional(document, "artifact_dir", str),
                checkpoint_dir=_optional(document, "checkpoint_dir", str),
                stop_path=_optional(document, "stop_path", str),
                tracking=None
                if tracking is None
                else TrackingRef(
                    uri=_typed(tracking, "uri", str), run_id=_typed(tracking, "run_id", str)
                ),
                checkpoints=_checkpoint_folders(document.get("checkpoints")),
                key=_key(_optional(document, "key", str)),
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
                "metrics": {name: _encode_float(v) for name, v in self.metrics.items()},
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
            raise _with_beginning(error, raw) from error.__cause__

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
        document = _read_object(decoded, "outcome")
        try:
            cause = Cause(_typed(document, "cause", str))
        except (KeyError, ValueError, TypeError) as error:
            raise DocumentError(
                f"The outcome document names no known cause: {str(error)[:100]}."
            ) from error
        try:
            metrics = _typed(document, "metrics", dict)
            return cls(
                study=_typed(document, "study", str),
                number=_typed(document, "number", int),
                attempt=_typed(document, "attempt", int),
                cause=cause,
                metrics={_metric_name(k): _decode_float(v) for k, v in metrics.items()},
                message=_storable(str(document.get("message", ""))[:MESSAGE_LIMIT_CHARS]),
                hint=_storable(str(document.get("hint") or "")[:HINT_LIMIT_CHARS]) or None,
                stopped="stopped" in document and _typed(document, "stopped", bool),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DocumentError(f"The outcome document is malformed: {error!r:.100}.") from error


def is_sealed_outcome(raw: bytes, key: str) -> bool:
    """Return whether an outcome document is one that the attempt of a key wrote."""
    try:
        return has_seal(json.loads(raw, object_pairs_hook=_unique_keys), key, _OUTCOME)
    except (ValueError, RecursionError):
        return False


@dataclass(frozen=True, slots=True)
class MetricPoint:
    """One value of one metric while a trial trains."""

    name: str
    step: int
    value: float
    timestamp_ms: int
    """Milliseconds since the epoch, UTC: part of a point's identity in MLflow, so that sending it
    twice stores it once."""

    def to_json(self, key: str | None = None) -> str:
        """Return the point as one line of a metrics file, without the line end.

        Args:
            key: The attempt's, for the line's seal; `None` for one without.
        """
        values = [self.name, self.step, _encode_float(self.value), self.timestamp_ms]
        if key is not None:
            values.append(seal_of(key, _METRIC, self.to_json()))
        return json.dumps(values, separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str) -> MetricPoint:
        """Return the point written by `to_json`, with a seal or without.

        Raises:
            DocumentError: The line is something else, such as one torn by a kill.
        """
        return cls._read(line)[0]

    @classmethod
    def from_sealed(cls, line: str, key: str | None) -> MetricPoint | None:
        """Return the point if the attempt of a key wrote the line, else `None`.

        Args:
            line: The line.
            key: The attempt's; `None` to take any line.

        Raises:
            DocumentError: The line is something else, such as one torn by a kill.
        """
        point, seal = cls._read(line)
        is_own = key is None or is_seal(seal, key, _METRIC, point.to_json())
        return point if is_own else None

    @classmethod
    def _read(cls, line: str) -> tuple[MetricPoint, object]:
        """Return the point of a line, and what stands where its seal belongs."""
        try:
            name, step, value, timestamp_ms, *seals = json.loads(line)
            if len(seals) > 1:
                raise ValueError("more values than a point has")
            point = cls(
                _metric_name(name), _int64(step), _decode_float(value), _int64(timestamp_ms)
            )
            return point, next(iter(seals), None)
        except (ValueError, TypeError, RecursionError) as error:
            raise DocumentError(f"Not a line of a metrics file: {line[:60]!r}.") from error


_OUTCOME: Final = "outcome"
_METRIC: Final = "metric"
"""What is sealed."""

_FLOAT_NAMES: Final = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def _encode_float(value: float) -> float | str:
    """Return a JSON value for any float: JSON itself has no NaN and no infinities."""
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return float(value)


def _decode_float(value: Any) -> float:
    if isinstance(value, str):
        if value not in _FLOAT_NAMES:
            raise ValueError(f"not a number: {value[:40]!r}")
        return _FLOAT_NAMES[value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"not a number: {str(value)[:40]!r}")
    try:
        return float(value)
    except OverflowError:  # Only a whole number can be this long; JSON's 1e999 is read as infinity.
        return math.inf if value > 0 else -math.inf


def _metric_name(name: Any) -> str:
    if not isinstance(name, str) or not 0 < len(name) <= NAME_LIMIT_CHARS:
        raise ValueError(
            f"a metric's name has 1 to {NAME_LIMIT_CHARS} characters: {str(name)[:40]!r}"
        )
    if _storable(name) != name:
        raise ValueError(f"a metric's name holds only characters that can be stored: {name[:40]!r}")
    return name


def _storable(text: str) -> str:
    """Return the text without what PostgreSQL (NUL) and UTF-8 (half surrogate pairs) refuse."""
    return text.replace("\0", "?").encode(errors="replace").decode()


def _int64(value: Any) -> int:
    """Return the value if it is a whole number that databases can store."""
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**63) <= value < 2**63:
        raise ValueError(f"not a whole number of 64 bits: {str(value)[:40]!r}")
    return value


def _key(text: str | None) -> str | None:
    """Return the key of an attempt if it can be one."""
    if text is not None and not 0 < len(bytes.fromhex(text)) <= 64:
        raise ValueError("a key has 1 to 64 bytes in hexadecimal")
    return text


def _scalars(params: Mapping[str, Any]) -> dict[str, ParamValue]:
    for name, value in params.items():
        if not isinstance(value, bool | int | float | str | None):
            raise TypeError(f"{name[:40]} must be a JSON scalar, not {type(value).__name__}")
    return dict(params)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key stands twice")
    return document


def _read_object(text: str, what: str) -> dict[str, Any]:
    try:
        document = json.loads(text, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"The {what} document is not JSON ({str(error)[:100]}).") from error
    if not isinstance(document, dict):
        raise DocumentError(f"The {what} document is not a JSON object.")
    version = document.get("version")
    if type(version) is not int or version != DOCUMENT_VERSION:  # `true` equals 1 in Python
        raise DocumentError(
            f"The {what} document is of version {str(version)[:20]!r}; "
            f"this studyflow reads version {DOCUMENT_VERSION}.",
            hint="install the same studyflow in the trial's environment and beside the runner.",
        )
    return document


def _with_beginning(error: DocumentError, raw: bytes) -> DocumentError:
    beginning = raw[:BEGINNING_BYTES].decode(errors="replace")
    return DocumentError(f"{error.message} It begins {beginning!r}.", hint=error.hint)


def _typed(document: Any, key: str, kind: type[Any]) -> Any:
    if not isinstance(document, Mapping):
        raise TypeError(f"{key} must stand in an object, not {type(document).__name__}")
    value = document[key]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"{key} must be {kind.__name__}, not {type(value).__name__}")
    return value


def _checkpoint_folders(document: Any) -> CheckpointFolders | None:
    if document is None:
        return None
    retired = _typed(document, "retired", list)
    if not all(isinstance(path, str) for path in retired):
        raise TypeError("checkpoints.retired must hold paths")
    return CheckpointFolders(
        own=_typed(document, "own", str),
        trial=_typed(document, "trial", str),
        retired=tuple(retired),
    )


def _optional(document: Mapping[str, Any], key: str, kind: type[Any]) -> Any:
    return None if document.get(key) is None else _typed(document, key, kind)

"""Why a runner ended an attempt, as it stands on the attempt's Job."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from studyflow.executors.diagnosis import How
from studyflow.reasons import Reason, ReasonCode, read_code
from studyflow.trial import MESSAGE_LIMIT_CHARS, Cause

FENCE_ANNOTATION: Final = "studyflow.dev/ended"
"""On a Job: what its attempt ends with, as decided by a runner (JSON of a `Fence`)."""


@dataclass(frozen=True, slots=True)
class Fence:
    """Why a runner ended an attempt. Stored on the Job, so that the next runner knows it too."""

    how: How
    cause: Cause
    message: str
    hint: str | None = None
    """The way out; `None` when there is nothing to do."""
    code: ReasonCode | None = None
    """The cause more exactly, if it is known."""

    @classmethod
    def because(cls, cause: Cause, reason: Reason, how: How = How.STOPPED) -> Fence:
        """Return a fence that carries a reason."""
        return cls(how, cause, reason.message, reason.hint, reason.code)

    @property
    def reason(self) -> Reason:
        """Why the attempt ends: code, message and way out."""
        return Reason(self.code or self.cause, self.message, self.hint)

    def to_json(self) -> str:
        """Return the annotation's value."""
        document = {
            "how": self.how,
            "cause": self.cause,
            "message": self.message[:MESSAGE_LIMIT_CHARS],
            "hint": self.hint,
            "code": self.code,
        }
        return json.dumps({key: value for key, value in document.items() if value is not None})

    @classmethod
    def read(cls, job: Mapping[str, Any]) -> Fence | None:
        """Return the fence of a Job; `None` when it has none that can be read."""
        text = (job["metadata"].get("annotations") or {}).get(FENCE_ANNOTATION)
        try:
            document = json.loads(text or "")
            code, hint = document.get("code"), document.get("hint")
            return cls(
                How(document["how"]),
                Cause(document["cause"]),
                str(document["message"]),
                None if hint is None else str(hint),
                read_code(code),
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

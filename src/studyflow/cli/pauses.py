"""Why a trial was paused and taken up again, as `studyflow explain STUDY --trial N` says it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from studyflow.reports.wording import number, one_line
from studyflow.trial.record import TrialRecord


def attempts_document(record: TrialRecord) -> list[dict[str, Any]]:
    """Return each pause of a trial and what took it up again, in order, as JSON values."""
    events: list[dict[str, Any]] = [
        {
            "attempt": pause.attempt,
            "event": "paused",
            "message": pause.message,
            "numbers": dict(pause.numbers),
            "at": pause.ended_at,
            "checkpoint_step": pause.checkpoint_step,
        }
        for pause in record.pauses
    ]
    events += [
        {
            "attempt": resumption.attempt,
            "event": "taken up",
            "message": resumption.message,
            "numbers": dict(resumption.numbers),
            "at": resumption.at,
        }
        for resumption in record.resumptions
    ]
    # A pause ends its attempt, and what took the trial up begins the next.
    return sorted(events, key=lambda event: (event["attempt"], event["event"] == "paused"))


def attempt_lines(events: Sequence[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield a label and a text for each event, its numbers in a line of their own."""
    for event in events:
        message = one_line(event["message"], 300) or "no reason is stored"
        saved = event.get("checkpoint_step")
        kept = "" if saved is None else f" Its checkpoint is of step {saved}."
        yield event["event"], f"attempt {event['attempt']}: {message}{kept}"
        if event["numbers"]:
            shown = ", ".join(f"{one_line(k)}={_shown(v)}" for k, v in event["numbers"].items())
            yield "", shown


def _shown(given: Any) -> str:
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    return number(given) if is_number else one_line(str(given))

"""What `studyflow explain` shows of the blockers of a study: as JSON values, and as lines."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Final

from studyflow.diagnostics.snapshot import Snapshot
from studyflow.diagnostics.throughput import Throughput
from studyflow.reasons import Cause, Finding, Level
from studyflow.reports.wording import number, one_line, percent, seconds

_STATES: Final = {
    Level.FINISHED: "finished",
    Level.PROBLEM: "stuck",
    Level.WARNING: "slow",
    Level.NOTE: "note",
}
"""What scripts read for a level."""
_HEADLINES: Final = {
    Level.FINISHED: "{name} is finished: {text}",
    Level.PROBLEM: "{name} is stuck: {text}",
    Level.WARNING: "{name} is held up: {text}",
}
_SHARES: Final = {
    "training": "training",
    "failing": "trials that failed",
    "lost": "lost attempts",
    "suggestions": "suggestions",
    "waiting": "waiting and starting",
}


def blockers_document(
    snapshot: Snapshot, found: Sequence[Finding], speed: Throughput | None
) -> dict[str, Any]:
    """Return what stands in a study's way and how fast it is, as JSON values."""
    return {
        "study": snapshot.name,
        "state": next((_state(one) for one in found if one.level in _HEADLINES), "well"),
        "is_driven": snapshot.is_driven,
        "n_finished": len(snapshot.counted),
        "n_running": sum(not record.is_paused for record in snapshot.running),
        "n_paused": sum(record.is_paused for record in snapshot.running),
        "n_left": snapshot.n_left,
        "obstacles": [_document(one) for one in found],
        "pace": None if speed is None else dataclasses.asdict(speed),
        "unseen": dict(snapshot.unseen),
    }


def blocker_lines(
    snapshot: Snapshot, found: Sequence[Finding], speed: Throughput | None
) -> Iterator[str]:
    """Yield the lines that tell a person what stands in a study's way, the gravest first."""
    name, rest = one_line(snapshot.name), list(found)
    if rest and rest[0].level in _HEADLINES:
        first = rest.pop(0)
        if first.code is Cause.PAUSED:
            yield f"{name} is paused: running trials finish, none starts."
        else:
            yield _HEADLINES[first.level].format(name=name, text=first.message)
        yield from _details(first, "")
    else:
        yield f"Nothing stands in the way of {name}."
    for one in rest:
        yield f"- {one.message}"
        yield from _details(one, "  ")
    if snapshot.storage.absence is None:
        yield (
            f"Trials: {len(snapshot.counted)} finished, {len(snapshot.running)} running"
            + ("." if snapshot.n_left is None else f", {snapshot.n_left} left.")
        )
    if speed is not None:
        yield from _pace_lines(snapshot, speed)
    for what, why in snapshot.unseen.items():
        yield f"{what} was not looked at: {why}."


def _state(finding: Finding) -> str:
    return "paused" if finding.code is Cause.PAUSED else _STATES[finding.level]


def _document(finding: Finding) -> dict[str, Any]:
    return {
        "level": _STATES[finding.level],
        "what": finding.subject,
        "code": finding.code.value,
        "text": finding.message,
        "hint": finding.hint or "",
        "evidence": finding.evidence,
    }


def _details(finding: Finding, indent: str) -> Iterator[str]:
    if finding.hint:
        yield f"{indent}Hint: {finding.hint}"
    for seen in finding.evidence:
        yield f"{indent}  {seen}"


def _pace_lines(snapshot: Snapshot, speed: Throughput) -> Iterator[str]:
    left = f"; about {seconds(speed.seconds_left)} left" if speed.seconds_left is not None else ""
    of = "the one that has" if speed.n_trials == 1 else f"the last {speed.n_trials}"
    yield (
        f"Pace: {_rate(speed.trials_per_hour)} trials per hour ({of} finished), "
        f"{number(speed.parallel, 2)} of {snapshot.allowed} at once{left}."
    )
    spent = ", ".join(
        f"{percent(share)} {_SHARES[part]}" for part, share in speed.shares.items() if share > 0
    )
    yield f"Their time: {spent}."


def _rate(per_hour: float) -> str:
    return f"{per_hour:.0f}" if per_hour >= 100 else number(per_hour, 2)

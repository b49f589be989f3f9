"""Messages to a webhook. Pure functions.

A message is JSON. Its field `text` is what Slack, Mattermost and others show; further fields hold
the same for programs.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

from studyflow.observers.observer import Progress
from studyflow.spec import NotifyEvent, StudySpec
from studyflow.trial.record import TrialRecord


def make_message(
    spec: StudySpec,
    event: NotifyEvent,
    reason: str,
    progress: Progress | None,
    run_url: str | None = None,
) -> dict[str, Any]:
    """Return a message as JSON values.

    Args:
        spec: The study.
        event: What happened.
        reason: Why the run ended; empty for a new best.
        progress: The study's progress; `None` when it never began.
        run_url: Page of the study's run; `None` without a web server.
    """
    best = () if progress is None else progress.best
    found = _best_text(spec, best)
    match event:
        case "new_best":
            text = f"{spec.name}: new best, {found}"
        case "finished":
            text = f"{spec.name} finished: {reason} Best: {found}"
        case "failed":
            text = f"{spec.name} failed: {reason}"
    if run_url is not None:
        text += f"\n{run_url}"
    return {
        # Slack takes these three for links and mentions.
        "text": html.escape(text, quote=False),
        "event": event,
        "study": spec.name,
        "reason": reason,
        "n_finished": 0 if progress is None else progress.n_finished,
        "n_trials": spec.budget.n_trials if progress is None else progress.n_trials,
        "best": [_best_entry(spec, record) for record in best],
        "run_url": run_url,
    }


def _best_entry(spec: StudySpec, record: TrialRecord) -> dict[str, Any]:
    names = [objective.metric for objective in spec.objectives]
    values = dict(zip(names, record.values or (), strict=False))
    return {
        "trial": record.number,
        "values": {name: value for name, value in values.items() if math.isfinite(value)},
        "params": dict(record.params),
    }


def _best_text(spec: StudySpec, best: Sequence[TrialRecord]) -> str:
    if not best:
        return "none"
    if len(spec.objectives) > 1:
        return f"{len(best)} trials on the Pareto front"
    record = best[0]
    value = (record.values or (math.nan,))[0]
    params = ", ".join(f"{name}={_short(v)}" for name, v in record.params.items())
    return f"{spec.objectives[0].metric}={value:.6g} (trial {record.number}: {params})"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
